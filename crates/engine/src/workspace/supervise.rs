//! What the supervisor of a workspace needs of this room: its machine, from its record.

use std::sync::Arc;

use pyro_network::Policy;

use super::directory::{Workspaces, is_id};
use super::error::WorkspaceError;
use super::machines::{MachineError, MachineRequest, MachineSize, Machines};
use super::network::{rules, traffic};
use crate::environment::InstalledEnvironment;
use crate::machine::Accelerator;
use crate::progress::{Progress, Reporter, Unit};
use crate::store::home::WorkspaceDir;
use crate::store::workspace_record::WorkspaceRecord;
use crate::supervisor::boot::Ready;
use crate::supervisor::driver::{MachineSource, OpenLayers, SuperviseError, supervise as run_supervisor};
use crate::supervisor::notes::read_json;
use crate::supervisor::secrets::Secrets;
use crate::supervisor::traffic::Witness;

/// Is the supervisor of the workspace `id`, which knows these secrets, until its machine is gone for good. `running` is told when it takes commands, and
/// answers whether whoever waits for it is still there.
///
/// # Errors
/// It did not come to life.
pub async fn supervise(
    workspaces: &Workspaces<'_>,
    id: &str,
    secrets: Secrets,
    report: Reporter<'_>,
    running: impl FnOnce() -> bool,
) -> Result<(), WorkspaceError> {
    if !is_id(id) {
        return Err(WorkspaceError::NotFound { word: id.to_owned(), known: Vec::new() });
    }
    let dir = workspaces.home().workspace(id);
    let file = |source| WorkspaceError::File { what: "read", path: dir.record(), source };
    let record: WorkspaceRecord = read_json(&dir.record()).map_err(file)?;
    let machines = Machines::new(workspaces.settings);
    let environment = machines.environments().open(&record.environment)?;
    if environment.digest != record.environment_digest {
        return Err(WorkspaceError::EnvironmentChanged { id: record.id, environment: record.environment });
    }
    let source = Source { machines, environment, dir: dir.clone(), report };
    run_supervisor(dir.clone(), &source, secrets, running).await.map_err(|error| match error {
        SuperviseError::Lock(lock) => lock.into(),
        SuperviseError::Machine(machine) => machine.into(),
        SuperviseError::File { what, source } => WorkspaceError::File { what, path: dir.path().to_owned(), source },
        SuperviseError::MakerGone => WorkspaceError::MakerGone { id: id.to_owned() },
    })
}

/// Starts the machines of one workspace.
struct Source<'a> {
    machines: Machines<'a>,
    environment: InstalledEnvironment,
    dir: WorkspaceDir,
    report: Reporter<'a>,
}

impl Source<'_> {
    /// The record as it is now: its user may have changed it since the last machine.
    fn record(&self) -> Result<WorkspaceRecord, MachineError> {
        read_json(&self.dir.record()).map_err(MachineError::Record)
    }
}

impl MachineSource for Source<'_> {
    type Error = MachineError;

    async fn start(
        &self,
        open_layers: OpenLayers<'_>,
        witness: &Arc<Witness>,
    ) -> Result<(Ready, Accelerator), MachineError> {
        let accelerator = self.machines.accelerator(&self.environment.kernel, self.report).await?;
        (self.report)(Progress::Stage { name: "start machine", unit: Unit::None, total: None });
        let record = self.record()?;
        let size = MachineSize { vcpu_count: record.vcpu_count, mem_mib: record.mem_mib, disk_gib: record.disk_gib };
        let traffic = traffic(&record.network, witness)?;
        let network = traffic.as_ref();
        let request = MachineRequest { environment: &self.environment, size, accelerator, network };
        let hostname = format!("pyro-{}", record.id);
        let ready = self.machines.start_workspace(request, open_layers, &hostname, self.report).await?;
        Ok((ready, accelerator))
    }

    fn policy(&self) -> Result<Policy, MachineError> {
        Ok(rules(&self.record()?.network)?)
    }
}
