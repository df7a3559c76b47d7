//! The words for what goes wrong with a workspace.

use pyro_engine::store::disk_record::{BASELINE, SnapshotError};
use pyro_engine::store::shell_record::ShellId;
use pyro_engine::supervisor::protocol::{Refusal, RefusalKind};
use pyro_engine::supervisor::secrets::BadSecret;
use pyro_engine::supervisor::shell_protocol::ShellDenial;
use pyro_engine::workspace::WorkspaceError;
use pyro_engine::workspace::client::ClientError;
use pyro_engine::workspace::command::Fault;
use pyro_engine::workspace::diff::DiffError;
use pyro_engine::workspace::machines::MachineError;
use pyro_engine::workspace::seed::SeedError;
use pyro_engine::workspace::sync::PushError;

use super::words::not_started;
use super::{Failure, Kind, sort_nearest_first};
use crate::report::env::Moment;

const SEE_LIST: &str = "'pyro workspace list' shows what there is";

impl From<WorkspaceError> for Failure {
    fn from(error: WorkspaceError) -> Self {
        let words = |kind| Self::of(kind, &error);
        match &error {
            WorkspaceError::NotFound { word, known } => words(Kind::NotFound).hint(known_words(word, known)),
            WorkspaceError::Removed { removed, .. } => words(Kind::NotFound)
                .hint(format!("that was {}; create a new one", Moment(removed.removed_at_seconds).ago())),
            WorkspaceError::Ambiguous { matches, .. } => {
                words(Kind::Usage).hint(format!("it may be {}", matches.join(", ")))
            }
            WorkspaceError::NameTaken { .. } => words(Kind::Conflict).hint("choose another name, or delete that one"),
            WorkspaceError::BadValue { .. } => words(Kind::Usage).hint("correct the value"),
            WorkspaceError::NoMemory { .. } => {
                words(Kind::HostNotReady).hint("stop another workspace, or ask for less with --mem-mib")
            }
            WorkspaceError::Creating { .. } => words(Kind::Conflict).hint("wait until it runs"),
            WorkspaceError::Stopped { id, .. } => {
                words(Kind::Conflict).hint(format!("'pyro workspace start {id}' starts it; its disk is as it was"))
            }
            WorkspaceError::Failed { id, .. } => {
                words(Kind::Conflict).hint(format!("'pyro workspace start {id}' tries again; its disk is as it was"))
            }
            WorkspaceError::Running { id } => words(Kind::Conflict).hint(format!("'pyro workspace exec {id}' uses it")),
            WorkspaceError::Snapshot { id, error: snapshot } => {
                words(snapshot_kind(snapshot)).hint(snapshot_hint(id, snapshot))
            }
            WorkspaceError::DiskInUse { id } => words(Kind::Conflict).hint(format!(
                "'pyro workspace file list {id}' looks at it as it is; 'pyro workspace stop {id}' stops it"
            )),
            WorkspaceError::SecretsOnDisk { id, .. } => words(Kind::Conflict).hint(format!(
                "start it with its secrets, and 'pyro workspace file read {id}' cuts them out; or pass --with-secrets"
            )),
            WorkspaceError::OutputExists { .. } => words(Kind::Conflict).hint("choose another output"),
            WorkspaceError::DiskNotClean { .. } => words(Kind::Guest).hint("try again when this host is less busy"),
            WorkspaceError::UnseenChanges { id, .. } => {
                words(Kind::Conflict).hint(format!("'pyro workspace diff {id}' shows them; --force deletes them, too"))
            }
            WorkspaceError::UnknownChanges { id } => words(Kind::Conflict).hint(format!(
                "'pyro workspace start {id}', then 'diff {id}' shows them; 'delete {id} --force' deletes them, too"
            )),
            WorkspaceError::EnvironmentChanged { .. } => {
                words(Kind::Conflict).hint("create a new workspace; this one's disk cannot be used any more")
            }
            WorkspaceError::Stuck { id } => {
                words(Kind::HostNotReady).hint(format!("'pyro workspace delete {id} --force' kills it"))
            }
            WorkspaceError::StillBorn { .. } => words(Kind::Internal).hint("read its log, then try again"),
            WorkspaceError::MakerGone { .. } => words(Kind::Conflict).hint("make it again"),
            WorkspaceError::NoService { .. }
            | WorkspaceError::ServiceNotReady { .. }
            | WorkspaceError::PortTaken { .. } => super::service::words(&error),
            WorkspaceError::NoCommand { id, .. } => {
                words(Kind::NotFound).hint(format!("'pyro workspace logs {id}' shows what was run"))
            }
            WorkspaceError::NoShell { known, id, .. } => words(Kind::NotFound).hint(known_shells(known, id)),
            WorkspaceError::NoScreen { id, shell } => words(Kind::NotFound)
                .hint(format!("'pyro workspace shell read {id} {shell}' without --screen shows what it printed")),
            WorkspaceError::OutputDropped { .. } => words(Kind::NotFound)
                .hint("the newest 512 MiB of output are kept; run it again, into a file in the guest"),
            WorkspaceError::File { .. } => {
                words(Kind::HostNotReady).hint("is the disk full, or the directory not yours?")
            }
            WorkspaceError::Lock(_) => words(Kind::Conflict).hint("wait for the other pyro to end"),
            WorkspaceError::Birth { .. }
            | WorkspaceError::Environment(_)
            | WorkspaceError::Machine(_)
            | WorkspaceError::Network(_)
            | WorkspaceError::Seed(_)
            | WorkspaceError::Diff(_)
            | WorkspaceError::Client(_) => of_others(error),
        }
    }
}

