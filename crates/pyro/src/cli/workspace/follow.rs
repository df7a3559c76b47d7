//! What `logs` and `crossings` have in common: a record that is read from a number on, once or for as long as more comes.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use pyro_engine::workspace::{Workspace, WorkspaceError, Workspaces};

use super::super::Face;
use crate::failure::Failure;
use crate::report::Report;
use crate::report::clean::one_line;
use crate::{interrupt, report};

/// How often it is looked whether more has come.
const FOLLOW_EVERY: Duration = Duration::from_millis(150);

/// Which record, from where on, and how long.
#[derive(Debug, Args)]
pub(crate) struct FollowArgs {
    /// Its id, the beginning of it, or its name
    pub(super) workspace: String,
    /// Go on until Ctrl-C, with what comes
    #[arg(long)]
    follow: bool,
    /// Only those after the one of this number
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    pub(super) since: u64,
    /// Print one JSON object; with --follow one for each, when it has ended
    #[arg(long)]
    pub(super) json: bool,
}

impl FollowArgs {
    /// Prints what `list` finds; with `--follow` does as `follow` says, until the workspace is gone or a signal ends it.
    pub(super) fn handle<R: Report>(
        &self,
        face: &Face,
        list: impl FnOnce(&Workspaces<'_>) -> Result<R, Failure>,
        follow: impl AsyncFnOnce(&Workspaces<'_>) -> Result<(), Failure>,
    ) -> Result<ExitCode, Failure> {
        let settings = face.settings()?;
        let workspaces = Workspaces::new(&settings);
        if self.follow {
            interrupt::block_on(follow(&workspaces))?;
            face.say(&format!("workspace {} is gone", one_line(&self.workspace)));
        } else {
            report::print(&list(&workspaces)?, self.json, face.color())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Waits until it is time to look again; the workspace as it is then, if it is still there.
pub(super) async fn next_look(workspaces: &Workspaces<'_>, id: &str) -> Result<Option<Workspace>, Failure> {
    tokio::time::sleep(FOLLOW_EVERY).await;
    match workspaces.find(id) {
        Err(WorkspaceError::NotFound { .. } | WorkspaceError::Removed { .. }) => Ok(None),
        found => Ok(Some(found?)),
    }
}
