//! The public shapes of commands in a workspace: one that ran, one that was left running, and the log of all.

use std::fmt::Write as _;
use std::time::Duration;

use pyro_engine::store::workspace_record::{CommandEndRecord, CommandEnded};
use pyro_engine::supervisor::protocol::NetworkRefusal;
use pyro_engine::workspace::command::CommandOutcome;
use pyro_engine::workspace::logs::LoggedCommand;
use serde::Serialize;

use super::captured::Capture;
use super::clean::one_line;
use super::env::Moment;
use super::network::RefusalReport;
use super::run::{CommandFields, EXIT_KILLED, OutputFields, exit_code};
use super::workspace::MadeBy;
use super::{Report, units};
use crate::failure::EXIT_PYRO_FAILED;

/// A command that ran in a workspace.
#[derive(Debug, Serialize)]
pub(crate) struct ExecReport {
    workspace: String,
    /// The command's number in the workspace.
    exec: u64,
    #[serde(flatten)]
    pub(crate) command: CommandFields,
    /// What the guest wanted to reach meanwhile and was refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    network_refusals: Vec<RefusalReport>,
}

impl ExecReport {
    pub(crate) fn new(workspace: String, exec: u64, outcome: CommandOutcome, output: [Capture; 2]) -> Self {
        Self { workspace, exec, command: CommandFields::new(outcome, output), network_refusals: Vec::new() }
    }

    /// The same with what the network refused meanwhile.
    pub(crate) fn with_refusals(self, refusals: &[NetworkRefusal]) -> Self {
        Self { network_refusals: refusals.iter().map(RefusalReport::from).collect(), ..self }
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
        let Self { workspace, exec, .. } = self;
        format!(
            "command {exec} runs; 'pyro workspace wait {workspace} {exec}' follows it, 'kill' in place of 'wait' ends it\n"
        )
    }
}

/// A command that was waited for.
#[derive(Debug, Serialize)]
pub(crate) struct WaitReport {
    workspace: String,
    /// The command's number.
    exec: u64,
    /// `running`, `exited`, `signaled`, `timed_out`, `killed` or `lost`.
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Option<u64>,
    /// Where its output goes on: what is to be left out by the next one who waits.
    cursor: u64,
    #[serde(flatten)]
    output: Option<OutputFields>,
    /// Bytes that it printed beyond what is kept of a command.
    #[serde(skip_serializing_if = "Option::is_none")]
    dropped_bytes: Option<u64>,
}

impl WaitReport {
    pub(crate) fn new(workspace: String, command: LoggedCommand, cursor: u64) -> Self {
        let (state, exit_code) = command.ended.map_or(("running", None), end_words);
        let dropped = command.ended.map(|ended| ended.output_bytes.saturating_sub(ended.kept_bytes));
        Self {
            workspace,
            exec: command.started.sequence,
            state,
            exit_code,
            duration_ms: command.ended.map(|ended| ended.duration_ms),
            cursor,
            output: None,
            dropped_bytes: dropped.filter(|dropped| *dropped > 0),
        }
    }

    /// The same with what was printed meanwhile, standard output first.
    pub(crate) fn with_output(self, output: [Capture; 2]) -> Self {
        Self { output: Some(output.into()), ..self }
    }

    /// The exit code that passes the command's end on; none while it runs.
    pub(crate) fn exit_code(&self) -> Option<u8> {
        match self.state {
            "running" => None,
            "killed" => Some(EXIT_KILLED),
            _ => Some(self.exit_code.unwrap_or(EXIT_PYRO_FAILED)),
        }
    }

    /// What is said after its output, where that and the exit code do not tell all.
    pub(crate) fn parting_words(&self) -> Vec<String> {
        let Self { exec, cursor, .. } = self;
        let mut words = Vec::new();
        if let Some(dropped) = self.dropped_bytes {
            words.push(format!("the last {} that it printed are not kept", units::size(dropped)));
        }
        match self.state {
            "running" => words.push(format!("command {exec} still runs; --cursor {cursor} goes on from here")),
            "timed_out" => words.push(format!("command {exec} ran past its limit and was killed")),
            "killed" => words.push(format!("command {exec} was killed")),
            "lost" => words.push(format!("command {exec} was lost with its machine")),
            _ => {}
        }
        words
    }
}

/// A command that was to be killed.
#[derive(Debug, Serialize)]
pub(crate) struct KilledReport {
    workspace: String,
    /// The command's number.
    exec: u64,
    /// As in [`LogRow`].
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<u8>,
    duration_ms: u64,
    /// It had ended before.
    had_ended: bool,
}

impl KilledReport {
    pub(crate) fn new(workspace: String, ended: CommandEnded, had_ended: bool) -> Self {
        let (state, exit_code) = end_words(ended);
        Self { workspace, exec: ended.sequence, state, exit_code, duration_ms: ended.duration_ms, had_ended }
    }
}

impl Report for KilledReport {
    fn text(&self, _: bool) -> String {
        let before = if self.had_ended { " before" } else { "" };
        let how = how_it_ended(self.state, self.exit_code, self.duration_ms);
        format!("command {} ended{before}: {how}\n", self.exec)
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
    /// Whether it is not kept any more.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    output_dropped: bool,
    /// The parts of the output around what was left out, and how much that is.
    #[serde(skip)]
    gap: Option<([String; 2], u64)>,
    /// Who asked for it: a chat host and its session; empty for the command line.
    by: MadeBy,
}

impl LogRow {
    pub(crate) fn new(command: LoggedCommand, output: Capture) -> Self {
        let (state, exit_code) = command.ended.map_or(("running", None), end_words);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let gap = output.gap();
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
            output: text(&bytes),
            output_truncated: !whole || command.ended.is_some_and(|ended| ended.kept_bytes < ended.output_bytes),
            output_dropped: false,
            gap: gap.map(|(at, left_out)| ([text(&bytes[..at]), text(&bytes[at..])], left_out)),
            by: command.started.by.into(),
        }
    }

