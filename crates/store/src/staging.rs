//! Work in progress: directories that become something whole by one rename, or vanish.
//!
//! A staging directory `x` is alive as long as a process holds the lock `x.lock` beside it. What no process holds was left
//! by one that was killed, and is swept away by the next.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::atomic;
use crate::home::{Home, create_private_dir};
use crate::lock::{Lock, LockError};

/// A directory of ours that nobody else touches. Dropping it removes it.
#[derive(Debug)]
pub struct Staging {
    dir: PathBuf,
    lock_file: PathBuf,
    _lock: Lock,
}

impl Staging {
    /// Creates an empty one; `what` is part of its name, for people. What killed processes left here is removed first.
    ///
    /// # Errors
    /// When it cannot be created or its lock cannot be written.
    pub fn create(home: &Home, what: &str) -> Result<Self, LockError> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        // What cannot be removed takes room and does no other harm: the next one tries again, and `prune` names it.
        drop(sweep(home));
        loop {
            let count = COUNTER.fetch_add(1, Ordering::Relaxed);
            let dir = home.staging_dir().join(format!("{what}-{}-{count}", std::process::id()));
            let lock_file = dir.with_added_extension("lock");
            let lock = match Lock::try_take(&lock_file) {
                Ok(lock) => lock,
                // A sweeper looks at it just now, or a process of this number lived before. The next name is free.
                Err(LockError::Held { .. }) => continue,
                Err(error) => return Err(error),
            };
            if !lock_file.exists() || dir.exists() {
                continue;
            }
            create_private_dir(&dir).map_err(|source| LockError::Io { path: dir.clone(), source })?;
            return Ok(Self { dir, lock_file, _lock: lock });
        }
    }

    /// Where it is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Puts the directory in the place of `target` in one step. What was there is removed.
    ///
    /// # Errors
    /// When the target's directory cannot be created or written, or is on another file system.
    pub fn publish(self, target: &Path) -> io::Result<()> {
        if let Some(parent) = target.parent() {
            create_private_dir(parent)?;
        }
        if target.exists() {
            renameat_with(CWD, &self.dir, CWD, target, RenameFlags::EXCHANGE)?;
        } else {
            std::fs::rename(&self.dir, target)?;
        }
        atomic::sync_parent(target)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // After a publish there is nothing, or the old content. What cannot be removed is swept later.
        drop(std::fs::remove_dir_all(&self.dir));
        drop(std::fs::remove_file(&self.lock_file));
    }
}

/// The directories in the staging place that no live process holds, each with the lock that now keeps them ours.
///
/// # Errors
/// When the staging place cannot be read.
pub fn abandoned(home: &Home) -> io::Result<Vec<(PathBuf, Lock)>> {
    let entries = match std::fs::read_dir(home.staging_dir()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        result => result?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "lock") && path.with_extension("").exists() {
            continue;
        }
        let dir =
            if path.extension().is_some_and(|extension| extension == "lock") { path.with_extension("") } else { path };
        if let Ok(lock) = Lock::try_take(&dir.with_added_extension("lock")) {
            found.push((dir, lock));
        }
    }
    Ok(found)
}

/// Whether a path in the staging place was left by a process that is gone. Only looks.
#[must_use]
pub fn is_abandoned(path: &Path) -> bool {
    if path.extension().is_some_and(|extension| extension == "lock") {
        return !path.with_extension("").exists() && !Lock::is_held(path);
    }
    !Lock::is_held(&path.with_added_extension("lock"))
}

/// Removes what [`abandoned`] finds.
///
/// # Errors
/// When the staging place cannot be read, or something in it cannot be removed.
pub fn sweep(home: &Home) -> io::Result<()> {
    for (dir, _lock) in abandoned(home)? {
        remove(&dir)?;
    }
    Ok(())
}

/// Removes an abandoned directory (or file) and its lock file. The caller holds the lock.
///
/// # Errors
/// When either cannot be removed.
pub fn remove(dir: &Path) -> io::Result<()> {
    let removed = if dir.is_dir() { std::fs::remove_dir_all(dir) } else { std::fs::remove_file(dir) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::fs::remove_file(dir.with_added_extension("lock"))
}

#[cfg(test)]
mod tests {
    use super::{Staging, is_abandoned, sweep};
    use crate::home::Home;

    fn home() -> (tempfile::TempDir, Home) {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(&dir.path().join("cache"), &dir.path().join("state"));
        (dir, home)
    }

    #[test]
    fn a_publish_replaces_whole_and_leaves_nothing() {
        let (_dir, home) = home();
        let target = home.environments_dir().join("x");
        for text in ["one", "two"] {
            let staging = Staging::create(&home, "x").unwrap();
            std::fs::write(staging.dir().join("file"), text).unwrap();
            staging.publish(&target).unwrap();
            assert_eq!(std::fs::read_to_string(target.join("file")).unwrap(), text);
            assert_eq!(std::fs::read_dir(home.staging_dir()).unwrap().count(), 0);
        }
    }

    #[test]
    fn whoever_begins_next_removes_what_was_left() {
        let (_dir, home) = home();
        let left = home.staging_dir().join("template-1-0");
        std::fs::create_dir_all(&left).unwrap();
        std::fs::write(home.staging_dir().join("template-1-0.lock"), "1\n").unwrap();
        let staging = Staging::create(&home, "x").unwrap();
        assert!(!left.exists());
        drop(staging);
        assert_eq!(std::fs::read_dir(home.staging_dir()).unwrap().count(), 0);
    }

    #[test]
    fn only_what_nobody_holds_is_swept() {
        let (_dir, home) = home();
        let held = Staging::create(&home, "held").unwrap();
        let left = home.staging_dir().join("left-1-0");
        std::fs::create_dir(&left).unwrap();
        std::fs::write(left.join("big"), "x").unwrap();
        std::fs::write(home.staging_dir().join("left-1-0.lock"), "1\n").unwrap();
        std::fs::write(home.staging_dir().join("alone-2-0.lock"), "2\n").unwrap();
        assert!(is_abandoned(&left) && is_abandoned(&home.staging_dir().join("alone-2-0.lock")));
        assert!(!is_abandoned(held.dir()) && !is_abandoned(&held.lock_file));
        assert!(!is_abandoned(&home.staging_dir().join("left-1-0.lock")), "it goes with its directory");
        sweep(&home).unwrap();
        assert!(held.dir().exists() && !left.exists());
        assert_eq!(std::fs::read_dir(home.staging_dir()).unwrap().count(), 2);
        drop(held);
        assert_eq!(std::fs::read_dir(home.staging_dir()).unwrap().count(), 0);
    }
}
