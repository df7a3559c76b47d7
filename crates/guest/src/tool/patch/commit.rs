//! Making what a patch comes to, all of it or nothing.
//!
//! Everything new is first written into the [`Stage`], where lack of room shows. Then names are exchanged; each step can be taken
//! back by another rename, and is when a later one fails. What was replaced is removed last, with the stage.

use std::io::Write;
use std::os::fd::OwnedFd;

use pyro_wire::{Fault, FaultKind};
use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, RenameFlags, Uid, fchmod, fchown, mkdirat, openat, renameat, renameat_with, statat,
    symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::super::stage::{STAGE_NAME, Stage};
use super::super::{Ground, io_fault};
use super::disk::{Disk, FileContent, Thing, above, split};
use super::plan::Plan;

/// Makes the changes.
pub(super) fn commit(ground: &Ground, disk: &Disk, plan: &Plan) -> Result<(), Fault> {
    let stage = Stage::create(ground).map_err(|error| io_fault("make", STAGE_NAME.as_bytes(), &error.into()))?;
    let mut commit = Commit { disk, stage, done: Vec::new() };
    let result = commit.all(plan);
    if result.is_err() {
        commit.take_back();
    }
    drop(commit);
    if result.is_ok() {
        prune(disk, plan);
    }
    result
}

struct Commit<'a> {
    disk: &'a Disk,
    /// Holds what is on its way in or out.
    stage: Stage,
    done: Vec<Step>,
}

/// What was done, and how it is taken back.
enum Step {
    /// The file at a path lies in the stage, under a name.
    Removed(Vec<u8>, String),
    /// The file at a path and the one in the stage changed places.
    Exchanged(Vec<u8>, String),
    /// A file is at a path.
    Placed(Vec<u8>),
    MadeDirectory(Vec<u8>),
    RemovedDirectory(Vec<u8>, u32),
}

