//! `workspace update`: name, labels, time to live.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use pyro_engine::workspace::Workspaces;
use pyro_engine::workspace::lifecycle::UpdateRequest;

use super::super::Face;
use super::{label, labels};
use crate::failure::{Failure, Kind};
use crate::report::workspace::WorkspaceReport;
use crate::{interrupt, report};

/// Arguments of `workspace update`.
#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    /// Its id, the beginning of it, or its name
    workspace: String,
    /// What to call it
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Take its name away
    #[arg(long, conflicts_with = "name")]
    clear_name: bool,
    /// A note to set on it; may be repeated
    #[arg(long, value_name = "K=V", value_parser = label)]
    label: Vec<(String, String)>,
    /// A note to take off it; may be repeated
    #[arg(long, value_name = "K")]
    clear_label: Vec<String>,
    /// Stop it when nobody used it for so long, 60 to 604800
    #[arg(long, value_name = "SECONDS")]
    ttl_seconds: Option<u64>,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

impl UpdateArgs {
    pub(super) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        let request = UpdateRequest {
            name: if self.clear_name { Some(None) } else { self.name.map(Some) },
            labels: labels(self.label),
            clear_labels: self.clear_label.into_iter().collect(),
            ttl: self.ttl_seconds.map(Duration::from_secs),
        };
        let nothing = request.name.is_none() && request.ttl.is_none();
        if nothing && request.labels.is_empty() && request.clear_labels.is_empty() {
            return Err(Failure::new(Kind::Usage, "nothing to change was given")
                .hint("--name, --clear-name, --label, --clear-label and --ttl-seconds change something"));
        }
        let settings = face.settings()?;
        let workspaces = Workspaces::new(&settings);
        let workspace = interrupt::block_on(async { Ok(workspaces.update(&self.workspace, request).await?) })?;
        report::print(&WorkspaceReport::from(workspace), self.json, face.color())?;
        Ok(ExitCode::SUCCESS)
    }
}
