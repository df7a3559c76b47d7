//! `workspace status`, `stop`, `start`, `reset`, `delete`: verbs that need only a workspace.

use std::process::ExitCode;

use clap::Args;
use pyro_engine::Settings;
use pyro_engine::workspace::Workspaces;

use super::super::Face;
use crate::failure::Failure;
use crate::report::Report;
use crate::report::workspace::{DeletedReport, StatusReport, WorkspaceReport};
use crate::{interrupt, report};

macro_rules! workspace_arguments {
    ($($name:ident, $doc:literal;)*) => {$(
        #[doc = $doc]
        #[derive(Debug, Args)]
        pub(crate) struct $name {
            /// Its id, the beginning of it, or its name
            workspace: String,
            /// Print one JSON object
            #[arg(long)]
            pub(super) json: bool,
        }
    )*};
}

workspace_arguments! {
    StatusArgs, "Arguments of `workspace status`.";
    StopArgs, "Arguments of `workspace stop`.";
    StartArgs, "Arguments of `workspace start`.";
    ResetArgs, "Arguments of `workspace reset`.";
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

impl StatusArgs {
    pub(super) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        act(face, self.json, async |settings| {
            Ok(StatusReport::from(Workspaces::new(settings).status(&self.workspace).await?))
        })
    }
}

impl StopArgs {
    pub(super) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        act(face, self.json, async |settings| {
            Ok(WorkspaceReport::from(Workspaces::new(settings).stop(&self.workspace).await?))
        })
    }
}

impl StartArgs {
    pub(super) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        let painter = face.painter();
        let report = |progress| painter.report(progress);
        act(face, self.json, async |settings| {
            let started = Workspaces::new(settings).start(&self.workspace, &report).await;
            painter.clear();
            Ok(WorkspaceReport::from(started?))
        })
    }
}

impl ResetArgs {
    pub(super) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        act(face, self.json, async |settings| {
            Ok(WorkspaceReport::from(Workspaces::new(settings).reset(&self.workspace).await?))
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

/// Does one thing with a workspace and prints what came of it.
fn act<R: Report>(
    face: &Face,
    json: bool,
    work: impl AsyncFnOnce(&Settings) -> Result<R, Failure>,
) -> Result<ExitCode, Failure> {
    let settings = face.settings()?;
    let done = interrupt::block_on(work(&settings))?;
    report::print(&done, json, face.color())?;
    Ok(ExitCode::SUCCESS)
}
