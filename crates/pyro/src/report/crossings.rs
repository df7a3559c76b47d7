//! The public shapes of crossings: one by one, and added up.

use std::collections::BTreeMap;

use pyro_engine::store::crossing_record::{
    CrossedConnection, CrossedFiles, CrossedPatch, Crossing, CrossingRecord, CrossingSummary, TimeAction, Verdict,
};
use serde::Serialize;

use super::clean::one_line;
use super::env::Moment;
use super::{Report, units};

/// Hex digits of a digest that a line shows.
const DIGEST_DIGITS: usize = 12;

/// What crossed the border of a workspace.
#[derive(Debug, Serialize)]
pub(crate) struct CrossingList {
    pub(crate) workspace: String,
    pub(crate) crossings: Vec<CrossingRow>,
}

/// One crossing.
#[derive(Debug, Serialize)]
pub(crate) struct CrossingRow {
    /// Its number in the workspace.
    sequence: u64,
    at: Moment,
    /// Its kind, and what belongs to that: as it is written in the workspace's record.
    #[serde(flatten)]
    crossing: Crossing,
}

impl From<CrossingRecord> for CrossingRow {
    fn from(record: CrossingRecord) -> Self {
        Self { sequence: record.sequence, at: Moment(record.at_ms / 1000), crossing: record.crossing }
    }
}

impl CrossingRow {
    /// The crossing in one line, without a line break.
    pub(crate) fn line(&self) -> String {
        let at = String::from(self.at);
        format!("{:>5}  {at}  {:<13}  {}", self.sequence, self.kind(), self.words())
    }

    fn kind(&self) -> &'static str {
        match self.crossing {
            Crossing::SyncPushBegun { .. } => "push begun",
            Crossing::SyncPush(_) => "push",
            Crossing::PatchOut(_) => "patch out",
            Crossing::PatchIn(_) => "patch in",
            Crossing::SecretGrant { .. } => "secret",
            Crossing::PortPublish { .. } => "port",
            Crossing::PolicyChange { .. } => "policy",
            Crossing::ProxyOffer { .. } => "proxy",
            Crossing::TimeToLive { .. } => "time to live",
            _ => self.crossing.kind(),
        }
    }

    fn words(&self) -> String {
        match &self.crossing {
            Crossing::Seed(files) | Crossing::SyncPush(files) | Crossing::Export(files) => files_words(files),
            Crossing::SyncPushBegun { source, destination, entries, bytes } => {
                format!("{}: {entries} to change, {}", way(source, destination), units::size(*bytes))
            }
            Crossing::PatchOut(patch) => patch_words("shown", patch),
            Crossing::PatchIn(patch) => patch_words("applied", patch),
            Crossing::SecretGrant { secret, variable, to } => {
                format!("{} as ${} for a {}", one_line(secret), one_line(variable), one_line(to))
            }
            Crossing::PortPublish { host_port, guest_port, service, open } => {
                let state = if *open { "open" } else { "closed" };
                format!("host {host_port} -> guest {guest_port} of {}: {state}", one_line(service))
            }
            Crossing::Connection(connection) => connection_words(connection),
            Crossing::PolicyChange { before, after } => format!("{} -> {}", one_line(before), one_line(after)),
            Crossing::ProxyOffer { proxy } => format!("{} is offered to the guest", one_line(proxy)),
            Crossing::TimeToLive { action: TimeAction::Stopped, seconds } => {
                format!("stopped after {seconds} s without use")
            }
            Crossing::Dropped(summary) => format!("the record was full; before this: {}", summary_words(summary)),
            Crossing::Summed(summary) => format!("more than could be written down: {}", summary_words(summary)),
        }
    }
}

impl Report for CrossingList {
    fn text(&self, _: bool) -> String {
        if self.crossings.is_empty() {
            return "nothing crossed the border of this workspace\n".to_owned();
        }
        self.crossings.iter().map(|row| row.line() + "\n").collect()
    }
}

/// What crossed, added up.
#[derive(Debug, Serialize)]
pub(crate) struct CrossingTotals {
    /// How many of each kind.
    counts: BTreeMap<String, u64>,
    /// Bytes into the guest.
    in_bytes: u64,
    /// Bytes out of it.
    out_bytes: u64,
    /// Connections that were refused.
    refused_connections: u64,
}

