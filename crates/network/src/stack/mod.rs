//! Frames in, frames out, and between them connections: the guest's side of everything.
//!
//! There is no I/O here: what is to be done on the host's side is asked for by [`Event`]s, and time is told. A connection
//! begins when the guest's first packet was judged; it is answered only when the host's side stands, so that the guest sees
//! what the host saw. What is refused is refused at once.
//!
//! Each connection has a socket set of its own in the TCP stack, so that the work for a packet does not grow with the number
//! of connections, and no connection can take another one's packets.

mod flow;
mod link;

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use smoltcp::iface::{Config, Interface};
use smoltcp::wire::{HardwareAddress, IpCidr};
use tokio::sync::Notify;

use self::flow::Flow;
pub(crate) use self::flow::{HostEnd, Step};
use self::link::{Link, Output};
use crate::address::{GATEWAY_V4, GATEWAY_V6, HOST_NAME, PREFIX_V4, PREFIX_V6};
use crate::learned::Learned;
use crate::limits::{CONNECTING_MAX, CONNECTIONS_MAX, CONVERSATIONS_MAX, SYN_BYTES_MAX};
use crate::packet::{self, Said, TcpHead, Unreachable};
use crate::policy::{AllowRule, Destination, NameVerdict, Policy, Protocol, RefuseRule, Target, Verdict};
use crate::record::{Conversation, Counters, NoteLimit, Outcome, Spoken};

/// The port at which the gateway answers names.
const DNS_PORT: u16 = 53;

/// The two ends of a connection or a conversation, as the guest knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Pair {
    pub(crate) guest: SocketAddr,
    pub(crate) remote: SocketAddr,
}

/// What is to be done on the host's side.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Connect, and say what came of it.
    Connect { pair: Pair, target: Target },
    /// Answer the questions that come over this connection; it stands already.
    Questions(Pair),
    /// Begin a conversation with this datagram.
    Converse { pair: Pair, target: Target, payload: Vec<u8> },
    /// Send a datagram of a conversation.
    Datagram { pair: Pair, payload: Vec<u8> },
    /// End a conversation.
    EndConversation(Pair),
    /// Answer a question.
    Question { pair: Pair, payload: Vec<u8> },
    /// Tell whoever observes.
    Tell(Conversation),
}

/// How a connection failed on the host's side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) refused: bool,
    pub(crate) reason: String,
}

/// Whether an address is one of the host's own.
pub(crate) type IsOwn = Box<dyn Fn(IpAddr) -> bool + Send>;

/// The guest's side.
pub(crate) struct Stack {
    interface: Interface,
    output: Output,
    policy: Policy,
    learned: Learned,
    is_own: IsOwn,
    connecting: HashMap<Pair, Connecting>,
    flows: HashMap<Pair, Flow>,
    conversations: HashMap<Pair, Talk>,
    events: VecDeque<Event>,
    counters: Counters,
    notes: NoteLimit,
    born: Instant,
}

/// A connection that is being made.
#[derive(Debug)]
struct Connecting {
    /// The guest's first packet, which is answered when the host's side stands.
    syn: Vec<u8>,
    about: About,
    /// The guest does not want it any more. It keeps its place until the host's side is done with it: a guest that begins and
    /// gives up, over and over, must not have the host connect without an end.
    given_up: bool,
}

impl Connecting {
    fn new(packet: &[u8], about: About) -> Self {
        Self { syn: packet.to_vec(), about, given_up: false }
    }
}

/// What is told of a connection or conversation at its end.
#[derive(Debug)]
struct About {
    host: Option<String>,
    rule: AllowRule,
    began: Instant,
    sent_bytes: u64,
    received_bytes: u64,
}

/// What was refused.
#[derive(Debug, Clone, Copy)]
enum Refused<'a> {
    Remote(SocketAddr),
    Name(&'a str),
}

/// How and when a connection or conversation ended.
#[derive(Debug)]
struct End {
    failure: Option<String>,
    at: Instant,
}

