//! The shells of a workspace: opened, found, typed into, closed.
//!
//! A shell is a command on a terminal that the supervisor holds, see [`shell`]. It stays, when it ended, to be read until it is
//! closed, and is closed by itself when too many of its kind are kept. What a client does with one is a use of the workspace;
//! that it is open is none, or a shell that was forgotten would keep its workspace for ever.

mod attach;
mod screen;
mod shell;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyro_wire::Program;
use pyro_wire::exec::{ExecRequest, Word};

use self::shell::Shell;
use super::commands::now_ms;
use super::events::{Loop, Use};
use super::guest_link::RunningExec;
use super::protocol::{Refusal, RefusalKind, ServerMessage};
use super::secrets::Vault;
use super::server::refusal;
use super::shell_protocol::{
    SHELL_INPUT_BYTES_MAX, SHELLS_ENDED_MAX, SHELLS_RUNNING_MAX, ShellAnswer, ShellAsk, ShellDenial, ShellOpen,
    WATCH_MS_MAX,
};
use super::socket::{FrameReader, FrameWriter};
use crate::store::crossings::Crossings;
use crate::store::home::{WorkspaceDir, create_private_dir};
use crate::store::shell_record::{self, SHELL_RECORD_VERSION, ShellEnd, ShellEndRecord, ShellId, ShellRecord};

/// How long a guest gets to say that what it was asked to kill is dead.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// Most bytes of a working directory's name that are written down.
const CWD_BYTES_MAX: usize = 4096;

/// The shells of one workspace.
#[derive(Debug, Clone)]
pub(super) struct Shells {
    dir: WorkspaceDir,
    vault: Vault,
    table: Arc<Mutex<Table>>,
}

#[derive(Debug)]
struct Table {
    /// Number of the last one.
    last: u64,
    /// Those that are just being opened.
    opening: usize,
    /// Those that this supervisor opened.
    shells: BTreeMap<ShellId, Arc<Shell>>,
}

/// A place among those that run, for one that is just being opened.
struct Place<'a>(&'a Shells);

impl Shells {
    /// Those of the workspace in `dir`: none. What a dead supervisor left is written down as lost.
    ///
    /// # Errors
    /// They cannot be read or written.
    pub(super) fn open(dir: &WorkspaceDir, vault: Vault) -> io::Result<Self> {
        for mut record in shell_record::list(dir)? {
            if record.end.is_none() {
                let how = ShellEnd::Gone { reason: "its supervisor was killed, or the host was restarted".to_owned() };
                record.end = Some(ShellEndRecord { at_ms: now_ms(), how });
                shell_record::write(dir, &record)?;
            }
        }
        let table = Table { last: shell_record::last(dir)?, opening: 0, shells: BTreeMap::new() };
        Ok(Self { dir: dir.clone(), vault, table: Arc::new(Mutex::new(table)) })
    }

    /// Those that run.
    pub(super) fn running(&self) -> Vec<ShellId> {
        self.table().shells.values().filter(|shell| shell.end().is_none()).map(|shell| shell.id).collect()
    }

    /// All are over, because their machine is about to be.
    pub(super) fn end_all(&self, reason: &str) {
        let shells: Vec<_> = self.table().shells.values().cloned().collect();
        for shell in shells {
            shell.over(ShellEnd::Gone { reason: reason.to_owned() });
        }
    }

