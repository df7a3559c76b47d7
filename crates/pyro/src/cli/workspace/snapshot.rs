//! `workspace snapshot`: the whole disk of a workspace, kept under a name.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use pyro_engine::workspace::Workspaces;

use super::super::Face;
use super::one::{OneArgs, act};
use crate::failure::Failure;
use crate::report::snapshot::{ForgottenReport, SnapshotList, TakenReport};

const EXAMPLES: &str = "\
  pyro workspace snapshot create fix tests-pass
  pyro workspace snapshot list fix
  pyro workspace reset fix --snapshot tests-pass

A snapshot is the whole disk: /workspace, and all that was installed or changed elsewhere. It is taken
while the workspace runs, and takes no time and no room by itself; memory and processes are not part
of it. The snapshot 'baseline' is what the workspace was created with; it is always there.

A disk has at most 64 snapshots, and at most 64 layers above each other: each snapshot puts one on
top, and a reset to an older snapshot takes those above it away.";

/// The verbs of `workspace snapshot`.
#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotVerb {
    /// Keep the disk as it is now, under a name
    Create(CreateArgs),
    /// List the snapshots of a workspace
    List(OneArgs),
    /// Forget a snapshot; all others stay as they are
    Delete(DeleteArgs),
}

/// Arguments of `workspace snapshot create`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CreateArgs {
    /// Its id, the beginning of it, or its name
    workspace: String,
    /// What to call the snapshot: letters, digits, dots, dashes, underscores
    name: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Arguments of `workspace snapshot delete`.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// Its id, the beginning of it, or its name
    workspace: String,
    /// What the snapshot is called
    name: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl SnapshotVerb {
    /// Whether the result is wanted as JSON.
    pub(crate) fn json(&self) -> bool {
        match self {
            Self::Create(args) => args.json,
            Self::List(args) => args.json,
            Self::Delete(args) => args.json,
        }
    }

    pub(crate) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        match self {
            Self::Create(args) => args.handle(face),
            Self::List(args) => list(&args, face),
            Self::Delete(args) => args.handle(face),
        }
    }
}

impl CreateArgs {
    fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        act(face, self.json, async |settings| {
            let workspaces = Workspaces::new(settings);
            let snapshot = workspaces.take_snapshot(&self.workspace, &self.name).await?;
            let workspace = workspaces.find(&self.workspace)?.record.id;
            Ok(TakenReport { workspace, snapshot: snapshot.into() })
        })
    }
}

fn list(args: &OneArgs, face: &Face) -> Result<ExitCode, Failure> {
    act(face, args.json, async |settings| {
        let (workspace, snapshots) = Workspaces::new(settings).snapshots(&args.workspace)?;
        let snapshots = snapshots.into_iter().map(Into::into).collect();
        Ok(SnapshotList { workspace: workspace.record.id, snapshots })
    })
}

impl DeleteArgs {
    fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        act(face, self.json, async |settings| {
            let workspace = Workspaces::new(settings).delete_snapshot(&self.workspace, &self.name).await?;
            Ok(ForgottenReport { workspace: workspace.record.id, name: self.name.clone(), deleted: true })
        })
    }
}
