//! QEMU as a hypervisor: one process a machine, locked down, with every file and stream handed over open.
//!
//! [`command`] writes its command line, [`disks`] names its disks' layers, [`qmp`] speaks its control protocol, [`stall`]
//! lets it go on after the host's disk was full. A machine has no path, no socket file and no
//! temporary file on the host, so a pyro that is killed at any point leaves nothing but its QEMU, which dies with it.

mod command;
mod disks;
mod qmp;
mod stall;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use self::command::{Command, Streams};
use self::disks::DiskNodes;
use self::qmp::{Qmp, QmpError};
use crate::console::{Transcript, clean};
use crate::driver::{Driver, ExitCause, Later, LaunchError, LayerError, Machine, MachineExit, SaveError};
use crate::identity::Identity;
use crate::jail::{Jail, JailRequest, step_of};
use crate::kvm::KvmDevice;
use crate::process::{Launch, VmmProcess};
use crate::spec::{Accelerator, DiskLayer, FailedWrite, MachineSpec};

/// A QEMU that says nothing for so long says nothing any more.
const UP_LIMIT: Duration = Duration::from_secs(30);

/// Writing the device state takes a few milliseconds; a slow disk gets this long.
const SAVE_LIMIT: Duration = Duration::from_secs(60);

/// What a dead QEMU wrote is there to be read; this is for the tasks that read it to be scheduled.
const LAST_WORDS_LIMIT: Duration = Duration::from_millis(500);

/// How Linux begins its last words. `panic=-1` then has it restart at once.
const PANIC_WORDS: &str = "Kernel panic - not syncing";

/// Lines of QEMU's own words that are kept in an error.
const OUTPUT_LINES: usize = 8;

/// Starts QEMU.
#[derive(Debug, Clone)]
pub struct QemuDriver {
    program: PathBuf,
    path_dirs: Vec<PathBuf>,
}

impl QemuDriver {
    /// A driver for this program: a name to look up in `path_dirs`, or a path.
    #[must_use]
    pub fn new(program: &Path, path_dirs: &[PathBuf]) -> Self {
        Self { program: program.to_owned(), path_dirs: path_dirs.to_owned() }
    }

    fn locate(&self) -> Result<PathBuf, LaunchError> {
        crate::host::locate(&self.program, &self.path_dirs)
            .ok_or_else(|| LaunchError::ProgramNotFound { program: self.program.display().to_string() })
    }

    async fn start(&self, spec: MachineSpec) -> Result<QemuMachine, LaunchError> {
        let program = self.locate()?;
        let accelerator = spec.accelerator;
        let kvm = accelerator == Accelerator::Kvm;
        let identity = Identity::choose(kvm);
        if kvm {
            KvmDevice::examine().require()?;
        }
        let waits = spec.disks.iter().position(|disk| disk.failed_write == FailedWrite::Waits);
        let (mut command, streams) = command::build(spec, identity.is_stranger())?;
        let (output, output_end) = command::stream_pair()?;
        let incoming = command.incoming;
        let disks = std::mem::take(&mut command.disks);
        let process = spawn(program, command, identity, kvm, output_end.into()).await?;
        let mut machine = QemuMachine::new(process, streams, output, disks)?;
        machine.go_on_when_there_is_room(waits)?;
        match tokio::time::timeout(UP_LIMIT, machine.come_up(incoming)).await {
            Ok(Ok(())) => Ok(machine),
            Ok(Err(error)) => Err(machine.explain(accelerator, error).await),
            Err(_) => {
                machine.end_now().await;
                let reason = format!("it did not answer within {} s", UP_LIMIT.as_secs());
                Err(LaunchError::Refused { reason })
            }
        }
    }
}

impl Driver for QemuDriver {
    fn launch(&self, spec: MachineSpec) -> Later<'_, Result<Box<dyn Machine>, LaunchError>> {
        Box::pin(async move { Ok(Box::new(self.start(spec).await?) as Box<dyn Machine>) })
    }

    fn fingerprint(&self, accelerator: Accelerator) -> Result<String, LaunchError> {
        let program = self.locate()?;
        let describe = || -> io::Result<String> {
            let metadata = std::fs::metadata(&program)?;
            let host = if accelerator == Accelerator::Kvm { host_facts()? } else { String::new() };
            Ok(format!(
                "qemu {} {} {}.{:09} {}; {}; {}; {}; {host}",
                program.display(),
                metadata.size(),
                metadata.mtime(),
                metadata.mtime_nsec(),
                command::REVISION,
                command::MACHINE,
                command::cpu_model(accelerator),
                command::KERNEL_PARAMETERS,
            ))
        };
        describe().map_err(|source| LaunchError::Host { what: "examine the hypervisor's program", source })
    }
}

/// What a guest of KVM sees of the host: its processor and its kernel.
fn host_facts() -> io::Result<String> {
    let cpuinfo = crate::host::first_cpu()?;
    let kept = ["vendor_id", "cpu family", "model", "stepping", "microcode", "flags"];
    let mut facts: Vec<&str> = cpuinfo
        .lines()
        .filter(|line| line.split_once(':').is_some_and(|(name, _)| kept.contains(&name.trim())))
        .collect();
    let system = rustix::system::uname();
    let release = system.release().to_string_lossy();
    facts.push(&release);
    Ok(facts.join("; "))
}

