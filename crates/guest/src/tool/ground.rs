//! Where tools work: the root they see, and the layers of the workspace under it.
//!
//! Tools look paths up *in* the root by the kernel's own rule (`RESOLVE_IN_ROOT`), so that links, absolute ones too, lead
//! where they lead for the guest's programs, also when the root is a directory in a test.

use std::ffi::OsStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use pyro_wire::exec::Word;
use pyro_wire::{Fault, FaultKind};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

/// Characters of a guest's name that are repeated in a fault.
const SHOWN_CHARS_MAX: usize = 200;

/// Where the layers are said to be when there is no workspace disk: nothing is there.
const NO_DISK: &str = "/no-workspace-disk";

/// What a tool works on. All paths are of the tool's own process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ground {
    /// The directory that tools see as `/`.
    pub(crate) root: PathBuf,
    /// The baseline of the workspace: its seed. Never written.
    pub(crate) lower: PathBuf,
    /// What was changed above the baseline, as overlayfs keeps it. Never written by a tool.
    pub(crate) upper: PathBuf,
    /// Where both are seen as one: the workspace itself, `/workspace` in the root.
    pub(crate) mount: PathBuf,
}

impl Ground {
    /// The machine's own root, its workspace disk mounted where the inherited descriptor `disk` leads.
    pub(crate) fn of_machine(disk: u32) -> Self {
        let disk = PathBuf::from(format!("/proc/self/fd/{disk}"));
        Self {
            root: "/".into(),
            lower: disk.join(pyro_wire::lifecycle::WORKSPACE_LOWER),
            upper: disk.join(pyro_wire::lifecycle::WORKSPACE_UPPER),
            mount: pyro_wire::lifecycle::WORKSPACE_MOUNT.into(),
        }
    }

    /// The root as it is, without a workspace disk.
    pub(crate) fn without_disk() -> Self {
        Self {
            root: "/".into(),
            lower: NO_DISK.into(),
            upper: NO_DISK.into(),
            mount: pyro_wire::lifecycle::WORKSPACE_MOUNT.into(),
        }
    }

    /// `root/`, `lower/` and `upper/` of a directory; the workspace is `root/workspace`.
    pub(crate) fn in_dir(dir: &Path) -> Result<Self, Fault> {
        let dir = std::fs::canonicalize(dir).map_err(|error| io_fault("use", dir.as_os_str().as_bytes(), &error))?;
        let root = dir.join("root");
        Ok(Self { lower: dir.join("lower"), upper: dir.join("upper"), mount: root.join("workspace"), root })
    }

    /// Opens what a path of the guest names, links followed within the root. `flags` get `CLOEXEC`, and `NONBLOCK` and `NOCTTY`
    /// so that a pipe or device cannot hold the tool up.
    ///
    /// # Errors
    /// As the kernel says; and a path that is not absolute.
    pub(crate) fn open(&self, path: &Word, flags: OFlags, mode: Mode) -> Result<OwnedFd, Fault> {
        let bytes = path.as_bytes();
        if !bytes.starts_with(b"/") {
            return Err(Fault::new(FaultKind::InvalidArgument, format!("{} is not an absolute path", shown(bytes))));
        }
        let root =
            rustix::fs::openat(CWD, &self.root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|error| io_fault("open", self.root.as_os_str().as_bytes(), &error.into()))?;
        // A descriptor of the name alone opens nothing that could hold anyone up, and takes no such flags.
        let opens = if flags.contains(OFlags::PATH) { OFlags::empty() } else { OFlags::NONBLOCK | OFlags::NOCTTY };
        let flags = flags | opens | OFlags::CLOEXEC;
        openat2(&root, OsStr::from_bytes(bytes), flags, mode, ResolveFlags::IN_ROOT)
            .map_err(|error| io_fault("open", bytes, &error.into()))
    }

    /// Where `opened` is for this process.
    ///
    /// # Errors
    /// There is no `/proc` to say it.
    pub(crate) fn place_of(opened: &OwnedFd) -> Result<PathBuf, Fault> {
        let link = format!("/proc/self/fd/{}", opened.as_raw_fd());
        std::fs::read_link(&link).map_err(|error| io_fault("follow", link.as_bytes(), &error))
    }
}

/// What the system said about doing `what` with the guest's `path`.
pub(crate) fn io_fault(what: &str, path: &[u8], error: &std::io::Error) -> Fault {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    let kind = match errno {
        Some(Errno::NOENT) => FaultKind::NotFound,
        Some(Errno::NOTDIR | Errno::ISDIR) => FaultKind::WrongKind,
        Some(Errno::NOSPC | Errno::DQUOT) => FaultKind::NoSpace,
        Some(Errno::NAMETOOLONG | Errno::LOOP | Errno::INVAL) => FaultKind::InvalidArgument,
        _ => FaultKind::Io,
    };
    let path = shown(path);
    let reason = match errno {
        Some(Errno::NOENT) => "it is not there".to_owned(),
        Some(Errno::NOTDIR) => "a part of it is no directory".to_owned(),
        Some(Errno::ISDIR) => "it is a directory".to_owned(),
        Some(errno) => errno.to_string(),
        None => error.to_string(),
    };
    Fault::new(kind, format!("cannot {what} {path}: {reason}"))
}

/// Bytes of the guest as text, cut to what a line can hold.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}
