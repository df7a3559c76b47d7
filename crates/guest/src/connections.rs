//! Connections from the host to ports of the guest's own loopback: made, carried under credit, ended.
//!
//! They are served by the agent's one loop beside the commands. What has something to send takes turns, a frame each, so
//! that none holds up another; nothing of the guest's bytes is held here, and of the host's at most one window a connection.

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use pyro_wire::connection::{CONNECTION_WINDOW_BYTES, CONNECTIONS_MAX};
use pyro_wire::credit::{CreditExceeded, CreditOverflow, ReceiveCredit, SendCredit};
use pyro_wire::frame::DATA_BYTES_MAX;
use pyro_wire::{ConnectionId, Fault, FaultKind, GuestMessage};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, sockopt};

use crate::channel::Outbox;
use crate::events::{Change, Events, Source};

/// How long something that listens may take to accept. The queue of a busy service may be full for a while.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// The host did what the protocol forbids; its session is over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionBreach {
    /// It gave more credit than it was owed.
    #[error("connection {}: {error}", .connection.0)]
    CreditOverflow {
        /// The connection.
        connection: ConnectionId,
        /// What is wrong.
        error: CreditOverflow,
    },
    /// It sent more than it had credit for.
    #[error("connection {}: {error}", .connection.0)]
    CreditExceeded {
        /// The connection.
        connection: ConnectionId,
        /// What is wrong.
        error: CreditExceeded,
    },
}

/// All connections of a session.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    open: BTreeMap<ConnectionId, Connection>,
    /// Those that something happened to since they were last looked at.
    noted: VecDeque<ConnectionId>,
    /// Those that have something to send, in the order of their turns.
    turns: VecDeque<ConnectionId>,
}

#[derive(Debug)]
struct Connection {
    socket: OwnedFd,
    port: u16,
    phase: Phase,
    readable: bool,
    writable: bool,
    in_turns: bool,
    /// For the guest's bytes.
    send: SendCredit,
    guest_ended: bool,
    /// For the host's bytes.
    receive: ReceiveCredit,
    queue: VecDeque<Vec<u8>>,
    /// Bytes of the first piece that were written already.
    written_bytes: usize,
    host: HostSide,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nobody has accepted yet; `by_v6` is what was tried last.
    Connecting {
        by_v6: bool,
        deadline: Instant,
    },
    Open,
}

/// How far the host's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HostSide {
    /// More may come.
    Open,
    /// All came; not all is written.
    Ended,
    /// All is written, and the other side was told that it is all.
    Done,
    /// Nobody in the guest takes any: the rest is thrown away.
    Unheard,
}

/// What becomes of a connection after it was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Goes,
    Over,
    Reset,
}

impl Connections {
    /// Begins to connect to a port. How that went is said when it is known.
    pub(crate) fn connect(&mut self, id: ConnectionId, port: u16, events: &Events, outbox: &mut Outbox) {
        if let Err(fault) = self.try_connect(id, port, events) {
            outbox.say(&GuestMessage::NotConnected { connection: id, fault });
        }
    }

    fn try_connect(&mut self, id: ConnectionId, port: u16, events: &Events) -> Result<(), Fault> {
        if self.open.contains_key(&id) {
            return Err(Fault::new(FaultKind::InvalidArgument, format!("connection {} is open already", id.0)));
        }
        if self.open.len() >= CONNECTIONS_MAX {
            return Err(Fault::new(FaultKind::LimitReached, format!("{CONNECTIONS_MAX} connections are open already")));
        }
        let deadline = Instant::now() + CONNECT_LIMIT;
        let (socket, by_v6) = match dial(id, port, false, events) {
            Ok(socket) => (socket, false),
            Err(error) => (dial(id, port, true, events).map_err(|_| unreachable(port, error))?, true),
        };
        self.open.insert(id, Connection::new(socket, port, Phase::Connecting { by_v6, deadline }));
        Ok(())
    }

    /// Takes bytes from the host; none are the end. For a connection that is gone they are thrown away.
    pub(crate) fn receive(&mut self, id: ConnectionId, bytes: Vec<u8>) -> Result<(), ConnectionBreach> {
        let Some(connection) = self.open.get_mut(&id) else { return Ok(()) };
        let count = connection.receive.receive(bytes.len());
        count.map_err(|error| ConnectionBreach::CreditExceeded { connection: id, error })?;
        match connection.host {
            HostSide::Open if bytes.is_empty() => connection.host = HostSide::Ended,
            HostSide::Unheard if bytes.is_empty() => connection.host = HostSide::Done,
            HostSide::Open | HostSide::Unheard => connection.queue.push_back(bytes),
            HostSide::Ended | HostSide::Done => {}
        }
        self.noted.push_back(id);
        Ok(())
    }

