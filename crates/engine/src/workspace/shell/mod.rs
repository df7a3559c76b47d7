//! `workspace shell`: terminals in a workspace that stay, whoever comes and goes.
//!
//! The supervisor holds them and is asked to type, to signal, to close, and where one is; what one printed is read from its
//! transcript on disk, by whoever wants it and at their own pace. So a shell is still read when its machine is gone.

pub mod plain;
pub mod wait;

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use pyro_wire::exec::{ExecRequest, Program, Word};

pub use self::wait::{ShellWait, Waited, pattern};
use super::client::{ClientError, Connection, RunningCommand};
use super::command::TerminalSize;
use super::directory::{Workspace, Workspaces};
use super::error::WorkspaceError;
use crate::store::lock::Lock;
use crate::store::shell_record::{self, ShellEnd, ShellEndRecord, ShellId, ShellRecord};
use crate::store::transcript::{self as kept, TranscriptPart};
use crate::store::workspace_record::{Origin, StateRecord};
use crate::supervisor::notes::now_seconds;
use crate::supervisor::protocol::{Ask, Refusal, RefusalKind, ServerMessage};
use crate::supervisor::shell_protocol::{
    SHELL_INPUT_BYTES_MAX, ShellAnswer, ShellAsk, ShellDenial, ShellOpen, ShellScreen, ShellStatus,
};

/// The best shell that a guest has, as one that somebody logged in with.
pub const LOGIN_SHELL: [&str; 3] = ["/bin/sh", "-c", "command -v bash >/dev/null 2>&1 && exec bash -l; exec sh -l"];

/// Most bytes of a character.
const UTF8_BYTES_MAX: usize = 4;

/// How long a supervisor that is just ending, or beginning, is looked for.
const LOOKS_MAX: usize = 50;

/// How often it is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A shell to open.
#[derive(Debug, Clone)]
pub struct ShellRequest {
    /// Absolute working directory in the guest.
    pub cwd: Vec<u8>,
    /// Variables added to the guest's small default environment.
    pub env: BTreeMap<String, Vec<u8>>,
    /// Size of its terminal.
    pub size: TerminalSize,
    /// Who asks.
    pub by: Origin,
    /// Variables that are filled with secrets of the workspace, and which.
    pub secret_env: BTreeMap<String, String>,
}

/// The signals that a shell's foreground job can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShellSignal {
    /// Its terminal went away.
    Hup,
    /// The interrupt key was pressed.
    Int,
    /// It is to end.
    Term,
    /// It is ended.
    Kill,
}

impl ShellSignal {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Hup, Self::Int, Self::Term, Self::Kill];

    /// Its name without `SIG`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hup => "HUP",
            Self::Int => "INT",
            Self::Term => "TERM",
            Self::Kill => "KILL",
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::Hup => 1,
            Self::Int => 2,
            Self::Kill => 9,
            Self::Term => 15,
        }
    }
}

impl Connection {
    /// Opens a shell.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn open_shell(&self, request: ShellRequest) -> Result<ShellStatus, ClientError> {
        let ShellRequest { cwd, env, size, by, secret_env } = request;
        let request = ExecRequest {
            program: Program::Argv(LOGIN_SHELL.map(Word::from).to_vec()),
            env: env.into_iter().map(|(name, value)| (name, Word::from(value))).collect(),
            cwd: Word::from(cwd),
            stdin: true,
            terminal: Some(size),
            timeout_ms: None,
            whole: false,
        };
        self.ask_status(ShellAsk::Open(Box::new(ShellOpen { request, by, secret_env }))).await
    }

    /// Types into a shell, and says how much it had printed before.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn type_into_shell(&self, shell: ShellId, keys: Vec<u8>) -> Result<u64, ClientError> {
        match self.ask(Ask::Shell(ShellAsk::Write { shell, input: Word::from(keys) })).await? {
            ServerMessage::Shell { answer: ShellAnswer::Written { cursor } } => Ok(cursor),
            _ => Err(self.nonsense()),
        }
    }

    /// Signals the job in a shell's foreground.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn signal_shell(&self, shell: ShellId, signal: ShellSignal) -> Result<(), ClientError> {
        self.ask(Ask::Shell(ShellAsk::Signal { shell, signal: signal.number() })).await.map(drop)
    }

    /// Becomes a shell's terminal. It is not a command of the client's: leaving it does not end it.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn attach_shell(&self, shell: ShellId, size: TerminalSize) -> Result<RunningCommand, ClientError> {
        self.start_asked(Ask::Shell(ShellAsk::Attach { shell, size })).await
    }

    async fn ask_status(&self, ask: ShellAsk) -> Result<ShellStatus, ClientError> {
        match self.ask(Ask::Shell(ask)).await? {
            ServerMessage::Shell { answer: ShellAnswer::Shell(status) } => Ok(*status),
            _ => Err(self.nonsense()),
        }
    }
}

