//! The first process of a machine, from the kernel's hand to the first look at the port.
//!
//! What a host must give it (the boot protocol):
//!
//! - An initramfs with this program as `/init`, and, one path a line, in the order in which they must be loaded, the kernel's
//!   modules in `/pyro/modules.list`; the file may be missing when all drivers are built in. Modules may be compressed if
//!   the kernel can unpack them. They must bring virtio-pci, virtio-console, virtio-blk, ext4 and overlay, with what
//!   those need. `/dev/console` comes with the kernel's own built-in initramfs.
//! - A virtio-serial port named [`pyro_wire::PORT_NAME`], disks with serials as `Prepare` and `SetUp` name them.
//! - A console on which it can complain: `console=ttyS0`. And `panic=-1` with `-no-reboot`, so that a dead agent ends the machine.
//!
//! The agent mounts `/proc`, `/sys`, `/dev` (with `pts` and `shm`), `/run` and cgroup2, loads the modules, brings the loopback
//! interface up, opens the port and waits there for `Hello`, having touched no disk. Whatever fails on the way is said in
//! one line, `pyro-guest: stage <stage>: <reason>`, on the console, and then the machine powers off.
//!
//! The kernel never kills its first process for lack of memory, so neither the agent nor its children need an `oom_score_adj`.

// UNSAFETY: adding entropy has no safe wrapper.
#![expect(unsafe_code, reason = "the random generator is given entropy by an ioctl")]

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountFlags;
use rustix::process::{Resource, Rlimit};
use rustix::system::RebootCommand;

use crate::agent::{Agent, Ending};
use crate::cgroup::Cgroups;
use crate::channel::{Channel, Kind};
use crate::console::say;
use crate::exec::Execs;
use crate::lifecycle::{Ground, Lifecycle};
use crate::mount::mount_virtual;
use crate::spawn::{FILES_MAX, Spawner, take_over_signals};
use crate::{devices, modules, network};

const MODULES_LIST: &str = "/pyro/modules.list";

/// What failed, and where.
#[derive(Debug, thiserror::Error)]
#[error("stage {stage}: {reason}")]
struct InitError {
    stage: &'static str,
    reason: String,
}

/// Serves the host as the first process of its machine, then powers the machine off.
pub(crate) fn run() -> ! {
    match serve() {
        Ok(Ending::ShutDown) => {}
        Ok(Ending::StreamEnded) => say("stage serve: the port went away"),
        Err(error) => say(&error.to_string()),
    }
    rustix::fs::sync();
    let _ = rustix::system::reboot(RebootCommand::PowerOff);
    // A kernel that cannot power off can at least stop; its first process must not end before.
    loop {
        let _ = rustix::system::reboot(RebootCommand::Halt);
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
}

fn serve() -> Result<Ending, InitError> {
    let at = |stage: &'static str| move |error: Errno| InitError { stage, reason: error.to_string() };
    rustix::process::umask(Mode::from_raw_mode(0o022));
    rustix::thread::set_name(c"pyro-guest").map_err(at("name"))?;
    mount_all()?;
    open_console();
    let children = take_over_signals().map_err(at("signals"))?;
    let limit = Rlimit { current: Some(FILES_MAX), maximum: Some(FILES_MAX) };
    rustix::process::setrlimit(Resource::Nofile, limit).map_err(at("limits"))?;
    load_modules();
    network::loopback_up().map_err(at("loopback"))?;
    let cgroups = Cgroups::of_machine().map_err(at("cgroups"))?;
    let port = open_port()?;
    let execs = Spawner::new(true).and_then(|spawner| Execs::new(cgroups, spawner)).map_err(at("commands"))?;
    let channel = Channel::new(port, Kind::Port);
    let mut agent = Agent::new(channel, children, execs, Lifecycle::new(Ground::Machine)).map_err(at("events"))?;
    agent.run().map_err(at("serve"))
}

fn mount_all() -> Result<(), InitError> {
    let (nosuid, nodev, noexec) = (MountFlags::NOSUID, MountFlags::NODEV, MountFlags::NOEXEC);
    for (kind, target, flags, options) in [
        ("proc", "/proc", nosuid | nodev | noexec, c""),
        ("sysfs", "/sys", nosuid | nodev | noexec, c""),
        ("devtmpfs", "/dev", nosuid, c"mode=755"),
        ("devpts", "/dev/pts", nosuid | noexec, c"gid=5,mode=620,ptmxmode=666"),
        ("tmpfs", "/dev/shm", nosuid | nodev, c"mode=1777"),
        ("tmpfs", "/run", nosuid | nodev, c"mode=755"),
        ("cgroup2", "/sys/fs/cgroup", nosuid | nodev | noexec, c"nsdelegate"),
    ] {
        match mount_virtual(kind, target, flags, options) {
            // Some kernels mount their device file system themselves.
            Ok(()) | Err(Errno::BUSY) => {}
            Err(error) => return Err(InitError { stage: "mount", reason: format!("{kind} at {target}: {error}") }),
        }
    }
    // Debian's `/var/lock` is a link to it.
    let _ = rustix::fs::mkdir("/run/lock", Mode::empty());
    let _ = rustix::fs::chmod("/run/lock", Mode::from_raw_mode(0o1777));
    for (link, target) in [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
    ] {
        // A kernel that has them already is right.
        let _ = rustix::fs::symlink(target, link);
    }
    Ok(())
}

/// Puts the console, or nothing, on the agent's standard streams, so that no other file ever gets their numbers.
fn open_console() {
    let open = |path: &str| rustix::fs::open(path, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty());
    if let Ok(console) = open("/dev/console").or_else(|_| open("/dev/null")) {
        let _ = rustix::stdio::dup2_stdin(&console);
        let _ = rustix::stdio::dup2_stdout(&console);
        let _ = rustix::stdio::dup2_stderr(&console);
    }
}

/// Loads the listed modules. One that fails is named and passed over: whether it was needed shows when its device is.
fn load_modules() {
    let Ok(list) = std::fs::read_to_string(MODULES_LIST) else { return };
    for path in list.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match modules::load_file(path) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => say(&format!("stage modules: {path}: {error}")),
        }
        // It lies in the kernel's own memory now; its file would only take up the machine's.
        let _ = rustix::fs::unlink(path);
    }
}

