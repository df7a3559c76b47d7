//! A client of a workspace's supervisor: one question, one connection.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pyro_wire::credit::SendCredit;
use pyro_wire::exec::ExecRequest;
use pyro_wire::frame::DATA_BYTES_MAX;
use pyro_wire::tool::FAULT_BYTES_MAX;
use pyro_wire::{Exit, Fault, FaultKind, Stream, Tool};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Mutex, Notify, mpsc};

use super::command::{CommandControl, CommandEnd, CommandOutcome, CommandRequest, CommandStreams, to_wire, write};
use super::directory::mend;
use super::looker::Looker;
use super::tool::{ToolError, ToolHost, ToolInput, ToolOutput, conclude};
use crate::store::crossing_record::Crossing;
use crate::store::crossings::Crossings;
use crate::store::home::WorkspaceDir;
use crate::store::workspace_record::{CommandEnded, Origin, StateRecord, WorkspacePhase};
use crate::supervisor::notes::read_json;
use crate::supervisor::protocol::{
    Ask, ClientMessage, ExecAsk, LiveStatus, PROTOCOL_VERSION, Refusal, RefusalKind, ServerMessage, Steer,
};
use crate::supervisor::shell_protocol::ShellAsk;
use crate::supervisor::socket::{FrameReader, FrameWriter, Received, connect};

/// How much longer than the command's own limit a client waits for the guest to enforce it.
const TIMEOUT_SLACK: Duration = Duration::from_secs(10);

/// How long a supervisor may take for what it does at once. While it replaces its machine it does nothing else, hence the
/// patience.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// How long it may take for what starts or ends a machine: more than a cold boot on a slow host.
const MACHINE_LIMIT: Duration = Duration::from_secs(300);

/// How long a tool may neither take what it is sent nor answer. What a guest has to look through may be large and its
/// processor emulated; who cannot wait has a shorter limit of their own.
const TOOL_SILENCE_LIMIT: Duration = Duration::from_secs(300);

/// Bytes of standard input read at a time.
const STDIN_BYTES: usize = DATA_BYTES_MAX;

/// The way to a workspace that runs.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Its id.
    pub id: String,
    /// Its files.
    pub dir: WorkspaceDir,
}