impl Workspaces<'_> {
    /// All shells of a workspace that were not closed.
    ///
    /// # Errors
    /// There is no such workspace.
    pub async fn shells(&self, word: &str) -> Result<(Workspace, Vec<ShellStatus>), WorkspaceError> {
        let workspace = self.find(word)?;
        let mut shells = Vec::new();
        for record in records(&workspace)? {
            match self.shell(&workspace.record.id, record.id).await {
                Ok(status) => shells.push(status),
                // It was just closed.
                Err(WorkspaceError::NoShell { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok((workspace, shells))
    }

    /// Where a shell is.
    ///
    /// # Errors
    /// There is none.
    pub async fn shell(&self, workspace: &str, shell: ShellId) -> Result<ShellStatus, WorkspaceError> {
        self.watch(workspace, shell, u64::MAX, Duration::ZERO).await
    }

    /// Where a shell is, as soon as it printed more than `seen_bytes`, or ended, or `limit` is over.
    pub(super) async fn watch(
        &self,
        workspace: &str,
        shell: ShellId,
        seen_bytes: u64,
        limit: Duration,
    ) -> Result<ShellStatus, WorkspaceError> {
        let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let mut looks = 0;
        loop {
            let found = self.find(workspace)?;
            let mut record = record(&found, shell)?;
            match (&record.end, found.connect()) {
                (None, Ok(connection)) => {
                    match connection.ask_status(ShellAsk::Watch { shell, seen_bytes, limit_ms }).await {
                        // It is just ending, or another one begins: what is written down says more in a moment.
                        Err(error) if is_passing(&error) && looks < LOOKS_MAX => {}
                        answer => return Ok(answer?),
                    }
                }
                (Some(_), _) => return at_rest(&found, record),
                (None, Err(_)) => {
                    record.end = Some(lost(&found.state));
                    return at_rest(&found, record);
                }
            }
            looks += 1;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// What is on a shell's screen.
    ///
    /// # Errors
    /// There is no such shell, or its machine is gone.
    pub async fn shell_screen(&self, workspace: &str, shell: ShellId) -> Result<ShellScreen, WorkspaceError> {
        let found = self.find(workspace)?;
        drop(record(&found, shell)?);
        let gone = || WorkspaceError::NoScreen { id: found.record.id.clone(), shell };
        let connection = found.connect().map_err(|_| gone())?;
        match connection.ask(Ask::Shell(ShellAsk::Screen { shell })).await {
            Ok(ServerMessage::Shell { answer: ShellAnswer::Screen(screen) }) => Ok(*screen),
            Ok(_) => Err(connection.nonsense().into()),
            Err(ClientError::Refused(Refusal { kind: RefusalKind::Shell(ShellDenial::Ended), .. })) => Err(gone()),
            Err(error) => Err(error.into()),
        }
    }

    /// Ends a shell with everything in it, and forgets what it printed.
    ///
    /// # Errors
    /// There is no such shell.
    pub async fn close_shell(&self, workspace: &str, shell: ShellId) -> Result<Workspace, WorkspaceError> {
        let found = self.find(workspace)?;
        drop(record(&found, shell)?);
        if let Ok(connection) = found.connect() {
            connection.ask(Ask::Shell(ShellAsk::Close { shell })).await?;
            return Ok(found);
        }
        let dir = found.dir.shell(shell);
        let _life = Lock::try_take(&found.dir.life_lock())?;
        std::fs::remove_dir_all(&dir).map_err(|source| WorkspaceError::File { what: "remove", path: dir, source })?;
        Ok(found)
    }
}

/// Up to `count_max` bytes of what a shell printed, from `position` on. They begin later where the oldest are not kept any more,
/// or could not be.
///
/// # Errors
/// There is no such shell, or its transcript cannot be read.
pub fn transcript(
    workspace: &Workspace,
    shell: ShellId,
    position: u64,
    count_max: usize,
) -> Result<TranscriptPart, WorkspaceError> {
    let dir = workspace.dir.shell(shell);
    kept::read(&dir, position, count_max).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => no_shell(workspace, shell),
        _ => WorkspaceError::File { what: "read", path: dir, source },
    })
}

/// Up to `bytes_max` bytes of what a shell printed, from `cursor` on, that begin and end as text does: where more follows, with
/// the end of a line if there is one, and never within a character.
///
/// # Errors
/// As [`transcript`].
pub fn page(
    workspace: &Workspace,
    status: &ShellStatus,
    cursor: u64,
    bytes_max: usize,
) -> Result<TranscriptPart, WorkspaceError> {
    let mut part = transcript(workspace, status.record.id, cursor, bytes_max)?;
    let is_full = part.bytes.len() >= bytes_max;
    let length = whole_length(&part.bytes, is_full, status.record.end.is_some());
    part.bytes.truncate(length);
    Ok(part)
}

/// How much of the bytes is whole. They are cut anywhere where they fill a page, and within a character at most where a shell
/// was just about to print the rest of it.
fn whole_length(bytes: &[u8], is_full: bool, is_over: bool) -> usize {
    if is_full && let Some(at) = bytes.iter().rposition(|byte| *byte == b'\n') {
        return at + 1;
    }
    let partial = match std::str::from_utf8(&bytes[bytes.len().saturating_sub(UTF8_BYTES_MAX)..]) {
        Err(error) if error.error_len().is_none() && (is_full || !is_over) => {
            bytes.len().min(UTF8_BYTES_MAX) - error.valid_up_to()
        }
        _ => 0,
    };
    // A page must not stand still.
    if partial < bytes.len() || !is_full { bytes.len() - partial } else { bytes.len() }
}

/// Text as it is typed: the end of a line is the Enter key, and one more is pressed at the end if `enter`.
///
/// # Errors
/// It is too long.
pub fn keys(text: &[u8], enter: bool) -> Result<Vec<u8>, WorkspaceError> {
    let mut keys = Vec::with_capacity(text.len() + 1);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'\n' if at > 0 && text[at - 1] == b'\r' => {}
            b'\n' => keys.push(b'\r'),
            other => keys.push(*other),
        }
    }
    if enter {
        keys.push(b'\r');
    }
    if keys.len() <= SHELL_INPUT_BYTES_MAX {
        return Ok(keys);
    }
    Err(WorkspaceError::BadValue {
        what: "the length of the input",
        value: keys.len().to_string(),
        expected: format!("at most {SHELL_INPUT_BYTES_MAX} bytes at once"),
    })
}

/// Reads what a shell is called.
///
/// # Errors
/// Nothing is called so.
pub fn shell_id(word: &str) -> Result<ShellId, WorkspaceError> {
    word.parse().map_err(|_| WorkspaceError::BadValue {
        what: "the shell",
        value: word.to_owned(),
        expected: "s1, s2 and so on".to_owned(),
    })
}

fn records(workspace: &Workspace) -> Result<Vec<ShellRecord>, WorkspaceError> {
    let path = workspace.dir.shells();
    shell_record::list(&workspace.dir).map_err(|source| WorkspaceError::File { what: "read", path, source })
}

fn record(workspace: &Workspace, shell: ShellId) -> Result<ShellRecord, WorkspaceError> {
    shell_record::read(&workspace.dir, shell).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => no_shell(workspace, shell),
        _ => WorkspaceError::File { what: "read", path: workspace.dir.shell_record(shell), source },
    })
}

