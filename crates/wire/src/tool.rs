//! Tools: work inside the guest that the agent's own program does, each call a command of its own.
//!
//! [`crate::exec::Program::Tool`] starts the agent's program as a command, with the tool's arguments. What a tool answers
//! is its standard output: lines of JSON, documented with the tool's types, and raw bytes where content travels; the line
//! before raw bytes says how many they are. What is big and goes in (contents, patches) comes on standard input. A tool that fails
//! exits with [`FAILED_CODE`] and has written one [`crate::fault::Fault`] as JSON to standard error.

use serde::{Deserialize, Serialize};

use crate::files::List;

/// Most bytes the JSON of a tool may have: it is one argument of a process, and the kernel takes 128 KiB at most.
pub const TOOL_BYTES_MAX: usize = 100 * 1024;

/// The exit code of a tool that failed and said why.
pub const FAILED_CODE: u8 = 1;

/// Most bytes of a fault on standard error that a host need read.
pub const FAULT_BYTES_MAX: usize = 64 * 1024;

/// A tool with its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tool {
    /// What a directory holds.
    List(List),
}

impl Tool {
    /// The tool's name, for messages.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::List(_) => "list",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Tool;
    use crate::files::List;

    #[track_caller]
    fn check(tool: &Tool, json: &str) {
        assert_eq!(serde_json::to_string(tool).expect("serialises"), json);
        assert_eq!(&serde_json::from_str::<Tool>(json).expect("parses"), tool);
    }

    #[test]
    fn the_json_of_each_tool_is_fixed() {
        let list = List { path: "/workspace".into(), recursive: true, entries_max: 10 };
        check(&Tool::List(list), r#"{"list":{"path":"/workspace","recursive":true,"entries_max":10}}"#);
    }
}
