//! [`SeedTree`]: what a seed is made of, in the order in which it is written. Content is not in it, only where to read it.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::Path;

use super::SeedError;
use super::host_dir::{HostDir, Stat};
use super::ignored::Rules;
use super::notes::{About, SeedNotes};

/// Entries of one seed; more are refused.
pub const ENTRIES_MAX: u64 = 2_000_000;

/// The entries of a seed, parents before what is in them, and where their content is.
#[derive(Debug)]
pub struct SeedTree {
    /// The directory itself.
    pub root: Attributes,
    /// Everything below it.
    pub entries: Vec<SeedEntry>,
    /// What a person should know of it.
    pub notes: SeedNotes,
    pub(super) dirs: Vec<HostDir>,
    pub(super) files: Vec<File>,
    pub(super) rules: Rules,
    /// What is in the source and was not taken.
    pub(super) not_taken: HashSet<Vec<u8>>,
}

/// One name in a seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeedEntry {
    /// Its path below the root of the seed: any bytes, no slash at either end, no `.` or `..`.
    pub path: Vec<u8>,
    /// Mode and time.
    pub attributes: Attributes,
    /// What it is.
    pub kind: SeedKind,
}

/// Mode and time of an entry; all entries belong to the guest's working user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u16,
    /// When it was last changed.
    pub mtime: Moment,
}

/// A time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Seconds since 1970.
    pub seconds: i64,
    /// The rest, below 1,000,000,000.
    pub nanoseconds: u32,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SeedKind {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// How long it was when it was looked at.
        size_bytes: u64,
        /// Where it is read from.
        content: Content,
    },
    /// A symbolic link, wherever it leads.
    Symlink(Vec<u8>),
    /// Another name of the file that is the entry of this index, an earlier one.
    HardLink(usize),
}

/// Where the content of a file is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A file of the host, below one of the directories held open.
    Host {
        /// Index of the directory.
        dir: usize,
        /// Path below it.
        path: Vec<u8>,
    },
    /// A part of a file held open.
    Slice {
        /// Index of the file.
        file: usize,
        /// Where the content begins.
        offset: u64,
    },
    /// These bytes.
    Bytes(Vec<u8>),
}

impl SeedTree {
    /// Names of regular files, and the bytes of their content.
    #[must_use]
    pub fn totals(&self) -> (u64, u64) {
        self.entries.iter().fold((0, 0), |(files, bytes), entry| match &entry.kind {
            SeedKind::File { size_bytes, .. } => (files + 1, bytes + size_bytes),
            SeedKind::HardLink(_) => (files + 1, bytes),
            SeedKind::Directory | SeedKind::Symlink(_) => (files, bytes),
        })
    }

    /// Whether `path` (a directory if `is_dir`) is left out of a seed of this source, whether it is there or not: it is ignored,
    /// looks secret, or was met and not taken.
    #[must_use]
    pub fn leaves_out(&self, path: &[u8], is_dir: bool) -> bool {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
        let met = ends.chain([path.len()]).any(|end| self.not_taken.contains(&path[..end]));
        met || self.rules.leave_out(path, is_dir)
    }
}

/// Collects the entries of a tree.
#[derive(Debug, Default)]
pub(super) struct TreeBuilder {
    pub(super) entries: Vec<SeedEntry>,
    pub(super) notes: SeedNotes,
    dirs: Vec<HostDir>,
    files: Vec<File>,
    /// Files of the host by device and inode, so that a second name becomes a hard link.
    inodes: HashMap<(u64, u64), usize>,
    not_taken: HashSet<Vec<u8>>,
}

impl TreeBuilder {
    pub(super) fn hold_dir(&mut self, dir: HostDir) -> usize {
        self.dirs.push(dir);
        self.dirs.len() - 1
    }

    pub(super) fn hold_file(&mut self, file: File) -> usize {
        self.files.push(file);
        self.files.len() - 1
    }

    pub(super) fn add(&mut self, path: Vec<u8>, attributes: Attributes, kind: SeedKind) -> Result<usize, SeedError> {
        if self.entries.len() as u64 >= ENTRIES_MAX {
            return Err(SeedError::TooManyEntries { limit: ENTRIES_MAX });
        }
        self.entries.push(SeedEntry { path, attributes, kind });
        Ok(self.entries.len() - 1)
    }

    /// The path of a directory that is held.
    pub(super) fn dir_path(&self, dir: usize) -> &Path {
        self.dirs[dir].path()
    }

    /// Adds a file of the host, as a hard link if the same file has a name already. One that has but a single name on the host
    /// is looked for only if it may be met `again`.
    pub(super) fn add_host_file(
        &mut self,
        path: Vec<u8>,
        stat: &Stat,
        content: Content,
        again: bool,
    ) -> Result<(), SeedError> {
        let shared = again || stat.links > 1;
        let kind = match self.inodes.get(&stat.inode).filter(|_| shared) {
            Some(first) => SeedKind::HardLink(*first),
            None => SeedKind::File { size_bytes: stat.size_bytes, content },
        };
        let index = self.add(path, stat.attributes, kind)?;
        if shared {
            self.inodes.entry(stat.inode).or_insert(index);
        }
        Ok(())
    }

    pub(super) fn note(&mut self, about: About, path: &[u8], detail: impl Into<String>) {
        let not_taken =
            matches!(about, About::SecretLeftOut | About::SpecialLeftOut | About::Unreadable | About::TooDeep);
        if not_taken && !path.is_empty() {
            self.not_taken.insert(path.to_vec());
        }
        self.notes.add(about, path, detail);
    }

    pub(super) fn finish(self, root: Attributes, rules: Rules) -> SeedTree {
        let Self { entries, notes, dirs, files, not_taken, .. } = self;
        SeedTree { root, entries, notes, dirs, files, rules, not_taken }
    }
}

/// `dir/name`, or the name alone at the top.
#[must_use]
pub fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() }
}

/// The directory of a path; empty at the top.
#[must_use]
pub fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(b"", |end| &path[..end])
}

/// The last part of a path.
#[must_use]
pub fn name(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(path, |end| &path[end + 1..])
}
