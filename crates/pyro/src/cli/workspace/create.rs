//! `workspace create`: a machine that stays, with a project in it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use pyro_engine::workspace::Workspaces;
use pyro_engine::workspace::create::{CreateRequest, SeedSource, TTL_SECONDS_DEFAULT};
use pyro_engine::workspace::machines::MachineSize;
use pyro_engine::workspace::seed::Reach;

use super::super::Face;
use super::super::network::{AllowArgs, PolicyWord};
use super::secrets::{SecretArgs, warn_of_short};
use super::{command_line, label, labels};
use crate::failure::Failure;
use crate::report::workspace::CreatedReport;
use crate::{interrupt, report};

const EXAMPLES: &str = "\
  pyro workspace create debian:12 --name fix --seed-path .
  pyro workspace exec fix -- git --version
  pyro workspace delete fix
  pyro workspace create debian:12 --name fix --secret-file TOKEN=token.txt
  pyro workspace exec fix --secret-env TOKEN=GITHUB_TOKEN -- ./release

A secret is kept in memory only, and given only to the commands that name it. In what they print and in all that
pyro shows of the workspace it is replaced by [secret TOKEN], in base64, in URLs and in hex, too. It protects from
accidents, not from a program that wants to give it away.";

/// Arguments of `workspace create`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CreateArgs {
    /// What is in it; 'pyro env list' shows what there is
    #[arg(value_name = "ENVIRONMENT")]
    environment: String,
    /// What to call it, instead of its id
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// A note on it; may be repeated
    #[arg(long, value_name = "K=V", value_parser = label)]
    label: Vec<(String, String)>,
    /// Virtual processors
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=255))]
    vcpu_count: u32,
    /// Memory of the machine in MiB, 256 to 32768
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(256..=32768))]
    mem_mib: u32,
    /// Size of its disk in GiB, 1 to 256; it takes only what is written
    #[arg(long, value_name = "GIB", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=256))]
    disk_gib: u32,
    /// Stop it when nobody used it for so long, 60 to 604800; its disk is kept
    #[arg(long, value_name = "SECONDS", default_value_t = TTL_SECONDS_DEFAULT)]
    ttl_seconds: u64,
    /// Begin with a copy of this directory, as git sees it, or of what is in this tar archive
    #[arg(long, value_name = "PATH")]
    seed_path: Option<PathBuf>,
    /// Take what git ignores along, too
    #[arg(long, requires = "seed_path")]
    seed_all: bool,
    /// Take what looks secret along, too: keys, .env files, credentials
    #[arg(long, requires = "seed_path")]
    seed_secrets: bool,
    #[command(flatten)]
    secrets: SecretArgs,
    /// What it may reach: off, egress for what is public, or egress+published-ports, with which its services may be
    /// reached from this computer
    #[arg(long, value_name = "POLICY", value_enum, default_value_t, hide_possible_values = true)]
    network_policy: PolicyWord,
    #[command(flatten)]
    allow: AllowArgs,
    /// Print its id and nothing else
    #[arg(long, conflicts_with = "json")]
    id_only: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

impl CreateArgs {
    pub(super) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        let settings = face.settings()?;
        let secrets = self.secrets.read()?;
        warn_of_short(&secrets, face);
        let network = self.allow.with(self.network_policy, &settings, face)?;
        let request = CreateRequest {
            network,
            environment: self.environment,
            size: MachineSize { vcpu_count: self.vcpu_count, mem_mib: self.mem_mib, disk_gib: self.disk_gib },
            ttl: Duration::from_secs(self.ttl_seconds),
            name: self.name,
            labels: labels(self.label),
            made_by: command_line(),
            seed: self.seed_path.map(|path| SeedSource {
                called: std::path::absolute(&path).unwrap_or_else(|_| path.clone()).display().to_string(),
                path,
                all: self.seed_all,
                secrets: self.seed_secrets,
                git: crate::settings::git_user(),
                reach: Reach::Anywhere,
            }),
            secrets,
        };
        let painter = face.painter();
        let report = |progress| painter.report(progress);
        let workspaces = Workspaces::new(&settings);
        let created = interrupt::block_on(async { Ok(workspaces.create(request, &report).await?) })?;
        painter.clear();
        let created = CreatedReport::from(created);
        for note in &created.seed_notes {
            face.say(note.line());
        }
        if self.id_only {
            report::print_bytes(format!("{}\n", created.workspace.id).as_bytes())?;
        } else {
            report::print(&created, self.json, face.color())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
