//! The public shapes of commands in a workspace: one that ran, one that was left running, and the log of all.

use std::fmt::Write as _;
use std::time::Duration;

use pyro_engine::store::workspace_record::{CommandEndRecord, CommandEnded};
use pyro_engine::workspace::command::CommandOutcome;
use pyro_engine::workspace::logs::LoggedCommand;
use serde::Serialize;

use super::captured::Capture;
use super::clean::one_line;
use super::env::Moment;
use super::run::{CommandFields, exit_code};
use super::{Report, units};

/// A command that ran in a workspace.
#[derive(Debug, Serialize)]
pub(crate) struct ExecReport {
    workspace: String,
    /// The command's number in the workspace.
    exec: u64,
    #[serde(flatten)]
    pub(crate) command: CommandFields,
}

impl ExecReport {
    pub(crate) fn new(workspace: String, exec: u64, outcome: CommandOutcome, output: [Capture; 2]) -> Self {
        Self { workspace, exec, command: CommandFields::new(outcome, output) }
    }

    /// The exit code that passes the command's end on.
    pub(crate) fn exit_code(outcome: CommandOutcome) -> u8 {
        exit_code(outcome.end)
    }
}

/// A command that goes on without its caller.
#[derive(Debug, Serialize)]
pub(crate) struct DetachedReport {
    pub(crate) workspace: String,
    /// The command's number in the workspace.
    pub(crate) exec: u64,
    pub(crate) state: &'static str,
}

impl Report for DetachedReport {
    fn text(&self, _: bool) -> String {
        format!("command {} runs; 'pyro workspace logs {} --follow' shows it\n", self.exec, self.workspace)
    }
}

/// The commands of a workspace.
#[derive(Debug, Serialize)]
pub(crate) struct LogReport {
    pub(crate) workspace: String,
    pub(crate) commands: Vec<LogRow>,
}

/// A command in the log.
#[derive(Debug, Serialize)]
pub(crate) struct LogRow {
    /// Its number.
    pub(crate) exec: u64,
    argv: Vec<String>,
    cwd: String,
    started_at: Moment,
    /// `running`, `exited`, `signaled`, `timed_out`, `killed` or `lost`.
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Option<u64>,
    /// Bytes it printed.
    #[serde(skip_serializing_if = "Option::is_none")]
    output_bytes: Option<u64>,
    /// The beginning and the end of what it printed, both streams as they came; what is not UTF-8 is replaced.
    output: String,
    /// Whether the middle of it was left out.
    output_truncated: bool,
    /// The chat host that asked for it; none for the command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
}

impl LogRow {
    pub(crate) fn new(command: LoggedCommand, output: Capture) -> Self {
        let (state, exit_code) = command.ended.map_or(("running", None), end_words);
        let (bytes, whole) = output.into_bytes();
        Self {
            exec: command.started.sequence,
            argv: command.started.argv,
            cwd: command.started.cwd,
            started_at: Moment(command.started.at_ms / 1000),
            state,
            exit_code,
            duration_ms: command.ended.map(|ended| ended.duration_ms),
            output_bytes: command.ended.map(|ended| ended.output_bytes),
            output: String::from_utf8_lossy(&bytes).into_owned(),
            output_truncated: !whole || command.ended.is_some_and(|ended| ended.kept_bytes < ended.output_bytes),
            by: command.started.by.host,
        }
    }

    /// The line that says what was run.
    pub(crate) fn head(&self) -> String {
        let words: Vec<String> = self.argv.iter().map(|word| quoted(word)).collect();
        let by = self.by.as_ref().map(|by| format!(" by {}", one_line(by))).unwrap_or_default();
        format!("[{}] {}  ({}{by})\n", self.exec, words.join(" "), self.started_at.ago())
    }

    /// The line that says how it ended, if it did.
    pub(crate) fn foot(&self) -> String {
        let Some(duration_ms) = self.duration_ms else {
            return format!("[{}] runs\n", self.exec);
        };
        let code = self.exit_code.map(|code| format!(" {code}")).unwrap_or_default();
        let duration = units::duration(Duration::from_millis(duration_ms));
        format!("[{}] {}{code} after {duration}\n", self.exec, self.state.replace('_', " "))
    }
}

impl Report for LogReport {
    fn text(&self, _: bool) -> String {
        if self.commands.is_empty() {
            return "nothing was run yet\n".to_owned();
        }
        let mut text = String::new();
        for row in &self.commands {
            text.push_str(&row.head());
            for line in row.output.lines() {
                let _ = writeln!(text, "    {}", one_line(line));
            }
            text.push_str(&row.foot());
        }
        text
    }
}

/// The state of a command that ended, in a word, and its exit code if it has one.
pub(crate) fn end_words(ended: CommandEnded) -> (&'static str, Option<u8>) {
    match ended.end {
        CommandEndRecord::Exited(code) => ("exited", Some(code)),
        CommandEndRecord::Signaled(signal) => ("signaled", Some(128_u8.saturating_add(signal))),
        CommandEndRecord::TimedOut => ("timed_out", Some(crate::failure::EXIT_TIMED_OUT)),
        CommandEndRecord::Killed => ("killed", None),
        CommandEndRecord::Lost => ("lost", None),
    }
}

/// A word of a command line as a shell would want it, in one line and cleaned for a terminal.
fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:=,@%+".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", one_line(word).replace('\'', "'\\''"))
}
