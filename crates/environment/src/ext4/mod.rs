//! Writes ext4 filesystems into files: without root, without a mount, the same bytes for the same input.
//!
//! [`Formatter`] takes directories, files and links one by one; file content goes straight to its place in the image,
//! and [`Formatter::finish`] writes directories and metadata. What it makes is plain ext4 as Linux 6.1 mounts it: 4 KiB
//! blocks, extents, all group metadata packed at the front, large directories with an index, a journal where asked for.
//! `docs/decisions/0006-ext4-writer.md` says why this is written here.
//!
//! Deliberately absent: reading (nothing on the host parses a filesystem that a guest wrote), checksummed metadata,
//! growing an image that exists.

mod encode;
mod formatter;
mod geometry;
mod htree;

use std::io;
use std::path::PathBuf;

pub use formatter::Formatter;

/// Size of a block; the only one supported.
pub const BLOCK_BYTES: u64 = 4096;

/// What to make.
#[derive(Debug, Clone)]
pub struct FormatOptions {
    /// Size of the filesystem and of the file; rounded up to a whole block.
    pub size_bytes: u64,
    /// One inode for so many bytes.
    pub bytes_per_inode: u64,
    /// Identity of the filesystem, not zero; also the seed of the hashes in indexed directories.
    pub uuid: [u8; 16],
    /// When it is said to be made, in seconds since 1970.
    pub time_seconds: i64,
    /// Blocks of the journal; 0 for none, otherwise at least 1024.
    pub journal_blocks: u32,
}

/// Mode, owner and time of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits with setuid, setgid and sticky: `07777` at most.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time in seconds since 1970.
    pub mtime_seconds: i64,
    /// The rest of it, below 1,000,000,000.
    pub mtime_nanoseconds: u32,
}

impl Attributes {
    /// Of root, with the given mode and time.
    #[must_use]
    pub const fn of_root(mode: u16, mtime_seconds: i64) -> Self {
        Self { mode, uid: 0, gid: 0, mtime_seconds, mtime_nanoseconds: 0 }
    }
}

/// What an entry is, apart from its attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// A character device with its major and minor number.
    CharDevice(u32, u32),
    /// A block device with its major and minor number.
    BlockDevice(u32, u32),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// What a finished image holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Formatted {
    /// Size of the filesystem.
    pub size_bytes: u64,
    /// Bytes in use, metadata included.
    pub used_bytes: u64,
    /// Inodes in use.
    pub used_inodes: u32,
}

/// Why an image was not made.
#[derive(Debug, thiserror::Error)]
pub enum Ext4Error {
    /// The image file cannot be written.
    #[error("cannot write the image {}", image.display())]
    Write {
        /// The image.
        image: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The content of an entry cannot be read.
    #[error("cannot read the content of {path}")]
    Content {
        /// The entry.
        path: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The content of an entry is shorter than was announced.
    #[error("the content of {path} ends before its {size_bytes} bytes")]
    ContentEnds {
        /// The entry.
        path: String,
        /// The size that was announced.
        size_bytes: u64,
    },
    /// There is no room for the content.
    #[error("the image of {size_bytes} bytes is too small")]
    NoRoom {
        /// Size of the image.
        size_bytes: u64,
    },
    /// A path is empty, has `.` or `..` or NUL in it, or a component of more than 255 bytes.
    #[error("{path} is not a path for an image")]
    BadPath {
        /// The path, cleaned for a terminal.
        path: String,
    },
    /// The directory for an entry, or the target of a hard link, is not there.
    #[error("{path} does not exist in the image")]
    NotFound {
        /// The missing path.
        path: String,
    },
    /// A component of the path is not a directory.
    #[error("{path} is not a directory in the image")]
    NotADirectory {
        /// That component.
        path: String,
    },
    /// There is such an entry already.
    #[error("{path} exists in the image already")]
    Exists {
        /// The path.
        path: String,
    },
    /// A directory cannot be removed because something is in it, or linked.
    #[error("{path} is a directory that cannot be removed or linked")]
    DirectoryInUse {
        /// The path.
        path: String,
    },
    /// A limit of the format is passed.
    #[error("{what} is beyond what this writer can express")]
    Limit {
        /// What is too large.
        what: &'static str,
    },
}

#[cfg(test)]
mod tests;
