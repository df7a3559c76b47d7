//! The flags that say what a guest may reach, for the verbs that make machines.

use clap::Args;
use clap::builder::PossibleValue;
use pyro_engine::Settings;
use pyro_engine::store::workspace_record::{NetworkPolicy, NetworkRecord};
use pyro_engine::workspace::network;

use super::Face;
use crate::failure::Failure;

/// What is let through besides, or instead of, what the policy says.
#[derive(Debug, Args)]
pub(crate) struct AllowArgs {
    /// Reach this host wherever it is, HOST or HOST:PORT; host.pyro.internal:PORT is a port of this computer; may be repeated
    #[arg(long, value_name = "HOST")]
    allow_host: Vec<String>,
    /// Of what is public reach only this domain, or with *. what is below it; may be repeated
    #[arg(long, value_name = "DOMAIN")]
    allow_domain: Vec<String>,
    /// Offer this computer's proxy (http_proxy, https_proxy) to programs in it, without its credentials
    #[arg(long)]
    offer_proxy: bool,
}

impl AllowArgs {
    /// What a guest of this policy may reach. Says what is missing of a proxy that it is offered.
    ///
    /// # Errors
    /// A rule is none, there are rules and no network, or there is no proxy.
    pub(crate) fn with(&self, policy: PolicyWord, settings: &Settings, face: &Face) -> Result<NetworkRecord, Failure> {
        let mut network = network::record(policy.0, &self.allow_host, &self.allow_domain)?;
        if self.offer_proxy {
            network = network::with_proxy(network, &settings.environment.proxy)?;
        }
        if network.proxy.as_ref().is_some_and(|proxy| proxy.without_credentials) {
            face.say("the proxy is offered without its credentials: if it asks for them, programs in the guest get the answer 407");
        }
        Ok(network)
    }
}

/// A policy as the command line has it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PolicyWord(pub(crate) NetworkPolicy);

impl clap::ValueEnum for PolicyWord {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self(NetworkPolicy::Off), Self(NetworkPolicy::Egress), Self(NetworkPolicy::EgressAndPublishedPorts)]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.0.name()))
    }
}
