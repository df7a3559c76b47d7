//! `workspace service stop`: the end of a service.

use std::process::ExitCode;

use clap::Args;
use pyro_engine::workspace::Workspaces;

use super::super::super::Face;
use crate::failure::Failure;
use crate::report::service::ServiceReport;
use crate::{interrupt, report};

const DETAILS: &str = "\
Everything of it gets TERM, and what is left after 5 s is killed. Ports that were published with it are closed.";

/// Arguments of `workspace service stop`.
#[derive(Debug, Args)]
#[command(after_help = DETAILS)]
pub(crate) struct StopArgs {
    /// Its id, the beginning of it, or its name
    workspace: String,
    /// The service
    name: String,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

impl StopArgs {
    pub(super) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        let settings = face.settings()?;
        let workspaces = Workspaces::new(&settings);
        let workspace = workspaces.find(&self.workspace)?;
        let id = workspace.record.id;
        let service = interrupt::block_on(async { Ok(workspaces.stop_service(&id, &self.name).await?) })?;
        report::print(&ServiceReport::new(id, service), self.json, face.color())?;
        Ok(ExitCode::SUCCESS)
    }
}
