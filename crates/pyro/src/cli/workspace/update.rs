//! `workspace update`: name, labels, time to live, what it may reach.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use pyro_engine::workspace::Workspaces;
use pyro_engine::workspace::lifecycle::UpdateRequest;
use pyro_engine::workspace::network::NetworkChange;

use super::super::Face;
use super::super::network::PolicyWord;
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
    /// What it may reach: off, egress for what is public, or egress+published-ports. A machine that was started without a
    /// network gets one when it is started anew, or reset; all else counts at once
    #[arg(long, value_name = "POLICY", value_enum, hide_possible_values = true)]
    network_policy: Option<PolicyWord>,
    /// Reach this host wherever it is, too, HOST or HOST:PORT; may be repeated
    #[arg(long, value_name = "HOST")]
    allow_host: Vec<String>,
    /// Reach this domain, too; the first one narrows what is public to it; may be repeated
    #[arg(long, value_name = "DOMAIN")]
    allow_domain: Vec<String>,
    /// Take the rule of --allow-host away, and break off what it let through; may be repeated
    #[arg(long, value_name = "HOST")]
    clear_allow_host: Vec<String>,
    /// Take the rule of --allow-domain away, and break off what it let through; may be repeated
    #[arg(long, value_name = "DOMAIN")]
    clear_allow_domain: Vec<String>,
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
            network: NetworkChange {
                policy: self.network_policy.map(|policy| policy.0),
                allow_hosts: self.allow_host,
                allow_domains: self.allow_domain,
                clear_hosts: self.clear_allow_host,
                clear_domains: self.clear_allow_domain,
            },
        };
        let nothing = request.name.is_none() && request.ttl.is_none() && request.network.is_empty();
        if nothing && request.labels.is_empty() && request.clear_labels.is_empty() {
            return Err(Failure::new(Kind::Usage, "nothing to change was given")
                .hint("--name, --label, --ttl-seconds, --network-policy, --allow-host and others change something: see --help"));
        }
        let settings = face.settings()?;
        let workspaces = Workspaces::new(&settings);
        let updated = interrupt::block_on(async { Ok(workspaces.update(&self.workspace, request).await?) })?;
        report::print(&WorkspaceReport::from(updated), self.json, face.color())?;
        Ok(ExitCode::SUCCESS)
    }
}
