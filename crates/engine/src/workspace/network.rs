//! What a guest may reach, from the words of whoever makes it to the rules that judge its traffic.

use std::fmt;
use std::sync::Arc;

use pyro_network::{DomainRule, HostRule, Policy, RULES_MAX, RefuseRule, RuleError};

use super::proxy;
use crate::settings::ProxySettings;
use crate::store::workspace_record::{NetworkPolicy, NetworkRecord};
use crate::supervisor::traffic::{Traffic, Witness};

/// What is wrong with what a guest is to reach.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// A rule is none.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// There are too many of a kind.
    #[error("{count} {what} are more than the {RULES_MAX} that a network can have")]
    TooMany {
        /// Which.
        what: &'static str,
        /// How many.
        count: usize,
    },
    /// There is something that a network is needed for, and none.
    #[error("{what}, but the network is off")]
    Off {
        /// What there is.
        what: &'static str,
    },
    /// A rule is to be taken away that is not there.
    #[error("there is no rule {flag} {rule}")]
    NoRule {
        /// Its kind.
        flag: &'static str,
        /// The rule.
        rule: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// This host has no proxy to offer.
    #[error("this host has no proxy to offer")]
    NoProxy,
    /// This host's proxy cannot be understood.
    #[error("the proxy of this host, {proxy}, cannot be offered: it is no URL of a proxy")]
    BadProxy {
        /// Its place, without credentials.
        proxy: String,
    },
    /// Domains were named beside a proxy that reaches all of them.
    #[error("a proxy reaches what it likes, so domains cannot be narrowed beside it")]
    ProxyBeyondDomains,
}

/// What is to be changed of what a guest may reach.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkChange {
    /// Another policy.
    pub policy: Option<NetworkPolicy>,
    /// Hosts to open.
    pub allow_hosts: Vec<String>,
    /// Domains to add to those that are reachable.
    pub allow_domains: Vec<String>,
    /// Hosts whose rules are taken away.
    pub clear_hosts: Vec<String>,
    /// Domains whose rules are taken away.
    pub clear_domains: Vec<String>,
}

impl NetworkChange {
    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What a guest may reach when this is changed of it. A network that is turned off has no rules.
    ///
    /// # Errors
    /// See [`NetworkError`].
    pub fn of(&self, before: &NetworkRecord) -> Result<NetworkRecord, NetworkError> {
        let policy = self.policy.unwrap_or(before.policy);
        if policy == NetworkPolicy::Off {
            return record(policy, &self.allow_hosts, &self.allow_domains);
        }
        let hosts = less::<HostRule>(&before.allow_hosts, &self.clear_hosts, "allow-host")?;
        let domains = less::<DomainRule>(&before.allow_domains, &self.clear_domains, "allow-domain")?;
        let after = record(
            policy,
            &[hosts, self.allow_hosts.clone()].concat(),
            &[domains, self.allow_domains.clone()].concat(),
        )?;
        if before.proxy.is_some() && !after.allow_domains.is_empty() {
            return Err(NetworkError::ProxyBeyondDomains);
        }
        Ok(NetworkRecord { proxy: before.proxy.clone(), ..after })
    }
}

