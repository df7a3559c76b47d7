//! `workspace shell close`: the end of a shell, and of what it printed.

use std::process::ExitCode;

use clap::Args;
use pyro_engine::workspace::Workspaces;
use pyro_engine::workspace::shell::shell_id;

use super::super::super::Face;
use crate::failure::Failure;
use crate::report::shell::ShellClosed;
use crate::{interrupt, report};

/// Arguments of `workspace shell close`.
#[derive(Debug, Args)]
pub(crate) struct CloseArgs {
    /// Its id, the beginning of it, or its name
    workspace: String,
    /// The shell, such as s1
    shell: String,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

impl CloseArgs {
    pub(super) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        let settings = face.settings()?;
        let shell = shell_id(&self.shell)?;
        let workspaces = Workspaces::new(&settings);
        let workspace = interrupt::block_on(async { Ok(workspaces.close_shell(&self.workspace, shell).await?) })?;
        report::print(&ShellClosed::new(workspace.record.id, shell), self.json, face.color())?;
        Ok(ExitCode::SUCCESS)
    }
}
