//! Rows of snapshots: taken and gone back to with little and much on the disk, and what a chain of them costs.

use std::time::Instant;

use anyhow::Result;

use crate::bed::Bed;
use crate::sample::Measured;
use crate::workspaces::{Workspace, milliseconds, repeated, samples};

/// Snapshots above each other.
pub(crate) const CHAIN: usize = 20;

/// A workspace with so much written to its disk.
fn written(bed: &Bed, mib: u32) -> Result<Workspace<'_>> {
    let workspace = Workspace::create(bed, None)?;
    bed.timed(workspace.exec(&format!("head -c {mib}M /dev/zero > /root/large && sync")))?;
    Ok(workspace)
}

/// `workspace snapshot create`, whole process.
pub(crate) fn take(bed: &Bed, mib: u32) -> Result<Measured> {
    let workspace = written(bed, mib)?;
    let mut count = 0;
    samples(bed, || {
        count += 1;
        let started = Instant::now();
        bed.timed(workspace.verb_of("snapshot", "create", &[&format!("s{count}")]))?;
        Ok(milliseconds(started))
    })
}

/// `workspace reset --snapshot`, whole process.
pub(crate) fn reset(bed: &Bed, mib: u32) -> Result<Measured> {
    let workspace = written(bed, mib)?;
    bed.timed(workspace.verb_of("snapshot", "create", &["full"]))?;
    repeated(bed, || workspace.verb("reset", &["--snapshot", "full"]))
}

/// `workspace start`, whole process: what a reset is measured against.
pub(crate) fn start(bed: &Bed) -> Result<Measured> {
    let workspace = Workspace::create(bed, None)?;
    samples(bed, || {
        bed.timed(workspace.verb("stop", &[]))?;
        let started = Instant::now();
        bed.timed(workspace.verb("start", &[]))?;
        Ok(milliseconds(started))
    })
}

/// A command above so many snapshots.
pub(crate) fn exec(bed: &Bed, snapshots: usize) -> Result<Measured> {
    let workspace = Workspace::create(bed, None)?;
    chain(bed, &workspace, snapshots)?;
    repeated(bed, || workspace.verb("exec", &["--", "true"]))
}

/// Reading a file that lies below so many snapshots.
pub(crate) fn read(bed: &Bed, snapshots: usize) -> Result<Measured> {
    let workspace = written(bed, 100)?;
    chain(bed, &workspace, snapshots)?;
    repeated(bed, || workspace.exec("echo 3 > /proc/sys/vm/drop_caches; cat /root/large > /dev/null"))
}

/// So many snapshots with a change before each, and the same changes where there are fewer: a guest gets quicker with
/// what it did before.
fn chain(bed: &Bed, workspace: &Workspace<'_>, snapshots: usize) -> Result<()> {
    for number in 0..CHAIN {
        bed.timed(workspace.exec(&format!("echo {number} > /root/file")))?;
        if number < snapshots {
            bed.timed(workspace.verb_of("snapshot", "create", &[&format!("s{number}")]))?;
        }
    }
    Ok(())
}
