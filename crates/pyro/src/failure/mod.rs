//! The only place where errors become words: what failed, why, what to do next, and the exit code.
//!
//! A failure is at most three lines on standard error, and the same three things as `error` of a JSON object. Only a
//! guest that did not boot adds the last lines of its console below them, a service that is not ready the last it printed, and a
//! patch that does not fit the lines it meets.

mod archive;
mod environment;
mod host;
mod service;
mod tool;
mod words;
mod workspace;

pub(crate) use words::install_qemu;

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use pyro_engine::supervisor::protocol::Birth;
use serde::Serialize;

use crate::report::clean::one_line;
use crate::report::doctor::Check;

/// Exit code of wrong use of the command line.
pub(crate) const EXIT_USAGE: u8 = 2;
/// Exit code of a refused operation.
pub(crate) const EXIT_REFUSED: u8 = 1;
/// Exit code of `run` when pyro itself failed, so that it cannot be mistaken for the guest's.
pub(crate) const EXIT_PYRO_FAILED: u8 = 125;
/// Exit code of a command that is there but cannot be executed, as in a shell.
pub(crate) const EXIT_NOT_EXECUTABLE: u8 = 126;
/// Exit code of a command that is not there, as in a shell.
pub(crate) const EXIT_COMMAND_NOT_FOUND: u8 = 127;
/// Exit code of a guest command that ran past its time.
pub(crate) const EXIT_TIMED_OUT: u8 = 124;

/// What kind of thing went wrong: the `code` of a JSON failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The command line or the configuration is wrong.
    Usage,
    /// Something that was named is not there.
    NotFound,
    /// It contradicts the state things are in.
    Conflict,
    /// The host lacks something, or cannot reach something.
    HostNotReady,
    /// What was fetched or stored is not what it must be.
    Untrusted,
    /// The guest failed.
    Guest,
    /// A signal ended it.
    Interrupted {
        /// The signal's number.
        signal: u8,
    },
    /// Whoever read the output went away.
    OutputClosed,
    /// pyro has a defect.
    Internal,
}

impl Kind {
    /// The kind of a code, of a failure that another pyro process told.
    fn of_code(code: &str) -> Self {
        let known = [
            Self::Usage,
            Self::NotFound,
            Self::Conflict,
            Self::HostNotReady,
            Self::Untrusted,
            Self::Guest,
            Self::OutputClosed,
        ];
        known.into_iter().find(|kind| kind.code() == code).unwrap_or(Self::Internal)
    }

    fn code(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::HostNotReady => "host_not_ready",
            Self::Untrusted => "untrusted",
            Self::Guest => "guest",
            Self::Interrupted { .. } => "interrupted",
            Self::OutputClosed => "output_closed",
            Self::Internal => "internal",
        }
    }
}

/// A failure in words.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: Kind,
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
    console: Box<str>,
    details: Vec<String>,
    exit: Option<u8>,
}

/// How a failure is to be told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Telling {
    /// As a JSON object on standard output.
    pub(crate) json: bool,
    /// In colour.
    pub(crate) color: bool,
    /// Exit code of a failure that is not the caller's.
    pub(crate) exit: u8,
}

