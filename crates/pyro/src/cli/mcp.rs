//! `mcp`: the tools for chat hosts.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::Face;
use crate::failure::{Failure, Kind};
use crate::mcp::{Profile, Serve, serve};

const EXAMPLES: &str = "\
A chat host starts it. Tell yours once:
  Claude Code   claude mcp add pyro -- pyro mcp serve
  Codex         codex mcp add pyro -- pyro mcp serve
  OpenCode      opencode mcp add pyro -- pyro mcp serve

The model gets tools that work in disposable machines: it can seed them from, and export to, the directory the
chat host was started in and those of --allow-path, and reach nothing else on this computer. What it does
is seen with 'pyro workspace list', 'status' and 'logs'.";

/// The verbs of `mcp`.
#[derive(Debug, Subcommand)]
pub(crate) enum McpVerb {
    /// Serve a chat host over standard input and output
    Serve(ServeArgs),
}

/// Arguments of `mcp serve`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ServeArgs {
    /// Which tools the model gets
    #[arg(long, value_enum, default_value_t)]
    profile: Profile,
    /// A directory of this computer that the model may seed from and export to, besides the working directory; may be
    /// repeated
    #[arg(long, value_name = "DIR")]
    allow_path: Vec<PathBuf>,
}

impl McpVerb {
    pub(crate) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        let Self::Serve(args) = self;
        let working_dir = std::env::current_dir().map_err(|error| {
            Failure::new(Kind::HostNotReady, "the working directory is gone").caused_by(error.to_string())
        })?;
        let mut allowed = vec![working_dir];
        allowed.extend(args.allow_path);
        let session = crate::settings::chat_session();
        serve(face.settings()?, Serve { profile: args.profile, allowed, session })?;
        Ok(ExitCode::SUCCESS)
    }
}
