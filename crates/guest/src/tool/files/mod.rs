//! Files: listed, read, written, edited; one file an operation.

mod edit;
mod list;
mod nearest;
mod read;
mod write;

use std::fs::File;
use std::os::fd::OwnedFd;

use pyro_wire::exec::Word;
use pyro_wire::files::EntryKind;
use pyro_wire::{Fault, FaultKind};
use rustix::fs::{FileType, Mode, OFlags, Stat};

use super::{Ground, io_fault, shown};

pub(crate) use edit::edit;
pub(crate) use list::list;
pub(super) use nearest::nearest;
pub(crate) use read::read;
pub(crate) use write::{make_directories, write};

/// Opens a regular file for reading. What is something else is not opened at all: opening a device can do things.
fn open_regular(ground: &Ground, path: &Word) -> Result<(File, Stat), Fault> {
    let look =
        |fd: &OwnedFd| rustix::fs::fstat(fd).map_err(|error| io_fault("look at", path.as_bytes(), &error.into()));
    require_regular(path.as_bytes(), &look(&ground.open(path, OFlags::PATH, Mode::empty())?)?)?;
    let file = ground.open(path, OFlags::RDONLY, Mode::empty())?;
    let stat = look(&file)?;
    require_regular(path.as_bytes(), &stat)?;
    Ok((file.into(), stat))
}

fn require_regular(path: &[u8], stat: &Stat) -> Result<(), Fault> {
    let what = match kind(stat) {
        EntryKind::File => return Ok(()),
        EntryKind::Directory => "a directory",
        EntryKind::Symlink => "a symbolic link",
        EntryKind::Fifo => "a named pipe",
        EntryKind::Socket => "a socket",
        EntryKind::CharacterDevice | EntryKind::BlockDevice => "a device",
    };
    Err(Fault::new(FaultKind::WrongKind, format!("{} is {what}, not a file", shown(path))))
}

pub(crate) fn kind(stat: &Stat) -> EntryKind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => EntryKind::Directory,
        FileType::Symlink => EntryKind::Symlink,
        FileType::Fifo => EntryKind::Fifo,
        FileType::Socket => EntryKind::Socket,
        FileType::CharacterDevice => EntryKind::CharacterDevice,
        FileType::BlockDevice => EntryKind::BlockDevice,
        FileType::RegularFile | FileType::Unknown => EntryKind::File,
    }
}

pub(crate) fn modified_ns(stat: &Stat) -> i64 {
    let nanoseconds = i64::try_from(stat.st_mtime_nsec).unwrap_or(0);
    stat.st_mtime.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}

fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}
