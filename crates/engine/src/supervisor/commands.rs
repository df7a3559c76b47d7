//! The commands of a workspace: their numbers, what is written of them, and how to reach those that run.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use pyro_wire::Exit;
use tokio::sync::watch;

use super::guest_link::ExecHandle;
use crate::store::home::WorkspaceDir;
use crate::store::journal;
use crate::store::output::OutputWriter;
use crate::store::workspace_record::{CommandEndRecord, CommandEnded, CommandEntry, CommandStarted, Origin};

/// Most words of a command line that are written down, and most bytes of each.
const ARGV_WORDS_MAX: usize = 256;
const ARGV_WORD_BYTES_MAX: usize = 4096;

/// The commands of one workspace.
#[derive(Debug, Clone)]
pub(super) struct Commands {
    dir: WorkspaceDir,
    table: Arc<Mutex<Table>>,
}

#[derive(Debug)]
struct Table {
    next: u64,
    running: BTreeMap<u64, Running>,
}

#[derive(Debug)]
struct Running {
    handle: ExecHandle,
    ended: watch::Receiver<Option<CommandEnded>>,
}

/// A command that is being written down. Dropping it without [`Self::finish`] writes that it was lost.
#[derive(Debug)]
pub(super) struct Record {
    commands: Commands,
    sequence: u64,
    output: OutputWriter,
    ended: watch::Sender<Option<CommandEnded>>,
    finished: bool,
}

impl Commands {
    /// Those of the workspace in `dir`. What a dead supervisor left unfinished is written down as lost.
    ///
    /// # Errors
    /// The log cannot be read or written.
    pub(super) fn open(dir: &WorkspaceDir) -> io::Result<Self> {
        let (entries, _) = journal::read::<CommandEntry>(&dir.commands(), 0)?;
        let mut next = 1;
        let mut open = BTreeMap::new();
        for entry in entries {
            match entry {
                CommandEntry::Started(started) => {
                    next = next.max(started.sequence + 1);
                    open.insert(started.sequence, ());
                }
                CommandEntry::Ended(ended) => {
                    open.remove(&ended.sequence);
                }
            }
        }
        for sequence in open.into_keys() {
            let kept_bytes = crate::store::output::kept_bytes(&dir.command_output(sequence)).unwrap_or(0);
            let end = CommandEndRecord::Lost;
            let ended = CommandEnded { sequence, end, duration_ms: 0, output_bytes: kept_bytes, kept_bytes };
            journal::append(&dir.commands(), &CommandEntry::Ended(ended))?;
        }
        let table = Table { next, running: BTreeMap::new() };
        Ok(Self { dir: dir.clone(), table: Arc::new(Mutex::new(table)) })
    }

    /// Writes down that a command was started, and keeps `handle` for whoever wants to kill it.
    ///
    /// # Errors
    /// The log cannot be written.
    pub(super) fn start(&self, words: Words, by: Origin, handle: ExecHandle) -> io::Result<Record> {
        let sequence = {
            let mut table = self.table();
            let sequence = table.next;
            table.next += 1;
            sequence
        };
        let output = OutputWriter::create(&self.dir.command_output(sequence), &self.dir.command_output_runs(sequence))?;
        let Words { argv, cwd } = words;
        let started = CommandStarted { sequence, argv, cwd, at_ms: now_ms(), by };
        journal::append(&self.dir.commands(), &CommandEntry::Started(started))?;
        let (sender, ended) = watch::channel(None);
        self.table().running.insert(sequence, Running { handle, ended });
        Ok(Record { commands: self.clone(), sequence, output, ended: sender, finished: false })
    }

    /// Numbers of those that run.
    pub(super) fn running(&self) -> Vec<u64> {
        self.table().running.keys().copied().collect()
    }

    /// How to kill one that runs.
    pub(super) fn handle(&self, sequence: u64) -> Option<ExecHandle> {
        self.table().running.get(&sequence).map(|running| running.handle.clone())
    }

    /// How a command ended, waiting for it while it runs; none if there never was such a command.
    pub(super) async fn ended(&self, sequence: u64) -> Option<CommandEnded> {
        let waiting = self.table().running.get(&sequence).map(|running| running.ended.clone());
        if let Some(mut waiting) = waiting
            && let Ok(ended) = waiting.wait_for(Option::is_some).await
        {
            return *ended;
        }
        let (entries, _) = journal::read::<CommandEntry>(&self.dir.commands(), 0).ok()?;
        entries.into_iter().rev().find_map(|entry| match entry {
            CommandEntry::Ended(ended) if ended.sequence == sequence => Some(ended),
            CommandEntry::Ended(_) | CommandEntry::Started(_) => None,
        })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Every critical section only moves values, so what a panicked holder left is whole.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Record {
    /// The command's number.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Keeps bytes that it printed.
    ///
    /// # Errors
    /// The disk is full, or gone.
    pub(super) fn output(&mut self, of_stderr: bool, bytes: &[u8]) -> io::Result<()> {
        self.output.write(of_stderr, bytes)
    }

    /// Says in the supervisor's log that output could not be kept.
    pub(super) fn complain(&self, error: &io::Error) {
        super::driver::log(&self.commands.dir, &format!("cannot keep output of command {}: {error}", self.sequence));
    }

    /// Writes down how it ended.
    pub(super) fn finish(mut self, exit: Exit, duration_ms: u64) {
        let end = match exit {
            Exit::Code(code) => CommandEndRecord::Exited(code),
            Exit::Signal(signal) => CommandEndRecord::Signaled(signal),
            Exit::TimedOut => CommandEndRecord::TimedOut,
            Exit::Killed => CommandEndRecord::Killed,
        };
        self.write_end(end, duration_ms);
    }

    fn write_end(&mut self, end: CommandEndRecord, duration_ms: u64) {
        self.finished = true;
        let (output_bytes, kept_bytes) = (self.output.total_bytes(), self.output.kept_bytes());
        let ended = CommandEnded { sequence: self.sequence, end, duration_ms, output_bytes, kept_bytes };
        // Without room on the disk the next supervisor finds it open and writes that it was lost.
        drop(journal::append(&self.commands.dir.commands(), &CommandEntry::Ended(ended)));
        self.ended.send_replace(Some(ended));
        self.commands.table().running.remove(&self.sequence);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.finished {
            self.write_end(CommandEndRecord::Lost, 0);
        }
    }
}

/// A command line and its working directory as they are written down: readable, and not without end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Words {
    argv: Vec<String>,
    cwd: String,
}

impl Words {
    pub(super) fn new<'a>(argv: impl Iterator<Item = &'a [u8]>, cwd: &[u8]) -> Self {
        Self { argv: argv.take(ARGV_WORDS_MAX).map(word).collect(), cwd: word(cwd) }
    }
}

fn word(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(ARGV_WORD_BYTES_MAX)];
    let mut text = String::from_utf8_lossy(cut).into_owned();
    if cut.len() < bytes.len() {
        text.push('…');
    }
    text
}

pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
