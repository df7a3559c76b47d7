//! What is there: the entries of directories, and the hashes of files.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use pyro_wire::exec::Word;
use pyro_wire::files::EntryKind;
use pyro_wire::sync::{DigestLine, Digests, DirectoryFound, Inventory, InventoryEntry, InventoryLine};
use pyro_wire::{Fault, FaultKind};
use rustix::fs::{Dir, Mode, OFlags, openat, readlinkat};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::destination::{Destination, split, stat};
use super::next_line;
use crate::tool::files::{kind, modified_ns};
use crate::tool::{Answer, Ground, io_fault, stage};

/// Lists the directories whose paths come.
pub(crate) fn inventory(
    request: &Inventory,
    ground: &Ground,
    mut paths: impl BufRead,
    answer: &mut Answer<impl Write>,
) -> Result<(), Fault> {
    let destination = Destination::find(ground, &request.path)?;
    while let Some(path) = next_line::<Word>(&mut paths)? {
        let found = destination.as_ref().map_or(Err(Errno::NOENT), |destination| open(destination, path.as_bytes()));
        let dir = match found {
            Ok(dir) => dir,
            Err(error) => {
                let found = if error == Errno::NOENT { DirectoryFound::Missing } else { DirectoryFound::Other };
                answer.line(&InventoryLine::Directory { found })?;
                continue;
            }
        };
        answer.line(&InventoryLine::Directory { found: DirectoryFound::Listed })?;
        list(&dir, path.as_bytes(), ground, answer)?;
    }
    answer.line(&InventoryLine::End)
}

fn open(destination: &Destination, path: &[u8]) -> Result<OwnedFd, Errno> {
    let dir = destination.dir(path)?;
    let same = rustix::fs::fstat(&dir)?.st_dev == destination.device;
    if same { Ok(dir) } else { Err(Errno::XDEV) }
}

fn list(dir: &OwnedFd, path: &[u8], ground: &Ground, answer: &mut Answer<impl Write>) -> Result<(), Fault> {
    let fault = |error: Errno| io_fault("list", path, &error.into());
    for entry in Dir::read_from(dir).map_err(fault)? {
        let entry = entry.map_err(fault)?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        // It may have gone meanwhile.
        let Some(stat) = stat(dir, name).map_err(fault)? else { continue };
        if stage::is_stages(ground, name, &stat) {
            continue;
        }
        let kind = kind(&stat);
        let target = match kind {
            EntryKind::Symlink => readlinkat(dir, OsStr::from_bytes(name), Vec::new()).ok(),
            _ => None,
        };
        answer.line(&InventoryLine::Entry(InventoryEntry {
            name: Word::from(name.to_vec()),
            kind,
            size_bytes: u64::try_from(stat.st_size).unwrap_or_default(),
            mode: stat.st_mode & 0o7777,
            modified_unix_ns: modified_ns(&stat),
            target: target.map(|target| Word::from(target.into_bytes())),
        }))?;
    }
    Ok(())
}

/// Hashes the files whose paths come.
pub(crate) fn digests(
    request: &Digests,
    ground: &Ground,
    mut paths: impl BufRead,
    answer: &mut Answer<impl Write>,
) -> Result<(), Fault> {
    let destination = Destination::find(ground, &request.path)?;
    while let Some(path) = next_line::<Word>(&mut paths)? {
        // What cannot be read is as good as different.
        let digest = destination.as_ref().and_then(|destination| digest(destination, path.as_bytes()).ok());
        answer.line(&DigestLine::Digest(digest))?;
    }
    answer.line(&DigestLine::End)
}

fn digest(destination: &Destination, path: &[u8]) -> Result<String, Fault> {
    let fault = |error: io::Error| io_fault("read", path, &error);
    let (dir, name) = split(path).ok_or_else(|| Fault::new(FaultKind::InvalidArgument, "no path"))?;
    let dir = destination.dir(dir).map_err(|error| fault(error.into()))?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = openat(&dir, OsStr::from_bytes(name), flags, Mode::empty()).map_err(|error| fault(error.into()))?;
    let mut file = File::from(file);
    if !file.metadata().map_err(fault)?.is_file() {
        return Err(Fault::new(FaultKind::WrongKind, "no file"));
    }
    let mut hash = Sha256::new();
    io::copy(&mut file, &mut hash).map_err(fault)?;
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
