//! Writing a file: made whole in the stage, or beside its place on a file system that has none, and renamed into it, so that
//! nobody ever sees half of it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use pyro_wire::exec::Word;
use pyro_wire::files::{EntryKind, WRITE_BYTES_MAX, Write, Written};
use pyro_wire::{Fault, FaultKind};
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;

use super::{kind, require_regular};
use crate::tool::stage::Stage;
use crate::tool::{Answer, Ground, input, io_fault, shown};

/// Symbolic links that are followed to the file that is meant; as many as the kernel follows.
const LINKS_MAX: usize = 40;

/// Names tried for the new file until one is free.
const NAMES_MAX: usize = 16;

const NEW_FILE_MODE: u32 = 0o644;
const NEW_DIRECTORY_MODE: u32 = 0o755;

/// Writes what comes as `content`.
pub(crate) fn write(
    request: &Write,
    ground: &Ground,
    content: impl Read,
    answer: &mut Answer<impl std::io::Write>,
) -> Result<(), Fault> {
    if request.size_bytes > WRITE_BYTES_MAX {
        return Err(too_large(request.path.as_bytes(), request.size_bytes.into()));
    }
    let place = Place::find(ground, &request.path)?;
    let content = input::exactly(content, request.size_bytes.into())?;
    answer.line(&place.fill(&content)?)
}

pub(super) fn too_large(path: &[u8], size_bytes: u64) -> Fault {
    let message = format!("{} would be {size_bytes} bytes, and a write takes at most {WRITE_BYTES_MAX}", shown(path));
    Fault::new(FaultKind::TooLarge, message)
}

/// Where a file is or will be: a directory that is there, and a name in it that is no link.
pub(super) struct Place<'a> {
    ground: &'a Ground,
    dir: OwnedFd,
    /// The whole path, for people.
    path: Vec<u8>,
    name: Vec<u8>,
    existing: Option<Stat>,
}

impl<'a> Place<'a> {
    /// Follows `path` to the file that it means, and makes the directories it lacks.
    pub(super) fn find(ground: &'a Ground, path: &Word) -> Result<Self, Fault> {
        let mut path = path.as_bytes().to_vec();
        for _ in 0..LINKS_MAX {
            let (parent, name) = split(&path)?;
            let dir = make_directories(ground, parent)?;
            let existing = match rustix::fs::statat(&dir, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => Some(stat),
                Err(Errno::NOENT) => None,
                Err(error) => return Err(io_fault("look at", &path, &error.into())),
            };
            if existing.as_ref().is_none_or(|stat| kind(stat) != EntryKind::Symlink) {
                existing.as_ref().map_or(Ok(()), |stat| require_regular(&path, stat))?;
                return Ok(Self { ground, dir, name: name.to_vec(), existing, path });
            }
            let target = rustix::fs::readlinkat(&dir, OsStr::from_bytes(name), Vec::new())
                .map_err(|error| io_fault("follow", &path, &error.into()))?;
            path = match target.as_bytes() {
                absolute if absolute.starts_with(b"/") => absolute.to_vec(),
                relative => [parent, b"/", relative].concat(),
            };
        }
        Err(io_fault("follow", &path, &Errno::LOOP.into()))
    }

    /// Puts a file of this content there. One that replaces another has its mode and owner.
    pub(super) fn fill(&self, content: &[u8]) -> Result<Written, Fault> {
        let fault = |error: std::io::Error| io_fault("write", &self.path, &error);
        let stage = Stage::for_target(self.ground, &self.dir).map_err(|error| fault(error.into()))?;
        let making = stage.as_ref().map_or(&self.dir, Stage::dir);
        let (fresh, mut file) = create(making).map_err(fault)?;
        let result = file.write_all(content).and_then(|()| self.take_over(&file)).and_then(|mode| {
            rustix::fs::renameat(making, fresh.as_str(), &self.dir, OsStr::from_bytes(&self.name))?;
            Ok(mode)
        });
        let mode = result.inspect_err(|_| {
            // The failure is what there is to tell; a file that stays besides it is small harm.
            let _ = rustix::fs::unlinkat(making, fresh.as_str(), AtFlags::empty());
        });
        let mode = mode.map_err(fault)?;
        Ok(Written { created: self.existing.is_none(), size_bytes: content.len() as u64, mode })
    }

    /// Gives the new file the owner and mode of the old one.
    fn take_over(&self, file: &File) -> std::io::Result<u32> {
        let mode = self.existing.as_ref().map_or(NEW_FILE_MODE, |stat| stat.st_mode & 0o7777);
        if let Some(old) = &self.existing {
            let new = rustix::fs::fstat(file)?;
            if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid) {
                rustix::fs::fchown(file, Some(Uid::from_raw(old.st_uid)), Some(Gid::from_raw(old.st_gid)))?;
            }
        }
        rustix::fs::fchmod(file, Mode::from_raw_mode(mode))?;
        Ok(mode)
    }
}

/// Makes a file under a name that is free.
fn create(dir: &OwnedFd) -> std::io::Result<(String, File)> {
    let process = std::process::id();
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for number in 0..NAMES_MAX {
        let name = format!(".pyro-new-{process}-{number}");
        match rustix::fs::openat(dir, name.as_str(), flags, Mode::from_raw_mode(0o600)) {
            Ok(file) => return Ok((name, file.into())),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Errno::EXIST.into())
}

/// The directory and the name of a path.
fn split(path: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    let at = path.iter().rposition(|byte| *byte == b'/');
    let Some(at) = at.filter(|_| path.starts_with(b"/")) else {
        return Err(Fault::new(FaultKind::InvalidArgument, format!("{} is not an absolute path", shown(path))));
    };
    let (parent, name) = (&path[..at.max(1)], &path[at + 1..]);
    if matches!(name, b"" | b"." | b"..") {
        return Err(Fault::new(FaultKind::WrongKind, format!("{} names a directory, not a file", shown(path))));
    }
    Ok((parent, name))
}

/// Opens a directory, made with those above it where they are missing.
pub(crate) fn make_directories(ground: &Ground, path: &[u8]) -> Result<OwnedFd, Fault> {
    let open = || ground.open(&Word::from(path.to_vec()), OFlags::PATH | OFlags::DIRECTORY, Mode::empty());
    let missing = match open() {
        Err(fault) if fault.kind == FaultKind::NotFound => fault,
        result => return result,
    };
    let path = path.strip_suffix(b"/").unwrap_or(path);
    let Some(at) = path.iter().rposition(|byte| *byte == b'/') else { return Err(missing) };
    let parent = make_directories(ground, &path[..at.max(1)])?;
    let name = OsStr::from_bytes(&path[at + 1..]);
    match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(NEW_DIRECTORY_MODE)) {
        Ok(()) | Err(Errno::EXIST) => open(),
        Err(error) => Err(io_fault("make the directory", path, &error.into())),
    }
}
