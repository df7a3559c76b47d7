//! The record of crossings of one workspace: JSON lines that are numbered, only ever added, and bounded.
//!
//! Several processes add to it (the supervisor, and each pyro that brings something in or takes something home), so a lock
//! is held while a number is given and its line written. A line that a kill tore counts for nothing, and its number is
//! given again. When the file is full its oldest half makes room, and one line stands for all that was in it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::crossing_record::{CROSSING_RECORD_VERSION, Crossing, CrossingRecord, CrossingSummary};
use super::home::WorkspaceDir;
use super::lock::{Lock, LockError};
use super::{atomic, journal};

/// Bytes of the record. When it has more, the oldest half is dropped.
pub const CROSSINGS_BYTES_MAX: u64 = 8 << 20;

/// Characters of one word of it, such as a path.
const WORD_CHARS_MAX: usize = 4096;

/// Bytes from the end in which the last line is looked for: more than a line can have.
const TAIL_BYTES: u64 = 128 * 1024;

/// How long somebody else who adds to it is waited for.
const LOCK_LIMIT: Duration = Duration::from_secs(5);

/// Crossings that wait to be written down; more are only counted.
const WAITING_MAX: usize = 4096;

/// Crossings that are written at once.
const BATCH_MAX: usize = 512;

/// How long what could not be written is kept before it is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The record of one workspace.
#[derive(Debug, Clone)]
pub struct Crossings {
    dir: WorkspaceDir,
    bytes_max: u64,
}

/// Reads the record on from where it was read before.
#[derive(Debug, Default)]
pub struct CrossingReader {
    since: u64,
    position: u64,
    inode: u64,
}

impl Crossings {
    /// That of the workspace in `dir`.
    #[must_use]
    pub fn of(dir: &WorkspaceDir) -> Self {
        Self { dir: dir.clone(), bytes_max: CROSSINGS_BYTES_MAX }
    }

    /// Adds one, and gives its number.
    ///
    /// # Errors
    /// As the system calls; nothing was added then.
    pub fn append(&self, crossing: Crossing) -> io::Result<u64> {
        self.append_all(vec![(now_ms(), crossing)])
    }

    /// Adds several, each with its time, and gives the number of the last.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn append_all(&self, crossings: Vec<(u64, Crossing)>) -> io::Result<u64> {
        if !self.dir.path().is_dir() {
            // One that was removed must not come back by its lock.
            return Err(io::ErrorKind::NotFound.into());
        }
        let _lock = Lock::take_within(&self.dir.crossings_lock(), LOCK_LIMIT).map_err(|error| match error {
            LockError::Io { source, .. } => source,
            LockError::Held { .. } => io::Error::new(io::ErrorKind::WouldBlock, error),
        })?;
        let mut file = self.open()?;
        if file.metadata()?.len() > self.bytes_max {
            self.drop_oldest_half()?;
            file = self.open()?;
        }
        let length = file.metadata()?.len();
        let Tail { last, is_torn } = self.tail(&file, length)?;
        let mut sequence = last;
        let mut lines = if is_torn { b"\n".to_vec() } else { Vec::new() };
        for (at_ms, mut crossing) in crossings {
            crossing.words().into_iter().for_each(cut);
            sequence += 1;
            let record = CrossingRecord { version: CROSSING_RECORD_VERSION, sequence, at_ms, crossing };
            serde_json::to_writer(&mut lines, &record)?;
            lines.push(b'\n');
        }
        if let Err(error) = file.write_all(&lines) {
            // A disk that is full may have taken a part of it.
            drop(file.set_len(length));
            return Err(error);
        }
        Ok(sequence)
    }

    /// Those after the one of the number `since`.
    ///
    /// # Errors
    /// The record cannot be read.
    pub fn read(&self, since: u64) -> io::Result<Vec<CrossingRecord>> {
        CrossingReader::after(since).more(self)
    }

    /// All of them, added up.
    ///
    /// # Errors
    /// The record cannot be read.
    pub fn summary(&self) -> io::Result<CrossingSummary> {
        let mut summary = CrossingSummary::default();
        self.read(0)?.iter().for_each(|record| summary.add(&record.crossing));
        Ok(summary)
    }

    fn open(&self) -> io::Result<File> {
        OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(self.dir.crossings())
    }

    fn tail(&self, file: &File, length: u64) -> io::Result<Tail> {
        let from = length.saturating_sub(TAIL_BYTES);
        let mut bytes = vec![0; usize::try_from(length - from).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut bytes, from)?;
        let is_torn = bytes.last().is_some_and(|byte| *byte != b'\n');
        let whole = bytes.rsplit(|byte| *byte == b'\n');
        let last = whole.filter_map(|line| serde_json::from_slice::<CrossingRecord>(line).ok()).next();
        let last = match last {
            Some(record) => record.sequence,
            None if from == 0 => 0,
            // What is no line of ours was written by nobody of ours; all before it still counts.
            None => self.read(0)?.last().map_or(0, |record| record.sequence),
        };
        Ok(Tail { last, is_torn })
    }

    /// Replaces the oldest half by one line that stands for it. The caller holds the lock.
    fn drop_oldest_half(&self) -> io::Result<()> {
        let mut records = self.read(0)?;
        let kept = records.split_off(records.len() / 2);
        let mut summary = CrossingSummary::default();
        records.iter().for_each(|record| summary.add(&record.crossing));
        let stands_for_them = records.pop().map(|last| CrossingRecord { crossing: Crossing::Dropped(summary), ..last });
        let mut lines = Vec::new();
        for record in stands_for_them.iter().chain(&kept) {
            serde_json::to_writer(&mut lines, record)?;
            lines.push(b'\n');
        }
        atomic::write(&self.dir.crossings(), &lines)
    }
}

