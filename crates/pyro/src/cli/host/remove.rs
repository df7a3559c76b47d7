//! `host remove`: pyro goes out of a chat host's configuration, with all that came in with it.

use std::process::ExitCode;

use clap::Args;

use super::install::{change_report, tell_plan};
use super::{Face, places};
use crate::failure::Failure;
use crate::host::{ChatHost, Scope, remove};
use crate::{interrupt, report};

/// Arguments of `host remove`.
#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// The chat host
    #[arg(value_enum)]
    host: ChatHost,
    /// Whose configuration: yours for all projects, or that of the project in the working directory
    #[arg(long, value_enum, default_value_t)]
    scope: Scope,
    /// Show what would be changed as a diff, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

impl RemoveArgs {
    pub(super) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        let places = places(face)?;
        let outcome = interrupt::block_on(async { Ok(remove(&places, self.host, self.scope, self.dry_run).await?) })?;
        let words = if outcome.is_change() { "removed" } else { "absent" };
        let report = change_report(outcome, words, self.dry_run);
        if self.dry_run && !self.json {
            tell_plan(face, &report);
        }
        report::print(&report, self.json, face.color())?;
        Ok(ExitCode::SUCCESS)
    }
}
