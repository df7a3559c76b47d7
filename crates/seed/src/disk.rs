//! Writes a seed onto a workspace disk: everything of it below the place of the seed, owned by the guest's working user.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use pyro_environment::blank::{self, CHANGES_DIR, SEED_DIR, WorkspaceDisk};
use pyro_environment::ext4::{self, BLOCK_BYTES, Ext4Error, Formatter};
use pyro_environment::progress::{Progress, Reporter, Unit};
use pyro_store::hex;
use ring::digest::{Context, SHA256};

use super::SeedError;
use super::content::{Contents, Fault};
use super::notes::{About, SeedNotes};
use super::tree::{Attributes, Content, SeedEntry, SeedKind, SeedTree, join};

/// The disk's name in messages: its file need not have any.
const IMAGE_NAME: &str = "of the workspace disk";
/// How often progress is told.
const REPORT_BYTES: u64 = 4 << 20;

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeedSummary {
    /// Names of regular files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Bytes of content; of a file with several names once.
    pub bytes: u64,
    /// SHA-256 of all names, kinds, modes and content, in hex.
    pub digest: String,
    /// The notes of the survey and of the writing.
    pub notes: SeedNotes,
}

/// Writes a workspace disk of `gib` GiB that begins with `tree` into `file`, an empty one. The file is not synced.
///
/// # Errors
/// [`SeedError::DoesNotFit`] before anything is written, [`SeedError::Disk`]; the file is of no use then.
pub fn write_disk(tree: &SeedTree, gib: u32, file: File, report: Reporter<'_>) -> Result<SeedSummary, SeedError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed());
    let disk = WorkspaceDisk { gib, seed_inodes: tree.entries.len() as u64, time_seconds: now };
    let mut formatter = blank::begin(Path::new(IMAGE_NAME), file, disk)?;
    let (needed_bytes, free_bytes) = (needed_bytes(tree), formatter.free_bytes());
    let does_not_fit = SeedError::DoesNotFit { needed_bytes, free_bytes, disk_gib: gib };
    if needed_bytes > free_bytes {
        return Err(does_not_fit);
    }
    for dir in [SEED_DIR, CHANGES_DIR] {
        // The overlay's root shows what its upper layer has.
        formatter.add_directory(dir, owned(tree.root))?;
    }
    let total = tree.totals().1;
    report(Progress::Stage { name: "write seed", unit: Unit::Bytes, total: Some(total) });
    let mut writer = Writer::new(tree, formatter, report);
    match tree.entries.iter().enumerate().try_for_each(|(index, entry)| writer.entry(index, entry)) {
        // Files may have grown since they were surveyed.
        Err(Ext4Error::NoRoom { .. }) => Err(does_not_fit),
        result => Ok(result.and_then(|()| writer.finish())?),
    }
}

/// What a tree takes on a disk: whole blocks for files, and directories as they are laid down.
fn needed_bytes(tree: &SeedTree) -> u64 {
    let of_entry = |entry: &SeedEntry| {
        let in_directory = (8 + super::tree::name(&entry.path).len() as u64).next_multiple_of(4);
        in_directory
            + match &entry.kind {
                SeedKind::Directory => BLOCK_BYTES,
                SeedKind::File { size_bytes, .. } => size_bytes.next_multiple_of(BLOCK_BYTES),
                SeedKind::Symlink(target) if target.len() > 59 => BLOCK_BYTES,
                SeedKind::Symlink(_) | SeedKind::HardLink(_) => 0,
            }
    };
    tree.entries.iter().map(of_entry).sum()
}

fn owned(attributes: Attributes) -> ext4::Attributes {
    let own = ext4::Attributes::of_root(attributes.mode, attributes.mtime.seconds);
    ext4::Attributes { mtime_nanoseconds: attributes.mtime.nanoseconds, ..own }
}

struct Writer<'a> {
    tree: &'a SeedTree,
    formatter: Formatter,
    contents: Contents<'a>,
    summary: SeedSummary,
    digest: Context,
    /// Entries that were left out, so that no link can be made to them.
    left_out: HashSet<usize>,
    report: Reporter<'a>,
    reported_bytes: u64,
}

