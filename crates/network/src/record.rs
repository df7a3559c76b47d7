//! What is told of a guest's traffic: each connection, each refusal, and counts of everything.
//!
//! Whoever observes hears of each conversation once, when it is over or was refused. A guest can be refused very often in a
//! short time, so beyond a limit only the number of refusals is told.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::address::{HOST_NAME, Place};
use crate::limits::{NOTES_MAX, NOTES_WINDOW};
use crate::policy::{AllowRule, Protocol, RefuseRule, owner_of};

/// Hears of conversations. It is called in the middle of the work, so it must not wait for anything.
pub trait Observer: Send + Sync + 'static {
    /// A conversation is over, or did not come about.
    fn conversation(&self, conversation: Conversation);
}

/// A conversation of the guest with someone outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// How.
    pub protocol: Spoken,
    /// The name by which the guest knows the other side, if it asked us for it.
    pub host: Option<String>,
    /// The other side's address; none for a question for a name.
    pub address: Option<IpAddr>,
    /// Its port; 0 where there is none.
    pub port: u16,
    /// Bytes that the guest sent.
    pub sent_bytes: u64,
    /// Bytes that the guest received.
    pub received_bytes: u64,
    /// How long it took.
    pub duration: Duration,
    /// What became of it.
    pub outcome: Outcome,
    /// More of the same outcome that are not told one by one.
    pub and_more: u64,
}

/// What is spoken in a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Spoken {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// A question for a name.
    Dns,
}

impl Spoken {
    /// `tcp`, `udp` or `dns`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Dns => "dns",
        }
    }
}

impl From<Protocol> for Spoken {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => Self::Tcp,
            Protocol::Udp => Self::Udp,
        }
    }
}

/// What became of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It took place.
    Carried(AllowRule),
    /// It was allowed, and the other side was not there.
    Failed {
        /// By which rule it was allowed.
        rule: AllowRule,
        /// What the host's system said.
        reason: String,
    },
    /// It was refused.
    Refused(RefuseRule),
}

impl Conversation {
    /// The other side, for a person or a model: its name as far as the guest asked for it, its address and port.
    #[must_use]
    pub fn destination(&self) -> String {
        match (&self.host, self.address) {
            (Some(host), Some(address)) => format!("{host}:{} ({address})", self.port),
            (Some(host), None) => host.clone(),
            (None, Some(address)) => SocketAddr::new(address, self.port).to_string(),
            (None, None) => "-".to_owned(),
        }
    }

    /// The rule that would let through what was refused. None where there is no such rule, or where it would be no good
    /// advice: what a machine's metadata or its link tells is not for guests.
    #[must_use]
    pub fn opened_by(&self) -> Option<AllowRule> {
        let Outcome::Refused(rule) = self.outcome else { return None };
        let port = if self.port == 0 { "PORT".to_owned() } else { self.port.to_string() };
        let by_address = || self.address.map(|address| SocketAddr::new(address, self.port).to_string());
        let by_name = || self.host.as_ref().map(|host| format!("{host}:{port}"));
        match rule {
            RefuseRule::HostPort => Some(AllowRule::Host(format!("{HOST_NAME}:{port}"))),
            RefuseRule::Place(Place::Private | Place::Shared) => by_name().or_else(by_address).map(AllowRule::Host),
            RefuseRule::OwnAddress => by_address().map(AllowRule::Host),
            RefuseRule::Domain => match &self.host {
                Some(host) => Some(AllowRule::Domain(owner_of(host).to_owned())),
                None => by_address().map(AllowRule::Host),
            },
            RefuseRule::Place(_) | RefuseRule::Limit | RefuseRule::Off | RefuseRule::Failed => None,
        }
    }
}

impl fmt::Display for Conversation {
    /// One line for a person or a model.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.protocol.name(), self.destination())?;
        match &self.outcome {
            Outcome::Carried(rule) => write!(f, ": {rule}")?,
            Outcome::Failed { reason, .. } => write!(f, ": failed: {reason}")?,
            Outcome::Refused(rule) => write!(f, ": refused: {rule}")?,
        }
        if self.and_more > 0 { write!(f, ", and {} more", self.and_more) } else { Ok(()) }
    }
}