    /// Answers what is answered by one message.
    ///
    /// # Errors
    /// Why it is not done.
    pub(super) async fn answer(&self, ask: ShellAsk, driver: &Loop) -> Result<ServerMessage, Refusal> {
        let granted = driver.begin_use().await?;
        let answer = match ask {
            ShellAsk::Open(open) => self.open_one(*open, &granted).await?,
            ShellAsk::Watch { shell, seen_bytes, limit_ms } => {
                let shell = self.find(shell)?;
                let limit = Duration::from_millis(limit_ms.min(WATCH_MS_MAX));
                let mut progress = shell.progress();
                let changed = progress.wait_for(|progress| progress.printed_bytes > seen_bytes || progress.ended);
                // That nothing changed is an answer, too.
                drop(tokio::time::timeout(limit, changed).await);
                ShellAnswer::Shell(Box::new(shell.status()))
            }
            ShellAsk::Screen { shell } => ShellAnswer::Screen(Box::new(self.find(shell)?.look())),
            ShellAsk::Write { shell, input } => self.write(shell, &input)?,
            ShellAsk::Signal { shell, signal } => {
                self.find_running(shell)?.handle.signal(signal).await.map_err(refusal)?;
                return Ok(ServerMessage::Done);
            }
            ShellAsk::Close { shell } => {
                self.close(shell).await?;
                return Ok(ServerMessage::Done);
            }
            ShellAsk::Attach { .. } => {
                return Err(Refusal::new(RefusalKind::Protocol, "this is not answered by one message"));
            }
        };
        Ok(ServerMessage::Shell { answer })
    }

    /// Serves a client that wants to be a shell's terminal.
    ///
    /// # Errors
    /// The client went away.
    pub(super) async fn attach(
        &self,
        (shell, size): (ShellId, pyro_wire::TerminalSize),
        driver: &Loop,
        reader: FrameReader,
        mut writer: FrameWriter,
    ) -> io::Result<()> {
        let admitted = async { Ok((driver.begin_use().await?, self.find_running(shell)?)) };
        match admitted.await {
            Ok((granted, shell)) => attach::attach(shell, size, reader, writer, granted).await,
            Err(refusal) => writer.send(&ServerMessage::Refused { refusal }).await,
        }
    }

    async fn open_one(&self, open: ShellOpen, granted: &Use) -> Result<ShellAnswer, Refusal> {
        let ShellOpen { mut request, by, secret_env } = open;
        let size = match (&request.program, request.terminal, request.stdin) {
            (Program::Argv(_), Some(size), true) => screen::within(size),
            _ => return Err(denial(ShellDenial::NoTerminal, "a shell has a terminal and standard input")),
        };
        request.terminal = Some(size);
        let _place = self.place()?;
        let id = self.next_id().map_err(|error| unwritable(&error))?;
        let record = ShellRecord {
            version: SHELL_RECORD_VERSION,
            id,
            cwd: self.vault.cut(&cwd(&request)),
            rows: size.rows,
            cols: size.cols,
            opened_at_ms: now_ms(),
            by,
            end: None,
        };
        self.vault.grant(&Crossings::of(&self.dir), &secret_env, "shell", &mut request.env)?;
        let running = granted.link().exec(request).await.map_err(refusal)?;
        // The shell is killed with `running` when it cannot be written down.
        let begun = create_private_dir(&self.dir.shell(id)).and_then(|()| self.begin(record, running));
        let shell = begun.map_err(|error| {
            drop(std::fs::remove_dir_all(self.dir.shell(id)));
            unwritable(&error)
        })?;
        let status = shell.status();
        self.table().shells.insert(id, shell);
        self.close_surplus();
        Ok(ShellAnswer::Shell(Box::new(status)))
    }

    fn begin(&self, record: ShellRecord, running: RunningExec) -> io::Result<Arc<Shell>> {
        Shell::begin(&self.dir, record, running, self.vault.stream())
    }

    fn write(&self, shell: ShellId, input: &Word) -> Result<ShellAnswer, Refusal> {
        let shell = self.find_running(shell)?;
        let bytes = input.as_bytes();
        let cursor = shell.status().printed_bytes;
        let full = || {
            let words = format!("shell {}: the program in it does not read what was typed before", shell.id);
            denial(ShellDenial::InputFull, words)
        };
        if bytes.len() > SHELL_INPUT_BYTES_MAX {
            let words = format!("{} bytes were to be typed, {SHELL_INPUT_BYTES_MAX} are the most", bytes.len());
            return Err(denial(ShellDenial::InputFull, words));
        }
        shell.input.try_send(bytes.to_vec()).map_err(|_| full())?;
        Ok(ShellAnswer::Written { cursor })
    }

