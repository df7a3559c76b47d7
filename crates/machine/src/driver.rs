//! The seam a hypervisor stands behind.

use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::time::Duration;

use super::spec::{Accelerator, DiskLayer, MachineSpec};

/// A future of a seam method.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Starts machines.
pub trait Driver: Send + Sync {
    /// Starts a machine. When this answers, its hypervisor runs (and, for a restore, the guest goes on).
    /// Whatever fails leaves nothing behind.
    fn launch(&self, spec: MachineSpec) -> Later<'_, Result<Box<dyn Machine>, LaunchError>>;

    /// One line with everything about the hypervisor that a saved state depends on: program (path, size and mtime stand
    /// for its version), machine type, CPU model, host CPU under KVM. Asked for at every warm start, so it starts no process.
    ///
    /// # Errors
    /// [`LaunchError::ProgramNotFound`].
    fn fingerprint(&self, accelerator: Accelerator) -> Result<String, LaunchError>;
}

/// A machine that was launched. Dropping it kills it.
pub trait Machine: Send {
    /// The stream to the agent's port. Given out once.
    fn take_guest_channel(&mut self) -> Option<tokio::net::UnixStream>;

    /// Waits until the hypervisor is gone. May be called again.
    fn wait(&mut self) -> Later<'_, MachineExit>;

    /// Waits up to `grace` for the guest to power off by itself, then kills. Afterwards nothing of the machine is left.
    fn stop(self: Box<Self>, grace: Duration) -> Later<'static, MachineExit>;

    /// Pauses the guest, writes its device state to `device_state`, and ends the machine; its memory stays in the
    /// file of [`super::Memory::Shared`].
    fn save(self: Box<Self>, device_state: OwnedFd) -> Later<'static, Result<(), SaveError>>;

    /// Puts an empty layer on top of a disk while the guest runs: from then on it takes all writes, and nothing writes to
    /// the layers below any more. What the guest had flushed before is in those.
    fn add_layer<'a>(&'a mut self, serial: &'a str, layer: DiskLayer) -> Later<'a, Result<(), LayerError>>;

    /// Why the guest stands still, if it does: a write waits for the host's disk, see [`super::FailedWrite::Waits`]. It is
    /// tried again by itself when there is room.
    fn stalled(&self) -> Option<String>;

    /// The last lines of the guest's console, cleaned for a terminal.
    fn console_tail(&self, lines: usize) -> String;

    /// Process id of the hypervisor, for people and measurements only.
    fn process_id(&self) -> u32;
}

/// How a hypervisor ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineExit {
    /// Exit code, or negative signal number.
    pub status: i32,
    /// What the hypervisor itself printed, bounded and cleaned for a terminal.
    pub stderr_tail: String,
    /// What made it end, as far as it said.
    pub cause: ExitCause,
}

impl std::fmt::Display for MachineExit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.cause {
            ExitCause::PoweredOff => f.write_str("the guest powered off"),
            ExitCause::Reset => f.write_str("the guest restarted itself"),
            ExitCause::Panicked { line } => write!(f, "the guest's kernel gave up: {line}"),
            ExitCause::Ended => f.write_str("the machine was ended"),
            ExitCause::HypervisorFailed => match self.stderr_tail.trim() {
                "" => write!(f, "the hypervisor failed with status {} and without a word", self.status),
                words => write!(f, "the hypervisor failed with status {}: {words}", self.status),
            },
        }
    }
}

/// What made a machine end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExitCause {
    /// The guest powered off.
    PoweredOff,
    /// The guest restarted itself, which ends a machine of ours.
    Reset,
    /// The guest's kernel gave up.
    Panicked {
        /// Its last words, from the console, cleaned for a terminal.
        line: String,
    },
    /// It was ended from outside: by us, or by someone who killed the hypervisor in an orderly way.
    Ended,
    /// The hypervisor failed or was killed.
    HypervisorFailed,
}

/// Why a machine was not launched.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The hypervisor's program is not there.
    #[error("{program} is not installed")]
    ProgramNotFound {
        /// What was looked for.
        program: String,
    },
    /// A host resource could not be made.
    #[error("cannot {what}")]
    Host {
        /// What was being done.
        what: &'static str,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The hypervisor ended, or refused a command, before the guest ran.
    #[error("the hypervisor refused the machine: {reason}")]
    Refused {
        /// Its own words, cleaned.
        reason: String,
    },
    /// The accelerator that was asked for does not work here.
    #[error("{accelerator} cannot be used: {reason}")]
    AcceleratorUnusable {
        /// `kvm` or `tcg`.
        accelerator: &'static str,
        /// Why.
        reason: String,
    },
}

/// Why a layer was not put on a disk.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The disk is as it was.
    #[error("the hypervisor refused the layer: {reason}")]
    Refused {
        /// The hypervisor's words, cleaned.
        reason: String,
    },
    /// The layer may or may not be in use by now.
    #[error("the hypervisor did not say whether the layer is in use: {reason}")]
    Unknown {
        /// What happened.
        reason: String,
    },
}

/// Why a machine's state was not saved. The machine is gone all the same.
#[derive(Debug, thiserror::Error)]
#[error("cannot save the machine's state: {reason}")]
pub struct SaveError {
    /// The hypervisor's words, cleaned.
    pub reason: String,
}
