//! A call of pyro on a terminal of its own.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal};
use rustix::pty::OpenptFlags;
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};

use crate::guests;
use crate::leftovers;
use crate::outcome::Outcome;
use crate::pyro::Pyro;

/// A terminal, and pyro as the only program on it.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    args: Vec<String>,
    master: File,
    /// Kept open so that the terminal outlives pyro and its modes can be looked at.
    device: OwnedFd,
    screen: Arc<Mutex<Vec<u8>>>,
    started: Instant,
    limit: Duration,
}

impl Terminal {
    /// Starts pyro on a new terminal of this size. Standard error is on the terminal too, as for a person.
    #[must_use]
    #[track_caller]
    pub fn start(pyro: Pyro, rows: u16, cols: u16) -> Self {
        let master = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC);
        let master = master.expect("a terminal can be made");
        rustix::pty::unlockpt(&master).expect("our own terminal");
        let name = rustix::pty::ptsname(&master, Vec::new()).expect("our own terminal");
        let device = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty());
        let device = device.expect("our own terminal");
        let stream = || Stdio::from(device.try_clone().expect("descriptors are to be had"));
        tcsetwinsize(&master, size(rows, cols)).expect("our own terminal");

        // `setsid --ctty` makes the terminal the controlling one, which Rust can do only with unsafe code.
        let mut command = pyro.command(&["setsid", "--ctty"]);
        let child = command.stdin(stream()).stdout(stream()).stderr(stream()).spawn().expect("setsid starts");
        leftovers::register(child.id());
        let screen = Arc::new(Mutex::new(Vec::new()));
        let reader = File::from(master.try_clone().expect("descriptors are to be had"));
        let into = Arc::clone(&screen);
        std::thread::spawn(move || watch(reader, &into));
        let (started, master) = (Instant::now(), File::from(master));
        Self { child, args: pyro.args, master, device, screen, started, limit: pyro.limit }
    }

    /// Types these bytes.
    pub fn type_in(&mut self, bytes: &[u8]) {
        self.master.write_all(bytes).expect("the terminal takes input");
    }

    /// Changes the size of the window.
    pub fn resize(&self, rows: u16, cols: u16) {
        tcsetwinsize(&self.master, size(rows, cols)).expect("our own terminal");
    }

    /// Sends a signal to pyro alone.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).expect("a child's id is positive");
        rustix::process::kill_process(pid, signal).expect("the child has not been waited for");
    }

    /// The terminal's modes as text, to compare two moments.
    #[must_use]
    pub fn modes(&self) -> String {
        let modes = tcgetattr(&self.device).expect("our own terminal");
        format!("{:?} {:?} {:?} {:?}", modes.input_modes, modes.output_modes, modes.local_modes, modes.control_modes)
    }

    /// Waits until the screen shows the text; `\r\n` counts as written.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        while !self.shows(text) {
            let ended = self.child.try_wait().expect("our own child").is_some();
            assert!(!ended || self.shows_soon(text), "pyro ended without showing {text:?}: {}", self.shown());
            assert!(self.started.elapsed() < self.limit, "no {text:?} within {:?}: {}", self.limit, self.shown());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// All that was written to the screen so far.
    #[must_use]
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().expect("no holder panics")).into_owned()
    }

    /// Waits for the end of pyro; the screen is the outcome's standard output.
    #[track_caller]
    pub fn wait(&mut self) -> Outcome {
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                break status;
            }
            assert!(self.started.elapsed() < self.limit, "no end within {:?}: {}", self.limit, self.shown());
            std::thread::sleep(Duration::from_millis(5));
        };
        leftovers::unregister(self.child.id());
        let outcome = Outcome {
            call: format!("pyro {} (on a terminal)", self.args.join(" ")),
            code: status.code(),
            signal: status.signal(),
            stdout: self.shown().into_bytes(),
            stderr: Vec::new(),
            elapsed: self.started.elapsed(),
        };
        guests::count(&self.args, &outcome);
        outcome
    }

    fn shows(&self, text: &str) -> bool {
        self.shown().contains(text)
    }

    fn shows_soon(&self, text: &str) -> bool {
        let deadline = Instant::now() + Duration::from_millis(300);
        while Instant::now() < deadline && !self.shows(text) {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.shows(text)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Both fail when it was waited for, and that is the usual case.
        drop(self.child.kill());
        drop(self.child.wait());
        leftovers::unregister(self.child.id());
    }
}

/// Reads until the last holder of the terminal's other end is gone.
fn watch(mut from: File, into: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 4096];
    while let Ok(count) = from.read(&mut buffer) {
        if count == 0 {
            break;
        }
        into.lock().expect("no holder panics").extend_from_slice(&buffer[..count]);
    }
}

fn size(rows: u16, cols: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 }
}
