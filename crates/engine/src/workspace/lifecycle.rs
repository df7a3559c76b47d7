//! The life of a workspace after it was made: update, status, stop, delete.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use super::client::ClientError;
use super::create::{check_labels, check_name, check_ttl, write_record};
use super::directory::{Workspace, Workspaces};
use super::error::WorkspaceError;
use super::network::NetworkChange;
use super::seen::unseen;
use crate::store::crossing_record::{Crossing, CrossingSummary};
use crate::store::crossings::Crossings;
use crate::store::home::WorkspaceDir;
use crate::store::lock::{Lock, LockError};
use crate::store::workspace_record::{NetworkRecord, WorkspacePhase, WorkspaceRecord};
use crate::supervisor::notes::read_json;
use crate::supervisor::protocol::{Ask, LiveStatus};

/// How long a supervisor that said it is done may take to be gone.
const GONE_LIMIT: Duration = Duration::from_secs(5);

/// What is to be changed of a workspace.
#[derive(Debug, Clone, Default)]
pub struct UpdateRequest {
    /// A new name, or `Some(None)` for none.
    pub name: Option<Option<String>>,
    /// Labels to set.
    pub labels: BTreeMap<String, String>,
    /// Labels to remove.
    pub clear_labels: BTreeSet<String>,
    /// A new time to live.
    pub ttl: Option<Duration>,
    /// What the guest may reach from now on.
    pub network: NetworkChange,
}

/// A workspace that was changed.
#[derive(Debug, Clone)]
pub struct Updated {
    /// The workspace.
    pub workspace: Workspace,
    /// Its machine was started without the network that it is to have: it gets one when it is started anew, or reset.
    pub network_at_next_start: bool,
}

/// Everything known of a workspace.
#[derive(Debug, Clone)]
pub struct WorkspaceStatus {
    /// What is written down.
    pub workspace: Workspace,
    /// What its supervisor tells, while it runs.
    pub live: Option<LiveStatus>,
    /// Space its files take that is not shared with others, in bytes.
    pub disk_bytes: u64,
    /// Commands that were run in it.
    pub command_count: u64,
    /// What crossed its border, added up.
    pub crossings: CrossingSummary,
}