/// Why a workspace's supervisor did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It says why not.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Nobody answers at its socket.
    #[error("the supervisor of workspace {id} does not answer")]
    Gone {
        /// The workspace.
        id: String,
        /// What became of it, as far as that is known; or what was seen of it.
        #[source]
        source: io::Error,
    },
    /// What it is asked is longer than a message.
    #[error("this is longer than what a workspace can be asked at once")]
    TooLong,
    /// It is there, but says nothing.
    #[error("the supervisor of workspace {id} has not answered for {limit_seconds} s")]
    Silent {
        /// The workspace.
        id: String,
        /// How long it was waited for.
        limit_seconds: u64,
    },
    /// It answered something that is no answer.
    #[error("the supervisor of workspace {id} gave an answer that makes no sense")]
    Nonsense {
        /// The workspace.
        id: String,
    },
    /// The guest did not enforce the time limit.
    #[error("the guest stopped answering: the command's limit of {timeout_seconds} s passed without a word")]
    Unresponsive {
        /// The limit.
        timeout_seconds: u64,
    },
    /// The caller's streams failed.
    #[error("cannot pass the command's {stream} on")]
    Stream {
        /// Which stream.
        stream: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// How a command is run in a workspace.
#[derive(Debug, Clone, Default)]
pub struct ExecOptions {
    /// Whether it goes on when the caller leaves.
    pub stays: bool,
    /// Who asks.
    pub by: Origin,
    /// Secrets that it gets, each by the name of the variable that is to hold it.
    pub secret_env: BTreeMap<String, String>,
}

/// What a command of a workspace does, in order. The last one is [`RunEvent::Exited`].
#[derive(Debug)]
pub enum RunEvent {
    /// It printed.
    Output(Stream, Vec<u8>),
    /// It ended.
    Exited(CommandOutcome),
}

/// A command that runs. Dropping it ends the connection: the command is killed, unless it stays.
#[derive(Debug)]
pub struct RunningCommand {
    /// Its number in the workspace; a tool has none.
    pub sequence: Option<u64>,
    connection: Connection,
    reader: FrameReader,
    input: CommandInput,
}

/// The way to send a running command its input and to steer it.
#[derive(Debug, Clone)]
pub struct CommandInput {
    writer: Arc<Mutex<FrameWriter>>,
    credit: Arc<Credit>,
}

#[derive(Debug, Default)]
struct Credit {
    left: std::sync::Mutex<SendCredit>,
    changed: Notify,
}

impl Connection {
    /// Asks for something that is answered by one message.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn ask(&self, ask: Ask) -> Result<ServerMessage, ClientError> {
        let limit = limit(&ask);
        self.ask_within(ask, limit).await
    }

    async fn ask_within(&self, ask: Ask, limit: Option<Duration>) -> Result<ServerMessage, ClientError> {
        let asked = async {
            let (mut reader, _writer) = self.open(ask).await?;
            self.answer(&mut reader).await
        };
        match limit {
            Some(limit) => self.within(limit, asked).await,
            None => asked.await,
        }
    }

    /// What comes of `asked`, if it comes in time.
    async fn within<T>(
        &self,
        limit: Duration,
        asked: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let silent = || ClientError::Silent { id: self.id.clone(), limit_seconds: limit.as_secs() };
        tokio::time::timeout(limit, asked).await.map_err(|_| silent())?
    }

    /// What is going on.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn live_status(&self) -> Result<LiveStatus, ClientError> {
        match self.ask(Ask::Status).await? {
            ServerMessage::Status { status } => Ok(status),
            _ => Err(self.nonsense()),
        }
    }

    /// Waits for the end of a command.
    ///
    /// # Errors
    /// See [`ClientError`]; there may never have been such a command.
    pub async fn wait(&self, sequence: u64) -> Result<CommandEnded, ClientError> {
        match self.ask(Ask::Wait { sequence }).await? {
            ServerMessage::Ended { ended } => Ok(ended),
            _ => Err(self.nonsense()),
        }
    }

    /// Starts a command.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn start(&self, request: ExecRequest, options: ExecOptions) -> Result<RunningCommand, ClientError> {
        let ExecOptions { stays, by, secret_env } = options;
        self.start_asked(Ask::Exec(Box::new(ExecAsk { request, stays, by, secret_env }))).await
    }

    /// Asks for something that is answered as a command is.
    pub(super) async fn start_asked(&self, ask: Ask) -> Result<RunningCommand, ClientError> {
        let asked = async {
            let (mut reader, writer) = self.open(ask).await?;
            let answer = self.answer(&mut reader).await?;
            Ok((reader, writer, answer))
        };
        let (reader, writer, ServerMessage::Started { sequence }) = self.within(ANSWER_LIMIT, asked).await? else {
            return Err(self.nonsense());
        };
        let input = CommandInput { writer: Arc::new(Mutex::new(writer)), credit: Arc::default() };
        Ok(RunningCommand { sequence, connection: self.clone(), reader, input })
    }

    /// Starts a command that gets standard input if `stdin`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn start_command(
        &self,
        request: CommandRequest,
        stdin: bool,
        options: ExecOptions,
    ) -> Result<RunningCommand, ClientError> {
        self.start(to_wire(request, stdin), options).await
    }

    /// Runs a command to its end, with the caller's streams; `begun` is told its number when it runs.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn exec(
        &self,
        request: CommandRequest,
        options: ExecOptions,
        streams: CommandStreams<'_>,
        begun: impl FnOnce(u64),
    ) -> Result<CommandOutcome, ClientError> {
        let timeout = request.timeout;
        let began = Instant::now();
        let running = self.start_command(request, streams.stdin.is_some(), options).await?;
        begun(running.sequence.unwrap_or(0));
        tokio::select! {
            outcome = running.pass(streams) => {
                let CommandOutcome { end, duration_ms } = outcome?;
                let is_known = matches!(end, CommandEnd::Exited(_));
                Ok(CommandOutcome { end, duration_ms: if is_known { duration_ms } else { elapsed_ms(began) } })
            }
            () = tokio::time::sleep(timeout.saturating_add(TIMEOUT_SLACK)) => {
                Err(ClientError::Unresponsive { timeout_seconds: timeout.as_secs() })
            }
        }
    }

    pub(super) async fn open(&self, ask: Ask) -> Result<(FrameReader, FrameWriter), ClientError> {
        let gone = |source| self.gone(source);
        let (reader, mut writer) = connect(&self.dir.socket()).await.map_err(gone)?;
        match writer.send(&ClientMessage::Ask { protocol: PROTOCOL_VERSION, ask }).await {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Err(ClientError::TooLong),
            sent => sent.map_err(gone).map(|()| (reader, writer)),
        }
    }

    async fn answer(&self, reader: &mut FrameReader) -> Result<ServerMessage, ClientError> {
        match reader.next().await {
            Ok(Received::Message(ServerMessage::Refused { refusal })) => Err(ClientError::Refused(refusal)),
            Ok(Received::Message(message)) => Ok(message),
            Ok(Received::End) => Err(self.gone(hung_up())),
            Ok(Received::Data(..)) | Err(_) => Err(self.nonsense()),
        }
    }

    /// That nobody is there, and why: what is written down of the workspace by now, or else what was `seen`.
    fn gone(&self, seen: io::Error) -> ClientError {
        let became = match read_json::<StateRecord>(&self.dir.state()) {
            Ok(mut state) => {
                if state.phase == WorkspacePhase::Running {
                    mend(&self.dir, &mut state);
                }
                (state.phase != WorkspacePhase::Running)
                    .then(|| state.reason.unwrap_or_else(|| "it was stopped".to_owned()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some("it was deleted".to_owned()),
            Err(_) => None,
        };
        ClientError::Gone { id: self.id.clone(), source: became.map_or(seen, io::Error::other) }
    }

    pub(super) fn nonsense(&self) -> ClientError {
        ClientError::Nonsense { id: self.id.clone() }
    }
}

fn hung_up() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "it hung up")
}