/// The rules without some of them.
fn less<R>(rules: &[String], cleared: &[String], flag: &'static str) -> Result<Vec<String>, NetworkError>
where
    R: std::str::FromStr<Err = RuleError> + fmt::Display,
{
    let mut left = rules.to_vec();
    for word in cleared {
        let rule = word.parse::<R>()?.to_string();
        let Some(at) = left.iter().position(|own| *own == rule) else {
            return Err(NetworkError::NoRule { flag, rule, known: rules.to_vec() });
        };
        left.remove(at);
    }
    Ok(left)
}

/// What was asked for, if it makes sense; the rules in the words in which they are kept, each once.
///
/// # Errors
/// See [`NetworkError`].
pub fn record(policy: NetworkPolicy, hosts: &[String], domains: &[String]) -> Result<NetworkRecord, NetworkError> {
    let off = policy == NetworkPolicy::Off;
    for (what, off_words, rules) in [
        ("allowed hosts", "allowed hosts were named", hosts),
        ("allowed domains", "allowed domains were named", domains),
    ] {
        if rules.len() > RULES_MAX {
            return Err(NetworkError::TooMany { what, count: rules.len() });
        }
        if off && !rules.is_empty() {
            return Err(NetworkError::Off { what: off_words });
        }
    }
    let Policy { hosts, domains, .. } = parse(hosts, domains)?;
    Ok(NetworkRecord { policy, allow_hosts: kept(&hosts), allow_domains: kept(&domains), proxy: None })
}

/// The same, with this host's proxy offered to the guest and opened for it.
///
/// # Errors
/// There is no network, domains are narrowed, or the host has no proxy that could be offered.
pub fn with_proxy(network: NetworkRecord, settings: &ProxySettings) -> Result<NetworkRecord, NetworkError> {
    if network.is_off() {
        return Err(NetworkError::Off { what: "a proxy was to be offered" });
    }
    if !network.allow_domains.is_empty() {
        return Err(NetworkError::ProxyBeyondDomains);
    }
    let (proxy, rules) = proxy::offered(settings)?;
    let opened = record(network.policy, &[network.allow_hosts, rules].concat(), &[])?;
    Ok(NetworkRecord { proxy: Some(proxy), ..opened })
}

/// The first of a network's hosts that none of `allowed` covers.
#[must_use]
pub fn host_beyond<'a>(network: &'a NetworkRecord, allowed: &[String]) -> Option<&'a str> {
    let allowed: Vec<HostRule> = allowed.iter().filter_map(|rule| rule.parse().ok()).collect();
    let is_covered =
        |host: &&String| host.parse::<HostRule>().is_ok_and(|host| allowed.iter().any(|rule| rule.includes(&host)));
    network.allow_hosts.iter().find(|host| !is_covered(host)).map(String::as_str)
}

/// What a machine's network is started with; none if there is none.
///
/// # Errors
/// A rule is none: the record was changed by somebody else.
pub fn traffic(network: &NetworkRecord, witness: &Arc<Witness>) -> Result<Option<Traffic>, NetworkError> {
    if network.is_off() {
        return Ok(None);
    }
    let variables = network.proxy.as_ref().map(|proxy| proxy.variables()).unwrap_or_default();
    Ok(Some(Traffic { policy: rules(network)?, variables, witness: Arc::clone(witness) }))
}

/// The rules by which traffic is judged, also that of a machine that was started when there still was a network.
///
/// # Errors
/// As [`traffic`].
pub fn rules(network: &NetworkRecord) -> Result<Policy, NetworkError> {
    let closed = network.is_off().then_some(RefuseRule::Off);
    Ok(Policy { closed, ..parse(&network.allow_hosts, &network.allow_domains)? })
}

fn kept<R: fmt::Display>(rules: &[R]) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for rule in rules.iter().map(ToString::to_string) {
        if !kept.contains(&rule) {
            kept.push(rule);
        }
    }
    kept
}

fn parse(hosts: &[String], domains: &[String]) -> Result<Policy, NetworkError> {
    let hosts = hosts.iter().map(|rule| rule.parse::<HostRule>()).collect::<Result<_, _>>()?;
    let domains = domains.iter().map(|rule| rule.parse::<DomainRule>()).collect::<Result<_, _>>()?;
    Ok(Policy { hosts, domains, closed: None })
}

#[cfg(test)]
mod tests {
    use pyro_network::RefuseRule;

    use super::{NetworkChange, NetworkError, host_beyond, record, rules, with_proxy};
    use crate::settings::ProxySettings;
    use crate::store::workspace_record::{NetworkPolicy, NetworkRecord};

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn rules_are_kept_in_one_form() {
        let hosts = words(&["DB.Example.:5432", "10.0.0.1", "db.example:5432"]);
        let network = record(NetworkPolicy::Egress, &hosts, &words(&["*.Example.Org"])).unwrap();
        assert_eq!(network.allow_hosts, ["db.example:5432", "10.0.0.1"]);
        assert_eq!(network.allow_domains, ["*.example.org"]);
        assert_eq!(network.to_string(), "egress, only *.example.org, also db.example:5432, 10.0.0.1");
        assert_eq!(rules(&network).unwrap().closed, None);
        assert_eq!(rules(&NetworkRecord::default()).unwrap().closed, Some(RefuseRule::Off));
    }