/// A UDP conversation.
#[derive(Debug)]
struct Talk {
    about: About,
    /// The head of the guest's last packet, for saying that it did not arrive.
    last_packet: Vec<u8>,
}

impl Stack {
    pub(crate) fn new(policy: Policy, is_own: IsOwn, now: Instant) -> Self {
        let mut output = Output::default();
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed();
        let mut interface = Interface::new(config, &mut Link::new(None, &mut output), smoltcp::time::Instant::ZERO);
        interface.set_any_ip(true);
        interface.update_ip_addrs(|addresses| {
            for (address, prefix) in [(IpAddr::V4(GATEWAY_V4), PREFIX_V4), (IpAddr::V6(GATEWAY_V6), PREFIX_V6)] {
                addresses.push(IpCidr::new(address.into(), prefix)).expect("the interface has room for two addresses");
            }
        });
        Self {
            interface,
            output,
            policy,
            learned: Learned::default(),
            is_own,
            connecting: HashMap::new(),
            flows: HashMap::new(),
            conversations: HashMap::new(),
            events: VecDeque::new(),
            counters: Counters::default(),
            notes: NoteLimit::default(),
            born: now,
        }
    }

    /// Takes a frame of the guest.
    pub(crate) fn input(&mut self, frame: &[u8], now: Instant) {
        match packet::read(frame) {
            Said::Tcp(head, packet) => self.tcp(&head, packet, now),
            Said::Udp { from, to, payload, packet } => {
                self.udp(Pair { guest: from, remote: to }, payload, packet, now);
            }
            Said::Answered(answer) => self.output.push(answer),
            Said::Other { packet, .. } => {
                if let Some(answer) = packet::unreachable(packet, Unreachable::Prohibited) {
                    self.output.push(answer);
                }
            }
            Said::Passed => {}
            Said::Malformed => self.counters.dropped_frames += 1,
        }
    }

    pub(crate) fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What is to be sent to the guest.
    pub(crate) fn output(&mut self) -> &mut VecDeque<Vec<u8>> {
        self.output.frames()
    }

    /// Says that so many bytes of the output were taken. Whoever waited for that goes on.
    pub(crate) fn output_taken(&mut self, bytes: usize) {
        let was_full = self.output.is_full();
        self.output.taken(bytes);
        if was_full && !self.output.is_full() {
            for flow in self.flows.values() {
                flow.wake.notify_one();
            }
        }
    }

    /// From now on judges by another policy. What was let through by a rule that is gone ends.
    pub(crate) fn set_policy(&mut self, policy: Policy, now: Instant) {
        self.policy = policy;
        let connecting = self.connecting.iter().filter(|(_, one)| !self.policy.upholds(&one.about.rule));
        let connecting: Vec<Pair> = connecting.map(|(pair, _)| *pair).collect();
        for pair in connecting {
            let reason = "the policy of the network was changed".to_owned();
            self.not_connected(pair, Failure { refused: true, reason }, now);
        }
        for flow in self.flows.values_mut().filter(|flow| !self.policy.upholds(&flow.about().rule)) {
            flow.revoke();
        }
        let ended = self.conversations.iter().filter(|(_, talk)| !self.policy.upholds(&talk.about.rule));
        let ended: Vec<Pair> = ended.map(|(pair, _)| *pair).collect();
        for pair in ended {
            self.events.push_back(Event::EndConversation(pair));
            self.conversation_over(pair, None, now);
        }
    }

    /// Begins anew with nothing but the counts, and closed: what it was doing met a defect.
    pub(crate) fn fail(&mut self, now: Instant) {
        let closed = Policy { closed: Some(RefuseRule::Failed), ..Policy::default() };
        let counters = self.counters;
        *self = Self { counters, ..Self::new(closed, Box::new(|_| false), now) };
    }

    pub(crate) fn counters(&self) -> Counters {
        let open = self.connecting.len() + self.flows.len() + self.conversations.len();
        Counters { open: open as u64, ..self.counters }
    }

