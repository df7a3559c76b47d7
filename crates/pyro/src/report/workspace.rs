//! The public shapes of workspaces: one, many, what is going on in one, and what became of one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use pyro_engine::store::workspace_record::{Origin, StateRecord, WorkspacePhase, WorkspaceRecord};
use pyro_engine::workspace::Workspace;
use pyro_engine::workspace::create::Created;
use pyro_engine::workspace::lifecycle::WorkspaceStatus;
use serde::Serialize;

use super::clean::one_line;
use super::env::Moment;
use super::seed::NoteReport;
use super::{Report, units};

/// A workspace.
#[derive(Debug, Serialize)]
pub(crate) struct WorkspaceReport {
    /// 12 lower-case hex digits.
    pub(crate) id: String,
    /// What its user calls it.
    name: Option<String>,
    /// `creating`, `running`, `stopped` or `failed`.
    state: &'static str,
    /// Why, where that needs a word.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Name of its environment.
    environment: String,
    labels: BTreeMap<String, String>,
    vcpu_count: u32,
    mem_mib: u32,
    disk_gib: u32,
    /// Seconds without use after which it is stopped.
    ttl_seconds: u64,
    created_at: Moment,
    used_at: Moment,
    /// How often it was reset.
    reset_count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    reset_at: Option<Moment>,
    /// `kvm` or `tcg`, while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    accelerator: Option<String>,
    /// Who made it: a chat host and its session; empty for the command line.
    made_by: MadeBy,
    /// What it began with.
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<SeedReport>,
}

/// A workspace that was just made.
#[derive(Debug, Serialize)]
pub(crate) struct CreatedReport {
    #[serde(flatten)]
    pub(crate) workspace: WorkspaceReport,
    /// What its user should know of its seed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) seed_notes: Vec<NoteReport>,
}

impl From<Created> for CreatedReport {
    fn from(Created { workspace, notes }: Created) -> Self {
        Self { workspace: workspace.into(), seed_notes: NoteReport::of(&notes) }
    }
}

impl Report for CreatedReport {
    fn text(&self, color: bool) -> String {
        self.workspace.text(color)
    }
}

/// Who made a workspace.
#[derive(Debug, Serialize)]
pub(crate) struct MadeBy {
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<String>,
}

/// What a workspace began with.
#[derive(Debug, Serialize)]
struct SeedReport {
    source: String,
    entries: u64,
    bytes: u64,
    digest: String,
}

impl From<Workspace> for WorkspaceReport {
    fn from(workspace: Workspace) -> Self {
        let WorkspaceRecord {
            id,
            name,
            labels,
            environment,
            vcpu_count,
            mem_mib,
            disk_gib,
            ttl_seconds,
            created_at_seconds,
            made_by,
            seed,
            ..
        } = workspace.record;
        let StateRecord { phase, reason, used_at_seconds, reset_count, reset_at_seconds, accelerator, .. } =
            workspace.state;
        Self {
            id,
            name,
            state: phase_name(phase),
            reason,
            environment,
            labels,
            vcpu_count,
            mem_mib,
            disk_gib,
            ttl_seconds,
            created_at: Moment(created_at_seconds),
            used_at: Moment(used_at_seconds),
            reset_count,
            reset_at: reset_at_seconds.map(Moment),
            accelerator,
            made_by: made_by.into(),
            seed: seed.map(|seed| SeedReport {
                source: seed.source,
                entries: seed.entries,
                bytes: seed.bytes,
                digest: seed.digest,
            }),
        }
    }
}

impl From<Origin> for MadeBy {
    fn from(Origin { host, session }: Origin) -> Self {
        Self { host, session }
    }
}

impl MadeBy {
    /// For a person, in a word.
    fn word(&self) -> String {
        one_line(self.host.as_deref().unwrap_or("command line"))
    }
}

impl WorkspaceReport {
    fn lines(&self) -> Vec<[String; 2]> {
        let mut lines = Vec::new();
        let mut line = |name: &str, value: String| lines.push([name.to_owned(), value]);
        let called = self.name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
        line("workspace", format!("{}{called}", self.id));
        let reason = self.reason.as_ref().map(|reason| format!(": {}", one_line(reason))).unwrap_or_default();
        line("state", format!("{}{reason}", self.state));
        line("environment", self.environment.clone());
        let emulated = if self.accelerator.as_deref() == Some("tcg") { ", in software emulation" } else { "" };
        let size = format!("{} vCPU, {} MiB memory, {} GiB disk", self.vcpu_count, self.mem_mib, self.disk_gib);
        line("machine", format!("{size}{emulated}"));
        if !self.labels.is_empty() {
            let labels: Vec<String> = self.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            line("labels", labels.join(", "));
        }
        line("made", format!("{} by {}", self.created_at.ago(), self.made_by.word()));
        line("used", self.used_at.ago());
        line("time to live", format!("{} unused", units::duration(Duration::from_secs(self.ttl_seconds))));
        if let Some(seed) = &self.seed {
            let what = format!("{} ({} entries, {})", one_line(&seed.source), seed.entries, units::size(seed.bytes));
            line("seed", what);
        }
        if let Some(at) = self.reset_at {
            line("resets", format!("{}, the last {}", self.reset_count, at.ago()));
        }
        lines
    }
}

