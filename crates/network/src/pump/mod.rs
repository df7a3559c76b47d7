//! The I/O around the stack: the guest's frames, the host's sockets, the clock.
//!
//! A network has a thread of its own, so that whatever a guest sends takes no time from what steers its machine. In it one task
//! moves frames, and each connection, conversation and question has a task; they meet at the stack, behind a lock that nobody
//! holds while waiting.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Notify, Semaphore, oneshot};

use crate::address::{GATEWAY_V4, GATEWAY_V6};
use crate::contain::contained;
use crate::limits::{CONNECT_LIMIT, DNS_QUESTIONS_MAX};
use crate::policy::{Policy, Target};
use crate::record::{Counters, Observer};
use crate::resolve::Resolver;
use crate::stack::{Event, Failure, HostEnd, Pair, Stack, Step};

mod frames;
mod questions;
mod talk;

/// A port to which nothing is sent, only a way is looked for.
const DISCARD_PORT: u16 = 9;

/// The network of one machine. Dropping it ends all its connections.
#[derive(Debug)]
pub struct Network {
    shared: Arc<Shared>,
    /// Dropped to end the thread.
    _alive: oneshot::Sender<()>,
}

impl Network {
    /// Begins to carry the traffic of a guest whose frames come and go over `frames`, each behind its length in four bytes.
    ///
    /// # Errors
    /// The host has no thread, or the descriptor is no stream.
    pub fn start(frames: OwnedFd, policy: Policy, observer: Arc<dyn Observer>) -> io::Result<Self> {
        let frames = std::os::unix::net::UnixStream::from(frames);
        frames.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let shared = Arc::new(Shared {
            stack: Mutex::new(Stack::new(policy, Box::new(is_own), Instant::now())),
            output: Notify::new(),
            observer,
            resolver: Resolver::default(),
            questions: Arc::new(Semaphore::new(DNS_QUESTIONS_MAX)),
            talks: Mutex::default(),
            failure: OnceLock::new(),
            given_up: Notify::new(),
        });
        let (alive, ended) = oneshot::channel::<()>();
        let network = Self { shared: Arc::clone(&shared), _alive: alive };
        let work = move || {
            let carried = contained(|| {
                runtime.block_on(async {
                    let frames = UnixStream::from_std(frames)?;
                    tokio::select! {
                        carried = frames::carry(&shared, frames) => carried,
                        () = shared.given_up.notified() => Ok(()),
                        _ = ended => Ok(()),
                    }
                })
            });
            match carried {
                Err(reason) => shared.fail(reason),
                Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                    shared.fail("the hypervisor does not send frames".to_owned());
                }
                // A machine that is gone has no frames: whoever owns the network hears of that elsewhere.
                Ok(_) => {}
            }
            // The system's resolver cannot be interrupted; nobody waits for it.
            runtime.shutdown_background();
        };
        std::thread::Builder::new().name("network".to_owned()).spawn(work)?;
        Ok(network)
    }

    /// Counts of its traffic.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.shared.stack().counters()
    }

    /// From now on judges by another policy. Connections that a rule let through which is gone are broken off.
    pub fn set_policy(&self, policy: Policy) {
        if self.shared.failure.get().is_none() {
            self.shared.with(|stack| stack.set_policy(policy, Instant::now()));
        }
    }

    /// Why it is closed, if it met a defect of its own.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.shared.failure.get().map(String::as_str)
    }
}

/// What the tasks of a network share.
struct Shared {
    stack: Mutex<Stack>,
    /// Told when there may be output.
    output: Notify,
    observer: Arc<dyn Observer>,
    resolver: Resolver,
    questions: Arc<Semaphore>,
    talks: Mutex<talk::Talks>,
    /// Why it is closed, once it met a defect.
    failure: OnceLock<String>,
    /// Told when it met another one although it was closed: then it ends, so that a guest cannot fill the log with them.
    given_up: Notify,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    fn stack(&self) -> MutexGuard<'_, Stack> {
        self.stack.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn talks(&self) -> MutexGuard<'_, talk::Talks> {
        self.talks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the stack, then what that brought about.
    ///
    /// A panic in it is a defect that a guest found. It must not end the machine, whose work has nothing to do with it: the
    /// network is closed, and goes on refusing. None is answered then.
    fn with<T>(self: &Arc<Self>, work: impl FnOnce(&mut Stack) -> T) -> Option<T> {
        self.contain(|| self.work(work))
    }