/// What the end of the file tells.
struct Tail {
    /// The number that was given last.
    last: u64,
    /// Whether something was left in the middle of a line.
    is_torn: bool,
}

impl CrossingReader {
    /// Reads those after the one of the number `since`.
    #[must_use]
    pub fn after(since: u64) -> Self {
        Self { since, ..Self::default() }
    }

    /// What came since.
    ///
    /// # Errors
    /// The record cannot be read.
    pub fn more(&mut self, crossings: &Crossings) -> io::Result<Vec<CrossingRecord>> {
        let file = match File::open(crossings.dir.crossings()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            file => file?,
        };
        // A record that was full is another file now, with the same numbers.
        let inode = file.metadata()?.ino();
        let position = if inode == self.inode { self.position } else { 0 };
        let (mut records, position) = journal::read_open::<CrossingRecord>(file, position)?;
        records.retain(|record| record.sequence > self.since);
        (self.inode, self.position) = (inode, position);
        self.since = records.last().map_or(self.since, |record| record.sequence);
        Ok(records)
    }
}

/// Writes crossings down one after the other on a thread of its own, so that whoever notes one never waits.
#[derive(Debug)]
pub struct CrossingQueue {
    notes: CrossingNotes,
    writer: JoinHandle<()>,
}

/// The way into a [`CrossingQueue`].
#[derive(Debug, Clone)]
pub struct CrossingNotes {
    sender: SyncSender<Note>,
    summed: Arc<Mutex<CrossingSummary>>,
}

#[derive(Debug, PartialEq, Eq)]
enum Note {
    Crossing(u64, Crossing),
    Close,
}

/// What is done with each word of a crossing before it is written down.
pub type CleanWord = Box<dyn Fn(&str) -> String + Send>;

impl CrossingQueue {
    /// Begins one, whose words, which may come from a guest, are cleaned before they are written down.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn begin(crossings: Crossings, clean: CleanWord) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(WAITING_MAX);
        let summed = Arc::new(Mutex::default());
        let writing = Writing { crossings, clean, receiver, summed: Arc::clone(&summed) };
        let writer = std::thread::Builder::new().name("crossings".to_owned()).spawn(|| writing.run())?;
        Ok(Self { notes: CrossingNotes { sender, summed }, writer })
    }

    /// The way into it.
    #[must_use]
    pub fn notes(&self) -> CrossingNotes {
        self.notes.clone()
    }

    /// Waits until everything that was noted is written down, or was tried once.
    pub fn close(self) {
        // Without a writer there is nothing to wait for.
        if self.notes.sender.send(Note::Close).is_ok() {
            drop(self.writer.join());
        }
    }
}

