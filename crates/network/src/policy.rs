//! What a guest may reach: rules, and the judgement by them. Pure: who is judged, what was learned and what the host's own
//! addresses are is told.
//!
//! Without rules everything public is reachable, and nothing else. A host rule opens one more host, or one port of it; domain
//! rules narrow what is public to what our own answers named by one of those domains. A name never opens the host itself, its
//! link, or a metadata service, whatever it resolves to: those are opened by address, and the host's loopback only by
//! [`HOST_NAME`] and a port.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Instant;

use crate::address::{GATEWAY_V4, GATEWAY_V6, HOST_NAME, Place, place, unwrapped};
use crate::learned::Learned;

/// Longest name of a host.
const NAME_BYTES_MAX: usize = 253;

/// Longest part of one between dots.
const LABEL_BYTES_MAX: usize = 63;

/// What a guest may reach.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// Hosts that are reachable wherever they are.
    pub hosts: Vec<HostRule>,
    /// If there are any: the only names that are reachable besides those.
    pub domains: Vec<DomainRule>,
    /// If set: nothing is reachable, whatever else is said, and this is why.
    pub closed: Option<RefuseRule>,
}

/// A host, or a port of one, that is reachable wherever it is: `HOST[:PORT]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRule {
    host: Host,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Address(IpAddr),
    Name(String),
    /// The host's loopback, by [`HOST_NAME`].
    Loopback,
}

/// A domain: `example.org` for exactly that name, `*.example.org` for those below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainRule {
    name: String,
    below: bool,
}

/// What is wrong with a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// It is neither a name nor an address.
    #[error("`{rule}` is neither the name nor the address of a host, with or without a port")]
    NotAHost {
        /// The rule.
        rule: String,
    },
    /// Its port is none.
    #[error("the port in `{rule}` is not a number from 1 to 65535")]
    NotAPort {
        /// The rule.
        rule: String,
    },
    /// It names the loopback, which in the guest is the guest's own.
    #[error("`{rule}` is the guest itself in the guest; the host's ports are reached as {HOST_NAME}:PORT")]
    Loopback {
        /// The rule.
        rule: String,
    },
    /// It would open all ports of the host.
    #[error("{HOST_NAME} needs a port, as in {HOST_NAME}:8080: the host is never opened as a whole")]
    HostWithoutPort,
    /// It is no domain.
    #[error("`{rule}` is not a domain, such as example.org or *.example.org")]
    NotADomain {
        /// The rule.
        rule: String,
    },
}

/// A transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// A connection.
    Tcp,
    /// Datagrams.
    Udp,
}

/// Where a guest wants to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Destination {
    /// The address as the guest wrote it.
    pub(crate) address: IpAddr,
    /// The port.
    pub(crate) port: u16,
}

/// The judgement of a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is reachable at this address.
    Allowed {
        /// Where that is, from the host.
        target: Target,
        /// By which rule.
        rule: AllowRule,
    },
    /// It is not.
    Refused(RefuseRule),
}

/// Where a reachable destination is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// At this address.
    Address(IpAddr),
    /// On the host's loopback, whichever of its addresses.
    HostLoopback,
}

/// Why something is reachable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowRule {
    /// It is public, and nothing narrows that.
    Egress,
    /// This host rule.
    Host(String),
    /// This domain rule.
    Domain(String),
    /// It is a question to the gateway.
    Dns,
}

/// Why something is not reachable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefuseRule {
    /// It is in a place that is closed unless named.
    Place(Place),
    /// It is an address of the host.
    OwnAddress,
    /// It is a port of the host that was not opened.
    HostPort,
    /// No allowed domain stands for it.
    Domain,
    /// There are too many connections.
    Limit,
    /// The network was taken away from a machine that runs.
    Off,
    /// The network met a defect of its own and is closed.
    Failed,
}

/// The judgement of a name that a guest asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NameVerdict {
    /// It may be resolved.
    Resolve {
        /// To addresses only: a record that leads to another name would lead out of the domains.
        addresses_only: bool,
    },
    /// It is the gateway's own.
    Gateway,
    /// It may not.
    Refused(RefuseRule),
}

