//! Behaviour of the policy, by example and by property.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::{
    AllowRule, Destination, DomainRule, HostRule, NameVerdict, Policy, RefuseRule, RuleError, Target, Verdict,
};
use crate::address::{GATEWAY_V4, GATEWAY_V6, Place, place};
use crate::learned::Learned;
use crate::limits::LEARNED_LIMIT;

fn policy(hosts: &[&str], domains: &[&str]) -> Policy {
    Policy {
        hosts: hosts.iter().map(|rule| rule.parse().unwrap()).collect(),
        domains: domains.iter().map(|rule| rule.parse().unwrap()).collect(),
        closed: None,
    }
}

fn to(address: &str, port: u16) -> Destination {
    Destination { address: address.parse().unwrap(), port }
}

/// A policy, what was learned, and the time.
struct Case {
    policy: Policy,
    learned: Learned,
    now: Instant,
}

impl Case {
    fn new(hosts: &[&str], domains: &[&str], learned: &[(&str, &str)]) -> Self {
        let now = Instant::now();
        let mut memory = Learned::default();
        for (name, address) in learned {
            memory.learn(name, address.parse().unwrap(), now);
        }
        Self { policy: policy(hosts, domains), learned: memory, now }
    }

    fn judge(&self, address: &str, port: u16) -> Verdict {
        self.policy.judge(to(address, port), &self.learned, self.now, |address| address.to_string() == "5.5.5.5")
    }

    #[track_caller]
    fn allows(&self, address: &str, port: u16, rule: &str) {
        match self.judge(address, port) {
            Verdict::Allowed { rule: by, .. } => assert_eq!(by.to_string(), rule, "{address}:{port}"),
            Verdict::Refused(why) => panic!("{address}:{port} is refused: {why}"),
        }
    }

    #[track_caller]
    fn refuses(&self, address: &str, port: u16, rule: RefuseRule) {
        assert_eq!(self.judge(address, port), Verdict::Refused(rule), "{address}:{port}");
    }
}

#[test]
fn without_rules_what_is_public_is_reachable_and_nothing_else() {
    let case = Case::new(&[], &[], &[("rebound.example", "10.0.0.1"), ("rebound.example", "127.0.0.1")]);
    case.allows("1.1.1.1", 443, "egress");
    case.allows("2606:4700::1111", 443, "egress");
    case.refuses("10.0.0.1", 80, RefuseRule::Place(Place::Private));
    case.refuses("127.0.0.1", 80, RefuseRule::Place(Place::Loopback));
    case.refuses("::ffff:10.0.0.1", 80, RefuseRule::Place(Place::Private));
    case.refuses("169.254.169.254", 80, RefuseRule::Place(Place::Metadata));
    case.refuses("168.63.129.16", 80, RefuseRule::Place(Place::Metadata));
    case.refuses("5.5.5.5", 22, RefuseRule::OwnAddress);
    case.refuses("192.0.2.1", 8080, RefuseRule::HostPort);
    case.refuses("192.0.2.2", 8080, RefuseRule::Place(Place::Test));
}

#[test]
fn test_addresses_are_reachable_where_the_hosts_resolver_names_them() {
    let learned = [("mapped.example", "198.18.0.7"), ("doc.example", "2001:db8::1")];
    let case = Case::new(&[], &[], &learned);
    case.allows("198.18.0.7", 443, "egress");
    case.allows("2001:db8::1", 443, "egress");
    case.refuses("198.18.0.8", 443, RefuseRule::Place(Place::Test));
    let narrowed = Case::new(&[], &["mapped.example"], &learned);
    narrowed.allows("198.18.0.7", 443, "allow-domain mapped.example");
    narrowed.refuses("2001:db8::1", 443, RefuseRule::Domain);
}

#[test]
fn a_host_rule_opens_exactly_what_it_names() {
    let case = Case::new(
        &["10.0.0.7:5432", "192.168.1.9", "db.corp.example:3306", "5.5.5.5:22", "169.254.169.254:80"],
        &[],
        &[("db.corp.example", "10.9.9.9"), ("other.corp.example", "10.9.9.8")],
    );
    case.allows("10.0.0.7", 5432, "allow-host 10.0.0.7:5432");
    case.allows("::ffff:10.0.0.7", 5432, "allow-host 10.0.0.7:5432");
    case.refuses("10.0.0.7", 5433, RefuseRule::Place(Place::Private));
    case.allows("192.168.1.9", 1, "allow-host 192.168.1.9");
    case.allows("10.9.9.9", 3306, "allow-host db.corp.example:3306");
    case.refuses("10.9.9.9", 3307, RefuseRule::Place(Place::Private));
    case.refuses("10.9.9.8", 3306, RefuseRule::Place(Place::Private));
    case.allows("5.5.5.5", 22, "allow-host 5.5.5.5:22");
    case.refuses("5.5.5.5", 23, RefuseRule::OwnAddress);
    case.allows("169.254.169.254", 80, "allow-host 169.254.169.254:80");
}