/// How long the answer to a question is waited for. A command ends when it ends: its own limit holds, in the guest.
fn limit(ask: &Ask) -> Option<Duration> {
    match ask {
        // What is looked through is waited for piece by piece.
        Ask::Wait { .. } | Ask::Look { .. } => None,
        Ask::Reset { .. } | Ask::TakeSnapshot { .. } | Ask::Stop { .. } | Ask::Discard => Some(MACHINE_LIMIT),
        Ask::Shell(ShellAsk::Watch { limit_ms, .. }) => Some(ANSWER_LIMIT + Duration::from_millis(*limit_ms)),
        Ask::ServiceStart(ask) => Some(ANSWER_LIMIT.saturating_add(Duration::from_millis(ask.wait_ms))),
        Ask::ServiceRestart { wait_ms, .. } => Some(ANSWER_LIMIT.saturating_add(Duration::from_millis(*wait_ms))),
        Ask::Exec(_)
        | Ask::Shell(_)
        | Ask::Kill { .. }
        | Ask::Status
        | Ask::ServiceStop { .. }
        | Ask::Services
        | Ask::PortAdd(_)
        | Ask::PortRemove { .. }
        | Ask::Ports
        | Ask::ForgetSnapshot { .. }
        | Ask::Reread
        | Ask::ChangesSeen { .. } => Some(ANSWER_LIMIT),
    }
}

impl ToolHost for Connection {
    async fn call(&self, tool: Tool, input: Option<ToolInput<'_>>, output: ToolOutput<'_>) -> Result<(), ToolError> {
        let request = super::tool::request(tool, input.is_some(), None);
        let running = self.start(request, ExecOptions::default()).await.map_err(tool_error)?;
        running.finish_tool(input, output, TOOL_SILENCE_LIMIT).await
    }

    async fn looker(&self) -> Result<Option<Looker>, ToolError> {
        Looker::open(self).await.map_err(tool_error)
    }

    async fn cross(&self, mut crossing: Crossing) -> Result<(), ToolError> {
        if let Some(mut looker) = self.looker().await? {
            for word in crossing.words() {
                *word = String::from_utf8_lossy(&looker.cut(word.as_bytes()).await?).into_owned();
            }
        }
        let written = Crossings::of(&self.dir).append(crossing);
        written.map(drop).map_err(|source| ToolError::Record { source })
    }
}

