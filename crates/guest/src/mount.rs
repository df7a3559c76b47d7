//! The root of a machine: mounted, entered, and made read-only again at the end.
//!
//! At first the agent lives in the initramfs, where `Prepare` mounts what is shared under `/mnt`. Then the workspace disk is
//! mounted, the overlay laid over both, the root moved onto `/` and entered, as `switch_root` does: by `SetUp`, or, where every
//! machine begins with the same empty disk, already by `Prepare`, so that a template has it done. A machine with a workspace
//! then gets a second overlay at `/workspace`, both layers of which are on the workspace disk.
//!
//! What stays below is out of everyone's sight; the agent keeps descriptors of it for the end, and lends the workspace
//! disk's to its tools, which compare the layers of the workspace.

// UNSAFETY: FITRIM has no safe wrapper.
#![expect(unsafe_code, reason = "discarding unused blocks is an ioctl of its own")]

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use pyro_wire::lifecycle::{Prepare, RootKind, WORKSPACE_MOUNT, WorkspaceMount};
use pyro_wire::{Fault, FaultKind};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Stat, openat2};
use rustix::io::Errno;
use rustix::mount::{
    FsPickFlags, MountFlags, MoveMountFlags, fsconfig_reconfigure, fsconfig_set_flag, fspick, mount, mount_move,
    move_mount,
};

use crate::{devices, network, tool};

const ENVIRONMENT: &str = "/mnt/environment";
const WORKSPACE: &str = "/mnt/workspace";
const MODULES: &str = "/mnt/modules";
const ROOT: &str = "/mnt/root";

/// What the initramfs mounted for the agent and the root takes over, with the mode of a directory that is missing.
const MOVED: [(&str, u32); 4] = [("/dev", 0o755), ("/proc", 0o555), ("/sys", 0o555), ("/run", 0o755)];

/// `redirect_dir`: without it a directory of the environment cannot be renamed, only copied, and not every program does that.
const OVERLAY_OPTIONS: &CStr =
    c"lowerdir=/mnt/environment,upperdir=/mnt/workspace/upper,workdir=/mnt/workspace/work,redirect_dir=on";

/// Where the overlay of the workspace is laid before it has a root to be in.
const WORKSPACE_STAGE: &str = "/mnt/laid";

/// `index` and `metacopy` would leave files in the upper layer whose content is elsewhere, and the layer is read as it is.
const WORKSPACE_OPTIONS: &CStr = c"lowerdir=/mnt/workspace/workspace/lower,upperdir=/mnt/workspace/workspace/upper,workdir=/mnt/workspace/workspace/work,redirect_dir=on,metacopy=off,index=off";

/// Where something goes that the guest put in the place of `/workspace`, and that no directory can be mounted on.
const WORKSPACE_ASIDE: &str = "/workspace.aside";

const WARM_READ_BYTES: usize = 256 * 1024;

/// What a prepared machine stands on.
#[derive(Debug)]
pub(crate) enum Prepared {
    /// The initramfs, with what is shared mounted in it.
    Shared(Shared),
    /// The root it will keep.
    Root(Root),
}

/// The mounted file systems that a root is made of.
#[derive(Debug)]
pub(crate) struct Shared {
    kind: RootKind,
    /// Looked up beforehand: asking every disk for its name costs a restored machine a tenth of its set-up.
    disks: BTreeMap<String, PathBuf>,
    modules: Option<OwnedFd>,
}

/// The root the machine lives in.
#[derive(Debug)]
pub(crate) struct Root {
    kind: RootKind,
    /// Mounted writable, the one others stand on first: the disk, then the overlays on it.
    writable: Vec<OwnedFd>,
}

impl Prepared {
    /// Mounts what `request` names.
    pub(crate) fn mount(request: &Prepare) -> Result<Self, Fault> {
        let shared = Shared::mount(request)?;
        let Some(disk) = &request.fresh_disk else { return Ok(Self::Shared(shared)) };
        let root = shared.enter(Some(disk), WorkspaceMount::Absent)?;
        // Once more, so that also the overlay knows these files already.
        warm("/", &request.warm_paths)?;
        Ok(Self::Root(root))
    }

    /// Mounts the rest, if it is not yet, and makes it the root of this process and all its children.
    pub(crate) fn enter(self, workspace_disk: Option<&str>, workspace: WorkspaceMount) -> Result<Root, Fault> {
        match (self, workspace_disk, workspace) {
            (Self::Shared(shared), ..) => shared.enter(workspace_disk, workspace),
            (Self::Root(root), None, WorkspaceMount::Absent) => Ok(root),
            (Self::Root(_), ..) => {
                Err(Fault::new(FaultKind::InvalidArgument, "the machine was prepared with a workspace disk of its own"))
            }
        }
    }
}

