//! The workspace as a patch sees it: what is at a path, never through a symbolic link and never outside.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;

use pyro_wire::patch::PATCHED_FILE_BYTES_MAX;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat, openat2, readlinkat, statat};
use rustix::io::Errno;

use super::super::Ground;

/// Entries that are looked at to tell whether a directory goes with what is removed from it.
const ENTRIES_MAX: usize = 100_000;

/// The workspace's top directory.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) top: OwnedFd,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Thing {
    Absent,
    File(FileContent),
    /// A symbolic link, by its target.
    Link(Vec<u8>),
    Directory,
    /// A device, pipe or socket.
    Special,
    /// A file that is too large.
    TooLarge,
}

/// A file and what comes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileContent {
    pub(super) bytes: Vec<u8>,
    /// Permission bits.
    pub(super) mode: u32,
    /// Its owner, where it replaces a file that has one.
    pub(super) owner: Option<(u32, u32)>,
}

/// A path is not one of the workspace's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beyond {
    /// A part of it is a symbolic link.
    Link,
    /// The system cannot look at it.
    Failed(Errno),
}

impl Disk {
    pub(super) fn open(ground: &Ground) -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { top: rustix::fs::openat(CWD, &ground.mount, flags, Mode::empty())? })
    }

    /// What is at `path`.
    pub(super) fn thing(&self, path: &[u8]) -> Result<Thing, Beyond> {
        let (parent, name) = split(path);
        let parent = match self.directory(parent) {
            Ok(parent) => parent,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Thing::Absent),
            Err(Errno::LOOP) => return Err(Beyond::Link),
            Err(error) => return Err(Beyond::Failed(error)),
        };
        match self.look(&parent, name) {
            Err(Errno::NOENT) => Ok(Thing::Absent),
            result => result.map_err(Beyond::Failed),
        }
    }

    /// Opens a directory; the empty path is the top.
    pub(super) fn directory(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { b"." } else { path };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat2(&self.top, path, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
    }

    /// Whether everything in a directory is `removed`, in however deep a one.
    pub(super) fn holds_only(&self, path: &[u8], removed: &dyn Fn(&[u8]) -> bool) -> Result<bool, Errno> {
        let mut left = ENTRIES_MAX;
        let mut pending = vec![path.to_vec()];
        while let Some(dir) = pending.pop() {
            let opened = self.directory(&dir)?;
            let readable = rustix::fs::openat(&opened, ".", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
            for entry in rustix::fs::Dir::new(readable)? {
                let entry = entry?;
                let name = entry.file_name().to_bytes();
                if matches!(name, b"." | b"..") {
                    continue;
                }
                let inner = [&dir[..], b"/", name].concat();
                let stat = statat(&opened, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)?;
                left = left.saturating_sub(1);
                if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                    pending.push(inner);
                } else if left == 0 || !removed(&inner) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn look(&self, parent: &OwnedFd, name: &[u8]) -> Result<Thing, Errno> {
        let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Thing::Directory,
            FileType::Symlink => Thing::Link(readlinkat(parent, name, Vec::new())?.into_bytes()),
            FileType::RegularFile if u64::try_from(stat.st_size).unwrap_or(0) > PATCHED_FILE_BYTES_MAX => {
                Thing::TooLarge
            }
            FileType::RegularFile => read_file(parent, name, &stat)?,
            _ => Thing::Special,
        })
    }
}

fn read_file(parent: &OwnedFd, name: &[u8], stat: &Stat) -> Result<Thing, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(rustix::fs::openat(parent, name, flags, Mode::empty())?);
    let mut bytes = Vec::new();
    let result = file.take(PATCHED_FILE_BYTES_MAX + 1).read_to_end(&mut bytes);
    result.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    if bytes.len() as u64 > PATCHED_FILE_BYTES_MAX {
        return Ok(Thing::TooLarge);
    }
    Ok(Thing::File(FileContent { bytes, mode: stat.st_mode & 0o7777, owner: Some((stat.st_uid, stat.st_gid)) }))
}

/// A path's directory and its last part.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

/// The directories above a path, the nearest first, without the top.
pub(super) fn above(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(split(path).0), |path| Some(split(path).0)).take_while(|path| !path.is_empty())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_path_has_directories_above_it() {
        assert_eq!(super::above(b"a/b/c").collect::<Vec<_>>(), [&b"a/b"[..], b"a"]);
        assert_eq!(super::above(b"a").count(), 0);
        assert_eq!(super::split(b"a/b/c"), (&b"a/b"[..], &b"c"[..]));
    }
}
