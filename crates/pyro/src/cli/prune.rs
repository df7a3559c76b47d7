//! `prune`: gives back the disk space of what nobody needs.

use std::process::ExitCode;

use clap::Args;
use pyro_engine::environment::PruneOptions;
use pyro_engine::workspace::usage::prune;

use super::Face;
use crate::failure::Failure;
use crate::report;
use crate::report::usage::pruned;

const WORDS: &str = "\
  pyro prune --dry-run
  pyro prune
  pyro prune --all

It removes what processes that were killed left behind, what no installed environment needs, and workspaces that were
stopped more than 7 days ago. What runs, what is in use, and a workspace that is kept are never touched: delete
those by name.";

/// Arguments of `prune`.
#[derive(Debug, Args)]
#[command(after_help = WORDS)]
pub(crate) struct PruneArgs {
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
    /// What is made or fetched again when it is needed, too: downloads, machine templates, empty disks
    #[arg(long)]
    all: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

impl PruneArgs {
    pub(crate) fn handle(&self, face: &Face) -> Result<ExitCode, Failure> {
        let items = prune(&face.settings()?, PruneOptions { dry_run: self.dry_run, all: self.all })?;
        report::print(&pruned(items, self.dry_run), self.json, face.color())?;
        Ok(ExitCode::SUCCESS)
    }
}
