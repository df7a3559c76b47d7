//! Files that are there whole or not at all: written beside their place, synced, renamed over it.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// What the names of files in the making end in.
const SUFFIX: &str = ".tmp";

/// A file in the making that is so old is of a writer that is gone.
const STALE_AFTER: Duration = Duration::from_secs(3600);

/// Replaces `path` with `bytes`, readable by the owner only (0600). After a crash at any point the old or the new
/// content is there.
///
/// # Errors
/// As the system calls; the old content is there then.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_with_mode(path, bytes, 0o600)
}

/// The same for a file with these permission bits, whatever the umask says.
///
/// # Errors
/// As the system calls; the old content is there then.
pub fn write_with_mode(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temporary = beside(path);
    let result = write_new(&temporary, bytes, mode).and_then(|()| std::fs::rename(&temporary, path));
    if result.is_err() {
        // The error that counts is the one above.
        drop(std::fs::remove_file(&temporary));
    }
    result?;
    sync_parent(path)
}

/// Removes what writers that were killed left in a directory, beside the places of their files. One that still lives is done
/// long before that.
///
/// # Errors
/// As the system calls.
pub fn sweep(dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let is_ours = entry.file_name().to_str().is_some_and(|name| name.ends_with(SUFFIX));
        let age = || entry.metadata()?.modified()?.elapsed().map_err(io::Error::other);
        if is_ours && age().is_ok_and(|age| age > STALE_AFTER) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Makes a rename, creation or removal of `path` durable.
///
/// # Errors
/// As `fsync` of its directory.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.set_permissions(Permissions::from_mode(mode & 0o777))?;
    file.sync_all()
}

fn beside(path: &Path) -> PathBuf {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}-{count}{SUFFIX}", std::process::id()));
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_write_replaces_and_leaves_nothing_beside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record.json");
        super::write(&path, b"one").unwrap();
        super::write(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_killed_writer_left_goes_later() {
        let dir = tempfile::tempdir().unwrap();
        for (name, age) in [("a.json.1-0.tmp", 2), ("b.json.2-0.tmp", 0), ("c.json", 2)] {
            let file = std::fs::File::create(dir.path().join(name)).unwrap();
            file.set_modified(std::time::SystemTime::now() - age * super::STALE_AFTER).unwrap();
        }
        super::sweep(dir.path()).unwrap();
        let there = |name: &str| dir.path().join(name).exists();
        assert!(!there("a.json.1-0.tmp") && there("b.json.2-0.tmp") && there("c.json"));
    }

    #[test]
    fn a_failed_write_keeps_the_old_content() {
        let dir = tempfile::tempdir().unwrap();
        assert!(super::write(&dir.path().join("missing/record.json"), b"x").is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
