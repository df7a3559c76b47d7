//! QEMU's command line for a machine. It names no file: everything is handed over open and called by its number.
//!
//! A saved state depends on the order and the kind of devices here, so [`REVISION`] goes up when they change.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::fs::MemfdFlags;

use super::disks::{DiskNodes, LayerFile, only_readable};
use crate::driver::LaunchError;
use crate::jail::Reopened;
use crate::spec::{
    Accelerator, Disk, DiskLayer, FailedWrite, GUEST_PORT_NAME, MachineSpec, Memory, NETWORK_MAC, Start,
};

/// Raised with every change of the devices below: templates of another revision are not restored.
pub(super) const REVISION: u32 = 2;

/// The machine without anything a guest of ours does not need: what is not there has no holes and costs no time.
pub(super) const MACHINE: &str =
    "q35,usb=off,vmport=off,smbus=off,sata=off,i8042=off,hpet=off,mem-merge=off,dump-guest-core=off,memory-backend=ram";

/// The kernel's parameters. `panic=-1` with `-no-reboot` makes a panic end the machine at once. The kernel's tests of its own
/// cryptography are half of what it does between its first line and the agent, and prove nothing about a guest.
pub(super) const KERNEL_PARAMETERS: &str = "console=ttyS0 panic=-1 reboot=t cryptomgr.notests";

/// Largest translated code of the emulator, and the limit it sets itself by default.
const TRANSLATION_BYTES_MAX: u64 = 1 << 30;

/// Memory of QEMU itself: its heap, and a stack for each of its up to 64 file workers.
const OWN_BYTES_MAX: u64 = 2 << 30;

/// More than the set-up sectors of any kernel: their count is one byte.
const KERNEL_HEAD_BYTES: usize = 258 * 512;

/// What a QEMU process is started with.
#[derive(Debug)]
pub(super) struct Command {
    /// Its arguments.
    pub(super) arguments: Vec<OsString>,
    /// The descriptors they speak of.
    pub(super) kept: Vec<OwnedFd>,
    /// Those that QEMU opens again by their number.
    pub(super) reopened: Vec<Reopened>,
    /// Private writable memory it may have.
    pub(super) data_bytes_max: u64,
    /// The number of the device state to go on from.
    pub(super) incoming: Option<RawFd>,
    /// Its disks.
    pub(super) disks: Vec<DiskNodes>,
}

/// pyro's ends of the streams to a QEMU.
#[derive(Debug)]
pub(super) struct Streams {
    pub(super) control: UnixStream,
    pub(super) agent: UnixStream,
    pub(super) console: UnixStream,
}

/// The CPU model for an accelerator.
pub(super) fn cpu_model(accelerator: Accelerator) -> &'static str {
    match accelerator {
        Accelerator::Kvm => "host",
        Accelerator::Tcg => "max",
    }
}

/// The command line of a machine. `stranger` says that QEMU will run as another user than pyro.
///
/// # Errors
/// A file cannot be opened, made reachable for QEMU, or described to it.
pub(super) fn build(spec: MachineSpec, stranger: bool) -> Result<(Command, Streams), LaunchError> {
    let data_bytes_max = (u64::from(spec.mem_mib) << 20) + TRANSLATION_BYTES_MAX + OWN_BYTES_MAX;
    let mut builder = Builder { stranger, arguments: Vec::new(), kept: Vec::new(), reopened: Vec::new() };
    builder.base(&spec);
    builder.memory(spec.memory, spec.mem_mib)?;
    builder.kernel(&spec.kernel, &spec.initramfs, matches!(spec.start, Start::Restore(_)))?;
    let streams = builder.streams()?;
    let failed = |source| LaunchError::Host { what: "hand a disk to the hypervisor", source };
    let disks = spec.disks.into_iter().enumerate().map(|(index, disk)| builder.disk(index, disk));
    let disks = disks.collect::<io::Result<Vec<_>>>().map_err(failed)?;
    builder.arg("-object", "rng-builtin,id=rng");
    builder.arg("-device", "virtio-rng-pci,rng=rng");
    if let Some(frames) = spec.network {
        builder.network(frames);
    }
    let incoming = match spec.start {
        Start::Boot => None,
        Start::Restore(state) => {
            builder.arg("-incoming", "defer");
            Some(builder.keep(state))
        }
    };
    let Builder { arguments, kept, reopened, .. } = builder;
    Ok((Command { arguments, kept, reopened, data_bytes_max, incoming, disks }, streams))
}

