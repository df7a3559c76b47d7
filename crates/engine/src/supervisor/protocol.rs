//! What a client says to the supervisor of a workspace, and what it answers.
//!
//! One connection over the workspace's socket is one question. The client begins with [`ClientMessage::Ask`]; what follows
//! depends on it. A command is answered by `Started`, its bytes, and `Exited`; meanwhile the client may send standard
//! input and [`ClientMessage::Steer`] it. Everything else is answered by one message. Control messages are JSON in the frames
//! of [`pyro_wire::frame`]; bytes of a command are data frames of the exec 0. Standard input flows by credit, as in
//! [`pyro_wire::credit`], so that what steers a command never waits behind what it does not read.
//!
//! A supervisor outlives upgrades of pyro, so every question names the protocol it is asked in.

use std::collections::BTreeMap;

use pyro_wire::exec::{ExecRequest, Exit, TerminalSize};
use pyro_wire::ready::Probe;
use pyro_wire::{ExecId, FaultKind};
use serde::{Deserialize, Serialize};

use super::shell_protocol::{ShellAnswer, ShellAsk, ShellDenial};
use crate::store::disk_record::SnapshotRecord;
use crate::store::service_record::{PortPair, ServiceRecord};
use crate::store::shell_record::ShellId;
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
    /// Give up the machine and go on with a new one on the disk as it was when this snapshot was taken.
    Reset {
        /// Its name.
        snapshot: String,
    },
    /// Take a snapshot of the disk.
    TakeSnapshot {
        /// What to call it.
        name: String,
    },
    /// Forget a snapshot.
    ForgetSnapshot {
        /// Its name.
        name: String,
    },
    /// End the machine in an orderly way, keep its disk, and end.
    Stop {
        /// Why, for the state's record.
        reason: String,
    },
    /// End the machine at once, and end. The disk is of no more use to anyone.
    Discard,
    /// The record was changed: read it again.
    Reread,
    /// Look for the workspace's secrets in what this client sends as standard input, item by item: each ends with an empty
    /// data frame, and is answered by `Looked`.
    Look {
        /// Whether each item comes back without them, as data before its answer.
        cut: bool,
    },
    /// Something of a shell, or of all of them.
    Shell(ShellAsk),
    /// Start a service, and answer when it is ready or will not be, at the latest after its `wait_ms`.
    ServiceStart(Box<ServiceAsk>),
    /// End a service that was started before.
    ServiceStop {
        /// Its name.
        name: String,
    },
    /// End a service, if it runs, and start it as it was started before.
    ServiceRestart {
        /// Its name.
        name: String,
        /// As in [`ServiceAsk`].
        wait_ms: u64,
    },
    /// Tell of all services.
    Services,
    /// Publish a port of the guest on the loopback of this host.
    PortAdd(PortAsk),
    /// End that, and the connections through it.
    PortRemove {
        /// The port of this host.
        host: u16,
    },
    /// Tell of all published ports.
    Ports,
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
    /// Secrets that it gets, each by the name of the variable that is to hold it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secret_env: BTreeMap<String, String>,
}

/// A service to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceAsk {
    /// Its name, unique in the workspace.
    pub name: String,
    /// Its command.
    pub request: ExecRequest,
    /// How its readiness is seen; without it, it is ready when its process exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<ReadyAsk>,
    /// Ports that are published as long as it is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<PortAsk>,
    /// Whether it is started again with its workspace.
    #[serde(default)]
    pub restart_on_start: bool,
    /// After this long the answer is that it is starting.
    pub wait_ms: u64,
    /// Who asks.
    #[serde(default)]
    pub by: Origin,
    /// Secrets that it gets, each by the name of the variable that is to hold it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secret_env: BTreeMap<String, String>,
}

/// How the readiness of a service is seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadyAsk {
    /// What is looked at.
    pub by: ReadyBy,
    /// A service that is not ready after this long is ended.
    pub timeout_ms: u64,
    /// Between two looks.
    pub interval_ms: u64,
}

/// What is looked at to see whether a service is ready. All of it in the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadyBy {
    /// A file, a port, a web page.
    Probe(Probe),
    /// A shell line succeeds, in the directory and with the variables of the service.
    Command(String),
}

