//! The public shapes of workspaces: one, many, what is going on in one, and what became of one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use pyro_engine::store::workspace_record::{Origin, RemovedWorkspace, StateRecord, WorkspacePhase, WorkspaceRecord};
use pyro_engine::workspace::Workspace;
use pyro_engine::workspace::create::Created;
use pyro_engine::workspace::lifecycle::{Updated, WorkspaceStatus, lacks_network};
use serde::Serialize;

use super::clean::one_line;
use super::crossings::CrossingTotals;
use super::env::Moment;
use super::network::{NetworkReport, TrafficReport};
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
    /// When a stopped one will be removed, unless it is started.
    #[serde(skip_serializing_if = "Option::is_none")]
    kept_until: Option<Moment>,
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
    /// What its guest may reach.
    network: NetworkReport,
    /// Services that ended with its machine just now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ended_services: Vec<String>,
}

/// A workspace that was just made.
#[derive(Debug, Serialize)]
pub(crate) struct CreatedReport {
    #[serde(flatten)]
    pub(crate) workspace: WorkspaceReport,
    /// What its user should know of its seed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) seed_notes: Vec<NoteReport>,
    /// Names of the secrets that its commands can be given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) secrets: Vec<String>,
}

impl From<Created> for CreatedReport {
    fn from(Created { workspace, notes }: Created) -> Self {
        let secrets = workspace.record.secrets.iter().cloned().collect();
        Self { workspace: workspace.into(), seed_notes: NoteReport::of(&notes), secrets }
    }
}

impl Report for CreatedReport {
    fn text(&self, color: bool) -> String {
        self.workspace.text(color)
    }
}

/// Who made a workspace, or asked for a command: a chat host and its session, or nobody but the command line.
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
        let kept_until = workspace.kept_until_seconds().map(Moment);
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
            network,
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
            kept_until,
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
            network: network.into(),
            ended_services: Vec::new(),
        }
    }
}

impl WorkspaceReport {
    /// The same, with what ended with its machine.
    pub(crate) fn with_ended(self, ended_services: Vec<String>) -> Self {
        Self { ended_services, ..self }
    }
}

impl From<Updated> for WorkspaceReport {
    fn from(Updated { workspace, network_at_next_start }: Updated) -> Self {
        let mut report = Self::from(workspace);
        report.network.at_next_start = network_at_next_start;
        report
    }
}

impl From<Origin> for MadeBy {
    fn from(Origin { host, session }: Origin) -> Self {
        Self { host, session }
    }
}

/// How much of a session's name tells it apart, in characters: of an id that begins with the time, all of the time.
const SESSION_SHORT_CHARS: usize = 13;

impl MadeBy {
    /// For a person: the host, and enough of its session to tell it from others.
    pub(super) fn word(&self) -> String {
        let host = one_line(self.host.as_deref().unwrap_or("command line"));
        match self.short_session() {
            Some(session) => format!("{host} {session}"),
            None => host,
        }
    }

    /// The same for a line of a log, which says nothing of the command line.
    pub(super) fn of_command(&self) -> String {
        if self.host.is_some() { format!(" by {}", self.word()) } else { String::new() }
    }

    /// For a person who wants to know all of it.
    fn whole(&self) -> String {
        let host = one_line(self.host.as_deref().unwrap_or("command line"));
        match &self.session {
            Some(session) => format!("{host}, session {}", one_line(session)),
            None => host,
        }
    }