/// A file for QEMU to read.
enum Readable {
    /// The file itself.
    File(OwnedFd),
    /// A copy in memory.
    Copy(OwnedFd),
}

struct Builder {
    stranger: bool,
    arguments: Vec<OsString>,
    kept: Vec<OwnedFd>,
    reopened: Vec<Reopened>,
}

impl Builder {
    fn arg(&mut self, name: &str, value: impl Into<OsString>) {
        self.arguments.push(name.into());
        self.arguments.push(value.into());
    }

    fn keep(&mut self, file: OwnedFd) -> RawFd {
        let number = file.as_raw_fd();
        self.kept.push(file);
        number
    }

    /// Keeps a file that QEMU knows only how to open by a name: that of its own descriptor.
    fn keep_reopened(&mut self, file: OwnedFd, write: bool) -> String {
        let number = self.keep(file);
        self.reopened.push(Reopened { number, write });
        format!("/proc/self/fd/{number}")
    }

    /// As [`Self::keep_reopened`], for reading. A copy in memory lies in no directory and needs no permission.
    fn keep_readable(&mut self, file: Readable) -> String {
        match file {
            Readable::File(file) => self.keep_reopened(file, false),
            Readable::Copy(copy) => format!("/proc/self/fd/{}", self.keep(copy)),
        }
    }