impl Shared {
    fn mount(request: &Prepare) -> Result<Self, Fault> {
        let environment = devices::disk(&request.environment_disk)?;
        let (target, flags) = match request.root {
            RootKind::Overlay => (ENVIRONMENT, MountFlags::RDONLY),
            RootKind::Writable => (ROOT, MountFlags::NOATIME),
        };
        mount_disk(&environment, target, flags)?;
        let mut modules = None;
        if let Some(serial) = &request.modules_disk {
            mount_disk(&devices::disk(serial)?, MODULES, MountFlags::RDONLY)?;
            modules = Some(open_tree(MODULES)?);
        }
        if request.network {
            network::prepare(modules.is_some().then(|| Path::new(MODULES)))?;
        }
        warm(target, &request.warm_paths)?;
        Ok(Self { kind: request.root, disks: devices::disks(), modules })
    }

    fn enter(self, workspace_disk: Option<&str>, workspace: WorkspaceMount) -> Result<Root, Fault> {
        let invalid = |message: &str| Fault::new(FaultKind::InvalidArgument, message);
        let mut writable = Vec::new();
        if self.kind == RootKind::Overlay {
            let serial = workspace_disk.ok_or_else(|| invalid("an overlay root needs a workspace disk"))?;
            let device = self.disks.get(serial).map_or_else(|| devices::disk(serial), |path| Ok(path.clone()))?;
            mount_disk(&device, WORKSPACE, MountFlags::NOATIME)?;
            writable.push(open_tree(WORKSPACE)?);
            mount_overlay(ROOT, OVERLAY_OPTIONS)?;
        }
        let laid = match (self.kind, workspace) {
            (_, WorkspaceMount::Absent) => None,
            (RootKind::Writable, _) => return Err(invalid("a workspace needs an overlay root")),
            (RootKind::Overlay, WorkspaceMount::Overlay) => {
                mount_overlay(WORKSPACE_STAGE, WORKSPACE_OPTIONS)?;
                Some(open_tree(WORKSPACE_STAGE)?)
            }
        };
        self.switch_root()?;
        tool::sweep_below(open_tree("/")?);
        writable.push(open_tree("/")?);
        if let Some(laid) = laid {
            clear_place(WORKSPACE_MOUNT);
            place(&laid, WORKSPACE_MOUNT, 0o755)?;
            tool::sweep_below(open_tree(WORKSPACE_MOUNT)?);
            writable.push(laid);
        }
        Ok(Root { kind: self.kind, writable })
    }

    fn switch_root(&self) -> Result<(), Fault> {
        let moved =
            MOVED.iter().map(|(path, mode)| Ok((open_tree(path)?, *path, *mode))).collect::<Result<Vec<_>, Fault>>()?;
        let step = |what: &'static str| move |error: Errno| mount_fault(what, "/", error);
        rustix::process::chdir(ROOT).map_err(step("the new root"))?;
        mount_move(".", "/").map_err(step("the new root"))?;
        rustix::process::chroot(".").map_err(step("the new root"))?;
        rustix::process::chdir("/").map_err(step("the new root"))?;
        // Paths are looked up in the new root from here on, links in it included.
        for (tree, path, mode) in moved {
            place(&tree, path, mode)?;
        }
        if let Some(modules) = &self.modules {
            // Where `/lib` is a directory of its own, nobody looks for modules in `/usr/lib`.
            let split = rustix::fs::lstat("/lib").is_ok_and(|stat| file_type(&stat) == FileType::Directory);
            make_dir(if split { "/lib" } else { "/usr/lib" }, 0o755)?;
            place(modules, if split { "/lib/modules" } else { "/usr/lib/modules" }, 0o755)?;
        }
        if rustix::fs::stat("/tmp").is_err() {
            make_dir("/tmp", 0o1777)?;
        }
        Ok(())
    }
}

impl Root {
    pub(crate) fn kind(&self) -> RootKind {
        self.kind
    }

    /// The directory at which the workspace disk is mounted, out of the sight of the guest's programs.
    pub(crate) fn disk(&self) -> Option<&OwnedFd> {
        self.writable.first().filter(|_| self.kind == RootKind::Overlay)
    }

    /// Lets the host's files forget the blocks that the root does not use. A disk without that ability keeps them.
    pub(crate) fn discard_unused(&self) -> Result<(), Fault> {
        let root = rustix::fs::open("/", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        match root.and_then(|root| fitrim(&root)) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOTTY) => Ok(()),
            Err(error) => Err(Fault::new(FaultKind::Io, format!("cannot discard unused blocks: {error}"))),
        }
    }

    /// Makes the disks read-only, which leaves them as clean as an unmount does.
    pub(crate) fn make_read_only(self) -> Result<(), Fault> {
        for tree in self.writable.iter().rev() {
            let remount = || {
                let context = fspick(tree, "", FsPickFlags::FSPICK_EMPTY_PATH | FsPickFlags::FSPICK_CLOEXEC)?;
                fsconfig_set_flag(&context, "ro")?;
                fsconfig_reconfigure(&context)
            };
            remount()
                .map_err(|error| Fault::new(FaultKind::Mount, format!("cannot make a disk read-only: {error}")))?;
        }
        Ok(())
    }
}