impl Commit<'_> {
    fn all(&mut self, plan: &Plan) -> Result<(), Fault> {
        let mut staged = Vec::new();
        for (path, thing) in &plan.after {
            match self.write(thing) {
                Ok(Some(name)) => staged.push((path, name)),
                Ok(None) => {}
                Err(error) => return Err(io_fault("write", path, &error.into())),
            }
        }
        for (path, _) in plan.after.iter().filter(|(_, thing)| **thing == Thing::Absent) {
            self.remove(path).map_err(|error| io_fault("remove", path, &error.into()))?;
        }
        for (path, name) in staged {
            self.place(path, name).map_err(|error| io_fault("write", path, &error.into()))?;
        }
        Ok(())
    }

    /// Writes something new into the stage.
    fn write(&mut self, thing: &Thing) -> Result<Option<String>, Errno> {
        let name = self.stage.next_name();
        match thing {
            Thing::File(file) => write_file(self.stage.dir(), &name, file)?,
            Thing::Link(target) => symlinkat(target.as_slice(), self.stage.dir(), name.as_str())?,
            Thing::Absent | Thing::Directory | Thing::Special | Thing::TooLarge => return Ok(None),
        }
        Ok(Some(name))
    }

    fn remove(&mut self, path: &[u8]) -> Result<(), Errno> {
        let (dir, name) = split(path);
        let parent = match self.disk.directory(dir) {
            // It was made and unmade by the patch.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            result => result?,
        };
        let staged = self.stage.next_name();
        match renameat(&parent, name, self.stage.dir(), staged.as_str()) {
            Err(Errno::NOENT) => return Ok(()),
            result => result?,
        }
        self.done.push(Step::Removed(path.to_vec(), staged));
        Ok(())
    }

    /// Moves a staged file to its path.
    fn place(&mut self, path: &[u8], staged: String) -> Result<(), Errno> {
        let (dir, name) = split(path);
        self.make_directories(path)?;
        let parent = self.disk.directory(dir)?;
        if self.disk.directory(path).is_ok() {
            self.remove_empty_directory(path)?;
        }
        match renameat_with(self.stage.dir(), staged.as_str(), &parent, name, RenameFlags::EXCHANGE) {
            Ok(()) => self.done.push(Step::Exchanged(path.to_vec(), staged)),
            Err(Errno::NOENT) => {
                renameat_with(self.stage.dir(), staged.as_str(), &parent, name, RenameFlags::NOREPLACE)?;
                self.done.push(Step::Placed(path.to_vec()));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn make_directories(&mut self, path: &[u8]) -> Result<(), Errno> {
        let mut missing: Vec<&[u8]> = above(path).take_while(|dir| self.disk.directory(dir).is_err()).collect();
        missing.reverse();
        for dir in missing {
            let (parent, name) = split(dir);
            let parent = self.disk.directory(parent)?;
            mkdirat(&parent, name, Mode::from_raw_mode(0o755))?;
            self.done.push(Step::MadeDirectory(dir.to_vec()));
        }
        Ok(())
    }

    /// Removes a directory in which there are only directories.
    fn remove_empty_directory(&mut self, path: &[u8]) -> Result<(), Errno> {
        let dir = self.disk.directory(path)?;
        let readable = openat(&dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        for entry in rustix::fs::Dir::new(readable)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                self.remove_empty_directory(&[path, b"/", name].concat())?;
            }
        }
        let (parent, name) = split(path);
        let parent = self.disk.directory(parent)?;
        let mode = statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode & 0o7777;
        unlinkat(&parent, name, AtFlags::REMOVEDIR)?;
        self.done.push(Step::RemovedDirectory(path.to_vec(), mode));
        Ok(())
    }

    /// Takes back what was done, the last step first. Each is a rename of what is still there, so that none needs room.
    fn take_back(&mut self) {
        while let Some(step) = self.done.pop() {
            let _ = self.take_back_one(&step);
        }
    }

    fn take_back_one(&self, step: &Step) -> Result<(), Errno> {
        let (Step::Removed(path, _)
        | Step::Exchanged(path, _)
        | Step::Placed(path)
        | Step::MadeDirectory(path)
        | Step::RemovedDirectory(path, _)) = step;
        let (dir, name) = split(path);
        let parent = self.disk.directory(dir)?;
        match step {
            Step::Removed(_, staged) => renameat(self.stage.dir(), staged.as_str(), &parent, name),
            Step::Exchanged(_, staged) => {
                renameat_with(self.stage.dir(), staged.as_str(), &parent, name, RenameFlags::EXCHANGE)
            }
            Step::Placed(_) => unlinkat(&parent, name, AtFlags::empty()),
            Step::MadeDirectory(_) => unlinkat(&parent, name, AtFlags::REMOVEDIR),
            Step::RemovedDirectory(_, mode) => mkdirat(&parent, name, Mode::from_raw_mode(*mode)),
        }
    }
}

/// Removes directories that are empty because of what was removed from them, as git does.
fn prune(disk: &Disk, plan: &Plan) {
    for (path, _) in plan.after.iter().filter(|(_, thing)| **thing == Thing::Absent) {
        for dir in above(path) {
            let (parent, name) = split(dir);
            let removed = disk.directory(parent).and_then(|parent| unlinkat(&parent, name, AtFlags::REMOVEDIR));
            if removed.is_err() {
                break;
            }
        }
    }
}

fn write_file(stage: &OwnedFd, name: &str, content: &FileContent) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = openat(stage, name, flags, Mode::from_raw_mode(0o600))?;
    let mut file = std::fs::File::from(file);
    file.write_all(&content.bytes).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    if let Some((user, group)) = content.owner {
        match fchown(&file, Some(Uid::from_raw(user)), Some(Gid::from_raw(group))) {
            // Only who may give files away can keep another's.
            Ok(()) | Err(Errno::PERM) => {}
            Err(error) => return Err(error),
        }
    }
    fchmod(&file, Mode::from_raw_mode(content.mode))
}

/// What stands against a patch at all.
pub(super) fn unusable(error: Errno) -> Fault {
    Fault::new(FaultKind::WrongPhase, format!("the workspace cannot be opened: {error}"))
}
