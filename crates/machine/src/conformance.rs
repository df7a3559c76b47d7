//! What every driver must do, tried on real hypervisors: the same list for each.
//!
//! The guests are a few bytes of real-mode code that pass for a Linux kernel, so that nothing needs to be installed but the
//! hypervisor. What a Linux guest can do is proven by the tests that drive the program.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::driver::{Driver, ExitCause, LaunchError, LayerError, Machine};
use super::drivers::DriverKind;
use super::identity::Identity;
use super::spec::{Accelerator, Disk, DiskFormat, DiskLayer, FailedWrite, Flush, MachineSpec, Memory, Start};

const MEM_MIB: u32 = 64;

/// Firmware and a few instructions take under a second on a quiet machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Writes one of 32 characters to the console at each tick of the timer, and counts them in memory.
const TICKER: &[u8] = &[
    0xba, 0xf8, 0x03, // mov dx, serial port
    0x2e, 0xa0, 0x80, 0x00, // next: mov al, [counter]
    0x24, 0x1f, 0x0c, 0x40, // and al, 31; or al, '@'
    0xee, // out dx, al
    0x2e, 0xfe, 0x06, 0x80, 0x00, // inc byte [counter]
    0xfb, 0xf4, // sti; hlt
    0xeb, 0xee, // jmp next
];

/// Asks the power management for the off state.
const POWER_OFF: &[u8] = &[0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef, 0xf4];

/// Asks the chipset for a reset.
const RESET: &[u8] = &[0xba, 0xf9, 0x0c, 0xb0, 0x06, 0xee, 0xf4];

/// Writes a kernel's last words to the console, up to the NUL, and asks for a reset.
const PANIC: &[u8] = &[
    0xba, 0xf8, 0x03, // mov dx, serial port
    0xbe, 0x7f, 0x00, // mov si, text
    0x2e, 0xac, // next: lods al, cs:[si]
    0x84, 0xc0, // test al, al
    0x74, 0x03, // jz reset
    0xee, // out dx, al
    0xeb, 0xf7, // jmp next
    0xba, 0xf9, 0x0c, 0xb0, 0x06, 0xee, 0xf4, 0x90, // reset: as above; text:
    b'[', b'1', b']', b' ', b'K', b'e', b'r', b'n', b'e', b'l', b' ', b'p', b'a', b'n', b'i', b'c', b' ', b'-', b' ',
    b'n', b'o', b't', b' ', b's', b'y', b'n', b'c', b'i', b'n', b'g', b':', b' ', b'x', b'\n', 0,
];

/// A boot sector, one set-up sector with `code`, and an empty kernel, as the Linux boot protocol has them.
fn kernel_of(code: &[u8]) -> Vec<u8> {
    let mut image = vec![0; 2048];
    image[0x1f1] = 1;
    image[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    image[0x200..0x202].copy_from_slice(&[0xeb, 0x66]);
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x206..0x208].copy_from_slice(&[0x02, 0x02]);
    image[0x211] = 1;
    image[0x268..0x268 + code.len()].copy_from_slice(code);
    image
}

struct Bench {
    dir: tempfile::TempDir,
    driver: Box<dyn Driver>,
}

impl Bench {
    fn all() -> Vec<Self> {
        let path_dirs = ["/usr/local/bin", "/usr/bin", "/bin"].map(PathBuf::from);
        [(DriverKind::Qemu, "qemu-system-x86_64")]
            .into_iter()
            .map(|(kind, program)| Self {
                dir: tempfile::tempdir().unwrap(),
                driver: kind.driver(Path::new(program), &path_dirs),
            })
            .collect()
    }

    fn spec(&self, code: &[u8]) -> MachineSpec {
        let (kernel, initramfs) = (self.dir.path().join("kernel"), self.dir.path().join("initramfs"));
        std::fs::write(&kernel, kernel_of(code)).unwrap();
        std::fs::write(&initramfs, b"nothing").unwrap();
        MachineSpec {
            vcpu_count: 1,
            mem_mib: MEM_MIB,
            accelerator: Accelerator::Tcg,
            kernel,
            initramfs,
            disks: vec![self.disk("environment", true), self.disk("workspace", false)],
            network: None,
            memory: Memory::Anonymous,
            start: Start::Boot,
        }
    }