    fn base(&mut self, spec: &MachineSpec) {
        for flag in ["-nodefaults", "-no-user-config", "-no-reboot"] {
            self.arguments.push(flag.into());
        }
        self.arg("-display", "none");
        self.arg("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
        self.arg("-machine", MACHINE);
        self.arg(
            "-accel",
            match spec.accelerator {
                Accelerator::Kvm => "kvm",
                Accelerator::Tcg => "tcg,thread=multi",
            },
        );
        self.arg("-cpu", cpu_model(spec.accelerator));
        self.arg("-smp", spec.vcpu_count.to_string());
        self.arg("-m", format!("{}M", spec.mem_mib));
    }

    fn memory(&mut self, memory: Memory, mem_mib: u32) -> Result<(), LaunchError> {
        let (file, share) = match memory {
            Memory::Anonymous => {
                self.arg("-object", format!("memory-backend-ram,id=ram,size={mem_mib}M"));
                return Ok(());
            }
            Memory::Shared(file) => (file, "on"),
            Memory::Private(file) => (file, "off"),
        };
        // QEMU before 8.2 opens the file for writing in both cases, and by name. Only those can reach it who were handed
        // it: the directories around it are closed to others.
        self.let_others(&file, 0o666)
            .map_err(|source| LaunchError::Host { what: "share the guest's memory file", source })?;
        let path = self.keep_reopened(file, true);
        self.arg("-object", format!("memory-backend-file,id=ram,size={mem_mib}M,mem-path={path},share={share}"));
        Ok(())
    }

    fn kernel(&mut self, kernel: &Path, initramfs: &Path, restored: bool) -> Result<(), LaunchError> {
        for (name, what, path) in
            [("-kernel", "open the guest kernel", kernel), ("-initrd", "open the initial RAM filesystem", initramfs)]
        {
            let open = || match File::open(path)? {
                file if restored && name == "-kernel" => self.head_of_kernel(file),
                file => self.readable(file),
            };
            let file = open().map_err(|source| LaunchError::Host { what, source })?;
            let path = self.keep_readable(file);
            self.arg(name, path);
        }
        self.arg("-append", KERNEL_PARAMETERS);
        Ok(())
    }

    /// What a restored machine gets for a kernel. The real one is in its memory already; QEMU only wants to see one of the
    /// same kind, to offer the same devices. Reading all of it would be a sixth of the work of a restore.
    fn head_of_kernel(&self, file: File) -> io::Result<Readable> {
        let mut head = vec![0; KERNEL_HEAD_BYTES];
        let count = file.read_at(&mut head, 0)?;
        head.truncate(count);
        let is_image = head.get(0x202..0x206) == Some(b"HdrS");
        // The set-up sectors, which QEMU looks for, are counted at 0x1f1; 4 when the count is 0.
        let sectors = head.get(0x1f1).map_or(0, |&count| if count == 0 { 4 } else { usize::from(count) });
        if !is_image || (sectors + 2) * 512 > count {
            return self.readable(file);
        }
        let mut copy = File::from(rustix::fs::memfd_create("kernel-head", MemfdFlags::CLOEXEC)?);
        copy.write_all(&head[..(sectors + 2) * 512])?;
        Ok(Readable::Copy(copy.into()))
    }

    /// A file that QEMU may open for reading: the file itself or, where its permissions keep another user out, a copy in
    /// memory. The permissions of a user's own kernel are not ours to change.
    fn readable(&self, mut file: File) -> io::Result<Readable> {
        if !self.stranger || file.metadata()?.mode() & 0o004 != 0 {
            return Ok(Readable::File(file.into()));
        }
        let mut copy = File::from(rustix::fs::memfd_create("guest", MemfdFlags::CLOEXEC)?);
        io::copy(&mut file, &mut copy)?;
        Ok(Readable::Copy(copy.into()))
    }

    fn let_others(&self, file: &OwnedFd, mode: u32) -> io::Result<()> {
        let file = File::from(file.try_clone()?);
        if self.stranger && file.metadata()?.mode() & mode != mode {
            file.set_permissions(std::fs::Permissions::from_mode(mode))?;
        }
        Ok(())
    }

    fn streams(&mut self) -> Result<Streams, LaunchError> {
        let control = self.stream("control")?;
        self.arg("-mon", "chardev=control,mode=control");
        let console = self.stream("console")?;
        self.arg("-device", "isa-serial,chardev=console");
        let agent = self.stream("agent")?;
        self.arg("-device", "virtio-serial-pci,max_ports=2");
        self.arg("-device", format!("virtserialport,chardev=agent,name={GUEST_PORT_NAME}"));
        Ok(Streams { control, agent, console })
    }

    /// The option ROM would only be for starting over the network; no frame needs more than one queue.
    fn network(&mut self, frames: OwnedFd) {
        let number = self.keep(frames);
        self.arg("-netdev", format!("stream,id=network,server=off,addr.type=fd,addr.str={number}"));
        let device = format!("virtio-net-pci,netdev=network,mac={NETWORK_MAC},romfile=,mq=off");
        self.arg("-device", device);
    }

    fn stream(&mut self, name: &str) -> Result<UnixStream, LaunchError> {
        let (ours, theirs) = stream_pair()?;
        let number = self.keep(theirs.into());
        self.arg("-chardev", format!("socket,id={name},fd={number}"));
        Ok(ours)
    }

    fn disk(&mut self, index: usize, disk: Disk) -> io::Result<DiskNodes> {
        let top = disk.layers.len().saturating_sub(1);
        let mut nodes = DiskNodes::new(index, &disk.serial);
        for (level, DiskLayer { file, format }) in disk.layers.into_iter().enumerate() {
            let read_only = disk.read_only || level < top;
            let file = if read_only { only_readable(&file)? } else { file };
            let described = LayerFile { set: file.as_raw_fd(), read_only, flush: disk.flush };
            let described = nodes.push(&file, described, format)?;
            let set = self.keep(file);
            self.arg("-add-fd", format!("fd={set},set={set}"));
            for node in described {
                self.arg("-blockdev", node.to_string());
            }
        }
        if let Some(node) = nodes.top() {
            // Left to itself, QEMU pauses a machine whose host's disk is full, and nobody would let it go on.
            let on_error = match disk.failed_write {
                FailedWrite::Told => "rerror=report,werror=report",
                FailedWrite::Waits => "rerror=report,werror=stop",
            };
            self.arg("-device", format!("virtio-blk-pci,drive={node},serial={},num-queues=1,{on_error}", disk.serial));
        }
        Ok(nodes)
    }
}

/// A connected pair of streams.
pub(super) fn stream_pair() -> Result<(UnixStream, UnixStream), LaunchError> {
    let make = || -> io::Result<_> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        Ok((ours, theirs))
    };
    make().map_err(|source| LaunchError::Host { what: "make a stream to the hypervisor", source })
}
