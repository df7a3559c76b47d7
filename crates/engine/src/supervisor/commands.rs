//! The commands of a workspace: their numbers, what is written of them, and how to reach those that run.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use pyro_wire::Exit;
use pyro_wire::exec::{ExecRequest, Program};
use tokio::sync::watch;

use super::guest_link::ExecHandle;
use super::secrets::Vault;
use crate::store::crossings::Crossings;
use crate::store::home::WorkspaceDir;
use crate::store::journal;
use crate::store::output::{OutputWriter, Shelf};
use crate::store::workspace_record::{CommandEndRecord, CommandEnded, CommandEntry, CommandStarted, Origin};

/// Most words of a command line that are written down, most bytes of each, and of all of them.
const ARGV_WORDS_MAX: usize = 256;
const ARGV_WORD_BYTES_MAX: usize = 4096;
const ARGV_BYTES_MAX: usize = 64 * 1024;

/// The commands of one workspace.
#[derive(Debug, Clone)]
pub(super) struct Commands {
    dir: WorkspaceDir,
    table: Arc<Mutex<Table>>,
}

#[derive(Debug)]
struct Table {
    next: u64,
    shelf: Shelf,
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
        let table = Table { next, shelf: Shelf::open(&dir.command_outputs())?, running: BTreeMap::new() };
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
        self.grew(sequence, 0);
        Ok(Record { commands: self.clone(), sequence, output, ended: sender, finished: false })
    }

    /// The record of what crosses the border of the workspace.
    pub(super) fn crossings(&self) -> Crossings {
        Crossings::of(&self.dir)
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

    /// Notes that a command's output grew, and removes the oldest ones where there is too much of all.
    fn grew(&self, sequence: u64, bytes: u64) {
        let surplus = {
            let Table { shelf, running, .. } = &mut *self.table();
            shelf.add(sequence, bytes);
            shelf.take_surplus(|sequence| running.contains_key(&sequence))
        };
        for sequence in surplus {
            // What cannot be removed counts again for the next supervisor.
            drop(std::fs::remove_file(self.dir.command_output(sequence)));
            drop(std::fs::remove_file(self.dir.command_output_runs(sequence)));
        }
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
        let before = self.output.kept_bytes();
        let written = self.output.write(of_stderr, bytes);
        self.commands.grew(self.sequence, self.output.kept_bytes() - before);
        written
    }

    /// Says in the supervisor's log that output could not be kept.
    pub(super) fn complain(&self, error: &io::Error) {
        super::notes::log(&self.commands.dir, &format!("cannot keep output of command {}: {error}", self.sequence));
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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) argv: Vec<String>,
    pub(super) cwd: String,
}

impl Words {
    /// What is written down of a command; nothing of a tool.
    pub(super) fn of(request: &ExecRequest, vault: &Vault) -> Option<Self> {
        let Program::Argv(argv) = &request.program else { return None };
        Some(Self::new(argv.iter().map(|word| word.as_bytes()), request.cwd.as_bytes(), vault))
    }

    fn new<'a>(argv: impl Iterator<Item = &'a [u8]>, cwd: &[u8], vault: &Vault) -> Self {
        let word = |bytes: &[u8]| word(&vault.cut_bytes(bytes));
        let mut left = ARGV_BYTES_MAX;
        let fits = |word: &&[u8]| {
            left = left.saturating_sub(word.len().min(ARGV_WORD_BYTES_MAX));
            left > 0
        };
        Self { argv: argv.take(ARGV_WORDS_MAX).take_while(fits).map(word).collect(), cwd: word(cwd) }
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

#[cfg(test)]
mod tests {
    use super::super::secrets::{Secrets, Vault};
    use super::{ARGV_BYTES_MAX, ARGV_WORD_BYTES_MAX, Words};

    #[test]
    fn a_command_line_is_written_down_as_far_as_a_line_of_the_log_holds_it() {
        let none = Vault::new(Secrets::default());
        let words = Words::new([&b"sh"[..], b"-c", &[b'x'; 5000]].into_iter(), b"/\xff", &none);
        assert_eq!((words.argv.len(), words.cwd.as_str()), (3, "/\u{fffd}"));
        assert_eq!(words.argv[2].chars().count(), ARGV_WORD_BYTES_MAX + 1);
        let long = vec![1; 10_000];
        let words = Words::new(std::iter::repeat_n(&long[..], 1000), b"/", &none);
        assert_eq!(words.argv.len(), ARGV_BYTES_MAX / ARGV_WORD_BYTES_MAX - 1);
    }

    #[test]
    fn a_command_line_holds_no_secret() {
        let mut secrets = Secrets::default();
        secrets.insert("TOKEN", b"s3cr3t".to_vec().into()).unwrap();
        let words = Words::new([&b"curl"[..], b"-HX: s3cr3t"].into_iter(), b"/s3cr3t", &Vault::new(secrets));
        assert_eq!((words.argv[1].as_str(), words.cwd.as_str()), ("-HX: [secret TOKEN]", "/[secret TOKEN]"));
    }
}
