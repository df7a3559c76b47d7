//! What is written of everything that crossed the border between a workspace and its host: the lines of `crossings.jsonl`.
//!
//! Sizes and digests, never contents; of a secret its name, never its value. Paths of the host stand as they were given.
//! Versions as in [`super::workspace_record`]: a field that is added gets a default, a field that changes its meaning
//! gets a new version. The fixture is under `crates/store/fixtures`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The version of [`CrossingRecord`] that is written.
pub const CROSSING_RECORD_VERSION: u32 = 1;

/// A line of `crossings.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrossingRecord {
    /// Version of this format.
    pub version: u32,
    /// Its number in the workspace, from 1.
    pub sequence: u64,
    /// When, milliseconds since 1970.
    pub at_ms: u64,
    /// What crossed.
    #[serde(flatten)]
    pub crossing: Crossing,
}

/// Something that crossed the border, or was kept from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Crossing {
    /// What a workspace began with.
    Seed(CrossedFiles),
    /// Files are about to be sent into it. Without a `SyncPush` after it the push did not come to its end.
    SyncPushBegun {
        /// The path on the host.
        source: String,
        /// The directory in the guest.
        destination: String,
        /// What is to be put or removed.
        entries: u64,
        /// Bytes of content that are to be sent.
        bytes: u64,
    },
    /// Files were sent into it.
    SyncPush(CrossedFiles),
    /// Files were written to the host.
    Export(CrossedFiles),
    /// Its changes were shown, or written to the host, as a patch.
    PatchOut(CrossedPatch),
    /// A patch was put into it.
    PatchIn(CrossedPatch),
    /// A secret was given to something that runs in the guest.
    SecretGrant {
        /// Its name.
        secret: String,
        /// The variable that holds it there.
        variable: String,
        /// What it was given to: `command`, or a shell or service by its name.
        to: String,
    },
    /// A port of the guest can be reached on the host, or cannot any more.
    PortPublish {
        /// The port on the host's loopback.
        host_port: u16,
        /// The port in the guest.
        guest_port: u16,
        /// The service it is of.
        service: String,
        /// Whether it is open from now on.
        open: bool,
    },
    /// The guest spoke, or tried to speak, to somebody else.
    Connection(CrossedConnection),
    /// What the guest may reach is another than before.
    PolicyChange {
        /// What it was, in a word.
        before: String,
        /// What it is.
        after: String,
    },
    /// Programs of the guest are offered a proxy of the host's, without its credentials.
    ProxyOffer {
        /// As they are to use it.
        proxy: String,
    },
    /// Something was done because a time was over.
    TimeToLive {
        /// What was done.
        action: TimeAction,
        /// The time, in seconds.
        seconds: u64,
    },
    /// Stands for the oldest lines, which were dropped because the record was full. It has the number of the last of
    /// them.
    Dropped(CrossingSummary),
    /// Stands for what could not be written down one by one: more came at once than the disk took.
    Summed(CrossingSummary),
}

/// Files that crossed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrossedFiles {
    /// Where they came from.
    pub source: String,
    /// Where they went to.
    pub destination: String,
    /// Files, links and directories.
    pub entries: u64,
    /// What was removed there because it is not here.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub removed: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// Digest of all of it.
    pub digest: String,
}

/// A patch that crossed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrossedPatch {
    /// Where it was written to on the host; none where it was shown, or came from who asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Paths it changes.
    pub entries: u64,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256.
    pub digest: String,
}

/// A connection, a datagram's exchange or a question for a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrossedConnection {
    /// `tcp`, `udp`, `dns` or `icmp`.
    pub transport: String,
    /// The name the guest asked for, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The address; none where there was no answer for the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The port; none where there is no such thing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Bytes out of the guest.
    pub out_bytes: u64,
    /// Bytes into it.
    pub in_bytes: u64,
    /// What became of it.
    pub verdict: Verdict,
    /// The rule that said so.
    pub rule: String,
}

/// What became of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It was let through.
    Allowed,
    /// It was not.
    Refused,
    /// It was let through, and nobody answered.
    Failed,
}

/// What is done when a time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeAction {
    /// The machine was stopped for want of use.
    Stopped,
}

