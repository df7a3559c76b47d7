//! What a model may say of a workspace's network, and what it is told of what was refused.
//!
//! The model chooses the policy and narrows it; what is private, or a port of the host, it opens only as far as the server's
//! user did with `--allow-host`.

use std::ops::RangeInclusive;

use pyro_engine::store::workspace_record::{NetworkPolicy, NetworkRecord};
use pyro_engine::supervisor::protocol::LiveStatus;
use pyro_engine::workspace::Workspace;
use pyro_engine::workspace::network::{self, NetworkChange};
use rmcp::model::JsonObject;
use rmcp::schemars;
use serde::Deserialize;

use super::arguments::read;
use super::profile::Profile;
use super::server::Server;
use crate::failure::{Failure, Kind};
use crate::report::network::{Advice, failed, refused};

/// The arguments of `workspace_create` that are about the network.
#[derive(Deserialize, rmcp::schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NetworkArguments {
    /// What the machine reaches: off (nothing), egress (the public internet), egress+published-ports (also lets its services
    /// publish ports on the user's computer)
    #[serde(default = "policy_default")]
    network_policy: String,
    /// Private hosts to reach, HOST or HOST:PORT, of those that the user allowed this server; host.pyro.internal:PORT is a port of
    /// the user's computer
    #[serde(default)]
    allow_hosts: Vec<String>,
    /// Of the internet reach only these domains: example.org is that name, *.example.org those below it
    #[serde(default)]
    allow_domains: Vec<String>,
    /// Set http_proxy and https_proxy to the proxy of the user's computer, without its credentials; the user allowed this server
    /// its host
    #[serde(default)]
    offer_proxy: bool,
}

/// The arguments of `workspace_update` that are about the network.
#[derive(Default, Deserialize, rmcp::schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NetworkChangeArguments {
    /// What the machine reaches: off, egress, egress+published-ports. A machine that was started without a network gets one with
    /// workspace_reset, or when it is stopped and started
    network_policy: Option<String>,
    /// Private hosts to reach, too, HOST or HOST:PORT, of those that the user allowed this server
    #[serde(default)]
    allow_hosts: Vec<String>,
    /// Domains to reach, too; the first one narrows the internet to it
    #[serde(default)]
    allow_domains: Vec<String>,
}

fn policy_default() -> String {
    NetworkPolicy::default().name().to_owned()
}

/// Takes what is about the network out of the arguments of a call.
///
/// # Errors
/// It makes no sense, or names a host that the server's user did not allow.
pub(super) fn take_network(server: &Server, arguments: &mut JsonObject) -> Result<NetworkRecord, Failure> {
    let own = take(arguments, &["network_policy", "allow_hosts", "allow_domains", "offer_proxy"]);
    let NetworkArguments { network_policy, allow_hosts, allow_domains, offer_proxy } = read(own)?;
    let record = network::record(policy(&network_policy)?, &allow_hosts, &allow_domains)?;
    let record = if offer_proxy { network::with_proxy(record, &server.settings.environment.proxy)? } else { record };
    check_allowed(server, &record)?;
    Ok(record)
}

/// Takes what is to be changed of the network out of the arguments of a call.
///
/// # Errors
/// It makes no sense, or names a host that the server's user did not allow.
pub(super) fn take_network_change(server: &Server, arguments: &mut JsonObject) -> Result<NetworkChange, Failure> {
    let own = take(arguments, &["network_policy", "allow_hosts", "allow_domains"]);
    let NetworkChangeArguments { network_policy, allow_hosts, allow_domains } = read(own)?;
    let policy = network_policy.as_deref().map(policy).transpose()?;
    // What the workspace reaches already was allowed when it was said.
    check_allowed(server, &network::record(NetworkPolicy::Egress, &allow_hosts, &[])?)?;
    Ok(NetworkChange { policy, allow_hosts, allow_domains, ..NetworkChange::default() })
}

/// Refuses a workspace that no chat host made: what a person made and closed is the person's to open.
///
/// # Errors
/// It is such a one.
pub(super) fn check_is_a_models(workspace: &Workspace) -> Result<(), Failure> {
    if workspace.record.made_by.host.is_some() {
        return Ok(());
    }
    let id = &workspace.record.id;
    Err(Failure::new(Kind::Usage, format!("the user made workspace {id}, and says what it may reach"))
        .hint(format!("ask the user to change it with pyro workspace update {id}, or call workspace_create")))
}

fn take(arguments: &mut JsonObject, names: &[&str]) -> JsonObject {
    names.iter().filter_map(|name| arguments.remove_entry(*name)).collect()
}

fn policy(word: &str) -> Result<NetworkPolicy, Failure> {
    NetworkPolicy::ALL.into_iter().find(|policy| policy.name() == word).ok_or_else(|| {
        let known: Vec<&str> = NetworkPolicy::ALL.iter().map(|policy| policy.name()).collect();
        let word: String = word.chars().take(40).collect();
        Failure::new(Kind::Usage, format!("the argument 'network_policy' is \"{word}\""))
            .hint(format!("pass one of {}", known.join(", ")))
    })
}

fn check_allowed(server: &Server, record: &NetworkRecord) -> Result<(), Failure> {
    if let Some(host) = network::host_beyond(record, &server.allowed_hosts) {
        let allowed = match server.allowed_hosts.as_slice() {
            [] => "none is allowed".to_owned(),
            hosts => format!("allowed are {}", hosts.join(", ")),
        };
        return Err(Failure::new(Kind::Usage, format!("the user did not allow this server the host {host}"))
            .hint(format!("{allowed}; the user can allow it with pyro mcp serve --allow-host {host}")));
    }
    Ok(())
}

/// Lines about what the network of a workspace refused in this time, in milliseconds since 1970, for the top of an answer.
pub(super) async fn refusals_in(server: &Server, workspace: &Workspace, time: RangeInclusive<u64>) -> String {
    let Ok(connection) = workspace.connect() else { return String::new() };
    let Ok(LiveStatus { network: Some(network), .. }) = connection.live_status().await else { return String::new() };
    let recent: Vec<_> = network.refusals.into_iter().filter(|refusal| time.contains(&refusal.at_ms)).collect();
    let by_tool = server.profile == Profile::WorkspaceFull && workspace.record.made_by.host.is_some();
    let advice = if by_tool { Advice::Tool } else { Advice::User(&workspace.record.id) };
    let lines = network.failure.as_deref().map(failed).into_iter().chain(refused(&recent, &advice));
    lines.map(|line| format!("[{line}]\n")).collect()
}
