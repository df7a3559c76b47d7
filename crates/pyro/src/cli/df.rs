//! `df`: what pyro takes on this host's disk.

use std::process::ExitCode;

use clap::Args;
use pyro_engine::workspace::usage::usage;

use super::Face;
use crate::failure::Failure;
use crate::report;
use crate::report::usage::UsageReport;

const WORDS: &str = "\
OWN is what would be free if the workspace were deleted, IN THEM what of it its snapshots keep;
SHARED are empty disks of the cache, counted there.
'pyro prune --dry-run' names what nobody needs.";

/// Arguments of `df`.
#[derive(Debug, Args)]
#[command(after_help = WORDS)]
pub(crate) struct DfArgs {
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

impl DfArgs {
    pub(crate) fn handle(&self, face: &Face) -> Result<ExitCode, Failure> {
        let usage = usage(&face.settings()?)?;
        report::print(&UsageReport::from(usage), self.json, face.color())?;
        Ok(ExitCode::SUCCESS)
    }
}
