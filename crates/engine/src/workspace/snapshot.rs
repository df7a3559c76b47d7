//! Snapshots of a workspace's disk, and going back to one.
//!
//! A workspace that runs has a supervisor that owns its disk: it is asked. One that does not is changed here, under the
//! same lock that a supervisor would hold.

use super::create::check_name;
use super::directory::{Workspace, Workspaces};
use super::error::WorkspaceError;
use crate::store::disk_record::{BASELINE, BOTTOM, DiskRecord, SnapshotError, SnapshotRecord};
use crate::store::lock::Lock;
use crate::store::workspace_record::{StateRecord, WorkspacePhase};
use crate::supervisor::layers;
use crate::supervisor::notes::{now_seconds, read_json, write_state};
use crate::supervisor::protocol::{Ask, Ended, ServerMessage};

/// A snapshot, as its workspace has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its name.
    pub name: String,
    /// When it was taken, seconds since 1970.
    pub created_at_seconds: u64,
    /// How long the guest could not write meanwhile, in milliseconds; none if no guest ran.
    pub pause_ms: Option<u64>,
    /// What the disk holds now was written above it, and above no later one.
    pub is_current: bool,
}

/// A workspace that was reset.
#[derive(Debug, Clone)]
pub struct WasReset {
    /// The workspace.
    pub workspace: Workspace,
    /// The snapshot that it is like now.
    pub snapshot: String,
    /// What ended with the machine that was given up.
    pub ended: Ended,
}

impl Workspaces<'_> {
    /// Takes a snapshot of the whole disk of a workspace, which goes on if it runs.
    ///
    /// # Errors
    /// The name is no name, or taken; there are too many; the guest does not hold still.
    pub async fn take_snapshot(&self, word: &str, name: &str) -> Result<Snapshot, WorkspaceError> {
        check_name(name)?;
        let workspace = self.find(word)?;
        let refused = |error| refusal(&workspace, error);
        workspace.state.disk.check_room_for(name).map_err(refused)?;
        let taken = if workspace.state.phase == WorkspacePhase::Running {
            let connection = workspace.connect()?;
            match connection.ask(Ask::TakeSnapshot { name: name.to_owned() }).await? {
                ServerMessage::Snapshot { snapshot } => snapshot,
                _ => return Err(connection.nonsense().into()),
            }
        } else {
            change_disk(&workspace, |state| {
                state.disk.check_room_for(name)?;
                let (number, below) = (state.disk.reserve(), state.disk.live);
                state.disk.grow(number);
                let taken = SnapshotRecord {
                    name: name.to_owned(),
                    layer: below,
                    created_at_seconds: now_seconds(),
                    pause_ms: None,
                };
                state.disk.keep(taken.clone());
                Ok((taken, Some(number)))
            })?
        };
        Ok(Snapshot {
            name: taken.name,
            created_at_seconds: taken.created_at_seconds,
            pause_ms: taken.pause_ms,
            is_current: true,
        })
    }

    /// The snapshots of a workspace, the oldest first: its baseline.
    ///
    /// # Errors
    /// There is no such workspace.
    pub fn snapshots(&self, word: &str) -> Result<(Workspace, Vec<Snapshot>), WorkspaceError> {
        let workspace = self.find(word)?;
        let snapshots = list(&workspace.state.disk, workspace.record.created_at_seconds);
        Ok((workspace, snapshots))
    }

    /// Forgets a snapshot. What others, and the workspace itself, hold stays as it is.
    ///
    /// # Errors
    /// There is none of that name, or it is the baseline.
    pub async fn delete_snapshot(&self, word: &str, name: &str) -> Result<Workspace, WorkspaceError> {
        let workspace = self.find(word)?;
        workspace.state.disk.clone().forget(name).map_err(|error| refusal(&workspace, error))?;
        if workspace.state.phase == WorkspacePhase::Running {
            workspace.connect()?.ask(Ask::ForgetSnapshot { name: name.to_owned() }).await?;
        } else {
            change_disk(&workspace, |state| state.disk.forget(name).map(|()| ((), None)))?;
        }
        self.find(&workspace.record.id)
    }

    /// Puts the disk back to what it was when the snapshot was taken, with a fresh machine where one runs.
    ///
    /// # Errors
    /// There is no such snapshot, or the new machine did not start; the old one goes on then.
    pub async fn reset(&self, word: &str, snapshot: &str) -> Result<WasReset, WorkspaceError> {
        let workspace = self.find(word)?;
        workspace.state.disk.find(snapshot).map_err(|error| refusal(&workspace, error))?;
        let ended = if workspace.state.phase == WorkspacePhase::Running {
            let connection = workspace.connect()?;
            match connection.ask(Ask::Reset { snapshot: snapshot.to_owned() }).await? {
                ServerMessage::WasReset { ended } => ended,
                _ => return Err(connection.nonsense().into()),
            }
        } else {
            change_disk(&workspace, |state| {
                let target = state.disk.find(snapshot)?;
                let number = state.disk.reserve();
                state.disk.branch(number, target);
                state.reset_count += 1;
                state.reset_at_seconds = Some(now_seconds());
                state.changes_seen = None;
                Ok((Ended::default(), Some(number)))
            })?
        };
        let workspace = self.find(&workspace.record.id)?;
        Ok(WasReset { workspace, snapshot: snapshot.to_owned(), ended })
    }
}

/// Changes the disk of a workspace that has no machine. `change` says which layer it needs, if it needs a new one.
fn change_disk<T>(
    workspace: &Workspace,
    change: impl FnOnce(&mut StateRecord) -> Result<(T, Option<u64>), SnapshotError>,
) -> Result<T, WorkspaceError> {
    let dir = &workspace.dir;
    let file = |source| WorkspaceError::File { what: "change the disk in", path: dir.path().to_owned(), source };
    if workspace.state.phase == WorkspacePhase::Creating {
        return Err(WorkspaceError::Creating { id: workspace.record.id.clone() });
    }
    let _life = Lock::try_take(&dir.life_lock())?;
    // What somebody else may have made of it since it was looked at.
    let before: StateRecord = read_json(&dir.state()).map_err(file)?;
    let mut state = before.clone();
    let (made, number) = change(&mut state).map_err(|error| refusal(workspace, error))?;
    if let Some(number) = number {
        let mut reserved = before;
        reserved.disk.next = state.disk.next;
        write_state(dir, &reserved).map_err(file)?;
        layers::create(dir, number).map_err(file)?;
    }
    write_state(dir, &state).map_err(file)?;
    // It is done; what cannot be removed now is named by `doctor`, and removed by its next supervisor.
    drop(layers::remove_others(dir, &state.disk));
    Ok(made)
}

fn list(disk: &DiskRecord, created_at_seconds: u64) -> Vec<Snapshot> {
    let live = disk.live_chain();
    let is_below = |layer: u64| live.contains(&layer);
    let current = disk.snapshots.iter().map(|one| one.layer).filter(|layer| is_below(*layer)).max().unwrap_or(BOTTOM);
    let baseline = SnapshotRecord { name: BASELINE.to_owned(), layer: BOTTOM, created_at_seconds, pause_ms: None };
    let all = std::iter::once(baseline).chain(disk.snapshots.iter().cloned());
    all.map(|one| Snapshot {
        is_current: one.layer == current,
        name: one.name,
        created_at_seconds: one.created_at_seconds,
        pause_ms: one.pause_ms,
    })
    .collect()
}

fn refusal(workspace: &Workspace, error: SnapshotError) -> WorkspaceError {
    WorkspaceError::Snapshot { id: workspace.record.id.clone(), error }
}
