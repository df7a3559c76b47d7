//! `workspace patch apply`: a patch put into a workspace.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use pyro_engine::workspace::Workspaces;
use pyro_engine::workspace::patch::{PATCH_MAX, PatchMode, apply};

use super::super::Face;
use super::given;
use crate::failure::Failure;
use crate::report::patch::PatchReport;
use crate::{interrupt, report};

const EXAMPLES: &str = "\
  pyro workspace patch apply fix --patch-file fix.patch
  git diff | pyro workspace patch apply fix --patch-file -
  pyro workspace patch apply fix --patch-file fix.patch --dry-run

A patch is what git diff prints: new, deleted, renamed and copied files, modes; its paths begin at
the workspace. All of it is applied, or nothing. Files that drifted are tolerated as git apply does.
Taken as well are plain --- and +++ headers, names without a/ and b/, wrong line counts, line ends
with or without carriage return, and hunks without numbers (@@) that fit in one place only. Binary
files are refused: write them whole.";

/// The verbs of `workspace patch`.
#[derive(Debug, Subcommand)]
pub(crate) enum PatchVerb {
    /// Apply a patch, all of it or nothing
    Apply(ApplyArgs),
}

/// Arguments of `workspace patch apply`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ApplyArgs {
    /// Its id, the beginning of it, or its name
    workspace: String,
    #[command(flatten)]
    source: Source,
    /// Only find out whether it applies
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Where the patch comes from.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Source {
    /// The patch
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    patch: Option<OsString>,
    /// A file of this host with the patch; - is standard input
    #[arg(long, value_name = "FILE")]
    patch_file: Option<OsString>,
}

impl PatchVerb {
    /// Whether the result is wanted as JSON.
    pub(crate) fn json(&self) -> bool {
        let Self::Apply(args) = self;
        args.json
    }

    pub(crate) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        let Self::Apply(args) = self;
        args.handle(face)
    }
}

impl ApplyArgs {
    fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        let settings = face.settings()?;
        let connection = Workspaces::new(&settings).connect(&self.workspace)?;
        let patch = given::read(self.source.patch, self.source.patch_file, PATCH_MAX)?;
        let mode = if self.dry_run { PatchMode::DryRun } else { PatchMode::Apply };
        let files = interrupt::block_on(async { Ok(apply(&connection, &patch, mode).await?) })?;
        report::print(&PatchReport::new(connection.id, mode, files), self.json, face.color())?;
        Ok(ExitCode::SUCCESS)
    }
}
