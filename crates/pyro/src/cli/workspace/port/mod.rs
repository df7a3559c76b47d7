//! `workspace port`: ports of the guest that can be reached on this host's loopback.

mod add;
mod remove;

use std::process::ExitCode;

use clap::Subcommand;
use pyro_engine::workspace::Workspaces;

use super::super::Face;
use super::one::{OneArgs, act};
use crate::failure::Failure;
use crate::report::port::PortList;

/// The verbs of `workspace port`.
#[derive(Debug, Subcommand)]
pub(crate) enum PortVerb {
    /// Publish a port of the guest on this host's loopback
    Add(add::AddArgs),
    /// List the published ports of a workspace
    List(OneArgs),
    /// Publish a port no more, and end the connections through it
    Remove(remove::RemoveArgs),
}

impl PortVerb {
    /// Whether the result is wanted as JSON.
    pub(crate) fn json(&self) -> bool {
        match self {
            Self::Add(args) => args.json,
            Self::List(args) => args.json,
            Self::Remove(args) => args.json,
        }
    }

    pub(crate) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        match self {
            Self::Add(args) => args.handle(face),
            Self::List(args) => list(&args, face),
            Self::Remove(args) => args.handle(face),
        }
    }
}

fn list(args: &OneArgs, face: &Face) -> Result<ExitCode, Failure> {
    act(face, args.json, async |settings| {
        let (workspace, ports) = Workspaces::new(settings).ports(&args.workspace).await?;
        Ok(PortList::new(workspace.record.id, ports))
    })
}