impl Workspaces<'_> {
    /// Changes name, labels, time to live, and what the guest may reach: that at once where its machine has a network.
    ///
    /// # Errors
    /// A value is out of its range, the name is taken, or its supervisor does not take the change over.
    pub async fn update(&self, word: &str, request: UpdateRequest) -> Result<Updated, WorkspaceError> {
        let workspace = self.find(word)?;
        let UpdateRequest { name, labels, clear_labels, ttl, network } = request;
        name.iter().flatten().try_for_each(|name| check_name(name))?;
        ttl.map_or(Ok(()), check_ttl)?;
        let dir = &workspace.dir;
        {
            let _names = Lock::wait_for_directory(&self.home.workspaces_dir())?;
            let _record = Lock::wait(&dir.record_lock())?;
            let read = |source| WorkspaceError::File { what: "read", path: dir.record(), source };
            let mut record: WorkspaceRecord = read_json(&dir.record()).map_err(read)?;
            if let Some(name) = name {
                self.check_name_free(name.as_deref(), &record.id)?;
                record.name = name;
            }
            record.labels.retain(|label, _| !clear_labels.contains(label));
            record.labels.extend(labels);
            check_labels(&record.labels)?;
            record.ttl_seconds = ttl.map_or(record.ttl_seconds, |ttl| ttl.as_secs());
            if !network.is_empty() {
                let after = network.of(&record.network)?;
                note_policy(dir, &record.network, &after)?;
                record.network = after;
            }
            write_record(dir, &record)?;
        }
        if let Ok(connection) = workspace.connect() {
            match connection.ask(Ask::Reread).await {
                // A supervisor that just ended reads it when it starts again.
                Ok(_) | Err(ClientError::Gone { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let workspace = self.find(&workspace.record.id)?;
        let live = match workspace.connect() {
            Ok(connection) => connection.live_status().await.ok(),
            Err(_) => None,
        };
        let network_at_next_start = lacks_network(&workspace, live.as_ref());
        Ok(Updated { workspace, network_at_next_start })
    }

    /// Everything known of one.
    ///
    /// # Errors
    /// There is none.
    pub async fn status(&self, word: &str) -> Result<WorkspaceStatus, WorkspaceError> {
        let workspace = self.find(word)?;
        let live = match workspace.connect() {
            Ok(connection) => connection.live_status().await.ok(),
            Err(_) => None,
        };
        let command_count = super::logs::commands(&workspace)?.len() as u64;
        let disk_bytes = own_bytes(workspace.dir.path());
        let crossings = super::crossings::summary(&workspace)?;
        Ok(WorkspaceStatus { workspace, live, disk_bytes, command_count, crossings })
    }

    /// Ends the machine in an orderly way and keeps the disk.
    ///
    /// # Errors
    /// It does not run, or does not end.
    pub async fn stop(&self, word: &str) -> Result<Workspace, WorkspaceError> {
        let workspace = self.find(word)?;
        let connection = workspace.connect()?;
        let asked = connection.ask(Ask::Stop { reason: "its user stopped it".to_owned() }).await;
        match asked {
            // It ends already, for a reason of its own.
            Ok(_) | Err(ClientError::Gone { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        wait_until_gone(&workspace).await?;
        self.find(&workspace.record.id)
    }

    /// Removes a workspace with everything in it. Without `force` only one whose changes were all seen.
    ///
    /// # Errors
    /// It has changes that nobody saw, or may have; its supervisor does not end. With `force` that is killed then.
    pub async fn delete(&self, word: &str, force: bool) -> Result<Workspace, WorkspaceError> {
        let workspace = self.find(word)?;
        if !force {
            if workspace.state.phase == WorkspacePhase::Creating {
                return Err(WorkspaceError::Creating { id: workspace.record.id });
            }
            check_seen(&workspace).await?;
        }
        if let Ok(connection) = workspace.connect() {
            let asked = tokio::time::timeout(GONE_LIMIT, connection.ask(Ask::Discard)).await;
            drop(asked);
        }
        match wait_until_gone(&workspace).await {
            Err(WorkspaceError::Stuck { .. }) if force => {
                kill_holder(&workspace);
                wait_until_gone(&workspace).await?;
            }
            result => result?,
        }
        self.remove_files(&workspace.dir).map_err(|source| WorkspaceError::File {
            what: "remove",
            path: workspace.dir.path().to_owned(),
            source,
        })?;
        Ok(workspace)
    }
}

/// Whether a machine runs without the network that its workspace is to have.
#[must_use]
pub fn lacks_network(workspace: &Workspace, live: Option<&LiveStatus>) -> bool {
    !workspace.record.network.is_off() && live.is_some_and(|live| live.network.is_none())
}

/// Writes down that a guest may reach other things than before, before it may.
fn note_policy(dir: &WorkspaceDir, before: &NetworkRecord, after: &NetworkRecord) -> Result<(), WorkspaceError> {
    if before == after {
        return Ok(());
    }
    let crossing = Crossing::PolicyChange { before: before.to_string(), after: after.to_string() };
    let noted = Crossings::of(dir).append(crossing);
    noted.map(drop).map_err(|source| WorkspaceError::File {
        what: "note the change of the network policy of",
        path: dir.path().to_owned(),
        source,
    })
}

/// Refuses to lose changes that nobody has seen.
async fn check_seen(workspace: &Workspace) -> Result<(), WorkspaceError> {
    let id = workspace.record.id.clone();
    match workspace.connect() {
        Ok(connection) => match unseen(&connection, workspace.state.changes_seen.as_deref()).await? {
            0 => Ok(()),
            changed => Err(WorkspaceError::UnseenChanges { id, changed }),
        },
        // One whose machine never took a command holds nothing.
        Err(_)
            if super::logs::commands(workspace)?.is_empty()
                && workspace.record.seed.is_none()
                && !workspace.dir.shells_last().exists() =>
        {
            Ok(())
        }
        Err(_) => Err(WorkspaceError::UnknownChanges { id }),
    }
}

/// Waits until nobody holds the workspace's life.
async fn wait_until_gone(workspace: &Workspace) -> Result<(), WorkspaceError> {
    let begun = Instant::now();
    loop {
        match Lock::try_take(&workspace.dir.life_lock()) {
            Ok(_) => return Ok(()),
            Err(LockError::Held { .. }) if begun.elapsed() < GONE_LIMIT => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Err(LockError::Held { .. }) => return Err(WorkspaceError::Stuck { id: workspace.record.id.clone() }),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Kills the supervisor that holds the workspace's life. Only a holder's number is in a lock that is held.
fn kill_holder(workspace: &Workspace) {
    let Err(LockError::Held { holder, .. }) = Lock::try_take(&workspace.dir.life_lock()) else { return };
    let pid = holder.parse().ok().and_then(rustix::process::Pid::from_raw);
    let Some(pidfd) = pid.and_then(|pid| rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok())
    else {
        return;
    };
    // The process is known by descriptor now; if it still is the holder, it is the right one.
    if matches!(Lock::try_take(&workspace.dir.life_lock()), Err(LockError::Held { holder: again, .. }) if again == holder)
    {
        let _ = rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL);
    }
}

/// Space of a file, or of all in a directory, that nobody else shares.
pub(super) fn own_bytes(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => {
            let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
            entries.map(|entry| own_bytes(&entry.path())).sum()
        }
        Ok(metadata) if metadata.nlink() > 1 => 0,
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    }
}