/// A port to publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortAsk {
    /// The port of the guest.
    pub guest: u16,
    /// The port of this host; none for one that is free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<u16>,
}

/// A port that is published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    /// Which, and where it leads.
    pub pair: PortPair,
    /// The service that it is of, if it is of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Connections through it now.
    pub connections: u64,
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
    /// Answers an item of `Look`.
    Looked {
        /// Names of the secrets that are in it.
        found: Vec<String>,
    },
    /// Answers what was asked of a shell.
    Shell {
        /// The answer.
        answer: ShellAnswer,
    },
    /// Answers `TakeSnapshot`.
    Snapshot {
        /// What was taken.
        snapshot: SnapshotRecord,
    },
    /// Answers `Reset`.
    WasReset {
        /// What ended with the machine that was given up.
        ended: Ended,
    },
    /// Answers what starts or ends a service.
    Service {
        /// What it is now.
        service: Box<ServiceRecord>,
    },
    /// Answers `Services`.
    Services {
        /// All of them, by name.
        services: Vec<ServiceRecord>,
    },
    /// Answers `PortAdd`.
    Port {
        /// What was published.
        pair: PortPair,
    },
    /// Answers `Ports`.
    Ports {
        /// All of them, by port of the host.
        ports: Vec<PublishedPort>,
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
    /// Shells that run.
    #[serde(default)]
    pub shells: Vec<ShellId>,
    /// Names of the services that run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<String>,
    /// Milliseconds since it was last used; 0 while it is.
    pub idle_ms: u64,
    /// Since this machine was started, in milliseconds.
    pub uptime_ms: u64,
    /// Names of the secrets that the supervisor knows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// Why the guest stands still, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stalled: Option<String>,
    /// Its network, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<LiveNetwork>,
}

/// What is going on in a machine's network, since the machine was started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveNetwork {
    /// Connections and UDP conversations that are open.
    pub open: u64,
    /// Those that were begun.
    pub begun: u64,
    /// Those that were allowed and failed.
    pub failed: u64,
    /// What was refused, questions for names included.
    pub refused: u64,
    /// Questions for names.
    pub questions: u64,
    /// Bytes that the guest sent.
    pub sent_bytes: u64,
    /// Bytes that it received.
    pub received_bytes: u64,
    /// Frames of the guest that made no sense.
    pub dropped_frames: u64,
    /// Why it is closed, if it met a defect of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// The last refusals, one for each destination, the newest at the end.
    pub refusals: Vec<NetworkRefusal>,
}

/// Something that a guest wanted to reach and may not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRefusal {
    /// When it was refused last, in milliseconds since 1970.
    pub at_ms: u64,
    /// `tcp`, `udp` or `dns`.
    pub protocol: String,
    /// What it wanted to reach.
    pub to: String,
    /// The rule that refused it.
    pub rule: String,
    /// The rule that would let it through, where there is one to advise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opened_by: Option<String>,
}

