//! Putting and removing what comes, one thing after the other, each in one step: it is made in the stage, or beside its place
//! on a file system that has none and ends with the machine, and renamed into it.
//!
//! A file that was put is marked by an attribute with its time and size, so that a later one in its place can tell whether
//! somebody in the guest changed it meanwhile.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use pyro_wire::Fault;
use pyro_wire::exec::Word;
use pyro_wire::files::EntryKind;
use pyro_wire::sync::{COMMIT, DISCARD, Item, Overwritten, Receive, ReceiveLine, Received};
use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags, chmodat, fchmod, fchown, fgetxattr,
    fsetxattr, futimens, linkat, mkdirat, openat, renameat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::destination::{Destination, split, stat};
use super::{broken, next_line};
use crate::tool::files::{kind, modified_ns};
use crate::tool::stage::Stage;
use crate::tool::{Answer, Ground, io_fault, shown};

/// The mark of a file that this tool put: its time and size.
const MARK: &str = "user.pyro.put";
/// Bytes of a mark.
const MARK_BYTES_MAX: usize = 64;
const COPY_BYTES: usize = 256 * 1024;
const NANOSECONDS: i64 = 1_000_000_000;

/// Does what comes.
pub(crate) fn receive(
    request: &Receive,
    ground: &Ground,
    mut items: impl BufRead,
    answer: &mut Answer<impl Write>,
) -> Result<(), Fault> {
    let destination = Destination::make(ground, &request.path)?;
    let top = destination.dir(b"").map_err(|error| io_fault("open", request.path.as_bytes(), &error.into()))?;
    let stage = Stage::for_target(ground, &top)
        .map_err(|error| io_fault("write to", request.path.as_bytes(), &error.into()))?;
    let (buffer, received) = (vec![0; COPY_BYTES], Received::default());
    let mut receiver = Receiver { destination, stage, last: None, buffer, received, answer };
    loop {
        match next_line(&mut items)? {
            Some(Item::End) => break,
            Some(item) => receiver.item(item, &mut items)?,
            None => return Err(broken("it broke off")),
        }
    }
    // What is told of must survive the machine.
    rustix::fs::syncfs(&top).map_err(|error| io_fault("write", request.path.as_bytes(), &error.into()))?;
    let received = receiver.received;
    answer.line(&ReceiveLine::End(received))
}

struct Receiver<'a, W: Write> {
    destination: Destination,
    /// Where new things are made, for all directories of its file system.
    stage: Option<Stage>,
    /// The directory that was used last.
    last: Option<(Vec<u8>, OwnedFd)>,
    buffer: Vec<u8>,
    received: Received,
    answer: &'a mut Answer<W>,
}

/// A name in a directory, and what is there.
struct Place {
    dir: OwnedFd,
    /// Where something is made that is then renamed to the name.
    making: OwnedFd,
    name: Vec<u8>,
    there: Option<Stat>,
    guest_change: bool,
}

impl Place {
    fn name(&self) -> &OsStr {
        OsStr::from_bytes(&self.name)
    }

    fn has(&self, wanted: EntryKind) -> bool {
        self.there.as_ref().is_some_and(|stat| kind(stat) == wanted)
    }
}

