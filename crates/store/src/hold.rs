//! Directories of the cache that are in use: who uses one holds it, and nobody removes what is held.
//!
//! Unlike a [`super::lock::Lock`] it needs no file of its own: the directory itself is locked, by the kernel, for as long
//! as the holder lives.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// A directory that is held; dropping it lets it go.
#[derive(Debug)]
pub struct Hold {
    _dir: File,
}

impl Hold {
    /// Holds a directory together with everyone else who uses it. Waits for somebody who is just removing it.
    ///
    /// # Errors
    /// As `open`; `NotFound` also when it was removed meanwhile.
    pub fn share(dir: &Path) -> io::Result<Self> {
        let file = File::open(dir)?;
        share_file(&file)?;
        let (held, named) = (file.metadata()?, std::fs::metadata(dir)?);
        if (held.dev(), held.ino()) != (named.dev(), named.ino()) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Self { _dir: file })
    }

    /// Holds a directory, or a file, alone, to remove or replace it; `None` when somebody uses it.
    ///
    /// # Errors
    /// As `open`.
    pub fn alone(path: &Path) -> io::Result<Option<Self>> {
        let file = File::open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { _dir: file })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Holds an open file together with everyone else who uses it, for as long as it is open: also in a program that inherits it.
///
/// # Errors
/// As the system call.
pub fn share_file(file: &File) -> io::Result<()> {
    loop {
        match flock(file, FlockOperation::LockShared) {
            Err(Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Hold, share_file};

    #[test]
    fn what_is_used_cannot_be_had_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (Hold::share(dir.path()).unwrap(), Hold::share(dir.path()).unwrap());
        assert!(Hold::alone(dir.path()).unwrap().is_none());
        drop(one);
        assert!(Hold::alone(dir.path()).unwrap().is_none());
        drop(other);
        assert!(Hold::alone(dir.path()).unwrap().is_some());
    }

    #[test]
    fn a_file_is_held_by_whoever_has_it_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let file = std::fs::File::create(&path).unwrap();
        share_file(&file).unwrap();
        let inherited = file.try_clone().unwrap();
        drop(file);
        assert!(Hold::alone(&path).unwrap().is_none());
        drop(inherited);
        assert!(Hold::alone(&path).unwrap().is_some());
    }

    #[test]
    fn a_directory_that_went_away_is_not_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gone");
        std::fs::create_dir(&path).unwrap();
        let alone = Hold::alone(&path).unwrap().unwrap();
        let waiting = std::thread::spawn({
            let path = path.clone();
            move || Hold::share(&path).map(drop).map_err(|error| error.kind())
        });
        std::thread::sleep(std::time::Duration::from_millis(50));
        std::fs::remove_dir(&path).unwrap();
        drop(alone);
        assert_eq!(waiting.join().unwrap(), Err(std::io::ErrorKind::NotFound));
    }
}
