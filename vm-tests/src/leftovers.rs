//! Finds what a call of pyro left behind: processes, sockets, files.
//!
//! A process is ours when it carries the mark in its environment, names the home in its arguments, or is an orphan that
//! came to this test process. The last holds for a program that was started with an empty environment as well.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions};

/// Environment variable that every call of pyro by a test carries.
pub const MARK: &str = "PYRO_TEST_HOME";

/// Direct children of this test process that the harness itself started and will wait for.
static OWN_CHILDREN: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// Something that should not be there any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leftover {
    /// A process that still runs.
    Process {
        /// Its id.
        pid: u32,
        /// Its arguments, or its name where they cannot be read.
        command: String,
    },
    /// A file, socket or directory.
    File(PathBuf),
}

/// Makes this process the parent of all processes whose own parent dies, so that none gets out of sight.
pub fn adopt_orphans() {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).expect("Linux has sub-reapers");
}

/// Says that the harness started this child and waits for it.
pub(crate) fn register(pid: u32) {
    OWN_CHILDREN.lock().expect("no holder panics").insert(pid);
}

/// Says that the child was waited for.
pub(crate) fn unregister(pid: u32) {
    OWN_CHILDREN.lock().expect("no holder panics").remove(&pid);
}

/// What is left of the home now: its processes, and what lies in `dirs`.
#[must_use]
pub fn find(home: &Path, dirs: &[PathBuf]) -> Vec<Leftover> {
    let mut left: Vec<Leftover> = processes(home);
    for dir in dirs {
        files(dir, &mut left);
    }
    left
}

/// Looks again until nothing is left or the time is over.
pub fn settle(limit: Duration, look: impl Fn() -> Vec<Leftover>) -> Vec<Leftover> {
    let deadline = Instant::now() + limit;
    loop {
        let left = look();
        if left.is_empty() || Instant::now() > deadline {
            return left;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Kills the processes among the leftovers.
pub fn end(left: &[Leftover]) {
    for leftover in left {
        if let Leftover::Process { pid, .. } = leftover {
            kill(*pid);
        }
    }
}

/// All processes that descend from this one, by id.
#[must_use]
pub fn descendants(of: u32) -> Vec<u32> {
    let all: Vec<Process> = all_processes();
    let mut found = vec![of];
    let mut at = 0;
    while at < found.len() {
        let children = all.iter().filter(|process| process.parent == found[at]).map(|process| process.pid);
        found.extend(children.collect::<Vec<_>>());
        at += 1;
    }
    found.remove(0);
    found
}

/// Whether a process is there whose name begins so.
#[must_use]
pub fn is_called(pid: u32, name: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|own| own.starts_with(name))
}

/// Kills a process, if it is still there.
pub fn kill(pid: u32) {
    if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
}

struct Process {
    pid: u32,
    parent: u32,
    zombie: bool,
}

fn processes(home: &Path) -> Vec<Leftover> {
    let own = OWN_CHILDREN.lock().expect("no holder panics").clone();
    let me = std::process::id();
    let mut left = Vec::new();
    for process in all_processes() {
        if process.pid == me || own.contains(&process.pid) {
            continue;
        }
        let orphan = process.parent == me;
        if process.zombie && has_one_thread(process.pid) {
            if orphan {
                reap(process.pid);
            }
            continue;
        }
        if orphan || names(process.pid, home) {
            left.push(Leftover::Process { pid: process.pid, command: command_of(process.pid) });
        }
    }
    left
}

/// A process whose first thread is dead is not over, and holds its files and locks, until the last of its threads is.
fn has_one_thread(pid: u32) -> bool {
    std::fs::read_dir(format!("/proc/{pid}/task")).map_or(true, |threads| threads.count() <= 1)
}

fn reap(pid: u32) {
    if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
        // Another test thread may have been quicker.
        let _ = rustix::process::waitpid(Some(pid), WaitOptions::NOHANG);
    }
}

fn all_processes() -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").expect("/proc is mounted");
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(status_of).collect()
}

/// Reads `/proc/<pid>/stat`; `None` when the process is gone.
fn status_of(pid: u32) -> Option<Process> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold anything, brackets and blanks too.
    let mut fields = text[text.rfind(')')? + 1..].split_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    Some(Process { pid, parent, zombie: state == "Z" || state == "X" })
}

fn names(pid: u32, home: &Path) -> bool {
    let home = home.as_os_str().as_encoded_bytes();
    ["environ", "cmdline"].iter().any(|file| {
        let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        bytes.windows(home.len()).any(|window| window == home)
    })
}

fn command_of(pid: u32) -> String {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let line = String::from_utf8_lossy(&line).replace('\0', " ");
    if line.trim().is_empty() {
        return std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned();
    }
    line.trim().to_owned()
}

fn files(dir: &Path, left: &mut Vec<Leftover>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.is_symlink() {
            files(&path, left);
        } else {
            left.push(Leftover::File(path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Leftover, adopt_orphans, descendants, end, find, settle};
    use std::time::Duration;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the process to be found is started here")]
    fn an_orphan_and_a_file_are_found() {
        adopt_orphans();
        let home = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(home.path().join("socket"), b"").expect("our own directory");
        // The shell ends at once; what it started comes to us.
        let status = std::process::Command::new("sh").args(["-c", "sleep 60 >/dev/null 2>&1 &"]).status();
        assert!(status.expect("sh starts").success());
        let dirs = [home.path().to_owned()];
        let look = || find(home.path(), &dirs);
        let left = settle(Duration::from_millis(200), look);
        assert!(left.contains(&Leftover::File(home.path().join("socket"))), "{left:?}");
        let sleeper = left.iter().find_map(|leftover| match leftover {
            Leftover::Process { pid, command } if command == "sleep 60" => Some(*pid),
            _ => None,
        });
        assert!(descendants(std::process::id()).contains(&sleeper.expect("it is found")));
        std::fs::remove_file(home.path().join("socket")).expect("our own directory");
        end(&left);
        assert_eq!(settle(Duration::from_secs(5), look), []);
    }
}
