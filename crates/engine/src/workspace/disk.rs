//! The disk of a workspace that does not run, or what a snapshot keeps of one: looked at, and taken home whole.
//!
//! The host never reads a file system that a guest wrote. A machine of this process's own is started on the disk, with a
//! layer above it that has no name and vanishes with it, and its agent is asked. Nothing of the disk itself is changed.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pyro_wire::tool::FAULT_BYTES_MAX;
use tokio::io::AsyncWriteExt;

use super::directory::{Workspace, Workspaces};
use super::error::WorkspaceError;
use super::looker::Looker;
use super::machines::{MachineError, MachineRequest, MachineSize, Machines};
use super::tool::{Tool, ToolError, ToolHost, ToolInput, ToolOutput, conclude, garbled, request};
use crate::machine::qcow2::{apply, write_empty_layer};
use crate::machine::{DiskFormat, DiskLayer, FailedWrite, Flush};
use crate::progress::{Progress, Reporter, Unit};
use crate::store::crossing_record::{CrossedFiles, Crossing};
use crate::store::crossings::Crossings;
use crate::store::disk_record::BOTTOM;
use crate::store::lock::Lock;
use crate::store::sparse;
use crate::store::workspace_record::WorkspacePhase;
use crate::supervisor::boot::Ready;
use crate::supervisor::guest_link::{ExecEvent, GuestLink, LinkError};
use crate::supervisor::layers;
use crate::supervisor::plan::WorkspaceDisk;

/// How long a tool may take.
const TOOL_LIMIT: Duration = Duration::from_secs(300);

/// How long the guest gets to leave the disk clean.
const SHUT_DOWN_GRACE: Duration = Duration::from_secs(60);

/// Whether a disk is given away that may hold what secrets were, see [`Workspaces::open_disk`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretsOnDisk {
    /// Not one of a workspace that was given secrets: nobody who knows them is there to cut them out.
    Refused,
    /// As it is.
    Given,
}

/// A machine on the disk of a workspace that does not run. Dropping it ends it.
pub struct DiskMachine {
    /// The workspace.
    pub workspace: Workspace,
    link: GuestLink,
    /// Behind a lock that nobody waits for: a machine is for one owner, its link for all.
    ready: Mutex<Ready>,
    /// What the guest writes, above the disk.
    above: File,
    /// As long as it is held nobody else uses the disk. What a snapshot names never changes, and needs none.
    _life: Option<Lock>,
}

impl std::fmt::Debug for DiskMachine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DiskMachine").field("workspace", &self.workspace.record.id).finish_non_exhaustive()
    }
}

/// A disk that was taken home.
#[derive(Debug, Clone)]
pub struct ExportedDisk {
    /// Id of the workspace.
    pub workspace: String,
    /// Where it is, as whoever asked calls it.
    pub output: String,
    /// How large the disk is.
    pub size_bytes: u64,
    /// How much of it takes room.
    pub allocated_bytes: u64,
    /// SHA-256 of the image.
    pub sha256: String,
}

