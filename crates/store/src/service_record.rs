//! What is written of a service of a workspace: `service.json` says what it is and where it is in its life; `start.json`,
//! which only services that are to come back with their workspace have, is how to start it again. Fields that are added
//! get defaults, as in [`super::workspace_record`].

use std::io;

use serde::{Deserialize, Serialize};

use super::home::WorkspaceDir;
use super::workspace_record::Origin;

/// The version of [`ServiceRecord`] that is written.
pub const SERVICE_RECORD_VERSION: u32 = 1;

/// `service.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRecord {
    /// Version of this format.
    pub version: u32,
    /// Its name, unique in its workspace.
    pub name: String,
    /// Program and arguments, made readable where they are no text.
    pub argv: Vec<String>,
    /// Its working directory.
    pub cwd: String,
    /// Where it is in its life.
    pub state: ServiceState,
    /// How its process ended, once it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<ServiceEnd>,
    /// Why it is in this state, where that needs a word. May come from the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it was started, milliseconds since 1970.
    pub started_at_ms: u64,
    /// When it became ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_at_ms: Option<u64>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at_ms: Option<u64>,
    /// Where in its log this run's output begins.
    #[serde(default)]
    pub log_from: u64,
    /// How its readiness is seen, in words; none if a process is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<String>,
    /// The ports that were published with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortPair>,
    /// Whether it is started again with its workspace.
    #[serde(default)]
    pub restart_on_start: bool,
    /// Who started it.
    #[serde(default)]
    pub by: Origin,
}

/// A port of this host and the port of the guest that it leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortPair {
    /// On 127.0.0.1 and ::1 of this host.
    pub host: u16,
    /// On the loopback of the guest.
    pub guest: u16,
}

/// A state of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceState {
    /// Its process runs, and is not ready yet.
    Starting,
    /// It runs, and is ready.
    Running,
    /// Its process ended by itself.
    Exited,
    /// It could not be started, did not become ready, or was lost with its machine.
    Failed,
    /// It was asked to end, or its workspace was.
    Stopped,
}

impl ServiceState {
    /// Whether its process runs.
    #[must_use]
    pub fn is_alive(self) -> bool {
        matches!(self, Self::Starting | Self::Running)
    }
}

/// How the process of a service ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceEnd {
    /// It exited with this code.
    Code(u8),
    /// This signal ended it.
    Signal(u8),
    /// It did not end when it was asked to, and was killed.
    Killed,
}

/// The names of the services a workspace has, or had, by what is on disk.
///
/// # Errors
/// As the system calls.
pub fn names(dir: &WorkspaceDir) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(dir.services()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        result => result?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::ServiceRecord;

    #[test]
    fn saved_records_stay_readable() {
        let text = include_str!("../fixtures/service-v1.json");
        let record: ServiceRecord = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string_pretty(&record).unwrap(), text.trim_end());
    }
}
