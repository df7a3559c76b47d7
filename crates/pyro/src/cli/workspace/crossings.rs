//! `workspace crossings`: what crossed the border between a workspace and this host.

use std::process::ExitCode;

use clap::Args;
use pyro_engine::workspace::Workspaces;

use super::super::Face;
use super::follow::{FollowArgs, next_look};
use crate::failure::Failure;
use crate::report;
use crate::report::crossings::{CrossingList, CrossingRow};

const EXAMPLES: &str = "\
  pyro workspace crossings fix
  pyro workspace crossings fix --since 40 --follow

Written down are sizes, digests and names, never contents: the seed, what was pushed and exported, patches, secrets by
name, ports, each connection and what became of it. The record is there as long as the workspace is, also while it is
stopped; of more than 8 MiB the oldest half is dropped, and added up in one line.";

/// Arguments of `workspace crossings`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CrossingsArgs {
    #[command(flatten)]
    pub(super) record: FollowArgs,
}

impl CrossingsArgs {
    pub(super) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        let FollowArgs { workspace, since, json, .. } = &self.record;
        let list = |workspaces: &Workspaces<'_>| {
            let (workspace, found) = workspaces.crossings(workspace, *since)?;
            let crossings = found.into_iter().map(CrossingRow::from).collect();
            Ok(CrossingList { workspace: workspace.record.id, crossings })
        };
        let follow = async |workspaces: &Workspaces<'_>| {
            let mut follower = workspaces.follow_crossings(workspace, *since)?;
            loop {
                let found = follower.more()?;
                let is_quiet = found.is_empty();
                for row in found.into_iter().map(CrossingRow::from) {
                    if *json {
                        report::print_json(true, &row)?;
                    } else {
                        report::print_bytes(format!("{}\n", row.line()).as_bytes())?;
                    }
                }
                if is_quiet && next_look(workspaces, &follower.workspace().record.id).await?.is_none() {
                    return Ok(());
                }
            }
        };
        self.record.handle(face, list, follow)
    }
}