    fn tcp(&mut self, head: &TcpHead, packet: &[u8], now: Instant) {
        let pair = Pair { guest: head.from, remote: head.to };
        if let Some(flow) = self.flows.get_mut(&pair) {
            let at = timestamp(self.born, now);
            self.interface.poll(at, &mut Link::new(Some(packet), &mut self.output), flow.sockets());
            flow.wake.notify_one();
            return;
        }
        if let Some(connecting) = self.connecting.get_mut(&pair) {
            connecting.given_up |= head.rst;
            return;
        }
        if head.rst {
            return;
        }
        if !head.syn || head.ack {
            return self.reset(head);
        }
        if packet.len() > SYN_BYTES_MAX {
            self.counters.dropped_frames += 1;
            return;
        }
        if is_dns(pair.remote) {
            if self.is_full() {
                return self.refuse_tcp(head, RefuseRule::Limit, now);
            }
            let about = self.about(pair, AllowRule::Dns, now);
            self.connecting.insert(pair, Connecting::new(packet, about));
            self.connected(pair, now);
            return self.events.push_back(Event::Questions(pair));
        }
        match self.judge(pair.remote, now) {
            Verdict::Allowed { .. } if self.is_full() => self.refuse_tcp(head, RefuseRule::Limit, now),
            Verdict::Allowed { target, rule } => {
                self.counters.begun += 1;
                let about = self.about(pair, rule, now);
                self.connecting.insert(pair, Connecting::new(packet, about));
                self.events.push_back(Event::Connect { pair, target });
            }
            Verdict::Refused(rule) => self.refuse_tcp(head, rule, now),
        }
    }

    fn is_full(&self) -> bool {
        self.connecting.len() >= CONNECTING_MAX || self.connecting.len() + self.flows.len() >= CONNECTIONS_MAX
    }

    fn reset(&mut self, head: &TcpHead) {
        if let Some(answer) = packet::reset(head) {
            self.output.push(answer);
        }
    }

    fn refuse_tcp(&mut self, head: &TcpHead, rule: RefuseRule, now: Instant) {
        self.reset(head);
        self.tell_refusal(Spoken::Tcp, Refused::Remote(head.to), rule, now);
    }

    fn udp(&mut self, pair: Pair, payload: &[u8], packet: &[u8], now: Instant) {
        if is_dns(pair.remote) {
            return self.events.push_back(Event::Question { pair, payload: payload.to_vec() });
        }
        if let Some(talk) = self.conversations.get_mut(&pair) {
            talk.about.sent_bytes += payload.len() as u64;
            self.counters.sent_bytes += payload.len() as u64;
            talk.last_packet = packet::head(packet);
            return self.events.push_back(Event::Datagram { pair, payload: payload.to_vec() });
        }
        let verdict = match self.judge(pair.remote, now) {
            Verdict::Allowed { .. } if self.conversations.len() >= CONVERSATIONS_MAX => {
                Verdict::Refused(RefuseRule::Limit)
            }
            verdict => verdict,
        };
        match verdict {
            Verdict::Allowed { target, rule } => {
                self.counters.begun += 1;
                self.counters.sent_bytes += payload.len() as u64;
                let mut about = self.about(pair, rule, now);
                about.sent_bytes = payload.len() as u64;
                self.conversations.insert(pair, Talk { about, last_packet: packet::head(packet) });
                self.events.push_back(Event::Converse { pair, target, payload: payload.to_vec() });
            }
            Verdict::Refused(rule) => {
                // What is sent to many at once is a search for neighbours, of which there are none.
                let to_many = pair.remote.ip().is_multicast() || pair.remote.ip() == IpAddr::V4([255; 4].into());
                if to_many {
                    return;
                }
                if let Some(answer) = packet::unreachable(packet, Unreachable::Prohibited) {
                    self.output.push(answer);
                }
                self.tell_refusal(Spoken::Udp, Refused::Remote(pair.remote), rule, now);
            }
        }
    }

    fn judge(&self, remote: SocketAddr, now: Instant) -> Verdict {
        let to = Destination { address: remote.ip(), port: remote.port() };
        self.policy.judge(to, &self.learned, now, &self.is_own)
    }

