//! Why a file was not fetched.

use std::io;
use std::path::{Path, PathBuf};

use reqwest::StatusCode;

/// Why a file was not fetched. URLs in it carry no passwords.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The URL or a proxy's URL is not one, or the client cannot be set up.
    #[error("cannot use {what}")]
    Setup {
        /// What is wrong.
        what: String,
        /// The cause.
        #[source]
        source: reqwest::Error,
    },
    /// No connection, or one that broke or stalled, after all attempts.
    #[error("cannot reach {url}")]
    Unreachable {
        /// What was fetched.
        url: String,
        /// The cause.
        #[source]
        source: reqwest::Error,
    },
    /// The connection ended early, after all attempts.
    #[error("{url} ended after {got} of {expected} bytes")]
    Cut {
        /// What was fetched.
        url: String,
        /// Bytes that arrived.
        got: u64,
        /// Bytes there should be.
        expected: u64,
    },
    /// The server refused, after all attempts where trying again could help.
    #[error("{url} was answered with {status}")]
    Status {
        /// What was fetched.
        url: String,
        /// The answer.
        status: StatusCode,
    },
    /// The file has another size than it must have.
    #[error("{url} has {found} bytes instead of {expected}")]
    Size {
        /// What was fetched.
        url: String,
        /// The size it must have.
        expected: u64,
        /// The size it has, or the least it can have.
        found: u64,
    },
    /// The file is larger than anything of its kind.
    #[error("{url} is larger than {size_bytes_max} bytes")]
    TooLarge {
        /// What was fetched.
        url: String,
        /// The limit.
        size_bytes_max: u64,
    },
    /// The file is not the one it must be. It was removed.
    #[error("{url} has SHA-256 {found} instead of {expected}")]
    Digest {
        /// What was fetched.
        url: String,
        /// The digest it must have.
        expected: String,
        /// The digest it has.
        found: String,
    },
    /// This machine's disk failed.
    #[error("cannot write {}", path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

impl FetchError {
    /// Whether it means that the server cannot be used now, not that it has something wrong.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Cut { .. } => true,
            Self::Status { status, .. } => is_passing(*status),
            _ => false,
        }
    }

    /// Whether the server says that it does not have the file.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Status { status: StatusCode::NOT_FOUND | StatusCode::GONE, .. })
    }
}

fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 425 | 429 | 500 | 502..=504)
}

/// A request that failed before or while its answer came.
pub(super) fn unreachable(url: &str, source: reqwest::Error) -> FetchError {
    let source = source.without_url();
    if source.is_builder() {
        FetchError::Setup { what: shown(url), source }
    } else {
        FetchError::Unreachable { url: shown(url), source }
    }
}

pub(super) fn disk(path: &Path, source: io::Error) -> FetchError {
    FetchError::Disk { path: path.to_owned(), source }
}

/// A URL without the user name and password it may carry.
pub(crate) fn shown(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let authority_length = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(authority_length);
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if scheme.is_empty() { format!("{host}{path}") } else { format!("{scheme}://{host}{path}") }
}
