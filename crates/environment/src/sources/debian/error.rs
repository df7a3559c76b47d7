//! Why packages were not acquired. URLs in these errors carry no passwords.

use std::io;
use std::path::PathBuf;

use pyro_store::lock::LockError;

use super::index::MalformedIndex;
use super::openpgp::{KeyringError, SignatureError};
use super::release::{MalformedRelease, show_date};
use super::resolve::ResolveError;
use crate::fetch::FetchError;

/// Why packages were not acquired.
#[derive(Debug, thiserror::Error)]
pub enum AcquireError {
    /// The keyring file cannot be read.
    #[error("cannot read the keyring {}", path.display())]
    KeyringFile {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The keyring is not usable.
    #[error("cannot use the keyring {}", path.display())]
    Keyring {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: KeyringError,
    },
    /// No server answers, and no list is here from an earlier time.
    #[error("the archive of {suite} cannot be reached, and no package lists are kept from an earlier time")]
    Offline {
        /// The suite.
        suite: String,
        /// The cause.
        #[source]
        source: FetchError,
    },
    /// A file was not fetched, or is not the one it must be.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A release is not signed by a trusted key.
    #[error("{url} cannot be trusted")]
    Signature {
        /// The release: a URL, or a path when it is the kept one.
        url: String,
        /// The cause.
        #[source]
        source: SignatureError,
    },
    /// A release is too old.
    #[error("{url} was valid until {} only, and it is {} now", show_date(*valid_until), show_date(*now))]
    Expired {
        /// The release.
        url: String,
        /// Its end, in seconds since 1970.
        valid_until: u64,
        /// This machine's time, in seconds since 1970.
        now: u64,
    },
    /// A release is of another suite.
    #[error("{url} is the release of {found} instead of {expected}")]
    WrongSuite {
        /// The release.
        url: String,
        /// The suite that was asked for.
        expected: String,
        /// The suite it says it is.
        found: String,
    },
    /// A release is signed, but not valid.
    #[error("{url} is not valid")]
    Release {
        /// The release.
        url: String,
        /// The cause.
        #[source]
        source: MalformedRelease,
    },
    /// A release has no list of packages for this architecture.
    #[error("{url} has no package list for amd64 in main")]
    NoList {
        /// The release.
        url: String,
    },
    /// A list of packages has the right hash, but cannot be unpacked.
    #[error("{url} cannot be unpacked")]
    Unpack {
        /// The list.
        url: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A list of packages has the right hash, but is not valid.
    #[error("{url} is not valid")]
    List {
        /// The list.
        url: String,
        /// The cause.
        #[source]
        source: MalformedIndex,
    },
    /// What is wanted is not there, or excludes itself.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The packages do not fit on the disk.
    #[error("{} has {available_bytes} bytes free, {needed_bytes} are needed for packages", path.display())]
    NoSpace {
        /// The directory.
        path: PathBuf,
        /// Bytes still to be downloaded, and a reserve.
        needed_bytes: u64,
        /// Bytes free.
        available_bytes: u64,
    },
    /// A file or directory of the cache cannot be used.
    #[error("cannot use {}", path.display())]
    Disk {
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The lists cannot be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The work was stopped with the runtime that it ran on.
    #[error("the work was stopped")]
    Stopped,
}
