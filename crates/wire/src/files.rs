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

/// Most bytes of content one [`Read`] may answer.
pub const READ_BYTES_MAX: u32 = 16 * 1024 * 1024;

/// Files up to this size have their lines counted by a [`Read`].
pub const COUNTED_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Reads a range of a regular file. Answers with one line, a [`ReadHead`], and then the content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// Absolute path; symbolic links are followed.
    pub path: Word,
    /// Where to read.
    pub range: ReadRange,
    /// At most so many bytes, and at most [`READ_BYTES_MAX`]. A line that does not fit is left out when the range is of
    /// lines and one before it fits.
    pub bytes_max: u32,
}

/// A part of a file. One that begins behind the end is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadRange {
    /// From this byte on.
    Bytes {
        /// Bytes left out before it.
        offset: u64,
    },
    /// Whole lines.
    Lines {
        /// The first; a file's first line is line 1.
        first: u64,
        /// How many at most.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        count: Option<u64>,
    },
}

/// What precedes the content that a [`Read`] answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadHead {
    /// Size of the whole file. Files of the kernel's own say 0.
    pub size_bytes: u64,
    /// The permission bits, at most `0o7777`.
    pub mode: u32,
    /// Nanoseconds since 1970-01-01 UTC.
    pub modified_unix_ns: i64,
    /// Neither the first 8 KiB of the file nor the content holds a NUL byte.
    pub is_text: bool,
    /// Lines of the whole file, a last one without an end included; only of text, and up to [`COUNTED_BYTES_MAX`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line_count: Option<u64>,
    /// Where in the file the content begins.
    pub offset_bytes: u64,
    /// The number of the line with which the content begins; not known of a range of bytes but at the file's beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_line: Option<u64>,
    /// The content reaches the end of the file.
    pub at_end: bool,
    /// How many bytes of content follow.
    pub content_bytes: u32,
}

/// Most bytes of content one [`Write`] may carry, and of a file before and after an [`Edit`].
pub const WRITE_BYTES_MAX: u32 = 16 * 1024 * 1024;

/// Makes a regular file, or replaces one's content in one step; its content comes on standard input. A replaced file keeps
/// mode and owner, missing parents are made, and a symbolic link is written through. Answers with one line, [`Written`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    /// Absolute path.
    pub path: Word,
    /// Exactly so many bytes come, at most [`WRITE_BYTES_MAX`]: what was cut short on its way is not written.
    pub size_bytes: u32,
}

/// What a [`Write`] did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// There was no such file before.
    pub created: bool,
    /// Size of the file now.
    pub size_bytes: u64,
    /// Its permission bits.
    pub mode: u32,
}

/// Most lines an [`Edited`] shows or names.
pub const EDIT_LINES_MAX: usize = 12;

/// Replaces one text by another in a regular file. Both come on standard input, one right after the other. Answers with one
/// line, [`Edited`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edit {
    /// Absolute path; symbolic links are followed.
    pub path: Word,
    /// So many bytes of input are the text to replace, at least one.
    pub old_bytes: u32,
    /// So many bytes after them are the text to put in its place.
    pub new_bytes: u32,
    /// Replace it wherever it is; otherwise it must be there exactly once.
    pub replace_all: bool,
}

/// How an [`Edit`] went. Only [`Edited::Done`] has changed anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edited {
    /// The file is written anew, in one step.
    Done {
        /// How often the text was replaced.
        count: u64,
        /// Lines of the new file at which replaced text begins; the first [`EDIT_LINES_MAX`].
        lines: Vec<u64>,
        /// Size of the file now.
        size_bytes: u64,
    },
    /// The text is not in the file.
    Missing {
        /// What is most like it; at most [`EDIT_LINES_MAX`] lines in a row, none when nothing is like it.
        nearest: Vec<NearLine>,
        /// What it is that differs, when that is plain.
        difference: Option<Difference>,
    },
    /// The text is there more than once.
    Ambiguous {
        /// How often.
        count: u64,
        /// Lines at which it begins; the first [`EDIT_LINES_MAX`].
        lines: Vec<u64>,
    },
}

/// A line that is much like one that was looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NearLine {
    /// Its number in the file.
    pub number: u64,
    /// What it says, without its end; a long one is cut. Bytes that are no UTF-8 are replaced.
    pub text: String,
}

/// The one thing in which a text differs from what is in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Difference {
    /// The file's lines end with a carriage return and a line feed.
    LineEnds,
    /// Spaces and tabs.
    Blanks,
}