impl Workspaces<'_> {
    /// Starts a machine on the disk of a workspace that does not run.
    ///
    /// # Errors
    /// It runs, or somebody else is at its disk; the machine does not start.
    pub async fn open_disk(
        &self,
        word: &str,
        secrets: SecretsOnDisk,
        report: Reporter<'_>,
    ) -> Result<DiskMachine, WorkspaceError> {
        let workspace = self.find(word)?;
        let id = workspace.record.id.clone();
        match workspace.state.phase {
            WorkspacePhase::Running => return Err(WorkspaceError::DiskInUse { id }),
            WorkspacePhase::Creating => return Err(WorkspaceError::Creating { id }),
            WorkspacePhase::Stopped | WorkspacePhase::Failed => {}
        }
        if secrets == SecretsOnDisk::Refused && !workspace.record.secrets.is_empty() {
            let names = workspace.record.secrets.iter().cloned().collect();
            return Err(WorkspaceError::SecretsOnDisk { id, names });
        }
        let life = Lock::try_take(&workspace.dir.life_lock())?;
        let file =
            |source| WorkspaceError::File { what: "open the disk in", path: workspace.dir.path().to_owned(), source };
        let above = throw_away_layer(&workspace).map_err(file)?;
        let chain = workspace.state.disk.live_chain();
        let ready = self.start_on(&workspace, &chain, &above, report).await?;
        Ok(DiskMachine::new(workspace, ready, above, Some(life)))
    }

    /// Starts a machine on what a workspace's disk held when a snapshot was taken, whether it runs or not.
    ///
    /// # Errors
    /// There is no such snapshot; the machine does not start.
    pub async fn open_snapshot(
        &self,
        word: &str,
        snapshot: &str,
        report: Reporter<'_>,
    ) -> Result<DiskMachine, WorkspaceError> {
        let workspace = self.find(word)?;
        let disk = &workspace.state.disk;
        let found = disk.find(snapshot);
        let layer = found.map_err(|error| WorkspaceError::Snapshot { id: workspace.record.id.clone(), error })?;
        let chain = disk.chain(layer);
        let file =
            |source| WorkspaceError::File { what: "open the disk in", path: workspace.dir.path().to_owned(), source };
        let above = throw_away_layer(&workspace).map_err(file)?;
        let ready = self.start_on(&workspace, &chain, &above, report).await?;
        Ok(DiskMachine::new(workspace, ready, above, None))
    }

    async fn start_on(
        &self,
        workspace: &Workspace,
        chain: &[u64],
        above: &File,
        report: Reporter<'_>,
    ) -> Result<Ready, WorkspaceError> {
        let record = &workspace.record;
        let machines = Machines::new(self.settings);
        let environment = machines.environments().open(&record.environment)?;
        if environment.digest != record.environment_digest {
            let (id, environment) = (record.id.clone(), record.environment.clone());
            return Err(WorkspaceError::EnvironmentChanged { id, environment });
        }
        let accelerator = machines.accelerator(&environment.kernel, report).await.map_err(MachineError::from)?;
        report(Progress::Stage { name: "start machine", unit: Unit::None, total: None });
        let size = MachineSize { vcpu_count: record.vcpu_count, mem_mib: record.mem_mib, disk_gib: record.disk_gib };
        let request = MachineRequest { environment: &environment, size, accelerator, network: None };
        let open = || {
            let mut layers = layers::open_below(&workspace.dir, chain)?;
            layers.push(DiskLayer { file: above.try_clone()?.into(), format: DiskFormat::Qcow2 });
            Ok(WorkspaceDisk { layers, flush: Flush::Ignored, failed_write: FailedWrite::Told })
        };
        let ready = machines.start_on_disk(request, &open, &format!("pyro-{}", record.id), report).await?;
        report(Progress::Over);
        Ok(ready)
    }
}

impl DiskMachine {
    fn new(workspace: Workspace, ready: Ready, above: File, life: Option<Lock>) -> Self {
        Self { workspace, link: ready.link.clone(), ready: Mutex::new(ready), above, _life: life }
    }

    /// Ends the machine. Nothing of it is left.
    pub async fn close(self) {
        self.ready.into_inner().unwrap_or_else(PoisonError::into_inner).abandon().await;
    }