impl RunningCommand {
    /// Goes on with the command as a tool, to its end. One that for longer than `silence` neither takes its input nor
    /// answers is given up; a slow source of the input is none of its faults.
    async fn finish_tool(
        mut self,
        input: Option<ToolInput<'_>>,
        output: ToolOutput<'_>,
        silence: Duration,
    ) -> Result<(), ToolError> {
        let silent = || ToolError::Silent { limit_seconds: silence.as_secs() };
        let sending = self.input();
        let input_over = AtomicBool::new(input.is_none());
        let send = async {
            let Some(input) = input else { return std::future::pending().await };
            let mut buffer = vec![0; STDIN_BYTES];
            loop {
                let count = input.read(&mut buffer).await.map_err(|source| ToolError::Input { source })?;
                // A connection that is gone is told by the receiving half.
                let send =
                    async { if count == 0 { sending.close().await } else { sending.write(&buffer[..count]).await } };
                let sent = tokio::time::timeout(silence, send).await.map_err(|_| silent())?;
                input_over.store(count == 0, Ordering::Relaxed);
                if count == 0 || sent.is_err() {
                    return std::future::pending::<Result<Infallible, ToolError>>().await;
                }
            }
        };
        let receive = async {
            let mut complaint = Vec::new();
            loop {
                // Before, it is the sending half that sees whether the tool takes anything.
                let counts = input_over.load(Ordering::Relaxed);
                let event = match tokio::time::timeout(silence, self.next()).await {
                    Ok(event) => event.map_err(tool_error)?,
                    Err(_) if counts => return Err(silent()),
                    Err(_) => continue,
                };
                match event {
                    RunEvent::Output(Stream::Stderr, bytes) => {
                        let room = FAULT_BYTES_MAX.saturating_sub(complaint.len());
                        complaint.extend_from_slice(&bytes[..bytes.len().min(room)]);
                    }
                    RunEvent::Output(_, bytes) => {
                        output.write_all(&bytes).await.map_err(|source| ToolError::Output { source })?;
                    }
                    RunEvent::Exited(CommandOutcome { end: CommandEnd::Exited(exit), .. }) => {
                        return conclude(exit, &complaint);
                    }
                    RunEvent::Exited(_) => return Err(ToolError::Ended { exit: Exit::Killed }),
                }
            }
        };
        tokio::select! {
            received = receive => received,
            Err(error) = send => Err(error),
        }
    }
}

/// What a client's failure means to whoever calls a tool.
pub(super) fn tool_error(error: ClientError) -> ToolError {
    match error {
        ClientError::Refused(Refusal { kind: RefusalKind::Fault(kind), message }) => {
            ToolError::Fault(Fault::new(kind, message))
        }
        ClientError::TooLong => ToolError::Fault(Fault::new(FaultKind::InvalidArgument, error.to_string())),
        error => ToolError::Lost { source: io::Error::other(error) },
    }
}

impl RunningCommand {
    /// What it does next. Cancel-safe.
    ///
    /// # Errors
    /// The machine or its supervisor was lost; the command with it.
    pub async fn next(&mut self) -> Result<RunEvent, ClientError> {
        loop {
            match self.reader.next().await {
                Ok(Received::Data(stream, bytes)) => return Ok(RunEvent::Output(stream, bytes)),
                Ok(Received::Message(ServerMessage::Credit { bytes })) => self.input.credit.give(bytes),
                Ok(Received::Message(ServerMessage::Exited { exit, duration_ms })) => {
                    return Ok(RunEvent::Exited(CommandOutcome { end: CommandEnd::Exited(exit), duration_ms }));
                }
                Ok(Received::Message(ServerMessage::Refused { refusal })) => return Err(refusal.into()),
                Ok(Received::End) => return Err(self.connection.gone(hung_up())),
                Ok(Received::Message(_)) | Err(_) => return Err(self.connection.nonsense()),
            }
        }
    }

    /// Passes its bytes to the caller's streams and back, to its end or until the caller wants that.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn pass(mut self, streams: CommandStreams<'_>) -> Result<CommandOutcome, ClientError> {
        let input = self.input();
        let CommandStreams { stdin, stdout, stderr, control } = streams;
        tokio::select! {
            end = pump_output(&mut self, stdout, stderr) => end,
            error = pump_stdin(stdin, input.clone()) => Err(error),
            end = obey(control, &input) => Ok(CommandOutcome { end, duration_ms: 0 }),
        }
    }

    /// The way to send it input and to steer it.
    #[must_use]
    pub fn input(&self) -> CommandInput {
        self.input.clone()
    }
}

impl CommandInput {
    /// Sends standard input, waiting for the command to take what was sent before. Something must call
    /// [`RunningCommand::next`] meanwhile.
    ///
    /// # Errors
    /// The connection is gone, and its reader says why.
    pub async fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let count = self.credit.take(rest.len().min(DATA_BYTES_MAX)).await;
            let (now, later) = rest.split_at(count);
            self.writer.lock().await.data(Stream::Stdin, now.to_vec()).await?;
            rest = later;
        }
        Ok(())
    }

    /// Ends standard input.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn close(&self) -> io::Result<()> {
        self.writer.lock().await.data(Stream::Stdin, Vec::new()).await
    }

    /// Steers the command.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn steer(&self, steer: Steer) -> io::Result<()> {
        self.writer.lock().await.send(&ClientMessage::Steer { steer }).await
    }
}

