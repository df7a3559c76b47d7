//! One session after another over the stream to the host: what it asks is dispatched here, and everything waits here.
//!
//! A session begins with `Hello` and ends with `Detach`, with the next `Hello`, or with a breach of the protocol. At each
//! end, and when the host's side of the stream closes, everything earlier commands left running is killed. Between sessions
//! everything but a `Hello` is passed over, and the agent sleeps until the port changes: a machine saved then goes on, when it
//! is restored, by reading the next `Hello`.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use pyro_wire::lifecycle::{Ready, SetUp};
use pyro_wire::message::{Answer, Request};
use pyro_wire::version::ProtocolRange;
use pyro_wire::{
    ConnectionId, ExecId, ExecRequest, Fault, FaultKind, Frame, GuestMessage, HostMessage, RequestId, Stream,
};
use rustix::io::Errno;

use crate::channel::{Channel, Heard, Kind};
use crate::connections::Connections;
use crate::console::say;
use crate::events::{Change, Events, Source};
use crate::exec::Execs;
use crate::lifecycle::Lifecycle;
use crate::quiesce::Quiesce;

/// The last answer must leave before the power goes; a host that does not read it in this time is not waiting for it.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(2);

/// The agent.
#[derive(Debug)]
pub(crate) struct Agent {
    events: Events,
    channel: Channel,
    children: OwnedFd,
    execs: Execs,
    connections: Connections,
    lifecycle: Lifecycle,
    quiesce: Quiesce,
    in_session: bool,
}

/// Why the agent stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The host asked for it.
    ShutDown,
    /// The stream is over for good.
    StreamEnded,
}

impl Agent {
    /// `children` is the descriptor of [`crate::spawn::take_over_signals`].
    pub(crate) fn new(channel: Channel, children: OwnedFd, execs: Execs, lifecycle: Lifecycle) -> Result<Self, Errno> {
        let events = Events::new()?;
        events.add(channel.fd(), Source::Channel)?;
        events.add(&children, Source::Children)?;
        let quiesce = Quiesce::new()?;
        events.add(quiesce.fd(), Source::Quiesce)?;
        let connections = Connections::default();
        Ok(Self { events, channel, children, execs, connections, lifecycle, quiesce, in_session: false })
    }

    /// Serves the host until the machine is to go.
    pub(crate) fn run(&mut self) -> Result<Ending, Errno> {
        loop {
            let patience = self.patience();
            for change in self.events.wait(patience)? {
                self.note(change);
            }
            self.execs.expire();
            self.quiesce.expire();
            self.connections.expire(self.channel.outbox());
            for heard in self.channel.hear() {
                if let Some(ending) = self.handle(heard) {
                    return Ok(ending);
                }
            }
            self.pump();
            if !self.channel.flush() {
                self.end_session();
                return Ok(Ending::StreamEnded);
            }
        }
    }

    /// Moves bytes until nothing moves or the outbox is full, commands and connections in turn.
    fn pump(&mut self) {
        let outbox = self.channel.outbox();
        self.execs.feed(outbox);
        self.connections.feed(&self.events, outbox);
        while outbox.has_room() {
            let moved = [self.execs.pump_round(outbox), self.connections.pump_round(outbox)];
            if moved == [false, false] {
                break;
            }
        }
        self.execs.finish(&self.events, outbox);
    }

