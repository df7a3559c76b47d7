//! `workspace service restart`: a service, started again as it was started before.

use std::process::ExitCode;

use clap::Args;
use pyro_engine::workspace::Workspaces;

use super::super::super::Face;
use crate::failure::Failure;
use crate::report::service::ServiceReport;
use crate::{interrupt, report};

/// Arguments of `workspace service restart`.
#[derive(Debug, Args)]
pub(crate) struct RestartArgs {
    /// Its id, the beginning of it, or its name
    workspace: String,
    /// The service
    name: String,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

impl RestartArgs {
    pub(super) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        let settings = face.settings()?;
        let workspaces = Workspaces::new(&settings);
        let workspace = workspaces.find(&self.workspace)?;
        let id = workspace.record.id;
        let service = interrupt::block_on(async { Ok(workspaces.restart_service(&id, &self.name, None).await?) })?;
        report::print(&ServiceReport::new(id, service), self.json, face.color())?;
        Ok(ExitCode::SUCCESS)
    }
}