impl Policy {
    /// Judges a destination. `is_own` says whether an address is one of the host's.
    pub(crate) fn judge(
        &self,
        to: Destination,
        learned: &Learned,
        now: Instant,
        is_own: impl Fn(IpAddr) -> bool,
    ) -> Verdict {
        if let Some(rule) = self.closed {
            return Verdict::Refused(rule);
        }
        if to.address == IpAddr::V4(GATEWAY_V4) || to.address == IpAddr::V6(GATEWAY_V6) {
            let opened = self.hosts.iter().find(|rule| rule.host == Host::Loopback && rule.covers(to.port));
            return match opened {
                Some(rule) => {
                    Verdict::Allowed { target: Target::HostLoopback, rule: AllowRule::Host(rule.to_string()) }
                }
                None => Verdict::Refused(RefuseRule::HostPort),
            };
        }
        let address = unwrapped(to.address);
        // Judged as what it means, connected to as it is: a host may reach IPv4 by a translator only.
        let allowed = |rule| Verdict::Allowed { target: Target::Address(to.address.to_canonical()), rule };
        let by_address = |rule: &&HostRule| matches!(rule.host, Host::Address(host) if host == address);
        if let Some(rule) = self.hosts.iter().filter(by_address).find(|rule| rule.covers(to.port)) {
            return allowed(AllowRule::Host(rule.to_string()));
        }
        let place = place(address);
        match place {
            Place::Public | Place::Private | Place::Shared | Place::Test => {}
            _ => return Verdict::Refused(RefuseRule::Place(place)),
        }
        if is_own(address) || is_own(to.address) {
            return Verdict::Refused(RefuseRule::OwnAddress);
        }
        let stands_for = |host: &str| learned.names(address, now).any(|name| name == host);
        let by_name = |rule: &HostRule| matches!(&rule.host, Host::Name(host) if stands_for(host));
        if let Some(rule) = self.hosts.iter().find(|rule| rule.covers(to.port) && by_name(rule)) {
            return allowed(AllowRule::Host(rule.to_string()));
        }
        // What only a resolver can mean is reachable by what that said, and not by guessing.
        let is_public =
            place == Place::Public || (place == Place::Test && learned.names(address, now).next().is_some());
        if !is_public {
            return Verdict::Refused(RefuseRule::Place(place));
        }
        if self.domains.is_empty() {
            return allowed(AllowRule::Egress);
        }
        let covering = learned.names(address, now).find_map(|name| self.domains.iter().find(|rule| rule.covers(name)));
        covering.map_or(Verdict::Refused(RefuseRule::Domain), |rule| allowed(AllowRule::Domain(rule.to_string())))
    }

    /// Judges a name; in lower case and without a dot at its end.
    #[must_use]
    pub(crate) fn judge_name(&self, name: &str) -> NameVerdict {
        if let Some(rule) = self.closed {
            return NameVerdict::Refused(rule);
        }
        if name == HOST_NAME {
            let opened = self.hosts.iter().any(|rule| rule.host == Host::Loopback);
            return if opened { NameVerdict::Gateway } else { NameVerdict::Refused(RefuseRule::HostPort) };
        }
        let owner = owner_of(name);
        let is_host = |rule: &HostRule| matches!(&rule.host, Host::Name(host) if host == owner);
        let reachable = self.domains.is_empty()
            || self.domains.iter().any(|rule| rule.covers(owner))
            || self.hosts.iter().any(is_host);
        if reachable {
            NameVerdict::Resolve { addresses_only: !self.domains.is_empty() }
        } else {
            NameVerdict::Refused(RefuseRule::Domain)
        }
    }

    /// Whether what this rule let through is still let through.
    pub(crate) fn upholds(&self, rule: &AllowRule) -> bool {
        match rule {
            // Each name is judged by itself.
            AllowRule::Dns => true,
            _ if self.closed.is_some() => false,
            AllowRule::Egress => self.domains.is_empty(),
            AllowRule::Domain(rule) => {
                self.domains.is_empty() || self.domains.iter().any(|own| own.to_string() == *rule)
            }
            AllowRule::Host(rule) => self.hosts.iter().any(|own| own.to_string() == *rule),
        }
    }
}

/// Whose name it is: a service of a name, such as `_https._tcp.example.org`, is asked for under a name that is no host's.
pub(crate) fn owner_of(name: &str) -> &str {
    let mut owner = name;
    while let Some((label, rest)) = owner.split_once('.')
        && label.starts_with('_')
    {
        owner = rest;
    }
    owner
}

impl HostRule {
    /// The host's loopback at this port.
    #[must_use]
    pub fn host_loopback(port: u16) -> Self {
        Self { host: Host::Loopback, port: Some(port) }
    }

    /// Whether all that `other` opens is opened by this one.
    #[must_use]
    pub fn includes(&self, other: &Self) -> bool {
        self.host == other.host && (self.port.is_none() || self.port == other.port)
    }

    fn covers(&self, port: u16) -> bool {
        self.port.is_none_or(|own| own == port)
    }
}

