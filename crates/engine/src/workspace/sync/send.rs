//! What is sent to a guest that is brought up to date, written by a thread of its own: files are read one after the other.

use std::io::{self, Read};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pyro_wire::exec::Word;
use pyro_wire::sync::{COMMIT, DISCARD, Item};
use ring::digest::{self, SHA256};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::super::seed::content::{Contents, Fault};
use super::super::seed::notes::{About, SeedNotes};
use super::super::seed::tree::{Content, SeedEntry, SeedKind, SeedTree};
use super::compare::{Step, nanoseconds};
use crate::progress::{Progress, Reporter};
use crate::store::hex;

/// Bytes that are handed over at once.
const PART_BYTES: usize = 128 * 1024;
/// Parts on their way.
const PARTS_MAX: usize = 8;

/// What there is to send.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) tree: Arc<SeedTree>,
    pub(super) removals: Vec<Vec<u8>>,
    pub(super) steps: Vec<(usize, Step)>,
}

/// What was sent.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) content_bytes: u64,
    pub(super) digest: String,
    pub(super) notes: SeedNotes,
}

/// Begins to write; what is written is read from the first.
pub(super) fn begin(sending: Sending) -> (Parts, JoinHandle<Written>) {
    let (sender, receiver) = mpsc::channel(PARTS_MAX);
    let writer = tokio::task::spawn_blocking(move || {
        let mut writer = Writer {
            sender,
            part: Vec::with_capacity(PART_BYTES),
            digest: digest::Context::new(&SHA256),
            content_bytes: 0,
            notes: SeedNotes::default(),
        };
        // Nobody reads on: that is told by whoever stopped.
        let _ = writer.all(&sending);
        let Writer { content_bytes, digest, notes, .. } = writer;
        Written { content_bytes, digest: hex::encode(digest.finish().as_ref()), notes }
    });
    (Parts { receiver, part: Vec::new(), taken: 0 }, writer)
}

/// Nobody reads what is written.
struct Unread;

struct Writer {
    sender: mpsc::Sender<Vec<u8>>,
    part: Vec<u8>,
    digest: digest::Context,
    content_bytes: u64,
    notes: SeedNotes,
}

impl Writer {
    fn all(&mut self, sending: &Sending) -> Result<(), Unread> {
        for path in &sending.removals {
            self.item(&Item::Remove { path: word(path) })?;
        }
        let tree = &sending.tree;
        let mut contents = Contents::new(tree);
        for (index, step) in &sending.steps {
            let entry = &tree.entries[*index];
            let (path, mode) = (word(&entry.path), u32::from(entry.attributes.mode));
            match (step, &entry.kind) {
                (Step::Same, _) => {}
                (Step::Mode, _) => self.item(&Item::Mode { path, mode })?,
                (Step::Put, SeedKind::Directory) => self.item(&Item::Directory { path, mode })?,
                (Step::Put, SeedKind::Symlink(target)) => self.item(&Item::Symlink { path, target: word(target) })?,
                (Step::Put, SeedKind::HardLink(first)) => {
                    self.item(&Item::HardLink { path, to: word(&tree.entries[*first].path) })?;
                }
                (Step::Put, SeedKind::File { size_bytes, content }) => {
                    self.file(entry, &mut contents, content, *size_bytes)?;
                }
            }
        }
        self.item(&Item::End)?;
        self.flush()
    }

    fn file<'a>(
        &mut self,
        entry: &SeedEntry,
        contents: &mut Contents<'a>,
        content: &'a Content,
        size_bytes: u64,
    ) -> Result<(), Unread> {
        let mut opened = match contents.open(content, size_bytes) {
            Ok(opened) => opened,
            Err(error) => {
                self.notes.add(About::Unreadable, &entry.path, error.to_string());
                return Ok(());
            }
        };
        self.item(&Item::File {
            path: word(&entry.path),
            mode: entry.attributes.mode.into(),
            modified_unix_ns: nanoseconds(entry.attributes.mtime),
            size_bytes: opened.size_bytes,
        })?;
        let mut buffer = vec![0; PART_BYTES];
        loop {
            let count = match opened.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // Only an interruption is passed on: what is missing is made up by zeros, and told as a fault below.
                Err(_) => break,
            };
            self.put(&buffer[..count])?;
            self.content_bytes += count as u64;
        }
        match opened.fault() {
            None => self.put(&[COMMIT]),
            Some(Fault::Changed) => {
                self.notes.add(About::Changed, &entry.path, "");
                self.put(&[COMMIT])
            }
            Some(Fault::Unreadable(cause)) => {
                self.notes.add(About::Unreadable, &entry.path, cause);
                self.put(&[DISCARD])
            }
        }
    }

    fn item(&mut self, item: &Item) -> Result<(), Unread> {
        let mut line = serde_json::to_vec(item).expect("items have string keys and no failing part");
        line.push(b'\n');
        self.put(&line)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Unread> {
        self.digest.update(bytes);
        self.part.extend_from_slice(bytes);
        if self.part.len() >= PART_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Unread> {
        let part = std::mem::replace(&mut self.part, Vec::with_capacity(PART_BYTES));
        self.sender.blocking_send(part).map_err(|_| Unread)
    }
}

/// What is written, to be read.
#[derive(Debug)]
pub(super) struct Parts {
    receiver: mpsc::Receiver<Vec<u8>>,
    part: Vec<u8>,
    taken: usize,
}

impl AsyncRead for Parts {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.taken == self.part.len() {
            match ready!(self.receiver.poll_recv(context)) {
                Some(part) => (self.part, self.taken) = (part, 0),
                None => return Poll::Ready(Ok(())),
            }
        }
        let end = self.part.len().min(self.taken + buffer.remaining());
        buffer.put_slice(&self.part[self.taken..end]);
        self.taken = end;
        Poll::Ready(Ok(()))
    }
}

/// Tells how much was read.
pub(super) struct Counted<'a> {
    pub(super) source: &'a mut Parts,
    pub(super) report: Reporter<'a>,
    pub(super) bytes: u64,
}

impl AsyncRead for Counted<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut *self.source).poll_read(context, buffer))?;
        self.bytes += (buffer.filled().len() - before) as u64;
        (self.report)(Progress::Done(self.bytes));
        Poll::Ready(Ok(()))
    }
}

/// SHA-256 of files of a tree, in hex; none of what cannot be read.
pub(super) fn digests(tree: &SeedTree, indexes: &[usize]) -> Vec<Option<String>> {
    let mut contents = Contents::new(tree);
    let mut buffer = vec![0; PART_BYTES];
    let mut of = |index: usize| {
        let SeedKind::File { size_bytes, content } = &tree.entries[index].kind else { return None };
        let mut opened = contents.open(content, *size_bytes).ok()?;
        let mut hash = digest::Context::new(&SHA256);
        loop {
            match opened.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => hash.update(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
        opened.fault().is_none().then(|| hex::encode(hash.finish().as_ref()))
    };
    indexes.iter().map(|index| of(*index)).collect()
}

/// The digest of nothing.
pub(super) fn empty_digest() -> String {
    hex::encode(digest::digest(&SHA256, b"").as_ref())
}

/// Paths as lines of input.
pub(super) fn words(paths: &[Vec<u8>]) -> Vec<u8> {
    let mut lines = Vec::new();
    for path in paths {
        serde_json::to_writer(&mut lines, &word(path)).expect("a word is a string or an array of numbers");
        lines.push(b'\n');
    }
    lines
}

fn word(path: &[u8]) -> Word {
    Word::from(path.to_vec())
}
