//! UDP conversations: a socket each, connected to the one address it was judged for.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::{Shared, places};
use crate::limits::UDP_IDLE_LIMIT;
use crate::policy::Target;
use crate::stack::Pair;

/// Longest datagram.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// Datagrams that wait for a socket; more are lost, as datagrams are.
const WAITING_MAX: usize = 64;

/// The conversations that have a task.
pub(super) type Talks = HashMap<Pair, mpsc::Sender<Vec<u8>>>;

/// Begins a conversation.
pub(super) fn begin(shared: &Arc<Shared>, pair: Pair, target: Target, payload: Vec<u8>) {
    let (sender, datagrams) = mpsc::channel(WAITING_MAX);
    drop(sender.try_send(payload));
    shared.talks().insert(pair, sender);
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let result = converse(&shared, pair, target, datagrams).await;
        if !forget(&shared, pair) {
            return;
        }
        shared.with(|stack| {
            if result.is_err() {
                stack.not_delivered(pair, false);
            }
            stack.conversation_over(pair, result.err().map(|error| error.to_string()), Instant::now());
        });
    });
}

/// Takes a conversation that is over off the list; whether it was on it. One that was ended from outside is not, and its
/// place may be another's by now.
fn forget(shared: &Shared, pair: Pair) -> bool {
    let mut talks = shared.talks();
    let is_its_own = talks.get(&pair).is_some_and(mpsc::Sender::is_closed);
    if is_its_own {
        talks.remove(&pair);
    }
    is_its_own
}

/// Ends a conversation: its task hears that nothing more comes.
pub(super) fn end(shared: &Shared, pair: Pair) {
    shared.talks().remove(&pair);
}

/// Sends a datagram of a conversation.
pub(super) fn send(shared: &Arc<Shared>, pair: Pair, payload: Vec<u8>) {
    if let Some(talk) = shared.talks().get(&pair) {
        drop(talk.try_send(payload));
    }
}

async fn converse(
    shared: &Arc<Shared>,
    pair: Pair,
    target: Target,
    mut datagrams: mpsc::Receiver<Vec<u8>>,
) -> io::Result<()> {
    // A datagram finds nobody at the wrong one of two addresses: the first is the one.
    let Some(place) = places(target, pair.remote.port()).into_iter().next() else { return Ok(()) };
    let socket = connected(place).await?;
    let mut room = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        tokio::select! {
            payload = datagrams.recv() => {
                let Some(payload) = payload else { return Ok(()) };
                told(shared, pair, socket.send(&payload).await.map(drop))?;
            }
            received = socket.recv(&mut room) => {
                let result = received.map(|count| shared.with(|stack| stack.datagram(pair, &room[..count])));
                if let Ok(Some(false) | None) = result {
                    return Ok(());
                }
                told(shared, pair, result.map(drop))?;
            }
            () = tokio::time::sleep(UDP_IDLE_LIMIT) => return Ok(()),
        }
    }
}

/// That nobody listens is told to the guest, and no end of a conversation.
fn told(shared: &Arc<Shared>, pair: Pair, result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            shared.with(|stack| stack.not_delivered(pair, true));
            Ok(())
        }
        result => result,
    }
}

async fn connected(place: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = if place.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(place).await?;
    Ok(socket)
}
