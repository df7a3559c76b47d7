//! `run`: one command in a machine of its own, which is gone afterwards.
//!
//! The machine belongs to the calling process: it has no name, no directory and no file, only descriptors, so that
//! nothing of it can outlive the process however that ends.

use std::sync::Arc;
use std::time::Instant;

use super::command::{CommandError, CommandOutcome, CommandRequest, CommandStreams, run_command};
use super::machines::{MachineError, MachineRequest, MachineSize, Machines};
use super::network::traffic;
use crate::Settings;
use crate::environment::EnvironmentError;
use crate::machine::Accelerator;
use crate::progress::{Progress, Reporter, Unit};
use crate::store::workspace_record::NetworkRecord;
use crate::supervisor::protocol::NetworkRefusal;
use crate::supervisor::start::Warmth;
use crate::supervisor::traffic::Witness;

/// A command and the machine it gets.
#[derive(Debug, Clone)]
pub struct RunRequest {
    /// Name of an installed environment.
    pub environment: String,
    /// Size of the machine.
    pub size: MachineSize,
    /// Whether the machine is restored from a template or booted.
    pub warmth: Warmth,
    /// The command.
    pub command: CommandRequest,
    /// What the guest may reach.
    pub network: NetworkRecord,
}

/// What a `run` did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunOutcome {
    /// The command's end.
    pub command: CommandOutcome,
    /// What the machine ran on.
    pub accelerator: Accelerator,
    /// From the call to a machine that takes commands, in milliseconds.
    pub start_ms: u64,
    /// What the guest wanted to reach and was refused.
    pub refusals: Vec<NetworkRefusal>,
}

/// Why there was no run, or no end of it.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The environment cannot be used.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// There is no machine.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The command has no outcome.
    #[error(transparent)]
    Command(#[from] CommandError),
}

/// Runs one command in a machine of its own.
///
/// # Errors
/// See [`RunError`]. Whatever is returned, and if this is dropped half-way, nothing of the machine is left.
pub async fn run(
    settings: &Settings,
    request: RunRequest,
    streams: CommandStreams<'_>,
    report: Reporter<'_>,
) -> Result<RunOutcome, RunError> {
    let began = Instant::now();
    let machines = Machines::new(settings);
    let environment = machines.environments().open(&request.environment)?;
    let accelerator = machines.accelerator(&environment.kernel, report).await.map_err(MachineError::from)?;
    report(Progress::Stage { name: "start machine", unit: Unit::None, total: None });
    let witness = Arc::new(Witness::default());
    let traffic = traffic(&request.network, &witness).map_err(MachineError::from)?;
    let network = traffic.as_ref();
    let machine = MachineRequest { environment: &environment, size: request.size, accelerator, network };
    let mut ready = machines.start(machine, request.warmth, report).await?;
    let start_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    report(Progress::Over);
    let result = run_command(&mut ready, request.command, streams).await;
    ready.abandon().await;
    Ok(RunOutcome { command: result?, accelerator, start_ms, refusals: witness.refusals() })
}
