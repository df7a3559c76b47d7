//! Connections to ports of the guest over the link: two directions, each under credit, each with an end of its own.

use std::sync::Arc;

use pyro_wire::connection::CONNECTION_WINDOW_BYTES;
use pyro_wire::credit::{ReceiveCredit, SendCredit};
use pyro_wire::frame::DATA_BYTES_MAX;
use pyro_wire::{ConnectionId, Frame, HostMessage};
use tokio::sync::{mpsc, oneshot};

use super::{GuestLink, Inner, LinkError, SendWindow, broken, unpoisoned};

/// What the guest's end of a connection does, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum ConnectionEvent {
    /// It sent bytes.
    Bytes(Vec<u8>),
    /// It sends no more.
    Ended,
    /// It broke off, or was lost with the session.
    Reset,
}

/// The receiving end of a connection. When both ends were dropped before the connection was over, it is broken off.
#[derive(Debug)]
pub struct ConnectionReader {
    shared: Arc<Shared>,
    events: mpsc::UnboundedReceiver<ConnectionEvent>,
}

/// The sending end of a connection.
#[derive(Debug)]
pub struct ConnectionWriter {
    shared: Arc<Shared>,
    window: Arc<SendWindow>,
}

#[derive(Debug)]
struct Shared {
    id: ConnectionId,
    inner: Arc<Inner>,
}

/// A connection as the link knows it.
#[derive(Debug)]
pub(super) struct Entry {
    /// Who waits to hear whether it was accepted.
    pub(super) connected: Option<oneshot::Sender<Result<(), LinkError>>>,
    events: mpsc::UnboundedSender<ConnectionEvent>,
    pub(super) window: Arc<SendWindow>,
    credit: ReceiveCredit,
    guest_ended: bool,
    host_ended: bool,
}

impl GuestLink {
    /// Connects to a port of the guest's loopback.
    ///
    /// # Errors
    /// Nothing listens there, or the session ended.
    pub async fn connect(&self, port: u16) -> Result<(ConnectionReader, ConnectionWriter), LinkError> {
        let id = ConnectionId(self.inner.next_number());
        let (events_sender, events) = mpsc::unbounded_channel();
        let (connected_sender, connected) = oneshot::channel();
        let window = Arc::new(SendWindow::new(SendCredit::of_window(CONNECTION_WINDOW_BYTES)));
        let entry = Entry {
            connected: Some(connected_sender),
            events: events_sender,
            window: Arc::clone(&window),
            credit: ReceiveCredit::of_window(CONNECTION_WINDOW_BYTES),
            guest_ended: false,
            host_ended: false,
        };
        self.inner.open_state()?.connections.insert(id, entry);
        // From here on it is broken off when the caller gives up waiting.
        let shared = Arc::new(Shared { id, inner: Arc::clone(&self.inner) });
        self.inner.send(&HostMessage::Connect { connection: id, port }).await?;
        connected.await.unwrap_or_else(|_| Err(self.inner.reason()))?;
        Ok((ConnectionReader { shared: Arc::clone(&shared), events }, ConnectionWriter { shared, window }))
    }
}

impl ConnectionReader {
    /// What the guest's end does next. Cancel-safe.
    pub async fn next(&mut self) -> ConnectionEvent {
        let Some(event) = self.events.recv().await else { return ConnectionEvent::Reset };
        if let ConnectionEvent::Bytes(bytes) = &event {
            self.shared.give_back(bytes.len()).await;
        }
        event
    }
}

impl ConnectionWriter {
    /// Sends bytes, waiting for the guest to take what was sent before.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        let Shared { id, inner } = &*self.shared;
        let mut rest = bytes;
        while !rest.is_empty() {
            let is_there = || Ok(inner.open_state()?.connections.contains_key(id));
            // Of one that broke off what may still be sent does not matter.
            let count =
                if is_there()? { self.window.take(rest.len().min(DATA_BYTES_MAX), is_there).await? } else { None };
            let Some(count) = count else { return Err(LinkError::Lost) };
            let (now, later) = rest.split_at(count);
            inner.send_frame(&Frame::Connection { connection: *id, bytes: now.to_vec() }).await?;
            rest = later;
        }
        Ok(())
    }

    /// Says that no more comes; the other direction goes on.
    ///
    /// # Errors
    /// The session ended.
    pub async fn close(self) -> Result<(), LinkError> {
        let Shared { id, inner } = &*self.shared;
        inner.send_frame(&Frame::Connection { connection: *id, bytes: Vec::new() }).await?;
        let mut state = unpoisoned(&inner.state);
        if let Some(entry) = state.connections.get_mut(id) {
            entry.host_ended = true;
            if entry.guest_ended {
                state.connections.remove(id);
            }
        }
        Ok(())
    }
}

impl Shared {
    async fn give_back(&self, count: usize) {
        let due = {
            let mut state = unpoisoned(&self.inner.state);
            let Some(entry) = state.connections.get_mut(&self.id).filter(|entry| !entry.guest_ended) else { return };
            entry.credit.consume(count)
        };
        if let Some(bytes) = due {
            // A session that ended in between is told by what comes next.
            drop(self.inner.send(&HostMessage::ConnectionCredit { connection: self.id, bytes }).await);
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if unpoisoned(&self.inner.state).connections.remove(&self.id).is_some() {
            self.inner.say_farewell(&HostMessage::ConnectionReset { connection: self.id });
        }
    }
}

impl Inner {
    pub(super) fn handle_connection_bytes(&self, id: ConnectionId, bytes: Vec<u8>) -> Result<(), LinkError> {
        let mut state = unpoisoned(&self.state);
        // One whose holders are gone may still send until it hears so.
        let Some(entry) = state.connections.get_mut(&id) else { return Ok(()) };
        if entry.guest_ended || entry.connected.is_some() {
            return Err(LinkError::Protocol { reason: "sent bytes of a connection that has none".to_owned() });
        }
        let event = if bytes.is_empty() {
            entry.guest_ended = true;
            ConnectionEvent::Ended
        } else {
            entry.credit.receive(bytes.len()).map_err(|error| broken(&error))?;
            ConnectionEvent::Bytes(bytes)
        };
        drop(entry.events.send(event));
        if entry.guest_ended && entry.host_ended {
            state.connections.remove(&id);
        }
        Ok(())
    }

    pub(super) fn handle_reset(&self, id: ConnectionId) {
        if let Some(entry) = unpoisoned(&self.state).connections.remove(&id) {
            drop(entry.events.send(ConnectionEvent::Reset));
            entry.window.wake();
        }
    }
}