fn snapshot_kind(error: &SnapshotError) -> Kind {
    match error {
        SnapshotError::NotFound { .. } => Kind::NotFound,
        SnapshotError::Taken { .. } | SnapshotError::Baseline | SnapshotError::TooMany | SnapshotError::TooDeep => {
            Kind::Conflict
        }
    }
}

fn snapshot_hint(id: &str, error: &SnapshotError) -> String {
    match error {
        SnapshotError::NotFound { name, known } => {
            let mut names: Vec<&str> = known.iter().map(String::as_str).collect();
            sort_nearest_first(name, &mut names);
            format!("there are {}", names.join(", "))
        }
        SnapshotError::Taken { name } if name == BASELINE => "choose another name".to_owned(),
        SnapshotError::Taken { .. } => "choose another name, or delete that one".to_owned(),
        SnapshotError::Baseline => format!("'pyro workspace delete {id}' removes the whole workspace"),
        SnapshotError::TooMany => format!("'pyro workspace snapshot delete {id} NAME' makes room"),
        SnapshotError::TooDeep => {
            format!(
                "'pyro workspace reset {id} --snapshot NAME' to an older one makes room; or export, and create a new one"
            )
        }
    }
}

/// The words of failures that came from elsewhere.
fn of_others(error: WorkspaceError) -> Failure {
    match error {
        WorkspaceError::Birth { code, message, hint, console } => {
            let failure = Failure::new(Kind::of_code(&code), message).console(&console);
            match hint {
                Some(hint) => failure.hint(hint),
                None => failure,
            }
        }
        WorkspaceError::Environment(error) => error.into(),
        WorkspaceError::Machine(error) => MachineError::into(error),
        WorkspaceError::Network(error) => error.into(),
        WorkspaceError::Client(error) => error.into(),
        WorkspaceError::Seed(error) => error.into(),
        WorkspaceError::Diff(error) => error.into(),
        error => Failure::of(Kind::Internal, &error),
    }
}

impl From<BadSecret> for Failure {
    fn from(error: BadSecret) -> Self {
        let hint = match &error {
            BadSecret::Name { .. } => {
                "a name has letters, digits and underscores, 64 at most, and begins with no digit"
            }
            BadSecret::Twice { .. } => "give each once",
            BadSecret::Empty { .. } => "is its file empty?",
            BadSecret::TooLong { .. } | BadSecret::TooMany => "put a key there that opens the rest elsewhere",
            BadSecret::ZeroByte { .. } => {
                "encode it, as in: base64 file | pyro workspace create … --secret-file NAME=-"
            }
        };
        Self::of(Kind::Usage, &error).hint(hint)
    }
}

impl From<DiffError> for Failure {
    fn from(error: DiffError) -> Self {
        match error {
            DiffError::Tool(error) => error.into(),
            DiffError::TooMany { .. } => Self::of(Kind::Conflict, &error).hint("name the paths that matter"),
            DiffError::Output { .. } => {
                Self::of(Kind::HostNotReady, &error).hint("look where the output goes: is there room?")
            }
        }
    }
}

impl From<SeedError> for Failure {
    fn from(error: SeedError) -> Self {
        let words = |kind| Self::of(kind, &error);
        match &error {
            SeedError::Source { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                words(Kind::NotFound).hint("name a directory or an archive that is there")
            }
            SeedError::Source { .. } => words(Kind::HostNotReady).hint("is it yours to read?"),
            SeedError::UnknownKind { .. } => words(Kind::Usage).hint("name a directory, or pack it with tar"),
            SeedError::Archive { .. } => words(Kind::Untrusted).hint("look at it with tar; pack or fetch it again"),
            SeedError::ArchiveTooLarge { .. } | SeedError::DoesNotFit { .. } => {
                words(Kind::Usage).hint("ask for a larger disk with --disk-gib, or seed less")
            }
            SeedError::Scratch { .. } | SeedError::Disk(_) => {
                words(Kind::HostNotReady).hint("is the state's disk full?")
            }
            SeedError::TooManyEntries { .. } => words(Kind::Usage).hint("seed a smaller part of it"),
        }
    }
}

