//! Export: a file or a directory, sent to the host with all that is in it.
//!
//! The walk holds each directory open and never follows a link, so that what is swapped meanwhile cannot lead it elsewhere.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use pyro_wire::exec::Word;
use pyro_wire::export::{
    EXPORT_DEPTH_MAX, EXPORT_ENTRIES_MAX, EXPORT_NOTES_MAX, Export, ExportEntry, ExportKind, ExportLine, ExportNote,
    ExportNoteKind,
};
use pyro_wire::{Fault, FaultKind};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::files::modified_ns;
use super::{Answer, Ground, io_fault, stage};

const BUFFER_BYTES: usize = 256 * 1024;

/// How what is in a directory is opened.
const OPENED: OFlags =
    OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// Sends what is at a path.
pub(super) fn export(request: &Export, ground: &Ground, answer: &mut Answer<impl Write>) -> Result<(), Fault> {
    let shown = request.path.as_bytes();
    let fault = |what: &'static str| move |error: Errno| io_fault(what, shown, &error.into());
    let place = ground.open(&request.path, OFlags::PATH, Mode::empty())?;
    let stat = rustix::fs::fstat(&place).map_err(fault("look at"))?;
    let mut sender = Sender { ground, answer, entries: 0, notes: 0, buffer: vec![0; BUFFER_BYTES] };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            sender.entry(b"", ExportKind::Directory, &stat)?;
            let dir =
                rustix::fs::openat(&place, ".", OPENED | OFlags::DIRECTORY, Mode::empty()).map_err(fault("read"))?;
            sender.directory(dir, &mut Vec::new(), 0)?;
        }
        FileType::RegularFile => {
            let file = ground.open(&request.path, OFlags::RDONLY, Mode::empty())?;
            let stat = rustix::fs::fstat(&file).map_err(fault("look at"))?;
            sender.file(b"", file, &stat)?;
        }
        _ => {
            let message = format!("{} is neither a file nor a directory", super::shown(shown));
            return Err(Fault::new(FaultKind::WrongKind, message));
        }
    }
    let notes = sender.notes;
    answer.line(&ExportLine::End { notes })
}

struct Sender<'a, W: Write> {
    ground: &'a Ground,
    answer: &'a mut Answer<W>,
    entries: u64,
    notes: u64,
    buffer: Vec<u8>,
}

impl<W: Write> Sender<'_, W> {
    /// Sends what is in a directory; `path` is its own in the export.
    fn directory(&mut self, dir: OwnedFd, path: &mut Vec<u8>, depth: usize) -> Result<(), Fault> {
        let Ok(names) = sorted_names(&dir) else { return self.note(path, ExportNoteKind::Unreadable) };
        let length = path.len();
        for name in names {
            if length > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(name.as_bytes());
            self.inner(&dir, &name, path, depth)?;
            path.truncate(length);
        }
        Ok(())
    }

    fn inner(&mut self, dir: &OwnedFd, name: &CString, path: &mut Vec<u8>, depth: usize) -> Result<(), Fault> {
        let Ok(stat) = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) else {
            return self.note(path, ExportNoteKind::Unreadable);
        };
        let open = |flags| rustix::fs::openat(dir, name, OPENED | flags, Mode::empty());
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory if stage::is_stages(self.ground, name.as_bytes(), &stat) => Ok(()),
            FileType::Directory if depth >= EXPORT_DEPTH_MAX => self.note(path, ExportNoteKind::TooDeep),
            FileType::Directory => match open(OFlags::DIRECTORY) {
                Ok(inner) => {
                    self.entry(path, ExportKind::Directory, &stat)?;
                    self.directory(inner, path, depth + 1)
                }
                Err(_) => self.note(path, ExportNoteKind::Unreadable),
            },
            FileType::Symlink => match rustix::fs::readlinkat(dir, name, Vec::new()) {
                Ok(target) => self.entry(path, ExportKind::Symlink { target: Word::from(target.into_bytes()) }, &stat),
                Err(_) => self.note(path, ExportNoteKind::Unreadable),
            },
            FileType::RegularFile => match open(OFlags::empty()).and_then(|file| Ok((rustix::fs::fstat(&file)?, file)))
            {
                Ok((stat, file)) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                    self.file(path, file, &stat)
                }
                _ => self.note(path, ExportNoteKind::Unreadable),
            },
            _ => self.note(path, ExportNoteKind::Special),
        }
    }

    /// Sends a file. As many bytes as were announced are sent, whatever becomes of it meanwhile.
    fn file(&mut self, path: &[u8], file: OwnedFd, stat: &Stat) -> Result<(), Fault> {
        let size_bytes = u64::try_from(stat.st_size).unwrap_or(0);
        self.entry(path, ExportKind::File { size_bytes }, stat)?;
        let mut file = File::from(file);
        let mut left = size_bytes;
        while left > 0 {
            let step = usize::try_from(left).unwrap_or(BUFFER_BYTES).min(BUFFER_BYTES);
            match file.read(&mut self.buffer[..step]) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Ok(count) if count > 0 => {
                    self.answer.raw(&self.buffer[..count])?;
                    left -= count as u64;
                }
                _ => break,
            }
        }
        if left == 0 {
            return Ok(());
        }
        self.buffer.fill(0);
        while left > 0 {
            let step = usize::try_from(left).unwrap_or(BUFFER_BYTES).min(BUFFER_BYTES);
            self.answer.raw(&self.buffer[..step])?;
            left -= step as u64;
        }
        self.note(path, ExportNoteKind::Shrunk)
    }

    fn entry(&mut self, path: &[u8], kind: ExportKind, stat: &Stat) -> Result<(), Fault> {
        self.entries += 1;
        if self.entries > EXPORT_ENTRIES_MAX {
            let message = format!("there are more than {EXPORT_ENTRIES_MAX} files and directories");
            return Err(Fault::new(FaultKind::LimitReached, message));
        }
        let entry = ExportEntry {
            path: Word::from(path.to_vec()),
            kind,
            mode: stat.st_mode & 0o7777,
            modified_unix_ns: modified_ns(stat),
        };
        self.answer.line(&ExportLine::Entry(entry))
    }

    fn note(&mut self, path: &[u8], kind: ExportNoteKind) -> Result<(), Fault> {
        self.notes += 1;
        if self.notes > EXPORT_NOTES_MAX {
            return Ok(());
        }
        self.answer.line(&ExportLine::Note(ExportNote { path: Word::from(path.to_vec()), kind }))
    }
}

fn sorted_names(dir: &OwnedFd) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let name = entry?.file_name().to_owned();
        if !matches!(name.as_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}
