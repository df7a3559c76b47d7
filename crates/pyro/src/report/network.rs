//! The public shapes of networks: what a guest may reach, what it reached, and what was refused.

use pyro_engine::store::workspace_record::{NetworkRecord, ProxyRecord};
use pyro_engine::supervisor::protocol::{LiveNetwork, NetworkRefusal};
use serde::Serialize;

use super::clean::one_line;
use super::env::Moment;
use super::units;

/// Refusals that are told one by one.
const REFUSALS_TOLD_MAX: usize = 3;

/// What a guest may reach.
#[derive(Debug, Serialize)]
pub(crate) struct NetworkReport {
    /// `off`, `egress` or `egress+published-ports`.
    pub(crate) policy: &'static str,
    /// Hosts, or ports of them, that are reachable wherever they are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allow_hosts: Vec<String>,
    /// The only domains that are reachable besides those.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allow_domains: Vec<String>,
    /// The proxy of this computer that its programs are offered.
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy: Option<ProxyReport>,
    /// Its machine was started without a network, and gets one when it is started anew, or reset.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) at_next_start: bool,
    #[serde(skip)]
    words: String,
}

/// A proxy as programs of a guest are to use it.
#[derive(Debug, Serialize)]
struct ProxyReport {
    #[serde(skip_serializing_if = "Option::is_none")]
    http: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    https: Option<String>,
    no_proxy: String,
    /// This computer uses it with credentials, which were not handed over: if it asks for them, the answer is 407.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    without_credentials: bool,
}

impl From<NetworkRecord> for NetworkReport {
    fn from(record: NetworkRecord) -> Self {
        let words = one_line(&record.to_string());
        let NetworkRecord { policy, allow_hosts, allow_domains, proxy } = record;
        let proxy = proxy.map(|ProxyRecord { http, https, no_proxy, without_credentials }| ProxyReport {
            http,
            https,
            no_proxy,
            without_credentials,
        });
        Self { policy: policy.name(), allow_hosts, allow_domains, proxy, at_next_start: false, words }
    }
}

impl NetworkReport {
    /// In a line, for a person.
    pub(crate) fn line(&self) -> String {
        let when = if self.at_next_start { "; from the next start or reset on, its machine has none" } else { "" };
        format!("{}{when}", self.words)
    }
}

/// What went over a network since its machine was started.
#[derive(Debug, Serialize)]
pub(crate) struct TrafficReport {
    /// Connections and UDP conversations.
    conversations: u64,
    /// Those that are open.
    open: u64,
    /// Those that were allowed and failed.
    failed: u64,
    /// What was refused, questions for names included.
    refused: u64,
    /// Questions for names.
    questions: u64,
    /// Bytes out of the guest.
    out_bytes: u64,
    /// Bytes into it.
    in_bytes: u64,
    /// Frames of the guest that made no sense.
    dropped_frames: u64,
    /// Why it is closed, if it met a defect of pyro's.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
    /// The last refusals, one for each destination, the newest at the end.
    refusals: Vec<RefusalReport>,
}

/// Something that a guest wanted to reach and may not.
#[derive(Debug, Serialize)]
pub(crate) struct RefusalReport {
    at: Moment,
    protocol: String,
    to: String,
    rule: String,
    /// The rule that would let it through, where there is one to advise.
    #[serde(skip_serializing_if = "Option::is_none")]
    opened_by: Option<String>,
}

impl From<&NetworkRefusal> for RefusalReport {
    fn from(NetworkRefusal { at_ms, protocol, to, rule, opened_by }: &NetworkRefusal) -> Self {
        Self {
            at: Moment(at_ms / 1000),
            protocol: protocol.clone(),
            to: to.clone(),
            rule: rule.clone(),
            opened_by: opened_by.clone(),
        }
    }
}

impl From<&LiveNetwork> for TrafficReport {
    fn from(live: &LiveNetwork) -> Self {
        Self {
            conversations: live.begun,
            open: live.open,
            failed: live.failed,
            refused: live.refused,
            questions: live.questions,
            out_bytes: live.sent_bytes,
            in_bytes: live.received_bytes,
            dropped_frames: live.dropped_frames,
            failure: live.failure.clone(),
            refusals: live.refusals.iter().map(RefusalReport::from).collect(),
        }
    }
}

impl TrafficReport {
    /// In a line, for a person.
    pub(crate) fn line(&self) -> String {
        let (out, into) = (units::size(self.out_bytes), units::size(self.in_bytes));
        let conversations = units::count(self.conversations, "conversation", "conversations");
        let names = units::count(self.questions, "name", "names");
        let mut words = format!("{conversations}, {} open; {out} out, {into} in; {names} asked for", self.open);
        if let Some(failure) = &self.failure {
            words.push_str(&format!("; {}", failed(failure)));
        }
        if self.failed > 0 {
            words.push_str(&format!("; {} failed", self.failed));
        }
        if self.refused > 0 {
            words.push_str(&format!("; {} refused", self.refused));
        }
        if let Some(last) = self.refusals.last() {
            words.push_str(&format!(", the last: {}", last.words()));
        }
        words
    }
}