impl Credit {
    fn give(&self, bytes: u32) {
        // More credit than a window is a mistake of the other side that harms only itself.
        let _ = self.left().give(bytes);
        self.changed.notify_one();
    }

    async fn take(&self, wanted: usize) -> usize {
        loop {
            {
                let mut left = self.left();
                let count = wanted.min(left.left_bytes());
                if count > 0 {
                    left.take(count);
                    return count;
                }
            }
            self.changed.notified().await;
        }
    }

    fn left(&self) -> std::sync::MutexGuard<'_, SendCredit> {
        // Every critical section only moves numbers.
        self.left.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

async fn pump_output(
    running: &mut RunningCommand,
    stdout: &mut (dyn AsyncWrite + Unpin + Send),
    stderr: &mut (dyn AsyncWrite + Unpin + Send),
) -> Result<CommandOutcome, ClientError> {
    loop {
        let (stream, written) = match running.next().await? {
            RunEvent::Exited(outcome) => return Ok(outcome),
            RunEvent::Output(Stream::Stderr, bytes) => ("standard error", write(stderr, &bytes).await),
            RunEvent::Output(_, bytes) => ("standard output", write(stdout, &bytes).await),
        };
        match written {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Ok(CommandOutcome { end: CommandEnd::OutputClosed, duration_ms: 0 });
            }
            Err(source) => return Err(ClientError::Stream { stream, source }),
        }
    }
}

/// Passes standard input on; comes back only with an error of the caller's stream.
async fn pump_stdin(source: Option<&mut (dyn AsyncRead + Unpin + Send)>, input: CommandInput) -> ClientError {
    if let Some(source) = source {
        let mut buffer = vec![0; STDIN_BYTES];
        loop {
            let count = match source.read(&mut buffer).await {
                Ok(count) => count,
                Err(source) => return ClientError::Stream { stream: "standard input", source },
            };
            // A connection that is gone is told by the output's pump.
            let sent = if count == 0 { input.close().await } else { input.write(&buffer[..count]).await };
            if count == 0 || sent.is_err() {
                break;
            }
        }
    }
    std::future::pending().await
}

/// Carries out what the caller wants until that is the end of the command.
async fn obey(mut control: mpsc::Receiver<CommandControl>, input: &CommandInput) -> CommandEnd {
    while let Some(wanted) = control.recv().await {
        // A connection that is gone is told by the output's pump.
        match wanted {
            CommandControl::Resize(size) => drop(input.steer(Steer::Resize(size)).await),
            CommandControl::Signal(signal) => drop(input.steer(Steer::Signal(signal)).await),
            CommandControl::Interrupt => {
                drop(input.steer(Steer::Kill).await);
                return CommandEnd::Interrupted;
            }
        }
    }
    std::future::pending().await
}

