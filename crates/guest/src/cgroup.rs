//! One cgroup (v2) for each command, so that it can be killed with everything it started, however often that forked.
//!
//! No controllers are enabled: the groups only keep processes together. Where there is no cgroup file system of our own, as when
//! the agent is tested outside of a machine, commands have none and only their process group is killed.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, Signal};

const GROUPS_PATH: &str = "/sys/fs/cgroup/pyro";

/// Bytes read of the list of a group's processes: thousands of them.
const LIST_BYTES_MAX: usize = 64 * 1024;

/// All groups of the agent's commands.
#[derive(Debug, Default)]
pub(crate) struct Cgroups {
    root: Option<OwnedFd>,
    created_count: u64,
    /// Groups of ended commands in which something still runs.
    lingering: Vec<String>,
}

/// The group of one command.
#[derive(Debug)]
pub(crate) struct Cgroup {
    name: String,
    dir: OwnedFd,
}

impl Cgroups {
    /// The groups of a machine, whose cgroup file system is mounted.
    pub(crate) fn of_machine() -> Result<Self, Errno> {
        match rustix::fs::mkdir(GROUPS_PATH, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        Ok(Self { root: Some(open_dir(rustix::fs::CWD, GROUPS_PATH)?), ..Self::default() })
    }

    /// A new, empty group; `None` outside of a machine.
    pub(crate) fn create(&mut self) -> Result<Option<Cgroup>, Errno> {
        let Some(root) = &self.root else { return Ok(None) };
        self.created_count += 1;
        let name = format!("exec-{}", self.created_count);
        rustix::fs::mkdirat(root, name.as_str(), Mode::from_raw_mode(0o755))?;
        let dir = open_dir(root, &name)?;
        Ok(Some(Cgroup { name, dir }))
    }

    /// Gives a group back: it goes as soon as nothing runs in it any more.
    pub(crate) fn release(&mut self, group: Cgroup) {
        self.lingering.push(group.name);
        self.sweep();
    }

    /// Removes the groups in which nothing runs any more.
    pub(crate) fn sweep(&mut self) {
        let Some(root) = &self.root else { return };
        self.lingering.retain(|name| rustix::fs::unlinkat(root, name.as_str(), AtFlags::REMOVEDIR) == Err(Errno::BUSY));
    }

    /// Kills everything in all groups.
    pub(crate) fn kill_all(&self) {
        if let Some(root) = &self.root {
            let _ = kill(root);
        }
    }
}

impl Cgroup {
    /// The group's directory.
    pub(crate) fn dir(&self) -> &OwnedFd {
        &self.dir
    }

    /// Kills everything in the group.
    pub(crate) fn kill(&self) -> Result<(), Errno> {
        kill(&self.dir)
    }

    /// Asks every process of the group to end. Groups that the guest made below it hear nothing: their makers do.
    pub(crate) fn ask_to_end(&self) -> Result<(), Errno> {
        let list = self.read("cgroup.procs")?;
        let pids = list.split(|byte| *byte == b'\n').filter_map(|line| str::from_utf8(line).ok()?.parse().ok());
        for pid in pids.filter_map(Pid::from_raw) {
            // Who is stopped must go on to hear it; who ended meanwhile needs nothing.
            let _ = rustix::process::kill_process(pid, Signal::TERM);
            let _ = rustix::process::kill_process(pid, Signal::CONT);
        }
        Ok(())
    }

    /// Whether nothing runs in the group or in one below it.
    pub(crate) fn is_empty(&self) -> bool {
        // A group of which nothing can be said is not waited for.
        self.read("cgroup.events")
            .map_or(true, |events| !events.split(|byte| *byte == b'\n').any(|line| line == b"populated 1"))
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, Errno> {
        let file = rustix::fs::openat(&self.dir, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut bytes = vec![0; LIST_BYTES_MAX];
        let mut count = 0;
        while let Some(room) = bytes.get_mut(count..).filter(|room| !room.is_empty()) {
            match rustix::io::read(&file, room)? {
                0 => break,
                more => count += more,
            }
        }
        bytes.truncate(count);
        Ok(bytes)
    }
}

fn kill(dir: &OwnedFd) -> Result<(), Errno> {
    let file = rustix::fs::openat(dir, "cgroup.kill", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(file, b"1").map(drop)
}

fn open_dir(parent: impl std::os::fd::AsFd, path: &str) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(parent, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}
