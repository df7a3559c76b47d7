//! From a machine's parts to a machine that takes commands, as phases that consume each other.
//!
//! ```text
//! Launched --connect--> Connected --prepare--> Connected --set_up--> Ready
//!     \                     \                      \
//!      +---------------------+----------------------+--> abandon: nothing is left
//! ```
//!
//! A cold boot goes through all of them. A template is made at `prepare` and saved there; a restored machine is already
//! prepared and goes from `connect` to `set_up`. A phase that fails has already ended its machine when it answers, and
//! says at which stage it stood and what the guest's console showed.

use std::os::fd::OwnedFd;
use std::time::Duration;

use pyro_network::Network;
use pyro_wire::lifecycle::{Prepare, Ready as GuestReady, SetUp};
use pyro_wire::message::{Answer, Request};

use super::guest_link::{GuestLink, LinkError};
use crate::machine::{Driver, ExitCause, LaunchError, Machine, MachineExit, MachineSpec, SaveError};

/// Lines of the guest's console that a failure shows.
const CONSOLE_LINES: usize = 12;

/// How long a machine that is no longer wanted gets before it is killed.
const ABANDON_GRACE: Duration = Duration::ZERO;

/// Where a boot stood when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootStage {
    /// Starting the hypervisor.
    Launch,
    /// Waiting for the agent's first word.
    Connect,
    /// Mounting what all machines of the environment share.
    Prepare,
    /// Making the machine one of a kind.
    SetUp,
}

impl std::fmt::Display for BootStage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Launch => "starting the hypervisor",
            Self::Connect => "waiting for the guest agent",
            Self::Prepare => "mounting the environment",
            Self::SetUp => "setting up the guest",
        })
    }
}

/// A boot that failed. Its machine is gone.
#[derive(Debug, thiserror::Error)]
#[error("boot failed while {stage}")]
pub struct BootError {
    /// Where it stood.
    pub stage: BootStage,
    /// What went wrong.
    #[source]
    pub cause: BootCause,
    /// The last lines of the guest's console, cleaned for a terminal; may be empty.
    pub console_tail: String,
}

impl BootError {
    /// Whether the guest restarted itself before its agent said a word: nothing was done in it yet.
    pub(super) fn is_early_restart(&self) -> bool {
        let restarted = matches!(&self.cause, BootCause::MachineEnded { exit } if exit.cause == ExitCause::Reset);
        restarted && self.stage == BootStage::Connect
    }
}

/// What went wrong in a boot.
#[derive(Debug, thiserror::Error)]
pub enum BootCause {
    /// The hypervisor was not started.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The hypervisor ended in the middle of it.
    #[error("{exit}")]
    MachineEnded {
        /// How it ended.
        exit: MachineExit,
    },
    /// The guest said nothing in time.
    #[error("no answer from the guest within {limit_ms} ms")]
    TimedOut {
        /// The limit.
        limit_ms: u128,
    },
    /// The agent refused or broke off.
    #[error(transparent)]
    Link(#[from] LinkError),
}

/// A machine whose hypervisor runs.
pub struct Launched {
    machine: Box<dyn Machine>,
}

/// A machine whose agent answers.
pub struct Connected {
    machine: Box<dyn Machine>,
    link: GuestLink,
}

/// A machine that takes commands.
pub struct Ready {
    /// The machine; dropping it kills it.
    pub machine: Box<dyn Machine>,
    /// The way to its agent.
    pub link: GuestLink,
    /// What the agent said of itself.
    pub guest: GuestReady,
    /// Its network, if it has one; it ends with the machine.
    pub network: Option<Network>,
}

impl Launched {
    /// Starts the hypervisor.
    ///
    /// # Errors
    /// See [`LaunchError`].
    pub async fn launch(driver: &dyn Driver, spec: MachineSpec) -> Result<Self, BootError> {
        match driver.launch(spec).await {
            Ok(machine) => Ok(Self { machine }),
            Err(error) => Err(BootError { stage: BootStage::Launch, cause: error.into(), console_tail: String::new() }),
        }
    }

