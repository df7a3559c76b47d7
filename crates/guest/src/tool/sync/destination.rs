//! The directory that is brought up to date, and the way to what is in it: by descriptors, and never through a link.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use pyro_wire::exec::Word;
use pyro_wire::{Fault, FaultKind};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Stat, lstat, openat2, statat};
use rustix::io::Errno;

use crate::tool::files::make_directories;
use crate::tool::{Ground, io_fault};

/// The destination.
#[derive(Debug)]
pub(super) struct Destination {
    dir: OwnedFd,
    /// The device of its file system.
    pub(super) device: u64,
    /// The layers of what is in it, where it is a part of the workspace: what was changed, and the baseline.
    layers: Option<(PathBuf, PathBuf)>,
}

impl Destination {
    /// The destination as it is; `None` when there is nothing.
    pub(super) fn find(ground: &Ground, path: &Word) -> Result<Option<Self>, Fault> {
        match ground.open(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()) {
            Err(fault) if fault.kind == FaultKind::NotFound => Ok(None),
            opened => Self::of(ground, path, opened?).map(Some),
        }
    }

    /// The destination, made if it is not there.
    pub(super) fn make(ground: &Ground, path: &Word) -> Result<Self, Fault> {
        Self::of(ground, path, make_directories(ground, path.as_bytes())?)
    }

    fn of(ground: &Ground, path: &Word, dir: OwnedFd) -> Result<Self, Fault> {
        let stat = rustix::fs::fstat(&dir).map_err(|error| io_fault("look at", path.as_bytes(), &error.into()))?;
        let place = Ground::place_of(&dir)?;
        let layers =
            place.strip_prefix(&ground.mount).ok().map(|below| (ground.upper.join(below), ground.lower.join(below)));
        Ok(Self { dir, device: stat.st_dev, layers })
    }

    /// Opens a directory in it.
    pub(super) fn dir(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { b"." } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        openat2(&self.dir, OsStr::from_bytes(path), flags, Mode::empty(), within)
    }

    /// Whether what is at `path` is neither of the baseline nor marked as put by this tool.
    pub(super) fn is_guest_change(&self, path: &[u8], is_marked: bool) -> bool {
        let Some((upper, lower)) = &self.layers else { return !is_marked };
        let has = |layer: &Path| lstat(layer.join(OsStr::from_bytes(path))).is_ok();
        // What a renamed directory holds is in no layer under its own name.
        (has(upper) || !has(lower)) && !is_marked
    }
}

/// The directory and the name of a path below the destination.
pub(super) fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let (dir, name) = match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&b""[..], path),
    };
    let is_name = !matches!(name, b"" | b"." | b"..") && !path.starts_with(b"/") && !path.contains(&0);
    is_name.then_some((dir, name))
}

/// What is at a name, if anything.
pub(super) fn stat(dir: &OwnedFd, name: &[u8]) -> Result<Option<Stat>, Errno> {
    match statat(dir, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(None),
        found => found.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn paths_below_the_destination_have_a_directory_and_a_name() {
        let check = |path: &[u8], expected: Option<(&[u8], &[u8])>| assert_eq!(split(path), expected);
        check(b"a", Some((b"", b"a")));
        check(b"a/b/c", Some((b"a/b", b"c")));
        for path in [&b""[..], b"a/", b"..", b"a/..", b".", b"/a", b"a\0"] {
            check(path, None);
        }
    }
}