    #[test]
    fn hosts_stay_within_what_is_allowed() {
        let to = |hosts: &[&str]| record(NetworkPolicy::Egress, &words(hosts), &[]).unwrap();
        let allowed = words(&["10.0.0.1", "db.example:5432", "host.pyro.internal:80"]);
        let within = to(&["10.0.0.1:22", "DB.example:5432", "host.pyro.internal:80"]);
        assert_eq!(host_beyond(&within, &allowed), None);
        for beyond in ["10.0.0.2", "db.example", "db.example:5433", "host.pyro.internal:81"] {
            assert_eq!(host_beyond(&to(&["10.0.0.1", beyond]), &allowed), Some(beyond));
        }
        assert_eq!(host_beyond(&to(&["10.0.0.1"]), &[]), Some("10.0.0.1"));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let check =
            |policy, hosts: &[&str], domains: &[&str]| record(policy, &words(hosts), &words(domains)).unwrap_err();
        assert!(matches!(check(NetworkPolicy::Egress, &["10.0.0.0/8"], &[]), NetworkError::Rule(_)));
        assert!(matches!(check(NetworkPolicy::Off, &[], &["a.example"]), NetworkError::Off { .. }));
        assert!(matches!(check(NetworkPolicy::Egress, &["10.0.0.1"; 65], &[]), NetworkError::TooMany { .. }));
    }

    #[test]
    fn a_proxy_is_offered_where_there_is_a_network_that_it_does_not_undo() {
        let settings = ProxySettings { http: Some("http://localhost:3128".to_owned()), ..Default::default() };
        let offer = |policy, domains: &[&str]| {
            record(policy, &[], &words(domains)).and_then(|network| with_proxy(network, &settings))
        };
        assert!(matches!(offer(NetworkPolicy::Off, &[]), Err(NetworkError::Off { .. })));
        assert_eq!(offer(NetworkPolicy::Egress, &["a.example"]), Err(NetworkError::ProxyBeyondDomains));
        let offered = offer(NetworkPolicy::Egress, &[]).unwrap();
        assert_eq!(offered.to_string(), "egress, also host.pyro.internal:3128, a proxy is offered");
        let narrowed = NetworkChange { allow_domains: words(&["a.example"]), ..NetworkChange::default() };
        assert_eq!(narrowed.of(&offered), Err(NetworkError::ProxyBeyondDomains));
        let off = NetworkChange { policy: Some(NetworkPolicy::Off), ..NetworkChange::default() };
        assert_eq!(off.of(&offered), Ok(NetworkRecord::default()));
    }

    #[test]
    fn a_change_adds_and_takes_away() {
        let before = record(NetworkPolicy::Egress, &words(&["10.0.0.1"]), &words(&["a.example"])).unwrap();
        let change = NetworkChange {
            allow_hosts: words(&["10.0.0.1", "10.0.0.2:80"]),
            allow_domains: words(&["b.example"]),
            clear_domains: words(&["A.Example."]),
            ..NetworkChange::default()
        };
        assert_eq!(change.of(&before).unwrap().to_string(), "egress, only b.example, also 10.0.0.1, 10.0.0.2:80");
        let unknown = NetworkChange { clear_hosts: words(&["10.0.0.9"]), ..NetworkChange::default() };
        assert!(matches!(unknown.of(&before), Err(NetworkError::NoRule { rule, .. }) if rule == "10.0.0.9"));
        let more = NetworkChange { allow_hosts: words(&["10.0.0.1"]), ..NetworkChange::default() };
        assert!(matches!(more.of(&NetworkRecord::default()), Err(NetworkError::Off { .. })));
        assert!(NetworkChange::default().is_empty() && !more.is_empty());
    }
}
