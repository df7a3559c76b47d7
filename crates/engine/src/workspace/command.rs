//! One command in a machine that takes commands: its streams passed on live, its time limited, its end told.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use pyro_wire::Stream;
use pyro_wire::exec::{ExecRequest, Program, Word};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

pub use pyro_wire::{Exit, Fault, FaultKind, TerminalSize};

use crate::supervisor::boot::Ready;
use crate::supervisor::guest_link::{ExecEvent, ExecHandle, ExecStdin, LinkError, RunningExec};

/// How much longer than the command's own limit the host waits for the guest to enforce it.
const TIMEOUT_SLACK: Duration = Duration::from_secs(10);

/// Bytes of standard input read at a time.
const STDIN_BYTES: usize = 64 * 1024;

/// A command to run.
#[derive(Debug, Clone)]
pub struct CommandRequest {
    /// Program and arguments, at least one word, no NUL bytes.
    pub argv: Vec<Vec<u8>>,
    /// Variables added to the guest's small default environment.
    pub env: BTreeMap<String, Vec<u8>>,
    /// Absolute working directory in the guest.
    pub cwd: Vec<u8>,
    /// The command, with everything it started, is killed after this long.
    pub timeout: Duration,
    /// Run on a terminal of this size.
    pub terminal: Option<TerminalSize>,
}

/// Where a command's bytes come from and go to.
pub struct CommandStreams<'a> {
    /// Standard input; without it the command gets `/dev/null`.
    pub stdin: Option<&'a mut (dyn AsyncRead + Unpin + Send)>,
    /// Standard output, and all output of a terminal.
    pub stdout: &'a mut (dyn AsyncWrite + Unpin + Send),
    /// Standard error.
    pub stderr: &'a mut (dyn AsyncWrite + Unpin + Send),
    /// What the caller wants of the running command. Closing it means nothing more is wanted.
    pub control: mpsc::Receiver<CommandControl>,
}

/// What a caller can want of a running command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandControl {
    /// The terminal has a new size.
    Resize(TerminalSize),
    /// Send this signal to the command's foreground process group.
    Signal(u8),
    /// End the command and its machine at once.
    Interrupt,
}

/// How a command came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandEnd {
    /// By itself, by a signal, or at its time limit.
    Exited(Exit),
    /// The caller asked for it.
    Interrupted,
    /// Nobody reads its output any more.
    OutputClosed,
}

/// A command that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandOutcome {
    /// How it ended.
    pub end: CommandEnd,
    /// How long it ran, in milliseconds.
    pub duration_ms: u64,
}

