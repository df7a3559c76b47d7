//! Seeds: what a workspace begins with, as its user sees it on the host.
//!
//! [`survey`] looks at a directory or an archive and lists what will be in the guest ([`SeedTree`]); [`write_disk`] writes it
//! onto a workspace disk; `sync push` compares it with a live workspace. Nothing of the host is changed, no program is run,
//! and no link is followed. What is left out, and what was kept though it looks secret, is noted.
//!
//! Deliberately absent: machines, `$HOME` (a face passes the user's git settings in), words for people.

mod archive;
mod checkout;
pub mod content;
mod disk;
#[cfg(test)]
mod fixture;
mod git;
mod host_dir;
mod ignored;
pub mod notes;
mod secrets;
pub mod tree;

use std::io;
use std::path::PathBuf;

use pyro_environment::ext4::Ext4Error;

pub use disk::{SeedSummary, write_disk};
pub use git::{GitUser, Reach};
pub use notes::{About, SeedNote, SeedNotes};
pub use tree::{SeedEntry, SeedKind, SeedTree};

/// What to seed a workspace with.
#[derive(Debug, Clone)]
pub struct SeedRequest {
    /// A directory, or an archive: `.tar`, plain or packed with gzip, zstd or xz.
    pub source: PathBuf,
    /// Take what is ignored too, and hooks.
    pub all: bool,
    /// Take what looks secret too.
    pub secrets: bool,
    /// Whose commits are made in the workspace.
    pub git: GitUser,
    /// Where repository data outside of the source may be taken from.
    pub reach: Reach,
    /// Bytes of content that an archive may unpack to: the size of the disk it is for.
    pub archive_bytes_max: u64,
    /// A directory on a disk with room for what an archive unpacks to; nothing with a name is left in it.
    pub scratch_dir: PathBuf,
}

/// Why there is no seed.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// The source is not there or cannot be opened.
    #[error("cannot read the seed {}", path.display())]
    Source {
        /// The source.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The source is neither a directory nor an archive that pyro knows.
    #[error("{} is neither a directory nor a tar archive (plain, gzip, zstd or xz)", path.display())]
    UnknownKind {
        /// The source.
        path: PathBuf,
    },
    /// The archive is malformed, cut off, or wants too much memory.
    #[error("cannot unpack the seed {}", path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The archive unpacks to more than the disk can hold.
    #[error("the seed {} unpacks to more than {bytes_max} bytes", path.display())]
    ArchiveTooLarge {
        /// The archive.
        path: PathBuf,
        /// The limit.
        bytes_max: u64,
    },
    /// There is no room to unpack an archive in.
    #[error("cannot unpack the seed in {}", path.display())]
    Scratch {
        /// The directory for such files.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The disk is too small.
    #[error("the seed needs {needed_bytes} bytes and a disk of {disk_gib} GiB has {free_bytes} free")]
    DoesNotFit {
        /// What the seed takes, directories and slack of its files included.
        needed_bytes: u64,
        /// What an empty disk of that size has.
        free_bytes: u64,
        /// The size of the disk.
        disk_gib: u32,
    },
    /// The disk cannot be written.
    #[error("cannot write the seed onto its disk")]
    Disk(#[from] Ext4Error),
    /// There are more entries than pyro takes.
    #[error("the seed has more than {limit} entries")]
    TooManyEntries {
        /// The limit.
        limit: u64,
    },
}

/// Looks at a source and lists what of it goes into a seed.
///
/// # Errors
/// See [`SeedError`]. What is only a part of the source is left out with a note instead.
pub fn survey(request: &SeedRequest) -> Result<SeedTree, SeedError> {
    let source_error = |source| SeedError::Source { path: request.source.clone(), source };
    let source = std::fs::canonicalize(&request.source).map_err(source_error)?;
    if !request.reach.allows(&source) {
        return Err(source_error(io::ErrorKind::PermissionDenied.into()));
    }
    let metadata = std::fs::metadata(&source).map_err(source_error)?;
    if metadata.is_dir() {
        return checkout::survey(request, &source);
    }
    if metadata.is_file() {
        return archive::survey(request, &source);
    }
    Err(SeedError::UnknownKind { path: request.source.clone() })
}

#[cfg(test)]
mod tests;
