//! The words for what can go wrong with an archive of packages: the network, the disk, and above all trust.

use pyro_engine::environment::fetch::FetchError;
use pyro_engine::environment::sources::debian::AcquireError;
use pyro_engine::store::lock::LockError;

use super::{Failure, Kind};

const ANOTHER_MIRROR: &str = "PYRO_DEBIAN_MIRROR names another mirror";
const NOT_THIS_MIRROR: &str = "nothing of it was kept; try again later, or name another mirror with PYRO_DEBIAN_MIRROR";
const NETWORK: &str = "check the network and http_proxy; PYRO_DEBIAN_MIRROR names another mirror";
const ROOM: &str = "make room and look at its permissions, or set PYRO_CACHE_DIR to another directory";

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        fetch(&error)
    }
}

/// What a client library says about a connection is a long way of saying what its last cause says.
fn fetch(error: &FetchError) -> Failure {
    let failure = |kind| match root_cause(error) {
        Some(cause) => Failure::new(kind, error.to_string()).caused_by(cause),
        None => Failure::new(kind, error.to_string()),
    };
    match error {
        FetchError::Setup { .. } => failure(Kind::Usage).hint("correct the URL of the mirror or of the proxy"),
        FetchError::Unreachable { .. } | FetchError::Cut { .. } => failure(Kind::HostNotReady).hint(NETWORK),
        FetchError::Status { url, .. } if url.contains("-security") => {
            failure(Kind::HostNotReady).hint("PYRO_DEBIAN_SECURITY_MIRROR names the security archive")
        }
        FetchError::Status { .. } => failure(Kind::HostNotReady).hint(ANOTHER_MIRROR),
        FetchError::Size { .. } | FetchError::TooLarge { .. } | FetchError::Digest { .. } => {
            failure(Kind::Untrusted).hint(NOT_THIS_MIRROR)
        }
        FetchError::Disk { .. } => failure(Kind::HostNotReady).hint(ROOM),
    }
}

fn root_cause(error: &dyn std::error::Error) -> Option<String> {
    let mut cause = error.source()?;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    Some(cause.to_string())
}

impl From<AcquireError> for Failure {
    fn from(error: AcquireError) -> Self {
        let failure = |kind| Failure::of(kind, &error);
        match &error {
            AcquireError::KeyringFile { .. } | AcquireError::Keyring { .. } => {
                failure(Kind::Usage).hint("PYRO_DEBIAN_KEYRING names a file with OpenPGP keys")
            }
            AcquireError::Offline { source, .. } => match root_cause(source) {
                Some(cause) => Failure::new(Kind::HostNotReady, error.to_string()).caused_by(cause).hint(NETWORK),
                None => failure(Kind::HostNotReady).hint(NETWORK),
            },
            AcquireError::Fetch(error) => fetch(error),
            AcquireError::Signature { .. } => failure(Kind::Untrusted)
                .hint("PYRO_DEBIAN_KEYRING names the keys of a private archive; otherwise try another mirror"),
            AcquireError::Expired { .. } => {
                failure(Kind::Untrusted).hint("is this machine's clock right? otherwise the mirror is stale")
            }
            AcquireError::WrongSuite { .. }
            | AcquireError::Release { .. }
            | AcquireError::NoList { .. }
            | AcquireError::Unpack { .. }
            | AcquireError::List { .. } => failure(Kind::Untrusted).hint(NOT_THIS_MIRROR),
            AcquireError::Resolve(_) => failure(Kind::NotFound)
                .hint("the mirror may be in the middle of an update: try again later, or name another"),
            AcquireError::NoSpace { path, needed_bytes, available_bytes } => {
                use crate::report::units::size;
                let (needed, free) = (size(*needed_bytes), size(*available_bytes));
                let words = format!("{} has {free} free, {needed} are needed for packages", path.display());
                Failure::new(Kind::HostNotReady, words).hint(ROOM)
            }
            AcquireError::Disk { .. } => failure(Kind::HostNotReady).hint(ROOM),
            AcquireError::Lock(LockError::Held { .. }) => {
                failure(Kind::Conflict).hint("wait for the other pyro to end")
            }
            AcquireError::Lock(LockError::Io { .. }) => failure(Kind::HostNotReady).hint(ROOM),
            AcquireError::Stopped => failure(Kind::Internal).hint("try again: what was downloaded is kept"),
        }
    }
}
