//! `workspace shell`: terminals in a workspace that stay open.

mod attach;
mod close;
mod open;
mod read;
mod signal;
mod write;

use std::process::ExitCode;

use clap::Subcommand;
use pyro_engine::workspace::Workspaces;

use super::super::Face;
use super::one::{OneArgs, act};
use crate::failure::Failure;
use crate::report::shell::ShellList;

/// The verbs of `workspace shell`.
#[derive(Debug, Subcommand)]
pub(crate) enum ShellVerb {
    /// Open a shell that stays, on a terminal of its own
    Open(open::OpenArgs),
    /// List the shells of a workspace
    List(OneArgs),
    /// Print what a shell printed, or its screen
    Read(read::ReadArgs),
    /// Type into a shell
    Write(write::WriteArgs),
    /// Send a signal to what runs in a shell
    Signal(signal::SignalArgs),
    /// End a shell with everything in it
    Close(close::CloseArgs),
    /// Be a shell's terminal, until Ctrl-]
    Attach(attach::AttachArgs),
}

impl ShellVerb {
    /// Whether the result is wanted as JSON.
    pub(crate) fn json(&self) -> bool {
        match self {
            Self::Open(args) => args.json,
            Self::List(args) => args.json,
            Self::Read(args) => args.json,
            Self::Write(args) => args.json,
            Self::Signal(args) => args.json,
            Self::Close(args) => args.json,
            Self::Attach(_) => false,
        }
    }

    pub(crate) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        match self {
            Self::Open(args) => args.handle(face),
            Self::List(args) => list(&args, face),
            Self::Read(args) => args.handle(face),
            Self::Write(args) => args.handle(face),
            Self::Signal(args) => args.handle(face),
            Self::Close(args) => args.handle(face),
            Self::Attach(args) => args.handle(face),
        }
    }
}

fn list(args: &OneArgs, face: &Face) -> Result<ExitCode, Failure> {
    act(face, args.json, async |settings| {
        let (workspace, shells) = Workspaces::new(settings).shells(&args.workspace).await?;
        Ok(ShellList::new(workspace.record.id, shells))
    })
}