#[test]
fn a_name_never_opens_the_host_or_its_link() {
    let addresses = ["127.0.0.1", "::1", "169.254.1.1", "169.254.169.254", "0.0.0.0", "5.5.5.5", "224.0.0.1"];
    let learned = addresses.map(|address| ("rebound.example", address));
    let case = Case::new(&["rebound.example"], &["rebound.example"], &learned);
    for address in addresses {
        assert!(matches!(case.judge(address, 80), Verdict::Refused(_)), "{address}");
    }
}

#[test]
fn the_loopback_of_the_host_is_reached_by_its_name_and_port_only() {
    let case = Case::new(&["host.pyro.internal:8080"], &[], &[]);
    for gateway in ["192.0.2.1", "fd70:7972:6f00::1"] {
        let rule = AllowRule::Host("host.pyro.internal:8080".to_owned());
        assert_eq!(case.judge(gateway, 8080), Verdict::Allowed { target: Target::HostLoopback, rule });
        case.refuses(gateway, 8081, RefuseRule::HostPort);
    }
    case.refuses("127.0.0.1", 8080, RefuseRule::Place(Place::Loopback));
    assert_eq!(case.policy.judge_name("host.pyro.internal"), NameVerdict::Gateway);
    let closed = policy(&[], &[]).judge_name("host.pyro.internal");
    assert_eq!(closed, NameVerdict::Refused(RefuseRule::HostPort));
}

#[test]
fn domains_narrow_what_is_public_to_what_was_resolved_by_us() {
    let learned = [
        ("example.org", "1.1.1.1"),
        ("files.example.net", "2.2.2.2"),
        ("example.net", "3.3.3.3"),
        ("db.corp.example", "4.4.4.4"),
    ];
    let mut case = Case::new(&["db.corp.example", "9.9.9.9:53"], &["example.org", "*.example.net"], &learned);
    case.allows("1.1.1.1", 443, "allow-domain example.org");
    case.allows("2.2.2.2", 443, "allow-domain *.example.net");
    case.refuses("3.3.3.3", 443, RefuseRule::Domain);
    case.refuses("8.8.8.8", 53, RefuseRule::Domain);
    case.allows("4.4.4.4", 1, "allow-host db.corp.example");
    case.allows("9.9.9.9", 53, "allow-host 9.9.9.9:53");
    // A stale answer stands for nothing.
    case.now += LEARNED_LIMIT + Duration::from_secs(1);
    case.refuses("1.1.1.1", 443, RefuseRule::Domain);
}

#[test]
fn names_are_judged_by_the_domains() {
    let policy = policy(&["db.corp.example:1"], &["example.org", "*.example.net"]);
    let services = ["_http._tcp.example.org", "_443._tcp.a.example.net", "_x.db.corp.example"];
    for name in ["example.org", "a.example.net", "a.b.example.net", "db.corp.example"].into_iter().chain(services) {
        assert_eq!(policy.judge_name(name), NameVerdict::Resolve { addresses_only: true }, "{name}");
    }
    for name in [
        "www.example.org",
        "example.net",
        "badexample.net",
        "example.org.evil.example",
        "_tcp",
        "_a.evil.example",
        "x._tcp.example.org",
        "",
    ] {
        assert_eq!(policy.judge_name(name), NameVerdict::Refused(RefuseRule::Domain), "{name}");
    }
}

#[test]
fn what_is_closed_reaches_nothing() {
    let mut case = Case::new(&["10.0.0.1", "host.pyro.internal:80"], &[], &[]);
    case.allows("10.0.0.1", 1, "allow-host 10.0.0.1");
    case.policy.closed = Some(RefuseRule::Off);
    for address in ["10.0.0.1", "1.1.1.1", "192.0.2.1"] {
        case.refuses(address, 80, RefuseRule::Off);
    }
    assert_eq!(case.policy.judge_name("example.org"), NameVerdict::Refused(RefuseRule::Off));
}

#[test]
fn a_changed_policy_upholds_what_its_rules_still_let_through() {
    let (egress, host) = (AllowRule::Egress, AllowRule::Host("10.0.0.1:80".to_owned()));
    let domain = AllowRule::Domain("*.example.org".to_owned());
    let check = |policy: Policy, expected: [bool; 3]| {
        assert_eq!([&egress, &host, &domain].map(|rule| policy.upholds(rule)), expected);
        assert!(policy.upholds(&AllowRule::Dns));
    };
    check(policy(&[], &[]), [true, false, true]);
    check(policy(&["10.0.0.1:80"], &["*.example.org"]), [false, true, true]);
    check(policy(&["10.0.0.1"], &["example.org"]), [false, false, false]);
    check(Policy { closed: Some(RefuseRule::Off), ..policy(&["10.0.0.1:80"], &[]) }, [false; 3]);
}

