//! Finding the machine's devices by the names the host gave them.
//!
//! A device appears some milliseconds after its driver is loaded, so the first search waits a while for it. After a restore
//! everything is there already and the first look finds it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pyro_wire::{Fault, FaultKind, PORT_NAME};

const DISKS: &str = "/sys/block";

/// How long a device may take to appear after its driver; emulated machines on a busy host are slow.
const APPEARANCE_LIMIT: Duration = Duration::from_secs(10);

const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// The device of the disk with this virtio serial.
pub(crate) fn disk(serial: &str) -> Result<PathBuf, Fault> {
    let find = || named(Path::new(DISKS), "serial", serial);
    wait_for(find).ok_or_else(|| {
        let seconds = APPEARANCE_LIMIT.as_secs();
        Fault::new(FaultKind::DeviceMissing, format!("no disk with serial {serial:?} appeared within {seconds} s"))
    })
}

/// The device of the agent's port.
pub(crate) fn port() -> Option<PathBuf> {
    wait_for(|| named(Path::new("/sys/class/virtio-ports"), "name", PORT_NAME))
}

/// How long [`disk`] and [`port`] wait, for people.
pub(crate) fn appearance_limit_seconds() -> u64 {
    APPEARANCE_LIMIT.as_secs()
}

fn wait_for(find: impl Fn() -> Option<PathBuf>) -> Option<PathBuf> {
    let deadline = Instant::now() + APPEARANCE_LIMIT;
    loop {
        let found = find();
        if found.is_some() || Instant::now() >= deadline {
            return found;
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

/// All disks that have a serial, by it.
pub(crate) fn disks() -> BTreeMap<String, PathBuf> {
    members(Path::new(DISKS), "serial").into_iter().filter(|(serial, _)| !serial.is_empty()).collect()
}

/// The node in `/dev` of the device whose `attribute` in `class` is `name`, once the node is there too.
fn named(class: &Path, attribute: &str, name: &str) -> Option<PathBuf> {
    members(class, attribute)
        .into_iter()
        .find(|(found, _)| found == name)
        .map(|(_, node)| node)
        .filter(|node| node.exists())
}

/// The devices of `class` that have `attribute`, with its value and their nodes.
fn members(class: &Path, attribute: &str) -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(class).into_iter().flatten().filter_map(Result::ok);
    let member = |entry: std::fs::DirEntry| {
        let value = std::fs::read_to_string(entry.path().join(attribute)).ok()?;
        Some((value.trim_end_matches('\n').to_owned(), Path::new("/dev").join(entry.file_name())))
    };
    entries.filter_map(member).collect()
}
