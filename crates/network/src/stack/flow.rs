//! One TCP connection: the stack's socket to the guest, and what moves between it and the host's side.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp::{RecvError, Socket, SocketBuffer, State};
use tokio::sync::Notify;

use super::{About, Pair};
use crate::limits::{BUFFER_BYTES, GUEST_SILENCE_LIMIT, TCP_HALF_CLOSED_LIMIT, TCP_IDLE_LIMIT};

/// A turn of a connection is never taken sooner than this after the last one without a reason.
const TURN_MIN: Duration = Duration::from_millis(1);

/// The host's side of a connection. Nothing here waits: what cannot be done now says `WouldBlock`.
pub(crate) trait HostEnd {
    /// Reads.
    fn read(&self, room: &mut [u8]) -> io::Result<usize>;
    /// Writes.
    fn write(&self, bytes: &[u8]) -> io::Result<usize>;
    /// Says that nothing more is written.
    fn finish(&self);
    /// Says that the connection breaks off.
    fn break_off(&self);
}

/// What a connection waits for after a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// For any of these, or to be woken.
    Wait {
        /// The host's side has something to read.
        readable: bool,
        /// The host's side takes more.
        writable: bool,
        /// This time.
        until: Instant,
    },
    /// For nothing more: it is over.
    Over,
}

/// What was moved in a turn.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Moved {
    pub(super) sent_bytes: u64,
    pub(super) received_bytes: u64,
    readable: bool,
    writable: bool,
}

/// A connection.
pub(super) struct Flow {
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    about: About,
    pub(super) wake: Arc<Notify>,
    active_at: Instant,
    /// The guest sends nothing more, and the host's side knows.
    guest_finished: bool,
    /// The host's side sends nothing more, and the guest knows.
    host_finished: bool,
    /// One side broke off, and the other knows.
    broken: bool,
    /// The rule that let it through is gone.
    revoked: bool,
}

impl Flow {
    /// A connection that waits for the guest's first packet. None if the pair can have no connection.
    pub(super) fn listen(pair: Pair, about: About, now: Instant) -> Option<Self> {
        let buffer = || SocketBuffer::new(vec![0; BUFFER_BYTES]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.listen((pair.remote.ip(), pair.remote.port())).ok()?;
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        socket.set_timeout(Some(GUEST_SILENCE_LIMIT.into()));
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        let wake = Arc::new(Notify::new());
        Some(Self {
            sockets,
            handle,
            about,
            wake,
            active_at: now,
            guest_finished: false,
            host_finished: false,
            broken: false,
            revoked: false,
        })
    }

    pub(super) fn about(&self) -> &About {
        &self.about
    }

    /// Has it broken off at its next turn, which is now.
    pub(super) fn revoke(&mut self) {
        self.revoked = true;
        self.wake.notify_one();
    }

    /// Says to the guest that it breaks off.
    pub(super) fn abort(&mut self) {
        self.socket().abort();
    }

    pub(super) fn sockets(&mut self) -> &mut SocketSet<'static> {
        &mut self.sockets
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    /// Moves what can be moved both ways.
    pub(super) fn exchange(&mut self, end: &dyn HostEnd, now: Instant) -> Moved {
        let mut moved = Moved::default();
        if self.revoked || now.saturating_duration_since(self.active_at) >= self.idle_limit() {
            self.break_off(end);
            return moved;
        }
        let result = self.move_out(end, &mut moved).and_then(|()| self.move_in(end, &mut moved));
        // A guest that broke off, or fell silent, left the connection closed before both sides had finished. One that did so
        // before it had answered us left the socket as it began.
        let left = match self.socket().state() {
            State::Closed => !(self.host_finished && self.guest_has_finished()),
            State::Listen => true,
            _ => false,
        };
        if result.is_err() || left {
            self.break_off(end);
        }
        if moved.sent_bytes + moved.received_bytes > 0 {
            self.active_at = now;
        }
        self.about.sent_bytes += moved.sent_bytes;
        self.about.received_bytes += moved.received_bytes;
        moved
    }

    fn move_out(&mut self, end: &dyn HostEnd, moved: &mut Moved) -> io::Result<()> {
        let socket = self.sockets.get_mut::<Socket<'_>>(self.handle);
        while socket.can_recv() {
            let written = socket.recv(|bytes| match end.write(bytes) {
                Ok(0) => (0, Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => (count, Ok(count)),
                Err(error) => (0, Err(error)),
            });
            match written.map_err(io::Error::other)? {
                Ok(count) => moved.sent_bytes += count as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    moved.writable = true;
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        if !self.guest_finished && self.guest_has_finished() {
            self.guest_finished = true;
            end.finish();
        }
        Ok(())
    }

    /// Whether the guest said that it sends nothing more; known when all that it sent was taken.
    fn guest_has_finished(&mut self) -> bool {
        let socket = self.socket();
        socket.can_recv() || socket.recv(|_| (0, ())) == Err(RecvError::Finished)
    }

    fn move_in(&mut self, end: &dyn HostEnd, moved: &mut Moved) -> io::Result<()> {
        let socket = self.sockets.get_mut::<Socket<'_>>(self.handle);
        while !self.host_finished && socket.can_send() {
            let read = socket.send(|room| match end.read(room) {
                Ok(count) => (count, Ok(count)),
                Err(error) => (0, Err(error)),
            });
            match read.map_err(io::Error::other)? {
                Ok(0) => {
                    self.host_finished = true;
                    socket.close();
                }
                Ok(count) => moved.received_bytes += count as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    moved.readable = true;
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn break_off(&mut self, end: &dyn HostEnd) {
        self.broken = true;
        self.abort();
        end.break_off();
    }

    /// Whether nothing more can come of it: both sides have finished, or one broke off.
    pub(super) fn is_over(&mut self) -> bool {
        let socket = self.socket();
        let closed = matches!(socket.state(), State::Closed | State::TimeWait) && !socket.can_recv();
        closed || self.broken
    }

    /// What it waits for after a turn; `next` is when the stack wants one.
    pub(super) fn next_step(&self, moved: Moved, next: Option<Instant>) -> Step {
        let idle = self.active_at + self.idle_limit();
        // The stack's time may have come while this was said.
        let until = next.map_or(idle, |next| next.max(Instant::now() + TURN_MIN).min(idle));
        Step::Wait { readable: moved.readable, writable: moved.writable, until }
    }

    pub(super) fn into_about(self) -> About {
        self.about
    }

    fn idle_limit(&self) -> Duration {
        if self.guest_finished || self.host_finished { TCP_HALF_CLOSED_LIMIT } else { TCP_IDLE_LIMIT }
    }
}
