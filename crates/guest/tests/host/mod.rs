//! A host for tests: starts the real agent on a socket and speaks the protocol with it, byte for byte.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pyro_wire::connection::CONNECTION_WINDOW_BYTES;
use pyro_wire::credit::{ReceiveCredit, SendCredit};
use pyro_wire::frame::DATA_BYTES_MAX;
use pyro_wire::lifecycle::{Prepare, RootKind, SetUp, WorkspaceMount};
use pyro_wire::message::{Answer, Request};
use pyro_wire::version::{PROTOCOL_NEWEST, ProtocolRange};
use pyro_wire::{
    ConnectionId, Decoder, ExecId, ExecRequest, Exit, Fault, Frame, GuestMessage, HostMessage, Program, RequestId,
    Stream, TerminalSize,
};

/// Nothing here takes this long, on however slow a machine.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Host {
    agent: Child,
    stream: UnixStream,
    decoder: Decoder,
    numbers: u32,
    pub(crate) commands: BTreeMap<ExecId, Seen>,
    pub(crate) connections: BTreeMap<ConnectionId, Carried>,
}

/// What the host saw of a connection, and what it sends.
pub(crate) struct Carried {
    pub(crate) connected: bool,
    pub(crate) fault: Option<Fault>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) ended: bool,
    pub(crate) reset: bool,
    /// The host's consumer takes nothing while this is set.
    pub(crate) stalled: bool,
    credit: ReceiveCredit,
    sending: Stdin,
}

/// What the host saw of a command.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) pid: Option<u32>,
    pub(crate) fault: Option<Fault>,
    pub(crate) exit: Option<Exit>,
    pub(crate) duration_ms: u64,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) ended: BTreeSet<Stream>,
    /// The host's consumer takes nothing while this is set.
    pub(crate) stalled: bool,
    credits: BTreeMap<Stream, ReceiveCredit>,
    stdin: Option<Stdin>,
}

struct Stdin {
    bytes: Vec<u8>,
    sent_bytes: usize,
    credit: SendCredit,
    ended: bool,
}

impl Host {
    /// An agent that waits for its first `Hello`.
    pub(crate) fn bare() -> Self {
        let (stream, theirs) = UnixStream::pair().expect("a socket pair");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        #[expect(clippy::disallowed_methods, reason = "the test starts the agent itself")]
        let agent = Command::new(env!("CARGO_BIN_EXE_pyro-guest"))
            .arg("--serve-stdin")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()
            .expect("the agent starts");
        Self {
            agent,
            stream,
            decoder: Decoder::new(),
            numbers: 0,
            commands: BTreeMap::new(),
            connections: BTreeMap::new(),
        }
    }

    /// An agent with a session, in the phase in which commands run.
    pub(crate) fn ready() -> Self {
        let mut host = Self::bare();
        assert_eq!(host.hello("first", ProtocolRange::OURS), Some(PROTOCOL_NEWEST));
        assert_eq!(host.request(Request::Prepare(prepare())), Ok(Answer::Done));
        assert!(matches!(host.request(Request::SetUp(set_up())), Ok(Answer::Ready(_))));
        host
    }