impl<'a> Writer<'a> {
    fn new(tree: &'a SeedTree, formatter: Formatter, report: Reporter<'a>) -> Self {
        let summary = SeedSummary {
            files: 0,
            directories: 0,
            symlinks: 0,
            bytes: 0,
            digest: String::new(),
            notes: tree.notes.clone(),
        };
        Self {
            tree,
            formatter,
            contents: Contents::new(tree),
            summary,
            digest: Context::new(&SHA256),
            left_out: HashSet::new(),
            report,
            reported_bytes: 0,
        }
    }

    fn entry(&mut self, index: usize, entry: &'a SeedEntry) -> Result<(), Ext4Error> {
        let path = join(SEED_DIR, &entry.path);
        let attributes = owned(entry.attributes);
        match &entry.kind {
            SeedKind::Directory => {
                self.formatter.add_directory(&path, attributes)?;
                self.summary.directories += 1;
                self.record(entry, b"d", b"");
            }
            SeedKind::Symlink(target) => {
                self.formatter.add_symlink(&path, attributes, target)?;
                self.summary.symlinks += 1;
                self.record(entry, b"l", target);
            }
            SeedKind::HardLink(first) if self.left_out.contains(first) => {
                self.leave_out(index, entry, "another name of it cannot be read");
            }
            SeedKind::HardLink(first) => {
                let first = &self.tree.entries[*first].path;
                self.formatter.add_hard_link(&path, &join(SEED_DIR, first))?;
                self.summary.files += 1;
                self.record(entry, b"h", first);
            }
            SeedKind::File { size_bytes, content } => self.file(index, entry, content, *size_bytes)?,
        }
        Ok(())
    }

    fn file(
        &mut self,
        index: usize,
        entry: &'a SeedEntry,
        content: &'a Content,
        size_bytes: u64,
    ) -> Result<(), Ext4Error> {
        let mut opened = match self.contents.open(content, size_bytes) {
            Ok(opened) => opened,
            Err(error) => {
                self.leave_out(index, entry, &error.to_string());
                return Ok(());
            }
        };
        let size_bytes = opened.size_bytes;
        let mut hashed = Hashed { source: &mut opened, digest: Context::new(&SHA256) };
        let path = join(SEED_DIR, &entry.path);
        self.formatter.add_file(&path, owned(entry.attributes), size_bytes, &mut hashed)?;
        let digest = hashed.digest.finish();
        match opened.fault() {
            None => {}
            Some(Fault::Changed) => self.summary.notes.add(About::Changed, &entry.path, ""),
            Some(Fault::Unreadable(cause)) => self.summary.notes.add(About::Unreadable, &entry.path, cause),
        }
        self.record(entry, b"f", digest.as_ref());
        self.summary.files += 1;
        self.summary.bytes += size_bytes;
        if self.summary.bytes - self.reported_bytes >= REPORT_BYTES {
            self.reported_bytes = self.summary.bytes;
            (self.report)(Progress::Done(self.summary.bytes));
        }
        Ok(())
    }

    fn leave_out(&mut self, index: usize, entry: &SeedEntry, cause: &str) {
        self.left_out.insert(index);
        self.summary.notes.add(About::Unreadable, &entry.path, cause);
    }

    fn record(&mut self, entry: &SeedEntry, kind: &[u8], what: &[u8]) {
        let lengths = [entry.path.len() as u64, what.len() as u64].map(u64::to_le_bytes).concat();
        let mode = entry.attributes.mode.to_le_bytes();
        for part in [kind, &mode, &lengths, &entry.path, what] {
            self.digest.update(part);
        }
    }

    fn finish(self) -> Result<SeedSummary, Ext4Error> {
        self.formatter.finish()?;
        (self.report)(Progress::Done(self.summary.bytes));
        Ok(SeedSummary { digest: hex::encode(self.digest.finish().as_ref()), ..self.summary })
    }
}

/// Hashes what is read.
struct Hashed<'a> {
    source: &'a mut dyn Read,
    digest: Context,
}

impl Read for Hashed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.digest.update(&buffer[..count]);
        Ok(count)
    }
}
