//! `workspace`: a machine that stays, with a project in it. A verb is one file, or a folder of its own.

mod create;
mod crossings;
mod diff;
mod disk;
mod exec;
mod export;
mod file;
mod follow;
mod given;
mod kill;
mod lifecycle;
mod list;
mod logs;
mod one;
mod patch;
mod port;
pub(super) mod secrets;
mod service;
mod shell;
mod snapshot;
mod sync;
mod update;
mod wait;

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Subcommand;
use pyro_engine::store::workspace_record::Origin;

use super::Face;
use crate::failure::Failure;

/// The verbs of `workspace`.
#[derive(Debug, Subcommand)]
pub(crate) enum WorkspaceVerb {
    /// Make a workspace and start its machine
    Create(create::CreateArgs),
    /// List the workspaces, the one used last first
    List(list::ListArgs),
    /// Change name, labels, time to live, or what it may reach
    Update(update::UpdateArgs),
    /// Show what is going on in a workspace
    Status(one::OneArgs),
    /// Run a command in a workspace
    Exec(exec::ExecArgs),
    /// Wait for a command that was left running, and pass on what it prints
    Wait(wait::WaitArgs),
    /// Kill a command that was left running, with everything it started
    Kill(kill::KillArgs),
    /// Work in shells that stay open
    #[command(subcommand)]
    Shell(shell::ShellVerb),
    /// Bring files of this host into a workspace that runs
    #[command(subcommand)]
    Sync(sync::SyncVerb),
    /// Look at the files of a workspace, and change them
    #[command(subcommand)]
    File(file::FileVerb),
    /// Put a patch into a workspace
    #[command(subcommand)]
    Patch(patch::PatchVerb),
    /// Show what a workspace changed, as a patch for git apply
    Diff(diff::DiffArgs),
    /// Take files of a workspace, or its patch, home
    Export(export::ExportArgs),
    /// Show what was run in a workspace, and what it printed
    Logs(logs::LogsArgs),
    /// Show what crossed the border between a workspace and this host
    Crossings(crossings::CrossingsArgs),
    /// Keep commands running under a name: servers, databases, workers
    #[command(subcommand)]
    Service(service::ServiceVerb),
    /// Reach ports of the guest from this host
    #[command(subcommand)]
    Port(port::PortVerb),
    /// Keep the whole disk of a workspace under a name, to go back to
    #[command(subcommand)]
    Snapshot(snapshot::SnapshotVerb),
    /// Put a workspace back to what it was in the beginning, or at a snapshot
    Reset(lifecycle::ResetArgs),
    /// Look at the disk of a stopped workspace, or take it home
    #[command(subcommand)]
    Disk(disk::DiskVerb),
    /// Stop a workspace's machine and keep its disk
    Stop(one::OneArgs),
    /// Start the machine of a stopped workspace
    Start(lifecycle::StartArgs),
    /// Remove a workspace with everything in it
    Delete(lifecycle::DeleteArgs),
}

impl WorkspaceVerb {
    /// Whether the result is wanted as JSON.
    pub(crate) fn json(&self) -> bool {
        match self {
            Self::Create(args) => args.json,
            Self::List(args) => args.json,
            Self::Update(args) => args.json,
            Self::Status(args) => args.json,
            Self::Exec(args) => args.json,
            Self::Wait(args) => args.json,
            Self::Kill(args) => args.json,
            Self::Shell(verb) => verb.json(),
            Self::Sync(verb) => verb.json(),
            Self::File(verb) => verb.json(),
            Self::Patch(verb) => verb.json(),
            Self::Diff(args) => args.json,
            Self::Export(args) => args.json,
            Self::Logs(args) => args.record.json,
            Self::Crossings(args) => args.record.json,
            Self::Service(verb) => verb.json(),
            Self::Port(verb) => verb.json(),
            Self::Snapshot(verb) => verb.json(),
            Self::Reset(args) => args.json,
            Self::Disk(verb) => verb.json(),
            Self::Stop(args) => args.json,
            Self::Start(args) => args.json,
            Self::Delete(args) => args.json,
        }
    }

    /// Whether the exit code is the guest's own, so that pyro's failures need one apart.
    pub(crate) fn passes_exit_code(&self) -> bool {
        matches!(self, Self::Exec(_) | Self::Wait(_))
    }

    pub(crate) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        match self {
            Self::Create(args) => args.handle(face),
            Self::List(args) => args.handle(face),
            Self::Update(args) => args.handle(face),
            Self::Status(args) => lifecycle::status(&args, face),
            Self::Exec(args) => args.handle(face),
            Self::Wait(args) => args.handle(face),
            Self::Kill(args) => args.handle(face),
            Self::Shell(verb) => verb.handle(face),
            Self::Sync(verb) => verb.handle(face),
            Self::File(verb) => verb.handle(face),
            Self::Patch(verb) => verb.handle(face),
            Self::Diff(args) => args.handle(face),
            Self::Export(args) => args.handle(face),
            Self::Logs(args) => args.handle(face),
            Self::Crossings(args) => args.handle(face),
            Self::Service(verb) => verb.handle(face),
            Self::Port(verb) => verb.handle(face),
            Self::Snapshot(verb) => verb.handle(face),
            Self::Reset(args) => args.handle(face),
            Self::Disk(verb) => verb.handle(face),
            Self::Stop(args) => lifecycle::stop(&args, face),
            Self::Start(args) => args.handle(face),
            Self::Delete(args) => args.handle(face),
        }
    }
}

/// Who asks: a person at the command line.
fn command_line() -> Origin {
    Origin::default()
}

/// Reads `K=V` of `--label`.
fn label(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once('=').ok_or("it has no '='; write NAME=VALUE")?;
    if name.is_empty() {
        return Err("it has no name before the '='");
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// The last of those with one name wins, as everywhere on a command line.
fn labels(pairs: Vec<(String, String)>) -> BTreeMap<String, String> {
    pairs.into_iter().collect()
}
