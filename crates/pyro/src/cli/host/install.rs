//! `host install`: pyro comes into a chat host's configuration.

use std::process::ExitCode;

use clap::Args;

use super::{Face, RegistrationArgs, connection, places};
use crate::failure::{EXIT_REFUSED, Failure};
use crate::host::{Outcome, install};
use crate::report::Report as _;
use crate::report::host::HostChangeReport;
use crate::{interrupt, report};

const ABOUT: &str = "\
All else in the chat host's files stays as it is, comments too; a second time changes nothing. Where the host has a
command of its own for it, that one is used. Afterwards the registered command is started and asked for its tools.";

/// Arguments of `host install`.
#[derive(Debug, Args)]
#[command(after_help = ABOUT)]
pub(crate) struct InstallArgs {
    #[command(flatten)]
    registration: RegistrationArgs,
    /// Show what would be changed as a diff, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

impl InstallArgs {
    pub(super) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        let (wish, dry_run) = (self.registration.registration()?, self.dry_run);
        let places = places(face)?;
        let outcome = interrupt::block_on(async { Ok(install(&places, &wish, dry_run).await?) })?;
        let words = match outcome.is_change() {
            true if outcome.was_there => "updated",
            true => "registered",
            false => "unchanged",
        };
        let report = change_report(outcome, words, dry_run);
        if dry_run && !self.json {
            tell_plan(face, &report);
        }
        report::print(&report, self.json, face.color())?;
        Ok(if report.ok() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_REFUSED) })
    }
}

/// What a diff does not show, for the person beside.
pub(super) fn tell_plan(face: &Face, report: &HostChangeReport) {
    if let Some(command) = &report.own_command {
        face.say(&format!("would run: {}", report::host::command_line(command)));
    }
    for note in &report.notes {
        face.say(note);
    }
}

pub(super) fn change_report(outcome: Outcome, words: &'static str, dry_run: bool) -> HostChangeReport {
    let connection = outcome.answer.map(|answer| connection(answer, &outcome.argv));
    HostChangeReport {
        host: outcome.host.word(),
        scope: outcome.scope.word(),
        outcome: words,
        dry_run,
        changed_files: outcome.files.into_iter().filter(|(_, changed)| *changed).map(|(path, _)| path).collect(),
        command: outcome.argv,
        own_command: outcome.own_command,
        diff: outcome.diff,
        notes: outcome.notes,
        connection,
        title: outcome.title,
    }
}
