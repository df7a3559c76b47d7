//! Why an operation on a workspace was not done.

use std::io;
use std::path::PathBuf;

use super::client::ClientError;
use super::diff::DiffError;
use super::machines::MachineError;
use super::seed::SeedError;
use crate::environment::EnvironmentError;
use crate::store::lock::LockError;

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
    /// It runs, where it must not.
    #[error("workspace {id} runs already")]
    Running {
        /// The workspace.
        id: String,
    },
    /// It holds changes that nobody has looked at or taken home.
    #[error("workspace {id} has {changed} changed paths that were never diffed or exported")]
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
