//! The host's side of an export: a directory beside the output, in which everything is unpacked, and which becomes the output
//! by one rename, or vanishes.
//!
//! What is unpacked was named by a guest, so each path is opened *beneath* the stage by the kernel's own rule, which
//! no link can lead out of; a name that is not plain, or comes twice, ends the export.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, RenameFlags, ResolveFlags, Timespec, Timestamps, UTIME_OMIT, fchmod, mkdirat, openat,
    openat2, renameat, renameat_with, symlinkat, utimensat,
};
use rustix::io::Errno;

/// What the output is called while it is unpacked.
const CONTENT: &str = "content";

/// What something is called that was in the output's place.
const REPLACED: &str = "replaced";

/// A directory beside the output. Dropping it removes what was not published.
#[derive(Debug)]
pub(super) struct Stage {
    dir: PathBuf,
    fd: OwnedFd,
    /// The unpacked directory, when it is one.
    top: Option<OwnedFd>,
    /// The directory that the last entry was put into, since the next mostly goes to the same.
    last: Option<(Vec<u8>, OwnedFd)>,
    /// Modes and times that directories get when nothing more is put into them.
    directories: Vec<(Vec<u8>, Attributes)>,
}

/// What is kept of an entry besides its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) mode: u32,
    pub(super) modified_unix_ns: i64,
}

/// Whether what is in the output's place may be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replace {
    Never,
    Whatever,
}

impl Stage {
    /// Makes one beside `output`, whose directory must be there.
    pub(super) fn beside(output: &Path) -> io::Result<Self> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let parent = output.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let dir = parent.join(format!(".pyro-export-{}-{count}", std::process::id()));
        rustix::fs::mkdir(&dir, Mode::RWXU)?;
        let fd = rustix::fs::open(&dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { dir, fd, top: None, last: None, directories: Vec::new() })
    }

    /// Makes a directory; the empty path is the output itself.
    pub(super) fn directory(&mut self, path: &[u8], attributes: Attributes) -> Result<(), Errno> {
        if path.is_empty() {
            mkdirat(&self.fd, CONTENT, Mode::RWXU)?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            self.top = Some(openat(&self.fd, CONTENT, flags, Mode::empty())?);
        } else {
            let (parent, name) = self.place(path)?;
            mkdirat(parent, name, Mode::RWXU)?;
        }
        self.directories.push((path.to_vec(), attributes));
        Ok(())
    }

    /// Makes a file; the empty path is the output itself. [`Self::finish_file`] gives it its attributes.
    pub(super) fn file(&mut self, path: &[u8]) -> Result<File, Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        if path.is_empty() {
            return openat(&self.fd, CONTENT, flags, mode).map(File::from);
        }
        let (parent, name) = self.place(path)?;
        openat(parent, name, flags, mode).map(File::from)
    }

    /// Gives a file that is written its mode and time.
    pub(super) fn finish_file(file: &File, attributes: Attributes) -> Result<(), Errno> {
        fchmod(file, plain_mode(attributes))?;
        rustix::fs::futimens(file, &times(attributes))
    }

    /// Makes a symbolic link that leads nowhere outside, see [`stays_inside`].
    pub(super) fn link(&mut self, path: &[u8], target: &[u8], attributes: Attributes) -> Result<(), Errno> {
        let (parent, name) = self.place(path)?;
        symlinkat(target, parent, name)?;
        utimensat(parent, name, &times(attributes), AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Puts what was unpacked in the place of `output`. What was there is removed.
    pub(super) fn publish(mut self, output: &Path, replace: Replace) -> io::Result<()> {
        // The innermost first, since a directory may have become read-only by then; the output itself when it is in its place.
        let mut directories = std::mem::take(&mut self.directories);
        let own = directories.first().filter(|(path, _)| path.is_empty()).map(|(_, attributes)| *attributes);
        for (path, attributes) in directories.drain(..).rev().filter(|(path, _)| !path.is_empty()) {
            self.finish_directory(&path, attributes)?;
        }
        match renameat_with(&self.fd, CONTENT, CWD, output, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) if replace == Replace::Whatever => {
                match renameat_with(&self.fd, CONTENT, CWD, output, RenameFlags::EXCHANGE) {
                    Err(Errno::INVAL) => self.replace_in_two_steps(output)?,
                    result => result?,
                }
            }
            Err(Errno::INVAL) if output.symlink_metadata().is_ok() && replace == Replace::Never => {
                return Err(Errno::EXIST.into());
            }
            Err(Errno::INVAL) => self.replace_in_two_steps(output)?,
            result => result?,
        }
        if let (Some(top), Some(attributes)) = (&self.top, own) {
            fchmod(top, plain_mode(attributes))?;
            rustix::fs::futimens(top, &times(attributes))?;
        }
        crate::store::atomic::sync_parent(output)
    }

    /// For file systems that cannot exchange two names.
    fn replace_in_two_steps(&self, output: &Path) -> Result<(), Errno> {
        match renameat(CWD, output, &self.fd, REPLACED) {
            Ok(()) | Err(Errno::NOENT) => renameat(&self.fd, CONTENT, CWD, output),
            Err(error) => Err(error),
        }
    }

    fn finish_directory(&mut self, path: &[u8], attributes: Attributes) -> Result<(), Errno> {
        let (parent, name) = self.place(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = openat(parent, name, flags, Mode::empty())?;
        fchmod(&dir, plain_mode(attributes))?;
        rustix::fs::futimens(&dir, &times(attributes))
    }

    /// The directory an entry goes into, and its name there.
    fn place<'p>(&mut self, path: &'p [u8]) -> Result<(&OwnedFd, &'p [u8]), Errno> {
        let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&b""[..], path),
        };
        let top = self.top.as_ref().ok_or(Errno::NOTDIR)?;
        if parent.is_empty() {
            return Ok((top, name));
        }
        if self.last.as_ref().is_none_or(|(last, _)| last != parent) {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
            self.last = Some((parent.to_vec(), openat2(top, parent, flags, Mode::empty(), resolve)?));
        }
        let (_, parent) = self.last.as_ref().ok_or(Errno::NOTDIR)?;
        Ok((parent, name))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // It holds what was not published, or what was replaced. Nothing in it is followed.
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

