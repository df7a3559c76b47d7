//! Bringing a supervisor to life: a process of its own that outlives whoever starts it.
//!
//! Chat hosts end their servers with everything that descends from them, so a supervisor must not: a first process starts
//! it and ends at once, which makes it a child of the system, and it leads a session of its own. It tells how it came
//! to life by lines ([`Birth`]) on its standard output, which is a pipe to whoever waits.

use std::io;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;
use zeroize::Zeroizing;

use super::protocol::Birth;
use super::secrets::{MESSAGE_BYTES_MAX, Secrets};
use crate::store::home::WorkspaceDir;

/// This program, also after its file was replaced.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// The hidden verb of pyro that is the supervisor of a workspace: `supervise ID`; with [`DETACH`] before the id it only
/// starts one.
pub const SUPERVISE: &str = "supervise";

/// See [`SUPERVISE`].
pub const DETACH: &str = "--detach";

/// Longest line of a birth that is read.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// A supervisor that is coming to life. Dropping it tells a new workspace's supervisor that nobody waits for it.
#[derive(Debug)]
pub struct Spawned {
    lines: BufReader<tokio::process::ChildStdout>,
}

/// Starts the supervisor of a workspace, and tells it the secrets.
///
/// # Errors
/// As the system calls.
pub async fn spawn(dir: &WorkspaceDir, id: &str, secrets: &Secrets) -> io::Result<Spawned> {
    let log = std::fs::OpenOptions::new().append(true).create(true).open(dir.supervisor_log())?;
    let mut child = program(&[SUPERVISE, DETACH, id])
        .stdin(if secrets.is_empty() { Stdio::null() } else { Stdio::piped() })
        .stdout(Stdio::piped())
        .stderr(log)
        .current_dir("/")
        .spawn()?;
    let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let stdin = child.stdin.take();
    let status = child.wait().await?;
    if !status.success() {
        return Err(io::Error::other(format!("the process that starts it ended with {status}")));
    }
    if let Some(mut stdin) = stdin {
        let mut message = Zeroizing::new(Vec::with_capacity(MESSAGE_BYTES_MAX));
        secrets.send(&mut *message)?;
        match stdin.write_all(&message).await {
            // One that is gone already says why on its standard output.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            sent => sent?,
        }
    }
    Ok(Spawned { lines: BufReader::new(stdout) })
}

/// Starts the supervisor as a child of a process that ends now. Its standard streams are this process's.
///
/// # Errors
/// As the system calls.
pub fn detach(id: &str) -> io::Result<()> {
    let child = program(&[SUPERVISE, id]).into_std().spawn()?;
    drop(child);
    Ok(())
}

/// Leaves the session, and with it the terminal, of whoever started this process.
///
/// # Errors
/// This process leads a group already.
pub fn leave_session() -> io::Result<()> {
    rustix::process::setsid()?;
    Ok(())
}

/// Takes the secrets that whoever starts this supervisor tells it, and closes the way they came. One that has any leaves no
/// image of its memory behind, and lets nobody look into it.
///
/// # Errors
/// As the system calls, or it is told something else.
pub fn take_secrets() -> io::Result<Secrets> {
    let secrets = Secrets::receive(&mut Stdin)?;
    let nowhere = std::fs::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(nowhere)?;
    secrets.hide()?;
    Ok(secrets)
}

/// Standard input without a buffer that would keep what was read.
struct Stdin;

impl io::Read for Stdin {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            match rustix::io::read(rustix::stdio::stdin(), &mut *bytes) {
                Err(rustix::io::Errno::INTR) => {}
                result => return Ok(result?),
            }
        }
    }
}

/// Tells whoever waits on standard output; answers whether anybody still does.
#[must_use]
pub fn tell(birth: &Birth) -> bool {
    let mut line = serde_json::to_vec(birth).expect("a birth has string keys and no failing part");
    line.push(b'\n');
    let mut rest = line.as_slice();
    while !rest.is_empty() {
        match rustix::io::write(rustix::stdio::stdout(), rest) {
            Ok(count) => rest = &rest[count..],
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
    true
}

/// Lets go of standard output: nobody is told anything there any more.
///
/// # Errors
/// As the system calls.
pub fn hang_up() -> io::Result<()> {
    let nowhere = std::fs::File::options().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(nowhere)?;
    Ok(())
}

impl Spawned {
    /// The next thing it tells; none when it ended without a word.
    pub async fn next(&mut self) -> Option<Birth> {
        let mut line = String::new();
        let count = (&mut self.lines).take(LINE_BYTES_MAX).read_line(&mut line).await.ok()?;
        if count == 0 {
            return None;
        }
        serde_json::from_str(&line).ok()
    }
}

#[expect(clippy::disallowed_methods, reason = "a supervisor is this same program, started once more")]
fn program(arguments: &[&str]) -> Command {
    let mut command = std::process::Command::new(THIS_PROGRAM);
    command.args(arguments);
    command.into()
}
