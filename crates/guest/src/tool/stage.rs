//! Where what is on its way into the guest is made: below one directory at the top of the workspace, or of the root for what goes
//! elsewhere, from which a rename brings it to its place.
//!
//! Each tool that writes has a directory of its own there, and holds its lock. A tool that was killed left one whose lock is
//! free: the next tool removes it, and so does a machine that starts. What is listed, compared, searched or sent home
//! leaves all of it out.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, FlockOperation, Mode, OFlags, Stat, flock, fstat, mkdirat, openat, statat, unlinkat,
};
use rustix::io::Errno;

use super::Ground;

/// The directory at the top of the workspace, and of the root.
pub(crate) const STAGE_NAME: &str = ".pyro-stage";

/// How often it is tried to make a directory that others remove at the same time.
const TRIES_MAX: usize = 100;

/// How a directory is opened, but never through a link.
const OPENED: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A directory that only this process uses. Dropping it removes it with what is in it.
#[derive(Debug)]
pub(crate) struct Stage {
    all: Stages,
    name: String,
    dir: OwnedFd,
    device: u64,
    count: u32,
}

/// A directory of stages, and the top it is in.
#[derive(Debug)]
struct Stages {
    top: OwnedFd,
    dir: OwnedFd,
}

impl Stage {
    /// Makes one for what is to go into the directory `target`; none, if that is on a file system of its own, to which nothing
    /// could be renamed.
    pub(crate) fn for_target(ground: &Ground, target: &impl AsFd) -> Result<Option<Self>, Errno> {
        let device = fstat(target)?.st_dev;
        for top in tops(ground) {
            if open_top(top).and_then(|top| fstat(&top)).is_ok_and(|top| top.st_dev == device) {
                return Self::create_in(top).map(Some);
            }
        }
        Ok(None)
    }

    /// Makes one for the workspace.
    pub(crate) fn create(ground: &Ground) -> Result<Self, Errno> {
        Self::create_in(&ground.mount)
    }

    fn create_in(top: &Path) -> Result<Self, Errno> {
        let name = std::process::id().to_string();
        for _ in 0..TRIES_MAX {
            match Self::try_create(open_top(top)?, &name) {
                // Somebody removed one of the two just now, or holds what an earlier process of this number left.
                Err(Errno::NOENT | Errno::EXIST | Errno::WOULDBLOCK) => sweep_below(open_top(top)?),
                result => return result,
            }
        }
        Err(Errno::BUSY)
    }

    fn try_create(top: OwnedFd, name: &str) -> Result<Self, Errno> {
        match mkdirat(&top, STAGE_NAME, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        let dir = openat(&top, STAGE_NAME, OPENED, Mode::empty())?;
        let all = Stages { top, dir };
        mkdirat(&all.dir, name, Mode::RWXU)?;
        let dir = openat(&all.dir, name, OPENED, Mode::empty())?;
        flock(&dir, FlockOperation::NonBlockingLockExclusive)?;
        let own = fstat(&dir)?;
        // Before it was locked, it looked as if nobody used it.
        let there = statat(&all.dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if !is_same(&own, &there) {
            return Err(Errno::NOENT);
        }
        Ok(Self { all, name: name.to_owned(), dir, device: own.st_dev, count: 0 })
    }

    /// The directory.
    pub(crate) fn dir(&self) -> &OwnedFd {
        &self.dir
    }

    /// A name that is free in it.
    pub(crate) fn next_name(&mut self) -> String {
        self.count += 1;
        self.count.to_string()
    }

    /// Whether what is made here can be renamed into `target`.
    pub(crate) fn serves(&self, target: &impl AsFd) -> bool {
        fstat(target).is_ok_and(|stat| stat.st_dev == self.device)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.all.remove(OsStr::new(&self.name), &self.dir);
    }
}

impl Stages {
    /// Removes a stage, and the directory of all of them after the last one. What cannot be removed is left to the next sweep.
    fn remove(&self, name: &OsStr, stage: &OwnedFd) {
        if let Ok(entries) = Dir::read_from(stage) {
            for entry in entries.flatten() {
                let _ = unlinkat(stage, entry.file_name(), AtFlags::empty());
            }
        }
        let _ = unlinkat(&self.dir, name, AtFlags::REMOVEDIR);
        let _ = unlinkat(&self.top, STAGE_NAME, AtFlags::REMOVEDIR);
    }
}

/// Removes the stages of tools that are gone. Where there are none, this is two system calls a top.
pub(crate) fn sweep(ground: &Ground) {
    tops(ground).into_iter().flat_map(open_top).for_each(sweep_below);
}

/// As [`sweep`], of one top.
pub(crate) fn sweep_below(top: OwnedFd) {
    let Ok(dir) = openat(&top, STAGE_NAME, OPENED, Mode::empty()) else { return };
    let all = Stages { top, dir };
    for entry in Dir::read_from(&all.dir).into_iter().flatten().flatten() {
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        // Nothing but a stage has a number for a name.
        let is_number = name.as_bytes().iter().all(u8::is_ascii_digit);
        if is_number
            && let Ok(stage) = openat(&all.dir, name, OPENED, Mode::empty())
            && flock(&stage, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            all.remove(name, &stage);
        }
    }
    let _ = unlinkat(&all.top, STAGE_NAME, AtFlags::REMOVEDIR);
}

/// Whether what is called `name` somewhere is a directory of stages, which is nobody's business.
pub(crate) fn is_stages(ground: &Ground, name: &[u8], stat: &Stat) -> bool {
    let is_one = |top: &Path| rustix::fs::lstat(top.join(STAGE_NAME)).is_ok_and(|stages| is_same(&stages, stat));
    name == STAGE_NAME.as_bytes() && tops(ground).into_iter().any(is_one)
}

/// Where there may be stages: in the two file systems that outlive the machine.
fn tops(ground: &Ground) -> [&Path; 2] {
    [&ground.mount, &ground.root]
}

fn open_top(top: &Path) -> Result<OwnedFd, Errno> {
    openat(CWD, top, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn is_same(one: &Stat, other: &Stat) -> bool {
    (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
}