    /// Takes credit from the host.
    pub(crate) fn give_credit(&mut self, id: ConnectionId, bytes: u32) -> Result<(), ConnectionBreach> {
        let Some(connection) = self.open.get_mut(&id) else { return Ok(()) };
        let given = connection.send.give(bytes);
        given.map_err(|error| ConnectionBreach::CreditOverflow { connection: id, error })?;
        self.noted.push_back(id);
        Ok(())
    }

    /// Breaks a connection off, as the host's end was.
    pub(crate) fn reset(&mut self, id: ConnectionId) {
        if let Some(connection) = self.open.remove(&id) {
            break_off(connection.socket);
        }
    }

    /// Notes what a change of a descriptor makes possible.
    pub(crate) fn note_ready(&mut self, id: ConnectionId, change: Change) {
        if let Some(connection) = self.open.get_mut(&id) {
            connection.readable |= change.readable;
            connection.writable |= change.writable;
            self.noted.push_back(id);
        }
    }

    /// When the next connection that nobody accepts is given up.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let deadline = |connection: &Connection| match connection.phase {
            Phase::Connecting { deadline, .. } => Some(deadline),
            Phase::Open => None,
        };
        self.open.values().filter_map(deadline).min()
    }

    /// Gives up the connections that nobody accepted in time.
    pub(crate) fn expire(&mut self, outbox: &mut Outbox) {
        let now = Instant::now();
        let is_late = |_: &ConnectionId, connection: &mut Connection| matches!(connection.phase, Phase::Connecting { deadline, .. } if deadline <= now);
        for (connection, Connection { port, .. }) in self.open.extract_if(.., is_late) {
            let fault = unreachable(port, Errno::TIMEDOUT);
            outbox.say(&GuestMessage::NotConnected { connection, fault });
        }
    }

    /// Whether [`Self::pump_round`] would do something now, given room.
    pub(crate) fn can_pump(&self) -> bool {
        !self.turns.is_empty() || !self.noted.is_empty()
    }

    /// Gives the guest what it takes now of what the host sent, and sees who has something to send.
    pub(crate) fn feed(&mut self, events: &Events, outbox: &mut Outbox) {
        while let Some(id) = self.noted.pop_front() {
            let Some(connection) = self.open.get_mut(&id) else { continue };
            match connection.settle(id, events, outbox).map(|()| connection.write(id, outbox)) {
                Ok(fate) => self.meet(id, fate, outbox),
                Err(fault) => {
                    self.open.remove(&id);
                    outbox.say(&GuestMessage::NotConnected { connection: id, fault });
                }
            }
        }
    }

    /// Lets each that has something to send have its turn, while there is room. Whether any had.
    pub(crate) fn pump_round(&mut self, outbox: &mut Outbox) -> bool {
        let mut moved = false;
        for _ in 0..self.turns.len() {
            if !outbox.has_room() {
                break;
            }
            let Some(id) = self.turns.pop_front() else { break };
            let Some(connection) = self.open.get_mut(&id) else { continue };
            connection.in_turns = false;
            let fate = connection.send_piece(id, outbox);
            self.meet(id, fate, outbox);
            moved = true;
        }
        moved
    }

    /// Forgets all of them.
    pub(crate) fn abandon(&mut self) {
        *self = Self::default();
    }

    fn meet(&mut self, id: ConnectionId, fate: Fate, outbox: &mut Outbox) {
        let Some(connection) = self.open.get_mut(&id) else { return };
        match fate {
            Fate::Goes if connection.can_send() && !connection.in_turns => {
                connection.in_turns = true;
                self.turns.push_back(id);
            }
            Fate::Goes => {}
            Fate::Over => drop(self.open.remove(&id)),
            Fate::Reset => {
                self.reset(id);
                outbox.say(&GuestMessage::ConnectionReset { connection: id });
            }
        }
    }
}

impl Connection {
    fn new(socket: OwnedFd, port: u16, phase: Phase) -> Self {
        Self {
            socket,
            port,
            phase,
            readable: false,
            writable: false,
            in_turns: false,
            send: SendCredit::of_window(CONNECTION_WINDOW_BYTES),
            guest_ended: false,
            receive: ReceiveCredit::of_window(CONNECTION_WINDOW_BYTES),
            queue: VecDeque::new(),
            written_bytes: 0,
            host: HostSide::Open,
        }
    }

    /// Looks whether one that is being made was accepted, and tries the other family if it was refused.
    fn settle(&mut self, id: ConnectionId, events: &Events, outbox: &mut Outbox) -> Result<(), Fault> {
        let Phase::Connecting { by_v6, deadline } = self.phase else { return Ok(()) };
        if !self.writable {
            return Ok(());
        }
        match sockopt::socket_error(&self.socket).and_then(|result| result).and_then(|()| not_to_itself(&self.socket)) {
            Ok(()) => {
                self.phase = Phase::Open;
                outbox.say(&GuestMessage::Connected { connection: id });
                Ok(())
            }
            // It was woken for nothing.
            Err(Errno::NOTCONN) => {
                self.writable = false;
                Ok(())
            }
            Err(error) if by_v6 => Err(unreachable(self.port, error)),
            Err(error) => {
                self.socket = dial(id, self.port, true, events).map_err(|_| unreachable(self.port, error))?;
                (self.readable, self.writable) = (false, false);
                self.phase = Phase::Connecting { by_v6: true, deadline };
                Ok(())
            }
        }
    }

