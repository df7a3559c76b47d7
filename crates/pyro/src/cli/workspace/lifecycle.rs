//! `workspace status`, `stop`, `start`, `reset`, `delete`: verbs that need only a workspace.

use std::process::ExitCode;

use clap::Args;
use pyro_engine::store::disk_record::BASELINE;
use pyro_engine::workspace::Workspaces;

use super::super::Face;
use super::one::{OneArgs, act};
use super::secrets::{SecretArgs, warn_of_short};
use crate::failure::Failure;
use crate::report::snapshot::ResetReport;
use crate::report::workspace::{DeletedReport, StatusReport, WorkspaceReport};

/// Arguments of `workspace reset`.
#[derive(Debug, Args)]
pub(crate) struct ResetArgs {
    /// Its id, the beginning of it, or its name
    workspace: String,
    /// The snapshot to go back to
    #[arg(long, value_name = "NAME", default_value = BASELINE)]
    snapshot: String,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// Arguments of `workspace start`.
#[derive(Debug, Args)]
pub(crate) struct StartArgs {
    /// Its id, the beginning of it, or its name
    workspace: String,
    #[command(flatten)]
    secrets: SecretArgs,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// Arguments of `workspace delete`.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// Its id, the beginning of it, or its name
    workspace: String,
    /// Lose changes that were never diffed or exported, and kill what does not end by itself
    #[arg(long)]
    force: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// `workspace status`.
pub(super) fn status(args: &OneArgs, face: &Face) -> Result<ExitCode, Failure> {
    act(face, args.json, async |settings| {
        Ok(StatusReport::from(Workspaces::new(settings).status(&args.workspace).await?))
    })
}

/// `workspace stop`.
pub(super) fn stop(args: &OneArgs, face: &Face) -> Result<ExitCode, Failure> {
    act(face, args.json, async |settings| {
        let workspaces = Workspaces::new(settings);
        let services = workspaces.running_services(&args.workspace).await;
        Ok(WorkspaceReport::from(workspaces.stop(&args.workspace).await?).with_ended(services))
    })
}

impl StartArgs {
    pub(super) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        let secrets = self.secrets.read()?;
        warn_of_short(&secrets, face);
        let painter = face.painter();
        let report = |progress| painter.report(progress);
        act(face, self.json, async |settings| {
            let started = Workspaces::new(settings).start(&self.workspace, &secrets, &report).await;
            painter.clear();
            let started = started?;
            let missing = secrets.missing(&started.record.secrets);
            if !missing.is_empty() {
                face.say(&format!(
                    "warning: {} not told again: commands cannot be given what was not told, and it is not cut out of what is shown",
                    missing.join(", ")
                ));
            }
            Ok(WorkspaceReport::from(started))
        })
    }
}

impl ResetArgs {
    pub(super) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        act(face, self.json, async |settings| {
            Ok(ResetReport::from(Workspaces::new(settings).reset(&self.workspace, &self.snapshot).await?))
        })
    }
}

impl DeleteArgs {
    pub(super) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        act(face, self.json, async |settings| {
            let gone = Workspaces::new(settings).delete(&self.workspace, self.force).await?;
            Ok(DeletedReport { id: gone.record.id, name: gone.record.name, deleted: true })
        })
    }
}