fn open_port() -> Result<OwnedFd, InitError> {
    let error = |reason: String| InitError { stage: "port", reason };
    let path = devices::port().ok_or_else(|| {
        let (name, seconds) = (pyro_wire::PORT_NAME, devices::appearance_limit_seconds());
        error(format!("no virtio-serial port named {name} appeared within {seconds} s"))
    })?;
    rustix::fs::open(&path, OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
        .map_err(|cause| error(format!("cannot open {}: {cause}", path.display())))
}

/// Credits `bytes` to the kernel's random generator and makes it start anew from them.
pub(crate) fn add_entropy(bytes: &[u8]) -> Result<(), Errno> {
    /// `struct rand_pool_info` of `linux/random.h`, with room for the most a `SetUp` carries.
    #[repr(C)]
    struct Pool {
        entropy_bits: i32,
        length_bytes: i32,
        bytes: [u8; 512],
    }
    let mut pool = Pool { entropy_bits: 0, length_bytes: 0, bytes: [0; 512] };
    pool.bytes.get_mut(..bytes.len()).ok_or(Errno::INVAL)?.copy_from_slice(bytes);
    pool.length_bytes = i32::try_from(bytes.len()).map_err(|_| Errno::INVAL)?;
    pool.entropy_bits = pool.length_bytes * 8;
    let random = rustix::fs::open("/dev/random", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    // The header's own two integers are the whole of the size in the request's number.
    let add = libc::c_ulong::from(rustix::ioctl::opcode::write::<[i32; 2]>(b'R', 0x03));
    let reseed = libc::c_ulong::from(rustix::ioctl::opcode::none(b'R', 0x07));
    // SAFETY: RNDADDENTROPY reads one `rand_pool_info` of `length_bytes`, which `pool` is; RNDRESEEDCRNG takes no argument.
    let results =
        unsafe { [libc::ioctl(random.as_raw_fd(), add, &raw const pool), libc::ioctl(random.as_raw_fd(), reseed)] };
    if results == [0, 0] { Ok(()) } else { Err(last_error()) }
}

fn last_error() -> Errno {
    // SAFETY: reads this thread's error number.
    Errno::from_raw_os_error(unsafe { *libc::__errno_location() })
}