/// Permissions without those that give anyone another's rights.
fn plain_mode(attributes: Attributes) -> Mode {
    Mode::from_raw_mode(attributes.mode & 0o777)
}

fn times(attributes: Attributes) -> Timestamps {
    let (seconds, nanoseconds) =
        (attributes.modified_unix_ns.div_euclid(1_000_000_000), attributes.modified_unix_ns.rem_euclid(1_000_000_000));
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: nanoseconds },
    }
}

/// Whether a link leads to a place inside the export, whatever else is in it.
///
/// Steps up are counted from the directory it lies in, which is a real one, and stand at the beginning: a step up after a name
/// could go up from wherever another link of the export leads to.
pub(super) fn stays_inside(path: &[u8], target: &[u8]) -> bool {
    if target.starts_with(b"/") || target.is_empty() {
        return false;
    }
    let depth = path.iter().filter(|byte| **byte == b'/').count();
    let mut parts = target.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
    let ups = parts.by_ref().take_while(|part| *part == b"..").count();
    // The first name was taken as well, and is none of those that are left.
    ups <= depth && parts.all(|part| part != b"..")
}

#[cfg(test)]
mod tests {
    use super::stays_inside;

    #[track_caller]
    fn check(path: &str, target: &str, expected: bool) {
        assert_eq!(stays_inside(path.as_bytes(), target.as_bytes()), expected, "{path} -> {target}");
    }

    #[test]
    fn links_may_lead_anywhere_inside() {
        check("a", "b", true);
        check("a", "./b/c", true);
        check("d/a", "../b", true);
        check("d/e/a", "../../b/c", true);
        check("d/a", "..", true);
        check("a", "..", false);
        check("a", "../b", false);
        check("d/a", "../../b", false);
        check("d/a", "b/../../..", false);
        check("d/a", "b/..", false);
        check("a", "/etc/passwd", false);
        check("a", "", false);
    }
}