impl From<CrossingSummary> for CrossingTotals {
    fn from(CrossingSummary { counts, in_bytes, out_bytes, refused_connections }: CrossingSummary) -> Self {
        Self { counts, in_bytes, out_bytes, refused_connections }
    }
}

impl CrossingTotals {
    /// In one line; none where nothing crossed.
    pub(crate) fn line(&self) -> Option<String> {
        let Self { counts, in_bytes, out_bytes, refused_connections } = self;
        let summary = CrossingSummary {
            counts: counts.clone(),
            in_bytes: *in_bytes,
            out_bytes: *out_bytes,
            refused_connections: *refused_connections,
        };
        (!counts.is_empty()).then(|| summary_words(&summary))
    }
}

fn summary_words(summary: &CrossingSummary) -> String {
    let CrossingSummary { counts, in_bytes, out_bytes, refused_connections } = summary;
    let mut words: Vec<String> =
        counts.iter().map(|(kind, count)| format!("{count} {}", one_line(kind).replace('_', " "))).collect();
    words.push(format!("{} in, {} out", units::size(*in_bytes), units::size(*out_bytes)));
    if *refused_connections > 0 {
        words.push(format!("{refused_connections} refused"));
    }
    words.join(", ")
}

fn files_words(files: &CrossedFiles) -> String {
    let CrossedFiles { source, destination, entries, removed, bytes, digest } = files;
    let removed = if *removed > 0 { format!(", {removed} removed") } else { String::new() };
    let (entries, size) = (units::count(*entries, "entry", "entries"), units::size(*bytes));
    format!("{}: {entries}{removed}, {size}, {}", way(source, destination), short(digest))
}

fn patch_words(what: &str, patch: &CrossedPatch) -> String {
    let CrossedPatch { path, entries, bytes, digest } = patch;
    let what = path.as_ref().map_or_else(|| what.to_owned(), |path| format!("to {}", one_line(path)));
    let paths = units::count(*entries, "path", "paths");
    format!("{what}: {paths}, {}, {}", units::size(*bytes), short(digest))
}

fn connection_words(connection: &CrossedConnection) -> String {
    let CrossedConnection { transport, host, address, port, out_bytes, in_bytes, verdict, rule } = connection;
    let address = address.as_deref().map(one_line);
    let whom = match (host.as_deref().map(one_line), address) {
        (Some(host), Some(address)) => format!("{host} ({address})"),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => "nobody".to_owned(),
    };
    let port = port.map(|port| format!(" port {port}")).unwrap_or_default();
    let (transport, rule) = (one_line(transport), one_line(rule));
    match verdict {
        Verdict::Refused => format!("{transport} {whom}{port}: refused, {rule}"),
        Verdict::Failed => format!("{transport} {whom}{port}: not reached ({rule})"),
        Verdict::Allowed => {
            let (out, back) = (units::size(*out_bytes), units::size(*in_bytes));
            format!("{transport} {whom}{port}: {out} out, {back} in ({rule})")
        }
    }
}

fn way(source: &str, destination: &str) -> String {
    format!("{} -> {}", one_line(source), one_line(destination))
}

fn short(digest: &str) -> String {
    one_line(&digest.chars().take(DIGEST_DIGITS).collect::<String>())
}

#[cfg(test)]
mod tests {
    use pyro_engine::store::crossing_record::{CrossingRecord, CrossingSummary};

    use super::{CrossingList, CrossingRow, CrossingTotals};
    use crate::report::Report;

    fn records() -> impl Iterator<Item = CrossingRecord> {
        let lines = include_str!("../../../store/fixtures/crossings-v1.jsonl").lines();
        lines.map(|line| serde_json::from_str(line).expect("it is a fixture"))
    }

    #[test]
    fn every_kind_has_its_words() {
        let list = CrossingList {
            workspace: "0123456789ab".to_owned(),
            crossings: records().map(CrossingRow::from).collect(),
        };
        insta::assert_snapshot!(list.text(false));
        insta::assert_json_snapshot!(list);
    }

    #[test]
    fn totals_are_one_line() {
        let mut summary = CrossingSummary::default();
        assert_eq!(CrossingTotals::from(summary.clone()).line(), None);
        records().for_each(|record| summary.add(&record.crossing));
        insta::assert_snapshot!(CrossingTotals::from(summary).line().expect("something crossed"));
    }
}
