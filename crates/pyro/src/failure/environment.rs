//! The words for what can go wrong with environments, machines of them, and runs in those.

use pyro_engine::environment::{EnvironmentError, FinishError};
use pyro_engine::store::lock::LockError;
use pyro_engine::supervisor::start::StartError;
use pyro_engine::workspace::env::PullError;
use pyro_engine::workspace::machines::MachineError;
use pyro_engine::workspace::network::NetworkError;
use pyro_engine::workspace::run::RunError;

use super::{Failure, Kind, sort_nearest_first};
use crate::report::units::size;

const ROOM: &str = "free some room ('pyro env prune --all' helps), or set PYRO_CACHE_DIR to another disk";
const REPORT: &str = "this is a defect of pyro, or of the archive: try --force once, then report it";

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Environment(error) => error.into(),
            RunError::Machine(error) => error.into(),
            RunError::Command(error) => error.into(),
        }
    }
}

impl From<NetworkError> for Failure {
    fn from(error: NetworkError) -> Self {
        let failure = Self::of(Kind::Usage, &error);
        match &error {
            NetworkError::Rule(_) => {
                failure.hint("name a host such as db.example.org:5432 or 10.0.0.7, a domain such as *.example.org")
            }
            NetworkError::TooMany { .. } => failure.hint("name a domain with *. instead of many below it"),
            NetworkError::Off { .. } => failure.hint("give it a network with the policy egress, or leave that out"),
            NetworkError::NoRule { known, .. } if known.is_empty() => failure.hint("there is none of that kind"),
            NetworkError::NoRule { known, .. } => failure.hint(format!("there are {}", known.join(", "))),
            NetworkError::NoProxy => {
                failure.hint("http_proxy and https_proxy, or all_proxy, name the proxy of this host")
            }
            NetworkError::BadProxy { .. } => failure
                .hint("write it as http://HOST:PORT, https:// or socks5h:// in http_proxy, https_proxy or all_proxy"),
            NetworkError::ProxyBeyondDomains => failure.hint("leave the domains out, or the proxy"),
        }
    }
}

impl From<MachineError> for Failure {
    fn from(error: MachineError) -> Self {
        match error {
            MachineError::Driver(error) => error.into(),
            MachineError::Start(error) => error.into(),
            MachineError::BlankDisk(error) => Self::from(*error),
            MachineError::Network(error) => Self::from(error),
            MachineError::Record(_) => Self::of(Kind::HostNotReady, &error).hint("is its directory still there?"),
            MachineError::Name(_) => Self::of(Kind::HostNotReady, &error).hint("is /dev/urandom there?"),
        }
    }
}

impl From<PullError> for Failure {
    fn from(error: PullError) -> Self {
        match error {
            PullError::Environment(error) => error.into(),
            PullError::FirstMachine { name, source } => Self::from(*source)
                .within(format!("the environment {name} is installed, but its first machine did not start")),
        }
    }
}

impl From<EnvironmentError> for Failure {
    fn from(error: EnvironmentError) -> Self {
        let of = |kind| Self::of(kind, &error);
        match error {
            EnvironmentError::Unknown { ref name, ref known } => {
                let mut known = known.clone();
                sort_nearest_first(name, &mut known);
                of(Kind::NotFound).hint(format!("there are {}", known.join(", ")))
            }
            EnvironmentError::NotInstalled { ref name } => of(Kind::NotFound).hint(format!("pyro env pull {name}")),
            EnvironmentError::HasWorkspaces { .. } => {
                of(Kind::Conflict).hint("take home what you need of them, then 'pyro workspace delete' them")
            }
            EnvironmentError::InUse { .. } => {
                of(Kind::Conflict).hint("end its runs and stop its workspaces ('pyro workspace list'), then try again")
            }
            EnvironmentError::KernelMissing { ref name } => {
                of(Kind::NotFound).hint(format!("pyro env pull {name} fetches it again"))
            }
            EnvironmentError::Damaged { ref name, .. } | EnvironmentError::Manifest { ref name, .. } => {
                of(Kind::Untrusted).hint(format!("pyro env pull --force {name} makes it again"))
            }
            EnvironmentError::Newer { ref name, .. } => {
                of(Kind::Conflict).hint(format!("use that version, or make it again: pyro env pull --force {name}"))
            }
            EnvironmentError::NoKernelPackage { .. } => of(Kind::Untrusted).hint("try another mirror"),
            EnvironmentError::NoRoom { ref path, needed_bytes, free_bytes } => {
                let words =
                    format!("{} needs {} and has {} free", path.display(), size(needed_bytes), size(free_bytes));
                Self::new(Kind::HostNotReady, words).hint(ROOM)
            }
            EnvironmentError::DiskFull { ref path, .. } => {
                Self::new(Kind::HostNotReady, format!("the disk of {} is full", path.display())).hint(ROOM)
            }
            EnvironmentError::Io { .. } => of(Kind::HostNotReady).hint("look at the permissions and the disk"),
            EnvironmentError::Rootfs(_) | EnvironmentError::Kernel(_) => of(Kind::Internal).hint(REPORT),
            EnvironmentError::BlankDisk(_) => of(Kind::HostNotReady).hint(ROOM),
            EnvironmentError::Lock(LockError::Held { .. }) => {
                of(Kind::Conflict).hint("wait for the other pyro to end, then try again")
            }
            EnvironmentError::Lock(LockError::Io { .. }) => {
                of(Kind::HostNotReady).hint("look at the permissions of the cache directory")
            }
            EnvironmentError::Stopped => of(Kind::Internal).hint("try again: what was downloaded is kept"),
            EnvironmentError::Acquire(error) => error.into(),
            EnvironmentError::Finish(error) => finish(error),
        }
    }
}

fn finish(error: FinishError) -> Failure {
    match error {
        FinishError::Machine(source) => match source.downcast::<StartError>() {
            Ok(start) => Failure::from(*start).within("the machine that configures packages did not start"),
            Err(source) => Failure::of(Kind::Guest, &FinishError::Machine(source)).hint("try again"),
        },
        FinishError::Script { ref output_tail, .. } => Failure::of(Kind::Guest, &error)
            .hint("try again; if it stays, report it with the lines below")
            .console(output_tail),
        FinishError::TimedOut { .. } => {
            Failure::of(Kind::Guest, &error).hint("the host may be too busy: try again when less is running")
        }
    }
}
