//! Advisory locks between pyro processes, on files that stay. The kernel drops a lock with its process, however that ends.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

/// How often a lock that is held is tried again.
const RETRY_EVERY: Duration = Duration::from_millis(5);

/// A held lock; dropping it gives it up.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it.
    #[error("{} is held by process {holder}", path.display())]
    Held {
        /// The lock file.
        path: PathBuf,
        /// Process id of the holder, as it wrote it; for people only.
        holder: String,
    },
    /// The lock file cannot be opened or locked.
    #[error("cannot lock {}", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

impl Lock {
    /// Takes the lock if it is free.
    ///
    /// # Errors
    /// [`LockError::Held`] if it is not.
    pub fn try_take(path: &Path) -> Result<Self, LockError> {
        Self::take_with(path, FlockOperation::NonBlockingLockExclusive)
    }

    /// Whether another process holds the lock. Nothing is made or written; whoever takes the lock at this very moment may find
    /// it held, and tries again.
    #[must_use]
    pub fn is_held(path: &Path) -> bool {
        Self::check_free(path).is_err()
    }

    /// As [`Self::is_held`], with the holder.
    ///
    /// # Errors
    /// Only [`LockError::Held`].
    pub fn check_free(path: &Path) -> Result<(), LockError> {
        let Ok(mut file) = File::open(path) else { return Ok(()) };
        if flock(&file, FlockOperation::NonBlockingLockShared) != Err(rustix::io::Errno::WOULDBLOCK) {
            return Ok(());
        }
        let mut holder = String::new();
        // A directory is locked as well, and tells nothing.
        drop(file.read_to_string(&mut holder));
        Err(LockError::Held { path: path.to_owned(), holder: holder.trim().to_owned() })
    }

    /// Takes the lock, blocking the thread until it is free.
    ///
    /// # Errors
    /// Only [`LockError::Io`].
    pub fn wait(path: &Path) -> Result<Self, LockError> {
        Self::take_with(path, FlockOperation::LockExclusive)
    }

    /// Takes the lock of a directory itself, blocking the thread until it is free. It needs no file and leaves none; it is for
    /// the moment in which something in the directory is looked at and changed.
    ///
    /// # Errors
    /// Only [`LockError::Io`].
    pub fn wait_for_directory(path: &Path) -> Result<Self, LockError> {
        Self::take_directory(path, FlockOperation::LockExclusive)
    }

    /// Takes the lock of a directory itself, if it is free.
    ///
    /// # Errors
    /// [`LockError::Held`] if it is not; nobody knows by whom.
    pub fn try_directory(path: &Path) -> Result<Self, LockError> {
        Self::take_directory(path, FlockOperation::NonBlockingLockExclusive)
    }

    /// Takes the lock as soon as it is free, within a limit: who only looks holds it for a moment.
    ///
    /// # Errors
    /// [`LockError::Held`] if it is not free in time.
    pub fn take_within(path: &Path, limit: Duration) -> Result<Self, LockError> {
        let begun = Instant::now();
        loop {
            match Self::try_take(path) {
                Err(LockError::Held { .. }) if begun.elapsed() < limit => std::thread::sleep(RETRY_EVERY),
                result => return result,
            }
        }
    }

    fn take_directory(path: &Path, operation: FlockOperation) -> Result<Self, LockError> {
        let io_error = |source| LockError::Io { path: path.to_owned(), source };
        super::home::create_private_dir(path).map_err(io_error)?;
        let dir = File::open(path).map_err(io_error)?;
        loop {
            match flock(&dir, operation) {
                Ok(()) => return Ok(Self { _file: dir }),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(LockError::Held { path: path.to_owned(), holder: "unknown".to_owned() });
                }
                Err(errno) => return Err(io_error(errno.into())),
            }
        }
    }

    fn take_with(path: &Path, operation: FlockOperation) -> Result<Self, LockError> {
        let io_error = |source| LockError::Io { path: path.to_owned(), source };
        if let Some(parent) = path.parent() {
            super::home::create_private_dir(parent).map_err(io_error)?;
        }
        let mut options = OpenOptions::new();
        let mut file =
            options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path).map_err(io_error)?;
        loop {
            match flock(&file, operation) {
                Ok(()) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    let mut holder = String::new();
                    file.read_to_string(&mut holder).map_err(io_error)?;
                    return Err(LockError::Held { path: path.to_owned(), holder: holder.trim().to_owned() });
                }
                Err(errno) => return Err(io_error(errno.into())),
            }
        }
        // Who holds it is a courtesy to people; the lock itself is the kernel's.
        file.set_len(0).and_then(|()| file.rewind()).map_err(io_error)?;
        writeln!(file, "{}", std::process::id()).map_err(io_error)?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Lock, LockError};

    #[test]
    fn a_second_holder_is_told_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("locks/a.lock");
        let first = Lock::try_take(&path).unwrap();
        let Err(LockError::Held { holder, .. }) = Lock::try_take(&path) else { panic!("taken twice") };
        assert_eq!(holder, std::process::id().to_string());
        assert!(Lock::is_held(&path) && !Lock::is_held(&dir.path().join("other")));
        assert!(!dir.path().join("other").exists(), "a look makes nothing");
        drop(first);
        assert!(!Lock::is_held(&path));
        Lock::try_take(&path).unwrap();
    }

    #[test]
    fn a_lock_that_is_held_for_a_moment_is_waited_for_and_no_longer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.lock");
        let first = Lock::try_take(&path).unwrap();
        let held = Lock::take_within(&path, Duration::from_millis(30));
        assert!(matches!(held, Err(LockError::Held { .. })));
        let waiting = std::thread::spawn(move || Lock::take_within(&path, Duration::from_secs(60)).map(drop));
        drop(first);
        waiting.join().unwrap().unwrap();
        let first = Lock::wait_for_directory(dir.path()).unwrap();
        assert!(matches!(Lock::try_directory(dir.path()), Err(LockError::Held { .. })));
        drop(first);
        Lock::try_directory(dir.path()).unwrap();
    }
}
