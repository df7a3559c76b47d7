//! The public shapes of services: one, all of a workspace, and what one printed.

use std::fmt::Write as _;
use std::time::Duration;

use pyro_engine::store::service_record::{PortPair, ServiceEnd, ServiceRecord, ServiceState};
use serde::Serialize;

use super::clean::one_line;
use super::env::Moment;
use super::{Report, units};

/// Exit code that stands for a signal, as in a shell.
const SIGNAL_BASE: u8 = 128;

/// Letters of a command that a table shows.
const COMMAND_CHARS_MAX: usize = 60;

/// A service.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ServiceRow {
    pub(crate) name: String,
    /// `starting`, `running`, `exited`, `failed` or `stopped`.
    pub(crate) state: &'static str,
    /// With which code its process ended, 128 and the signal's number if one ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<u8>,
    /// Whether it had to be killed because it did not end when it was asked to.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    killed: bool,
    /// Why it is in its state, where that needs a word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    argv: Vec<String>,
    cwd: String,
    started_at: Moment,
    /// From its start until it was ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    ready_after_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<Moment>,
    /// From its start to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    ran_ms: Option<u64>,
    /// How its readiness is seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    ready: Option<String>,
    /// The ports that are published with it.
    ports: Vec<PortRow>,
    restart_on_start: bool,
    /// The chat host that asked for it; none for the command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
}

/// A published port.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct PortRow {
    /// Of this host's loopback.
    pub(crate) host_port: u16,
    /// Of the guest's loopback.
    pub(crate) guest_port: u16,
}

impl From<PortPair> for PortRow {
    fn from(PortPair { host, guest }: PortPair) -> Self {
        Self { host_port: host, guest_port: guest }
    }
}

impl From<ServiceRecord> for ServiceRow {
    fn from(record: ServiceRecord) -> Self {
        let since_start = |at: Option<u64>| at.map(|at| at.saturating_sub(record.started_at_ms));
        let exit_code = match record.end {
            Some(ServiceEnd::Code(code)) => Some(code),
            Some(ServiceEnd::Signal(signal)) => Some(SIGNAL_BASE.saturating_add(signal)),
            Some(ServiceEnd::Killed) | None => None,
        };
        Self {
            state: state_word(record.state),
            exit_code,
            killed: record.end == Some(ServiceEnd::Killed),
            started_at: Moment(record.started_at_ms / 1000),
            ready_after_ms: since_start(record.ready_at_ms),
            ended_at: record.ended_at_ms.map(|at| Moment(at / 1000)),
            ran_ms: since_start(record.ended_at_ms),
            name: record.name,
            reason: record.reason,
            argv: record.argv,
            cwd: record.cwd,
            ready: record.ready,
            ports: record.ports.into_iter().map(PortRow::from).collect(),
            restart_on_start: record.restart_on_start,
            by: record.by.host,
        }
    }
}

impl ServiceRow {
    /// Its state with what belongs to it: `exited 3 after 1.0 s`.
    pub(crate) fn state_words(&self) -> String {
        let mut words = self.state.to_owned();
        if let Some(code) = self.exit_code {
            let _ = write!(words, " {code}");
        }
        if let Some(ran_ms) = self.ran_ms {
            let _ = write!(words, " after {}", units::duration(Duration::from_millis(ran_ms)));
        }
        words
    }

    fn command(&self) -> String {
        one_line(&self.argv.join(" "))
    }

    fn port_words(&self) -> String {
        let ports: Vec<String> =
            self.ports.iter().map(|port| format!("{}:{}", port.host_port, port.guest_port)).collect();
        if ports.is_empty() { "-".to_owned() } else { ports.join(" ") }
    }
}

fn state_word(state: ServiceState) -> &'static str {
    match state {
        ServiceState::Starting => "starting",
        ServiceState::Running => "running",
        ServiceState::Exited => "exited",
        ServiceState::Failed => "failed",
        ServiceState::Stopped => "stopped",
    }
}

/// One service of a workspace.
#[derive(Debug, Serialize)]
pub(crate) struct ServiceReport {
    workspace: String,
    #[serde(flatten)]
    service: ServiceRow,
}

impl ServiceReport {
    pub(crate) fn new(workspace: String, record: ServiceRecord) -> Self {
        Self { workspace, service: record.into() }
    }
}