    async fn close(&self, id: ShellId) -> Result<(), Refusal> {
        let known = self.table().shells.get(&id).cloned();
        match known {
            Some(shell) => {
                // A session that ended, or a guest that does not answer, changes nothing: it is over for us.
                drop(shell.handle.kill().await);
                let mut progress = shell.progress();
                let ended = progress.wait_for(|progress| progress.ended);
                drop(tokio::time::timeout(CLOSE_LIMIT, ended).await);
                shell.over(ShellEnd::Gone { reason: "it was closed".to_owned() });
                self.table().shells.remove(&id);
            }
            None if !self.dir.shell_record(id).exists() => return Err(unknown(id)),
            None => {}
        }
        self.forget(id).map_err(|error| match error.kind() {
            // Somebody else closed it meanwhile.
            io::ErrorKind::NotFound => unknown(id),
            _ => Refusal::new(RefusalKind::Host, format!("cannot remove {id}: {error}")),
        })
    }

    /// Closes the oldest of those that ended when too many are kept.
    fn close_surplus(&self) {
        let records = shell_record::list(&self.dir).unwrap_or_default();
        let ended: Vec<_> = records.iter().filter(|record| record.end.is_some()).map(|record| record.id).collect();
        for id in ended.iter().take(ended.len().saturating_sub(SHELLS_ENDED_MAX)) {
            self.table().shells.remove(id);
            // What cannot be removed is tried again the next time.
            drop(self.forget(*id));
        }
    }

    fn forget(&self, id: ShellId) -> io::Result<()> {
        std::fs::remove_dir_all(self.dir.shell(id))
    }

    fn place(&self) -> Result<Place<'_>, Refusal> {
        let mut table = self.table();
        let running = table.shells.values().filter(|shell| shell.end().is_none()).count();
        if running + table.opening >= SHELLS_RUNNING_MAX {
            let words = format!("{SHELLS_RUNNING_MAX} shells are open in this workspace, which is the most");
            return Err(denial(ShellDenial::TooMany, words));
        }
        table.opening += 1;
        Ok(Place(self))
    }

    /// A number is written down before it is used: none is ever used twice, also after a crash.
    fn next_id(&self) -> io::Result<ShellId> {
        let mut table = self.table();
        let next = table.last + 1;
        shell_record::note_last(&self.dir, next)?;
        table.last = next;
        Ok(ShellId(next))
    }

    fn find(&self, id: ShellId) -> Result<Arc<Shell>, Refusal> {
        self.table().shells.get(&id).cloned().ok_or_else(|| self.not_ours(id))
    }

    fn find_running(&self, id: ShellId) -> Result<Arc<Shell>, Refusal> {
        let shell = self.find(id)?;
        match shell.end() {
            None => Ok(shell),
            Some(end) => Err(over(id, &end)),
        }
    }

    /// Why there is nothing to be done with a shell that this supervisor did not open, or closed.
    fn not_ours(&self, id: ShellId) -> Refusal {
        match shell_record::read(&self.dir, id).ok().and_then(|record| record.end) {
            Some(end) => over(id, &end.how),
            None => unknown(id),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // No critical section leaves values half changed.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.table().opening -= 1;
    }
}

fn cwd(request: &ExecRequest) -> String {
    let bytes = request.cwd.as_bytes();
    String::from_utf8_lossy(&bytes[..bytes.len().min(CWD_BYTES_MAX)]).into_owned()
}

fn denial(denial: ShellDenial, words: impl Into<String>) -> Refusal {
    Refusal::new(RefusalKind::Shell(denial), words)
}

fn unknown(id: ShellId) -> Refusal {
    denial(ShellDenial::Unknown, format!("there is no shell {id} in this workspace"))
}

fn over(id: ShellId, end: &ShellEnd) -> Refusal {
    let how = match end {
        ShellEnd::Exited(code) => format!("it exited with code {code}"),
        ShellEnd::Signaled(signal) => format!("signal {signal} ended it"),
        ShellEnd::Gone { reason } => reason.clone(),
    };
    denial(ShellDenial::Ended, format!("shell {id} is over: {how}"))
}

fn unwritable(error: &io::Error) -> Refusal {
    Refusal::new(RefusalKind::Host, format!("cannot write the shell down: {error}"))
}
