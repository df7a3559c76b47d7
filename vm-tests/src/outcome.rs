//! What came of one call of pyro.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

/// How much of a stream a failed test shows.
const SHOWN_BYTES: usize = 4000;

/// The end of one call.
#[derive(Clone)]
pub struct Outcome {
    /// The arguments, for messages.
    pub call: String,
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    /// From start to end.
    pub elapsed: Duration,
}

impl Outcome {
    /// Fails the test unless the exit code is this one.
    #[track_caller]
    pub fn assert_code(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "exit code of {self:?}");
        self
    }

    /// Fails the test unless standard output is exactly this.
    #[track_caller]
    pub fn assert_stdout(&self, expected: impl AsRef<[u8]>) -> &Self {
        let expected = expected.as_ref();
        let shown = String::from_utf8_lossy(expected);
        assert!(self.stdout == expected, "standard output is not {shown:?} in {self:?}");
        self
    }

    /// Fails the test unless standard output holds this text.
    #[track_caller]
    pub fn assert_stdout_has(&self, part: &str) -> &Self {
        assert!(self.stdout_text().contains(part), "standard output lacks {part:?} in {self:?}");
        self
    }

    /// Fails the test unless standard error holds this text.
    #[track_caller]
    pub fn assert_stderr_has(&self, part: &str) -> &Self {
        assert!(self.stderr_text().contains(part), "standard error lacks {part:?} in {self:?}");
        self
    }

    /// Fails the test unless the call failed as pyro fails: with this code, nothing on standard output, and an error
    /// of at most three lines which mention all `parts`.
    #[track_caller]
    pub fn assert_refused(&self, code: i32, parts: &[&str]) -> &Self {
        self.assert_code(code).assert_stdout("");
        let text = self.stderr_text();
        let error = text.find("error:").map(|at| &text[at..]).unwrap_or_default();
        assert!(!error.is_empty(), "no line starts with `error:` in {self:?}");
        assert!(error.trim_end().lines().count() <= 3, "more than three lines of error in {self:?}");
        assert!(!text.contains("panicked"), "a panic in {self:?}");
        for part in parts {
            assert!(text.contains(part), "the error lacks {part:?} in {self:?}");
        }
        self
    }

    /// Standard output as text.
    #[must_use]
    pub fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    #[must_use]
    pub fn stderr_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Standard output as the one JSON value it should be.
    #[track_caller]
    #[must_use]
    pub fn json(&self) -> Value {
        match serde_json::from_slice(&self.stdout) {
            Ok(value) => value,
            Err(error) => panic!("standard output is no JSON ({error}) in {self:?}"),
        }
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |bytes: &[u8]| {
            let end = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(SHOWN_BYTES)..]).into_owned();
            format!("{} bytes: {}", bytes.len(), end.escape_debug().to_string().replace("\\n", "\n    "))
        };
        writeln!(out, "\n  call:    {}", self.call)?;
        writeln!(out, "  ended:   code {:?}, signal {:?}, after {:.2?}", self.code, self.signal, self.elapsed)?;
        writeln!(out, "  stdout:  {}", shown(&self.stdout))?;
        write!(out, "  stderr:  {}", shown(&self.stderr))
    }
}