impl<W: Write> Receiver<'_, W> {
    fn item(&mut self, item: Item, input: &mut impl BufRead) -> Result<(), Fault> {
        let (path, done) = match item {
            Item::Directory { path, mode } => {
                let done = self.at(&path, |place| directory(place, mode));
                (path, done)
            }
            Item::File { path, mode, modified_unix_ns, size_bytes } => {
                let done = self.file(&path, FileHead { mode, modified_unix_ns, size_bytes }, input)?;
                (path, done)
            }
            Item::Symlink { path, target } => {
                let make = |dir: &OwnedFd, name: &OsStr| symlinkat(OsStr::from_bytes(target.as_bytes()), dir, name);
                let done = self.at(&path, |place| replace(place, make));
                (path, done)
            }
            Item::HardLink { path, to } => {
                let done = self.hard_link(&path, &to);
                (path, done)
            }
            Item::Mode { path, mode } => {
                let done = self.at(&path, |place| set_mode(place, mode));
                (path, done)
            }
            Item::Remove { path } => {
                let done = self.at(&path, remove);
                (path, done)
            }
            Item::End => return Ok(()),
        };
        self.tell(path, done)
    }

    fn tell(&mut self, path: Word, done: Result<(Done, bool), Refusal>) -> Result<(), Fault> {
        let overwritten = match done {
            Ok((Done::Created, _)) => {
                self.received.created += 1;
                return Ok(());
            }
            Ok((Done::Nothing, _)) => return Ok(()),
            Ok((Done::Replaced { told }, guest_change)) => {
                self.received.replaced += 1;
                told.then_some((false, guest_change))
            }
            Ok((Done::Removed, guest_change)) => {
                self.received.removed += 1;
                Some((true, guest_change))
            }
            Err(Refusal::Full(error)) => return Err(io_fault("write", path.as_bytes(), &error)),
            Err(Refusal::Failed(reason)) => {
                self.received.failed += 1;
                return self.answer.line(&ReceiveLine::Failed { path, reason });
            }
        };
        match overwritten {
            None => Ok(()),
            Some((removed, guest_change)) => {
                self.answer.line(&ReceiveLine::Overwritten(Overwritten { path, removed, guest_change }))
            }
        }
    }

    /// Does something at a path, and says whether what was there had been made in the guest.
    fn at(&mut self, path: &Word, what: impl FnOnce(&Place) -> Result<Done, Errno>) -> Result<(Done, bool), Refusal> {
        let place = self.place(path.as_bytes())?;
        let done = what(&place)?;
        Ok((done, place.guest_change))
    }

    fn place(&mut self, path: &[u8]) -> Result<Place, Refusal> {
        let (dir, name) = split(path).ok_or_else(|| Refusal::Failed(format!("{} is no path", shown(path))))?;
        let opened = match self.last.take().filter(|(last, _)| last == dir) {
            Some((_, opened)) => opened,
            None => self.destination.dir(dir)?,
        };
        let there = stat(&opened, name)?;
        let copy = rustix::io::fcntl_dupfd_cloexec(&opened, 3)?;
        let stage = self.stage.as_ref().filter(|stage| stage.serves(&opened));
        let making = rustix::io::fcntl_dupfd_cloexec(stage.map_or(&opened, Stage::dir), 3)?;
        let marked = there.as_ref().is_some_and(|stat| is_marked(&opened, name, stat));
        let guest_change = there.is_some() && self.destination.is_guest_change(path, marked);
        self.last = Some((dir.to_vec(), opened));
        Ok(Place { dir: copy, making, name: name.to_vec(), there, guest_change })
    }

    /// Reads all of a file's content, whether it can be put or not; only a broken input is a fault.
    fn file(
        &mut self,
        path: &Word,
        head: FileHead,
        input: &mut impl BufRead,
    ) -> Result<Result<(Done, bool), Refusal>, Fault> {
        let mut left = head.size_bytes;
        let mut started = self.place(path.as_bytes()).and_then(|place| Ok((NewFile::create(&place)?, place)));
        while left > 0 {
            let count = COPY_BYTES.min(usize::try_from(left).unwrap_or(COPY_BYTES));
            let part = &mut self.buffer[..count];
            input.read_exact(part).map_err(|error| broken(&error.to_string()))?;
            left -= count as u64;
            if let Ok((file, _)) = &mut started
                && let Err(error) = file.file.write_all(part)
            {
                started = Err(error.into());
            }
        }
        let mut verdict = [0];
        input.read_exact(&mut verdict).map_err(|error| broken(&error.to_string()))?;
        match verdict[0] {
            COMMIT => Ok(started.and_then(|(file, place)| {
                let done = file.put(&place, head)?;
                Ok((done, place.guest_change))
            })),
            DISCARD => Ok(Ok((Done::Nothing, false))),
            _ => Err(broken("content is followed by neither yes nor no")),
        }
    }

    fn hard_link(&mut self, path: &Word, to: &Word) -> Result<(Done, bool), Refusal> {
        let first = self.place(to.as_bytes())?;
        if !first.has(EntryKind::File) {
            return Err(Refusal::Failed(format!("{}, another name of it, is no file", shown(to.as_bytes()))));
        }
        self.at(path, |place| {
            let same = |stat: &Stat| first.there.as_ref().is_some_and(|first| first.st_ino == stat.st_ino);
            if place.there.as_ref().is_some_and(same) {
                return Ok(Done::Nothing);
            }
            replace(place, |dir, name| linkat(&first.dir, first.name(), dir, name, AtFlags::empty()))
        })
    }
}

/// What became of an item.
#[derive(Debug, Clone, Copy)]
enum Done {
    Nothing,
    Created,
    /// `told`: something is not there any more, not only its mode.
    Replaced {
        told: bool,
    },
    Removed,
}

/// Why an item was not done.
enum Refusal {
    /// There is no room: nothing more can be done either.
    Full(io::Error),
    Failed(String),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        match Errno::from_io_error(&error) {
            Some(Errno::NOSPC | Errno::DQUOT) => Self::Full(error),
            Some(Errno::LOOP | Errno::NOTDIR) => Self::Failed("a part of the path is no directory there".to_owned()),
            Some(Errno::NOENT) => Self::Failed("it is not there".to_owned()),
            Some(Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST) => {
                Self::Failed("a directory that is not empty is there".to_owned())
            }
            Some(errno) => Self::Failed(errno.to_string()),
            None => Self::Failed(error.to_string()),
        }
    }
}

impl From<Errno> for Refusal {
    fn from(error: Errno) -> Self {
        io::Error::from(error).into()
    }
}

/// What is said of a file before its content.
#[derive(Debug, Clone, Copy)]
struct FileHead {
    mode: u32,
    modified_unix_ns: i64,
    size_bytes: u64,
}

/// A file in the making. Dropping it removes it.
struct NewFile {
    dir: OwnedFd,
    name: String,
    file: File,
    placed: bool,
}