impl CrossingNotes {
    /// Notes one. Where more come than can be written, they are added up.
    pub fn note(&self, crossing: Crossing) {
        match self.sender.try_send(Note::Crossing(now_ms(), crossing)) {
            Ok(()) => {}
            Err(TrySendError::Full(note) | TrySendError::Disconnected(note)) => {
                if let Note::Crossing(_, crossing) = note {
                    lock(&self.summed).add(&crossing);
                }
            }
        }
    }
}

/// What the thread owns.
struct Writing {
    crossings: Crossings,
    clean: CleanWord,
    receiver: Receiver<Note>,
    summed: Arc<Mutex<CrossingSummary>>,
}

impl Writing {
    fn run(self) {
        loop {
            let mut batch = Vec::new();
            let first = self.receiver.recv_timeout(RETRY_AFTER);
            let mut closes = first == Err(RecvTimeoutError::Disconnected);
            let more = std::iter::from_fn(|| self.receiver.try_recv().ok());
            for note in first.ok().into_iter().chain(more).take(BATCH_MAX) {
                match note {
                    Note::Crossing(at_ms, mut crossing) => {
                        crossing.words().into_iter().for_each(|word| *word = (self.clean)(word));
                        batch.push((at_ms, crossing));
                    }
                    Note::Close => closes = true,
                }
            }
            self.write(batch);
            if closes {
                return;
            }
        }
    }

    fn write(&self, mut batch: Vec<(u64, Crossing)>) {
        let summed = std::mem::take(&mut *lock(&self.summed));
        if summed != CrossingSummary::default() {
            batch.push((now_ms(), Crossing::Summed(summed)));
        }
        if batch.is_empty() {
            return;
        }
        if self.crossings.append_all(batch.clone()).is_err() {
            // What could not be written is not forgotten: the next line that can be says how much there was.
            batch.iter().for_each(|(_, crossing)| lock(&self.summed).add(crossing));
        }
    }
}

fn lock(summed: &Mutex<CrossingSummary>) -> MutexGuard<'_, CrossingSummary> {
    // Every critical section only adds numbers.
    summed.lock().unwrap_or_else(PoisonError::into_inner)
}