impl From<PushError> for Failure {
    fn from(error: PushError) -> Self {
        match error {
            PushError::Seed(error) => error.into(),
            PushError::Tool(error) => error.into(),
            PushError::RemovesSystem => {
                Self::of(Kind::Usage, &error).hint("name a directory with --dest, or leave --delete out")
            }
            PushError::Reader(_) => Self::of(Kind::Internal, &error),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Refused(refusal) => refusal_words(refusal),
            ClientError::Gone { .. } => Self::of(Kind::Guest, &error).hint(SEE_LIST),
            ClientError::TooLong => Self::of(Kind::Usage, &error).hint("pass less at once, or write it to a file and name that"),
            ClientError::Silent { ref id, .. } => Self::of(Kind::Guest, &error).hint(format!(
                "try again in a minute: it may be busy with a reset; 'pyro workspace delete {id} --force' ends one that hangs"
            )),
            ClientError::Nonsense { .. } => {
                Self::of(Kind::Internal, &error).hint("was it started by another pyro? stop it and start it again")
            }
            ClientError::Unresponsive { .. } => {
                Self::of(Kind::Guest, &error).hint("'pyro workspace reset' gives it a fresh machine")
            }
            ClientError::Stream { .. } => {
                Self::of(Kind::HostNotReady, &error).hint("look where the stream goes: is there room?")
            }
        }
    }
}

fn refusal_words(refusal: Refusal) -> Failure {
    let failure = |kind| Failure::new(kind, refusal.message.clone());
    match refusal.kind {
        RefusalKind::Fault(kind) => not_started(&Fault::new(kind, refusal.message)),
        RefusalKind::Protocol => failure(Kind::Internal)
            .hint("it was started by another pyro: stop it with that one, start it with this one"),
        RefusalKind::Phase => failure(Kind::Conflict).hint("wait until that is done"),
        RefusalKind::Secret => failure(Kind::NotFound).hint(
            "'pyro workspace status' names its secrets; one is told with 'start --secret-file NAME=PATH' after a 'stop'",
        ),
        RefusalKind::NotFound => failure(Kind::NotFound).hint("'pyro workspace logs' shows what was run"),
        RefusalKind::Shell(denial) => {
            let (kind, hint) = match denial {
                ShellDenial::Unknown => (Kind::NotFound, "'pyro workspace shell list' shows those there are"),
                ShellDenial::Ended => {
                    (Kind::Conflict, "'pyro workspace shell read' shows what it printed; open another one")
                }
                ShellDenial::InputFull => {
                    (Kind::Conflict, "look at its screen; 'pyro workspace shell signal' interrupts the program")
                }
                ShellDenial::TooMany => (Kind::Conflict, "'pyro workspace shell close' ends one"),
                ShellDenial::NoTerminal => (Kind::Internal, "stop the workspace and start it again with this pyro"),
            };
            failure(kind).hint(hint)
        }
        RefusalKind::Snapshot => failure(Kind::Conflict).hint("'pyro workspace snapshot list' shows what there is"),
        RefusalKind::Stalled => failure(Kind::HostNotReady).hint("make room on the host's disk: it goes on by itself"),
        RefusalKind::Unresponsive => failure(Kind::Guest).hint("'pyro workspace reset' gives it a fresh machine"),
        RefusalKind::NoService => failure(Kind::NotFound).hint("'pyro workspace service list' shows what there is"),
        RefusalKind::ServiceRuns => {
            failure(Kind::Conflict).hint("'pyro workspace service stop' ends it; or choose another name")
        }
        RefusalKind::ServiceForgotten => {
            failure(Kind::Conflict).hint("start it anew with 'pyro workspace service start'")
        }
        RefusalKind::NoPort => failure(Kind::NotFound).hint("'pyro workspace port list' shows what there is"),
        RefusalKind::PortTaken(_) => failure(Kind::Conflict).hint("choose another port of this host"),
        RefusalKind::PortDenied(_) => failure(Kind::HostNotReady).hint("choose a port from 1024 on"),
        RefusalKind::PublishDenied => {
            failure(Kind::Conflict).hint("'pyro workspace update' with --network-policy egress+published-ports lets it")
        }
        RefusalKind::LimitReached => failure(Kind::Conflict).hint("end some of them first"),
        RefusalKind::MachineLost => failure(Kind::Guest).hint(SEE_LIST),
        RefusalKind::Host => failure(Kind::HostNotReady).hint("'pyro doctor' says what this host lacks"),
    }
}

fn known_shells(known: &[ShellId], workspace: &str) -> String {
    if known.is_empty() {
        return format!("there is none; 'pyro workspace shell open {workspace}' opens one");
    }
    let names: Vec<String> = known.iter().map(ToString::to_string).collect();
    format!("there are {}", names.join(", "))
}

fn known_words(word: &str, known: &[String]) -> String {
    const NAMES_MAX: usize = 8;
    let mut names: Vec<&str> = known.iter().map(String::as_str).collect();
    sort_nearest_first(word, &mut names);
    match names.as_slice() {
        [] => "there is none yet; 'pyro workspace create debian:12' makes one".to_owned(),
        names if names.len() > NAMES_MAX => format!("there are {}, …; {SEE_LIST}", names[..NAMES_MAX].join(", ")),
        [name] => format!("there is only {name}"),
        names => format!("there are {}", names.join(", ")),
    }
}
