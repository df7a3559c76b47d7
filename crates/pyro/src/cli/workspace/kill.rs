//! `workspace kill`: the end of a command that was left running.

use std::process::ExitCode;

use clap::Args;
use pyro_engine::supervisor::protocol::Ask;
use pyro_engine::workspace::Workspaces;
use pyro_engine::workspace::logs::command;

use super::super::Face;
use crate::failure::Failure;
use crate::report::exec::KilledReport;
use crate::{interrupt, report};

/// Arguments of `workspace kill`.
#[derive(Debug, Args)]
pub(crate) struct KillArgs {
    /// Its id, the beginning of it, or its name
    workspace: String,
    /// The command's number, as 'exec --detach' and 'logs' say it
    #[arg(value_name = "EXEC")]
    exec: u64,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

impl KillArgs {
    pub(super) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        let settings = face.settings()?;
        let workspace = Workspaces::new(&settings).find(&self.workspace)?;
        let sequence = self.exec;
        let before = command(&workspace, sequence)?;
        let ended = match before.ended {
            Some(ended) => ended,
            None => interrupt::block_on(async {
                let connection = workspace.connect()?;
                // It may end by itself just now, which is as good.
                drop(connection.ask(Ask::Kill { sequence }).await);
                Ok(connection.wait(sequence).await?)
            })?,
        };
        let killed = KilledReport::new(workspace.record.id, ended, before.ended.is_some());
        report::print(&killed, self.json, face.color())?;
        Ok(ExitCode::SUCCESS)
    }
}
