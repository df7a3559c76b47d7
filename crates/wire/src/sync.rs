//! Bringing a directory of a guest up to date: what is there, what it holds, and what is to be put or removed.
//!
//! Paths in input and answers are relative to the destination, without a slash at either end; the destination itself is the
//! empty path. Below the destination no link is followed.

use serde::{Deserialize, Serialize};

use crate::exec::Word;
use crate::files::EntryKind;

/// Most bytes of one line of input: room for two paths of any bytes, and what belongs to them.
pub const INPUT_LINE_BYTES_MAX: usize = 128 * 1024;

/// Lists directories, not what is in directories in them. On standard input come their paths, a [`Word`] a line. Answers with
/// lines of [`InventoryLine`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// The destination: an absolute path, of which links are followed. It need not exist.
    pub path: Word,
}

/// One line of the answer to [`Inventory`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InventoryLine {
    /// The directory that was named next. What is in it follows.
    Directory {
        /// Whether it was listed.
        found: DirectoryFound,
    },
    /// One thing in it, in any order.
    Entry(InventoryEntry),
    /// The last line.
    End,
}

/// What is at the path of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DirectoryFound {
    /// A directory of the same file system as the destination.
    Listed,
    /// Nothing.
    Missing,
    /// No directory, a part of the path is none, or another file system is mounted there: it is not listed.
    Other,
}

/// A name and what it stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InventoryEntry {
    /// The name.
    pub name: Word,
    /// What it is.
    pub kind: EntryKind,
    /// Bytes of a file.
    pub size_bytes: u64,
    /// The permission bits, at most `0o7777`.
    pub mode: u32,
    /// Nanoseconds since 1970-01-01 UTC.
    pub modified_unix_ns: i64,
    /// Where a symbolic link leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Word>,
}

/// Hashes files. On standard input come their paths, a [`Word`] a line. Answers with lines of [`DigestLine`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digests {
    /// The destination, as in [`Inventory`].
    pub path: Word,
}

/// One line of the answer to [`Digests`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DigestLine {
    /// SHA-256 of the file that was named next, in hex; none when it is no file or cannot be read.
    Digest(Option<String>),
    /// The last line.
    End,
}

/// Puts and removes things. On standard input come lines of [`Item`]; each file's content follows its line. Answers with lines
/// of [`ReceiveLine`], and what is told of is on the disk. What was done before the input broke off stays done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receive {
    /// The destination, as in [`Inventory`]. It is made, with the directories above it.
    pub path: Word,
}

/// Follows the content of a file that is to be put.
pub const COMMIT: u8 = b'+';

/// Follows the content of a file that is not to be put after all.
pub const DISCARD: u8 = b'-';

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Item {
    /// A directory is made, or one that is there gets this mode. Anything else there goes.
    Directory {
        /// Where.
        path: Word,
        /// Permission bits.
        mode: u32,
    },
    /// A file is made, or takes the place of what is there in one step. The content follows, then [`COMMIT`] or [`DISCARD`].
    File {
        /// Where.
        path: Word,
        /// Permission bits.
        mode: u32,
        /// Nanoseconds since 1970-01-01 UTC.
        modified_unix_ns: i64,
        /// Bytes of content that follow.
        size_bytes: u64,
    },
    /// A symbolic link is made, or takes the place of what is there.
    Symlink {
        /// Where.
        path: Word,
        /// Where it leads.
        target: Word,
    },
    /// A file gets another name.
    HardLink {
        /// The new name.
        path: Word,
        /// The file.
        to: Word,
    },
    /// A file or directory gets this mode.
    Mode {
        /// Which.
        path: Word,
        /// Permission bits.
        mode: u32,
    },
    /// Something goes. A directory that is not empty stays, which is no failure.
    Remove {
        /// Which.
        path: Word,
    },
    /// Nothing follows.
    End,
}

/// One line of the answer to [`Receive`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReceiveLine {
    /// Something that was there is not any more.
    Overwritten(Overwritten),
    /// Something could not be done; everything else goes on.
    Failed {
        /// Where.
        path: Word,
        /// Why not, in words. It comes from the guest.
        reason: String,
    },
    /// The last line.
    End(Received),
}

/// Something that was there is not any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overwritten {
    /// Where.
    pub path: Word,
    /// Nothing is there now; otherwise something else is.
    pub removed: bool,
    /// It was neither as in the baseline nor as an earlier [`Receive`] had put it: somebody in the guest had made or changed it.
    pub guest_change: bool,
}

/// What a [`Receive`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    /// Where nothing had been before.
    pub created: u64,
    /// Where something else had been, or the same with another mode.
    pub replaced: u64,
    /// What is gone.
    pub removed: u64,
    /// What could not be done.
    pub failed: u64,
}

#[cfg(test)]
mod tests {
    use super::{DigestLine, DirectoryFound, InventoryLine, Item, Overwritten, ReceiveLine, Received};

    #[track_caller]
    fn check<T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T, json: &str) {
        assert_eq!(serde_json::to_string(value).expect("serialises"), json);
        assert_eq!(&serde_json::from_str::<T>(json).expect("parses"), value);
    }

    #[test]
    fn the_json_of_each_line_is_fixed() {
        check(&InventoryLine::Directory { found: DirectoryFound::Listed }, r#"{"directory":{"found":"listed"}}"#);
        check(&InventoryLine::End, r#""end""#);
        check(&DigestLine::Digest(None), r#"{"digest":null}"#);
        let file = Item::File { path: "a".into(), mode: 0o644, modified_unix_ns: -1, size_bytes: 3 };
        check(&file, r#"{"file":{"path":"a","mode":420,"modified_unix_ns":-1,"size_bytes":3}}"#);
        check(&Item::Remove { path: vec![0xff].into() }, r#"{"remove":{"path":[255]}}"#);
        let gone = Overwritten { path: "a".into(), removed: true, guest_change: false };
        check(&ReceiveLine::Overwritten(gone), r#"{"overwritten":{"path":"a","removed":true,"guest_change":false}}"#);
        let done = Received { created: 1, ..Received::default() };
        check(&ReceiveLine::End(done), r#"{"end":{"created":1,"replaced":0,"removed":0,"failed":0}}"#);
    }
}