/// Why a command has no outcome.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The guest refused to start it.
    #[error("cannot start the command: {0}")]
    NotStarted(#[source] Fault),
    /// The machine or its agent went away under it.
    #[error("the machine was lost while the command ran{}", console_clause(console_tail))]
    MachineLost {
        /// What the link saw.
        #[source]
        source: LinkError,
        /// The last lines of the guest's console, cleaned for a terminal.
        console_tail: String,
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

/// Runs one command in a machine that takes commands.
///
/// # Errors
/// See [`CommandError`]. Whatever is returned, the caller still owns the machine.
pub async fn run_command(
    ready: &mut Ready,
    request: CommandRequest,
    streams: CommandStreams<'_>,
) -> Result<CommandOutcome, CommandError> {
    let timeout = request.timeout;
    let began = Instant::now();
    let exec_request = to_wire(request, streams.stdin.is_some());
    let mut running = match ready.link.exec(exec_request).await {
        Ok(running) => running,
        Err(LinkError::Fault(fault)) => return Err(CommandError::NotStarted(fault)),
        Err(source) => return Err(lost(ready, source)),
    };
    let handle = running.handle();
    let stdin = running.take_stdin();
    let CommandStreams { stdin: source, stdout, stderr, control } = streams;

    let result = tokio::select! {
        end = pump_output(&mut running, stdout, stderr) => end,
        error = pump_stdin(source, stdin) => Err(error),
        end = obey(control, &handle) => Ok(CommandOutcome { end, duration_ms: elapsed_ms(began) }),
        () = tokio::time::sleep(timeout.saturating_add(TIMEOUT_SLACK)) => {
            Err(PumpError::Command(CommandError::Unresponsive { timeout_seconds: timeout.as_secs() }))
        }
    };
    match result {
        Ok(outcome) => Ok(outcome),
        Err(PumpError::Link(source)) => Err(lost(ready, source)),
        Err(PumpError::Command(error)) => Err(error),
    }
}

enum PumpError {
    Link(LinkError),
    Command(CommandError),
}

async fn pump_output(
    running: &mut RunningExec,
    stdout: &mut (dyn AsyncWrite + Unpin + Send),
    stderr: &mut (dyn AsyncWrite + Unpin + Send),
) -> Result<CommandOutcome, PumpError> {
    while let Some(event) = running.next().await {
        let (stream, written) = match event {
            ExecEvent::Exited { exit, duration_ms } => {
                return Ok(CommandOutcome { end: CommandEnd::Exited(exit), duration_ms });
            }
            ExecEvent::Output(Stream::Stderr, bytes) => ("standard error", write(stderr, &bytes).await),
            ExecEvent::Output(_, bytes) => ("standard output", write(stdout, &bytes).await),
        };
        match written {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                return Ok(CommandOutcome { end: CommandEnd::OutputClosed, duration_ms: 0 });
            }
            Err(source) => return Err(PumpError::Command(CommandError::Stream { stream, source })),
        }
    }
    Err(PumpError::Link(running.lost()))
}

/// Writes a piece of output on at once.
pub(super) async fn write(target: &mut (dyn AsyncWrite + Unpin + Send), bytes: &[u8]) -> std::io::Result<()> {
    target.write_all(bytes).await?;
    target.flush().await
}

/// Passes standard input on; comes back only with an error.
async fn pump_stdin(source: Option<&mut (dyn AsyncRead + Unpin + Send)>, stdin: Option<ExecStdin>) -> PumpError {
    if let (Some(source), Some(stdin)) = (source, stdin)
        && let Err(error) = copy_stdin(source, stdin).await
    {
        return error;
    }
    std::future::pending().await
}

async fn copy_stdin(source: &mut (dyn AsyncRead + Unpin + Send), mut stdin: ExecStdin) -> Result<(), PumpError> {
    let mut buffer = vec![0; STDIN_BYTES];
    loop {
        let count = source
            .read(&mut buffer)
            .await
            .map_err(|source| PumpError::Command(CommandError::Stream { stream: "standard input", source }))?;
        if count == 0 {
            return stdin.close().await.map_err(PumpError::Link);
        }
        stdin.write(&buffer[..count]).await.map_err(PumpError::Link)?;
    }
}

/// Carries out what the caller wants until that is the end of the command.
async fn obey(mut control: mpsc::Receiver<CommandControl>, handle: &ExecHandle) -> CommandEnd {
    while let Some(wanted) = control.recv().await {
        // A session that ended is told by the output's pump.
        match wanted {
            CommandControl::Resize(size) => drop(handle.resize(size).await),
            CommandControl::Signal(signal) => drop(handle.signal(signal).await),
            CommandControl::Interrupt => return CommandEnd::Interrupted,
        }
    }
    std::future::pending().await
}

pub(super) fn to_wire(request: CommandRequest, stdin: bool) -> ExecRequest {
    ExecRequest {
        program: Program::Argv(request.argv.into_iter().map(Word::from).collect()),
        env: request.env.into_iter().map(|(name, value)| (name, Word::from(value))).collect(),
        cwd: Word::from(request.cwd),
        stdin,
        terminal: request.terminal,
        timeout_ms: Some(u64::try_from(request.timeout.as_millis()).unwrap_or(u64::MAX)),
        whole: false,
    }
}

fn lost(ready: &Ready, source: LinkError) -> CommandError {
    CommandError::MachineLost { source, console_tail: ready.machine.console_tail(12) }
}

fn console_clause(console_tail: &str) -> String {
    if console_tail.trim().is_empty() { String::new() } else { format!("; its console ended with:\n{console_tail}") }
}

fn elapsed_ms(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
