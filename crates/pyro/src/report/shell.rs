//! The public shapes of shells: one, all of a workspace, what one printed, what was done with one.

use pyro_engine::store::shell_record::{ShellEnd, ShellId};
use pyro_engine::supervisor::shell_protocol::{ShellScreen, ShellStatus};
use pyro_engine::workspace::shell::Waited;
use serde::Serialize;

use super::clean::{lines, one_line};
use super::env::Moment;
use super::{Report, units};

/// A shell.
#[derive(Debug, Serialize)]
pub(crate) struct ShellReport {
    workspace: String,
    #[serde(flatten)]
    shell: ShellFields,
}

/// What is told of a shell.
#[derive(Debug, Serialize)]
pub(crate) struct ShellFields {
    /// Its id.
    pub(crate) shell: String,
    /// `running`, `exited`, `signaled` or `gone`.
    pub(crate) state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) exit_code: Option<u8>,
    /// Why it is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    cwd: String,
    rows: u16,
    cols: u16,
    opened_at: Moment,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<Moment>,
    /// Bytes it printed: the cursor of what comes next.
    printed_bytes: u64,
    /// Terminals that are attached.
    attached: usize,
    /// The chat host that opened it; none for the command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
}

impl From<ShellStatus> for ShellFields {
    fn from(ShellStatus { record, printed_bytes, attached, .. }: ShellStatus) -> Self {
        let (state, exit_code, reason) = match record.end.as_ref().map(|end| &end.how) {
            None => ("running", None, None),
            Some(ShellEnd::Exited(code)) => ("exited", Some(*code), None),
            Some(ShellEnd::Signaled(signal)) => ("signaled", Some(128_u8.saturating_add(*signal)), None),
            Some(ShellEnd::Gone { reason }) => ("gone", None, Some(reason.clone())),
        };
        Self {
            shell: record.id.to_string(),
            state,
            exit_code,
            reason,
            cwd: record.cwd,
            rows: record.rows,
            cols: record.cols,
            opened_at: Moment(record.opened_at_ms / 1000),
            ended_at: record.end.map(|end| Moment(end.at_ms / 1000)),
            printed_bytes,
            attached,
            by: record.by.host,
        }
    }
}

impl ShellFields {
    /// Its state in words.
    pub(crate) fn in_words(&self) -> String {
        match (self.exit_code, &self.reason) {
            (Some(code), _) => format!("{} {code}", self.state),
            (None, Some(reason)) => format!("gone: {}", one_line(reason)),
            (None, None) => self.state.to_owned(),
        }
    }
}

impl ShellReport {
    pub(crate) fn new(workspace: String, status: ShellStatus) -> Self {
        Self { workspace, shell: status.into() }
    }
}

impl Report for ShellReport {
    fn text(&self, _: bool) -> String {
        let (workspace, shell) = (&self.workspace, &self.shell.shell);
        format!("shell {shell} is open; 'pyro workspace shell attach {workspace} {shell}' is its terminal\n")
    }
}

/// The shells of a workspace.
#[derive(Debug, Serialize)]
pub(crate) struct ShellList {
    workspace: String,
    shells: Vec<ShellFields>,
}

impl ShellList {
    pub(crate) fn new(workspace: String, shells: Vec<ShellStatus>) -> Self {
        Self { workspace, shells: shells.into_iter().map(ShellFields::from).collect() }
    }
}

impl Report for ShellList {
    fn text(&self, _: bool) -> String {
        if self.shells.is_empty() {
            return format!("no shells; 'pyro workspace shell open {}' opens one\n", self.workspace);
        }
        let mut rows = vec![["SHELL", "STATE", "OPENED", "PRINTED", "SIZE", "ATTACHED"].map(str::to_owned)];
        rows.extend(self.shells.iter().map(|shell| {
            [
                shell.shell.clone(),
                shell.in_words(),
                shell.opened_at.ago(),
                units::size(shell.printed_bytes),
                format!("{}x{}", shell.cols, shell.rows),
                shell.attached.to_string(),
            ]
        }));
        units::columns(&rows)
    }
}

/// What a shell printed.
#[derive(Debug, Serialize)]
pub(crate) struct ShellOutput {
    workspace: String,
    #[serde(flatten)]
    pub(crate) shell: ShellFields,
    /// What was waited for and came true: `matched`, `quiet`, `ended` or `timed_out`.
    #[serde(skip_serializing_if = "Option::is_none")]
    waited: Option<&'static str>,
    /// What the pattern matched.
    #[serde(skip_serializing_if = "Option::is_none")]
    matched: Option<String>,
    #[serde(flatten)]
    seen: Seen,
}