    pub(crate) fn say(&mut self, message: &HostMessage) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes).expect("short");
        self.send(&bytes);
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the agent reads");
    }

    /// Sends these bytes again and again, until the agent hangs up.
    pub(crate) fn flood(&mut self, bytes: &[u8]) {
        while self.stream.write_all(bytes).is_ok() {}
    }

    /// The next frame; `None` when the agent closed the stream.
    pub(crate) fn hear(&mut self) -> Option<Frame> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            if let Some(frame) = self.decoder.next_frame().expect("the agent keeps to the format") {
                return Some(frame);
            }
            match self.stream.read(&mut buffer).expect("the agent answers") {
                0 => return None,
                count => self.decoder.push(&buffer[..count]),
            }
        }
    }

    /// Opens a session; what was settled on.
    pub(crate) fn hello(&mut self, session: &str, protocol: ProtocolRange) -> Option<u16> {
        self.say(&HostMessage::Hello { protocol, session: session.to_owned() });
        self.commands.clear();
        loop {
            let Frame::Control(payload) = self.hear().expect("an answer") else { continue };
            if let GuestMessage::Welcome { session: named, protocol, speaks, .. } =
                GuestMessage::decode(&payload).expect("a message")
            {
                assert_eq!((named.as_str(), speaks), (session, ProtocolRange::OURS));
                return protocol;
            }
        }
    }

    pub(crate) fn request(&mut self, request: Request) -> Result<Answer, Fault> {
        let id = RequestId(self.number());
        self.say(&HostMessage::Request { id, request });
        loop {
            if let Some(GuestMessage::Reply { id: answered, result }) = self.step() {
                assert_eq!(answered, id);
                return result;
            }
        }
    }

    pub(crate) fn start(&mut self, request: ExecRequest) -> ExecId {
        let exec = ExecId(self.number());
        let credits = [Stream::Stdout, Stream::Stderr].map(|stream| (stream, ReceiveCredit::default()));
        self.commands.insert(exec, Seen { credits: credits.into(), ..Seen::default() });
        self.say(&HostMessage::Exec { exec, request });
        exec
    }

    /// Starts a command and feeds it `stdin` to the end.
    pub(crate) fn start_with_input(&mut self, mut request: ExecRequest, stdin: &[u8]) -> ExecId {
        request.stdin = true;
        let exec = self.start(request);
        let stdin = Stdin { bytes: stdin.to_vec(), sent_bytes: 0, credit: SendCredit::default(), ended: false };
        self.commands.get_mut(&exec).expect("just started").stdin = Some(stdin);
        self.feed(exec);
        exec
    }

    /// Sends bytes of standard input, within the first window only.
    pub(crate) fn input(&mut self, exec: ExecId, bytes: &[u8]) {
        let mut out = Vec::new();
        Frame::Data { exec, stream: Stream::Stdin, bytes: bytes.to_vec() }.encode(&mut out).expect("short");
        self.send(&out);
    }

    pub(crate) fn run(&mut self, request: ExecRequest) -> &Seen {
        let exec = self.start(request);
        self.finish(exec)
    }

    /// Goes on until a command ended or was refused.
    pub(crate) fn finish(&mut self, exec: ExecId) -> &Seen {
        self.until(exec, |seen| seen.exit.is_some() || seen.fault.is_some());
        &self.commands[&exec]
    }

    /// Goes on until `done`.
    pub(crate) fn until(&mut self, exec: ExecId, done: impl Fn(&Seen) -> bool) {
        while !done(&self.commands[&exec]) {
            self.step();
        }
    }

    /// Begins to connect to a port, to send it these bytes and then the end.
    pub(crate) fn connect(&mut self, port: u16, bytes: &[u8]) -> ConnectionId {
        let connection = ConnectionId(self.number());
        let credit = SendCredit::of_window(CONNECTION_WINDOW_BYTES);
        let carried = Carried {
            connected: false,
            fault: None,
            bytes: Vec::new(),
            ended: false,
            reset: false,
            stalled: false,
            credit: ReceiveCredit::of_window(CONNECTION_WINDOW_BYTES),
            sending: Stdin { bytes: bytes.to_vec(), sent_bytes: 0, credit, ended: false },
        };
        self.connections.insert(connection, carried);
        self.say(&HostMessage::Connect { connection, port });
        connection
    }

    /// Goes on until `done`. A connection that came to nothing before that will not get there.
    pub(crate) fn until_carried(&mut self, connection: ConnectionId, done: impl Fn(&Carried) -> bool) -> &Carried {
        while !done(&self.connections[&connection]) {
            let Carried { fault, reset, .. } = &self.connections[&connection];
            assert!(fault.is_none() && !reset, "{connection:?} came to nothing: fault {fault:?}, reset {reset}");
            self.step();
        }
        &self.connections[&connection]
    }

    /// Sends what there is to send and credit for.
    pub(crate) fn feed_connection(&mut self, connection: ConnectionId) {
        loop {
            let Some(carried) = self.connections.get_mut(&connection) else { return };
            let sending = &mut carried.sending;
            let rest = &sending.bytes[sending.sent_bytes..];
            let count = rest.len().min(sending.credit.left_bytes()).min(DATA_BYTES_MAX);
            if sending.ended || carried.reset || (count == 0 && !rest.is_empty()) {
                return;
            }
            let bytes = rest[..count].to_vec();
            sending.credit.take(count);
            sending.sent_bytes += count;
            sending.ended = bytes.is_empty();
            let mut out = Vec::new();
            Frame::Connection { connection, bytes }.encode(&mut out).expect("short");
            self.send(&out);
        }
    }

    fn carry(&mut self, connection: ConnectionId, bytes: &[u8]) {
        let carried = self.connections.get_mut(&connection).expect("a connection of this session");
        assert!(carried.connected && !carried.ended && !carried.reset, "bytes come between the beginning and the end");
        carried.ended = bytes.is_empty();
        carried.bytes.extend_from_slice(bytes);
        carried.credit.receive(bytes.len()).expect("the agent keeps to its credit");
        let due = if carried.stalled { None } else { carried.credit.consume(bytes.len()) };
        if let Some(bytes) = due {
            self.say(&HostMessage::ConnectionCredit { connection, bytes });
        }
    }

    /// Handles one frame, and answers with it if it is no one's.
    pub(crate) fn step(&mut self) -> Option<GuestMessage> {
        match self.hear().expect("the session goes on") {
            Frame::Control(payload) => self.note(GuestMessage::decode(&payload).expect("a message")),
            Frame::Data { exec, stream, bytes } => {
                self.take(exec, stream, &bytes);
                None
            }
            Frame::Connection { connection, bytes } => {
                self.carry(connection, &bytes);
                None
            }
        }
    }

    fn note(&mut self, message: GuestMessage) -> Option<GuestMessage> {
        match message {
            GuestMessage::Started { exec, pid } => self.seen(exec).pid = Some(pid),
            GuestMessage::NotStarted { exec, fault } => self.seen(exec).fault = Some(fault),
            GuestMessage::Exited { exec, exit, duration_ms } => {
                let seen = self.seen(exec);
                assert_eq!(seen.exit.replace(exit), None, "a command ends once");
                seen.duration_ms = duration_ms;
            }
            GuestMessage::Credit { exec, bytes } => {
                if let Some(stdin) = &mut self.seen(exec).stdin {
                    stdin.credit.give(bytes).expect("no more than was taken");
                }
                self.feed(exec);
            }
            GuestMessage::Connected { connection } => {
                self.connections.get_mut(&connection).expect("one of ours").connected = true;
                self.feed_connection(connection);
            }
            GuestMessage::NotConnected { connection, fault } => {
                self.connections.get_mut(&connection).expect("one of ours").fault = Some(fault);
            }
            GuestMessage::ConnectionCredit { connection, bytes } => {
                let carried = self.connections.get_mut(&connection).expect("one of ours");
                carried.sending.credit.give(bytes).expect("no more than was taken");
                self.feed_connection(connection);
            }
            GuestMessage::ConnectionReset { connection } => {
                self.connections.get_mut(&connection).expect("one of ours").reset = true;
            }
            message => return Some(message),
        }
        None
    }

    fn take(&mut self, exec: ExecId, stream: Stream, bytes: &[u8]) {
        let seen = self.seen(exec);
        assert!(seen.exit.is_none(), "nothing comes after the end of a command");
        assert!(!seen.ended.contains(&stream), "nothing comes after the end of a stream");
        if bytes.is_empty() {
            seen.ended.insert(stream);
            return;
        }
        if stream == Stream::Stderr { &mut seen.stderr } else { &mut seen.stdout }.extend_from_slice(bytes);
        let credit = seen.credits.get_mut(&stream).expect("an output");
        credit.receive(bytes.len()).expect("the agent keeps to its credit");
        let due = if seen.stalled { None } else { credit.consume(bytes.len()) };
        if let Some(bytes) = due {
            self.say(&HostMessage::Credit { exec, stream, bytes });
        }
    }

    /// Lets a stalled consumer take all it was sent.
    pub(crate) fn resume(&mut self, exec: ExecId) {
        let seen = self.seen(exec);
        seen.stalled = false;
        let held = [(Stream::Stdout, seen.stdout.len()), (Stream::Stderr, seen.stderr.len())];
        for (stream, count) in held {
            if let Some(bytes) = self.seen(exec).credits.get_mut(&stream).expect("an output").consume(count) {
                self.say(&HostMessage::Credit { exec, stream, bytes });
            }
        }
    }

    fn feed(&mut self, exec: ExecId) {
        loop {
            let Some(stdin) = &mut self.seen(exec).stdin else { return };
            let rest = &stdin.bytes[stdin.sent_bytes..];
            let count = rest.len().min(stdin.credit.left_bytes()).min(DATA_BYTES_MAX);
            if stdin.ended || (count == 0 && !rest.is_empty()) {
                return;
            }
            let piece = rest[..count].to_vec();
            stdin.credit.take(count);
            stdin.sent_bytes += count;
            stdin.ended = piece.is_empty();
            self.input(exec, &piece);
        }
    }

    fn seen(&mut self, exec: ExecId) -> &mut Seen {
        self.commands.get_mut(&exec).expect("a command of this session")
    }

    fn number(&mut self) -> u32 {
        self.numbers += 1;
        self.numbers
    }

    /// Waits for the agent to end by itself.
    pub(crate) fn wait(mut self) -> std::process::ExitStatus {
        self.agent.wait().expect("the agent ends")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Closing the stream ends the agent and its commands; this is for one that hangs.
        drop(self.stream.shutdown(std::net::Shutdown::Both));
        for _ in 0..200 {
            if self.agent.try_wait().is_ok_and(|status| status.is_some()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        drop(self.agent.kill());
        drop(self.agent.wait());
    }
}

pub(crate) fn prepare() -> Prepare {
    Prepare {
        environment_disk: "environment".to_owned(),
        modules_disk: None,
        root: RootKind::Overlay,
        fresh_disk: None,
        network: false,
        warm_paths: vec![],
    }
}

pub(crate) fn set_up() -> SetUp {
    SetUp {
        workspace_disk: Some("workspace".to_owned()),
        workspace: WorkspaceMount::Absent,
        hostname: "m1".to_owned(),
        machine_id: "0".repeat(32),
        clock_unix_ns: 1,
        entropy: vec![7; 64],
        network: None,
    }
}

/// A request for these words, in `/`.
pub(crate) fn words(argv: &[&str]) -> ExecRequest {
    ExecRequest {
        program: Program::Argv(argv.iter().map(|word| (*word).into()).collect()),
        env: BTreeMap::new(),
        cwd: "/".into(),
        stdin: false,
        terminal: None,
        timeout_ms: None,
        whole: false,
    }
}

/// A request for a line of shell.
pub(crate) fn shell(line: &str) -> ExecRequest {
    words(&["sh", "-c", line])
}

/// As [`shell`], on a terminal.
pub(crate) fn on_terminal(line: &str) -> ExecRequest {
    ExecRequest { terminal: Some(TerminalSize { rows: 30, cols: 100 }), stdin: true, ..shell(line) }
}
