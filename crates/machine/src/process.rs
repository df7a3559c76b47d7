// UNSAFETY: the steps between fork and exec are the caller's promise to touch nothing but system calls.
//! Hypervisor processes as owned things: started in a [`Jail`], known by pidfd, killed and reaped when dropped.

#![expect(unsafe_code, reason = "a child is prepared between fork and exec")]

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};

use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

use super::jail::Jail;

/// A process to start.
#[derive(Debug)]
pub(super) struct Launch {
    /// The program, by its full path.
    pub(super) program: PathBuf,
    /// Its arguments, without the program's name.
    pub(super) arguments: Vec<OsString>,
    /// Descriptors it keeps under their present numbers; pyro's own are closed once it runs.
    pub(super) kept: Vec<OwnedFd>,
    /// Where its standard output and error go; its standard input is empty.
    pub(super) output: OwnedFd,
    /// What it may do.
    pub(super) jail: Jail,
}

/// A running hypervisor. Dropping it kills it.
#[derive(Debug)]
pub(super) struct VmmProcess {
    pidfd: AsyncFd<OwnedFd>,
    pid: Pid,
    status: Option<i32>,
}

impl VmmProcess {
    /// Starts a process. When this answers it was executed, so everything of its jail is in force.
    ///
    /// # Errors
    /// A step of entering the jail failed (see [`super::jail::step_of`]), or the program could not be executed.
    pub(super) async fn spawn(launch: Launch) -> io::Result<Self> {
        let (answer, answered) = oneshot::channel();
        spawner()?
            .send(Job { launch, answer })
            .map_err(|_| io::Error::other("the thread that starts machines is gone"))?;
        let (pid, pidfd) = answered.await.map_err(io::Error::other)??;
        // SAFETY: an `OwnedFd` keeps its number open and the same until it is dropped, which is all that is asked for.
        let pidfd = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }.map_err(io::Error::from)?;
        Ok(Self { pidfd, pid, status: None })
    }

    /// The process id, for people and measurements.
    pub(super) fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get().cast_unsigned()
    }

    /// Waits for the end: the exit code, or the negative signal number. May be called again, and given up at any time.
    pub(super) async fn wait(&mut self) -> i32 {
        loop {
            if let Some(status) = self.status.or_else(|| self.reap()) {
                return status;
            }
            match self.pidfd.readable().await {
                Ok(mut ready) => ready.clear_ready(),
                // Only when the runtime shuts down.
                Err(_) => return -Signal::KILL.as_raw(),
            }
        }
    }

    /// Kills the process. It is still to be waited for.
    pub(super) fn kill(&self) {
        if self.status.is_none() {
            // It may have ended by itself meanwhile, which is as good.
            let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        }
    }

    fn reap(&mut self) -> Option<i32> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let status = rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), options).ok().flatten()?;
        self.status = Some(code_of(&status));
        self.status
    }
}

impl Drop for VmmProcess {
    fn drop(&mut self) {
        self.kill();
        if self.status.is_some() || self.reap().is_some() {
            return;
        }
        // A killed process takes a moment to give its memory back: another thread waits for that.
        if let Ok(pidfd) = self.pidfd.get_ref().try_clone() {
            let reap = move || rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).ok();
            drop(std::thread::Builder::new().name("machine reaper".to_owned()).spawn(reap));
        }
    }
}

fn code_of(status: &WaitIdStatus) -> i32 {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => -signal,
        (None, None) => -1,
    }
}

struct Job {
    launch: Launch,
    answer: oneshot::Sender<io::Result<(Pid, OwnedFd)>>,
}

/// The one thread that starts processes. The kernel sends a child its parent-death signal when the *thread* that forked it
/// ends, and the threads of an async runtime come and go; this one stays until the process ends.
fn spawner() -> io::Result<&'static Sender<Job>> {
    static SPAWNER: OnceLock<Option<Sender<Job>>> = OnceLock::new();
    let started = SPAWNER.get_or_init(|| {
        let (sender, jobs) = channel::<Job>();
        let work = move || {
            for Job { launch, answer } in jobs {
                if let Err(Ok((_, pidfd))) = answer.send(start(launch)) {
                    // Nobody waits for it any more.
                    let _ = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
                    let _ = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
                }
            }
        };
        std::thread::Builder::new().name("machine spawner".to_owned()).spawn(work).ok().map(|_| sender)
    });
    started.as_ref().ok_or_else(|| io::Error::other("no thread could be made to start machines"))
}