async fn spawn(
    program: PathBuf,
    command: Command,
    identity: Identity,
    kvm: bool,
    output: OwnedFd,
) -> Result<VmmProcess, LaunchError> {
    let jail = Jail::build(&JailRequest {
        program: &program,
        identity,
        kvm,
        kept: &command.kept,
        reopened: &command.reopened,
        data_bytes_max: command.data_bytes_max,
    })
    .map_err(|source| LaunchError::Host { what: "prepare the hypervisor's confinement", source })?;
    let launch = Launch { program, arguments: command.arguments, kept: command.kept, output, jail };
    VmmProcess::spawn(launch).await.map_err(|error| match step_of(&error) {
        Some((what, source)) => LaunchError::Host { what, source },
        None => LaunchError::Host { what: "execute the hypervisor", source: error },
    })
}

struct QemuMachine {
    process: VmmProcess,
    qmp: Arc<Qmp>,
    disks: Vec<DiskNodes>,
    agent: Option<UnixStream>,
    console: Transcript,
    output: Transcript,
    readers: Vec<JoinHandle<()>>,
    killed: bool,
    exit: Option<MachineExit>,
}

impl QemuMachine {
    fn new(
        process: VmmProcess,
        streams: Streams,
        output: std::os::unix::net::UnixStream,
        disks: Vec<DiskNodes>,
    ) -> Result<Self, LaunchError> {
        let adopt = |stream| {
            UnixStream::from_std(stream)
                .map_err(|source| LaunchError::Host { what: "listen to the hypervisor", source })
        };
        let (console, console_reader) = Transcript::collect(adopt(streams.console)?);
        let (output, output_reader) = Transcript::collect(adopt(output)?);
        Ok(Self {
            process,
            qmp: Arc::new(Qmp::new(adopt(streams.control)?)),
            disks,
            agent: Some(adopt(streams.agent)?),
            console,
            output,
            readers: vec![console_reader, output_reader],
            killed: false,
            exit: None,
        })
    }

    /// Sees to it that a guest whose writes wait for the disk of this number goes on again.
    fn go_on_when_there_is_room(&self, waits: Option<usize>) -> Result<(), LaunchError> {
        let Some(file) = waits.and_then(|index| self.disks.get(index)?.top_file()) else { return Ok(()) };
        let keep = |source| LaunchError::Host { what: "keep a disk in sight", source };
        // It ends with the connection, and that with QEMU.
        drop(tokio::spawn(stall::watch(Arc::clone(&self.qmp), file.try_clone().map_err(keep)?)));
        Ok(())
    }

    async fn put_layer(&mut self, serial: &str, layer: DiskLayer) -> Result<(), LayerError> {
        match self.disks.iter_mut().find(|disk| disk.serial == serial) {
            Some(disk) => disk.add(&self.qmp, layer).await,
            None => Err(LayerError::Refused { reason: "there is no such disk".to_owned() }),
        }
    }

    /// Waits until QEMU is up and, for a restore, the guest goes on. All commands are sent at once: QEMU finds them when
    /// it gets to read, and nobody waits for anybody in between.
    async fn come_up(&self, incoming: Option<i32>) -> Result<(), QmpError> {
        let Some(state) = incoming else {
            return self.qmp.execute("qmp_capabilities", json!({})).await.map(drop);
        };
        let capabilities = json!({ "capabilities": [{ "capability": "x-ignore-shared", "state": true }] });
        let (greeted, prepared, going_on) = tokio::join!(
            self.qmp.execute("qmp_capabilities", json!({})),
            self.qmp.execute("migrate-set-capabilities", capabilities),
            self.qmp.execute("migrate-incoming", json!({ "uri": format!("fd:{state}") })),
        );
        greeted.and(prepared).and(going_on)?;
        self.qmp.until(|happened| happened.resumed).await.map(drop)
    }

    /// Why the machine did not come up. It is gone afterwards.
    async fn explain(mut self, accelerator: Accelerator, error: QmpError) -> LaunchError {
        let exit = match error {
            // It is about to end by itself, and its status is worth more than ours.
            QmpError::Ended => tokio::time::timeout(LAST_WORDS_LIMIT, self.exit()).await.ok(),
            QmpError::Refused { .. } => None,
        };
        let exit = match exit {
            Some(exit) => exit,
            None => self.end_now().await,
        };
        let reason = match (exit.stderr_tail.as_str(), error) {
            (_, QmpError::Refused { description }) => clean(description.as_bytes()),
            ("", QmpError::Ended) => format!("it ended with status {} and without a word", exit.status),
            (words, QmpError::Ended) => words.to_owned(),
        };
        if accelerator == Accelerator::Kvm && speaks_of_kvm(&reason) {
            return LaunchError::AcceleratorUnusable { accelerator: accelerator.name(), reason };
        }
        LaunchError::Refused { reason }
    }

