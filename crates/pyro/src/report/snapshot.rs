//! The public shapes of snapshots: one that was taken, all of a workspace, one that is gone, and a reset.

use pyro_engine::supervisor::protocol::Ended;
use pyro_engine::workspace::snapshot::{Snapshot, WasReset};
use serde::Serialize;

use super::env::Moment;
use super::workspace::WorkspaceReport;
use super::{Report, units};

/// One snapshot.
#[derive(Debug, Serialize)]
pub(crate) struct SnapshotRow {
    name: String,
    created_at: Moment,
    /// How long the guest could not write meanwhile; none if no guest ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pause_ms: Option<u64>,
    /// What the workspace holds now was written since this one.
    current: bool,
}

impl From<Snapshot> for SnapshotRow {
    fn from(Snapshot { name, created_at_seconds, pause_ms, is_current }: Snapshot) -> Self {
        Self { name, created_at: Moment(created_at_seconds), pause_ms, current: is_current }
    }
}

/// A snapshot that was taken.
#[derive(Debug, Serialize)]
pub(crate) struct TakenReport {
    /// Id of the workspace.
    pub(crate) workspace: String,
    #[serde(flatten)]
    pub(crate) snapshot: SnapshotRow,
}

impl Report for TakenReport {
    fn text(&self, _: bool) -> String {
        let SnapshotRow { name, pause_ms, .. } = &self.snapshot;
        let pause = pause_ms.map(|pause_ms| format!("; the guest could not write for {pause_ms} ms"));
        format!("snapshot {name} of workspace {}{}\n", self.workspace, pause.unwrap_or_default())
    }
}

/// The snapshots of a workspace.
#[derive(Debug, Serialize)]
pub(crate) struct SnapshotList {
    /// Id of the workspace.
    pub(crate) workspace: String,
    /// The oldest first: the baseline.
    pub(crate) snapshots: Vec<SnapshotRow>,
}

impl Report for SnapshotList {
    fn text(&self, _: bool) -> String {
        let mut rows = vec![["NAME", "TAKEN", "PAUSE", ""].map(str::to_owned)];
        rows.extend(self.snapshots.iter().map(|row| {
            let pause = row.pause_ms.map_or_else(|| "-".to_owned(), |pause_ms| format!("{pause_ms} ms"));
            let current = if row.current { "the workspace goes on from here" } else { "" };
            [row.name.clone(), row.created_at.ago(), pause, current.to_owned()]
        }));
        units::columns(&rows)
    }
}

/// A snapshot that is gone.
#[derive(Debug, Serialize)]
pub(crate) struct ForgottenReport {
    /// Id of the workspace.
    pub(crate) workspace: String,
    pub(crate) name: String,
    pub(crate) deleted: bool,
}

impl Report for ForgottenReport {
    fn text(&self, _: bool) -> String {
        format!("snapshot {} of workspace {} is gone\n", self.name, self.workspace)
    }
}

/// A workspace that was reset.
#[derive(Debug, Serialize)]
pub(crate) struct ResetReport {
    #[serde(flatten)]
    workspace: WorkspaceReport,
    /// The snapshot that it is like now.
    reset_to: String,
    ended: EndedReport,
}

/// What ended with the machine that was given up.
#[derive(Debug, Serialize)]
struct EndedReport {
    /// Numbers of the commands that ran.
    commands: Vec<u64>,
    /// Names of the shells that were open.
    shells: Vec<String>,
    /// Names of the services that ran.
    services: Vec<String>,
}

impl From<WasReset> for ResetReport {
    fn from(WasReset { workspace, snapshot, ended }: WasReset) -> Self {
        Self { workspace: workspace.into(), reset_to: snapshot, ended: ended.into() }
    }
}

impl From<Ended> for EndedReport {
    fn from(Ended { commands, shells, services }: Ended) -> Self {
        Self { commands, shells: shells.iter().map(ToString::to_string).collect(), services }
    }
}

impl Report for ResetReport {
    fn text(&self, color: bool) -> String {
        let mut lines = vec![["reset to".to_owned(), self.reset_to.clone()]];
        let EndedReport { commands, shells, services } = &self.ended;
        let commands: Vec<String> = commands.iter().map(u64::to_string).collect();
        for (what, names) in [("commands", &commands), ("shells", shells), ("services", services)] {
            if !names.is_empty() {
                lines.push(["ended".to_owned(), format!("{what} {}", names.join(", "))]);
            }
        }
        self.workspace.text(color) + &units::columns(&lines)
    }
}

#[cfg(test)]
mod tests {
    use pyro_engine::workspace::snapshot::Snapshot;

    use super::{ForgottenReport, Report, SnapshotList, TakenReport};

    fn snapshot(name: &str, pause_ms: Option<u64>, is_current: bool) -> Snapshot {
        Snapshot { name: name.to_owned(), created_at_seconds: 0, pause_ms, is_current }
    }

    #[test]
    fn a_snapshot_tells_its_pause() {
        let workspace = "0123456789ab".to_owned();
        let taken =
            TakenReport { workspace: workspace.clone(), snapshot: snapshot("tests-pass", Some(31), true).into() };
        insta::assert_snapshot!(taken.text(false));
        insta::assert_json_snapshot!(taken);
        let taken = TakenReport { workspace: workspace.clone(), snapshot: snapshot("stopped", None, true).into() };
        insta::assert_snapshot!(taken.text(false));
        let gone = ForgottenReport { workspace, name: "tests-pass".to_owned(), deleted: true };
        insta::assert_snapshot!(gone.text(false));
    }

    #[test]
    fn a_list_begins_with_the_baseline() {
        let snapshots = vec![snapshot("baseline", None, false).into(), snapshot("tests-pass", Some(31), true).into()];
        let list = SnapshotList { workspace: "0123456789ab".to_owned(), snapshots };
        insta::assert_json_snapshot!(list);
    }
}