impl NewFile {
    fn create(place: &Place) -> Result<Self, Errno> {
        let name = new_name();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&place.making, name.as_str(), flags, Mode::from_raw_mode(0o600))?;
        let dir = rustix::io::fcntl_dupfd_cloexec(&place.making, 3)?;
        Ok(Self { dir, name, file: file.into(), placed: false })
    }

    fn put(mut self, place: &Place, head: FileHead) -> Result<Done, Errno> {
        if let Some(old) = &place.there
            && kind(old) == EntryKind::File
        {
            // What stands in for a file keeps its owner.
            fchown(&self.file, Some(Uid::from_raw(old.st_uid)), Some(Gid::from_raw(old.st_gid)))?;
        }
        fchmod(&self.file, Mode::from_raw_mode(head.mode & 0o7777))?;
        let mtime = Timespec {
            tv_sec: head.modified_unix_ns.div_euclid(NANOSECONDS),
            tv_nsec: head.modified_unix_ns.rem_euclid(NANOSECONDS),
        };
        let mark = mark(head.modified_unix_ns, head.size_bytes);
        // A file system without attributes only tells less of what it held later.
        let _ = fsetxattr(&self.file, MARK, &mark, XattrFlags::empty());
        futimens(&self.file, &Timestamps { last_access: mtime, last_modification: mtime })?;
        let done = make_room(place)?;
        renameat(&self.dir, self.name.as_str(), &place.dir, place.name())?;
        self.placed = true;
        Ok(done)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.placed {
            // The failure before is what there is to tell; a file that stays besides it is small harm.
            let _ = unlinkat(&self.dir, self.name.as_str(), AtFlags::empty());
        }
    }
}

/// Makes something and renames it to its place.
fn replace(place: &Place, make: impl FnOnce(&OwnedFd, &OsStr) -> Result<(), Errno>) -> Result<Done, Errno> {
    let name = new_name();
    make(&place.making, OsStr::new(&name))?;
    let moved = make_room(place).and_then(|done| {
        renameat(&place.making, name.as_str(), &place.dir, place.name())?;
        Ok(done)
    });
    // Mostly it is gone; but two names of one file are not renamed over each other, and both stay.
    let _ = unlinkat(&place.making, name.as_str(), AtFlags::empty());
    moved
}

fn set_mode(place: &Place, mode: u32) -> Result<Done, Errno> {
    if place.has(EntryKind::Symlink) {
        return Err(Errno::LOOP);
    }
    chmodat(&place.dir, place.name(), Mode::from_raw_mode(mode & 0o7777), AtFlags::empty())?;
    Ok(Done::Replaced { told: false })
}

/// Takes an empty directory away, which nothing else can be renamed over.
fn make_room(place: &Place) -> Result<Done, Errno> {
    if place.has(EntryKind::Directory) {
        unlinkat(&place.dir, place.name(), AtFlags::REMOVEDIR)?;
    }
    Ok(if place.there.is_some() { Done::Replaced { told: true } } else { Done::Created })
}

fn directory(place: &Place, mode: u32) -> Result<Done, Errno> {
    let mode = Mode::from_raw_mode(mode & 0o7777);
    let done = match &place.there {
        Some(_) if place.has(EntryKind::Directory) => Done::Replaced { told: false },
        Some(_) => {
            unlinkat(&place.dir, place.name(), AtFlags::empty())?;
            Done::Replaced { told: true }
        }
        None => Done::Created,
    };
    if !place.has(EntryKind::Directory) {
        mkdirat(&place.dir, place.name(), mode)?;
    }
    chmodat(&place.dir, place.name(), mode, AtFlags::empty())?;
    Ok(done)
}

fn remove(place: &Place) -> Result<Done, Errno> {
    let is_dir = place.has(EntryKind::Directory);
    let flags = if is_dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
    match unlinkat(&place.dir, place.name(), flags) {
        Ok(()) => Ok(Done::Removed),
        // It is gone already, or holds what is to stay.
        Err(Errno::NOENT) => Ok(Done::Nothing),
        Err(Errno::NOTEMPTY | Errno::EXIST) if is_dir => Ok(Done::Nothing),
        Err(error) => Err(error),
    }
}

fn is_marked(dir: &OwnedFd, name: &[u8], stat: &Stat) -> bool {
    if kind(stat) != EntryKind::File {
        return false;
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let Ok(file) = openat(dir, OsStr::from_bytes(name), flags, Mode::empty()) else { return false };
    let mut held = [0; MARK_BYTES_MAX];
    let size_bytes = u64::try_from(stat.st_size).unwrap_or_default();
    fgetxattr(&file, MARK, &mut held[..]).is_ok_and(|len| held[..len] == mark(modified_ns(stat), size_bytes)[..])
}

fn mark(modified_unix_ns: i64, size_bytes: u64) -> Vec<u8> {
    format!("{modified_unix_ns} {size_bytes}").into_bytes()
}

/// A name that nobody else has.
fn new_name() -> String {
    static COUNTER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let number = COUNTER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    format!(".pyro-put-{}-{number}", std::process::id())
}
