//! The public shape of a `run` that ended, and what its end means as an exit code.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pyro_engine::machine::Accelerator;
use pyro_engine::workspace::command::{CommandEnd, CommandOutcome, Exit};
use pyro_engine::workspace::run::RunOutcome;
use serde::Serialize;

use super::captured::Capture;
use super::network::RefusalReport;
use super::units;
use crate::failure::EXIT_TIMED_OUT;

/// A signal's default exit code is this and its number.
const EXIT_SIGNAL: u8 = 128;
/// Exit code of a command that was killed.
pub(crate) const EXIT_KILLED: u8 = EXIT_SIGNAL + 9;
const SIGINT: u8 = 2;
const SIGPIPE: u8 = 13;

/// What a captured `run` did.
#[derive(Debug, Serialize)]
pub(crate) struct RunReport {
    environment: String,
    #[serde(flatten)]
    pub(crate) command: CommandFields,
    /// `kvm` or `tcg`.
    accelerator: &'static str,
    /// From the call to a machine that takes commands.
    start_ms: u64,
    /// What the guest wanted to reach and was refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    network_refusals: Vec<RefusalReport>,
}

/// What a captured command did.
#[derive(Debug, Serialize)]
pub(crate) struct CommandFields {
    /// The command's own, or 124 when it ran too long.
    pub(crate) exit_code: u8,
    /// `exited`, `signaled`, `timed_out` or `killed`.
    ended: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<u8>,
    #[serde(flatten)]
    output: OutputFields,
    /// How long the command ran.
    duration_ms: u64,
}

/// What a captured command printed.
#[derive(Debug, Serialize)]
pub(crate) struct OutputFields {
    #[serde(flatten)]
    stdout: StdoutFields,
    #[serde(flatten)]
    stderr: StderrFields,
}

impl From<[Capture; 2]> for OutputFields {
    fn from([stdout, stderr]: [Capture; 2]) -> Self {
        Self { stdout: stdout.into(), stderr: stderr.into() }
    }
}

macro_rules! output_fields {
    ($fields:ident, $text:literal, $base64:literal, $bytes:literal, $truncated:literal) => {
        #[derive(Debug, Serialize)]
        struct $fields {
            /// As text; what is not UTF-8 in it is replaced.
            #[serde(rename = $text)]
            text: String,
            /// Exactly, when it is not UTF-8.
            #[serde(rename = $base64, skip_serializing_if = "Option::is_none")]
            base64: Option<String>,
            /// How much there was in all.
            #[serde(rename = $bytes)]
            bytes: u64,
            /// Whether the middle was left out.
            #[serde(rename = $truncated)]
            truncated: bool,
        }

        impl From<Capture> for $fields {
            fn from(capture: Capture) -> Self {
                let bytes = capture.total_bytes();
                let (kept, whole) = capture.into_bytes();
                let (text, base64) = match String::from_utf8(kept) {
                    Ok(text) => (text, None),
                    Err(error) => {
                        let kept = error.into_bytes();
                        (String::from_utf8_lossy(&kept).into_owned(), Some(STANDARD.encode(&kept)))
                    }
                };
                Self { text, base64, bytes, truncated: !whole }
            }
        }
    };
}

output_fields!(StdoutFields, "stdout", "stdout_base64", "stdout_bytes", "stdout_truncated");
output_fields!(StderrFields, "stderr", "stderr_base64", "stderr_bytes", "stderr_truncated");

impl RunReport {
    /// The report of a run whose output was captured.
    pub(crate) fn new(environment: String, outcome: &RunOutcome, output: [Capture; 2]) -> Self {
        Self {
            environment,
            command: CommandFields::new(outcome.command, output),
            accelerator: accelerator_name(outcome.accelerator),
            start_ms: outcome.start_ms,
            network_refusals: outcome.refusals.iter().map(RefusalReport::from).collect(),
        }
    }
}

impl CommandFields {
    /// Those of a command that printed `output`, standard output first.
    pub(crate) fn new(outcome: CommandOutcome, output: [Capture; 2]) -> Self {
        let (ended, signal) = match outcome.end {
            CommandEnd::Exited(Exit::Code(_)) => ("exited", None),
            CommandEnd::Exited(Exit::Signal(signal)) => ("signaled", Some(signal)),
            CommandEnd::Exited(Exit::TimedOut) => ("timed_out", None),
            CommandEnd::Exited(Exit::Killed) | CommandEnd::Interrupted | CommandEnd::OutputClosed => ("killed", None),
        };
        Self {
            exit_code: exit_code(outcome.end),
            ended,
            signal,
            output: output.into(),
            duration_ms: outcome.duration_ms,
        }
    }
}

/// The accelerator as the settings name it.
pub(crate) fn accelerator_name(accelerator: Accelerator) -> &'static str {
    match accelerator {
        Accelerator::Kvm => "kvm",
        Accelerator::Tcg => "tcg",
    }
}

/// The exit code that passes the command's end on.
pub(crate) fn exit_code(end: CommandEnd) -> u8 {
    match end {
        CommandEnd::Exited(Exit::Code(code)) => code,
        CommandEnd::Exited(Exit::Signal(signal)) => EXIT_SIGNAL.saturating_add(signal),
        CommandEnd::Exited(Exit::TimedOut) => EXIT_TIMED_OUT,
        CommandEnd::Exited(Exit::Killed) => EXIT_KILLED,
        CommandEnd::Interrupted => EXIT_SIGNAL + SIGINT,
        CommandEnd::OutputClosed => EXIT_SIGNAL + SIGPIPE,
    }
}

/// What is said after a command that did not end by itself, unless that needs no words.
pub(crate) fn parting_words(end: CommandEnd, timeout: Duration) -> Option<String> {
    match end {
        CommandEnd::Exited(Exit::TimedOut) => {
            let limit = units::duration(timeout);
            Some(format!("the command ran past its limit of {limit} and was killed; --timeout-seconds sets the limit"))
        }
        CommandEnd::Exited(Exit::Killed) => Some("the command was killed".to_owned()),
        CommandEnd::Exited(Exit::Code(_) | Exit::Signal(_)) | CommandEnd::Interrupted | CommandEnd::OutputClosed => {
            None
        }
    }
}
