//! A call of pyro that was started and has not been waited for.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::guests;
use crate::leftovers;
use crate::outcome::Outcome;
use crate::pyro::Input;

/// How often a child is asked whether it has ended.
const POLL: Duration = Duration::from_millis(5);

/// A call under way. Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    args: Vec<String>,
    started: Instant,
    limit: Duration,
    stdout: Collected,
    stderr: Collected,
    open_stdin: Option<ChildStdin>,
}

impl Running {
    #[track_caller]
    pub(crate) fn start(mut command: Command, args: Vec<String>, input: Input, limit: Duration) -> Self {
        let started = Instant::now();
        let mut child = command.spawn().expect("pyro starts");
        leftovers::register(child.id());
        let stdout = Collected::from(child.stdout.take());
        let stderr = Collected::from(child.stderr.take());
        let mut open_stdin = child.stdin.take();
        if let Input::Bytes(bytes) = input {
            let mut pipe = open_stdin.take().expect("it is piped");
            // A pyro that ends early closes the pipe: that is for the test to judge by its outcome.
            std::thread::spawn(move || drop(pipe.write_all(&bytes)));
        }
        Self { child, args, started, limit, stdout, stderr, open_stdin }
    }

    /// Process id of pyro.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to pyro alone.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).expect("a child's id is positive");
        rustix::process::kill_process(pid, signal).expect("the child has not been waited for");
    }

    /// Closes the standard input that [`crate::Pyro::silent_stdin`] holds open.
    pub fn close_stdin(&mut self) {
        self.open_stdin = None;
    }

    /// Waits until standard output holds the text.
    #[track_caller]
    pub fn wait_for_stdout(&mut self, text: &str) {
        while !self.stdout.holds(text) {
            let ended = self.child.try_wait().expect("our own child").is_some();
            // What it printed last may still be on its way.
            if ended && !self.stdout.holds_after_end(text) {
                panic!("pyro ended without printing {text:?}: {}", self.heard());
            }
            assert!(self.started.elapsed() < self.limit, "no {text:?} within {:?}: {}", self.limit, self.heard());
            std::thread::sleep(POLL);
        }
    }

    /// Fails the test if pyro has ended or runs past its limit.
    #[track_caller]
    pub fn assert_running(&mut self) {
        let ended = self.child.try_wait().expect("our own child");
        assert!(ended.is_none(), "pyro ended too early: {}", self.heard());
        assert!(self.started.elapsed() < self.limit, "pyro takes more than {:?}: {}", self.limit, self.heard());
    }

    /// What is on standard output so far.
    #[must_use]
    pub fn stdout_so_far(&self) -> Vec<u8> {
        self.stdout.bytes.lock().expect("no holder panics").clone()
    }

    /// Waits for the end.
    #[track_caller]
    #[must_use]
    pub fn wait(mut self) -> Outcome {
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                break status;
            }
            if self.started.elapsed() > self.limit {
                drop(self.child.kill());
                panic!("pyro {} did not end within {:?}: {}", self.args.join(" "), self.limit, self.heard());
            }
            std::thread::sleep(POLL);
        };
        self.outcome(status)
    }

    fn outcome(&mut self, status: ExitStatus) -> Outcome {
        let elapsed = self.started.elapsed();
        leftovers::unregister(self.child.id());
        let outcome = Outcome {
            call: format!("pyro {}", self.args.join(" ")),
            code: status.code(),
            signal: status.signal(),
            stdout: self.stdout.take(),
            stderr: self.stderr.take(),
            elapsed,
        };
        guests::count(&self.args, &outcome);
        outcome
    }

    fn heard(&self) -> String {
        let text = |collected: &Collected| {
            let bytes = collected.bytes.lock().expect("no holder panics");
            String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(2000)..]).into_owned()
        };
        format!("\nstdout: {}\nstderr: {}", text(&self.stdout), text(&self.stderr))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail when it was waited for, and that is the usual case.
        drop(self.child.kill());
        drop(self.child.wait());
        leftovers::unregister(self.child.id());
    }
}

/// A stream of the child, read by a thread so that the child never waits for us.
#[derive(Debug)]
struct Collected {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Collected {
    fn from(stream: Option<impl Read + Send + 'static>) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&bytes);
        let reader = stream.map(|stream| std::thread::spawn(move || collect(stream, &into)));
        Self { bytes, reader }
    }

    fn holds(&self, text: &str) -> bool {
        let bytes = self.bytes.lock().expect("no holder panics");
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    }

    fn holds_after_end(&mut self, text: &str) -> bool {
        self.join();
        self.holds(text)
    }

    fn take(&mut self) -> Vec<u8> {
        self.join();
        std::mem::take(&mut self.bytes.lock().expect("no holder panics"))
    }

    /// The stream ends with the last process that holds it: a leftover of pyro shows as a test that does not end, so
    /// the wait has a limit.
    fn join(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        if let Some(reader) = self.reader.take() {
            while !reader.is_finished() {
                assert!(Instant::now() < deadline, "pyro ended, but something still holds its standard streams open");
                std::thread::sleep(POLL);
            }
            reader.join().expect("reading does not panic");
        }
    }
}

fn collect(mut stream: impl Read, into: &Mutex<Vec<u8>>) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(count) = stream.read(&mut buffer) {
        if count == 0 {
            break;
        }
        into.lock().expect("no holder panics").extend_from_slice(&buffer[..count]);
    }
}
