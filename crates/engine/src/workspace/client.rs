//! A client of a workspace's supervisor: one question, one connection.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pyro_wire::credit::SendCredit;
use pyro_wire::exec::ExecRequest;
use pyro_wire::frame::DATA_BYTES_MAX;
use pyro_wire::tool::FAULT_BYTES_MAX;
use pyro_wire::{Exit, Fault, Stream, Tool};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Mutex, Notify, mpsc};

use super::command::{CommandControl, CommandEnd, CommandOutcome, CommandRequest, CommandStreams, to_wire, write};
use super::tool::{ToolError, ToolHost, ToolInput, ToolOutput, conclude};
use crate::store::home::WorkspaceDir;
use crate::store::workspace_record::{CommandEnded, Origin};
use crate::supervisor::protocol::{
    Ask, ClientMessage, ExecAsk, LiveStatus, PROTOCOL_VERSION, Refusal, RefusalKind, ServerMessage, Steer,
};
use crate::supervisor::socket::{FrameReader, FrameWriter, Received, connect};

/// How much longer than the command's own limit a client waits for the guest to enforce it.
const TIMEOUT_SLACK: Duration = Duration::from_secs(10);

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
        source: std::io::Error,
    },
}

/// How a command is run in a workspace.
#[derive(Debug, Clone, Default)]
pub struct ExecOptions {
    /// Whether it goes on when the caller leaves.
    pub stays: bool,
    /// Who asks.
    pub by: Origin,
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
    id: String,
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
        let (mut reader, _writer) = self.open(ask).await?;
        self.answer(&mut reader).await
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
        let ExecOptions { stays, by } = options;
        let (mut reader, writer) = self.open(Ask::Exec(Box::new(ExecAsk { request, stays, by }))).await?;
        let ServerMessage::Started { sequence } = self.answer(&mut reader).await? else {
            return Err(self.nonsense());
        };
        let input = CommandInput { writer: Arc::new(Mutex::new(writer)), credit: Arc::default() };
        Ok(RunningCommand { sequence, id: self.id.clone(), reader, input })
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
        let mut running = self.start_command(request, streams.stdin.is_some(), options).await?;
        begun(running.sequence.unwrap_or(0));
        let input = running.input();
        let CommandStreams { stdin, stdout, stderr, control } = streams;
        tokio::select! {
            end = pump_output(&mut running, stdout, stderr) => end,
            error = pump_stdin(stdin, input.clone()) => Err(error),
            end = obey(control, &input) => Ok(CommandOutcome { end, duration_ms: elapsed_ms(began) }),
            () = tokio::time::sleep(timeout.saturating_add(TIMEOUT_SLACK)) => {
                Err(ClientError::Unresponsive { timeout_seconds: timeout.as_secs() })
            }
        }
    }

    async fn open(&self, ask: Ask) -> Result<(FrameReader, FrameWriter), ClientError> {
        let gone = |_| ClientError::Gone { id: self.id.clone() };
        let (reader, mut writer) = connect(&self.dir.socket()).await.map_err(gone)?;
        writer.send(&ClientMessage::Ask { protocol: PROTOCOL_VERSION, ask }).await.map_err(gone)?;
        Ok((reader, writer))
    }

    async fn answer(&self, reader: &mut FrameReader) -> Result<ServerMessage, ClientError> {
        match reader.next().await {
            Ok(Received::Message(ServerMessage::Refused { refusal })) => Err(ClientError::Refused(refusal)),
            Ok(Received::Message(message)) => Ok(message),
            Ok(Received::End) => Err(ClientError::Gone { id: self.id.clone() }),
            Ok(Received::Data(..)) | Err(_) => Err(self.nonsense()),
        }
    }

    fn nonsense(&self) -> ClientError {
        ClientError::Nonsense { id: self.id.clone() }
    }
}

impl ToolHost for Connection {
    async fn call(&self, tool: Tool, input: Option<ToolInput<'_>>, output: ToolOutput<'_>) -> Result<(), ToolError> {
        let request = super::tool::request(tool, input.is_some(), None);
        let mut running = self.start(request, ExecOptions::default()).await.map_err(tool_error)?;
        let sending = running.input();
        let send = async {
            let Some(input) = input else { return std::future::pending().await };
            let mut buffer = vec![0; STDIN_BYTES];
            loop {
                let count = input.read(&mut buffer).await.map_err(|source| ToolError::Input { source })?;
                // A connection that is gone is told by the receiving half.
                let sent = if count == 0 { sending.close().await } else { sending.write(&buffer[..count]).await };
                if count == 0 || sent.is_err() {
                    return std::future::pending::<Result<Infallible, ToolError>>().await;
                }
            }
        };
        let receive = async {
            let mut complaint = Vec::new();
            loop {
                match running.next().await.map_err(tool_error)? {
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
fn tool_error(error: ClientError) -> ToolError {
    match error {
        ClientError::Refused(Refusal { kind: RefusalKind::Fault(kind), message }) => {
            ToolError::Fault(Fault::new(kind, message))
        }
        error => ToolError::Lost { source: std::io::Error::other(error) },
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
                Ok(Received::End) => return Err(ClientError::Gone { id: self.id.clone() }),
                Ok(Received::Message(_)) | Err(_) => return Err(ClientError::Nonsense { id: self.id.clone() }),
            }
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
    pub async fn write(&self, bytes: &[u8]) -> std::io::Result<()> {
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
    pub async fn close(&self) -> std::io::Result<()> {
        self.writer.lock().await.data(Stream::Stdin, Vec::new()).await
    }

    /// Steers the command.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn steer(&self, steer: Steer) -> std::io::Result<()> {
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
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
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