fn cut(word: &mut String) {
    if let Some((at, _)) = word.char_indices().nth(WORD_CHARS_MAX) {
        word.truncate(at);
        word.push('…');
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::{CrossingQueue, CrossingReader, Crossings, TAIL_BYTES, WORD_CHARS_MAX};
    use crate::crossing_record::{CrossedPatch, Crossing, CrossingSummary};
    use crate::home::Home;

    fn crossings() -> (tempfile::TempDir, Crossings) {
        let dir = tempfile::tempdir().unwrap();
        let workspace = Home::new(&dir.path().join("cache"), &dir.path().join("state")).workspace("0123456789ab");
        std::fs::create_dir_all(workspace.path()).unwrap();
        (dir, Crossings::of(&workspace))
    }

    fn patch_in(bytes: u64) -> Crossing {
        Crossing::PatchIn(CrossedPatch { path: None, entries: 1, bytes, digest: "d".to_owned() })
    }

    fn add(crossings: &Crossings, count: u32, bytes: u64) {
        for _ in 0..count {
            crossings.append(patch_in(bytes)).unwrap();
        }
    }

    fn tear(crossings: &Crossings, bytes: &[u8]) {
        let path = crossings.dir.crossings();
        std::fs::OpenOptions::new().append(true).open(path).unwrap().write_all(bytes).unwrap();
    }

    #[track_caller]
    fn check(crossings: &Crossings, since: u64, expected: &[u64]) {
        let numbers: Vec<u64> = crossings.read(since).unwrap().iter().map(|record| record.sequence).collect();
        assert_eq!(numbers, expected);
    }

    #[test]
    fn numbers_go_on_whatever_is_torn() {
        let (_dir, crossings) = crossings();
        check(&crossings, 0, &[]);
        assert_eq!(crossings.append(patch_in(1)).unwrap(), 1);
        tear(&crossings, b"{\"version\":1,\"sequence\":2,\"at_ms\":5,\"ki");
        check(&crossings, 0, &[1]);
        assert_eq!(crossings.append(patch_in(2)).unwrap(), 2);
        tear(&crossings, &vec![b'x'; 2 * usize::try_from(TAIL_BYTES).unwrap()]);
        assert_eq!(crossings.append(patch_in(3)).unwrap(), 3);
        check(&crossings, 0, &[1, 2, 3]);
        check(&crossings, 2, &[3]);
    }

    #[test]
    fn many_who_add_at_once_get_numbers_of_their_own() {
        let (_dir, crossings) = crossings();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| add(&crossings, 25, 1));
            }
        });
        check(&crossings, 0, &(1..=100).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_full_drops_its_oldest_half_and_says_so() {
        let (_dir, mut crossings) = crossings();
        let mut reader = CrossingReader::default();
        add(&crossings, 10, 7);
        assert_eq!(reader.more(&crossings).unwrap().len(), 10);
        crossings.bytes_max = 100;
        crossings.append(patch_in(7)).unwrap();
        check(&crossings, 0, &[5, 6, 7, 8, 9, 10, 11]);
        let counts = [("patch_in".to_owned(), 5)].into();
        let summary = CrossingSummary { counts, in_bytes: 35, ..CrossingSummary::default() };
        assert_eq!(crossings.read(0).unwrap()[0].crossing, Crossing::Dropped(summary));
        assert_eq!((crossings.summary().unwrap().counts["patch_in"], crossings.summary().unwrap().in_bytes), (11, 77));
        let more: Vec<u64> = reader.more(&crossings).unwrap().iter().map(|record| record.sequence).collect();
        assert_eq!(more, [11], "who follows sees nothing twice");
        crossings.append(patch_in(7)).unwrap();
        assert_eq!(crossings.summary().unwrap().counts["patch_in"], 12);
    }

    #[test]
    fn a_queue_writes_everything_or_says_how_much_there_was() {
        let (dir, crossings) = crossings();
        let queue = CrossingQueue::begin(crossings.clone(), Box::new(str::to_owned)).unwrap();
        let notes = queue.notes();
        (0..10_000).for_each(|_| notes.note(patch_in(1)));
        queue.close();
        drop(notes);
        let cleaning = CrossingQueue::begin(crossings.clone(), Box::new(|word| word.replace('x', "y"))).unwrap();
        cleaning.notes().note(Crossing::PolicyChange { before: "x".to_owned(), after: "xx".to_owned() });
        cleaning.close();
        let last = crossings.read(0).unwrap().pop().map(|record| record.crossing);
        assert_eq!(last, Some(Crossing::PolicyChange { before: "y".to_owned(), after: "yy".to_owned() }));
        let summary = crossings.summary().unwrap();
        assert!(summary.counts["patch_in"] > 1000 && summary.in_bytes <= 10_000, "{summary:?}");
        drop(std::fs::remove_dir_all(dir.path().join("state/workspaces")));
        assert!(crossings.append(patch_in(1)).is_err());
        assert!(!dir.path().join("state/workspaces").exists(), "a lock brought it back");
    }

    #[test]
    fn a_word_has_an_end() {
        let (_dir, crossings) = crossings();
        let path = Some("ä".repeat(2 * WORD_CHARS_MAX));
        crossings.append(Crossing::PatchOut(CrossedPatch { path, ..CrossedPatch::default() })).unwrap();
        let Crossing::PatchOut(patch) = crossings.read(0).unwrap().remove(0).crossing else { panic!("another kind") };
        assert_eq!(patch.path.unwrap().chars().count(), WORD_CHARS_MAX + 1);
    }
}