#[test]
fn rules_are_read_and_written_as_they_are() {
    for rule in ["10.0.0.1", "10.0.0.1:80", "[2606:4700::1]:443", "db.corp.example:5432", "host.pyro.internal:1"] {
        assert_eq!(rule.parse::<HostRule>().unwrap().to_string(), rule);
    }
    assert_eq!("2606:4700::1".parse::<HostRule>().unwrap().to_string(), "2606:4700::1");
    assert_eq!("DB.Example.".parse::<HostRule>().unwrap().to_string(), "db.example");
    assert_eq!("::ffff:10.0.0.1".parse::<HostRule>().unwrap().to_string(), "10.0.0.1");
    assert_eq!("*.Example.org".parse::<DomainRule>().unwrap().to_string(), "*.example.org");
}

#[test]
fn what_is_no_rule_says_why() {
    #[track_caller]
    fn check(rule: &str, expected: fn(String) -> RuleError) {
        assert_eq!(rule.parse::<HostRule>(), Err(expected(rule.to_owned())));
    }
    for rule in ["", "http://x.example", "a b", "10.0.0.0/8", "x..example", "10.0.0", "[::1", "[2606::1]x", "é.example"]
    {
        check(rule, |rule| RuleError::NotAHost { rule });
    }
    for rule in ["x.example:", "x.example:0", "x.example:65536", "10.0.0.1:http"] {
        check(rule, |rule| RuleError::NotAPort { rule });
    }
    for rule in ["127.0.0.1:80", "localhost:80", "[::1]:80", "::ffff:127.0.0.1", "x.localhost"] {
        check(rule, |rule| RuleError::Loopback { rule });
    }
    check("host.pyro.internal", |_| RuleError::HostWithoutPort);
    for rule in ["", "*", "*.", "a.*.b", "1.2.3.4", "https://a.example", "a.example:80"] {
        let error = RuleError::NotADomain { rule: rule.to_owned() };
        assert_eq!(rule.parse::<DomainRule>(), Err(error), "{rule}");
    }
}

fn any_address() -> impl Strategy<Value = IpAddr> {
    let v4 = any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from(bits)));
    let v6 = any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from(bits)));
    let wrapped = any::<u32>().prop_map(|bits| IpAddr::V6(Ipv4Addr::from(bits).to_ipv6_mapped()));
    let near = prop_oneof![Just("127.0.0.1"), Just("10.0.0.1"), Just("169.254.169.254"), Just("::1"), Just("fe80::1")]
        .prop_map(|text| text.parse().unwrap());
    prop_oneof![v4, v6, wrapped, near]
}

proptest! {
    /// Whatever was learned: what is not public, and not named by its own address, is never reachable.
    #[test]
    fn no_name_opens_what_is_closed(address in any_address(), port in 1_u16.., learned in any::<bool>(), narrowed in any::<bool>()) {
        let now = Instant::now();
        let mut memory = Learned::default();
        if learned {
            memory.learn("a.example", address, now);
        }
        let policy = policy(&["b.example"], if narrowed { &["a.example"] } else { &[] });
        match policy.judge(Destination { address, port }, &memory, now, |_| false) {
            Verdict::Allowed { target: Target::Address(target), .. } => {
                prop_assert!(place(address) == Place::Public || (learned && place(address) == Place::Test));
                prop_assert_eq!(target, address.to_canonical());
                prop_assert!(learned || !narrowed);
            }
            Verdict::Allowed { target: Target::HostLoopback, .. } => prop_assert!(false, "no rule opens the host"),
            Verdict::Refused(RefuseRule::Domain) => prop_assert!(narrowed && !learned),
            Verdict::Refused(RefuseRule::HostPort) => {
                prop_assert!(address == IpAddr::V4(GATEWAY_V4) || address == IpAddr::V6(GATEWAY_V6));
            }
            Verdict::Refused(rule) => prop_assert_eq!(rule, RefuseRule::Place(place(address))),
        }
    }

    /// The host's own addresses are closed however public they are.
    #[test]
    fn own_addresses_are_closed(address in any_address(), port in any::<u16>()) {
        let now = Instant::now();
        let mut memory = Learned::default();
        memory.learn("a.example", address, now);
        let verdict = policy(&["a.example"], &["a.example"]).judge(Destination { address, port }, &memory, now, |_| true);
        prop_assert!(matches!(verdict, Verdict::Refused(_)));
    }

    /// No text makes a rule that is not the text again.
    #[test]
    fn rules_say_what_they_mean(text in "[a-z0-9.:*\\[\\]-]{0,40}") {
        if let Ok(rule) = text.parse::<HostRule>() {
            prop_assert_eq!(rule.to_string().parse::<HostRule>(), Ok(rule));
        }
        if let Ok(rule) = text.parse::<DomainRule>() {
            prop_assert_eq!(rule.to_string().parse::<DomainRule>(), Ok(rule));
        }
    }
}