impl Failure {
    /// A failure without a cause of its own.
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { kind, message, causes: Vec::new(), hint: None, console: Box::default(), details: Vec::new(), exit: None }
    }

    /// A failure with the words of an error and of what caused it.
    pub(crate) fn of(kind: Kind, error: &dyn Error) -> Self {
        let mut failure = Self::new(kind, error.to_string());
        let mut source = error.source();
        while let Some(cause) = source {
            let words = cause.to_string();
            // A transparent error says the same as its source.
            if !failure.message.ends_with(&words) && failure.causes.last() != Some(&words) {
                failure.causes.push(words);
            }
            source = cause.source();
        }
        failure
    }

    /// Adds why it happened.
    pub(crate) fn caused_by(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    /// Puts the failure into a wider one: what it says becomes the cause.
    pub(crate) fn within(mut self, message: impl Into<String>) -> Self {
        let cause = std::mem::replace(&mut self.message, message.into());
        self.causes.insert(0, cause);
        self
    }

    /// Adds what to do next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the last lines of a guest's console.
    pub(crate) fn console(mut self, tail: &str) -> Self {
        self.console = tail.trim_end().into();
        self
    }

    /// Adds lines that show what it is about, such as the lines of a file. They are safe to be shown.
    pub(crate) fn details(mut self, lines: Vec<String>) -> Self {
        self.details = lines;
        self
    }

    /// Ends the process with this code, whatever the verb's own is.
    pub(crate) fn exit_with(mut self, code: u8) -> Self {
        self.exit = Some(code);
        self
    }

    /// Tells the failure and answers with the exit code.
    pub(crate) fn tell(&self, telling: Telling) -> ExitCode {
        if self.kind != Kind::OutputClosed {
            // When this cannot be written either, nobody is left to be told; the exit code still says it.
            if telling.json {
                drop(writeln!(std::io::stdout(), "{}", self.json()));
            } else {
                drop(write!(std::io::stderr(), "{}", self.text(telling.color)));
            }
        }
        ExitCode::from(self.exit(telling.exit))
    }

    /// The failure as the last word of a supervisor that does not come to life.
    pub(crate) fn as_birth(&self) -> Birth {
        Birth::Failed {
            code: self.kind.code().to_owned(),
            message: self.in_one_line(),
            hint: self.hint.clone(),
            console: self.console.to_string(),
        }
    }

    /// The failure as a failed check of `doctor`.
    pub(crate) fn into_check(self, name: &'static str) -> Check {
        Check::fail(name, self.in_one_line(), self.hint.clone().unwrap_or_default()).with_console(&self.console)
    }

    /// The failure as a warning of `doctor`.
    pub(crate) fn into_warning(self, name: &'static str) -> Check {
        Check::warn(name, self.in_one_line(), self.hint.unwrap_or_default())
    }

    /// The failure for a model: what failed and why, and what to call next, in the `words` of tools.
    pub(crate) fn for_model(&self, words: fn(&str) -> String) -> String {
        let mut text = format!("error: {}", self.in_one_line());
        if let Some(hint) = &self.hint {
            let _ = write!(text, "\nnext: {}", words(&one_line(hint)));
        }
        for line in self.console.lines() {
            let _ = write!(text, "\n    {}", one_line(line));
        }
        for line in &self.details {
            let _ = write!(text, "\n{line}");
        }
        text
    }

    /// What failed and why, without what to do next.
    pub(crate) fn in_one_line(&self) -> String {
        let mut words = vec![self.message.clone()];
        words.extend(self.causes.iter().cloned());
        one_line(&words.join(": "))
    }

    fn exit(&self, refused: u8) -> u8 {
        match self.kind {
            Kind::Usage => EXIT_USAGE,
            Kind::Interrupted { signal } => 128 + signal,
            Kind::OutputClosed => 128 + 13,
            Kind::NotFound | Kind::Conflict | Kind::HostNotReady | Kind::Untrusted | Kind::Guest | Kind::Internal => {
                self.exit.unwrap_or(refused)
            }
        }
    }

    fn text(&self, color: bool) -> String {
        let (red, cyan, plain) = if color { ("\x1b[1;31m", "\x1b[1;36m", "\x1b[0m") } else { ("", "", "") };
        let mut text = format!("{red}error:{plain} {}\n", one_line(&self.message));
        if !self.causes.is_empty() {
            let _ = writeln!(text, "{red}caused by:{plain} {}", one_line(&self.causes.join(": ")));
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(text, "{cyan}hint:{plain} {}", one_line(hint));
        }
        if !self.console.is_empty() {
            text.push_str("the guest's console ended with:\n");
            for line in self.console.lines() {
                let _ = writeln!(text, "    {}", one_line(line));
            }
        }
        for line in &self.details {
            let _ = writeln!(text, "{line}");
        }
        text
    }

    fn json(&self) -> String {
        let told = Told {
            ok: false,
            error: ToldError {
                code: self.kind.code(),
                message: self.in_one_line(),
                hint: self.hint.as_deref().map(one_line),
                console: self.console.lines().map(one_line).collect(),
                details: &self.details,
            },
        };
        serde_json::to_string(&told).expect("a failure has string keys and no failing part")
    }
}

/// A failure as JSON.
#[derive(Serialize)]
struct Told<'a> {
    ok: bool,
    error: ToldError<'a>,
}

#[derive(Serialize)]
struct ToldError<'a> {
    code: &'static str,
    message: String,
    hint: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    console: Vec<String>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    details: &'a [String],
}

/// The names, those that look most like `wanted` first.
pub(crate) fn nearest_first<S: AsRef<str>, const N: usize>(wanted: &str, names: [S; N]) -> Vec<S> {
    let mut names: Vec<S> = names.into_iter().collect();
    sort_nearest_first(wanted, &mut names);
    names
}

/// The names, those that look most like `wanted` first.
pub(crate) fn nearest_first_of<'a>(wanted: &str, names: &'a [String]) -> Vec<&'a str> {
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    sort_nearest_first(wanted, &mut names);
    names
}

/// Sorts names so that those that look most like `wanted` come first; the order of equals stays.
pub(crate) fn sort_nearest_first<S: AsRef<str>>(wanted: &str, names: &mut [S]) {
    names.sort_by_key(|name| {
        let name = name.as_ref();
        let starts = name.starts_with(wanted) || wanted.starts_with(name);
        (!starts, strsim::damerau_levenshtein(wanted, name))
    });
}

#[cfg(test)]
mod tests {
    use super::{EXIT_REFUSED, Failure, Kind, nearest_first};

    #[derive(Debug, thiserror::Error)]
    #[error("cannot build the image")]
    struct Outer(#[from] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("the disk is full\nreally")]
    struct Inner;

    #[test]
    fn text_is_three_lines_and_clean() {
        let failure = Failure::of(Kind::HostNotReady, &Outer(Inner)).hint("free \x1b[31msome");
        let expected =
            "error: cannot build the image\ncaused by: the disk is full really\nhint: free \\u{1b}[31msome\n";
        assert_eq!(failure.text(false), expected);
        assert_eq!(failure.exit(EXIT_REFUSED), 1);
    }

    #[test]
    fn json_carries_the_same() {
        let json = Failure::of(Kind::HostNotReady, &Outer(Inner)).json();
        let expected = r#"{"ok":false,"error":{"code":"host_not_ready","message":"cannot build the image: the disk is full really","hint":null}}"#;
        assert_eq!(json, expected);
    }

    #[test]
    fn a_failure_may_bring_its_own_exit_code() {
        assert_eq!(Failure::new(Kind::NotFound, "x").exit_with(127).exit(125), 127);
        assert_eq!(Failure::new(Kind::Usage, "x").exit_with(127).exit(125), 2);
    }

    #[test]
    fn near_names_come_first() {
        assert_eq!(nearest_first("debian:13", ["alpine", "debian:12-build", "debian:12"])[0], "debian:12");
        assert_eq!(nearest_first("debian", ["alpine", "debian:12-build"])[0], "debian:12-build");
    }
}