fn elapsed_ms(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pyro_wire::files::List;
    use tokio::io::AsyncReadExt;
    use tokio::net::UnixListener;

    use super::{Ask, ClientError, Connection, ExecOptions, Tool, ToolError, limit};
    use crate::store::home::Home;
    use crate::store::lock::Lock;
    use crate::supervisor::protocol::{ClientMessage, ServerMessage};
    use crate::supervisor::socket::{Received, listen, split};

    const SOON: Duration = Duration::from_millis(50);

    fn connection(home: &tempfile::TempDir) -> (Connection, UnixListener) {
        let dir = Home::new(&home.path().join("cache"), &home.path().join("state")).workspace("0123456789ab");
        std::fs::create_dir_all(dir.path()).unwrap();
        let listener = listen(&dir.socket()).unwrap();
        (Connection { id: "0123456789ab".to_owned(), dir }, listener)
    }

    #[tokio::test]
    async fn a_supervisor_that_says_nothing_is_not_waited_for_for_ever() {
        let home = tempfile::tempdir().unwrap();
        // Nobody accepts: the connection waits in the kernel, as it does when the supervisor is stopped.
        let (connection, _listener) = connection(&home);
        let told = connection.ask_within(Ask::Status, Some(SOON)).await.unwrap_err();
        assert!(matches!(told, ClientError::Silent { .. }), "{told}");
        let reset = Ask::Reset { snapshot: String::new() };
        for ask in [Ask::Status, reset, Ask::Discard, Ask::Kill { sequence: 1 }] {
            assert!(limit(&ask).is_some(), "{ask:?} may hang");
        }
    }

    #[tokio::test]
    async fn what_became_of_a_supervisor_that_is_gone_is_told() {
        let home = tempfile::tempdir().unwrap();
        let (connection, listener) = connection(&home);
        let told = async || {
            let told = connection.ask(Ask::Status).await.unwrap_err();
            std::error::Error::source(&told).map(ToString::to_string).unwrap_or_default()
        };
        let state = |phase: &str| {
            let reason = if phase == "failed" { r#","reason":"its machine was lost""# } else { "" };
            let disk = r#"{"layers":[{"number":1,"below":0}],"live":1,"next":2}"#;
            let text = format!(
                r#"{{"version":1,"phase":"{phase}","since_seconds":1{reason},"used_at_seconds":1,"reset_count":0,"disk":{disk}}}"#
            );
            std::fs::write(connection.dir.state(), text).unwrap();
        };
        assert_eq!(told_by(listener, &told).await, "it was deleted");
        // Somebody holds its life, and is just not to be reached.
        state("running");
        let life = Lock::try_take(&connection.dir.life_lock()).unwrap();
        assert!(told().await.contains("refused"), "{}", told().await);
        drop(life);
        assert_eq!(told().await, "its supervisor was killed, or the host was restarted");
        state("failed");
        assert_eq!(told().await, "its machine was lost");
    }

    /// What a client is told whose question is heard by somebody who hangs up.
    async fn told_by(listener: UnixListener, told: &impl AsyncFn() -> String) -> String {
        let hang_up = async {
            let (mut reader, _writer) = split(listener.accept().await.unwrap().0);
            drop(reader.next::<ClientMessage>().await);
            drop(listener);
        };
        tokio::join!(told(), hang_up).0
    }

    /// Starts the tool at a supervisor that says it runs, and then takes what comes or not.
    async fn as_tool(takes: bool, input: Option<&[u8]>) -> Result<(), ToolError> {
        let home = tempfile::tempdir().unwrap();
        let (connection, listener) = connection(&home);
        let supervisor = tokio::spawn(async move {
            let (mut reader, mut writer) = split(listener.accept().await.unwrap().0);
            drop(reader.next::<ClientMessage>().await);
            writer.send(&ServerMessage::Started { sequence: None }).await.unwrap();
            if takes {
                while matches!(reader.next::<ClientMessage>().await, Ok(Received::Data(..))) {}
            }
            std::future::pending::<()>().await;
        });
        let tool = Tool::List(List { path: "/".into(), recursive: false, entries_max: 1 });
        let request = crate::workspace::tool::request(tool, input.is_some(), None);
        let running = connection.start(request, ExecOptions::default()).await.unwrap();
        let mut input = input;
        let input = input.as_mut().map(|input| input as _);
        let end = running.finish_tool(input, &mut tokio::io::sink(), SOON).await;
        supervisor.abort();
        end
    }

    #[tokio::test]
    async fn a_tool_that_says_nothing_is_given_up() {
        for (takes, input) in [(false, None), (true, Some(&b"text"[..])), (false, Some(&[0; 1 << 22][..]))] {
            let told = as_tool(takes, input).await.unwrap_err();
            assert!(matches!(told, ToolError::Silent { .. }), "{takes}: {told}");
        }
    }

    #[tokio::test]
    async fn a_slow_source_is_waited_for() {
        let home = tempfile::tempdir().unwrap();
        let (connection, listener) = connection(&home);
        let supervisor = tokio::spawn(async move {
            let (mut reader, mut writer) = split(listener.accept().await.unwrap().0);
            drop(reader.next::<ClientMessage>().await);
            writer.send(&ServerMessage::Started { sequence: None }).await.unwrap();
            while !matches!(reader.next::<ClientMessage>().await, Ok(Received::Data(_, bytes)) if bytes.is_empty()) {}
            writer.send(&ServerMessage::Exited { exit: pyro_wire::Exit::Code(0), duration_ms: 1 }).await.unwrap();
        });
        let tool = Tool::List(List { path: "/".into(), recursive: false, entries_max: 1 });
        let running =
            connection.start(crate::workspace::tool::request(tool, true, None), ExecOptions::default()).await.unwrap();
        let (mut source, mut slow) = tokio::io::duplex(16);
        tokio::spawn(async move {
            tokio::time::sleep(SOON * 4).await;
            tokio::io::AsyncWriteExt::write_all(&mut slow, b"late").await
        });
        let mut source = (&mut source).take(4);
        running.finish_tool(Some(&mut source), &mut tokio::io::sink(), SOON).await.unwrap();
        supervisor.await.unwrap();
    }
}
