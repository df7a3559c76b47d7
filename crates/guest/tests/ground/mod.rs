//! A ground for trying tools without a machine: a directory with `root/`, `lower/` and `upper/` in it, and the agent's program run
//! as a tool over it.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pyro_wire::{Fault, Tool};
use serde::de::DeserializeOwned;

pub(crate) struct Ground {
    dir: tempfile::TempDir,
}

impl Ground {
    /// An empty root with an empty `/workspace`, and empty layers.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        for name in ["root/workspace", "lower", "upper"] {
            std::fs::create_dir_all(dir.path().join(name)).expect("a folder");
        }
        Self { dir }
    }

    /// Where `path` of the ground is for this process: `root/workspace/x`, `lower/x`, …
    pub(crate) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(path)
    }

    /// Where `path` of the workspace is for this process.
    pub(crate) fn workspace(&self, path: impl AsRef<Path>) -> PathBuf {
        self.path("root/workspace").join(path)
    }

    /// Puts a file into the workspace, with its parents.
    pub(crate) fn put(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.workspace(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        std::fs::write(path, content).expect("written");
    }

    /// Runs a tool and feeds it `input`; what it answered.
    pub(crate) fn run(&self, tool: &Tool, input: &[u8]) -> Result<Vec<u8>, Fault> {
        run(tool, input, &["--ground".as_ref(), self.dir.path().as_os_str()])
    }

    /// As [`Self::run`], for a tool that answers in lines and takes no input.
    pub(crate) fn lines<T: DeserializeOwned>(&self, tool: &Tool) -> Result<Vec<T>, Fault> {
        Ok(parse_lines(&self.run(tool, b"")?))
    }
}

/// Runs a tool with these words after it; without any, over the root of this process.
pub(crate) fn run(tool: &Tool, input: &[u8], ground: &[&OsStr]) -> Result<Vec<u8>, Fault> {
    #[expect(clippy::disallowed_methods, reason = "the test starts the tool itself")]
    let mut child = Command::new(env!("CARGO_BIN_EXE_pyro-guest"))
        .arg("--tool")
        .arg(serde_json::to_string(tool).expect("serialises"))
        .args(ground)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the tool starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    // A tool may refuse before it has read everything.
    let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().expect("the tool ends");
    feeder.join().expect("fed");
    match output.status.code() {
        Some(0) => {
            assert_eq!(String::from_utf8_lossy(&output.stderr), "", "a tool that went well complains of nothing");
            Ok(output.stdout)
        }
        Some(1) => Err(serde_json::from_slice(&output.stderr).expect("one fault")),
        code => panic!("the tool ended with {code:?}: {}", String::from_utf8_lossy(&output.stderr)),
    }
}

/// The values of an answer that is lines of JSON.
pub(crate) fn parse_lines<T: DeserializeOwned>(answer: &[u8]) -> Vec<T> {
    let text = std::str::from_utf8(answer).expect("JSON is text");
    assert!(text.is_empty() || text.ends_with('\n'), "each line has an end");
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}