    fn about(&self, pair: Pair, rule: AllowRule, now: Instant) -> About {
        About { host: self.host_name(pair.remote.ip(), now), rule, began: now, sent_bytes: 0, received_bytes: 0 }
    }

    fn host_name(&self, address: IpAddr, now: Instant) -> Option<String> {
        if address == GATEWAY_V4 || address == GATEWAY_V6 {
            return Some(HOST_NAME.to_owned());
        }
        self.learned.names(address, now).next().map(str::to_owned)
    }

    fn tell_refusal(&mut self, protocol: Spoken, refused: Refused<'_>, rule: RefuseRule, now: Instant) {
        self.counters.refused += 1;
        let Some(and_more) = self.notes.pass(now) else { return };
        let (host, remote) = match refused {
            Refused::Remote(remote) => (self.host_name(remote.ip(), now), Some(remote)),
            Refused::Name(name) => (Some(name.to_owned()), None),
        };
        self.events.push_back(Event::Tell(Conversation {
            protocol,
            host,
            address: remote.map(|remote| remote.ip()),
            port: remote.map_or(0, |remote| remote.port()),
            sent_bytes: 0,
            received_bytes: 0,
            duration: Duration::ZERO,
            outcome: Outcome::Refused(rule),
            and_more,
        }));
    }

    /// Tells the end of a connection or conversation; with why, if it failed.
    fn tell(&mut self, protocol: Protocol, remote: SocketAddr, about: About, end: End) {
        let mut and_more = 0;
        if end.failure.is_some() {
            self.counters.failed += 1;
            match self.notes.pass(end.at) {
                Some(more) => and_more = more,
                None => return,
            }
        }
        // Questions are counted, and told where they are refused.
        if about.rule == AllowRule::Dns {
            return;
        }
        self.events.push_back(Event::Tell(Conversation {
            protocol: protocol.into(),
            host: about.host,
            address: Some(remote.ip()),
            port: remote.port(),
            sent_bytes: about.sent_bytes,
            received_bytes: about.received_bytes,
            duration: end.at.saturating_duration_since(about.began),
            outcome: match end.failure {
                None => Outcome::Carried(about.rule),
                Some(reason) => Outcome::Failed { rule: about.rule, reason },
            },
            and_more,
        }));
    }
}

/// What the host's side of connections says and asks.
impl Stack {
    /// The host's side stands: the guest's first packet is answered. Answers what is to be woken for the connection, or none
    /// if the guest gave it up meanwhile.
    pub(crate) fn connected(&mut self, pair: Pair, now: Instant) -> Option<Arc<Notify>> {
        let Connecting { syn, about, given_up } = self.connecting.remove(&pair)?;
        if given_up {
            return None;
        }
        let mut flow = Flow::listen(pair, about, now)?;
        let wake = Arc::clone(&flow.wake);
        let at = timestamp(self.born, now);
        self.interface.poll(at, &mut Link::new(Some(&syn), &mut self.output), flow.sockets());
        self.flows.insert(pair, flow);
        Some(wake)
    }

    /// What is to be woken for a connection that stands.
    pub(crate) fn wake_of(&self, pair: Pair) -> Option<Arc<Notify>> {
        self.flows.get(&pair).map(|flow| Arc::clone(&flow.wake))
    }

    /// The host's side did not come about: the guest hears of it.
    pub(crate) fn not_connected(&mut self, pair: Pair, failure: Failure, now: Instant) {
        let Some(Connecting { syn, about, given_up }) = self.connecting.remove(&pair) else { return };
        if given_up {
            return;
        }
        let frame = match packet::read_packet(&syn) {
            Said::Tcp(head, _) if failure.refused => packet::reset(&head),
            _ => packet::unreachable(&syn, Unreachable::Host),
        };
        if let Some(frame) = frame {
            self.output.push(frame);
        }
        self.tell(Protocol::Tcp, pair.remote, about, End { failure: Some(failure.reason), at: now });
    }

