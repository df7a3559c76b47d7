//! A proxy of the host's, as a guest is offered it: without credentials, and by the name that it has in the guest.
//!
//! What is offered is opened by one rule a proxy. What the proxy then reaches is the proxy's to decide, and no rule of ours
//! narrows it.

use pyro_network::{HOST_NAME, HostRule, RuleError};

use super::network::NetworkError;
use crate::settings::ProxySettings;
use crate::store::workspace_record::ProxyRecord;

/// What in a guest is always reached without a proxy: itself.
const OWN_NAMES: &str = "localhost,127.0.0.1,::1";

/// Longest list of exceptions that is passed on.
const EXCEPTIONS_BYTES_MAX: usize = 4096;

/// The proxies of the host as a guest is to use them, and the rules that open them.
///
/// # Errors
/// The host has none, or one that cannot be understood.
pub(super) fn offered(settings: &ProxySettings) -> Result<(ProxyRecord, Vec<String>), NetworkError> {
    let read = |url: &Option<String>| url.as_deref().map(ProxyUrl::read).transpose();
    let (http, https) = (read(&settings.http)?, read(&settings.https)?);
    let proxies: Vec<&ProxyUrl> = http.iter().chain(&https).collect();
    let mut rules: Vec<String> = proxies.iter().map(|proxy| proxy.rule.to_string()).collect();
    if rules.is_empty() {
        return Err(NetworkError::NoProxy);
    }
    rules.dedup();
    let passed_on = |text: &&String| text.len() <= EXCEPTIONS_BYTES_MAX && !text.chars().any(char::is_control);
    let exceptions = settings.no_proxy.as_ref().filter(passed_on).map(|own| format!("{own},")).unwrap_or_default();
    let record = ProxyRecord {
        without_credentials: proxies.iter().any(|proxy| proxy.had_credentials),
        http: http.map(|proxy| proxy.url),
        https: https.map(|proxy| proxy.url),
        no_proxy: format!("{exceptions}{OWN_NAMES}"),
    };
    Ok((record, rules))
}

/// A proxy's URL taken apart.
#[derive(Debug, PartialEq, Eq)]
struct ProxyUrl {
    /// As the guest is to use it.
    url: String,
    rule: HostRule,
    had_credentials: bool,
}

impl ProxyUrl {
    /// Reads `[SCHEME://][USER[:PASSWORD]@]HOST[:PORT][/…]`.
    fn read(text: &str) -> Result<Self, NetworkError> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (credentials, place) = match authority.rsplit_once('@') {
            Some((credentials, place)) => (Some(credentials), place),
            None => (None, authority),
        };
        // The words of a failure hold nothing of what may be a password.
        let bad = || NetworkError::BadProxy { proxy: place.chars().filter(|one| !one.is_control()).take(80).collect() };
        let scheme = scheme.to_ascii_lowercase();
        let port_default = match scheme.as_str() {
            "http" => 80,
            "https" => 443,
            "socks4" | "socks4a" | "socks5" | "socks5h" => 1080,
            _ => return Err(bad()),
        };
        let (host, port) = split_port(place, port_default).ok_or_else(bad)?;
        let (host, rule) = match format!("{host}:{port}").parse::<HostRule>() {
            Ok(rule) => (host, rule),
            // The loopback is the guest's own there.
            Err(RuleError::Loopback { .. }) => (HOST_NAME, HostRule::host_loopback(port)),
            Err(_) => return Err(bad()),
        };
        let url = format!("{scheme}://{host}:{port}");
        Ok(Self { url, rule, had_credentials: credentials.is_some_and(|words| !words.is_empty()) })
    }
}

/// The host, in brackets where it is an IPv6 address, and the port.
fn split_port(place: &str, default: u16) -> Option<(&str, u16)> {
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok().filter(|port| *port > 0)?),
        _ => (place, default),
    };
    let is_bare_v6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
    (!host.is_empty() && !is_bare_v6).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::{ProxyUrl, offered};
    use crate::settings::ProxySettings;
    use crate::workspace::network::NetworkError;

    #[track_caller]
    fn check(text: &str, url: &str, rule: &str, had_credentials: bool) {
        let read = ProxyUrl::read(text).unwrap();
        assert_eq!((read.url.as_str(), read.rule.to_string().as_str()), (url, rule));
        assert_eq!(read.had_credentials, had_credentials);
    }

    #[test]
    fn a_proxy_is_offered_by_the_name_it_has_in_the_guest() {
        check("http://proxy.example:3128/", "http://proxy.example:3128", "proxy.example:3128", false);
        check("proxy.example:3128", "http://proxy.example:3128", "proxy.example:3128", false);
        check("HTTP://proxy.example", "http://proxy.example:80", "proxy.example:80", false);
        check("socks5h://10.0.0.1", "socks5h://10.0.0.1:1080", "10.0.0.1:1080", false);
        check("https://[fd00::1]:8443", "https://[fd00::1]:8443", "[fd00::1]:8443", false);
        for loopback in ["localhost", "127.0.0.1", "127.1.2.3", "[::1]", "a.localhost"] {
            let text = format!("http://{loopback}:8080");
            check(&text, "http://host.pyro.internal:8080", "host.pyro.internal:8080", false);
        }
    }

    #[test]
    fn credentials_stay_on_the_host() {
        for text in
            ["http://me:s3cr3t@proxy.example:1", "me:s3cr3t@proxy.example:1", "http://a:b@s3cr3t@proxy.example:1"]
        {
            let read = ProxyUrl::read(text).unwrap();
            assert!(read.had_credentials && !format!("{read:?}").contains("s3cr3t"), "{read:?}");
        }
        check("http://@proxy.example:1", "http://proxy.example:1", "proxy.example:1", false);
        for bad in [
            "http://me:s3cr3t@pro xy",
            "gopher://me:s3cr3t@x:1",
            "http://s3cr3t@x:99999",
            "http://s3cr3t@",
            "http://s3cr3t@fd00::1",
        ] {
            let error = ProxyUrl::read(bad).unwrap_err();
            assert!(matches!(error, NetworkError::BadProxy { .. }) && !format!("{error:?}{error}").contains("s3cr3t"));
        }
    }

    #[test]
    fn what_is_offered_is_opened_once() {
        let proxy = |text: &str| Some(text.to_owned());
        let both = ProxySettings {
            http: proxy("http://me:pw@localhost:1"),
            https: proxy("http://localhost:1"),
            no_proxy: proxy(".corp.example"),
        };
        let (record, rules) = offered(&both).unwrap();
        assert_eq!(rules, ["host.pyro.internal:1"]);
        assert!(record.without_credentials);
        assert_eq!(record.no_proxy, ".corp.example,localhost,127.0.0.1,::1");
        let variables = record.variables();
        assert_eq!(variables["HTTPS_PROXY"], "http://host.pyro.internal:1");
        assert_eq!(variables.len(), 6);
        let (record, rules) = offered(&ProxySettings { https: proxy("p.example:2"), ..Default::default() }).unwrap();
        assert_eq!((record.variables().len(), rules.len(), record.without_credentials), (4, 1, false));
        assert_eq!(offered(&ProxySettings::default()).unwrap_err(), NetworkError::NoProxy);
    }
}