/// What crossed, added up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrossingSummary {
    /// How many of each kind.
    pub counts: BTreeMap<String, u64>,
    /// Bytes into the guest.
    pub in_bytes: u64,
    /// Bytes out of it.
    pub out_bytes: u64,
    /// Connections that were refused.
    pub refused_connections: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Crossing {
    /// What it is called in the record.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Seed(_) => "seed",
            Self::SyncPushBegun { .. } => "sync_push_begun",
            Self::SyncPush(_) => "sync_push",
            Self::Export(_) => "export",
            Self::PatchOut(_) => "patch_out",
            Self::PatchIn(_) => "patch_in",
            Self::SecretGrant { .. } => "secret_grant",
            Self::PortPublish { .. } => "port_publish",
            Self::Connection(_) => "connection",
            Self::PolicyChange { .. } => "policy_change",
            Self::ProxyOffer { .. } => "proxy_offer",
            Self::TimeToLive { .. } => "time_to_live",
            Self::Dropped(_) => "dropped",
            Self::Summed(_) => "summed",
        }
    }

    /// The words in it, which may come from the guest or be as long as their writer likes.
    pub fn words(&mut self) -> Vec<&mut String> {
        match self {
            Self::Seed(files) | Self::SyncPush(files) | Self::Export(files) => {
                vec![&mut files.source, &mut files.destination]
            }
            Self::SyncPushBegun { source, destination, .. } => vec![source, destination],
            Self::PatchOut(patch) | Self::PatchIn(patch) => patch.path.iter_mut().collect(),
            Self::SecretGrant { secret, variable, to } => vec![secret, variable, to],
            Self::PortPublish { service, .. } => vec![service],
            Self::Connection(CrossedConnection { transport, host, address, rule, .. }) => {
                let mut words = vec![transport, rule];
                words.extend(host.iter_mut().chain(address.iter_mut()));
                words
            }
            Self::PolicyChange { before, after } => vec![before, after],
            Self::ProxyOffer { proxy } => vec![proxy],
            Self::TimeToLive { .. } | Self::Dropped(_) | Self::Summed(_) => Vec::new(),
        }
    }
}

impl CrossingSummary {
    /// Adds one.
    pub fn add(&mut self, crossing: &Crossing) {
        let (in_bytes, out_bytes) = match crossing {
            Crossing::Dropped(more) | Crossing::Summed(more) => {
                for (kind, count) in &more.counts {
                    *self.counts.entry(kind.clone()).or_default() += count;
                }
                self.refused_connections += more.refused_connections;
                (more.in_bytes, more.out_bytes)
            }
            Crossing::Seed(files) | Crossing::SyncPush(files) => (files.bytes, 0),
            Crossing::Export(files) => (0, files.bytes),
            Crossing::PatchIn(patch) => (patch.bytes, 0),
            Crossing::PatchOut(patch) => (0, patch.bytes),
            Crossing::Connection(connection) => {
                self.refused_connections += u64::from(connection.verdict == Verdict::Refused);
                (connection.in_bytes, connection.out_bytes)
            }
            _ => (0, 0),
        };
        if !matches!(crossing, Crossing::Dropped(_) | Crossing::Summed(_)) {
            *self.counts.entry(crossing.kind().to_owned()).or_default() += 1;
        }
        self.in_bytes = self.in_bytes.saturating_add(in_bytes);
        self.out_bytes = self.out_bytes.saturating_add(out_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::{CrossingRecord, CrossingSummary};

    #[test]
    fn saved_records_stay_readable() {
        for line in include_str!("../fixtures/crossings-v1.jsonl").lines() {
            let record: CrossingRecord = serde_json::from_str(line).unwrap();
            assert_eq!(serde_json::to_string(&record).unwrap(), line);
            assert!(line.contains(&format!("\"kind\":\"{}\"", record.crossing.kind())));
        }
    }

    #[test]
    fn what_was_dropped_still_counts() {
        let mut summary = CrossingSummary::default();
        let lines = include_str!("../fixtures/crossings-v1.jsonl").lines();
        lines.for_each(|line| summary.add(&serde_json::from_str::<CrossingRecord>(line).unwrap().crossing));
        assert_eq!((summary.counts["connection"], summary.counts["seed"]), (14, 1));
        assert_eq!((summary.refused_connections, summary.in_bytes, summary.out_bytes), (5, 5961, 1545));
        assert!(!summary.counts.contains_key("dropped"));
    }
}