#[expect(clippy::disallowed_methods, reason = "this is the one place of the engine that starts processes")]
fn start(launch: Launch) -> io::Result<(Pid, OwnedFd)> {
    let Launch { program, arguments, kept, output, jail } = launch;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().current_dir("/");
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    // SAFETY: `Jail::enter` makes system calls only: it allocates nothing, takes no lock, and touches no shared state.
    unsafe { command.pre_exec(move || jail.enter()) };
    let child = command.spawn()?;
    drop(kept);
    let pid = Pid::from_child(&child);
    // The child is not reaped before this, so its id cannot have been given to another process.
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    Ok((pid, pidfd))
}

/// A command that only tells something about a program: no environment, and nothing of a machine's confinement.
#[expect(clippy::disallowed_methods, reason = "this is the one place of the engine that starts processes")]
pub(super) fn quiet_command(program: &std::path::Path, arguments: &[&str]) -> tokio::process::Command {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().current_dir("/");
    command.into()
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;
    use std::path::Path;

    use super::{Launch, VmmProcess};
    use crate::identity::Identity;
    use crate::jail::{Jail, JailRequest, Reopened};

    /// Runs a program in a jail; its exit code and what it printed.
    async fn run(program: &str, arguments: &[&str], kept: Vec<OwnedFd>, reopened: &[Reopened]) -> (i32, String) {
        let program = Path::new(program);
        let identity = Identity::choose(false);
        let data_bytes_max = 64 << 20;
        let request = JailRequest { program, identity, kvm: false, kept: &kept, reopened, data_bytes_max };
        let jail = Jail::build(&request).unwrap();
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let arguments = arguments.iter().map(Into::into).collect();
        let launch = Launch { program: program.to_owned(), arguments, kept, output: theirs.into(), jail };
        let status = VmmProcess::spawn(launch).await.unwrap().wait().await;
        let mut text = String::new();
        ours.read_to_string(&mut text).unwrap();
        (status, text)
    }

    #[tokio::test]
    async fn only_what_was_handed_over_can_be_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "handed over").unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
        let open = || OwnedFd::from(std::fs::File::open(file.path()).unwrap());

        let kept = open();
        let number = kept.as_raw_fd();
        let by_number = format!("/proc/self/fd/{number}");
        let reopened = [Reopened { number, write: false }];
        let (status, text) = run("/usr/bin/cat", &[&by_number], vec![kept], &reopened).await;
        assert_eq!((status, text.as_str()), (0, "handed over"));

        // The rest is Landlock's, which old kernels do not have.
        if !Jail::confines_files() {
            return;
        }
        let (status, text) = run("/usr/bin/cat", &["/etc/passwd"], Vec::new(), &[]).await;
        assert!(status == 1 && text.contains("Permission denied"), "{status} {text}");
        let kept = open();
        let by_number = format!("/proc/self/fd/{}", kept.as_raw_fd());
        let (status, text) = run("/usr/bin/cat", &[&by_number], vec![kept], &[]).await;
        assert!(status == 1 && text.contains("Permission denied"), "{status} {text}");
    }

    #[tokio::test]
    async fn nothing_can_be_made_or_removed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let path = dir.path().join("file");
        let name = path.to_str().unwrap();
        let (status, _) = run("/usr/bin/mkdir", &[name], Vec::new(), &[]).await;
        assert_eq!((status, path.exists()), (1, false));
        let (status, _) = run("/usr/bin/touch", &[name], Vec::new(), &[]).await;
        assert_eq!((status, path.exists()), (1, false));
        std::fs::write(&path, "").unwrap();
        let (status, _) = run("/usr/bin/rm", &["-f", name], Vec::new(), &[]).await;
        assert_eq!((status, path.exists()), (1, true));
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_told_from_a_jail_that_cannot_be_entered() {
        let program = Path::new("/nowhere/program");
        let identity = Identity::choose(false);
        let request = JailRequest { program, identity, kvm: false, kept: &[], reopened: &[], data_bytes_max: 64 << 20 };
        let jail = Jail::build(&request).unwrap();
        let (_, theirs) = UnixStream::pair().unwrap();
        let launch = Launch {
            program: program.to_owned(),
            arguments: Vec::new(),
            kept: Vec::new(),
            output: theirs.into(),
            jail,
        };
        let error = VmmProcess::spawn(launch).await.unwrap_err();
        assert!(crate::jail::step_of(&error).is_none());
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    }
}