/// Mounts a file system of the kernel's own.
pub(crate) fn mount_virtual(kind: &str, target: &str, flags: MountFlags, options: &CStr) -> Result<(), Errno> {
    match rustix::fs::mkdir(target, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error),
    }
    mount(kind, target, kind, flags, options)
}

fn mount_overlay(target: &str, options: &CStr) -> Result<(), Fault> {
    make_dir(target, 0o755)?;
    mount("overlay", target, "overlay", MountFlags::NOATIME, options)
        .map_err(|error| mount_fault("an overlay", target, error))
}

/// Moves aside what a guest that unmounted its workspace left in its place, so that the machine starts all the same.
fn clear_place(path: &str) {
    if rustix::fs::lstat(path).is_ok_and(|stat| file_type(&stat) != FileType::Directory) {
        // When it does not go, what is then mounted over it says so.
        let _ = rustix::fs::rename(path, WORKSPACE_ASIDE);
    }
}

fn mount_disk(device: &Path, target: &str, flags: MountFlags) -> Result<(), Fault> {
    make_dir("/mnt", 0o755)?;
    make_dir(target, 0o755)?;
    // A fresh disk is fit for use as it is; nothing need be written to it in the background. What is removed gives its room
    // back to the host.
    let options = (!flags.contains(MountFlags::RDONLY)).then_some(c"noinit_itable,discard");
    mount(device, target, "ext4", flags, options)
        .map_err(|error| mount_fault(&device.display().to_string(), target, error))
}

/// A descriptor of what is mounted at `path`, by which it can be moved or changed wherever it is by then.
fn open_tree(path: &str) -> Result<OwnedFd, Fault> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| Fault::new(FaultKind::Io, format!("cannot open {path}: {error}")))
}

/// Moves what `tree` is onto `path`, which is made if it is missing.
fn place(tree: &OwnedFd, path: &str, mode: u32) -> Result<(), Fault> {
    make_dir(path, mode)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
    move_mount(tree, "", CWD, path, flags).map_err(|error| mount_fault("a tree of the agent", path, error))
}

fn make_dir(path: &str, mode: u32) -> Result<(), Fault> {
    match rustix::fs::mkdir(path, Mode::empty()) {
        // The process's file mode mask has no say in this.
        Ok(()) => rustix::fs::chmod(path, Mode::from_raw_mode(mode)),
        Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error),
    }
    .map_err(|error| Fault::new(FaultKind::Io, format!("cannot make {path}: {error}")))
}

/// Reads files of the environment, so that they lie in the page cache of every machine restored from this one.
fn warm(root: &str, paths: &[String]) -> Result<(), Fault> {
    if paths.is_empty() {
        return Ok(());
    }
    let root = open_tree(root)?;
    let mut scratch = vec![0; WARM_READ_BYTES];
    for path in paths {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let Ok(file) = openat2(&root, path.as_str(), flags, Mode::empty(), ResolveFlags::IN_ROOT) else { continue };
        if rustix::fs::fstat(&file).is_ok_and(|stat| file_type(&stat) == FileType::RegularFile) {
            while rustix::io::read(&file, &mut scratch).is_ok_and(|count| count > 0) {}
        }
    }
    Ok(())
}

fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

fn mount_fault(what: &str, target: &str, error: Errno) -> Fault {
    Fault::new(FaultKind::Mount, format!("cannot mount {what} at {target}: {error}"))
}

fn fitrim(root: &OwnedFd) -> Result<(), Errno> {
    /// `struct fstrim_range` of `linux/fs.h`.
    #[repr(C)]
    struct Range {
        start: u64,
        length: u64,
        length_min: u64,
    }
    let mut range = Range { start: 0, length: u64::MAX, length_min: 0 };
    let opcode = rustix::ioctl::opcode::read_write::<Range>(b'X', 121);
    // SAFETY: FITRIM reads and writes one `fstrim_range`, which `range` is, and keeps no pointer to it.
    let result = unsafe { libc::ioctl(root.as_raw_fd(), libc::c_ulong::from(opcode), &raw mut range) };
    if result == 0 {
        return Ok(());
    }
    // SAFETY: reads this thread's error number.
    Err(Errno::from_raw_os_error(unsafe { *libc::__errno_location() }))
}
