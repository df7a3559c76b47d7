//! `mcp`: the tools for chat hosts.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use pyro_engine::supervisor::secrets::Secrets;

use pyro_engine::store::workspace_record::NetworkPolicy;
use pyro_engine::workspace::network;

use super::Face;
use super::workspace::secrets::{hide, read_files, warn_of_short};
use crate::failure::{Failure, Kind};
use crate::mcp::{Profile, Serve, serve};

const EXAMPLES: &str = concat!(
    "\
A chat host starts it. Tell yours once; its own command, beside it, does the same:
",
    super::wiring!(),
    "

The model gets tools that work in disposable machines: it can seed them from, and export to, the directory the
chat host was started in and those of --allow-path, and reach nothing else on this computer. What it does
is seen with 'pyro workspace list', 'status' and 'logs'."
);

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
    /// A private host, as HOST or HOST:PORT, or host.pyro.internal:PORT for a port of this computer, that the model may let a
    /// workspace reach (workspace-full); may be repeated
    #[arg(long, value_name = "HOST")]
    allow_host: Vec<String>,
    /// A secret, read from a file, for commands of the workspaces that this server makes: the model names it in secret_env
    /// and never sees it; with the profile workspace-full only; may be repeated
    #[arg(long, value_name = "NAME=PATH")]
    secret_file: Vec<OsString>,
}

/// The secrets of a server.
fn secrets(words: &[OsString], profile: Profile, face: &Face) -> Result<Secrets, Failure> {
    let mut secrets = Secrets::default();
    if words.is_empty() {
        return Ok(secrets);
    }
    if profile != Profile::WorkspaceFull {
        return Err(Failure::new(Kind::Usage, "only the profile workspace-full has tools that are given secrets")
            .hint("add --profile workspace-full, or leave --secret-file out"));
    }
    if words.iter().any(|word| word.as_encoded_bytes().ends_with(b"=-")) {
        return Err(Failure::new(Kind::Usage, "standard input of 'mcp serve' is the chat host's")
            .hint("name a file with --secret-file NAME=PATH"));
    }
    read_files(words, &mut secrets)?;
    hide(&secrets)?;
    warn_of_short(&secrets, face);
    Ok(secrets)
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
        let secrets = secrets(&args.secret_file, args.profile, face)?;
        let allowed_hosts = network::record(NetworkPolicy::Egress, &args.allow_host, &[])?.allow_hosts;
        serve(face.settings()?, Serve { profile: args.profile, allowed, session, secrets, allowed_hosts })?;
        Ok(ExitCode::SUCCESS)
    }
}