/// What is seen of it.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Seen {
    /// Its transcript.
    Transcript(Transcript),
    /// Its screen.
    Screen(Screen),
}

/// A part of a transcript.
#[derive(Debug, Serialize)]
pub(crate) struct Transcript {
    /// The text; what is not UTF-8 is replaced.
    pub(crate) output: String,
    /// Bytes between the cursor that was asked for and what is shown, which are not kept any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) missing_bytes: Option<u64>,
    /// Where it goes on.
    pub(crate) cursor: u64,
    /// Bytes that were printed after it already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) more_bytes: Option<u64>,
}

/// A screen.
#[derive(Debug, Serialize)]
pub(crate) struct Screen {
    /// Its lines, without the blanks at their ends.
    screen: Vec<String>,
    /// Where the cursor is; none while it is hidden.
    #[serde(skip_serializing_if = "Option::is_none")]
    screen_cursor: Option<Place>,
    /// Whether a full-screen program has it for itself.
    alternate: bool,
    /// Bytes that had been printed.
    cursor: u64,
}

/// A place on a screen, from 0.
#[derive(Debug, Serialize)]
struct Place {
    line: u16,
    column: u16,
}

impl From<ShellScreen> for Screen {
    fn from(ShellScreen { lines, cursor, alternate, printed_bytes, .. }: ShellScreen) -> Self {
        let screen_cursor = cursor.map(|(line, column)| Place { line, column });
        Self { screen: lines, screen_cursor, alternate, cursor: printed_bytes }
    }
}

impl Screen {
    /// The screen as text, without the empty lines at its end, and safe for a terminal.
    pub(crate) fn text(&self) -> String {
        let filled = self.screen.iter().rposition(|line| !line.is_empty()).map_or(0, |last| last + 1);
        self.screen[..filled].iter().map(|line| lines(line.as_bytes()) + "\n").collect()
    }

    /// Where it goes on after it.
    pub(crate) fn cursor(&self) -> u64 {
        self.cursor
    }
}

impl ShellOutput {
    pub(crate) fn new(workspace: String, status: ShellStatus, waited: Option<Waited>, seen: Seen) -> Self {
        let (waited, matched) = match waited {
            None => (None, None),
            Some(Waited::Matched(text)) => (Some("matched"), Some(text)),
            Some(Waited::Quiet) => (Some("quiet"), None),
            Some(Waited::Ended) => (Some("ended"), None),
            Some(Waited::TimedOut) => (Some("timed_out"), None),
        };
        Self { workspace, shell: status.into(), waited, matched, seen }
    }

    /// What is said beside the output, where that does not tell all.
    pub(crate) fn parting_words(&self) -> Vec<String> {
        let shell = &self.shell.shell;
        let mut words = Vec::new();
        let cursor = match &self.seen {
            Seen::Screen(screen) => screen.cursor(),
            Seen::Transcript(transcript) => {
                if let Some(missing) = transcript.missing_bytes {
                    words.push(format!("{} before this are not kept any more", units::size(missing)));
                }
                if let Some(more) = transcript.more_bytes {
                    words.push(format!("{} more are there", units::size(more)));
                }
                transcript.cursor
            }
        };
        if self.waited == Some("timed_out") {
            words.push("what was waited for did not come".to_owned());
        }
        words.push(format!("shell {shell} {}; --cursor {cursor} goes on from here", self.shell.verb()));
        words
    }
}

impl ShellFields {
    fn verb(&self) -> String {
        match (self.state, self.exit_code, &self.reason) {
            ("running", ..) => "runs".to_owned(),
            (_, Some(code), _) => format!("{} with {code}", self.state),
            (_, _, Some(reason)) => format!("is gone ({})", one_line(reason)),
            (state, ..) => state.to_owned(),
        }
    }
}

/// Something was typed.
#[derive(Debug, Serialize)]
pub(crate) struct ShellWritten {
    pub(crate) workspace: String,
    pub(crate) shell: String,
    /// Bytes it had printed before: what it answers comes after them.
    pub(crate) cursor: u64,
}

impl Report for ShellWritten {
    fn text(&self, _: bool) -> String {
        let Self { workspace, shell, cursor } = self;
        format!("typed; 'pyro workspace shell read {workspace} {shell} --cursor {cursor}' shows what comes of it\n")
    }
}

