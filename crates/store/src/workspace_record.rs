//! What is written of a workspace, and read back by later versions of pyro.
//!
//! The record says what the workspace is and changes when its user changes it; the state says where it is in its life and
//! is its supervisor's; commands are only ever added. Versions as in [`super::environment_record`]: a field that is added
//! gets a default, a field that changes its meaning gets a new version. The fixtures are under `crates/store/fixtures`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::disk_record::DiskRecord;

/// The version of [`WorkspaceRecord`] and [`StateRecord`] that is written.
pub const WORKSPACE_RECORD_VERSION: u32 = 1;

/// `workspace.json`: what a workspace is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkspaceRecord {
    /// Version of this format.
    pub version: u32,
    /// 12 lower-case hex digits.
    pub id: String,
    /// What its user calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What its user noted on it.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Name of its environment.
    pub environment: String,
    /// Names exactly that environment: its disk is of no use over another one.
    pub environment_digest: String,
    /// Virtual processors.
    pub vcpu_count: u32,
    /// Memory in MiB.
    pub mem_mib: u32,
    /// Size of the disk in GiB.
    pub disk_gib: u32,
    /// Seconds without use after which it is stopped.
    pub ttl_seconds: u64,
    /// When it was made, seconds since 1970.
    pub created_at_seconds: u64,
    /// Who made it, as far as that is known.
    #[serde(default)]
    pub made_by: Origin,
    /// What it began with, if with anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<SeedRecord>,
    /// Names of its secrets; their values are written nowhere.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub secrets: BTreeSet<String>,
    /// What its guest may reach.
    #[serde(default, skip_serializing_if = "NetworkRecord::is_off")]
    pub network: NetworkRecord,
}

/// What a guest may reach.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRecord {
    /// In a word.
    pub policy: NetworkPolicy,
    /// Hosts, or ports of them, that are reachable wherever they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_hosts: Vec<String>,
    /// The only domains that are reachable besides those, if there are any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_domains: Vec<String>,
    /// The host's proxy, if its programs are offered it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<ProxyRecord>,
}

/// The host's proxy as the programs of a guest are to use it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyRecord {
    /// For what is asked for by `http://`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// For what is asked for by `https://`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub https: Option<String>,
    /// What is reached without it.
    pub no_proxy: String,
    /// Whether the host uses it with credentials, which were not handed over.
    #[serde(default, skip_serializing_if = "is_false")]
    pub without_credentials: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl ProxyRecord {
    /// The variables that programs look for, in both ways in which they are written.
    #[must_use]
    pub fn variables(&self) -> BTreeMap<String, String> {
        let named =
            [("http_proxy", &self.http), ("https_proxy", &self.https), ("no_proxy", &Some(self.no_proxy.clone()))];
        let set = named.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
        set.flat_map(|(name, value)| [(name.to_owned(), value.clone()), (name.to_ascii_uppercase(), value)]).collect()
    }
}

/// What a guest may reach, in a word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkPolicy {
    /// Nothing: its machine has no network device.
    #[default]
    #[serde(rename = "off")]
    Off,
    /// What is public, and what was named.
    #[serde(rename = "egress")]
    Egress,
    /// The same, and its own ports may be published on the host's loopback.
    #[serde(rename = "egress+published-ports")]
    EgressAndPublishedPorts,
}

impl NetworkRecord {
    /// Whether there is no network.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.policy == NetworkPolicy::Off
    }
}

impl fmt::Display for NetworkRecord {
    /// In a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.policy.name())?;
        if !self.allow_domains.is_empty() {
            write!(f, ", only {}", self.allow_domains.join(", "))?;
        }
        if !self.allow_hosts.is_empty() {
            write!(f, ", also {}", self.allow_hosts.join(", "))?;
        }
        if self.proxy.is_some() { f.write_str(", a proxy is offered") } else { Ok(()) }
    }
}

impl NetworkPolicy {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Off, Self::Egress, Self::EgressAndPublishedPorts];

    /// `off`, `egress` or `egress+published-ports`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Egress => "egress",
            Self::EgressAndPublishedPorts => "egress+published-ports",
        }
    }

    /// Whether ports of the guest may be published.
    #[must_use]
    pub fn may_publish(self) -> bool {
        self == Self::EgressAndPublishedPorts
    }
}

/// Who asked for something: a chat host and its session, or a person at a terminal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Name of the chat host, such as `claude-code`; none for the command line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Its session, as far as it tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
}

