//! The last step of making an environment: its packages are configured by their own scripts, inside a machine whose
//! writable root is the new image. What those scripts do, they do to that machine only.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use pyro_wire::Exit;
use pyro_wire::lifecycle::{RootKind, WorkspaceMount};
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;

use super::command::{CommandEnd, CommandError, CommandRequest, CommandStreams, run_command};
use crate::environment::{FinishError, FinishJob, Finisher};
use crate::machine::{Accelerator, AcceleratorChoice, Driver};
use crate::progress::{Progress, Reporter};
use crate::store::home::Home;
use crate::supervisor::accelerator::{ProbeGuest, decide};
use crate::supervisor::boot::Ready;
use crate::supervisor::plan::MachinePlan;
use crate::supervisor::start::{Disks, Host, Warmth, start};

/// Memory of the machine that configures packages.
const MEM_MIB: u32 = 1024;

/// What is kept of the script's output, for the case that it fails.
const TAIL_BYTES_MAX: usize = 4096;

/// How long the guest may take to write everything to its disk.
const SHUT_DOWN_GRACE: Duration = Duration::from_secs(60);

/// What a line of progress starts with.
const PROGRESS_PREFIX: &str = "pyro-progress: ";

/// Finishes environments in machines of `driver`.
pub struct GuestFinisher<'a> {
    /// Runs the machine.
    pub driver: &'a dyn Driver,
    /// Where the cache is.
    pub home: &'a Home,
    /// How the settings want machines to be run.
    pub choice: AcceleratorChoice,
    /// Processors of the machine.
    pub vcpu_count: u32,
}

impl Finisher for GuestFinisher<'_> {
    fn finish<'a>(
        &'a self,
        job: FinishJob,
        report: Reporter<'a>,
    ) -> Pin<Box<dyn Future<Output = Result<(), FinishError>> + Send + 'a>> {
        Box::pin(async move {
            let guest = ProbeGuest { kernel: &job.kernel.image, initramfs: &job.kernel.initramfs };
            let verdict = decide(self.driver, self.home, self.choice, guest)
                .await
                .map_err(|error| FinishError::Machine(Box::new(error)))?;
            if !verdict.kvm {
                report(Progress::Note(format!("software emulation: {}", verdict.reason)));
            }
            let plan = self.plan(&job, verdict.accelerator());
            let host = Host { driver: self.driver, home: self.home, report, network: None };
            let mut ready = start(host, &plan, Disks::Absent, "pyro-build", Warmth::Cold)
                .await
                .map_err(|error| FinishError::Machine(Box::new(error)))?;
            match run_script(&mut ready, &job, report).await {
                Ok(()) => ready.shut_down(SHUT_DOWN_GRACE).await.map_err(|error| FinishError::Machine(Box::new(error))),
                Err(error) => {
                    ready.abandon().await;
                    Err(error)
                }
            }
        })
    }
}

impl GuestFinisher<'_> {
    fn plan(&self, job: &FinishJob, accelerator: Accelerator) -> MachinePlan {
        MachinePlan {
            environment_digest: String::new(),
            rootfs: job.rootfs.clone(),
            kernel_digest: job.kernel.digest.clone(),
            kernel: job.kernel.image.clone(),
            initramfs: job.kernel.initramfs.clone(),
            modules_image: job.kernel.modules_image.clone(),
            vcpu_count: self.vcpu_count,
            mem_mib: MEM_MIB,
            disk_gib: 0,
            fresh_disk: false,
            accelerator,
            root: RootKind::Writable,
            workspace: WorkspaceMount::Absent,
            network: false,
        }
    }
}

