//! What a client says to the supervisor of a workspace, and what it answers.
//!
//! One connection over the workspace's socket is one question. The client begins with [`ClientMessage::Ask`]; what follows
//! depends on it. A command is answered by `Started`, its bytes, and `Exited`; meanwhile the client may send standard
//! input and [`ClientMessage::Steer`] it. Everything else is answered by one message. Control messages are JSON in the frames
//! of [`pyro_wire::frame`]; bytes of a command are data frames of the exec 0. Standard input flows by credit, as in
//! [`pyro_wire::credit`], so that what steers a command never waits behind what it does not read.
//!
//! A supervisor outlives upgrades of pyro, so every question names the protocol it is asked in.

use pyro_wire::exec::{ExecRequest, Exit, TerminalSize};
use pyro_wire::{ExecId, FaultKind};
use serde::{Deserialize, Serialize};

use crate::store::workspace_record::{CommandEnded, Origin};

/// The version of this protocol. Raised whenever the meaning of any message changes.
pub const PROTOCOL_VERSION: u16 = 1;

/// The exec of all data frames of a connection: there is only one command on it.
pub const ONLY_EXEC: ExecId = ExecId(0);

/// What a client says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum ClientMessage {
    /// The question; the first message of a connection.
    Ask {
        /// The protocol it is asked in.
        protocol: u16,
        /// What is asked.
        ask: Ask,
    },
    /// Steers the command of this connection.
    Steer {
        /// How.
        steer: Steer,
    },
}

/// What can be asked of a supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// Run a command, or a tool of the agent.
    Exec(Box<ExecAsk>),
    /// Wait for the end of a command that was started before.
    Wait {
        /// Its number.
        sequence: u64,
    },
    /// Kill a command that was started before, with everything it started.
    Kill {
        /// Its number.
        sequence: u64,
    },
    /// Tell what is going on.
    Status,
    /// Give up the machine and go on with a new one on the disk as it was in the beginning.
    Reset,
    /// End the machine in an orderly way, keep its disk, and end.
    Stop {
        /// Why, for the state's record.
        reason: String,
    },
    /// End the machine at once, and end. The disk is of no more use to anyone.
    Discard,
    /// The record was changed: read it again.
    Reread,
    /// What was changed in the workspace until now was looked at or taken home; `digest` names exactly that.
    ChangesSeen {
        /// Digest of the changes.
        digest: String,
    },
}

/// A command to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecAsk {
    /// The command.
    pub request: ExecRequest,
    /// Whether it goes on when this client leaves; otherwise it is killed then.
    pub stays: bool,
    /// Who asks.
    #[serde(default)]
    pub by: Origin,
}

/// What a client can want of its running command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Steer {
    /// Send this signal to its foreground process group.
    Signal(u8),
    /// Its terminal has a new size.
    Resize(TerminalSize),
    /// Kill it with everything it started.
    Kill,
}

/// What a supervisor says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum ServerMessage {
    /// The command runs.
    Started {
        /// Its number in the workspace; tools have none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sequence: Option<u64>,
    },
    /// So many more bytes of standard input may be sent.
    Credit {
        /// Bytes given back.
        bytes: u32,
    },
    /// The command ended; all it had printed was sent before.
    Exited {
        /// How.
        exit: Exit,
        /// How long it ran, in milliseconds.
        duration_ms: u64,
    },
    /// Answers `Wait`.
    Ended {
        /// How the command ended.
        ended: CommandEnded,
    },
    /// Answers `Status`.
    Status {
        /// What is going on.
        status: LiveStatus,
    },
    /// What was asked is done.
    Done,
    /// What was asked is not done.
    Refused {
        /// Why.
        refusal: Refusal,
    },
}

/// What is going on in a workspace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveStatus {
    /// Numbers of the commands that run.
    pub running: Vec<u64>,
    /// Milliseconds since it was last used; 0 while it is.
    pub idle_ms: u64,
    /// Since this machine was started, in milliseconds.
    pub uptime_ms: u64,
}

/// Why something is not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What kind of reason it is.
    pub kind: RefusalKind,
    /// In words; may come from the guest.
    pub message: String,
}

/// The kinds of reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalKind {
    /// The question is in a protocol that this supervisor does not speak, or in none.
    Protocol,
    /// The workspace is just being stopped or reset.
    Phase,
    /// There is no such command.
    NotFound,
    /// The guest refused, or failed.
    Fault(FaultKind),
    /// The machine was lost.
    MachineLost,
    /// The host failed: a disk is full, a machine did not start.
    Host,
}

impl Refusal {
    /// A refusal of `kind` in these words.
    pub fn new(kind: RefusalKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

/// The first and only line that a supervisor prints: it lives from then on by itself, or it failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum Birth {
    /// A stage of its start, for the progress of whoever waits.
    Stage {
        /// Its name.
        name: String,
    },
    /// A line its user should see.
    Note {
        /// The line.
        text: String,
    },
    /// The machine takes commands.
    Running,
    /// It did not come to life; nothing of it is left.
    Failed {
        /// What kind of failure: the `code` of the failure's public form.
        code: String,
        /// What failed, and why.
        message: String,
        /// What to do next.
        hint: Option<String>,
        /// The last lines of the guest's console.
        console: String,
    },
}

#[cfg(test)]
mod tests {
    use pyro_wire::exec::Exit;
    use serde::Serialize;
    use serde::de::DeserializeOwned;

    use super::{Ask, Birth, ClientMessage, LiveStatus, Refusal, RefusalKind, ServerMessage, Steer};

    /// An upgraded client meets an old supervisor: these words stay what they are as long as the version does.
    #[track_caller]
    fn check<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(message: T, json: &str) {
        assert_eq!(serde_json::to_string(&message).unwrap(), json);
        assert_eq!(serde_json::from_str::<T>(json).unwrap(), message);
    }

    #[test]
    fn the_words_are_fixed() {
        let ask = |ask| ClientMessage::Ask { protocol: 1, ask };
        check(ask(Ask::Status), r#"{"type":"ask","protocol":1,"ask":"status"}"#);
        check(ask(Ask::Wait { sequence: 7 }), r#"{"type":"ask","protocol":1,"ask":{"wait":{"sequence":7}}}"#);
        let stop = Ask::Stop { reason: "asked for".to_owned() };
        check(ask(stop), r#"{"type":"ask","protocol":1,"ask":{"stop":{"reason":"asked for"}}}"#);
        check(ClientMessage::Steer { steer: Steer::Signal(2) }, r#"{"type":"steer","steer":{"signal":2}}"#);
        check(ServerMessage::Started { sequence: Some(3) }, r#"{"type":"started","sequence":3}"#);
        let exited = ServerMessage::Exited { exit: Exit::Code(1), duration_ms: 5 };
        check(exited, r#"{"type":"exited","exit":{"code":1},"duration_ms":5}"#);
        let status = LiveStatus { running: vec![3], idle_ms: 0, uptime_ms: 10 };
        let json = r#"{"type":"status","status":{"running":[3],"idle_ms":0,"uptime_ms":10}}"#;
        check(ServerMessage::Status { status }, json);
        let refusal = Refusal::new(RefusalKind::Phase, "is being stopped");
        let json = r#"{"type":"refused","refusal":{"kind":"phase","message":"is being stopped"}}"#;
        check(ServerMessage::Refused { refusal }, json);
        check(Birth::Running, r#"{"type":"running"}"#);
    }
}