    /// Breaks off a connection for which nothing can be done on the host's side.
    pub(crate) fn give_up(&mut self, pair: Pair, now: Instant) {
        let Some(mut flow) = self.flows.remove(&pair) else { return };
        flow.abort();
        let at = timestamp(self.born, now);
        self.interface.poll(at, &mut Link::new(None, &mut self.output), flow.sockets());
    }

    /// Moves what can be moved between a connection and its host's side.
    pub(crate) fn step(&mut self, pair: Pair, end: &dyn HostEnd, now: Instant) -> Step {
        let Some(flow) = self.flows.get_mut(&pair) else { return Step::Over };
        let moved = flow.exchange(end, now);
        self.counters.sent_bytes += moved.sent_bytes;
        self.counters.received_bytes += moved.received_bytes;
        let at = timestamp(self.born, now);
        self.interface.poll(at, &mut Link::new(None, &mut self.output), flow.sockets());
        if flow.is_over() {
            let about = self.flows.remove(&pair).map(Flow::into_about);
            if let Some(about) = about {
                self.tell(Protocol::Tcp, pair.remote, about, End { failure: None, at: now });
            }
            return Step::Over;
        }
        let next = if self.output.is_full() { None } else { self.interface.poll_at(at, flow.sockets()) };
        let next = next.map(|next| now + Duration::from(next - at));
        flow.next_step(moved, next)
    }
}

/// What the host's side of conversations and questions says and asks.
impl Stack {
    /// A datagram came for a conversation; whether that is still there.
    pub(crate) fn datagram(&mut self, pair: Pair, payload: &[u8]) -> bool {
        let Some(talk) = self.conversations.get_mut(&pair) else { return false };
        talk.about.received_bytes += payload.len() as u64;
        self.counters.received_bytes += payload.len() as u64;
        if let Some(frame) = packet::datagram(pair.remote, pair.guest.port(), payload) {
            self.output.push(frame);
        }
        true
    }

    /// The last datagram did not arrive: nobody listens there, or there is no way.
    pub(crate) fn not_delivered(&mut self, pair: Pair, nobody_listens: bool) {
        let why = if nobody_listens { Unreachable::Port } else { Unreachable::Host };
        let frame = self.conversations.get(&pair).and_then(|talk| packet::unreachable(&talk.last_packet, why));
        if let Some(frame) = frame {
            self.output.push(frame);
        }
    }

    /// A conversation is over.
    pub(crate) fn conversation_over(&mut self, pair: Pair, failure: Option<String>, now: Instant) {
        if let Some(talk) = self.conversations.remove(&pair) {
            self.tell(Protocol::Udp, pair.remote, talk.about, End { failure, at: now });
        }
    }

    /// A question was answered.
    pub(crate) fn answered(&mut self, pair: Pair, answer: &[u8]) {
        if let Some(frame) = packet::datagram(pair.remote, pair.guest.port(), answer) {
            self.output.push(frame);
        }
    }

    /// Judges a name that the guest asked for.
    pub(crate) fn judge_name(&mut self, name: &str, now: Instant) -> NameVerdict {
        self.counters.questions += 1;
        let verdict = self.policy.judge_name(name);
        if let NameVerdict::Refused(rule) = verdict {
            self.tell_refusal(Spoken::Dns, Refused::Name(name), rule, now);
        }
        verdict
    }

    /// Notes that the guest is told these addresses of a name.
    pub(crate) fn learn(&mut self, name: &str, addresses: &[IpAddr], now: Instant) {
        for address in addresses {
            self.learned.learn(name, *address, now);
        }
    }
}

fn is_dns(remote: SocketAddr) -> bool {
    remote.port() == DNS_PORT && (remote.ip() == IpAddr::V4(GATEWAY_V4) || remote.ip() == IpAddr::V6(GATEWAY_V6))
}

fn timestamp(born: Instant, now: Instant) -> smoltcp::time::Instant {
    let micros = now.saturating_duration_since(born).as_micros();
    smoltcp::time::Instant::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
}

/// Randomness for sequence numbers. Their secrecy matters little: nobody but the guest sees them.
fn seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};

    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests;
