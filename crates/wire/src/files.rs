//! Files of a guest: listed, read, written, edited.

use serde::{Deserialize, Serialize};

use crate::exec::Word;

/// Most entries one listing may hold.
pub const LIST_ENTRIES_MAX: u32 = 20_000;

/// Lists a directory, or shows the one thing that is at a path. Answers with lines of [`ListLine`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    /// Absolute path; a symbolic link is followed.
    pub path: Word,
    /// Also what is in directories below. Symbolic links to directories are not entered.
    pub recursive: bool,
    /// At most so many entries, and at most [`LIST_ENTRIES_MAX`].
    pub entries_max: u32,
}

/// One line of the answer to [`List`]: entries, each directory's sorted by name and each followed by its own, then the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListLine {
    /// One entry.
    Entry(Entry),
    /// The last line.
    End {
        /// There is more than was listed.
        truncated: bool,
    },
}

/// A name in the file system and what it stands for. A symbolic link stands for itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Relative to the listed directory; the last component of the path when that is no directory.
    pub path: Word,
    /// What it is.
    pub kind: EntryKind,
    /// Bytes of a file, or of a link's target; what the file system says of anything else.
    pub size_bytes: u64,
    /// The permission bits, at most `0o7777`.
    pub mode: u32,
    /// When its content was last changed, nanoseconds since 1970-01-01 UTC.
    pub modified_unix_ns: i64,
    /// Where a symbolic link leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Word>,
}

/// What an [`Entry`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
}
