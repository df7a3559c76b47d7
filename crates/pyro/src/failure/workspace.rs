//! The words for what goes wrong with a workspace.

use pyro_engine::supervisor::protocol::{Refusal, RefusalKind};
use pyro_engine::workspace::WorkspaceError;
use pyro_engine::workspace::client::ClientError;
use pyro_engine::workspace::command::Fault;
use pyro_engine::workspace::diff::DiffError;
use pyro_engine::workspace::machines::MachineError;
use pyro_engine::workspace::seed::SeedError;
use pyro_engine::workspace::sync::PushError;

use super::words::not_started;
use super::{Failure, Kind, sort_nearest_first};

const SEE_LIST: &str = "'pyro workspace list' shows what there is";

impl From<WorkspaceError> for Failure {
    fn from(error: WorkspaceError) -> Self {
        let words = |kind| Self::of(kind, &error);
        match &error {
            WorkspaceError::NotFound { word, known } => words(Kind::NotFound).hint(known_words(word, known)),
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
            WorkspaceError::UnseenChanges { id, .. } => {
                words(Kind::Conflict).hint(format!("'pyro workspace diff {id}' shows them; --force deletes them, too"))
            }
            WorkspaceError::UnknownChanges { id } => {
                words(Kind::Conflict).hint(format!("start it and look, or delete it with --force: {id}"))
            }
            WorkspaceError::EnvironmentChanged { .. } => {
                words(Kind::Conflict).hint("create a new workspace; this one's disk cannot be used any more")
            }
            WorkspaceError::Stuck { id } => {
                words(Kind::HostNotReady).hint(format!("'pyro workspace delete {id} --force' kills it"))
            }
            WorkspaceError::StillBorn { .. } => words(Kind::Internal).hint("read its log, then try again"),
            WorkspaceError::MakerGone { .. } => words(Kind::Conflict).hint("make it again"),
            WorkspaceError::NoCommand { id, .. } => {
                words(Kind::NotFound).hint(format!("'pyro workspace logs {id}' shows what was run"))
            }
            WorkspaceError::File { .. } => {
                words(Kind::HostNotReady).hint("is the disk full, or the directory not yours?")
            }
            WorkspaceError::Lock(_) => words(Kind::Conflict).hint("wait for the other pyro to end"),
            WorkspaceError::Birth { .. }
            | WorkspaceError::Environment(_)
            | WorkspaceError::Machine(_)
            | WorkspaceError::Seed(_)
            | WorkspaceError::Diff(_)
            | WorkspaceError::Client(_) => of_others(error),
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
        WorkspaceError::Client(error) => error.into(),
        WorkspaceError::Seed(error) => error.into(),
        WorkspaceError::Diff(error) => error.into(),
        error => Failure::of(Kind::Internal, &error),
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
        RefusalKind::NotFound => failure(Kind::NotFound).hint("'pyro workspace logs' shows what was run"),
        RefusalKind::MachineLost => failure(Kind::Guest).hint(SEE_LIST),
        RefusalKind::Host => failure(Kind::HostNotReady).hint("'pyro doctor' says what this host lacks"),
    }
}

fn known_words(word: &str, known: &[String]) -> String {
    const NAMES_MAX: usize = 8;
    let mut names: Vec<&str> = known.iter().map(String::as_str).collect();
    sort_nearest_first(word, &mut names);
    match names.as_slice() {
        [] => "there is none yet; 'pyro workspace create debian:12' makes one".to_owned(),
        names if names.len() > NAMES_MAX => format!("there are {}, …; {SEE_LIST}", names[..NAMES_MAX].join(", ")),
        names => format!("there are {}", names.join(", ")),
    }
}