async fn run_script(ready: &mut Ready, job: &FinishJob, report: Reporter<'_>) -> Result<(), FinishError> {
    let request = CommandRequest {
        argv: [b"/bin/sh".as_slice(), b"-eu", b"-s"].map(<[u8]>::to_vec).into(),
        env: std::collections::BTreeMap::new(),
        cwd: b"/".to_vec(),
        timeout: Duration::from_secs(job.timeout_seconds),
        terminal: None,
    };
    let tail = Arc::new(Mutex::new(Vec::new()));
    let mut stdout = ScriptOutput { report, line: Vec::new(), tail: Arc::clone(&tail) };
    let mut stderr = ScriptOutput { report, line: Vec::new(), tail: Arc::clone(&tail) };
    let mut script = job.script.as_bytes();
    let (_keep_open, control) = mpsc::channel(1);
    let streams = CommandStreams { stdin: Some(&mut script), stdout: &mut stdout, stderr: &mut stderr, control };
    let timed_out = FinishError::TimedOut { timeout_seconds: job.timeout_seconds };
    match run_command(ready, request, streams).await.map(|outcome| outcome.end) {
        Ok(CommandEnd::Exited(Exit::Code(0))) => Ok(()),
        Ok(CommandEnd::Exited(Exit::TimedOut)) | Err(CommandError::Unresponsive { .. }) => Err(timed_out),
        Ok(end) => Err(FinishError::Script { code: code(end), output_tail: clean_tail(&tail) }),
        Err(error) => Err(FinishError::Machine(Box::new(error))),
    }
}

fn code(end: CommandEnd) -> i32 {
    match end {
        CommandEnd::Exited(Exit::Code(code)) => i32::from(code),
        CommandEnd::Exited(Exit::Signal(signal)) => 128 + i32::from(signal),
        CommandEnd::Exited(Exit::TimedOut | Exit::Killed) | CommandEnd::Interrupted | CommandEnd::OutputClosed => -1,
    }
}

fn clean_tail(tail: &Mutex<Vec<u8>>) -> String {
    let bytes = tail.lock().unwrap_or_else(PoisonError::into_inner);
    let text = String::from_utf8_lossy(&bytes);
    text.chars().filter(|&c| c == '\n' || !c.is_control()).collect()
}

/// Takes the script's output: lines of progress become reports, the end of the rest is kept.
struct ScriptOutput<'a> {
    report: Reporter<'a>,
    line: Vec<u8>,
    tail: Arc<Mutex<Vec<u8>>>,
}

impl ScriptOutput<'_> {
    fn take_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let progress = std::str::from_utf8(&line).ok().and_then(|line| line.strip_prefix(PROGRESS_PREFIX));
        if let Some((done, item)) = progress.and_then(|rest| rest.split_once(' '))
            && let Ok(done) = done.parse()
        {
            (self.report)(Progress::Done(done));
            let item: String = item.chars().filter(|c| !c.is_control()).take(100).collect();
            return (self.report)(Progress::Item(item));
        }
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend_from_slice(&line);
        tail.push(b'\n');
        let surplus = tail.len().saturating_sub(TAIL_BYTES_MAX);
        tail.drain(..surplus);
    }
}

impl AsyncWrite for ScriptOutput<'_> {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        for &byte in bytes {
            if byte == b'\n' || self.line.len() >= TAIL_BYTES_MAX {
                self.take_line();
            }
            if byte != b'\n' {
                self.line.push(byte);
            }
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::io::AsyncWriteExt;

    use super::{Progress, ScriptOutput, TAIL_BYTES_MAX, clean_tail};

    #[tokio::test]
    async fn progress_is_reported_and_only_the_end_of_the_rest_is_kept() {
        let reports = Mutex::new(Vec::new());
        let report = |progress| reports.lock().unwrap().push(progress);
        let tail = Arc::new(Mutex::new(Vec::new()));
        let mut output = ScriptOutput { report: &report, line: Vec::new(), tail: Arc::clone(&tail) };
        for piece in ["Setting up\npyro-prog", "ress: 3 lib\x1b[1mc6\n", "pyro-progress: nonsense\n"] {
            output.write_all(piece.as_bytes()).await.unwrap();
        }
        assert_eq!(*reports.lock().unwrap(), [Progress::Done(3), Progress::Item("lib[1mc6".to_owned())]);
        assert_eq!(clean_tail(&tail), "Setting up\npyro-progress: nonsense\n");

        output.write_all(&vec![b'x'; 3 * TAIL_BYTES_MAX]).await.unwrap();
        output.write_all(b"\nlast\n").await.unwrap();
        let kept = clean_tail(&tail);
        assert!(kept.len() <= TAIL_BYTES_MAX && kept.ends_with("\nlast\n"), "{}", kept.len());
    }
}