/// What a workspace began with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeedRecord {
    /// The path on the host.
    pub source: String,
    /// Files, links and directories.
    pub entries: u64,
    /// Bytes in the files.
    pub bytes: u64,
    /// Digest of all of it.
    pub digest: String,
}

/// `state.json`: where a workspace is in its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateRecord {
    /// Version of this format.
    pub version: u32,
    /// The phase.
    pub phase: WorkspacePhase,
    /// Since when, seconds since 1970.
    pub since_seconds: u64,
    /// Why it is in this phase, where that needs a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The disk and its snapshots.
    pub disk: DiskRecord,
    /// When it was last used, seconds since 1970.
    pub used_at_seconds: u64,
    /// How often it was reset.
    #[serde(default)]
    pub reset_count: u64,
    /// When it was last reset, seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset_at_seconds: Option<u64>,
    /// Digest of the changes that were last looked at (diff) or taken home (export): what differs from it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes_seen: Option<String>,
    /// What the machine runs on, `kvm` or `tcg`, while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerator: Option<String>,
    /// The supervisor, for people only; the lock says whether it lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supervisor_pid: Option<u32>,
    /// The hypervisor, for people and measurements only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_pid: Option<u32>,
}

/// A line of `removed.jsonl`: a workspace that was removed without anybody's asking, as it had been stopped for too long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedWorkspace {
    /// Its id.
    pub id: String,
    /// What its user called it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Name of its environment.
    pub environment: String,
    /// When it was stopped, seconds since 1970.
    pub stopped_at_seconds: u64,
    /// When it was removed, seconds since 1970.
    pub removed_at_seconds: u64,
}

impl RemovedWorkspace {
    /// For how many days it was stopped.
    #[must_use]
    pub fn days_stopped(&self) -> u64 {
        self.removed_at_seconds.saturating_sub(self.stopped_at_seconds) / 86_400
    }
}

/// A phase of a workspace's life: `creating → running ⇄ stopped`, `failed` from anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkspacePhase {
    /// Being made; without a living maker it is rubbish.
    Creating,
    /// Its machine takes commands.
    Running,
    /// It has no machine; its disk is kept.
    Stopped,
    /// Its machine did not start, or was lost. Its disk is kept.
    Failed,
}

/// A line of `commands.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum CommandEntry {
    /// A command was started.
    Started(CommandStarted),
    /// It ended.
    Ended(CommandEnded),
}

/// A command that was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandStarted {
    /// Its number in the workspace, from 1.
    pub sequence: u64,
    /// Program and arguments, made readable where they are no text.
    pub argv: Vec<String>,
    /// Its working directory.
    pub cwd: String,
    /// When, milliseconds since 1970.
    pub at_ms: u64,
    /// Who asked for it.
    #[serde(default)]
    pub by: Origin,
}

/// A command that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandEnded {
    /// Its number.
    pub sequence: u64,
    /// How.
    pub end: CommandEndRecord,
    /// How long it ran, in milliseconds.
    pub duration_ms: u64,
    /// Bytes it printed, all of them.
    pub output_bytes: u64,
    /// Bytes of them that are kept.
    pub kept_bytes: u64,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandEndRecord {
    /// It exited with this code.
    Exited(u8),
    /// This signal ended it.
    Signaled(u8),
    /// It ran past its time limit.
    TimedOut,
    /// It was killed: asked for, or because nobody was left who waited for it.
    Killed,
    /// Its machine ended under it.
    Lost,
}

#[cfg(test)]
mod tests {
    use serde::Serialize;
    use serde::de::DeserializeOwned;

    use super::{CommandEntry, RemovedWorkspace, StateRecord, WorkspaceRecord};

    /// What an earlier pyro wrote is read, and written again as it was.
    #[track_caller]
    fn check<T: Serialize + DeserializeOwned>(text: &str) {
        let record: T = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string_pretty(&record).unwrap(), text.trim_end());
    }

    #[test]
    fn saved_records_stay_readable() {
        check::<WorkspaceRecord>(include_str!("../fixtures/workspace-v1.json"));
        check::<StateRecord>(include_str!("../fixtures/state-v1.json"));
        let line =
            r#"{"id":"0123456789ab","name":"fix","environment":"e","stopped_at_seconds":1,"removed_at_seconds":2}"#;
        let removed: RemovedWorkspace = serde_json::from_str(line).unwrap();
        assert_eq!(serde_json::to_string(&removed).unwrap(), line);
        for line in include_str!("../fixtures/commands-v1.jsonl").lines() {
            let entry: CommandEntry = serde_json::from_str(line).unwrap();
            assert_eq!(serde_json::to_string(&entry).unwrap(), line);
        }
    }
}
