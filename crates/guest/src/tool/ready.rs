//! Waiting for a file, a port or a web page of the guest. Names are not resolved: a guest may have no resolver, and what is
//! waited for is the guest itself.

use std::io::{BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use pyro_wire::ready::{AwaitReady, Probe, Readied};
use pyro_wire::{Fault, FaultKind};
use rustix::fs::{Mode, OFlags};

use super::{Answer, Ground, shown};

/// How long one look may take: something that listens answers, or it is not ready.
const LOOK_LIMIT: Duration = Duration::from_secs(5);

/// Longest first line of an answer that is read.
const STATUS_BYTES_MAX: u64 = 1024;

const HTTP_PORT: u16 = 80;

/// What is looked at, understood.
#[derive(Debug)]
enum Target<'a> {
    File(&'a pyro_wire::exec::Word),
    Tcp(Vec<SocketAddr>),
    Http { addresses: Vec<SocketAddr>, authority: &'a str, path: &'a str },
}

/// Looks until it is ready, or time is up.
///
/// # Errors
/// [`FaultKind::NotReady`]; or the probe makes no sense.
pub(crate) fn await_ready(request: &AwaitReady, ground: &Ground, answer: &mut Answer<impl Write>) -> Result<(), Fault> {
    let target = Target::read(&request.probe)?;
    let deadline = Instant::now() + Duration::from_millis(request.timeout_ms);
    let mut looks = 0;
    loop {
        looks += 1;
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let seen = match target.look(ground, left.min(LOOK_LIMIT)) {
            Ok(()) => return answer.line(&Readied { looks }),
            Err(seen) => seen,
        };
        let pause = Duration::from_millis(request.interval_ms);
        if deadline.saturating_duration_since(Instant::now()) <= pause {
            return Err(Fault::new(FaultKind::NotReady, seen));
        }
        std::thread::sleep(pause);
    }
}

impl<'a> Target<'a> {
    fn read(probe: &'a Probe) -> Result<Self, Fault> {
        match probe {
            Probe::File(path) => Ok(Self::File(path)),
            Probe::Tcp { host, port } => Ok(Self::Tcp(addresses(host, *port)?)),
            Probe::Http(url) => {
                let invalid =
                    |why: &str| Fault::new(FaultKind::InvalidArgument, format!("{}: {why}", shown(url.as_bytes())));
                let rest = url.strip_prefix("http://").ok_or_else(|| invalid("only http:// URLs are looked at"))?;
                if url.bytes().any(|byte| byte.is_ascii_control() || byte == b' ') {
                    return Err(invalid("it holds a blank or a control character"));
                }
                let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
                let (host, port) = split_authority(authority).ok_or_else(|| invalid("its port is no number"))?;
                Ok(Self::Http { addresses: addresses(host, port)?, authority, path })
            }
        }
    }

    /// Whether it is ready; if not, what was seen instead.
    fn look(&self, ground: &Ground, limit: Duration) -> Result<(), String> {
        match self {
            Self::File(path) => ground.open(path, OFlags::PATH, Mode::empty()).map(drop).map_err(|fault| fault.message),
            Self::Tcp(addresses) => connect(addresses, limit).map(drop),
            Self::Http { addresses, authority, path } => {
                let stream = connect(addresses, limit)?;
                let status = ask(stream, authority, path, limit)
                    .map_err(|error| format!("{authority} answers no HTTP: {error}"))?;
                if (200..400).contains(&status) {
                    Ok(())
                } else {
                    Err(format!("http://{authority}{path} answers {status}"))
                }
            }
        }
    }
}

/// The host and the port of an authority.
fn split_authority(authority: &str) -> Option<(&str, u16)> {
    // The colons of an IPv6 address are within brackets.
    match authority.rsplit_once(':').filter(|(_, port)| !port.contains(']')) {
        Some((host, port)) => Some((host, port.parse().ok()?)),
        None => Some((authority, HTTP_PORT)),
    }
}

fn addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>, Fault> {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let found: Vec<IpAddr> = match host {
        "localhost" => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        host => vec![host.parse().map_err(|_| {
            let host = shown(host.as_bytes());
            Fault::new(FaultKind::InvalidArgument, format!("the host {host:?} is neither an IP address nor localhost"))
        })?],
    };
    Ok(found.into_iter().map(|address| (address, port).into()).collect())
}

fn connect(addresses: &[SocketAddr], limit: Duration) -> Result<TcpStream, String> {
    let mut seen = String::new();
    for address in addresses {
        match TcpStream::connect_timeout(address, limit) {
            // The kernel lets a socket connect to itself when nobody listens at a port it may choose.
            Ok(stream) if stream.local_addr().ok() != stream.peer_addr().ok() => return Ok(stream),
            Ok(_) => seen = format!("nothing listens at {address}"),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                seen = format!("nothing listens at {address}");
            }
            Err(error) => seen = format!("cannot connect to {address}: {error}"),
        }
    }
    Err(seen)
}

