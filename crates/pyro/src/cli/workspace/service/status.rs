//! `workspace service status`: one service of a workspace.

use std::process::ExitCode;

use clap::Args;
use pyro_engine::workspace::Workspaces;

use super::super::super::Face;
use crate::failure::Failure;
use crate::report::service::ServiceReport;
use crate::{interrupt, report};

/// Arguments of `workspace service status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Its id, the beginning of it, or its name
    workspace: String,
    /// The service
    name: String,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

impl StatusArgs {
    pub(super) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        let settings = face.settings()?;
        let workspaces = Workspaces::new(&settings);
        let (workspace, service) =
            interrupt::block_on(async { Ok(workspaces.service(&self.workspace, &self.name).await?) })?;
        report::print(&ServiceReport::new(workspace.record.id, service), self.json, face.color())?;
        Ok(ExitCode::SUCCESS)
    }
}
