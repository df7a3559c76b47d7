//! What a machine is made of. All files are handed over open: a machine names no path of the host.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// Name of the virtio-serial port to the agent. It is the wire's word too (`PORT_NAME`); a test of the supervisor holds the two
/// together, because this crate knows no wire.
pub const GUEST_PORT_NAME: &str = "org.pyro.agent.0";

/// The hardware address of a machine's network interface. It is alone on its network, so all machines have the same one, which
/// a template can then be saved with.
pub const NETWORK_MAC: &str = "52:54:00:70:79:02";

/// Who executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Accelerator {
    /// The host's processor, through `/dev/kvm`.
    Kvm,
    /// QEMU's software emulation.
    Tcg,
}

impl Accelerator {
    /// `kvm` or `tcg`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

/// What the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AcceleratorChoice {
    /// KVM if a real boot under it works, emulation otherwise.
    #[default]
    Auto,
    /// KVM or an error.
    Kvm,
    /// Emulation.
    Tcg,
}

/// A machine to launch.
#[derive(Debug)]
pub struct MachineSpec {
    /// Virtual processors, 1 or more.
    pub vcpu_count: u32,
    /// Guest memory in MiB.
    pub mem_mib: u32,
    /// How to run it.
    pub accelerator: Accelerator,
    /// bzImage or vmlinux.
    pub kernel: PathBuf,
    /// Initial RAM filesystem.
    pub initramfs: PathBuf,
    /// Disks, in order; part of the device set that a saved state depends on.
    pub disks: Vec<Disk>,
    /// The stream that carries the frames of the guest's network interface, each behind its length in four bytes, the most
    /// significant first. Without one there is no interface; it is part of the device set too.
    pub network: Option<OwnedFd>,
    /// What backs the guest's memory.
    pub memory: Memory,
    /// Boot, or go on from a saved state.
    pub start: Start,
}

/// One virtio-blk disk.
#[derive(Debug)]
pub struct Disk {
    /// The serial the guest finds it by; at most 20 bytes of `[a-z0-9-]`.
    pub serial: String,
    /// Layers from the bottom to the top; only the top one is written to. At least one.
    pub layers: Vec<DiskLayer>,
    /// Whether the guest may only read.
    pub read_only: bool,
    /// What a flush by the guest does.
    pub flush: Flush,
    /// What becomes of a write that the host cannot carry out.
    pub failed_write: FailedWrite,
}

/// What becomes of a guest's wish that its writes be on stable storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flush {
    /// The host writes them through: for a disk that must survive a crash of the host.
    Honoured,
    /// They stay in the host's page cache, where they survive the guest, the hypervisor and pyro, but not the host. Much
    /// faster: for disks that are thrown away, or synced once when they are done.
    Ignored,
}

/// What becomes of a guest's write that the host cannot carry out, because its disk is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailedWrite {
    /// The guest is told that its disk failed.
    Told,
    /// The guest stands still until the write can be carried out: its file system never hears of it.
    Waits,
}

/// One file of a disk.
#[derive(Debug)]
pub struct DiskLayer {
    /// The open file.
    pub file: OwnedFd,
    /// Its format.
    pub format: DiskFormat,
}

/// Format of a disk file. Always stated, never guessed from (hostile) content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFormat {
    /// The bytes themselves.
    Raw,
    /// QEMU's copy-on-write format.
    Qcow2,
}

/// What backs the guest's memory.
#[derive(Debug)]
pub enum Memory {
    /// Anonymous memory of the hypervisor.
    Anonymous,
    /// A file of exactly the memory's size, written through: for saving a template.
    Shared(OwnedFd),
    /// A file of exactly the memory's size, copied on write: for restoring a template.
    Private(OwnedFd),
}

/// How a machine starts.
#[derive(Debug)]
pub enum Start {
    /// From the kernel's first instruction.
    Boot,
    /// From the device state in this file; memory must be [`Memory::Private`] of the same template.
    Restore(OwnedFd),
}
