//! The host's answers to the guest's questions: addresses come from the host's own resolver, with all that it knows (its hosts
//! file, its name services); other records from the name server that the host is set up with.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use crate::dns::{Failure, Question};
use crate::limits::{DNS_ADDRESSES_MAX, DNS_ANSWER_BYTES_MAX, DNS_CACHE_LIMIT, DNS_CACHE_NAMES_MAX, DNS_LIMIT};

const RESOLVER_FILE: &str = "/etc/resolv.conf";
const ROUTES_V6_FILE: &str = "/proc/net/ipv6_route";

/// Longest line of words that is looked at in the host's own files.
const FILE_BYTES_MAX: usize = 1 << 20;

/// What the host's resolver said lately.
#[derive(Debug, Default)]
pub(crate) struct Resolver {
    cache: Mutex<HashMap<String, (Instant, Vec<IpAddr>)>>,
}

impl Resolver {
    /// The addresses of a name, of both kinds. None if it has none.
    ///
    /// # Errors
    /// There is no such name, or the host's resolver failed.
    pub(crate) async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, Failure> {
        if let Some(known) = self.known(name) {
            return Ok(known);
        }
        let found = match tokio::time::timeout(DNS_LIMIT, tokio::net::lookup_host((name, 0))).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => return failure(&error),
            Err(_) => return Err(Failure::ServerFailed),
        };
        let mut addresses: Vec<IpAddr> = Vec::new();
        let has_v6 = host_has_v6();
        for address in found.map(|address| address.ip()) {
            // Each kind has its share, also where there are very many of the other.
            let of_kind = addresses.iter().filter(|known| known.is_ipv6() == address.is_ipv6()).count();
            let wanted = of_kind < DNS_ADDRESSES_MAX && (has_v6 || address.is_ipv4());
            if wanted && !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.retain(|_, (at, _)| at.elapsed() < DNS_CACHE_LIMIT);
        if cache.len() < DNS_CACHE_NAMES_MAX {
            cache.insert(name.to_owned(), (Instant::now(), addresses.clone()));
        }
        Ok(addresses)
    }

    fn known(&self, name: &str) -> Option<Vec<IpAddr>> {
        let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.get(name).filter(|(at, _)| at.elapsed() < DNS_CACHE_LIMIT).map(|(_, addresses)| addresses.clone())
    }
}

/// What the system's resolver means by its words; it gives no number.
fn failure(error: &io::Error) -> Result<Vec<IpAddr>, Failure> {
    let words = error.to_string();
    if words.contains("No address associated") {
        Ok(Vec::new())
    } else if words.contains("Name or service not known") || words.contains("Name does not resolve") {
        Err(Failure::NoName)
    } else {
        Err(Failure::ServerFailed)
    }
}

/// Whether the host has a way to the internet in IPv6: names then have such addresses for the guest too.
fn host_has_v6() -> bool {
    let routes = std::fs::read_to_string(ROUTES_V6_FILE).unwrap_or_default();
    let nowhere = "00000000000000000000000000000000";
    routes.lines().any(|line| {
        let mut words = line.split_ascii_whitespace();
        let is_default = words.next() == Some(nowhere) && words.next() == Some("00");
        is_default && line.split_ascii_whitespace().last() != Some("lo")
    })
}

/// Asks the host's name server. `stream` says that the guest asks over a stream, because the answer is long.
///
/// # Errors
/// The host has none, or it does not answer.
pub(crate) async fn forward(question: &Question, stream: bool) -> Result<Vec<u8>, Failure> {
    let server = name_server().ok_or(Failure::ServerFailed)?;
    let asked =
        async { if stream { ask_stream(server, &question.message()).await } else { ask(server, question).await } };
    match tokio::time::timeout(DNS_LIMIT, asked).await {
        Ok(Ok(answer)) if question.is_answered_by(&answer) => Ok(answer),
        Ok(Ok(_) | Err(_)) | Err(_) => Err(Failure::ServerFailed),
    }
}

async fn ask(server: SocketAddr, question: &Question) -> io::Result<Vec<u8>> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(&question.message()).await?;
    let mut answer = vec![0; DNS_ANSWER_BYTES_MAX];
    loop {
        let count = socket.recv(&mut answer).await?;
        // Somebody else may try to answer.
        if question.is_answered_by(&answer[..count]) {
            answer.truncate(count);
            return Ok(answer);
        }
    }
}

async fn ask_stream(server: SocketAddr, message: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), message].concat()).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

/// The first name server of the host, read each time: it changes with the network the host is in.
fn name_server() -> Option<SocketAddr> {
    let text = std::fs::read_to_string(RESOLVER_FILE).ok().filter(|text| text.len() <= FILE_BYTES_MAX)?;
    first_server(&text)
}

fn first_server(text: &str) -> Option<SocketAddr> {
    let server = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let word = (words.next() == Some("nameserver")).then(|| words.next()).flatten()?;
        Some(SocketAddr::new(word.parse().ok()?, 53))
    };
    text.lines().find_map(server)
}

#[cfg(test)]
mod tests {
    use super::{Failure, Resolver, failure, first_server};

    #[test]
    fn the_first_name_server_that_is_an_address_counts() {
        let text =
            "# a comment\nsearch example.org\nnameserver fe80::1%eth0\n nameserver 127.0.0.53\nnameserver 9.9.9.9\n";
        assert_eq!(first_server(text), Some("127.0.0.53:53".parse().unwrap()));
        assert_eq!(first_server("nameserver\n"), None);
    }

    #[test]
    fn the_words_of_the_resolver_are_understood() {
        let check = |words: &str, expected| {
            assert_eq!(
                failure(&std::io::Error::other(format!("failed to lookup address information: {words}"))),
                expected
            );
        };
        check("Name or service not known", Err(Failure::NoName));
        check("Temporary failure in name resolution", Err(Failure::ServerFailed));
        check("No address associated with hostname", Ok(Vec::new()));
    }

    #[tokio::test]
    async fn what_the_host_knows_itself_is_known() {
        let resolver = Resolver::default();
        let addresses = resolver.addresses("localhost").await.unwrap();
        assert!(addresses.iter().any(std::net::IpAddr::is_ipv4));
        assert_eq!(resolver.known("localhost"), Some(addresses));
    }
}
