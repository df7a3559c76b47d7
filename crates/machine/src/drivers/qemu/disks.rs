//! A machine's disks as QEMU knows them: a node for each layer's file and one for its format, each above the one before.
//!
//! A layer that comes while the guest runs is handed over open, given nodes of its own, and put on top; the file below it
//! is then opened anew, for reading only, and its writable descriptor taken away.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use rustix::fs::OFlags;
use serde_json::{Value, json};

use super::qmp::{Qmp, QmpError};
use crate::console::clean;
use crate::driver::LayerError;
use crate::spec::{DiskFormat, DiskLayer, Flush};

/// Descriptors of layers that come later are in sets of these numbers on; the sets before are numbered by descriptors.
const FIRST_LATER_SET: i32 = 100_000;

/// More disks than a machine has.
const DISKS_MAX: usize = 16;

/// Putting a layer on top takes a few milliseconds, and a flush of what is below.
const ADD_LIMIT: Duration = Duration::from_secs(10);

/// Bytes of a layer's tables that QEMU keeps: all of them of a disk of 16 GiB, and never so many that a long chain of
/// layers goes beyond the memory that it may have.
const TABLE_BYTES: u64 = 2 << 20;

/// How the file of one layer is described to QEMU.
#[derive(Debug, Clone, Copy)]
pub(super) struct LayerFile {
    /// The set that holds its descriptors.
    pub(super) set: i32,
    pub(super) read_only: bool,
    pub(super) flush: Flush,
}

impl LayerFile {
    fn options(self, node: &str) -> Value {
        json!({
            "driver": "file", "node-name": node, "filename": format!("/dev/fdset/{}", self.set),
            "read-only": self.read_only, "discard": "unmap", "cache": self.cache(),
        })
    }

    fn cache(self) -> Value {
        json!({ "direct": false, "no-flush": self.flush == Flush::Ignored })
    }
}

/// A disk of a running QEMU.
#[derive(Debug)]
pub(super) struct DiskNodes {
    pub(super) serial: String,
    index: usize,
    /// How many layers it has had, those that failed included: each has a number of its own.
    count: usize,
    top: Option<Top>,
    /// QEMU did not say what became of a layer.
    is_unknown: bool,
}

/// The topmost layer of a disk.
#[derive(Debug)]
struct Top {
    node: String,
    file_node: String,
    described: LayerFile,
    file: OwnedFd,
}

impl DiskNodes {
    /// The disk of this number, without a layer.
    pub(super) fn new(index: usize, serial: &str) -> Self {
        Self { serial: serial.to_owned(), index, count: 0, top: None, is_unknown: false }
    }

    /// The topmost node.
    pub(super) fn top(&self) -> Option<&str> {
        self.top.as_ref().map(|top| top.node.as_str())
    }

    /// The file of the topmost layer.
    pub(super) fn top_file(&self) -> Option<&OwnedFd> {
        self.top.as_ref().map(|top| &top.file)
    }

    /// The nodes of one more layer above those there are, from its file up; for the command line. `file` is the one that
    /// QEMU has as the only one of its set.
    pub(super) fn push(&mut self, file: &OwnedFd, described: LayerFile, format: DiskFormat) -> io::Result<Vec<Value>> {
        let (node, file_node) = self.names(format);
        let mut nodes = vec![described.options(&file_node)];
        if format == DiskFormat::Qcow2 {
            // A backing file is always stated, also that there is none: a name in the image is not followed.
            nodes.push(qcow2_options(&node, described, &file_node, self.top()));
        }
        self.top = Some(Top { node, file_node, described, file: file.try_clone()? });
        Ok(nodes)
    }

    fn names(&mut self, format: DiskFormat) -> (String, String) {
        let node = format!("disk{}-{}", self.index, self.count);
        self.count += 1;
        let file_node = if format == DiskFormat::Qcow2 { format!("{node}-file") } else { node.clone() };
        (node, file_node)
    }