/// The status with which a GET is answered.
fn ask(mut stream: TcpStream, authority: &str, path: &str, limit: Duration) -> std::io::Result<u16> {
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    let slash = if path.starts_with('/') { "" } else { "/" };
    let head = format!(
        "GET {slash}{path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: pyro\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    let deadline = Instant::now() + limit;
    let mut line = Vec::new();
    let mut bytes = BufReader::new(stream.take(STATUS_BYTES_MAX)).bytes();
    // One that sends a byte now and then must not hold the look up.
    while Instant::now() < deadline
        && let Some(byte) = bytes.next().transpose()?.filter(|byte| *byte != b'\n')
    {
        line.push(byte);
    }
    status(&line).ok_or_else(|| std::io::Error::other("its first line is no status"))
}

/// The status of a line such as `HTTP/1.1 200 OK`.
fn status(line: &[u8]) -> Option<u16> {
    let mut words = line.split(|byte| *byte == b' ');
    words.next().filter(|version| version.starts_with(b"HTTP/"))?;
    let code = words.next()?.trim_ascii_end();
    (code.len() == 3).then(|| str::from_utf8(code).ok()?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use pyro_wire::ready::{AwaitReady, Probe};
    use pyro_wire::{Fault, FaultKind};

    use super::{Answer, Ground, await_ready, split_authority, status};

    fn look(probe: Probe) -> Result<String, Fault> {
        let mut out = Vec::new();
        let mut answer = Answer::new(&mut out);
        let request = AwaitReady { probe, interval_ms: 1, timeout_ms: 20 };
        await_ready(&request, &Ground::without_disk(), &mut answer)?;
        answer.finish()?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[track_caller]
    fn check_not_ready(probe: Probe, kind: FaultKind, seen: &str) {
        let fault = look(probe).unwrap_err();
        assert_eq!((fault.kind, fault.message.as_str()), (kind, seen));
    }

    /// A port at which one asker after the other is told `answer`.
    fn answering(answer: &'static str) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let mut client = client.unwrap();
                drop(client.read(&mut [0; 512]));
                drop(client.write_all(answer.as_bytes()));
            }
        });
        port
    }

    #[test]
    fn what_is_there_is_ready() {
        let port = answering("HTTP/1.0 204 No Content\r\n\r\n");
        for probe in [
            Probe::File("/proc/self".into()),
            Probe::Tcp { host: "localhost".to_owned(), port },
            Probe::Http(format!("http://127.0.0.1:{port}/x?y")),
            Probe::Http(format!("http://localhost:{port}")),
        ] {
            assert_eq!(look(probe).unwrap(), "{\"looks\":1}\n");
        }
    }

    #[test]
    fn what_is_not_there_is_told_as_it_was_seen() {
        let not_ready = FaultKind::NotReady;
        check_not_ready(Probe::File("/no/such".into()), not_ready, "cannot open /no/such: it is not there");
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let nobody = format!("nothing listens at 127.0.0.1:{port}");
        check_not_ready(Probe::Tcp { host: "127.0.0.1".to_owned(), port }, not_ready, &nobody);
        let port = answering("HTTP/1.1 503 Service Unavailable\r\n\r\n");
        let broken = format!("http://127.0.0.1:{port}/ answers 503");
        check_not_ready(Probe::Http(format!("http://127.0.0.1:{port}/")), not_ready, &broken);
        let port = answering("SSH-2.0-x\r\n");
        let other = format!("127.0.0.1:{port} answers no HTTP: its first line is no status");
        check_not_ready(Probe::Http(format!("http://127.0.0.1:{port}/")), not_ready, &other);
    }

    #[test]
    fn what_makes_no_sense_is_not_waited_for() {
        let invalid = FaultKind::InvalidArgument;
        let url = |url: &str| Probe::Http(url.to_owned());
        check_not_ready(url("https://localhost/"), invalid, "https://localhost/: only http:// URLs are looked at");
        check_not_ready(url("http://localhost:x/"), invalid, "http://localhost:x/: its port is no number");
        check_not_ready(url("http://a\r\nb/"), invalid, "http://a\r\nb/: it holds a blank or a control character");
        let named = Probe::Tcp { host: "example.org".to_owned(), port: 80 };
        check_not_ready(named, invalid, "the host \"example.org\" is neither an IP address nor localhost");
    }

    #[test]
    fn authorities_and_statuses_are_read() {
        assert_eq!(split_authority("a"), Some(("a", 80)));
        assert_eq!(split_authority("a:8000"), Some(("a", 8000)));
        assert_eq!(split_authority("[::1]"), Some(("[::1]", 80)));
        assert_eq!(split_authority("[::1]:81"), Some(("[::1]", 81)));
        assert_eq!(split_authority("a:99999"), None);
        assert_eq!((status(b"HTTP/1.1 302 Found\r"), status(b"HTTP/1.0 200\r")), (Some(302), Some(200)));
        assert_eq!((status(b"HTTP/1.1"), status(b"x 200"), status(b"HTTP/1.1 2000 x")), (None, None, None));
    }
}