    /// Writes what the host sent, as far as the guest takes it now, and gives the host credit for it.
    fn write(&mut self, id: ConnectionId, outbox: &mut Outbox) -> Fate {
        if self.phase != Phase::Open {
            return Fate::Goes;
        }
        while let Some(piece) = self.queue.front() {
            let rest = piece.get(self.written_bytes..).unwrap_or_default();
            let result = match self.host {
                HostSide::Unheard | HostSide::Done => Ok(rest.len()),
                _ if !self.writable => return Fate::Goes,
                _ => rustix::net::send(&self.socket, rest, SendFlags::NOSIGNAL),
            };
            match result {
                Ok(count) => {
                    self.written_bytes += count;
                    if self.written_bytes >= piece.len() {
                        self.queue.pop_front();
                        self.written_bytes = 0;
                    }
                    if let Some(bytes) = self.receive.consume(count) {
                        outbox.say(&GuestMessage::ConnectionCredit { connection: id, bytes });
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.writable = false,
                // Who said all it had to say may well leave without listening.
                Err(_) if self.guest_ended => {
                    self.host = if self.host == HostSide::Ended { HostSide::Done } else { HostSide::Unheard };
                }
                Err(_) => return Fate::Reset,
            }
        }
        if self.host == HostSide::Ended {
            // A side that is gone already need not be told.
            let _ = rustix::net::shutdown(&self.socket, Shutdown::Write);
            self.host = HostSide::Done;
        }
        self.fate()
    }

    fn can_send(&self) -> bool {
        self.phase == Phase::Open && self.readable && !self.guest_ended && self.send.left_bytes() > 0
    }

    /// Sends at most one frame of what the guest wrote.
    fn send_piece(&mut self, id: ConnectionId, outbox: &mut Outbox) -> Fate {
        if !self.can_send() {
            return Fate::Goes;
        }
        let count_max = DATA_BYTES_MAX.min(self.send.left_bytes());
        let receive =
            |room: &mut [u8]| rustix::net::recv(&self.socket, room, RecvFlags::empty()).map(|(count, _)| count);
        match outbox.connection_data(id, count_max, receive) {
            Ok(0) => {
                self.guest_ended = true;
                outbox.end_connection(id);
            }
            Ok(count) => self.send.take(count),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => self.readable = false,
            Err(_) => return Fate::Reset,
        }
        self.fate()
    }

    fn fate(&self) -> Fate {
        let host_over = self.host == HostSide::Done;
        if self.guest_ended && host_over { Fate::Over } else { Fate::Goes }
    }
}

/// Begins to connect to a port of the loopback.
fn dial(id: ConnectionId, port: u16, by_v6: bool, events: &Events) -> Result<OwnedFd, Errno> {
    let (family, address) = if by_v6 {
        (AddressFamily::INET6, SocketAddr::from((Ipv6Addr::LOCALHOST, port)))
    } else {
        (AddressFamily::INET, SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    // What the host sends in one piece is passed on as one, however small.
    sockopt::set_tcp_nodelay(&socket, true)?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(error) => return Err(error),
    }
    events.add(&socket, Source::Connection(id))?;
    Ok(socket)
}

/// The kernel lets a socket connect to itself when nobody listens at a port that it may choose for its own.
fn not_to_itself(socket: &OwnedFd) -> Result<(), Errno> {
    let (ours, theirs) = (rustix::net::getsockname(socket)?, rustix::net::getpeername(socket)?);
    if theirs.is_some_and(|theirs| theirs == ours) { Err(Errno::CONNREFUSED) } else { Ok(()) }
}

/// Closes so that the other side sees that something broke.
fn break_off(socket: OwnedFd) {
    let _ = sockopt::set_socket_linger(&socket, Some(Duration::ZERO));
    drop(socket);
}

fn unreachable(port: u16, error: Errno) -> Fault {
    match error {
        Errno::CONNREFUSED => {
            Fault::new(FaultKind::ConnectionRefused, format!("nothing in the guest listens at port {port}"))
        }
        Errno::TIMEDOUT => {
            let seconds = CONNECT_LIMIT.as_secs();
            Fault::new(
                FaultKind::ConnectionRefused,
                format!("nothing accepted at port {port} of the guest in {seconds} s"),
            )
        }
        Errno::MFILE | Errno::NFILE => {
            Fault::new(FaultKind::LimitReached, format!("cannot connect to port {port} of the guest: {error}"))
        }
        error => Fault::new(FaultKind::Io, format!("cannot connect to port {port} of the guest: {error}")),
    }
}
