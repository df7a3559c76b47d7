//! The life of a workspace after it was made: update, status, stop, reset, delete.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use super::client::ClientError;
use super::create::{check_labels, check_name, check_ttl, write_record};
use super::directory::{Workspace, Workspaces};
use super::error::WorkspaceError;
use super::seen::unseen;
use crate::store::lock::{Lock, LockError};
use crate::store::workspace_record::{WorkspacePhase, WorkspaceRecord};
use crate::supervisor::driver::{now_seconds, read_json, write_state};
use crate::supervisor::layers::{self, Layers};
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
}

impl Workspaces<'_> {
    /// Changes name, labels, time to live.
    ///
    /// # Errors
    /// A value is out of its range, or the name is taken.
    pub async fn update(&self, word: &str, request: UpdateRequest) -> Result<Workspace, WorkspaceError> {
        let workspace = self.find(word)?;
        let UpdateRequest { name, labels, clear_labels, ttl } = request;
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
            write_record(dir, &record)?;
        }
        if let Ok(connection) = workspace.connect() {
            // A supervisor that just ended reads it when it starts again.
            drop(connection.ask(Ask::Reread).await);
        }
        self.find(&workspace.record.id)
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
        Ok(WorkspaceStatus { workspace, live, disk_bytes, command_count })
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

    /// Puts the disk back to what it was in the beginning, with a fresh machine where one runs.
    ///
    /// # Errors
    /// The new machine did not start; the old one goes on then.
    pub async fn reset(&self, word: &str) -> Result<Workspace, WorkspaceError> {
        let workspace = self.find(word)?;
        match workspace.state.phase {
            WorkspacePhase::Running => {
                workspace.connect()?.ask(Ask::Reset).await?;
            }
            WorkspacePhase::Creating => return Err(WorkspaceError::Creating { id: workspace.record.id }),
            WorkspacePhase::Stopped | WorkspacePhase::Failed => reset_disk(&workspace)?,
        }
        self.find(&workspace.record.id)
    }

    /// Removes a workspace with everything in it. Without `force` only one whose changes were all seen.
    ///
    /// # Errors
    /// It has changes that nobody saw, or may have; its supervisor does not end. With `force` that is killed then.
    pub async fn delete(&self, word: &str, force: bool) -> Result<Workspace, WorkspaceError> {
        let workspace = self.find(word)?;
        if !force {
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

/// Refuses to lose changes that nobody has seen.
async fn check_seen(workspace: &Workspace) -> Result<(), WorkspaceError> {
    let id = workspace.record.id.clone();
    match workspace.connect() {
        Ok(connection) => match unseen(&connection, workspace.state.changes_seen.as_deref()).await? {
            0 => Ok(()),
            changed => Err(WorkspaceError::UnseenChanges { id, changed }),
        },
        // One whose machine never took a command holds nothing.
        Err(_) if super::logs::commands(workspace)?.is_empty() && workspace.record.seed.is_none() => Ok(()),
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

fn reset_disk(workspace: &Workspace) -> Result<(), WorkspaceError> {
    let dir = &workspace.dir;
    let file = |source| WorkspaceError::File { what: "reset the disk in", path: dir.path().to_owned(), source };
    let _life = Lock::try_take(&dir.life_lock())?;
    let mut state = workspace.state.clone();
    let fresh = layers::name(state.next_layer);
    state.next_layer += 1;
    write_state(dir, &state).map_err(file)?;
    let layers = vec![state.layers[0].clone(), fresh];
    Layers::new(dir, layers.clone()).create_top().map_err(file)?;
    state.layers = layers;
    state.reset_count += 1;
    state.reset_at_seconds = Some(now_seconds());
    state.changes_seen = None;
    write_state(dir, &state).map_err(file)?;
    layers::remove_others(dir, &state.layers).map_err(file)
}

/// Space of the files in a directory that nobody else shares.
fn own_bytes(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let of = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => own_bytes(&entry.path()),
        Ok(metadata) if metadata.nlink() > 1 => 0,
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    };
    entries.flatten().map(of).sum()
}