/// Counts of a guest's traffic since its machine was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections and UDP conversations that are open.
    pub open: u64,
    /// Those that were begun.
    pub begun: u64,
    /// Those that were allowed and failed.
    pub failed: u64,
    /// What was refused, questions for names included.
    pub refused: u64,
    /// Questions for names.
    pub questions: u64,
    /// Bytes that the guest sent.
    pub sent_bytes: u64,
    /// Bytes that the guest received.
    pub received_bytes: u64,
    /// Frames of the guest that were dropped because they made no sense or came too fast.
    pub dropped_frames: u64,
}

/// Lets through so many notes in a time, and counts the others.
#[derive(Debug, Default)]
pub(crate) struct NoteLimit {
    window_began: Option<Instant>,
    told: u32,
    untold: u64,
}

impl NoteLimit {
    /// Whether one more is told now; with the number of those that were not, since.
    pub(crate) fn pass(&mut self, now: Instant) -> Option<u64> {
        let fresh = self.window_began.is_none_or(|began| now.saturating_duration_since(began) >= NOTES_WINDOW);
        if fresh {
            self.window_began = Some(now);
            self.told = 0;
        }
        if self.told >= NOTES_MAX {
            self.untold += 1;
            return None;
        }
        self.told += 1;
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Conversation, NoteLimit, Outcome, Spoken};
    use crate::address::Place;
    use crate::limits::{NOTES_MAX, NOTES_WINDOW};
    use crate::policy::RefuseRule;

    #[test]
    fn very_many_refusals_are_told_as_a_number() {
        let mut limit = NoteLimit::default();
        let start = Instant::now();
        let told = (0..NOTES_MAX + 1000).filter(|_| limit.pass(start).is_some()).count();
        assert_eq!(told, usize::try_from(NOTES_MAX).unwrap());
        assert_eq!(limit.pass(start + NOTES_WINDOW), Some(1000));
        assert_eq!(limit.pass(start + NOTES_WINDOW), Some(0));
    }

    #[test]
    fn a_conversation_is_told_in_one_line() {
        let mut refused = Conversation {
            protocol: Spoken::Tcp,
            host: None,
            address: Some("10.0.0.1".parse().unwrap()),
            port: 80,
            sent_bytes: 0,
            received_bytes: 0,
            duration: Duration::ZERO,
            outcome: Outcome::Refused(RefuseRule::Domain),
            and_more: 0,
        };
        assert_eq!(refused.to_string(), "tcp 10.0.0.1:80: refused: outside the allowed domains");
        refused.host = Some("evil.example".to_owned());
        refused.and_more = 2;
        let told = "tcp evil.example:80 (10.0.0.1): refused: outside the allowed domains, and 2 more";
        assert_eq!(refused.to_string(), told);
        refused.address = None;
        refused.protocol = Spoken::Dns;
        assert_eq!(refused.to_string(), "dns evil.example: refused: outside the allowed domains, and 2 more");
    }

    #[test]
    fn a_refusal_names_the_rule_that_would_open_it() {
        let check = |rule, host: Option<&str>, address: Option<&str>, expected: Option<&str>| {
            let refused = Conversation {
                protocol: Spoken::Tcp,
                host: host.map(str::to_owned),
                address: address.map(|address| address.parse().unwrap()),
                port: if address.is_some() { 80 } else { 0 },
                sent_bytes: 0,
                received_bytes: 0,
                duration: Duration::ZERO,
                outcome: Outcome::Refused(rule),
                and_more: 0,
            };
            assert_eq!(refused.opened_by().map(|rule| rule.to_string()).as_deref(), expected);
        };
        let private = RefuseRule::Place(Place::Private);
        check(private, None, Some("10.0.0.1"), Some("allow-host 10.0.0.1:80"));
        check(private, None, Some("fd00::1"), Some("allow-host [fd00::1]:80"));
        check(private, Some("db.example"), Some("10.0.0.1"), Some("allow-host db.example:80"));
        check(RefuseRule::Domain, Some("a.example"), Some("1.1.1.1"), Some("allow-domain a.example"));
        check(RefuseRule::Domain, Some("_http._tcp.a.example"), None, Some("allow-domain a.example"));
        check(RefuseRule::Domain, None, Some("1.1.1.1"), Some("allow-host 1.1.1.1:80"));
        check(RefuseRule::HostPort, None, Some("192.0.2.1"), Some("allow-host host.pyro.internal:80"));
        check(RefuseRule::HostPort, Some("host.pyro.internal"), None, Some("allow-host host.pyro.internal:PORT"));
        check(RefuseRule::Place(Place::Metadata), None, Some("169.254.169.254"), None);
        check(RefuseRule::Off, None, Some("1.1.1.1"), None);
    }
}
