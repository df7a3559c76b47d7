//! `workspace service`: commands that a workspace keeps running under a name.

mod logs;
mod restart;
mod start;
mod status;
mod stop;

use std::process::ExitCode;

use clap::Subcommand;
use pyro_engine::workspace::Workspaces;

use super::super::Face;
use super::one::{OneArgs, act};
use crate::failure::Failure;
use crate::report::service::ServiceList;

/// The verbs of `workspace service`.
#[derive(Debug, Subcommand)]
pub(crate) enum ServiceVerb {
    /// Start a service, and wait until it is ready
    Start(Box<start::StartArgs>),
    /// List the services of a workspace
    List(OneArgs),
    /// Show what is going on with a service
    Status(status::StatusArgs),
    /// Show what a service printed
    Logs(logs::LogsArgs),
    /// End a service, if it runs, and start it as it was started before
    Restart(restart::RestartArgs),
    /// End a service with everything it started
    Stop(stop::StopArgs),
}

impl ServiceVerb {
    /// Whether the result is wanted as JSON.
    pub(crate) fn json(&self) -> bool {
        match self {
            Self::Start(args) => args.json,
            Self::List(args) => args.json,
            Self::Status(args) => args.json,
            Self::Logs(args) => args.json,
            Self::Restart(args) => args.json,
            Self::Stop(args) => args.json,
        }
    }

    pub(crate) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        match self {
            Self::Start(args) => args.handle(face),
            Self::List(args) => list(&args, face),
            Self::Status(args) => args.handle(face),
            Self::Logs(args) => args.handle(face),
            Self::Restart(args) => args.handle(face),
            Self::Stop(args) => args.handle(face),
        }
    }
}

fn list(args: &OneArgs, face: &Face) -> Result<ExitCode, Failure> {
    act(face, args.json, async |settings| {
        let (workspace, services) = Workspaces::new(settings).services(&args.workspace).await?;
        let services = services.into_iter().map(Into::into).collect();
        Ok(ServiceList { workspace: workspace.record.id, services })
    })
}