    async fn exit(&mut self) -> MachineExit {
        let status = self.process.wait().await;
        if let Some(exit) = &self.exit {
            return exit.clone();
        }
        let last_words = async {
            while let Some(reader) = self.readers.last_mut() {
                // A reader cannot fail but by a panic, which has been reported already.
                drop(reader.await);
                self.readers.pop();
            }
            drop(self.qmp.until(|happened| happened.ended).await);
        };
        drop(tokio::time::timeout(LAST_WORDS_LIMIT, last_words).await);
        let exit = MachineExit { status, stderr_tail: self.output.tail(OUTPUT_LINES), cause: self.cause(status) };
        self.exit.insert(exit).clone()
    }

    fn cause(&self, status: i32) -> ExitCause {
        match self.qmp.happened().shutdown.as_deref() {
            Some("guest-shutdown") => ExitCause::PoweredOff,
            Some("guest-reset" | "guest-panic") => match self.console.last_line_with(PANIC_WORDS) {
                Some(line) => ExitCause::Panicked { line },
                None => ExitCause::Reset,
            },
            _ if self.killed || status == 0 => ExitCause::Ended,
            _ => ExitCause::HypervisorFailed,
        }
    }

    async fn end_now(&mut self) -> MachineExit {
        self.killed = true;
        self.process.kill();
        self.exit().await
    }

    /// The guest is not paused first: a migration stops it at its end, and notes that it ran, so that a restored machine
    /// goes on by itself. The state of a paused one would have to be continued by one command more.
    async fn write_state(&self, device_state: OwnedFd) -> Result<(), QmpError> {
        let capabilities = ["x-ignore-shared", "events"].map(|name| json!({ "capability": name, "state": true }));
        self.qmp.execute("migrate-set-capabilities", json!({ "capabilities": capabilities })).await?;
        self.qmp.hand_over("state", device_state.as_fd()).await?;
        self.qmp.execute("migrate", json!({ "uri": "fd:state" })).await?;
        let is_over = |state: Option<&str>| matches!(state, Some("completed" | "failed" | "cancelled"));
        let happened = self.qmp.until(|happened| is_over(happened.migration.as_deref())).await?;
        if happened.migration.as_deref() == Some("completed") {
            return Ok(());
        }
        let answer = self.qmp.execute("query-migrate", json!({})).await?;
        let description = answer["error-desc"].as_str().unwrap_or("the state was not written").to_owned();
        Err(QmpError::Refused { description })
    }

    async fn save_and_end(mut self, device_state: OwnedFd) -> Result<(), SaveError> {
        let written = tokio::time::timeout(SAVE_LIMIT, self.write_state(device_state)).await;
        let reason = match written {
            Ok(Ok(())) => match self.quit().await {
                MachineExit { status: 0, .. } => return Ok(()),
                MachineExit { status, stderr_tail, .. } => format!("it ended with status {status}: {stderr_tail}"),
            },
            Ok(Err(QmpError::Refused { description })) => clean(description.as_bytes()),
            Ok(Err(QmpError::Ended)) => format!("the hypervisor ended: {}", self.end_now().await.stderr_tail),
            Err(_) => format!("it took more than {} s", SAVE_LIMIT.as_secs()),
        };
        self.end_now().await;
        Err(SaveError { reason })
    }

    async fn quit(&mut self) -> MachineExit {
        // It may be gone before it has answered.
        drop(self.qmp.execute("quit", json!({})).await);
        match tokio::time::timeout(SAVE_LIMIT, self.exit()).await {
            Ok(exit) => exit,
            Err(_) => self.end_now().await,
        }
    }
}

impl Machine for QemuMachine {
    fn take_guest_channel(&mut self) -> Option<UnixStream> {
        self.agent.take()
    }

    fn wait(&mut self) -> Later<'_, MachineExit> {
        Box::pin(self.exit())
    }

    fn stop(mut self: Box<Self>, grace: Duration) -> Later<'static, MachineExit> {
        Box::pin(async move {
            if !grace.is_zero()
                && let Ok(exit) = tokio::time::timeout(grace, self.exit()).await
            {
                return exit;
            }
            self.end_now().await
        })
    }

    fn save(self: Box<Self>, device_state: OwnedFd) -> Later<'static, Result<(), SaveError>> {
        Box::pin(self.save_and_end(device_state))
    }

    fn add_layer<'a>(&'a mut self, serial: &'a str, layer: DiskLayer) -> Later<'a, Result<(), LayerError>> {
        Box::pin(self.put_layer(serial, layer))
    }

    fn stalled(&self) -> Option<String> {
        self.qmp.happened().stalled.as_ref().map(stall::words)
    }

    fn console_tail(&self, lines: usize) -> String {
        self.console.tail(lines)
    }

    fn process_id(&self) -> u32 {
        self.process.id()
    }
}

/// Whether QEMU's words blame KVM: `failed to initialize kvm`, `error: failed to set MSR 0x10a`, `Could not access KVM …`.
fn speaks_of_kvm(words: &str) -> bool {
    let words = words.to_ascii_lowercase();
    ["kvm", "msr", "cpuid"].iter().any(|word| words.contains(word))
}