    fn disk(&self, name: &str, read_only: bool) -> Disk {
        let file = self.file(name);
        File::from(file.try_clone().unwrap()).set_len(1 << 20).unwrap();
        let layers = vec![DiskLayer { file, format: DiskFormat::Raw }];
        Disk { serial: name.to_owned(), layers, read_only, flush: Flush::Ignored, failed_write: FailedWrite::Told }
    }

    fn file(&self, name: &str) -> OwnedFd {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).open(self.dir.path().join(name)).unwrap().into()
    }

    async fn launch(&self, code: &[u8]) -> Box<dyn Machine> {
        self.driver.launch(self.spec(code)).await.unwrap()
    }

    async fn refusal(&self, spec: MachineSpec) -> LaunchError {
        match self.driver.launch(spec).await {
            Ok(_) => panic!("launched"),
            Err(error) => error,
        }
    }
}

/// Waits until the console's last line is more than this.
async fn ticks(machine: &dyn Machine, beyond: &str) -> String {
    let began = Instant::now();
    loop {
        let seen = machine.console_tail(1);
        if seen.len() > beyond.len() && seen.ends_with(|letter| ('@'..='_').contains(&letter)) {
            return seen;
        }
        assert!(began.elapsed() < LIMIT, "the guest does not tick: {:?}", machine.console_tail(10));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until a process is gone, its zombie too.
fn is_gone(process_id: u32) -> bool {
    let began = Instant::now();
    while Path::new(&format!("/proc/{process_id}")).exists() {
        if began.elapsed() > Duration::from_secs(10) {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

#[tokio::test]
async fn a_guest_that_powers_off_restarts_or_panics_ends_its_machine() {
    for bench in Bench::all() {
        let panicked = ExitCause::Panicked { line: "Kernel panic - not syncing: x".to_owned() };
        for (code, cause) in [(POWER_OFF, ExitCause::PoweredOff), (RESET, ExitCause::Reset), (PANIC, panicked)] {
            let mut machine = bench.launch(code).await;
            let exit = tokio::time::timeout(LIMIT, machine.wait()).await.unwrap();
            assert_eq!((exit.status, &exit.cause), (0, &cause), "{exit:?}");
            assert_eq!(machine.wait().await, exit);
            assert_eq!(machine.stop(Duration::from_secs(1)).await, exit);
        }
    }
}

#[tokio::test]
async fn a_machine_that_does_not_stop_is_killed_and_leaves_nothing() {
    for bench in Bench::all() {
        let machine = bench.launch(TICKER).await;
        let process_id = machine.process_id();
        let exit = machine.stop(Duration::from_millis(50)).await;
        assert_eq!((exit.status, exit.cause), (-9, ExitCause::Ended));
        assert!(is_gone(process_id));

        let machine = bench.launch(TICKER).await;
        let process_id = machine.process_id();
        drop(machine);
        assert!(is_gone(process_id));
    }
}

/// The writable descriptors of a file that a process has.
fn writable(process_id: u32, path: &Path) -> usize {
    let flags = |number: &std::ffi::OsStr| {
        let info = std::fs::read_to_string(format!("/proc/{process_id}/fdinfo/{}", number.display())).ok()?;
        let octal = info.lines().find_map(|line| line.strip_prefix("flags:"))?.trim().to_owned();
        u32::from_str_radix(&octal, 8).ok()
    };
    let files = std::fs::read_dir(format!("/proc/{process_id}/fd")).unwrap().flatten();
    let of_path = files.filter(|file| std::fs::read_link(file.path()).is_ok_and(|target| target == path));
    of_path.filter(|file| flags(&file.file_name()).is_some_and(|flags| flags & 3 != 0)).count()
}

#[tokio::test]
async fn a_layer_comes_on_top_while_the_guest_runs_and_the_one_below_is_sealed() {
    for bench in Bench::all() {
        let layer = |name: &str| {
            let file = File::from(bench.file(name));
            super::qcow2::write_empty_layer(&file, 1 << 20).unwrap();
            DiskLayer { file: file.into(), format: DiskFormat::Qcow2 }
        };
        let mut spec = bench.spec(TICKER);
        spec.disks[1].layers.push(layer("first"));
        let mut machine = bench.driver.launch(spec).await.unwrap();
        let path = |name: &str| bench.dir.path().join(name);
        assert_eq!(machine.stalled(), None);
        for (below, name) in [("first", "second"), ("second", "third")] {
            machine.add_layer("workspace", layer(name)).await.unwrap();
            assert_eq!(writable(machine.process_id(), &path(below)), 0, "{below} can be written to");
            assert!(writable(machine.process_id(), &path(name)) > 0, "{name} cannot be written to");
        }
        // What is refused changes nothing, and does not stand in the way of what comes next.
        let garbage = DiskLayer { file: bench.file("garbage"), format: DiskFormat::Qcow2 };
        let raw = DiskLayer { file: bench.file("raw"), format: DiskFormat::Raw };
        for (disk, bad) in [("workspace", garbage), ("workspace", raw), ("environment", layer("e")), ("no", layer("n"))]
        {
            let error = machine.add_layer(disk, bad).await.unwrap_err();
            assert!(matches!(error, LayerError::Refused { .. }), "{disk}: {error}");
        }
        machine.add_layer("workspace", layer("fourth")).await.unwrap();
        ticks(&*machine, "").await;

        let pid = rustix::process::Pid::from_raw(machine.process_id().cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        machine.wait().await;
        let error = machine.add_layer("workspace", layer("late")).await.unwrap_err();
        assert!(matches!(error, LayerError::Unknown { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_hypervisor_that_dies_is_told_from_one_that_ends() {
    for bench in Bench::all() {
        let mut machine = bench.launch(TICKER).await;
        let pid = rustix::process::Pid::from_raw(machine.process_id().cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        let exit = tokio::time::timeout(LIMIT, machine.wait()).await.unwrap();
        assert_eq!((exit.status, exit.cause), (-9, ExitCause::HypervisorFailed));
    }
}

#[tokio::test]
async fn what_cannot_be_launched_is_named() {
    for bench in Bench::all() {
        let mut spec = bench.spec(TICKER);
        spec.kernel = bench.dir.path().join("missing");
        let error = bench.refusal(spec).await;
        assert!(matches!(error, LaunchError::Host { what: "open the guest kernel", .. }), "{error:?}");

        let spec = bench.spec(TICKER);
        std::fs::write(&spec.kernel, b"no kernel").unwrap();
        let error = bench.refusal(spec).await;
        assert!(matches!(&error, LaunchError::Refused { reason } if reason.contains("kernel")), "{error:?}");

        let mut spec = bench.spec(TICKER);
        spec.disks[0].layers[0].format = DiskFormat::Qcow2;
        let error = bench.refusal(spec).await;
        assert!(matches!(&error, LaunchError::Refused { reason } if reason.contains("qcow2")), "{error:?}");
    }
    let nowhere = DriverKind::Qemu.driver(Path::new("no-such-hypervisor"), &[PathBuf::from("/usr/bin")]);
    assert!(matches!(nowhere.fingerprint(Accelerator::Tcg), Err(LaunchError::ProgramNotFound { .. })));
    let spec = Bench::all()[0].spec(TICKER);
    assert!(matches!(nowhere.launch(spec).await, Err(LaunchError::ProgramNotFound { .. })));
}

#[tokio::test]
async fn a_saved_machine_goes_on_where_it_was_and_its_template_stays_as_it_is() {
    for bench in Bench::all() {
        let memory = || {
            let file = bench.file("memory");
            File::from(file.try_clone().unwrap()).set_len(u64::from(MEM_MIB) << 20).unwrap();
            file
        };
        let spec = MachineSpec { memory: Memory::Shared(memory()), ..bench.spec(TICKER) };
        let machine = bench.driver.launch(spec).await.unwrap();
        let process_id = machine.process_id();
        let before = ticks(&*machine, "@ABC").await;
        machine.save(bench.file("state")).await.unwrap();
        assert!(is_gone(process_id));
        let saved = std::fs::read(bench.dir.path().join("memory")).unwrap();

        let mut firsts = Vec::new();
        for _ in 0..2 {
            let state = File::open(bench.dir.path().join("state")).unwrap().into();
            let (memory, start) = (Memory::Private(memory()), Start::Restore(state));
            let machine = bench.driver.launch(MachineSpec { memory, start, ..bench.spec(TICKER) }).await.unwrap();
            let after = ticks(&*machine, "").await;
            machine.stop(Duration::ZERO).await;
            firsts.push(after.chars().next().unwrap());
        }
        // No firmware has run again, and the counter in memory went on; both machines from the same point.
        assert_ne!(firsts[0], '@', "after {before:?}");
        assert_eq!(firsts[0], firsts[1]);
        assert!(saved == std::fs::read(bench.dir.path().join("memory")).unwrap(), "the template changed");
    }
}

#[tokio::test]
async fn a_restore_from_rubbish_is_refused() {
    for bench in Bench::all() {
        std::fs::write(bench.dir.path().join("state"), b"rubbish").unwrap();
        let memory = bench.file("memory");
        File::from(memory.try_clone().unwrap()).set_len(u64::from(MEM_MIB) << 20).unwrap();
        let start = Start::Restore(bench.file("state"));
        let spec = MachineSpec { memory: Memory::Private(memory), start, ..bench.spec(TICKER) };
        let error = bench.refusal(spec).await;
        assert!(matches!(error, LaunchError::Refused { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_hypervisor_is_locked_down() {
    for bench in Bench::all() {
        // A descriptor that whoever started pyro forgot to close.
        let stray = bench.file("stray");
        rustix::io::fcntl_setfd(&stray, rustix::io::FdFlags::empty()).unwrap();
        let machine = bench.launch(TICKER).await;
        let proc = PathBuf::from(format!("/proc/{}", machine.process_id()));
        let status = std::fs::read_to_string(proc.join("status")).unwrap();
        let field = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
            value.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!((field("NoNewPrivs"), field("Seccomp")), (vec!["1".to_owned()], vec!["2".to_owned()]));
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(u64::from_str_radix(&field(set)[0], 16), Ok(0), "{set}");
        }
        if Identity::choose(false).is_stranger() {
            assert!(field("Uid").iter().chain(&field("Gid")).all(|id| id != "0"), "{status}");
            assert_eq!((field("Groups"), field("CapBnd")), (vec![], vec!["0000000000000000".to_owned()]));
        }
        let limits = std::fs::read_to_string(proc.join("limits")).unwrap();
        let words = limits.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains("Max core file size 0 0 bytes"), "{limits}");
        assert_eq!(std::fs::read(proc.join("environ")).unwrap_or_default(), b"");
        let session = rustix::process::getsid(rustix::process::Pid::from_raw(machine.process_id().cast_signed()));
        assert_eq!(session.unwrap().as_raw_nonzero().get().cast_unsigned(), machine.process_id());
        for entry in std::fs::read_dir(proc.join("fd")).unwrap() {
            let target = std::fs::read_link(entry.unwrap().path()).unwrap_or_default();
            assert!(!target.ends_with("stray"), "a stray descriptor reached the hypervisor");
        }
        machine.stop(Duration::ZERO).await;
        drop(stray);
    }
}

#[tokio::test]
async fn nothing_stays_open_in_pyro() {
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    for bench in Bench::all() {
        // The first launch makes what stays: the thread that starts machines.
        bench.launch(TICKER).await.stop(Duration::ZERO).await;
        let began = Instant::now();
        let before = open();
        bench.launch(TICKER).await.stop(Duration::ZERO).await;
        // Other tests of this process may open files meanwhile: it must come true once.
        while open() > before {
            assert!(began.elapsed() < LIMIT, "descriptors stay open");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// What this test program is called when it is to hold a machine until it is killed.
const HOLDER: &str = "pyro-machine-holder";

/// Does nothing in a test run. [`a_hypervisor_dies_with_pyro`] starts it as a process of its own, under [`HOLDER`]'s name.
#[tokio::test]
async fn hold_a_machine() {
    if std::env::args().next().as_deref() != Some(HOLDER) {
        return;
    }
    let bench = Bench::all().remove(0);
    let machine = bench.launch(TICKER).await;
    ticks(&*machine, "").await;
    println!("holding {}", machine.process_id());
    std::future::pending::<()>().await;
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a second pyro is needed, to be killed")]
fn a_hypervisor_dies_with_pyro() {
    let mut holder = std::process::Command::new(std::env::current_exe().unwrap())
        .arg0(HOLDER)
        .args(["--exact", "conformance::hold_a_machine", "--nocapture"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(holder.stdout.take().unwrap());
    let held = stdout.lines().map_while(Result::ok).find_map(|line| line.split_once("holding ")?.1.trim().parse().ok());
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert!(is_gone(held.unwrap()));
}

#[tokio::test]
async fn the_agents_stream_is_given_out_once() {
    for bench in Bench::all() {
        let mut machine = bench.launch(TICKER).await;
        let stream = machine.take_guest_channel().unwrap();
        assert!(machine.take_guest_channel().is_none());
        machine.stop(Duration::ZERO).await;
        let mut byte = [0];
        stream.readable().await.unwrap();
        // Whatever the way, the stream is over.
        assert!(matches!(rustix::io::read(stream.as_fd(), &mut byte), Ok(0) | Err(_)));
    }
}