impl FromStr for HostRule {
    type Err = RuleError;

    fn from_str(rule: &str) -> Result<Self, RuleError> {
        let (host, port) = split_port(rule)?;
        if let Ok(address) = host.parse::<IpAddr>() {
            let address = unwrapped(address);
            if matches!(place(address), Place::Loopback) {
                return Err(RuleError::Loopback { rule: rule.to_owned() });
            }
            return Ok(Self { host: Host::Address(address), port });
        }
        let name = canonical_name(host).ok_or_else(|| RuleError::NotAHost { rule: rule.to_owned() })?;
        match name.as_str() {
            HOST_NAME if port.is_none() => Err(RuleError::HostWithoutPort),
            HOST_NAME => Ok(Self { host: Host::Loopback, port }),
            "localhost" => Err(RuleError::Loopback { rule: rule.to_owned() }),
            name if name.ends_with(".localhost") => Err(RuleError::Loopback { rule: rule.to_owned() }),
            _ => Ok(Self { host: Host::Name(name), port }),
        }
    }
}

fn split_port(rule: &str) -> Result<(&str, Option<u16>), RuleError> {
    let port = |word: &str| match word.parse::<u16>() {
        Ok(port) if port > 0 => Ok(Some(port)),
        _ => Err(RuleError::NotAPort { rule: rule.to_owned() }),
    };
    if let Some((host, rest)) = rule.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        return match rest.strip_prefix(':') {
            Some(word) => Ok((host, port(word)?)),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(RuleError::NotAHost { rule: rule.to_owned() }),
        };
    }
    match rule.split_once(':') {
        // An IPv6 address without brackets.
        Some((_, rest)) if rest.contains(':') => Ok((rule, None)),
        // A URL.
        Some((_, rest)) if rest.starts_with('/') => Err(RuleError::NotAHost { rule: rule.to_owned() }),
        Some((host, word)) => Ok((host, port(word)?)),
        None => Ok((rule, None)),
    }
}

/// A name in lower case and without a dot at its end; none if it is none.
#[must_use]
pub(crate) fn canonical_name(name: &str) -> Option<String> {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let is_label = |label: &str| (1..=LABEL_BYTES_MAX).contains(&label.len()) && label.bytes().all(is_letter);
    // A number at the end makes it an address, or the attempt at one.
    let ends_in_number = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    (name.len() <= NAME_BYTES_MAX && name.split('.').all(is_label) && !ends_in_number).then_some(name)
}

impl fmt::Display for HostRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, self.port) {
            (Host::Address(IpAddr::V6(address)), Some(_)) => write!(f, "[{address}]"),
            (Host::Address(address), _) => write!(f, "{address}"),
            (Host::Name(name), _) => f.write_str(name),
            (Host::Loopback, _) => f.write_str(HOST_NAME),
        }?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl DomainRule {
    fn covers(&self, name: &str) -> bool {
        if self.below {
            name.strip_suffix(&self.name).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        } else {
            name == self.name
        }
    }
}

impl FromStr for DomainRule {
    type Err = RuleError;

    fn from_str(rule: &str) -> Result<Self, RuleError> {
        let (word, below) = rule.strip_prefix("*.").map_or((rule, false), |rest| (rest, true));
        let name = canonical_name(word).ok_or_else(|| RuleError::NotADomain { rule: rule.to_owned() })?;
        Ok(Self { name, below })
    }
}

impl fmt::Display for DomainRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.below { "*." } else { "" }, self.name)
    }
}

impl fmt::Display for AllowRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Egress => f.write_str("egress"),
            Self::Host(rule) => write!(f, "allow-host {rule}"),
            Self::Domain(rule) => write!(f, "allow-domain {rule}"),
            Self::Dns => f.write_str("dns"),
        }
    }
}

impl fmt::Display for RefuseRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Place(Place::Public) => "public address",
            Self::Place(Place::Private) => "private address",
            Self::Place(Place::Shared) => "shared address",
            Self::Place(Place::Loopback) => "loopback address",
            Self::Place(Place::LinkLocal) => "link-local address",
            Self::Place(Place::Metadata) => "metadata address",
            Self::Place(Place::Multicast) => "multicast address",
            Self::Place(Place::Unspecified) => "unspecified address",
            Self::Place(Place::Test) => "test address",
            Self::Place(Place::Reserved) => "reserved address",
            Self::OwnAddress => "address of the host itself",
            Self::HostPort => "port of the host that was not opened",
            Self::Domain => "outside the allowed domains",
            Self::Limit => "too many connections",
            Self::Off => "the network was turned off",
            Self::Failed => "the network has failed",
        })
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