impl Report for ServiceReport {
    fn text(&self, _: bool) -> String {
        let row = &self.service;
        let mut lines = Vec::new();
        let mut line = |name: &str, value: String| lines.push([name.to_owned(), value]);
        line("service", row.name.clone());
        line("state", row.state_words());
        if let Some(reason) = &row.reason {
            line("reason", one_line(reason));
        }
        line("command", format!("{}  (in {})", row.command(), one_line(&row.cwd)));
        line("started", row.started_at.ago());
        match (&row.ready, row.ready_after_ms) {
            (Some(by), Some(after)) => {
                line("ready", format!("after {} ({})", units::duration(Duration::from_millis(after)), one_line(by)));
            }
            (Some(by), None) => line("ready", format!("not seen yet ({})", one_line(by))),
            (None, _) => {}
        }
        for port in &row.ports {
            line("port", format!("127.0.0.1:{} of this host -> {} of the guest", port.host_port, port.guest_port));
        }
        if row.restart_on_start {
            line("restart", "with its workspace".to_owned());
        }
        units::columns(&lines)
    }
}

/// All services of a workspace.
#[derive(Debug, Serialize)]
pub(crate) struct ServiceList {
    pub(crate) workspace: String,
    pub(crate) services: Vec<ServiceRow>,
}

impl Report for ServiceList {
    fn text(&self, _: bool) -> String {
        if self.services.is_empty() {
            return "no services; 'pyro workspace service start' starts one\n".to_owned();
        }
        let mut rows = vec![["NAME", "STATE", "STARTED", "PORTS", "COMMAND"].map(str::to_owned)];
        rows.extend(self.services.iter().map(|row| {
            let command = row.command();
            let mut shown: String = command.chars().take(COMMAND_CHARS_MAX).collect();
            if shown.len() < command.len() {
                shown.push('…');
            }
            [row.name.clone(), row.state_words(), row.started_at.ago(), row.port_words(), shown]
        }));
        let mut text = units::columns(&rows);
        for row in &self.services {
            if let Some(reason) = &row.reason {
                let _ = writeln!(text, "{} {}: {}", row.name, row.state, one_line(reason));
            }
        }
        text
    }
}

/// What a service printed.
#[derive(Debug, Serialize)]
pub(crate) struct ServiceLogReport {
    pub(crate) workspace: String,
    pub(crate) name: String,
    /// Both streams as they came; what is not UTF-8 is replaced.
    pub(crate) output: String,
    /// Whether the middle of it was left out.
    pub(crate) output_truncated: bool,
    /// Where the output begins: this many bytes were printed before, in all runs of the service.
    pub(crate) from_byte: u64,
    /// Where it ends so far.
    pub(crate) to_byte: u64,
    /// Bytes before that are not kept any more.
    pub(crate) dropped_bytes: u64,
}

#[cfg(test)]
mod tests {
    use pyro_engine::store::service_record::{
        PortPair, SERVICE_RECORD_VERSION, ServiceEnd, ServiceRecord, ServiceState,
    };
    use pyro_engine::store::workspace_record::Origin;

    use super::{Report, ServiceList, ServiceReport};

    fn record(name: &str, state: ServiceState, end: Option<ServiceEnd>) -> ServiceRecord {
        let ended_at_ms = (!state.is_alive()).then_some(2500);
        ServiceRecord {
            version: SERVICE_RECORD_VERSION,
            name: name.to_owned(),
            argv: vec!["python3".to_owned(), "-m".to_owned(), "http.server".to_owned()],
            cwd: "/workspace".to_owned(),
            state,
            end,
            reason: (state == ServiceState::Failed).then(|| "nothing listens at 127.0.0.1:8000".to_owned()),
            started_at_ms: 1000,
            ready_at_ms: (state == ServiceState::Running).then_some(1420),
            ended_at_ms,
            log_from: 0,
            ready: Some("http http://localhost:8000/".to_owned()),
            ports: if state.is_alive() { vec![PortPair { host: 40_123, guest: 8000 }] } else { Vec::new() },
            restart_on_start: state.is_alive(),
            by: Origin::default(),
        }
    }

    fn all() -> Vec<ServiceRecord> {
        vec![
            record("web", ServiceState::Running, None),
            record("slow", ServiceState::Starting, None),
            record("crash", ServiceState::Exited, Some(ServiceEnd::Code(3))),
            record("never", ServiceState::Failed, Some(ServiceEnd::Killed)),
            record("gone", ServiceState::Stopped, Some(ServiceEnd::Signal(15))),
        ]
    }

    #[test]
    fn a_list_says_what_became_of_each() {
        let services = all().into_iter().map(Into::into).collect();
        let list = ServiceList { workspace: "0123456789ab".to_owned(), services };
        insta::assert_snapshot!("services", list.text(false).replace(&list.services[0].started_at.ago(), "LONG AGO"));
        insta::assert_json_snapshot!("services-json", list);
    }

    #[test]
    fn one_is_told_whole() {
        let mut texts = String::new();
        for record in all() {
            let report = ServiceReport::new("0123456789ab".to_owned(), record);
            texts += &report.text(false).replace(&report.service.started_at.ago(), "LONG AGO");
        }
        insta::assert_snapshot!("service", texts);
    }
}