    /// Waits for the agent's first word.
    ///
    /// # Errors
    /// The machine ended, the agent broke the protocol, or the time ran out.
    pub async fn connect(mut self, session: &str, limit: Duration) -> Result<Connected, BootError> {
        let Some(channel) = self.machine.take_guest_channel() else {
            return Err(fail(self.machine, BootStage::Connect, LinkError::Lost.into()).await);
        };
        match within(&mut *self.machine, limit, GuestLink::open(channel, session)).await {
            Ok(link) => Ok(Connected { machine: self.machine, link }),
            Err(cause) => Err(fail(self.machine, BootStage::Connect, cause).await),
        }
    }

    /// Ends the machine.
    pub async fn abandon(self) {
        self.machine.stop(ABANDON_GRACE).await;
    }
}

impl Connected {
    /// Has the agent mount what all machines of the environment share.
    ///
    /// # Errors
    /// The agent refused, the machine ended, or the time ran out.
    pub async fn prepare(mut self, prepare: Prepare, limit: Duration) -> Result<Self, BootError> {
        match within(&mut *self.machine, limit, self.link.request(Request::Prepare(prepare))).await {
            Ok(_) => Ok(self),
            Err(cause) => Err(fail(self.machine, BootStage::Prepare, cause).await),
        }
    }

    /// Has the agent make the machine one of a kind.
    ///
    /// # Errors
    /// The agent refused, the machine ended, or the time ran out.
    pub async fn set_up(
        mut self,
        set_up: SetUp,
        network: Option<Network>,
        limit: Duration,
    ) -> Result<Ready, BootError> {
        let cause = match within(&mut *self.machine, limit, self.link.request(Request::SetUp(set_up))).await {
            Ok(Answer::Ready(guest)) => {
                return Ok(Ready { machine: self.machine, link: self.link, guest, network });
            }
            Ok(_) => LinkError::Protocol { reason: "answered a set-up with something else".to_owned() }.into(),
            Err(cause) => cause,
        };
        Err(fail(self.machine, BootStage::SetUp, cause).await)
    }

    /// Saves the machine as a template: writes its device state and ends it. The session stays open meanwhile, so that
    /// the saved guest knows its host's side of the port as open, which is how a restored one finds it.
    ///
    /// # Errors
    /// The hypervisor could not write the state; the machine is gone all the same.
    pub async fn save(self, device_state: OwnedFd) -> Result<(), SaveError> {
        let Self { machine, link } = self;
        let saved = machine.save(device_state).await;
        drop(link);
        saved
    }

    /// Ends the machine.
    pub async fn abandon(self) {
        self.machine.stop(ABANDON_GRACE).await;
    }
}

impl Ready {
    /// Asks the guest to write everything to its disks and power off; kills it after `grace`.
    pub async fn shut_down(self, grace: Duration) -> Result<(), LinkError> {
        let asked = tokio::time::timeout(grace, self.link.request(Request::ShutDown)).await;
        let exit = self.machine.stop(if matches!(asked, Ok(Ok(_))) { grace } else { ABANDON_GRACE }).await;
        match asked {
            Ok(Ok(_)) if exit.status == 0 => Ok(()),
            Ok(Err(error)) => Err(error),
            Ok(Ok(_)) | Err(_) => Err(LinkError::Lost),
        }
    }

    /// Ends the machine without asking the guest.
    pub async fn abandon(self) {
        self.machine.stop(ABANDON_GRACE).await;
    }
}

/// Waits for `work`, but no longer than `limit` and no longer than the machine lives.
async fn within<T>(
    machine: &mut dyn Machine,
    limit: Duration,
    work: impl Future<Output = Result<T, LinkError>>,
) -> Result<T, BootCause> {
    tokio::select! {
        biased;
        result = work => match result {
            Ok(value) => Ok(value),
            // The stream goes down with the machine: the machine's end is the better explanation, if it came.
            Err(LinkError::Lost) => match tokio::time::timeout(Duration::from_millis(500), machine.wait()).await {
                Ok(exit) => Err(BootCause::MachineEnded { exit }),
                Err(_) => Err(LinkError::Lost.into()),
            },
            Err(error) => Err(error.into()),
        },
        exit = machine.wait() => Err(BootCause::MachineEnded { exit }),
        () = tokio::time::sleep(limit) => Err(BootCause::TimedOut { limit_ms: limit.as_millis() }),
    }
}

async fn fail(machine: Box<dyn Machine>, stage: BootStage, cause: BootCause) -> BootError {
    let console_tail = machine.console_tail(CONSOLE_LINES);
    machine.stop(ABANDON_GRACE).await;
    BootError { stage, cause, console_tail }
}
