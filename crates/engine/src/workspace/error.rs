//! Why an operation on a workspace was not done.

use std::io;
use std::path::PathBuf;

use super::client::ClientError;
use super::diff::DiffError;
use super::machines::MachineError;
use super::network::NetworkError;
use super::ports::PortHolder;
use super::seed::SeedError;
use crate::environment::EnvironmentError;
use crate::store::disk_record::SnapshotError;
use crate::store::lock::LockError;
use crate::store::service_record::ServiceRecord;
use crate::store::shell_record::ShellId;
use crate::store::workspace_record::RemovedWorkspace;
use crate::supervisor::guest_link::LinkError;

/// Why an operation on a workspace was not done.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// There is no such workspace.
    #[error("there is no workspace '{word}'")]
    NotFound {
        /// What was asked for.
        word: String,
        /// What they are called.
        known: Vec<String>,
    },
    /// It was stopped for too long, and is removed.
    #[error("workspace '{word}' is removed: it had been stopped for {} days", removed.days_stopped())]
    Removed {
        /// What was asked for.
        word: String,
        /// What is remembered of it.
        removed: RemovedWorkspace,
    },
    /// There are more of them.
    #[error("'{word}' is the beginning of more than one workspace's id")]
    Ambiguous {
        /// What was asked for.
        word: String,
        /// Their ids.
        matches: Vec<String>,
    },
    /// Another workspace has that name.
    #[error("workspace {id} is called '{name}' already")]
    NameTaken {
        /// The name.
        name: String,
        /// Whose it is.
        id: String,
    },
    /// A value is out of its range.
    #[error("{what} is '{value}', expected {expected}")]
    BadValue {
        /// Which value.
        what: &'static str,
        /// What it is.
        value: String,
        /// What it may be.
        expected: String,
    },
    /// There is no such service.
    #[error("workspace {id} has no service '{name}'")]
    NoService {
        /// The workspace.
        id: String,
        /// What was asked for.
        name: String,
        /// What they are called.
        known: Vec<String>,
    },
    /// A service did not become ready, and does not run any more.
    #[error("service {} did not become ready", service.name)]
    ServiceNotReady {
        /// The workspace.
        id: String,
        /// What became of it.
        service: Box<ServiceRecord>,
        /// What it printed last; from the guest.
        last_lines: Vec<u8>,
    },
    /// Somebody listens at a port of this host.
    #[error("port {port} of this host is in use")]
    PortTaken {
        /// The port.
        port: u16,
        /// Who.
        holder: PortHolder,
    },
    /// The host's memory would not hold its machine.
    #[error("this host has {available_mib} MiB of memory left, the machine needs {needed_mib} MiB")]
    NoMemory {
        /// What is left.
        available_mib: u64,
        /// What it needs, the hypervisor's own included.
        needed_mib: u64,
    },
    /// It is being made.
    #[error("workspace {id} is still being made")]
    Creating {
        /// The workspace.
        id: String,
    },
    /// It is stopped.
    #[error("workspace {id} is stopped{}", clause(reason.as_deref()))]
    Stopped {
        /// The workspace.
        id: String,
        /// Why.
        reason: Option<String>,
    },
    /// It failed.
    #[error("workspace {id} has no machine{}", clause(reason.as_deref()))]
    Failed {
        /// The workspace.
        id: String,
        /// Why.
        reason: Option<String>,
    },
    /// It runs, and so its disk changes.
    #[error("workspace {id} runs, and its disk is in use")]
    DiskInUse {
        /// The workspace.
        id: String,
    },
    /// Its disk may hold what it was given in confidence.
    #[error("the disk of workspace {id} may hold its secrets ({}), and nobody who knows them is there to cut them out", names.join(", "))]
    SecretsOnDisk {
        /// The workspace.
        id: String,
        /// Names of the secrets.
        names: Vec<String>,
    },
    /// What is to be written is there already.
    #[error("{output} is there already")]
    OutputExists {
        /// Where it was to be written.
        output: String,
    },
    /// Its guest did not leave the disk as it should.
    #[error("the guest of workspace {id} did not leave the disk clean")]
    DiskNotClean {
        /// The workspace.
        id: String,
        /// What was seen of it.
        #[source]
        source: LinkError,
    },
    /// It runs, where it must not.
    #[error("workspace {id} runs already")]
    Running {
        /// The workspace.
        id: String,
    },
    /// Something is wrong with a snapshot of it.
    #[error("workspace {id}: {error}")]
    Snapshot {
        /// The workspace.
        id: String,
        /// What is wrong.
        error: SnapshotError,
    },
    /// It holds changes that nobody has looked at or taken home.
    #[error("workspace {id} has {changed} changed {} that were never diffed or exported", if *changed == 1 { "path" } else { "paths" })]
    UnseenChanges {
        /// The workspace.
        id: String,
        /// How many files differ.
        changed: usize,
    },
    /// It cannot be known whether it holds such changes.
    #[error("workspace {id} does not run, so its changes cannot be looked at")]
    UnknownChanges {
        /// The workspace.
        id: String,
    },
    /// Its environment is another one now.
    #[error(
        "the environment {environment} was made again since workspace {id} was, and its disk does not fit any more"
    )]
    EnvironmentChanged {
        /// The workspace.
        id: String,
        /// The environment.
        environment: String,
    },
    /// Its supervisor does not end.
    #[error("the supervisor of workspace {id} does not end")]
    Stuck {
        /// The workspace.
        id: String,
    },
    /// Its supervisor did not come to life.
    #[error("{message}")]
    Birth {
        /// What kind of failure, as the public form of failures names it.
        code: String,
        /// What failed, and why.
        message: String,
        /// What to do next.
        hint: Option<String>,
        /// The last lines of the guest's console.
        console: String,
    },
    /// Its supervisor ended without a word.
    #[error("the supervisor of workspace {id} ended without a word; its log is {}", log.display())]
    StillBorn {
        /// The workspace.
        id: String,
        /// Where it wrote what it had to say.
        log: PathBuf,
    },
    /// Whoever made it went away before it ran.
    #[error("whoever made workspace {id} went away before it ran")]
    MakerGone {
        /// The workspace.
        id: String,
    },
    /// There is no such command.
    #[error("no command {sequence} was run in workspace {id}")]
    NoCommand {
        /// The workspace.
        id: String,
        /// The command's number.
        sequence: u64,
    },
    /// There is no such shell.
    #[error("there is no shell {shell} in workspace {id}")]
    NoShell {
        /// The workspace.
        id: String,
        /// The shell.
        shell: ShellId,
        /// Those there are.
        known: Vec<ShellId>,
    },
    /// A shell's screen went with its machine.
    #[error("the screen of shell {shell} went with the machine of workspace {id}")]
    NoScreen {
        /// The workspace.
        id: String,
        /// The shell.
        shell: ShellId,
    },
    /// What a command printed is not kept any more.
    #[error("what command {sequence} of workspace {id} printed is not kept any more")]
    OutputDropped {
        /// The workspace.
        id: String,
        /// The command's number.
        sequence: u64,
    },
    /// A file of it cannot be read or written.
    #[error("cannot {what} {}", path.display())]
    File {
        /// What was being done.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A lock of it cannot be had.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// It cannot begin with what it is to begin with.
    #[error(transparent)]
    Seed(#[from] SeedError),
    /// Its environment cannot be used.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// Its machine did not start.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// What its guest is to reach makes no sense.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// Its changes cannot be looked at.
    #[error(transparent)]
    Diff(#[from] DiffError),
    /// Its supervisor did not do what it was asked.
    #[error(transparent)]
    Client(#[from] ClientError),
}

fn clause(reason: Option<&str>) -> String {
    reason.map_or_else(String::new, |reason| format!(": {reason}"))
}
