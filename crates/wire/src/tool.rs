//! Tools: work inside the guest that the agent's own program does, each call a command of its own.
//!
//! [`crate::exec::Program::Tool`] starts the agent's program as a command, with the tool's arguments. What a tool answers
//! is its standard output: lines of JSON, documented with the tool's types, and raw bytes where content travels; the line
//! before raw bytes says how many they are. What is big and goes in (contents, patches) comes on standard input. A tool that fails
//! exits with [`FAILED_CODE`] and has written one [`crate::fault::Fault`] as JSON to standard error.

use serde::{Deserialize, Serialize};

use crate::changes::Changes;
use crate::export::Export;
use crate::files::{Edit, List, Read, Write};
use crate::patch::ApplyPatch;
use crate::ready::AwaitReady;
use crate::search::Search;
use crate::sync::{Digests, Inventory, Receive};

/// Most bytes the JSON of a tool may have: it is one argument of a process, and the kernel takes 128 KiB at most.
pub const TOOL_BYTES_MAX: usize = 100 * 1024;

/// The exit code of a tool that failed and said why.
pub const FAILED_CODE: u8 = 1;

/// Most bytes of a fault on standard error that a host need read.
pub const FAULT_BYTES_MAX: usize = 64 * 1024;

/// Most bytes of names and text in an answer that is lines of JSON; it is cut there, and says so. As JSON it may be several
/// times as long.
pub const ANSWER_TEXT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What a line of an answer counts besides its text.
pub const ANSWER_LINE_BYTES: usize = 64;

/// A tool with its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tool {
    /// What a directory holds.
    List(List),
    /// A range of a file.
    Read(Read),
    /// A file's content, new.
    Write(Write),
    /// A text of a file, replaced.
    Edit(Edit),
    /// Lines, or files, that match.
    Search(Search),
    /// What the workspace changed since its baseline.
    Changes(Changes),
    /// A patch, applied.
    ApplyPatch(ApplyPatch),
    /// A file or a directory, sent home.
    Export(Export),
    /// What is in directories, to be compared.
    Inventory(Inventory),
    /// What files hold, to be compared.
    Digests(Digests),
    /// Files, directories and links, put or removed.
    Receive(Receive),
    /// Something of the guest, waited for until it is ready.
    AwaitReady(AwaitReady),
}

impl Tool {
    /// The tool's name, for messages.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::List(_) => "list",
            Self::Read(_) => "read",
            Self::Write(_) => "write",
            Self::Edit(_) => "edit",
            Self::Search(_) => "search",
            Self::Changes(_) => "changes",
            Self::ApplyPatch(_) => "apply_patch",
            Self::Export(_) => "export",
            Self::Inventory(_) => "inventory",
            Self::Digests(_) => "digests",
            Self::Receive(_) => "receive",
            Self::AwaitReady(_) => "await_ready",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Tool;
    use crate::files::{Edit, List, Read, ReadRange, Write};
    use crate::ready::{AwaitReady, Probe};
    use crate::search::{Case, Pattern, Query, Search};

    #[track_caller]
    fn check(tool: &Tool, json: &str) {
        assert_eq!(serde_json::to_string(tool).expect("serialises"), json);
        assert_eq!(&serde_json::from_str::<Tool>(json).expect("parses"), tool);
    }

    #[test]
    fn the_json_of_each_tool_is_fixed() {
        let list = List { path: "/workspace".into(), recursive: true, entries_max: 10 };
        check(&Tool::List(list), r#"{"list":{"path":"/workspace","recursive":true,"entries_max":10}}"#);
        let read = Read { path: "/a".into(), range: ReadRange::Lines { first: 1, count: None }, bytes_max: 9 };
        check(&Tool::Read(read), r#"{"read":{"path":"/a","range":{"lines":{"first":1}},"bytes_max":9}}"#);
        let read = Read { path: "/a".into(), range: ReadRange::Bytes { offset: 7 }, bytes_max: 9 };
        check(&Tool::Read(read), r#"{"read":{"path":"/a","range":{"bytes":{"offset":7}},"bytes_max":9}}"#);
        let write = Write { path: "/a".into(), size_bytes: 3 };
        check(&Tool::Write(write), r#"{"write":{"path":"/a","size_bytes":3}}"#);
        let edit = Edit { path: "/a".into(), old_bytes: 1, new_bytes: 0, replace_all: false };
        check(&Tool::Edit(edit), r#"{"edit":{"path":"/a","old_bytes":1,"new_bytes":0,"replace_all":false}}"#);
        let probe = Probe::Tcp { host: "localhost".to_owned(), port: 80 };
        let json = r#"{"await_ready":{"probe":{"tcp":{"host":"localhost","port":80}},"interval_ms":1,"timeout_ms":2}}"#;
        check(&Tool::AwaitReady(AwaitReady { probe, interval_ms: 1, timeout_ms: 2 }), json);
        let pattern = Pattern { text: "x+".to_owned(), fixed: false, case: Case::Sensitive };
        let query = Query::Lines { pattern, context_lines: 2 };
        let search = Search { path: "/a".into(), query, globs: vec![], ignored_too: false, results_max: 5 };
        check(
            &Tool::Search(search),
            r#"{"search":{"path":"/a","query":{"lines":{"pattern":{"text":"x+","fixed":false,"case":"sensitive"},"context_lines":2}},"ignored_too":false,"results_max":5}}"#,
        );
    }
}
