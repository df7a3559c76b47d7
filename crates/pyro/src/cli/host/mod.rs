//! `host`: chat hosts, and what their own configuration says of pyro. A verb is one file.

mod install;
mod print_config;
mod remove;
mod status;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use pyro_engine::store::home::Home;
use pyro_engine::store::workspace_record::NetworkPolicy;
use pyro_engine::workspace::network;

use super::Face;
use crate::failure::{Failure, Kind};
use crate::host::{Answered, ChatHost, Places, Registration, Scope, Unanswered};
use crate::mcp::Profile;
use crate::report::host::ConnectionReport;

/// The verbs of `host`.
#[derive(Debug, Subcommand)]
pub(crate) enum HostVerb {
    /// Register pyro with a chat host
    Install(install::InstallArgs),
    /// Show whether chat hosts know pyro, and prove that what they start works
    Status(status::StatusArgs),
    /// Print what a chat host's configuration needs, and change nothing
    PrintConfig(print_config::PrintConfigArgs),
    /// Take pyro out of a chat host's configuration, with all that install changed
    Remove(remove::RemoveArgs),
}

/// What is to be registered.
#[derive(Debug, Args)]
struct RegistrationArgs {
    /// The chat host
    #[arg(value_enum)]
    host: ChatHost,
    /// Which tools the model gets
    #[arg(long, value_enum, default_value_t)]
    profile: Profile,
    /// Whose configuration: yours for all projects, or that of the project in the working directory
    #[arg(long, value_enum, default_value_t)]
    scope: Scope,
    /// A directory of this computer that the model may seed from and export to, besides the one the chat host is started
    /// in; may be repeated
    #[arg(long, value_name = "DIR")]
    allow_path: Vec<PathBuf>,
    /// A private host, as HOST or HOST:PORT, or host.pyro.internal:PORT for a port of this computer, that the model may let a
    /// workspace reach (workspace-full); may be repeated
    #[arg(long, value_name = "HOST")]
    allow_host: Vec<String>,
    /// A secret for commands of workspaces, read from this file each time the chat host starts pyro: the configuration has
    /// the path and never the value (workspace-full); may be repeated
    #[arg(long, value_name = "NAME=PATH")]
    secret_file: Vec<String>,
    /// Also take the chat host's own shell and editing tools away, as far as it allows that
    #[arg(long)]
    sandbox_only: bool,
}

impl HostVerb {
    /// Whether the answer is one JSON object.
    pub(crate) fn json(&self) -> bool {
        match self {
            Self::Install(args) => args.json,
            Self::Status(args) => args.json,
            Self::PrintConfig(args) => args.json,
            Self::Remove(args) => args.json,
        }
    }

    pub(crate) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        match self {
            Self::Install(args) => args.handle(face),
            Self::Status(args) => args.handle(face),
            Self::PrintConfig(args) => args.handle(face),
            Self::Remove(args) => args.handle(face),
        }
    }
}

impl RegistrationArgs {
    fn registration(self) -> Result<Registration, Failure> {
        if self.profile != Profile::WorkspaceFull && !(self.secret_file.is_empty() && self.allow_host.is_empty()) {
            return Err(Failure::new(
                Kind::Usage,
                "only the profile workspace-full has tools for secrets and networks",
            )
            .hint("add --profile workspace-full, or leave --secret-file and --allow-host out"));
        }
        let allow_hosts = network::record(NetworkPolicy::Egress, &self.allow_host, &[])?.allow_hosts;
        Ok(Registration {
            host: self.host,
            scope: self.scope,
            allow_hosts,
            secret_files: self.secret_file.iter().map(|word| secret_file(word)).collect::<Result<_, _>>()?,
            profile: (self.profile != Profile::default()).then(|| profile_word(self.profile)),
            allow_paths: self.allow_path,
            sandbox_only: self.sandbox_only,
        })
    }
}

/// Reads `NAME=PATH` of `--secret-file`.
fn secret_file(word: &str) -> Result<(String, PathBuf), Failure> {
    match word.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() && path != "-" => {
            Ok((name.to_owned(), PathBuf::from(path)))
        }
        // What stands there may be the value of a secret.
        _ => Err(Failure::new(Kind::Usage, "a --secret-file does not name a secret and a file")
            .hint("write --secret-file NAME=PATH; standard input is the chat host's")),
    }
}

fn places(face: &Face) -> Result<Places, Failure> {
    let settings = face.settings()?;
    let project = std::env::current_dir().map_err(|error| {
        Failure::new(Kind::HostNotReady, "the working directory is gone").caused_by(error.to_string())
    })?;
    Ok(Places {
        dirs: crate::settings::chat_host_dirs(),
        project,
        home: Home::new(&settings.cache_dir, &settings.state_dir),
        path_dirs: settings.path_dirs,
    })
}

fn profile_word(profile: Profile) -> String {
    profile.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// The profile that a command asks for.
fn profile_of(argv: &[String]) -> String {
    let after = argv.iter().skip_while(|word| *word != "--profile").nth(1);
    let inline = argv.iter().find_map(|word| word.strip_prefix("--profile="));
    after.map(String::as_str).or(inline).map_or_else(|| profile_word(Profile::default()), str::to_owned)
}

fn connection(answer: Result<Answered, Unanswered>, argv: &[String]) -> ConnectionReport {
    let profile = Some(profile_of(argv));
    match answer {
        Ok(answered) => ConnectionReport {
            ok: !answered.tools.is_empty(),
            error: answered.tools.is_empty().then(|| "it has no tools".to_owned()),
            server: Some(answered.name),
            version: Some(answered.version),
            profile,
            tools: answered.tools,
            answered_ms: Some(u64::try_from(answered.took.as_millis()).unwrap_or(u64::MAX)),
        },
        Err(unanswered) => ConnectionReport {
            ok: false,
            error: Some(unanswered.to_string()),
            server: None,
            version: None,
            profile,
            tools: Vec::new(),
            answered_ms: None,
        },
    }
}
