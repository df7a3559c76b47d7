//! The words for every error of the engine: its kind and what to do next. A new variant does not compile without.

use pyro_engine::machine::LaunchError;
use pyro_engine::store::lock::LockError;
use pyro_engine::supervisor::boot::{BootCause, BootError};
use pyro_engine::supervisor::guest_link::LinkError;
use pyro_engine::supervisor::start::StartError;
use pyro_engine::workspace::command::{CommandError, Fault, FaultKind};
use pyro_engine::workspace::doctor;

use super::{EXIT_COMMAND_NOT_FOUND, EXIT_NOT_EXECUTABLE, Failure, Kind};
use crate::settings::SettingsError;

const SEE_DOCTOR: &str = "'pyro doctor' says what this host lacks";
const TRY_AGAIN: &str = "try again; if it stays, 'pyro doctor --boot' shows how far a guest gets";

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Self {
        let failure = Self::of(Kind::Usage, &error);
        match error {
            SettingsError::NoHome { variable } => failure.hint(format!("set HOME, or {variable} to a directory")),
            SettingsError::Unreadable { .. } => failure.hint("make the file readable for you, or remove it"),
            SettingsError::Syntax { .. } => failure.hint("correct the line; the file is TOML"),
            SettingsError::UnknownKey { known, .. } => failure.hint(format!("the keys are {}", known.join(", "))),
            SettingsError::Catalog { .. } => {
                failure.hint("correct the file; each environment is a table as in docs/environments.md")
            }
            SettingsError::BadValue { origin, .. } => failure.hint(format!("correct {origin}, or remove it")),
        }
    }
}

/// How QEMU is installed on this host.
pub(crate) fn install_qemu() -> String {
    let family = doctor::platform().family;
    let is = |names: &[&str]| family.split(' ').any(|word| names.contains(&word));
    let command = match () {
        () if is(&["debian", "ubuntu"]) => "sudo apt install qemu-system-x86 qemu-utils",
        () if is(&["fedora", "rhel", "centos"]) => "sudo dnf install qemu-system-x86-core qemu-img",
        () if is(&["arch"]) => "sudo pacman -S qemu-system-x86 qemu-img",
        () if is(&["suse", "opensuse"]) => "sudo zypper install qemu-x86 qemu-tools",
        () if is(&["alpine"]) => "sudo apk add qemu-system-x86_64 qemu-img",
        () => return "install QEMU for x86_64 (7.2 or later) with your package manager".to_owned(),
    };
    format!("install it: {command}")
}

/// A hypervisor that did not even start is the host's fault, whatever stage of a boot it was for.
fn launch_words(error: &LaunchError) -> Failure {
    let failure = Failure::of(Kind::HostNotReady, error);
    match error {
        LaunchError::ProgramNotFound { .. } => failure.hint(install_qemu()),
        LaunchError::Host { .. } | LaunchError::Refused { .. } => failure.hint(SEE_DOCTOR),
        LaunchError::AcceleratorUnusable { .. } => {
            failure.hint("PYRO_ACCELERATOR=auto takes what works; 'pyro doctor' says what is wrong with it")
        }
    }
}

impl From<LaunchError> for Failure {
    fn from(error: LaunchError) -> Self {
        launch_words(&error)
    }
}

impl From<BootError> for Failure {
    fn from(error: BootError) -> Self {
        let (kind, hint) = match &error.cause {
            BootCause::Launch(launch) => return launch_words(launch),
            BootCause::MachineEnded { .. } => (Kind::HostNotReady, SEE_DOCTOR),
            BootCause::TimedOut { .. } => (Kind::Guest, "the host may be too busy: try again when less is running"),
            BootCause::Link(link) => link_words(link),
        };
        Self::of(kind, &error).hint(hint).console(&error.console_tail)
    }
}

fn link_words(error: &LinkError) -> (Kind, &'static str) {
    match error {
        LinkError::Lost | LinkError::Fault(_) => (Kind::Guest, TRY_AGAIN),
        LinkError::Protocol { .. } => (Kind::Untrusted, "the guest is not to be trusted any more; start another one"),
        LinkError::Version { .. } => {
            (Kind::Internal, "the guest was made by another pyro: 'pyro env prune', then try again")
        }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Boot(error) => error.into(),
            StartError::Driver(error) => launch_words(&error),
            StartError::TemplateLock(LockError::Held { .. }) => {
                Self::of(Kind::Conflict, &error).hint("wait for the other pyro to end, or use --cold")
            }
            StartError::TemplateLock(LockError::Io { .. }) | StartError::File { .. } => {
                Self::of(Kind::HostNotReady, &error).hint(SEE_DOCTOR)
            }
            StartError::TemplateSave(_) => {
                Self::of(Kind::HostNotReady, &error).hint("is the cache's disk full? --cold needs no template")
            }
        }
    }
}

impl From<CommandError> for Failure {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::NotStarted(fault) => not_started(&fault),
            CommandError::MachineLost { source, console_tail } => {
                let (kind, hint) = link_words(&source);
                Self::new(kind, "the machine was lost while the command ran")
                    .caused_by(source.to_string())
                    .hint(hint)
                    .console(&console_tail)
            }
            CommandError::Unresponsive { .. } => Self::of(Kind::Guest, &error).hint(TRY_AGAIN),
            CommandError::Stream { .. } => {
                Self::of(Kind::HostNotReady, &error).hint("look where the stream comes from or goes to")
            }
        }
    }
}

pub(super) fn not_started(fault: &Fault) -> Failure {
    let failure = |kind| Failure::new(kind, "the command was not started").caused_by(fault.message.clone());
    match fault.kind {
        FaultKind::ProgramNotFound => failure(Kind::NotFound)
            .hint("is it in this environment? a shell's own words need: -- sh -lc '…'")
            .exit_with(EXIT_COMMAND_NOT_FOUND),
        FaultKind::ProgramNotExecutable => failure(Kind::Guest)
            .hint("is it a program for Linux on x86_64, with its executable bit set?")
            .exit_with(EXIT_NOT_EXECUTABLE),
        FaultKind::BadWorkingDirectory | FaultKind::NotFound => failure(Kind::NotFound).hint("name one that is there"),
        FaultKind::InvalidArgument => failure(Kind::Usage).hint("correct the argument"),
        FaultKind::LimitReached => failure(Kind::Conflict).hint("end other commands first"),
        FaultKind::WrongKind => failure(Kind::Usage).hint("name one of the right kind"),
        FaultKind::TooLarge => failure(Kind::Usage).hint("send less at once"),
        FaultKind::NoSpace => failure(Kind::Guest).hint("free room on the guest's disk"),
        FaultKind::ConnectionRefused
        | FaultKind::NotReady
        | FaultKind::WrongPhase
        | FaultKind::DeviceMissing
        | FaultKind::Mount
        | FaultKind::Defect
        | FaultKind::Io => failure(Kind::Guest).hint(TRY_AGAIN),
    }
}