    /// Writes the whole disk as a raw image, with holes where nothing is, to `output`, which must not exist and is called
    /// `called`. The guest leaves its file system clean first. When this is dropped half-way, there is no output.
    ///
    /// # Errors
    /// The guest does not, or the image cannot be written. There is no output then.
    pub async fn export(
        self,
        output: &Path,
        called: &str,
        report: Reporter<'_>,
    ) -> Result<ExportedDisk, WorkspaceError> {
        let Self { workspace, link: _, ready, above, _life } = self;
        let ready = ready.into_inner().unwrap_or_else(PoisonError::into_inner);
        if output.symlink_metadata().is_ok() {
            return Err(WorkspaceError::OutputExists { output: called.to_owned() });
        }
        let id = workspace.record.id.clone();
        ready
            .shut_down(SHUT_DOWN_GRACE)
            .await
            .map_err(|source| WorkspaceError::DiskNotClean { id: id.clone(), source })?;
        report(Progress::Stage { name: "write image", unit: Unit::None, total: None });
        let file = |source| WorkspaceError::File { what: "write the disk to", path: called.into(), source };
        let (dir, chain) = (workspace.dir.clone(), workspace.state.disk.live_chain());
        // Not made: a directory that is missing is a mistake of whoever named it.
        let parent =
            output.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
        let image = blocking(move || {
            std::fs::metadata(&parent)?;
            let image = sparse::unnamed_copy(&File::open(dir.layer(BOTTOM))?, &parent)?;
            for &number in chain.iter().filter(|number| **number != BOTTOM) {
                apply(&File::open(dir.layer(number))?, &image)?;
            }
            apply(&above, &image)?;
            image.sync_data().map(|()| image)
        });
        let image = image.await.map_err(file)?;
        report(Progress::Stage { name: "digest image", unit: Unit::None, total: None });
        let (image, digest) =
            blocking(move || sparse::sha256(&image).map(|digest| (image, digest))).await.map_err(file)?;
        let metadata = image.metadata().map_err(file)?;
        let (size_bytes, allocated_bytes) = (metadata.len(), metadata.blocks() * 512);
        let crossed = CrossedFiles {
            source: "the whole disk".to_owned(),
            destination: called.to_owned(),
            entries: 1,
            removed: 0,
            bytes: size_bytes,
            digest: digest.clone(),
        };
        Crossings::of(&workspace.dir).append(Crossing::Export(crossed)).map_err(file)?;
        // Only now: whoever gives it up before has nothing.
        sparse::give_name(&image, output).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => WorkspaceError::OutputExists { output: called.to_owned() },
            _ => file(source),
        })?;
        report(Progress::Over);
        Ok(ExportedDisk { workspace: id, output: called.to_owned(), size_bytes, allocated_bytes, sha256: digest })
    }
}

/// Does something that takes its time on a thread of its own.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

impl ToolHost for DiskMachine {
    async fn call(&self, tool: Tool, input: Option<ToolInput<'_>>, output: ToolOutput<'_>) -> Result<(), ToolError> {
        if input.is_some() {
            return Err(garbled("nothing is written to a disk that is only looked at"));
        }
        let limit_ms = u64::try_from(TOOL_LIMIT.as_millis()).ok();
        let mut running = self.link.exec(request(tool, false, limit_ms)).await.map_err(link_error)?;
        let mut complaint = Vec::new();
        loop {
            match running.next().await {
                Some(ExecEvent::Output(pyro_wire::Stream::Stderr, bytes)) => {
                    let room = FAULT_BYTES_MAX.saturating_sub(complaint.len());
                    complaint.extend_from_slice(&bytes[..bytes.len().min(room)]);
                }
                Some(ExecEvent::Output(_, bytes)) => {
                    output.write_all(&bytes).await.map_err(|source| ToolError::Output { source })?;
                }
                Some(ExecEvent::Exited { exit, .. }) => return conclude(exit, &complaint),
                None => return Err(link_error(running.lost())),
            }
        }
    }

    async fn looker(&self) -> Result<Option<Looker>, ToolError> {
        // Whoever knew the secrets went with the supervisor; see `SecretsOnDisk`.
        Ok(None)
    }

    async fn cross(&self, crossing: Crossing) -> Result<(), ToolError> {
        let written = Crossings::of(&self.workspace.dir).append(crossing);
        written.map(drop).map_err(|source| ToolError::Record { source })
    }
}

fn link_error(error: LinkError) -> ToolError {
    match error {
        LinkError::Fault(fault) => ToolError::Fault(fault),
        error => ToolError::Lost { source: io::Error::other(error) },
    }
}

/// An empty layer without a name: no crash can leave it behind.
fn throw_away_layer(workspace: &Workspace) -> io::Result<File> {
    let size_bytes = std::fs::metadata(workspace.dir.layer(BOTTOM))?.len();
    let layer = sparse::unnamed_file(workspace.dir.path())?;
    write_empty_layer(&layer, size_bytes)?;
    Ok(layer)
}