    /// Does something that a guest may have a defect found in; see [`Self::with`].
    fn contain<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        contained(work).map_err(|reason| self.fail(reason)).ok()
    }

    fn work<T>(self: &Arc<Self>, work: impl FnOnce(&mut Stack) -> T) -> T {
        let mut events = Vec::new();
        let (result, has_output) = {
            let mut stack = self.stack();
            let result = work(&mut stack);
            events.extend(std::iter::from_fn(|| stack.next_event()));
            (result, !stack.output().is_empty())
        };
        if has_output {
            self.output.notify_one();
        }
        for event in events {
            self.act(event);
        }
        result
    }

    fn fail(&self, reason: String) {
        // The first one is what the others may come from.
        if self.failure.set(reason).is_err() {
            self.given_up.notify_one();
        }
        self.stack().fail(Instant::now());
        self.talks().clear();
    }

    fn act(self: &Arc<Self>, event: Event) {
        match event {
            Event::Connect { pair, target } => drop(tokio::spawn(connect(Arc::clone(self), pair, target))),
            Event::Questions(pair) => questions::serve_stream(self, pair),
            Event::Converse { pair, target, payload } => talk::begin(self, pair, target, payload),
            Event::Datagram { pair, payload } => talk::send(self, pair, payload),
            Event::EndConversation(pair) => talk::end(self, pair),
            Event::Question { pair, payload } => questions::answer(self, pair, payload),
            Event::Tell(conversation) => self.observer.conversation(conversation),
        }
    }
}

/// Whether an address is one of the host's own: only those can be bound to. A host that is set up to bind to any address
/// (`ip_nonlocal_bind`) still speaks to its own ones from themselves. Nothing is sent.
fn is_own(address: IpAddr) -> bool {
    let can_bind = |address: IpAddr| UdpSocket::bind((address, 0)).is_ok();
    let binds_any = || can_bind(if address.is_ipv4() { GATEWAY_V4.into() } else { GATEWAY_V6.into() });
    can_bind(address) && (!binds_any() || source_towards(address).is_ok_and(|source| source == address))
}

/// The address from which the host would speak to another.
fn source_towards(address: IpAddr) -> io::Result<IpAddr> {
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect((address, DISCARD_PORT))?;
    Ok(socket.local_addr()?.ip())
}

/// The places at which a target may be.
fn places(target: Target, port: u16) -> Vec<SocketAddr> {
    match target {
        Target::Address(address) => vec![(address, port).into()],
        Target::HostLoopback => vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()],
    }
}

async fn connect(shared: Arc<Shared>, pair: Pair, target: Target) {
    let mut failure = Failure { refused: true, reason: String::new() };
    for place in places(target, pair.remote.port()) {
        match tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(place)).await {
            Ok(Ok(stream)) => {
                // Small packets are the guest's to collect or not.
                drop(stream.set_nodelay(true));
                if let Some(wake) = shared.with(|stack| stack.connected(pair, Instant::now())).flatten() {
                    carry(&shared, pair, &stream, &wake).await;
                }
                return;
            }
            Ok(Err(error)) => {
                failure.refused &= error.kind() == io::ErrorKind::ConnectionRefused;
                failure.reason = error.to_string();
            }
            Err(_) => {
                failure = Failure { refused: false, reason: format!("no answer within {} s", CONNECT_LIMIT.as_secs()) };
            }
        }
    }
    shared.with(|stack| stack.not_connected(pair, failure, Instant::now()));
}

/// A stream of the host that a connection is carried over.
trait HostStream: HostEnd + Sync {
    /// Waits for the stream to become readable or writable, as wanted.
    fn ready(&self, readable: bool, writable: bool) -> impl Future<Output = ()> + Send;
}

async fn carry<S: HostStream>(shared: &Arc<Shared>, pair: Pair, stream: &S, wake: &Notify) {
    loop {
        let step = shared.with(|stack| stack.step(pair, stream, Instant::now()));
        let Some(Step::Wait { readable, writable, until }) = step else { return };
        tokio::select! {
            () = stream.ready(readable, writable), if readable || writable => {}
            () = wake.notified() => {}
            () = tokio::time::sleep_until(until.into()) => {}
        }
    }
}

macro_rules! host_stream {
    ($stream:ty) => {
        impl HostEnd for $stream {
            fn read(&self, room: &mut [u8]) -> io::Result<usize> {
                self.try_read(room)
            }

            fn write(&self, bytes: &[u8]) -> io::Result<usize> {
                self.try_write(bytes)
            }

            fn finish(&self) {
                // A stream that is closed already is finished as well.
                let _ = rustix::net::shutdown(self, rustix::net::Shutdown::Write);
            }

            fn break_off(&self) {
                // Closing it then tells the other side that it was not finished.
                let _ = rustix::net::sockopt::set_socket_linger(self, Some(std::time::Duration::ZERO));
            }
        }

        impl HostStream for $stream {
            async fn ready(&self, readable: bool, writable: bool) {
                use tokio::io::Interest;

                let interest = match (readable, writable) {
                    (true, false) => Interest::READABLE,
                    (false, true) => Interest::WRITABLE,
                    _ => Interest::READABLE | Interest::WRITABLE,
                };
                // An error is found by the next read or write.
                drop(self.ready(interest).await);
            }
        }
    };
}

host_stream!(TcpStream);
host_stream!(UnixStream);

#[cfg(test)]
mod tests;
