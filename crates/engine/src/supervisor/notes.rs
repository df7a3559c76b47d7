//! What is written down of a workspace while it lives: its state, and the supervisor's log.

use std::io::{self, Write};

use super::boot::Ready;
use super::commands::now_ms;
use super::protocol::{Refusal, RefusalKind};
use crate::machine::Accelerator;
use crate::store::atomic;
use crate::store::home::WorkspaceDir;
use crate::store::workspace_record::{StateRecord, WorkspacePhase};

/// Adds a line to the supervisor's log.
pub(super) fn log(dir: &WorkspaceDir, line: &str) {
    let file = std::fs::OpenOptions::new().append(true).create(true).open(dir.supervisor_log());
    // A log that cannot be written is nobody's failure.
    drop(file.and_then(|mut file| writeln!(file, "{} {line}", now_seconds())));
}

/// Reads a record.
///
/// # Errors
/// It is not there, or is none.
pub fn read_json<T: serde::de::DeserializeOwned>(path: &std::path::Path) -> io::Result<T> {
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

/// Writes the state.
///
/// # Errors
/// As the system calls.
pub fn write_state(dir: &WorkspaceDir, state: &StateRecord) -> io::Result<()> {
    atomic::write(&dir.state(), &serde_json::to_vec_pretty(state)?)
}

/// Notes that a workspace entered a phase now.
pub fn set_phase(state: &mut StateRecord, phase: WorkspacePhase, reason: Option<String>) {
    state.phase = phase;
    state.since_seconds = now_seconds();
    state.reason = reason;
    if phase != WorkspacePhase::Running {
        (state.accelerator, state.supervisor_pid, state.machine_pid) = (None, None, None);
    }
}

/// Notes which machine a workspace has.
pub(super) fn note_machine(state: &mut StateRecord, machine: &Ready, accelerator: Accelerator) {
    let name = match accelerator {
        Accelerator::Kvm => "kvm",
        Accelerator::Tcg => "tcg",
    };
    state.accelerator = Some(name.to_owned());
    state.machine_pid = Some(machine.machine.process_id());
}

/// Seconds since 1970.
#[must_use]
pub fn now_seconds() -> u64 {
    now_ms() / 1000
}

/// That this host failed at something.
pub(super) fn host(what: &str, error: &io::Error) -> Refusal {
    Refusal::new(RefusalKind::Host, format!("cannot {what}: {error}"))
}

/// An error and its causes in one line.
pub(super) fn in_words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !words.ends_with(&more) {
            words.push_str(": ");
            words.push_str(&more);
        }
        source = cause.source();
    }
    words
}