impl Report for WorkspaceReport {
    fn text(&self, _: bool) -> String {
        units::columns(&self.lines())
    }
}

/// The workspaces of this host.
#[derive(Debug, Serialize)]
pub(crate) struct WorkspaceList {
    /// The one that was used last first.
    pub(crate) workspaces: Vec<WorkspaceReport>,
}

impl Report for WorkspaceList {
    fn text(&self, _: bool) -> String {
        if self.workspaces.is_empty() {
            return "no workspaces; 'pyro workspace create debian:12' makes one\n".to_owned();
        }
        let mut rows = vec![["ID", "NAME", "STATE", "ENVIRONMENT", "USED", "MADE BY"].map(str::to_owned)];
        rows.extend(self.workspaces.iter().map(|row| {
            [
                row.id.clone(),
                row.name.clone().unwrap_or_else(|| "-".to_owned()),
                row.state.to_owned(),
                row.environment.clone(),
                row.used_at.ago(),
                row.made_by.word(),
            ]
        }));
        let mut text = units::columns(&rows);
        for row in self.workspaces.iter().filter(|row| row.state != "running") {
            if let Some(reason) = &row.reason {
                let _ =
                    writeln!(text, "{} is {}: {}", row.name.as_ref().unwrap_or(&row.id), row.state, one_line(reason));
            }
        }
        text
    }
}

/// What is going on in a workspace.
#[derive(Debug, Serialize)]
pub(crate) struct StatusReport {
    #[serde(flatten)]
    workspace: WorkspaceReport,
    /// Numbers of the commands that run.
    running_commands: Vec<u64>,
    /// Commands that were run in it.
    command_count: u64,
    /// Room that its own files take on this host.
    disk_bytes: u64,
    /// Since it was last used; 0 while it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    idle_ms: Option<u64>,
    /// Since its machine was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    uptime_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    supervisor_pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    machine_pid: Option<u32>,
}

impl From<WorkspaceStatus> for StatusReport {
    fn from(WorkspaceStatus { workspace, live, disk_bytes, command_count }: WorkspaceStatus) -> Self {
        let (supervisor_pid, machine_pid) = (workspace.state.supervisor_pid, workspace.state.machine_pid);
        Self {
            running_commands: live.as_ref().map(|live| live.running.clone()).unwrap_or_default(),
            idle_ms: live.as_ref().map(|live| live.idle_ms),
            uptime_ms: live.as_ref().map(|live| live.uptime_ms),
            command_count,
            disk_bytes,
            supervisor_pid,
            machine_pid,
            workspace: workspace.into(),
        }
    }
}

impl Report for StatusReport {
    fn text(&self, _: bool) -> String {
        let mut lines = self.workspace.lines();
        let mut line = |name: &str, value: String| lines.push([name.to_owned(), value]);
        if let Some(uptime_ms) = self.uptime_ms {
            line("up", units::duration(Duration::from_millis(uptime_ms)));
        }
        let running = match self.running_commands.as_slice() {
            [] => String::new(),
            numbers => {
                let numbers: Vec<String> = numbers.iter().map(u64::to_string).collect();
                format!(", running now: {}", numbers.join(", "))
            }
        };
        line("commands", format!("{}{running}", self.command_count));
        line("on disk", units::size(self.disk_bytes));
        if let (Some(supervisor), Some(machine)) = (self.supervisor_pid, self.machine_pid) {
            line("processes", format!("{supervisor} (supervisor), {machine} (hypervisor)"));
        }
        units::columns(&lines)
    }
}

/// A workspace that is gone.
#[derive(Debug, Serialize)]
pub(crate) struct DeletedReport {
    pub(crate) id: String,
    pub(crate) name: Option<String>,
    pub(crate) deleted: bool,
}

impl Report for DeletedReport {
    fn text(&self, _: bool) -> String {
        let called = self.name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
        format!("workspace {}{called} is gone\n", self.id)
    }
}

fn phase_name(phase: WorkspacePhase) -> &'static str {
    match phase {
        WorkspacePhase::Creating => "creating",
        WorkspacePhase::Running => "running",
        WorkspacePhase::Stopped => "stopped",
        WorkspacePhase::Failed => "failed",
    }
}
