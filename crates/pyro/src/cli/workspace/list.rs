//! `workspace list`: the workspaces of this host.

use std::process::ExitCode;

use clap::Args;
use pyro_engine::workspace::Workspaces;

use super::super::Face;
use super::{label, labels};
use crate::failure::Failure;
use crate::report;
use crate::report::workspace::WorkspaceList;

/// Arguments of `workspace list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only those with this label; may be repeated
    #[arg(long, value_name = "K=V", value_parser = label)]
    label: Vec<(String, String)>,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

impl ListArgs {
    pub(super) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        let settings = face.settings()?;
        let workspaces = Workspaces::new(&settings);
        let found = workspaces.list_labelled(&labels(self.label))?;
        let list = WorkspaceList {
            workspaces: found.into_iter().map(Into::into).collect(),
            removed: workspaces.removed().into_iter().map(Into::into).collect(),
        };
        report::print(&list, self.json, face.color())?;
        Ok(ExitCode::SUCCESS)
    }
}
