//! The public shapes of results, as JSON and as text; one file per noun.
//!
//! Nothing else of this crate serialises, and nothing of the engine does for the public: a field here is a promise.

pub(crate) mod captured;
pub(crate) mod clean;
pub(crate) mod crossings;
pub(crate) mod demo;
pub(crate) mod diff;
pub(crate) mod disk;
pub(crate) mod doctor;
pub(crate) mod env;
pub(crate) mod exec;
pub(crate) mod export;
pub(crate) mod files;
pub(crate) mod host;
pub(crate) mod log_page;
pub(crate) mod network;
pub(crate) mod patch;
pub(crate) mod port;
pub(crate) mod run;
pub(crate) mod search;
pub(crate) mod seed;
pub(crate) mod service;
pub(crate) mod shell;
pub(crate) mod snapshot;
pub(crate) mod sync;
pub(crate) mod units;
pub(crate) mod usage;
pub(crate) mod workspace;

use std::io::{ErrorKind, Write};

use serde::Serialize;

use crate::failure::{Failure, Kind};

/// A result that can be printed.
pub(crate) trait Report: Serialize {
    /// The result for a person. Ends in a line break.
    fn text(&self, color: bool) -> String;

    /// Whether it is what was hoped for.
    fn ok(&self) -> bool {
        true
    }
}

#[derive(Serialize)]
struct Envelope<'a, R> {
    ok: bool,
    #[serde(flatten)]
    report: &'a R,
}

/// Prints a result: as text, or as one JSON object that begins with `ok`.
///
/// # Errors
/// Standard output is closed or full.
pub(crate) fn print(report: &impl Report, json: bool, color: bool) -> Result<(), Failure> {
    if json { print_json(report.ok(), report) } else { print_bytes(report.text(color).as_bytes()) }
}

/// Prints a result as one JSON object.
///
/// # Errors
/// Standard output is closed or full.
pub(crate) fn print_json(ok: bool, report: &impl Serialize) -> Result<(), Failure> {
    let mut line = serde_json::to_vec(&Envelope { ok, report }).expect("reports have string keys and no failing part");
    line.push(b'\n');
    print_bytes(&line)
}

/// Writes to standard output.
///
/// # Errors
/// Standard output is closed or full.
pub(crate) fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| output_failed(&error))
}

/// What to say when standard output does not take what it is given.
pub(crate) fn output_failed(error: &std::io::Error) -> Failure {
    if error.kind() == ErrorKind::BrokenPipe {
        return Failure::new(Kind::OutputClosed, "standard output is closed");
    }
    Failure::new(Kind::HostNotReady, format!("cannot write to standard output: {error}"))
        .hint("look where the output goes: is there room?")
}
