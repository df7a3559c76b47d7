//! Running commands: the request, its streams, its end.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::tool::Tool;

/// Names one command within a session. Chosen by the host, never used twice in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ExecId(pub u32);

/// The streams of a command. With a terminal, everything it prints is [`Stream::Stdout`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Host to guest.
    Stdin,
    /// Guest to host.
    Stdout,
    /// Guest to host.
    Stderr,
}

impl Stream {
    /// The stream's number in a frame's head; the numbers of the POSIX descriptors.
    #[must_use]
    pub fn to_byte(self) -> u8 {
        match self {
            Self::Stdin => 0,
            Self::Stdout => 1,
            Self::Stderr => 2,
        }
    }

    /// The stream of a number in a frame's head.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Stdin),
            1 => Some(Self::Stdout),
            2 => Some(Self::Stderr),
            _ => None,
        }
    }
}

/// Most commands one agent runs at once.
pub const EXECS_MAX: usize = 256;

/// A command to run in the guest's root.
///
/// It gets its own session, process group and cgroup. It starts with an environment of `PATH`, `HOME`, `LANG=C.UTF-8`
/// (and `TERM` with a terminal) and nothing else; `env` adds to it and overrides it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// What runs.
    pub program: Program,
    /// Variables added to the environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, Word>,
    /// Absolute working directory.
    pub cwd: Word,
    /// Whether the host will send standard input; otherwise it is `/dev/null`, or with a terminal the terminal, on which
    /// nobody types. The end of the host's input is to a terminal in line mode its end-of-file character.
    pub stdin: bool,
    /// Run on a pseudo-terminal of this size instead of on pipes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<TerminalSize>,
    /// Kill the whole command after this many milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Whether it is over only with everything it started: what its own process leaves running is killed, after
    /// [`crate::HostMessage::Terminate`] only when the grace is over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
}

/// What a command runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Program {
    /// A program of the guest and its arguments, at least one word. Without a slash the program is looked up in the
    /// command's `PATH`.
    Argv(Vec<Word>),
    /// A tool of the agent, see [`crate::tool`]. It runs without a terminal.
    Tool(Box<Tool>),
}

/// One word of an argument list, or a path: any bytes but NUL. UTF-8 travels as a JSON string, anything else as an
/// array of bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Word {
    /// Valid UTF-8.
    Text(String),
    /// Other bytes.
    Bytes(Vec<u8>),
}

impl Word {
    /// The bytes of the word.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }
}

impl From<Vec<u8>> for Word {
    fn from(bytes: Vec<u8>) -> Self {
        String::from_utf8(bytes).map_or_else(|error| Self::Bytes(error.into_bytes()), Self::Text)
    }
}

impl From<&str> for Word {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Word {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// Size of a terminal in character cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Columns.
    pub cols: u16,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// It exited with this code.
    Code(u8),
    /// This signal ended it.
    Signal(u8),
    /// It ran past its time limit and was killed, with everything it had started.
    TimedOut,
    /// The host asked for it to be killed, with everything it had started.
    Killed,
}

#[cfg(test)]
mod tests {
    use super::Word;

    #[track_caller]
    fn check(bytes: &[u8], json: &str) {
        let word = Word::from(bytes.to_vec());
        assert_eq!(serde_json::to_string(&word).expect("serialises"), json);
        assert_eq!(serde_json::from_str::<Word>(json).expect("parses").as_bytes(), bytes);
    }

    #[test]
    fn words_carry_any_bytes() {
        check(b"plain", r#""plain""#);
        check("größe".as_bytes(), r#""größe""#);
        check(b"\xff\x00x", "[255,0,120]");
    }
}
