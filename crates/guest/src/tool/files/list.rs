//! Listing a directory, sorted and bounded.

use std::collections::BinaryHeap;
use std::ffi::CString;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pyro_wire::Fault;
use pyro_wire::exec::Word;
use pyro_wire::files::{Entry, EntryKind, LIST_ENTRIES_MAX, List, ListLine};
use pyro_wire::tool::{ANSWER_LINE_BYTES, ANSWER_TEXT_BYTES_MAX};
use rustix::fs::{AtFlags, Dir, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::{kind, modified_ns, size};
use crate::tool::{Answer, Ground, io_fault, stage};

/// Directories inside each other that a listing enters; each holds a descriptor.
const LIST_DEPTH_MAX: usize = 256;

/// Lists a directory, or shows the one thing that is there.
pub(crate) fn list(request: &List, ground: &Ground, answer: &mut Answer<impl Write>) -> Result<(), Fault> {
    let path = request.path.as_bytes();
    let top = ground.open(&request.path, OFlags::PATH, Mode::empty())?;
    let stat = rustix::fs::fstat(&top).map_err(|error| io_fault("look at", path, &error.into()))?;
    let left = request.entries_max.min(LIST_ENTRIES_MAX) as usize;
    let mut lister = Lister {
        ground,
        left,
        text_left: ANSWER_TEXT_BYTES_MAX,
        recursive: request.recursive,
        truncated: false,
        answer,
    };
    if kind(&stat) == EntryKind::Directory {
        lister.directory(&top, path, &mut Vec::new(), 0)?;
    } else {
        let name = path.rsplit(|byte| *byte == b'/').find(|part| !part.is_empty()).unwrap_or(path);
        lister.entry(name, &stat, None)?;
    }
    let truncated = lister.truncated;
    answer.line(&ListLine::End { truncated })
}

struct Lister<'a, W: Write> {
    ground: &'a Ground,
    left: usize,
    /// Bytes of paths that may still be told.
    text_left: usize,
    recursive: bool,
    truncated: bool,
    answer: &'a mut Answer<W>,
}

impl<W: Write> Lister<'_, W> {
    /// Lists what `dir` holds; `prefix` is its path in the listing. `shown` is its path for people.
    fn directory(&mut self, dir: &OwnedFd, shown: &[u8], prefix: &mut Vec<u8>, depth: usize) -> Result<(), Fault> {
        let names = match sorted_names(dir, self.left) {
            Ok((names, all)) => {
                self.truncated |= !all;
                names
            }
            // A directory below may go away, or not be for reading, while the rest of the listing is as good as ever.
            Err(_) if depth > 0 => return Ok(()),
            Err(error) => return Err(io_fault("list", shown, &error.into())),
        };
        for name in names {
            let Ok(stat) = rustix::fs::statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            if stage::is_stages(self.ground, name.as_bytes(), &stat) {
                continue;
            }
            let length = prefix.len();
            prefix.extend_from_slice(name.as_bytes());
            let target = (kind(&stat) == EntryKind::Symlink).then(|| link_target(dir.as_fd(), &name)).flatten();
            let text = prefix.len() + target.as_ref().map_or(0, |target| target.as_bytes().len()) + ANSWER_LINE_BYTES;
            match self.text_left.checked_sub(text) {
                Some(left) => self.text_left = left,
                None => self.left = 0,
            }
            if self.left == 0 {
                self.truncated = true;
                return Ok(());
            }
            self.entry(prefix, &stat, target)?;
            if self.recursive && kind(&stat) == EntryKind::Directory {
                self.below(dir, &name, prefix, depth)?;
            }
            prefix.truncate(length);
        }
        Ok(())
    }

    fn below(&mut self, dir: &OwnedFd, name: &CString, prefix: &mut Vec<u8>, depth: usize) -> Result<(), Fault> {
        if depth >= LIST_DEPTH_MAX {
            self.truncated = true;
            return Ok(());
        }
        if let Ok(below) = rustix::fs::openat(
            dir,
            name,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        ) {
            prefix.push(b'/');
            self.directory(&below, &[], prefix, depth + 1)?;
        }
        Ok(())
    }

    fn entry(&mut self, path: &[u8], stat: &Stat, target: Option<Word>) -> Result<(), Fault> {
        self.left = self.left.saturating_sub(1);
        let entry = Entry {
            path: Word::from(path.to_vec()),
            kind: kind(stat),
            size_bytes: size(stat),
            mode: stat.st_mode & 0o7777,
            modified_unix_ns: modified_ns(stat),
            target,
        };
        self.answer.line(&ListLine::Entry(entry))
    }
}

/// The first `limit` names of a directory in the order of their bytes, and whether they are all.
fn sorted_names(dir: &OwnedFd, limit: usize) -> Result<(Vec<CString>, bool), Errno> {
    let readable = rustix::fs::openat(dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut first = BinaryHeap::new();
    let mut all = true;
    for entry in Dir::new(readable)? {
        let name = entry?.file_name().to_owned();
        if matches!(name.as_bytes(), b"." | b"..") {
            continue;
        }
        first.push(name);
        if first.len() > limit {
            first.pop();
            all = false;
        }
    }
    Ok((first.into_sorted_vec(), all))
}

fn link_target(dir: BorrowedFd<'_>, name: &CString) -> Option<Word> {
    rustix::fs::readlinkat(dir, name, Vec::new()).ok().map(|target| Word::from(target.into_bytes()))
}
