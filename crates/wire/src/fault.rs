//! What the agent answers when it cannot do what it was asked.

use serde::{Deserialize, Serialize};

/// A refusal or failure inside the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// What kind of failure it is; decides the host's hint and exit code.
    pub kind: FaultKind,
    /// One line: what failed, with the path or name it failed on. Comes from the guest, so it is hostile text.
    pub message: String,
}

impl Fault {
    /// A fault of `kind` that says `message`.
    pub fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

/// The kinds of failure the agent tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The program to execute is not in the guest.
    ProgramNotFound,
    /// The program to execute is there but may not be executed.
    ProgramNotExecutable,
    /// The working directory is missing or is no directory.
    BadWorkingDirectory,
    /// An argument is out of its range or contradicts another.
    InvalidArgument,
    /// The request came in a phase in which it has no meaning (a command before the root is mounted, …).
    WrongPhase,
    /// A disk, device or kernel module that the agent needs is not there.
    DeviceMissing,
    /// A mount failed.
    Mount,
    /// A fixed limit of the agent was reached (number of commands, …).
    LimitReached,
    /// The path, process or exec that was named does not exist.
    NotFound,
    /// The path names something that the request cannot be done with: a directory, pipe or device where a file is needed,
    /// a file where a directory is.
    WrongKind,
    /// The content is longer than the request allows.
    TooLarge,
    /// The guest's disk is full.
    NoSpace,
    /// Nobody accepts connections at the port.
    ConnectionRefused,
    /// What was waited for did not become ready in its time.
    NotReady,
    /// A tool of the agent broke. The agent itself goes on.
    Defect,
    /// Another operating system error inside the guest.
    Io,
}