fn no_shell(workspace: &Workspace, shell: ShellId) -> WorkspaceError {
    let known = records(workspace).unwrap_or_default().into_iter().map(|record| record.id).collect();
    WorkspaceError::NoShell { id: workspace.record.id.clone(), shell, known }
}

/// Where a shell is that its supervisor has nothing to say about any more.
fn at_rest(workspace: &Workspace, record: ShellRecord) -> Result<ShellStatus, WorkspaceError> {
    let path = workspace.dir.shell(record.id);
    let (_, printed_bytes) =
        kept::extent(&path).map_err(|source| WorkspaceError::File { what: "read", path: path.clone(), source })?;
    let ended_at_ms = record.end.as_ref().map_or(0, |end| end.at_ms);
    let quiet_ms = (now_seconds() * 1000).saturating_sub(ended_at_ms);
    Ok(ShellStatus { record, printed_bytes, quiet_ms, attached: 0 })
}

/// The end of a shell whose supervisor is gone and could not write it down.
fn lost(state: &StateRecord) -> ShellEndRecord {
    let reason = state.reason.clone().unwrap_or_else(|| "its machine is gone".to_owned());
    ShellEndRecord { at_ms: state.since_seconds * 1000, how: ShellEnd::Gone { reason } }
}

/// Whether it is to be expected that the answer is another one in a moment.
fn is_passing(error: &ClientError) -> bool {
    match error {
        ClientError::Gone { .. } => true,
        ClientError::Refused(refusal) => {
            matches!(refusal.kind, RefusalKind::Phase | RefusalKind::Shell(ShellDenial::Unknown | ShellDenial::Ended))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{SHELL_INPUT_BYTES_MAX, keys, whole_length};

    #[test]
    fn a_page_ends_as_text_does() {
        let check = |text: &[u8], is_full, is_over, length| {
            assert_eq!(whole_length(text, is_full, is_over), length, "{}", String::from_utf8_lossy(text));
        };
        check(b"one\ntwo", true, false, 4);
        check(b"one\ntwo", false, false, 7);
        check("é".as_bytes(), false, false, 2);
        check(&"aé".as_bytes()[..2], false, false, 1);
        check(&"aé".as_bytes()[..2], false, true, 2);
        check(&"a👍".as_bytes()[..4], true, true, 1);
        check(&"👍".as_bytes()[..3], true, false, 3);
        check(b"\xff", false, false, 1);
        check(b"", false, false, 0);
    }

    #[test]
    fn text_is_typed_as_a_person_would() {
        let check =
            |text: &str, enter, typed: &str| assert_eq!(keys(text.as_bytes(), enter).unwrap(), typed.as_bytes());
        check("ls -l", true, "ls -l\r");
        check("a\nb\r\nc", true, "a\rb\rc\r");
        check("\u{4}", false, "\u{4}");
        check("", true, "\r");
        assert!(keys(&vec![b'x'; SHELL_INPUT_BYTES_MAX], true).is_err());
    }
}
