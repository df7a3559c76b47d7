//! The network of a machine as its supervisor has it: a stream of frames, the policy, and who hears of the guest's traffic.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

use pyro_network::{
    Conversation, GATEWAY_V4, GATEWAY_V6, GUEST_V4, GUEST_V6, MTU_BYTES, Network, Observer, Outcome, PREFIX_V4,
    PREFIX_V6, Policy,
};
use pyro_wire::lifecycle;

pub use pyro_network::contains_panics;

use super::commands::now_ms;
use super::protocol::{LiveNetwork, NetworkRefusal};
use crate::store::crossing_record::{CrossedConnection, Crossing, Verdict};
use crate::store::crossings::CrossingNotes;

/// Refusals that are remembered for whoever wants to know why something did not work.
const REFUSALS_MAX: usize = 32;

/// What a machine's network is started with.
#[derive(Clone)]
pub struct Traffic {
    /// What the guest may reach.
    pub policy: Policy,
    /// Variables for all that runs in it.
    pub variables: BTreeMap<String, String>,
    /// Who hears of what it reached and of what was refused.
    pub witness: Arc<Witness>,
}

impl std::fmt::Debug for Traffic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Traffic").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl Traffic {
    /// Starts the network of a guest at the host's end of its frames.
    ///
    /// # Errors
    /// The host has no thread for it.
    pub(super) fn start(&self, frames: OwnedFd) -> io::Result<Network> {
        let witness: Arc<dyn Observer> = Arc::<Witness>::clone(&self.witness);
        Network::start(frames, self.policy.clone(), witness)
    }
}

/// Hears of the guest's traffic: has each conversation written down, and remembers the last refusals.
#[derive(Debug, Default)]
pub struct Witness {
    notes: Option<CrossingNotes>,
    refusals: Mutex<VecDeque<NetworkRefusal>>,
}

impl Witness {
    /// One that has everything written down.
    #[must_use]
    pub fn writing(notes: CrossingNotes) -> Self {
        Self { notes: Some(notes), refusals: Mutex::default() }
    }

    /// The last refusals, the newest at the end.
    #[must_use]
    pub fn refusals(&self) -> Vec<NetworkRefusal> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

impl Observer for Witness {
    fn conversation(&self, conversation: Conversation) {
        if let Outcome::Refused(rule) = &conversation.outcome {
            let refusal = NetworkRefusal {
                at_ms: now_ms(),
                protocol: conversation.protocol.name().to_owned(),
                to: conversation.destination(),
                rule: rule.to_string(),
                opened_by: conversation.opened_by().map(|rule| rule.to_string()),
            };
            let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
            // A program that tries again and again is one line.
            refusals.retain(|known| (&known.protocol, &known.to) != (&refusal.protocol, &refusal.to));
            if refusals.len() >= REFUSALS_MAX {
                refusals.pop_front();
            }
            refusals.push_back(refusal);
        }
        if let Some(notes) = &self.notes {
            notes.note(Crossing::Connection(crossed(conversation)));
        }
    }
}

fn crossed(conversation: Conversation) -> CrossedConnection {
    let (verdict, rule) = match &conversation.outcome {
        Outcome::Carried(rule) => (Verdict::Allowed, rule.to_string()),
        Outcome::Failed { rule, reason } => (Verdict::Failed, format!("{rule}: {reason}")),
        Outcome::Refused(rule) => (Verdict::Refused, rule.to_string()),
    };
    let more = conversation.and_more;
    CrossedConnection {
        transport: conversation.protocol.name().to_owned(),
        host: conversation.host,
        address: conversation.address.map(|address| address.to_string()),
        port: Some(conversation.port).filter(|port| *port != 0),
        out_bytes: conversation.sent_bytes,
        in_bytes: conversation.received_bytes,
        verdict,
        rule: if more == 0 { rule } else { format!("{rule} (and {more} more, not written down one by one)") },
    }
}

/// What is going on in a network; its words are cleaned before they are told.
pub(super) fn live(network: &Network, witness: &Witness, clean: impl Fn(&str) -> String) -> LiveNetwork {
    let counters = network.counters();
    let refusals = witness.refusals().into_iter().map(|refusal| NetworkRefusal {
        to: clean(&refusal.to),
        opened_by: refusal.opened_by.as_deref().map(&clean),
        ..refusal
    });
    LiveNetwork {
        open: counters.open,
        begun: counters.begun,
        failed: counters.failed,
        refused: counters.refused,
        questions: counters.questions,
        sent_bytes: counters.sent_bytes,
        received_bytes: counters.received_bytes,
        dropped_frames: counters.dropped_frames,
        failure: network.failure().map(str::to_owned),
        refusals: refusals.collect(),
    }
}

/// The two ends of a stream of frames: the host's, and the hypervisor's.
///
/// # Errors
/// The host has no more descriptors.
pub(super) fn frames() -> io::Result<(OwnedFd, OwnedFd)> {
    let (host, hypervisor) = UnixStream::pair()?;
    Ok((host.into(), hypervisor.into()))
}

/// How the guest sets up its side of it.
pub(super) fn guest_side() -> lifecycle::Network {
    lifecycle::Network {
        addresses: vec![(GUEST_V4.into(), PREFIX_V4), (GUEST_V6.into(), PREFIX_V6)],
        gateways: vec![GATEWAY_V4.into(), GATEWAY_V6.into()],
        name_server: GATEWAY_V4.into(),
        mtu_bytes: u32::try_from(MTU_BYTES).unwrap_or(u32::MAX),
    }
}

#[cfg(test)]
mod tests {
    use crate::machine::spec::NETWORK_MAC;

    /// The room of machines knows no network, so the two are held together here.
    #[test]
    fn a_machine_has_the_hardware_address_that_its_network_expects() {
        let expected = pyro_network::GUEST_MAC.map(|byte| format!("{byte:02x}")).join(":");
        assert_eq!(NETWORK_MAC, expected);
    }
}
