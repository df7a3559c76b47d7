//! Networks of a test's own: two namespaces of the kernel's, joined by one cable, and nothing else is reachable in them.
//!
//! In the near one is pyro, with a `/etc/resolv.conf` of its own; in the far one are a server of names and whatever a test
//! serves. Their addresses are those for documentation, and one private network; whatever goes wrong, no packet leaves the
//! two. Making namespaces takes root.

use std::collections::HashMap;
use std::fs::File;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::host_tools::sh;
use crate::surroundings;

/// Where names are answered.
const NAME_SERVER: &str = "203.0.113.53";

/// Addresses of the far side, besides that of its server of names.
const FAR: [&str; 4] = ["203.0.113.10", "203.0.113.11", "203.0.113.66", "10.66.0.10"];

/// The address that pyro's side has.
pub const NEAR: &str = "203.0.113.1";

/// Two namespaces. Dropping it removes them.
#[derive(Debug)]
pub struct Networks {
    near: String,
    far: String,
    names: Names,
}

/// The names that are known, and the questions that came.
#[derive(Debug, Clone, Default)]
struct Names {
    known: Arc<HashMap<String, Vec<IpAddr>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Networks {
    /// Makes them, with these names. None where that cannot be done, which is said; continuous integration can do it.
    ///
    /// # Panics
    /// The host has no `ip`, or is that of continuous integration and lacks what is needed.
    #[expect(clippy::print_stdout, reason = "a test that is skipped says why")]
    #[must_use]
    pub fn new(names: &[(&str, &str)]) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            assert!(surroundings::variable("CI").is_none(), "continuous integration runs as root");
            println!("skipped: only root can make namespaces of networks");
            return None;
        }
        let mut known: HashMap<String, Vec<IpAddr>> = HashMap::new();
        for (name, address) in names {
            known.entry((*name).to_owned()).or_default().push(address.parse().expect("a test names an address"));
        }
        let id = std::process::id();
        let names = Names { known: Arc::new(known), asked: Arc::default() };
        let networks = Self { near: format!("pyro-{id}-near"), far: format!("pyro-{id}-far"), names };
        drop(sh(Path::new("/"), &networks.script()));
        let resolver = networks.resolver_dir();
        std::fs::create_dir_all(&resolver).expect("root may write to /etc");
        std::fs::write(resolver.join("resolv.conf"), format!("nameserver {NAME_SERVER}\n")).expect("our own directory");
        let socket = networks.beyond(|| UdpSocket::bind((NAME_SERVER, 53)).expect("it is the far side's address"));
        let answering = networks.names.clone();
        std::thread::spawn(move || answering.answer(&socket));
        Some(networks)
    }

    /// The words by which a program is started on the near side.
    #[must_use]
    pub fn starter(&self) -> [&str; 4] {
        ["ip", "netns", "exec", &self.near]
    }

    /// Does something on the far side, such as to listen; sockets and threads made there stay there.
    ///
    /// # Panics
    /// What is done does.
    #[track_caller]
    pub fn beyond<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let namespace = File::open(format!("/run/netns/{}", self.far)).expect("it was made");
        let there = std::thread::spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may enter it");
            work()
        });
        there.join().expect("it can be done there")
    }

    /// The names that were asked for, in their order.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.names.asked.lock().expect("no holder panics").clone()
    }

    fn script(&self) -> String {
        let Self { near, far, .. } = self;
        let mut script = format!(
            "ip netns add {near}\nip netns add {far}\n\
             ip -n {near} link add near type veth peer name far netns {far}\n\
             ip -n {near} link set lo up\nip -n {far} link set lo up\n\
             ip -n {near} addr add {NEAR}/24 dev near\nip -n {near} addr add 10.66.0.1/24 dev near\n\
             ip -n {near} addr add 2001:db8::1/64 dev near nodad\nip -n {far} addr add 2001:db8::a/64 dev far nodad\n\
             ip -n {near} link set near up\nip -n {far} link set far up\n\
             ip -n {near} route add default via 2001:db8::a\n"
        );
        for address in FAR.into_iter().chain([NAME_SERVER]) {
            script.push_str(&format!("ip -n {far} addr add {address}/24 dev far\n"));
        }
        script
    }

    fn resolver_dir(&self) -> PathBuf {
        Path::new("/etc/netns").join(&self.near)
    }
}

impl Drop for Networks {
    fn drop(&mut self) {
        let Self { near, far, .. } = self;
        // What could not be made need not be removed.
        drop(sh(Path::new("/"), &format!("ip netns del {near} || true; ip netns del {far} || true")));
        drop(std::fs::remove_dir_all(self.resolver_dir()));
    }
}

impl Names {
    /// Answers questions for addresses as long as there is a socket.
    fn answer(&self, socket: &UdpSocket) {
        let mut question = [0; 1500];
        while let Ok((count, from)) = socket.recv_from(&mut question) {
            let answer = self.answer_to(&question[..count]);
            send(socket, answer, from);
        }
    }

    fn answer_to(&self, question: &[u8]) -> Option<Vec<u8>> {
        let mut at = 12;
        let mut labels = Vec::new();
        while let Some(&length @ 1..=63) = question.get(at) {
            let end = at + 1 + usize::from(length);
            labels.push(String::from_utf8_lossy(question.get(at + 1..end)?).to_lowercase());
            at = end;
        }
        let name = labels.join(".");
        let kind = u16::from_be_bytes([*question.get(at + 1)?, *question.get(at + 2)?]);
        self.asked.lock().expect("no holder panics").push(name.clone());
        let known = self.known.get(&name);
        let fitting: Vec<Vec<u8>> = known
            .into_iter()
            .flatten()
            .filter_map(|address| match (address, kind) {
                (IpAddr::V4(address), 1) => Some(address.octets().to_vec()),
                (IpAddr::V6(address), 28) => Some(address.octets().to_vec()),
                _ => None,
            })
            .collect();
        let code = if known.is_some() { 0 } else { 3 };
        let count = u8::try_from(fitting.len()).ok()?;
        let mut answer = question[..2].to_vec();
        answer.extend([0x81, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0]);
        answer.extend(question.get(12..at + 5)?);
        for address in fitting {
            answer.extend([0xc0, 12]);
            answer.extend(kind.to_be_bytes());
            answer.extend([0, 1, 0, 0, 0, 60, 0, u8::try_from(address.len()).ok()?]);
            answer.extend(address);
        }
        Some(answer)
    }
}

fn send(socket: &UdpSocket, answer: Option<Vec<u8>>, to: SocketAddr) {
    if let Some(answer) = answer {
        // Whoever asked may be gone.
        drop(socket.send_to(&answer, to));
    }
}
