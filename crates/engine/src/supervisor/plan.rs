//! What a machine of a user is made of: which files become which disks, and how the guest is told about them.
//!
//! The device set is the same for every machine of one plan, because a saved state depends on it.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use pyro_wire::lifecycle::{Prepare, RootKind, SetUp, WorkspaceMount};
use rustix::rand::{GetRandomFlags, getrandom};

use super::traffic;
use crate::machine::{Accelerator, Disk, DiskFormat, DiskLayer, FailedWrite, Flush, MachineSpec, Memory, Start};
use crate::store::hex;

/// Raised when the order or kind of a machine's devices changes; part of every template's key.
pub(super) const DEVICE_SET: u32 = 1;

const ENVIRONMENT_SERIAL: &str = "environment";
const MODULES_SERIAL: &str = "modules";
/// What the guest, and the machine, know the workspace disk by.
pub(super) const WORKSPACE_SERIAL: &str = "workspace";

/// Bytes of the host's randomness that a guest starts with.
const ENTROPY_BYTES: usize = 64;

/// Files of the environment that nearly every command touches; kept warm in a template's page cache.
const WARM_PATHS: &[&str] = &[
    "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
    "/usr/lib/x86_64-linux-gnu/libc.so.6",
    "/etc/ld.so.cache",
    "/usr/bin/dash",
    "/usr/bin/bash",
    "/usr/lib/x86_64-linux-gnu/libtinfo.so.6",
    "/usr/bin/true",
    "/usr/bin/cat",
    "/usr/bin/ls",
    "/usr/bin/git",
    "/usr/lib/x86_64-linux-gnu/libpcre2-8.so.0",
    "/usr/lib/x86_64-linux-gnu/libz.so.1",
    "/etc/passwd",
    "/etc/nsswitch.conf",
];

/// A machine to be made, warm or cold.
#[derive(Debug, Clone)]
pub struct MachinePlan {
    /// Names the environment in a template's key.
    pub environment_digest: String,
    /// ext4 image of the environment's root filesystem.
    pub rootfs: PathBuf,
    /// Names kernel, initramfs and agent in a template's key.
    pub kernel_digest: String,
    /// bzImage or vmlinux.
    pub kernel: PathBuf,
    /// Initial RAM filesystem.
    pub initramfs: PathBuf,
    /// ext4 image of the kernel's modules, if it has any.
    pub modules_image: Option<PathBuf>,
    /// Virtual processors.
    pub vcpu_count: u32,
    /// Guest memory in MiB.
    pub mem_mib: u32,
    /// Size of the workspace disk in GiB.
    pub disk_gib: u32,
    /// Whether the workspace disk is an empty one in every machine: then the template has it mounted already.
    pub fresh_disk: bool,
    /// How to run it.
    pub accelerator: Accelerator,
    /// How its root comes about.
    pub root: RootKind,
    /// Whether it has a workspace.
    pub workspace: WorkspaceMount,
    /// Whether it has a network interface.
    pub network: bool,
}

/// The workspace disk of a machine.
#[derive(Debug)]
pub struct WorkspaceDisk {
    /// Its files from the bottom to the top.
    pub layers: Vec<DiskLayer>,
    /// Whether what the guest has written must survive a crash of the host.
    pub flush: Flush,
    /// What becomes of a write that the host cannot carry out.
    pub failed_write: FailedWrite,
}

impl WorkspaceDisk {
    /// One raw file that vanishes with its machine.
    #[must_use]
    pub fn of_the_moment(file: OwnedFd) -> Self {
        Self {
            layers: vec![DiskLayer { file, format: DiskFormat::Raw }],
            flush: Flush::Ignored,
            failed_write: FailedWrite::Told,
        }
    }
}

/// What a machine has besides what its plan names.
#[derive(Debug, Default)]
pub struct MachineParts {
    /// Its workspace disk, if it has one.
    pub workspace_disk: Option<WorkspaceDisk>,
    /// The guest's end of its network, if it has one.
    pub frames: Option<OwnedFd>,
}

impl MachinePlan {
    /// The machine of this plan.
    ///
    /// # Errors
    /// A file of the plan cannot be opened.
    pub fn spec(&self, parts: MachineParts, memory: Memory, start: Start) -> io::Result<MachineSpec> {
        Ok(MachineSpec {
            vcpu_count: self.vcpu_count,
            mem_mib: self.mem_mib,
            accelerator: self.accelerator,
            kernel: self.kernel.clone(),
            initramfs: self.initramfs.clone(),
            disks: self.disks(parts.workspace_disk)?,
            network: parts.frames,
            memory,
            start,
        })
    }

    /// How the agent is told to mount what all machines of this plan share.
    #[must_use]
    pub fn prepare(&self) -> Prepare {
        let overlay = self.root == RootKind::Overlay;
        Prepare {
            environment_disk: ENVIRONMENT_SERIAL.to_owned(),
            modules_disk: self.modules_image.is_some().then(|| MODULES_SERIAL.to_owned()),
            root: self.root,
            fresh_disk: self.fresh_disk.then(|| WORKSPACE_SERIAL.to_owned()),
            network: self.network,
            warm_paths: if overlay { WARM_PATHS.iter().map(|&path| path.to_owned()).collect() } else { Vec::new() },
        }
    }

    /// How the agent is told to make a machine one of a kind: an identity, the time, randomness.
    ///
    /// # Errors
    /// The host has no randomness.
    pub fn set_up(&self, hostname: &str) -> io::Result<SetUp> {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
        Ok(SetUp {
            workspace_disk: (self.root == RootKind::Overlay && !self.fresh_disk).then(|| WORKSPACE_SERIAL.to_owned()),
            workspace: self.workspace,
            hostname: hostname.to_owned(),
            machine_id: hex::encode(&random_bytes(16)?),
            clock_unix_ns: u64::try_from(since_epoch.as_nanos()).map_err(io::Error::other)?,
            entropy: random_bytes(ENTROPY_BYTES)?,
            network: self.network.then(traffic::guest_side),
        })
    }

    fn disks(&self, workspace_disk: Option<WorkspaceDisk>) -> io::Result<Vec<Disk>> {
        let writable_root = self.root == RootKind::Writable;
        let mut disks = vec![raw_disk(ENVIRONMENT_SERIAL, open(&self.rootfs, writable_root)?, !writable_root)];
        if let Some(image) = &self.modules_image {
            disks.push(raw_disk(MODULES_SERIAL, open(image, false)?, true));
        }
        disks.extend(workspace_disk.map(|WorkspaceDisk { layers, flush, failed_write }| Disk {
            serial: WORKSPACE_SERIAL.to_owned(),
            layers,
            read_only: false,
            flush,
            failed_write,
        }));
        Ok(disks)
    }
}

/// Random bytes of the host.
///
/// # Errors
/// The host has no randomness.
pub fn random_bytes(count: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; count];
    // Requests of up to 256 bytes are never cut short.
    let got = getrandom(&mut bytes, GetRandomFlags::empty())?;
    if got == count { Ok(bytes) } else { Err(io::Error::other("the kernel gave fewer random bytes than asked for")) }
}

fn open(path: &Path, writable: bool) -> io::Result<OwnedFd> {
    Ok(File::options().read(true).write(writable).open(path)?.into())
}

fn raw_disk(serial: &str, file: OwnedFd, read_only: bool) -> Disk {
    Disk {
        serial: serial.to_owned(),
        layers: vec![DiskLayer { file, format: DiskFormat::Raw }],
        read_only,
        flush: Flush::Ignored,
        failed_write: FailedWrite::Told,
    }
}