    /// The same of a command whose output is not kept any more.
    pub(crate) fn without_output(self) -> Self {
        Self { output_dropped: true, output_truncated: true, ..self }
    }

    /// The line that says what was run.
    pub(crate) fn head(&self) -> String {
        let words: Vec<String> = self.argv.iter().map(|word| quoted(word)).collect();
        let when = self.started_at.ago() + &self.by.of_command();
        format!("[{}] {}  ({when})\n", self.exec, words.join(" "))
    }

    /// What it printed, and what is missing of that.
    fn body(&self, workspace: &str, text: &mut String) {
        let mut lines = |part: &str| {
            for line in part.lines() {
                // Of a line that rewrote itself the last state.
                let _ = writeln!(
                    text,
                    "    {}",
                    one_line(line.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default())
                );
            }
        };
        match &self.gap {
            None => lines(&self.output),
            Some(([head, tail], left_out)) => {
                lines(head);
                let (size, exec) = (units::size(*left_out), self.exec);
                lines(&format!("[… {size} left out; 'pyro workspace wait {workspace} {exec}' prints all of it]"));
                lines(tail);
            }
        }
        if self.output_dropped {
            text.push_str("    [what it printed is not kept any more]\n");
        }
    }

    /// The line that says how it ended, if it did.
    pub(crate) fn foot(&self) -> String {
        let Some(duration_ms) = self.duration_ms else {
            return format!("[{}] runs\n", self.exec);
        };
        format!("[{}] {}\n", self.exec, how_it_ended(self.state, self.exit_code, duration_ms))
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
            row.body(&self.workspace, &mut text);
            text.push_str(&row.foot());
        }
        text
    }
}

/// The state of a command whose end nobody saw.
const LOST: &str = "lost";

/// How a command ended, in words.
fn how_it_ended(state: &str, exit_code: Option<u8>, duration_ms: u64) -> String {
    if state == LOST {
        return "lost with its machine".to_owned();
    }
    let code = exit_code.map(|code| format!(" {code}")).unwrap_or_default();
    let duration = units::duration(Duration::from_millis(duration_ms));
    format!("{}{code} after {duration}", state.replace('_', " "))
}

/// The state of a command that ended, in a word, and its exit code if it has one.
pub(crate) fn end_words(ended: CommandEnded) -> (&'static str, Option<u8>) {
    match ended.end {
        CommandEndRecord::Exited(code) => ("exited", Some(code)),
        CommandEndRecord::Signaled(signal) => ("signaled", Some(128_u8.saturating_add(signal))),
        CommandEndRecord::TimedOut => ("timed_out", Some(crate::failure::EXIT_TIMED_OUT)),
        CommandEndRecord::Killed => ("killed", None),
        CommandEndRecord::Lost => (LOST, None),
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

#[cfg(test)]
mod tests {
    use pyro_engine::store::workspace_record::{CommandEndRecord, CommandEnded, CommandStarted, Origin};
    use pyro_engine::workspace::logs::LoggedCommand;

    use super::super::captured::Capture;
    use super::{LogReport, LogRow, Report, WaitReport};

    fn command(end: Option<CommandEndRecord>) -> LoggedCommand {
        let argv = vec!["make".to_owned(), "all of it".to_owned()];
        let started =
            CommandStarted { sequence: 3, argv, cwd: "/workspace".to_owned(), at_ms: 0, by: Origin::default() };
        let ended = |end| CommandEnded { sequence: 3, end, duration_ms: 1500, output_bytes: 40, kept_bytes: 30 };
        LoggedCommand { started, ended: end.map(ended) }
    }

    #[track_caller]
    fn check(end: Option<CommandEndRecord>, exit_code: Option<u8>, words: &str) {
        let report = WaitReport::new("0123456789ab".to_owned(), command(end), 30);
        assert_eq!((report.exit_code(), report.parting_words().pop().unwrap_or_default().as_str()), (exit_code, words));
    }

    #[test]
    fn a_wait_passes_the_end_on() {
        let dropped = "the last 10 B that it printed are not kept";
        check(None, None, "command 3 still runs; --cursor 30 goes on from here");
        check(Some(CommandEndRecord::Exited(7)), Some(7), dropped);
        check(Some(CommandEndRecord::Signaled(11)), Some(139), dropped);
        check(Some(CommandEndRecord::TimedOut), Some(124), "command 3 ran past its limit and was killed");
        check(Some(CommandEndRecord::Killed), Some(137), "command 3 was killed");
        check(Some(CommandEndRecord::Lost), Some(125), "command 3 was lost with its machine");
    }

    #[test]
    fn a_log_says_what_is_missing() {
        let mut long = Capture::short();
        for number in 0..10_000 {
            long.push(format!("line {number}\n").as_bytes());
        }
        let ended = || command(Some(CommandEndRecord::Exited(0)));
        let gone = LogRow::new(ended(), Capture::default()).without_output();
        let report = LogReport { workspace: "fix".to_owned(), commands: vec![LogRow::new(ended(), long), gone] };
        let text = report.text(false);
        let lines: Vec<&str> = text.lines().filter(|line| line.contains('[')).map(str::trim).collect();
        assert_eq!(lines[1], "[… 80.5 KiB left out; 'pyro workspace wait fix 3' prints all of it]");
        assert_eq!(lines[2], "[3] exited 0 after 1.50 s");
        assert_eq!(lines[4], "[what it printed is not kept any more]");
        assert!(text.contains("    line 0\n") && text.contains("    line 9999\n"));
    }
}