/// What ended with a machine that was given up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Numbers of the commands that ran in it.
    pub commands: Vec<u64>,
    /// The shells that were open in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shells: Vec<ShellId>,
    /// The services that ran in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<String>,
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
    /// There is no such secret, or the supervisor does not know it any more.
    Secret,
    /// A shell cannot do that.
    Shell(ShellDenial),
    /// There is no such snapshot, there is one already, or there can be no more.
    Snapshot,
    /// The guest stands still: the host cannot write its disk.
    Stalled,
    /// The guest does not do what it is asked in time.
    Unresponsive,
    /// There is no such service.
    NoService,
    /// There is such a service, and it runs.
    ServiceRuns,
    /// The service cannot be started again: nothing is known of how it was started.
    ServiceForgotten,
    /// No such port is published.
    NoPort,
    /// Somebody else listens at this port of the host.
    PortTaken(u16),
    /// The host does not let this user listen at this port.
    PortDenied(u16),
    /// The workspace's policy lets no port be published.
    PublishDenied,
    /// There are as many as there may be.
    LimitReached,
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
    use pyro_wire::exec::{ExecRequest, Exit, Program};
    use pyro_wire::ready::Probe;
    use serde::Serialize;
    use serde::de::DeserializeOwned;

    use super::{
        Ask, Birth, ClientMessage, Ended, LiveStatus, PortAsk, PublishedPort, ReadyAsk, ReadyBy, Refusal, RefusalKind,
        ServerMessage, ServiceAsk, ShellId, Steer,
    };
    use crate::store::service_record::PortPair;
    use crate::store::workspace_record::Origin;

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
        check(ask(Ask::Look { cut: true }), r#"{"type":"ask","protocol":1,"ask":{"look":{"cut":true}}}"#);
        let found = vec!["TOKEN".to_owned()];
        check(ServerMessage::Looked { found }, r#"{"type":"looked","found":["TOKEN"]}"#);
        let reset = Ask::Reset { snapshot: "baseline".to_owned() };
        check(ask(reset), r#"{"type":"ask","protocol":1,"ask":{"reset":{"snapshot":"baseline"}}}"#);
        let json = r#"{"type":"was_reset","ended":{"commands":[3]}}"#;
        check(ServerMessage::WasReset { ended: Ended { commands: vec![3], ..Ended::default() } }, json);
        check(ClientMessage::Steer { steer: Steer::Signal(2) }, r#"{"type":"steer","steer":{"signal":2}}"#);
        check(ServerMessage::Started { sequence: Some(3) }, r#"{"type":"started","sequence":3}"#);
        let exited = ServerMessage::Exited { exit: Exit::Code(1), duration_ms: 5 };
        check(exited, r#"{"type":"exited","exit":{"code":1},"duration_ms":5}"#);
        let (shells, services) = (vec![ShellId(1)], vec!["web".to_owned()]);
        let live = LiveStatus { running: vec![3], shells, services, ..LiveStatus::default() };
        let status = LiveStatus { idle_ms: 0, uptime_ms: 10, ..live };
        let json =
            r#"{"type":"status","status":{"running":[3],"shells":[1],"services":["web"],"idle_ms":0,"uptime_ms":10}}"#;
        check(ServerMessage::Status { status }, json);
        let start = ServiceAsk {
            name: "web".to_owned(),
            request: ExecRequest {
                program: Program::Argv(vec!["true".into()]),
                env: [("A".to_owned(), "b".into())].into(),
                cwd: "/".into(),
                stdin: false,
                terminal: None,
                timeout_ms: None,
                whole: true,
            },
            ready: Some(ReadyAsk {
                by: ReadyBy::Probe(Probe::Http("http://localhost/".to_owned())),
                timeout_ms: 1,
                interval_ms: 2,
            }),
            publish: vec![PortAsk { guest: 80, host: None }],
            restart_on_start: false,
            wait_ms: 3,
            by: Origin::default(),
            secret_env: std::collections::BTreeMap::new(),
        };
        let json = r#"{"type":"ask","protocol":1,"ask":{"service_start":{"name":"web","request":{"program":{"argv":["true"]},"env":{"A":"b"},"cwd":"/","stdin":false,"whole":true},"ready":{"by":{"probe":{"http":"http://localhost/"}},"timeout_ms":1,"interval_ms":2},"publish":[{"guest":80}],"restart_on_start":false,"wait_ms":3,"by":{}}}}"#;
        check(ask(Ask::ServiceStart(Box::new(start))), json);
        let ports = vec![PublishedPort { pair: PortPair { host: 1, guest: 2 }, service: None, connections: 3 }];
        let json = r#"{"type":"ports","ports":[{"pair":{"host":1,"guest":2},"connections":3}]}"#;
        check(ServerMessage::Ports { ports }, json);
        let refusal = Refusal::new(RefusalKind::PortTaken(80), "is taken");
        let json = r#"{"type":"refused","refusal":{"kind":{"port_taken":80},"message":"is taken"}}"#;
        check(ServerMessage::Refused { refusal }, json);
        let refusal = Refusal::new(RefusalKind::Phase, "is being stopped");
        let json = r#"{"type":"refused","refusal":{"kind":"phase","message":"is being stopped"}}"#;
        check(ServerMessage::Refused { refusal }, json);
        check(Birth::Running, r#"{"type":"running"}"#);
    }
}
