//! The part of [`super::protocol`] that is about shells.
//!
//! All but [`ShellAsk::Attach`] are answered by one message. An attached client is answered like one that runs a command:
//! `Started`, then what is on the screen now and what is printed from then on, and `Exited` when the shell ends; it sends what
//! is typed as standard input, by credit, and steers with `Resize` and `Signal`. What a shell printed before is read from its
//! transcript on disk, not asked for.

use std::collections::BTreeMap;

use pyro_wire::exec::{ExecRequest, TerminalSize, Word};
use serde::{Deserialize, Serialize};

use crate::store::shell_record::{ShellId, ShellRecord};
use crate::store::workspace_record::Origin;

/// Most shells of a workspace that run at once.
pub const SHELLS_RUNNING_MAX: usize = 16;

/// Shells that ended and are kept to be read; beyond them the oldest are closed.
pub const SHELLS_ENDED_MAX: usize = 16;

/// Most bytes that are written to a shell at once.
pub const SHELL_INPUT_BYTES_MAX: usize = 64 * 1024;

/// Most lines and columns of a shell's terminal; its screen is kept in memory.
pub const SHELL_ROWS_MAX: u16 = 200;
/// See [`SHELL_ROWS_MAX`].
pub const SHELL_COLS_MAX: u16 = 400;

/// Longest time in milliseconds that one question waits for a change.
pub const WATCH_MS_MAX: u64 = 30_000;

/// What can be asked of shells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShellAsk {
    /// Open one; answered by `Shell`.
    Open(Box<ShellOpen>),
    /// Tell of one, as soon as it printed more than `seen_bytes`, ended, or `limit_ms` are over; answered by `Shell`.
    Watch {
        /// The shell.
        shell: ShellId,
        /// What is known already.
        seen_bytes: u64,
        /// How long to wait for more.
        limit_ms: u64,
    },
    /// Tell what is on its screen; answered by `Screen`.
    Screen {
        /// The shell.
        shell: ShellId,
    },
    /// Type this; answered by `Written`.
    Write {
        /// The shell.
        shell: ShellId,
        /// At most [`SHELL_INPUT_BYTES_MAX`] bytes.
        input: Word,
    },
    /// Send a signal to the job in its foreground.
    Signal {
        /// The shell.
        shell: ShellId,
        /// A signal number of Linux.
        signal: u8,
    },
    /// End it with everything in it, and forget what it printed.
    Close {
        /// The shell.
        shell: ShellId,
    },
    /// Be its terminal from now on.
    Attach {
        /// The shell.
        shell: ShellId,
        /// Size of the client's terminal.
        size: TerminalSize,
    },
}

/// A shell to open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShellOpen {
    /// What runs in it, with a terminal and standard input.
    pub request: ExecRequest,
    /// Who asks.
    #[serde(default)]
    pub by: Origin,
    /// Variables that are filled with secrets, and which.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secret_env: BTreeMap<String, String>,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShellAnswer {
    /// Where a shell is.
    Shell(Box<ShellStatus>),
    /// What is on its screen.
    Screen(Box<ShellScreen>),
    /// It was typed when so much had been printed.
    Written {
        /// Bytes of the transcript.
        cursor: u64,
    },
}

/// Where a shell is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShellStatus {
    /// What is written of it.
    pub record: ShellRecord,
    /// Bytes that it printed.
    pub printed_bytes: u64,
    /// Milliseconds since it printed, or was opened.
    pub quiet_ms: u64,
    /// Clients that are attached.
    pub attached: usize,
}

/// What is on a screen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShellScreen {
    /// Its lines, each without the blanks at its end.
    pub lines: Vec<String>,
    /// Columns.
    pub cols: u16,
    /// Line and column of the cursor, from 0; none while it is hidden.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<(u16, u16)>,
    /// Whether a full-screen program has the screen for itself.
    pub alternate: bool,
    /// Bytes that had been printed.
    pub printed_bytes: u64,
}

/// Why a shell does not do what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShellDenial {
    /// There is none of that name.
    Unknown,
    /// It ended.
    Ended,
    /// What was typed before was not taken yet.
    InputFull,
    /// Too many run.
    TooMany,
    /// It is no shell: without a terminal, or without standard input.
    NoTerminal,
}

#[cfg(test)]
mod tests {
    use serde::Serialize;
    use serde::de::DeserializeOwned;

    use super::super::protocol::{Ask, Refusal, RefusalKind, ServerMessage};
    use super::{ShellAnswer, ShellAsk, ShellDenial, ShellId, ShellScreen, ShellStatus};

    #[track_caller]
    fn check<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(message: T, json: &str) {
        assert_eq!(serde_json::to_string(&message).unwrap(), json);
        assert_eq!(serde_json::from_str::<T>(json).unwrap(), message);
    }

    #[test]
    fn the_words_are_fixed() {
        let shell = ShellId(2);
        let watch = ShellAsk::Watch { shell, seen_bytes: 5, limit_ms: 9 };
        check(Ask::Shell(watch), r#"{"shell":{"watch":{"shell":2,"seen_bytes":5,"limit_ms":9}}}"#);
        check(ShellAsk::Write { shell, input: "ls\r".into() }, r#"{"write":{"shell":2,"input":"ls\r"}}"#);
        check(ShellAsk::Signal { shell, signal: 2 }, r#"{"signal":{"shell":2,"signal":2}}"#);
        check(ShellAsk::Close { shell }, r#"{"close":{"shell":2}}"#);
        let answer = ShellAnswer::Written { cursor: 7 };
        check(ServerMessage::Shell { answer }, r#"{"type":"shell","answer":{"written":{"cursor":7}}}"#);
        let lines = vec!["$".to_owned()];
        let screen = ShellScreen { lines, cols: 9, cursor: Some((0, 2)), alternate: false, printed_bytes: 3 };
        check(screen, r#"{"lines":["$"],"cols":9,"cursor":[0,2],"alternate":false,"printed_bytes":3}"#);
        let refusal = Refusal::new(RefusalKind::Shell(ShellDenial::InputFull), "x");
        check(refusal, r#"{"kind":{"shell":"input_full"},"message":"x"}"#);
        let record = serde_json::from_str(include_str!("../../../store/fixtures/shell-v1.json")).unwrap();
        let status = ShellStatus { record, printed_bytes: 1, quiet_ms: 2, attached: 0 };
        let json = serde_json::to_string(&ShellAnswer::Shell(Box::new(status.clone()))).unwrap();
        assert!(json.starts_with(r#"{"shell":{"record":{"version":1,"id":3,"#), "{json}");
        check(status, json.strip_prefix(r#"{"shell":"#).and_then(|json| json.strip_suffix('}')).unwrap());
    }
}
