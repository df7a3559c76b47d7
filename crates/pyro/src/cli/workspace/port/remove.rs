//! `workspace port remove`: a port, published no more.

use std::process::ExitCode;

use clap::Args;
use pyro_engine::workspace::Workspaces;

use super::super::super::Face;
use crate::failure::Failure;
use crate::report::port::PortRemovedReport;
use crate::{interrupt, report};

/// Arguments of `workspace port remove`.
#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// Its id, the beginning of it, or its name
    workspace: String,
    /// The port of this host
    #[arg(value_name = "HOST")]
    port: u16,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

impl RemoveArgs {
    pub(super) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        let settings = face.settings()?;
        let workspaces = Workspaces::new(&settings);
        let workspace = interrupt::block_on(async { Ok(workspaces.remove_port(&self.workspace, self.port).await?) })?;
        let report = PortRemovedReport { workspace: workspace.record.id, host_port: self.port, removed: true };
        report::print(&report, self.json, face.color())?;
        Ok(ExitCode::SUCCESS)
    }
}