    /// How long to wait for a change; `None` is until there is one.
    fn patience(&mut self) -> Option<Duration> {
        let can_pump = self.execs.can_pump() || self.connections.can_pump();
        let has_room = self.channel.outbox().has_room();
        if self.channel.has_more() || self.channel.can_flush() || (has_room && can_pump) {
            return Some(Duration::ZERO);
        }
        let deadlines = [self.execs.next_deadline(), self.connections.next_deadline(), self.quiesce.deadline()];
        deadlines.into_iter().flatten().min().map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    fn note(&mut self, change: Change) {
        match change.source {
            Source::Channel => self.channel.note_ready(change.readable, change.writable),
            Source::Children => {
                crate::spawn::clear_signals(&self.children);
                self.execs.reap();
            }
            Source::Exec(..) | Source::Leftover(_) => self.execs.note_ready(change),
            Source::Quiesce => {
                for (id, result) in self.quiesce.take_ends() {
                    self.reply(id, result.map(|()| Answer::Done));
                }
            }
            Source::Connection(connection) => self.connections.note_ready(connection, change),
        }
    }

    fn handle(&mut self, heard: Heard) -> Option<Ending> {
        match heard {
            Heard::Frame(frame) => return self.handle_frame(frame),
            // The session is not over: a port of a restored machine may report, after its new host's `Hello`, that the old
            // host left. Whoever opens the side anew says `Hello` first.
            Heard::HostLeft => self.abandon(),
            Heard::Ended => {
                self.end_session();
                return Some(Ending::StreamEnded);
            }
            Heard::Nonsense(error) => return self.refuse(&error),
        }
        None
    }

    fn handle_frame(&mut self, frame: Frame) -> Option<Ending> {
        match frame {
            _ if self.channel.is_deaf() => None,
            Frame::Control(payload) => match HostMessage::decode(&payload) {
                Ok(message) => self.handle_message(message),
                Err(error) => self.refuse(&error),
            },
            Frame::Data { exec, stream: Stream::Stdin, bytes } if self.in_session => {
                self.execs.receive(exec, bytes).err().and_then(|breach| self.refuse(&breach))
            }
            Frame::Connection { connection, bytes } if self.in_session => {
                self.connections.receive(connection, bytes).err().and_then(|breach| self.refuse(&breach))
            }
            Frame::Data { .. } | Frame::Connection { .. } => None,
        }
    }

    fn handle_message(&mut self, message: HostMessage) -> Option<Ending> {
        match message {
            HostMessage::Hello { protocol, session } => self.begin_session(protocol, session),
            // What a host says before it knows that there is no session, or after it ended one, means nothing.
            _ if !self.in_session => {}
            HostMessage::Detach => self.end_session(),
            HostMessage::Request { id, request } => return self.answer(id, request),
            HostMessage::Exec { exec, request } => self.start(exec, &request),
            HostMessage::Credit { exec, stream, bytes } => {
                return self.execs.give_credit(exec, stream, bytes).err().and_then(|breach| self.refuse(&breach));
            }
            HostMessage::Signal { exec, signal } => self.execs.signal(exec, signal),
            HostMessage::Kill { exec } => self.execs.kill(exec),
            HostMessage::Terminate { exec, grace_ms } => self.execs.terminate(exec, Duration::from_millis(grace_ms)),
            HostMessage::Resize { exec, size } => self.execs.resize(exec, size),
            HostMessage::Connect { connection, port } => self.connect(connection, port),
            HostMessage::ConnectionCredit { connection, bytes } => {
                let given = self.connections.give_credit(connection, bytes);
                return given.err().and_then(|breach| self.refuse(&breach));
            }
            HostMessage::ConnectionReset { connection } => self.connections.reset(connection),
        }
        None
    }

    fn begin_session(&mut self, protocol: ProtocolRange, session: String) {
        self.end_session();
        let protocol = ProtocolRange::OURS.settle(protocol);
        self.in_session = protocol.is_some();
        self.channel.outbox().say(&GuestMessage::Welcome {
            session,
            protocol,
            speaks: ProtocolRange::OURS,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        });
    }

    fn end_session(&mut self) {
        self.in_session = false;
        self.abandon();
    }

    /// Ends what was begun for a host that does not want it any more.
    fn abandon(&mut self) {
        self.quiesce.abandon();
        self.execs.abandon();
        self.connections.abandon();
    }

    fn reply(&mut self, id: RequestId, result: Result<Answer, Fault>) {
        self.channel.outbox().say(&GuestMessage::Reply { id, result });
    }

    /// Ends the session of a host that broke the protocol. A stream that cannot come back is given up with it.
    fn refuse(&mut self, error: &dyn std::error::Error) -> Option<Ending> {
        say(&format!("session: ended, the host broke the protocol: {error}"));
        self.end_session();
        self.channel.turn_deaf();
        (self.channel.kind() == Kind::Stream).then_some(Ending::StreamEnded)
    }

    fn start(&mut self, exec: ExecId, request: &ExecRequest) {
        let outbox = self.channel.outbox();
        if self.lifecycle.is_ready() {
            self.execs.start(exec, request, &self.events, outbox);
        } else {
            let fault = Fault::new(FaultKind::WrongPhase, "commands run once the machine is set up");
            outbox.say(&GuestMessage::NotStarted { exec, fault });
        }
    }

    fn connect(&mut self, connection: ConnectionId, port: u16) {
        let outbox = self.channel.outbox();
        if self.lifecycle.is_ready() {
            self.connections.connect(connection, port, &self.events, outbox);
        } else {
            let fault = Fault::new(FaultKind::WrongPhase, "ports are reached once the machine is set up");
            outbox.say(&GuestMessage::NotConnected { connection, fault });
        }
    }

    fn set_up(&mut self, request: &SetUp) -> Result<Ready, Fault> {
        let ready = self.lifecycle.set_up(request)?;
        if let Some(disk) = self.lifecycle.disk() {
            let disk = rustix::io::fcntl_dupfd_cloexec(disk, 3).map_err(|error| {
                Fault::new(FaultKind::LimitReached, format!("cannot keep the workspace disk open: {error}"))
            })?;
            self.execs.lend_disk(disk);
        }
        Ok(ready)
    }

    fn answer(&mut self, id: RequestId, request: Request) -> Option<Ending> {
        let result = match &request {
            Request::Prepare(prepare) => self.lifecycle.prepare(prepare).map(|()| Answer::Done),
            Request::SetUp(set_up) => self.set_up(set_up).map(Answer::Ready),
            // These two are answered when they are done.
            Request::Sync => match self.quiesce.sync(id) {
                Ok(()) => return None,
                Err(fault) => Err(fault),
            },
            Request::Freeze => match self.quiesce.freeze(id, self.lifecycle.disk()) {
                Ok(()) => return None,
                Err(fault) => Err(fault),
            },
            Request::Thaw => self.quiesce.thaw().map(|()| Answer::Done),
            Request::ShutDown => {
                // A frozen disk would never become read-only.
                self.quiesce.abandon();
                self.lifecycle.end_processes();
                self.execs.abandon_aloud(self.channel.outbox());
                self.lifecycle.shut_down().map(|()| Answer::Done)
            }
        };
        self.reply(id, result);
        if !matches!(request, Request::ShutDown) {
            return None;
        }
        self.channel.flush_within(LAST_WORDS_LIMIT);
        Some(Ending::ShutDown)
    }
}
