//! The phases of a machine, from the agent's start to its shutdown, and what each request may do in them.
//!
//! ```text
//! Started --Prepare--> Prepared --SetUp--> Ready
//!        \___ a failure ___\___> Failed      (only ShutDown is left)
//! ```

use std::os::fd::OwnedFd;

use pyro_wire::lifecycle::{Prepare, Ready, SetUp};
use pyro_wire::{Fault, FaultKind};
use rustix::time::{ClockId, clock_gettime};

use crate::mount::{Prepared, Root};
use crate::{identity, network, shutdown};

/// What the agent works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ground {
    /// A machine whose first process it is.
    Machine,
    /// A process among others, in tests: requests pass through the same phases, but nothing is mounted, named or powered off.
    Process,
}

/// Where a machine is in its life.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    ground: Ground,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Started,
    Prepared(Option<Prepared>),
    Ready(Option<Root>),
    Failed,
}

impl Lifecycle {
    pub(crate) fn new(ground: Ground) -> Self {
        Self { ground, phase: Phase::Started }
    }

    /// Whether commands may run.
    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Ready(_))
    }

    /// The directory at which the workspace disk is mounted, once it is.
    pub(crate) fn disk(&self) -> Option<&OwnedFd> {
        if let Phase::Ready(Some(root)) = &self.phase { root.disk() } else { None }
    }

    /// Mounts what all machines of one environment share.
    pub(crate) fn prepare(&mut self, request: &Prepare) -> Result<(), Fault> {
        if !matches!(self.phase, Phase::Started) {
            return Err(self.wrong_phase("a machine is prepared once, before it is set up"));
        }
        self.phase = Phase::Failed;
        let prepared = match self.ground {
            Ground::Machine => Some(Prepared::mount(request)?),
            Ground::Process => None,
        };
        self.phase = Phase::Prepared(prepared);
        Ok(())
    }

    /// Makes the machine one of a kind.
    pub(crate) fn set_up(&mut self, request: &SetUp) -> Result<Ready, Fault> {
        if !matches!(self.phase, Phase::Prepared(_)) {
            return Err(self.wrong_phase("a machine is set up once, after it is prepared"));
        }
        identity::check(request)?;
        let phase = std::mem::replace(&mut self.phase, Phase::Failed);
        let prepared = if let Phase::Prepared(prepared) = phase { prepared } else { None };
        let root = prepared.map(|prepared| set_up_machine(prepared, request)).transpose()?;
        self.phase = Phase::Ready(root);
        Ok(ready())
    }

    fn wrong_phase(&self, rule: &str) -> Fault {
        let failed = matches!(self.phase, Phase::Failed);
        let message = if failed { "an earlier step failed, the machine is of no more use" } else { rule };
        Fault::new(FaultKind::WrongPhase, message)
    }

    /// Ends every process but ours.
    pub(crate) fn end_processes(&self) {
        if self.ground == Ground::Machine {
            shutdown::end_processes();
        }
    }

    /// Leaves the disks as if the machine had never been there to use them.
    pub(crate) fn shut_down(&mut self) -> Result<(), Fault> {
        let phase = std::mem::replace(&mut self.phase, Phase::Failed);
        match (self.ground, phase) {
            (Ground::Machine, Phase::Ready(Some(root))) => shutdown::seal(root),
            (Ground::Machine, _) => {
                rustix::fs::sync();
                Ok(())
            }
            (Ground::Process, _) => Ok(()),
        }
    }
}

fn set_up_machine(prepared: Prepared, request: &SetUp) -> Result<Root, Fault> {
    // First of all: everything after this may draw random numbers or look at the clock.
    identity::renew_entropy(&request.entropy)?;
    identity::set_clock(request.clock_unix_ns)?;
    let root = prepared.enter(request.workspace_disk.as_deref(), request.workspace)?;
    identity::set_names(request, &root)?;
    if let Some(network) = &request.network {
        network::set_up(network)?;
    }
    Ok(root)
}

fn ready() -> Ready {
    let uptime = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(uptime.tv_sec).unwrap_or(0);
    let milliseconds = u64::try_from(uptime.tv_nsec / 1_000_000).unwrap_or(0);
    Ready {
        kernel_release: rustix::system::uname().release().to_string_lossy().into_owned(),
        uptime_ms: seconds * 1000 + milliseconds,
    }
}