impl RefusalReport {
    fn words(&self) -> String {
        one_line(&format!("{} {} ({})", self.protocol, self.to, self.rule))
    }
}

/// Whom the next step is told.
pub(crate) enum Advice<'a> {
    /// A person, who can pass a flag.
    Flag,
    /// A person, who can change the network of this workspace.
    Command(&'a str),
    /// A model, which can change the network of a workspace within what its user allowed.
    Tool,
    /// A model, which can only ask its user to change that of this workspace.
    User(&'a str),
}

impl Advice<'_> {
    /// What opens what was refused, given the rule that would: `allow-host HOST` or `allow-domain DOMAIN`.
    fn words(&self, rule: &str) -> String {
        match (self, rule.split_once(' ')) {
            (Self::Tool, Some(("allow-host", host))) => {
                format!(
                    "workspace_update with allow_hosts [\"{host}\"] opens it, if the user allowed this server that host"
                )
            }
            (Self::Tool, Some((_, domain))) => format!("workspace_update with allow_domains [\"{domain}\"] opens it"),
            (Self::Command(workspace), _) => format!("pyro workspace update {workspace} --{rule} opens it"),
            (Self::User(workspace), _) => format!("only the user opens it: pyro workspace update {workspace} --{rule}"),
            (Self::Flag | Self::Tool, _) => format!("--{rule} opens it"),
        }
    }
}

/// Lines that say what a network refused, by which rule, and what to do about it.
pub(crate) fn refused(refusals: &[NetworkRefusal], advice: &Advice<'_>) -> Vec<String> {
    let line = |refusal: &NetworkRefusal| {
        let report = RefusalReport::from(refusal);
        let next = report.opened_by.as_deref().map(|rule| format!("; {}", one_line(&advice.words(rule))));
        format!("the network refused {}{}", report.words(), next.unwrap_or_default())
    };
    let mut lines: Vec<String> = refusals.iter().take(REFUSALS_TOLD_MAX).map(line).collect();
    if let Some(more) = refusals.len().checked_sub(REFUSALS_TOLD_MAX).filter(|more| *more > 0) {
        lines.push(format!("the network refused {more} more"));
    }
    lines
}

/// That a network is closed because of a defect.
pub(crate) fn failed(reason: &str) -> String {
    format!("the network is closed by a defect of pyro ({}); a reset gives the workspace a new one", one_line(reason))
}

#[cfg(test)]
mod tests {
    use pyro_engine::store::workspace_record::{NetworkPolicy, NetworkRecord};
    use pyro_engine::supervisor::protocol::{LiveNetwork, NetworkRefusal};

    use super::{Advice, NetworkReport, TrafficReport, refused};

    #[test]
    fn what_may_be_reached_is_one_line() {
        let record = |policy, hosts: &[&str], domains: &[&str]| NetworkRecord {
            policy,
            allow_hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            allow_domains: domains.iter().map(|domain| (*domain).to_owned()).collect(),
            proxy: None,
        };
        let line = |record| NetworkReport::from(record).line();
        assert_eq!(line(record(NetworkPolicy::Off, &[], &[])), "off");
        let narrowed = record(NetworkPolicy::Egress, &["10.0.0.1:80"], &["a.example", "*.b.example"]);
        assert_eq!(line(narrowed), "egress, only a.example, *.b.example, also 10.0.0.1:80");
    }

    #[test]
    fn refusals_are_told_with_their_rules_and_not_all_of_them() {
        let refusal = |number: u64| NetworkRefusal {
            at_ms: number,
            protocol: "tcp".to_owned(),
            to: format!("10.0.0.{number}:80"),
            rule: "private address".to_owned(),
            opened_by: Some(format!("allow-host 10.0.0.{number}:80")),
        };
        let refusals: Vec<NetworkRefusal> = (1..=5).map(refusal).collect();
        let lines = refused(&refusals, &Advice::Flag);
        let told = "the network refused tcp 10.0.0.1:80 (private address); --allow-host 10.0.0.1:80 opens it";
        assert_eq!((lines.len(), lines[0].as_str()), (4, told));
        assert_eq!(lines[3], "the network refused 2 more");
        let told = refused(&refusals[..1], &Advice::User("0123456789ab"));
        assert!(told[0].ends_with("pyro workspace update 0123456789ab --allow-host 10.0.0.1:80"), "{told:?}");
        assert!(Advice::Tool.words("allow-host 10.0.0.1").contains("allow_hosts [\"10.0.0.1\"]"));
        assert!(Advice::Tool.words("allow-domain a.example").contains("allow_domains [\"a.example\"]"));
        let mut nothing_to_do = refusals[0].clone();
        nothing_to_do.opened_by = None;
        assert!(refused(&[nothing_to_do], &Advice::Flag)[0].ends_with("(private address)"));
        let live = LiveNetwork { begun: 2, open: 1, refused: 5, refusals, ..LiveNetwork::default() };
        let line = TrafficReport::from(&live).line();
        assert!(line.ends_with("; 5 refused, the last: tcp 10.0.0.5:80 (private address)"), "{line}");
    }
}