    /// Puts `layer` on top while the guest runs.
    pub(super) async fn add(&mut self, qmp: &Qmp, layer: DiskLayer) -> Result<(), LayerError> {
        let refused = |reason: &str| LayerError::Refused { reason: reason.to_owned() };
        let (node, file_node) = self.names(layer.format);
        let (Some(top), false) = (&self.top, self.is_unknown) else {
            return Err(refused("nobody knows which layer is on top of this disk"));
        };
        if layer.format != DiskFormat::Qcow2 || top.described.read_only {
            return Err(refused("only a disk that is written to can have one more layer, of the copy-on-write format"));
        }
        let described = LayerFile { set: later_set(self.index, self.count), ..top.described };
        let placing = place(qmp, &layer.file, described, [&top.node, &node, &file_node]);
        match tokio::time::timeout(ADD_LIMIT, placing).await {
            Ok(Ok(())) => {}
            Ok(Err(QmpError::Refused { description })) => {
                drop(tokio::time::timeout(ADD_LIMIT, take_back(qmp, [&node, &file_node], described.set)).await);
                return Err(LayerError::Refused { reason: clean(description.as_bytes()) });
            }
            Ok(Err(QmpError::Ended)) => return Err(self.lost_count("it ended".to_owned())),
            Err(_) => return Err(self.lost_count(format!("no answer within {} s", ADD_LIMIT.as_secs()))),
        }
        // The layer is in use, whatever becomes of this: it only takes away what QEMU has no use for any more.
        drop(tokio::time::timeout(ADD_LIMIT, seal(qmp, top)).await);
        self.top = Some(Top { node, file_node, described, file: layer.file });
        Ok(())
    }

    fn lost_count(&mut self, reason: String) -> LayerError {
        self.is_unknown = true;
        LayerError::Unknown { reason }
    }
}

/// A set that no other layer of a machine has.
fn later_set(index: usize, count: usize) -> i32 {
    i32::try_from(count * DISKS_MAX + index).map_or(i32::MAX, |number| FIRST_LATER_SET.saturating_add(number))
}

/// Removes what was made of a layer that was refused; what was not made is not there to be removed.
async fn take_back(qmp: &Qmp, nodes: [&str; 2], set: i32) {
    for node in nodes {
        drop(qmp.execute("blockdev-del", json!({ "node-name": node })).await);
    }
    drop(qmp.execute("remove-fd", json!({ "fdset-id": set })).await);
}

/// Has the file of a layer that was the topmost one opened anew, for reading, and takes the writable descriptors away.
async fn seal(qmp: &Qmp, layer: &Top) -> Result<(), QmpError> {
    let Top { file_node, described, file, .. } = layer;
    let Ok(readable) = only_readable(file) else { return Ok(()) };
    let sets = qmp.execute("query-fdsets", json!({})).await?;
    qmp.add_fd(described.set, readable.as_fd()).await?;
    let options = LayerFile { read_only: true, ..*described }.options(file_node);
    qmp.execute("blockdev-reopen", json!({ "options": [options] })).await?;
    // QEMU has numbers of its own for what it was started with.
    let own = sets.as_array().into_iter().flatten().find(|set| set["fdset-id"] == described.set);
    for writable in own.and_then(|set| set["fds"].as_array()).into_iter().flatten() {
        qmp.execute("remove-fd", json!({ "fdset-id": described.set, "fd": writable["fd"] })).await?;
    }
    Ok(())
}

/// Hands a layer over and puts it above `top`.
async fn place(qmp: &Qmp, file: &OwnedFd, described: LayerFile, names: [&str; 3]) -> Result<(), QmpError> {
    let [top, node, file_node] = names;
    qmp.add_fd(described.set, file.as_fd()).await?;
    qmp.execute("blockdev-add", described.options(file_node)).await?;
    qmp.execute("blockdev-add", qcow2_options(node, described, file_node, None)).await?;
    qmp.execute("blockdev-snapshot", json!({ "node": top, "overlay": node })).await.map(drop)
}

fn qcow2_options(node: &str, file: LayerFile, file_node: &str, backing: Option<&str>) -> Value {
    json!({
        "driver": "qcow2", "node-name": node, "file": file_node, "backing": backing,
        "read-only": file.read_only, "discard": "unmap", "cache": file.cache(), "l2-cache-size": TABLE_BYTES,
    })
}

/// The file as a descriptor that cannot write. QEMU insists on one for what it is told only to read, and a hypervisor that
/// a guest took over cannot write to it either.
pub(super) fn only_readable(file: &OwnedFd) -> io::Result<OwnedFd> {
    if rustix::fs::fcntl_getfl(file)?.contains(OFlags::RDWR) {
        return Ok(File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?.into());
    }
    file.try_clone()
}