/// A signal was sent.
#[derive(Debug, Serialize)]
pub(crate) struct ShellSignaled {
    pub(crate) workspace: String,
    pub(crate) shell: String,
    pub(crate) signal: &'static str,
}

impl Report for ShellSignaled {
    fn text(&self, _: bool) -> String {
        format!("{} was sent to what runs in shell {}\n", self.signal, self.shell)
    }
}

/// A shell is closed.
#[derive(Debug, Serialize)]
pub(crate) struct ShellClosed {
    workspace: String,
    shell: String,
    closed: bool,
}

impl ShellClosed {
    pub(crate) fn new(workspace: String, shell: ShellId) -> Self {
        Self { workspace, shell: shell.to_string(), closed: true }
    }
}

impl Report for ShellClosed {
    fn text(&self, _: bool) -> String {
        format!("shell {} is closed\n", self.shell)
    }
}

#[cfg(test)]
mod tests {
    use pyro_engine::store::shell_record::{SHELL_RECORD_VERSION, ShellEnd, ShellEndRecord, ShellId, ShellRecord};
    use pyro_engine::store::workspace_record::Origin;
    use pyro_engine::supervisor::shell_protocol::{ShellScreen, ShellStatus};
    use pyro_engine::workspace::shell::Waited;
    use serde_json::json;

    use super::{Report, Seen, ShellList, ShellOutput, Transcript};

    fn status(how: Option<ShellEnd>) -> ShellStatus {
        let record = ShellRecord {
            version: SHELL_RECORD_VERSION,
            id: ShellId(2),
            cwd: "/workspace".to_owned(),
            rows: 30,
            cols: 120,
            opened_at_ms: 0,
            by: Origin::default(),
            end: how.map(|how| ShellEndRecord { at_ms: 5000, how }),
        };
        ShellStatus { record, printed_bytes: 2048, quiet_ms: 1, attached: 1 }
    }

    #[track_caller]
    fn check(how: Option<ShellEnd>, in_list: &str, words: &str) {
        let list = ShellList::new("fix".to_owned(), vec![status(how.clone())]).text(false);
        assert!(list.contains(in_list), "{list}");
        let seen = Transcript { output: String::new(), missing_bytes: None, cursor: 9, more_bytes: None };
        let output = ShellOutput::new("fix".to_owned(), status(how), None, Seen::Transcript(seen));
        assert_eq!(output.parting_words(), [format!("shell s2 {words}; --cursor 9 goes on from here")]);
    }

    #[test]
    fn it_is_said_how_a_shell_is() {
        check(None, "s2     running", "runs");
        check(Some(ShellEnd::Exited(3)), "exited 3", "exited with 3");
        check(Some(ShellEnd::Signaled(9)), "signaled 137", "signaled with 137");
        let reason = "the workspace was reset".to_owned();
        check(Some(ShellEnd::Gone { reason }), "gone: the workspace", "is gone (the workspace was reset)");
    }

    #[test]
    fn a_script_sees_where_it_goes_on() {
        let seen = Transcript { output: ">>> ".to_owned(), missing_bytes: Some(7), cursor: 11, more_bytes: Some(5) };
        let waited = Some(Waited::Matched(">>> ".to_owned()));
        let report = ShellOutput::new("fix".to_owned(), status(None), waited, Seen::Transcript(seen));
        let json = serde_json::to_value(&report).unwrap();
        let expected = json!({
            "workspace": "fix", "shell": "s2", "state": "running", "cwd": "/workspace", "rows": 30, "cols": 120,
            "opened_at": "1970-01-01T00:00:00Z", "printed_bytes": 2048, "attached": 1, "waited": "matched",
            "matched": ">>> ", "output": ">>> ", "missing_bytes": 7, "cursor": 11, "more_bytes": 5,
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn a_screen_is_shown_as_far_as_it_is_filled() {
        let lines = ["top", "", "a\u{202e}b", "", ""].map(str::to_owned).to_vec();
        let screen = ShellScreen { lines, cols: 9, cursor: Some((2, 3)), alternate: true, printed_bytes: 44 };
        let screen = super::Screen::from(screen);
        assert_eq!(screen.text(), "top\n\na\\u{202e}b\n");
        let report = ShellOutput::new("fix".to_owned(), status(None), Some(Waited::TimedOut), Seen::Screen(screen));
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!((&json["screen_cursor"], &json["cursor"]), (&json!({"line": 2, "column": 3}), &json!(44)));
        assert_eq!(report.parting_words()[0], "what was waited for did not come");
    }
}