    fn short_session(&self) -> Option<String> {
        self.session.as_ref().map(|session| one_line(session).chars().take(SESSION_SHORT_CHARS).collect())
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
        line("network", self.network.line());
        if !self.labels.is_empty() {
            let labels: Vec<String> = self.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            line("labels", labels.join(", "));
        }
        line("made", format!("{} by {}", self.created_at.ago(), self.made_by.whole()));
        line("used", self.used_at.ago());
        if let Some(until) = self.kept_until {
            line("kept until", format!("{}, unless it is started", units::utc(until.0)));
        }
        line("time to live", format!("{} unused", units::duration(Duration::from_secs(self.ttl_seconds))));
        if let Some(seed) = &self.seed {
            let what = units::count(seed.entries, "entry", "entries");
            line("seed", format!("{} ({what}, {})", one_line(&seed.source), units::size(seed.bytes)));
        }
        if let Some(at) = self.reset_at {
            line("resets", format!("{}, the last {}", self.reset_count, at.ago()));
        }
        if !self.ended_services.is_empty() {
            lines.push(["ended".to_owned(), format!("services {}", self.ended_services.join(", "))]);
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
    /// Those that were removed within the last week because they had been stopped for too long.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) removed: Vec<RemovedReport>,
}

/// A workspace that was removed because it had been stopped for too long.
#[derive(Debug, Serialize)]
pub(crate) struct RemovedReport {
    id: String,
    name: Option<String>,
    environment: String,
    removed_at: Moment,
    #[serde(skip)]
    days_stopped: u64,
}

impl From<RemovedWorkspace> for RemovedReport {
    fn from(removed: RemovedWorkspace) -> Self {
        let days_stopped = removed.days_stopped();
        let RemovedWorkspace { id, name, environment, removed_at_seconds, .. } = removed;
        Self { id, name, environment, removed_at: Moment(removed_at_seconds), days_stopped }
    }
}

impl Report for WorkspaceList {
    fn text(&self, _: bool) -> String {
        if self.workspaces.is_empty() {
            return format!("no workspaces; 'pyro workspace create debian:12' makes one\n{}", self.removed_lines());
        }
        let mut rows = vec![["ID", "NAME", "STATE", "ENVIRONMENT", "NETWORK", "USED", "MADE BY"].map(str::to_owned)];
        rows.extend(self.workspaces.iter().map(|row| {
            [
                row.id.clone(),
                row.name.clone().unwrap_or_else(|| "-".to_owned()),
                row.state.to_owned(),
                row.environment.clone(),
                row.network.policy.to_owned(),
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
        text + &self.removed_lines()
    }
}

impl WorkspaceList {
    fn removed_lines(&self) -> String {
        let line = |one: &RemovedReport| {
            let (called, ago) = (one.name.as_ref().unwrap_or(&one.id), one.removed_at.ago());
            format!("{} was removed {ago}: it had been stopped for {} days\n", one_line(called), one.days_stopped)
        };
        self.removed.iter().map(line).collect()
    }
}

/// What is going on in a workspace.
#[derive(Debug, Serialize)]
pub(crate) struct StatusReport {
    #[serde(flatten)]
    workspace: WorkspaceReport,
    /// Numbers of the commands that run.
    running_commands: Vec<u64>,
    /// Names of the services that run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    services: Vec<String>,
    /// Commands that were run in it.
    command_count: u64,
    /// Shells that run.
    running_shells: Vec<String>,
    /// Room that its own files take on this host.
    disk_bytes: u64,
    /// What crossed its border, added up.
    crossings: CrossingTotals,
    /// Its secrets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    secrets: Vec<SecretRow>,
    /// Since it was last used; 0 while it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    idle_ms: Option<u64>,
    /// Since its machine was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    uptime_ms: Option<u64>,
    /// Why its guest stands still, if it does; it goes on by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    paused: Option<String>,
    /// What went over its network since its machine was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    traffic: Option<TrafficReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    supervisor_pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    machine_pid: Option<u32>,
}

/// A secret of a workspace.
#[derive(Debug, Serialize)]
struct SecretRow {
    name: String,
    /// Whether its supervisor knows it: one that is started anew has to be told again.
    known: bool,
}

impl From<WorkspaceStatus> for StatusReport {
    fn from(status: WorkspaceStatus) -> Self {
        let WorkspaceStatus { workspace, live, disk_bytes, command_count, crossings } = status;
        let known = live.as_ref().map_or(&[][..], |live| &live.secrets);
        let secrets = workspace.record.secrets.iter();
        let secrets = secrets.map(|name| SecretRow { name: name.clone(), known: known.contains(name) }).collect();
        let (supervisor_pid, machine_pid) = (workspace.state.supervisor_pid, workspace.state.machine_pid);
        let network_at_next_start = lacks_network(&workspace, live.as_ref());
        Self {
            services: live.as_ref().map(|live| live.services.clone()).unwrap_or_default(),
            running_commands: live.as_ref().map(|live| live.running.clone()).unwrap_or_default(),
            running_shells: live.iter().flat_map(|live| &live.shells).map(ToString::to_string).collect(),
            idle_ms: live.as_ref().map(|live| live.idle_ms),
            uptime_ms: live.as_ref().map(|live| live.uptime_ms),
            traffic: live.as_ref().and_then(|live| live.network.as_ref()).map(TrafficReport::from),
            paused: live.and_then(|live| live.stalled),
            command_count,
            disk_bytes,
            crossings: crossings.into(),
            secrets,
            supervisor_pid,
            machine_pid,
            workspace: Updated { workspace, network_at_next_start }.into(),
        }
    }
}

impl Report for StatusReport {
    fn text(&self, _: bool) -> String {
        let mut lines = self.workspace.lines();
        let mut line = |name: &str, value: String| lines.push([name.to_owned(), value]);
        if let Some(paused) = &self.paused {
            line("paused", format!("{}; it goes on by itself when it can", one_line(paused)));
        }
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
        if !self.running_shells.is_empty() {
            line("shells", self.running_shells.join(", "));
        }
        if let Some(traffic) = &self.traffic {
            line("traffic", traffic.line());
        }
        if !self.services.is_empty() {
            line("services", self.services.join(", "));
        }
        line("on disk", units::size(self.disk_bytes));
        if !self.secrets.is_empty() {
            let word = |secret: &SecretRow| match secret.known {
                true => secret.name.clone(),
                false => format!("{} (to be told again at a start)", secret.name),
            };
            line("secrets", self.secrets.iter().map(word).collect::<Vec<_>>().join(", "));
        }
        if let Some(crossed) = self.crossings.line() {
            line("crossings", crossed);
        }
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

/// A phase as users know it.
pub(crate) fn phase_name(phase: WorkspacePhase) -> &'static str {
    match phase {
        WorkspacePhase::Creating => "creating",
        WorkspacePhase::Running => "running",
        WorkspacePhase::Stopped => "stopped",
        WorkspacePhase::Failed => "failed",
    }
}
