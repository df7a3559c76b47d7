//! The stack without any I/O: what hostile frames do to it, and to the connections beside them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket, TcpRepr,
    TcpSeqNumber, UdpPacket, UdpRepr,
};

use super::{Event, Failure, HostEnd, Pair, Stack, Step};
use crate::address::{GATEWAY_MAC, GATEWAY_V4, GUEST_MAC, GUEST_V4, Place};
use crate::limits::{
    BUFFER_BYTES, CONNECTING_MAX, CONNECTIONS_MAX, CONVERSATIONS_MAX, LEARNED_LIMIT, NOTES_MAX, OUTPUT_BYTES_MAX,
    TCP_IDLE_LIMIT,
};
use crate::policy::{Policy, RefuseRule};
use crate::record::{Outcome, Spoken};

const PUBLIC: Ipv4Addr = Ipv4Addr::new(1, 1, 1, 1);

fn stack(policy: Policy) -> (Stack, Instant) {
    let now = Instant::now();
    (Stack::new(policy, Box::new(|_| false), now), now)
}

/// A packet of TCP as a guest would send it.
#[derive(Clone, Copy)]
struct Packet<'a> {
    port: u16,
    to: SocketAddr,
    control: TcpControl,
    sequence: i32,
    acknowledged: Option<i32>,
    window: u16,
    payload: &'a [u8],
}

fn syn(port: u16, to: SocketAddr) -> Packet<'static> {
    Packet { port, to, control: TcpControl::Syn, sequence: 0, acknowledged: None, window: 60_000, payload: &[] }
}

fn frame_v4(source: Ipv4Addr, to: Ipv4Addr, kind: IpProtocol, inner: &[u8]) -> Vec<u8> {
    let ip = Ipv4Repr { src_addr: source, dst_addr: to, next_header: kind, payload_len: inner.len(), hop_limit: 64 };
    let mut frame = vec![0; 14 + 20 + inner.len()];
    let mut ethernet = EthernetFrame::new_unchecked(&mut frame[..]);
    ethernet.set_src_addr(EthernetAddress(GUEST_MAC));
    ethernet.set_dst_addr(EthernetAddress(GATEWAY_MAC));
    ethernet.set_ethertype(EthernetProtocol::Ipv4);
    ip.emit(&mut Ipv4Packet::new_unchecked(&mut frame[14..]), &ChecksumCapabilities::default());
    frame[34..].copy_from_slice(inner);
    frame
}

fn v4(address: SocketAddr) -> Ipv4Addr {
    match address.ip() {
        IpAddr::V4(address) => address,
        IpAddr::V6(_) => panic!("these tests speak IPv4"),
    }
}

fn tcp_frame_from(source: Ipv4Addr, packet: Packet<'_>) -> Vec<u8> {
    let tcp = TcpRepr {
        src_port: packet.port,
        dst_port: packet.to.port(),
        control: packet.control,
        seq_number: TcpSeqNumber(packet.sequence),
        ack_number: packet.acknowledged.map(TcpSeqNumber),
        window_len: packet.window,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: packet.payload,
    };
    let mut inner = vec![0; tcp.buffer_len()];
    let (from, to) = (source.into(), packet.to.ip().into());
    tcp.emit(&mut TcpPacket::new_unchecked(&mut inner[..]), &from, &to, &ChecksumCapabilities::default());
    frame_v4(source, v4(packet.to), IpProtocol::Tcp, &inner)
}

fn tcp_frame(packet: Packet<'_>) -> Vec<u8> {
    tcp_frame_from(GUEST_V4, packet)
}

fn udp_frame(port: u16, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let udp = UdpRepr { src_port: port, dst_port: to.port() };
    let mut inner = vec![0; 8 + payload.len()];
    let put = |room: &mut [u8]| room.copy_from_slice(payload);
    let packet = &mut UdpPacket::new_unchecked(&mut inner[..]);
    udp.emit(packet, &GUEST_V4.into(), &to.ip().into(), payload.len(), put, &ChecksumCapabilities::default());
    frame_v4(GUEST_V4, v4(to), IpProtocol::Udp, &inner)
}

/// What the stack sent of TCP: control bits and numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sent {
    control: TcpControl,
    sequence: i32,
    acknowledged: Option<i32>,
    payload: Vec<u8>,
}

fn sent(stack: &mut Stack) -> Vec<Sent> {
    let frames: Vec<Vec<u8>> = stack.output().drain(..).collect();
    stack.output_taken(frames.iter().map(Vec::len).sum());
    let parse = |frame: Vec<u8>| {
        let ip = Ipv4Packet::new_checked(&frame[14..]).unwrap();
        assert!(ip.verify_checksum(), "the guest looks at checksums");
        if ip.next_header() != IpProtocol::Tcp {
            return None;
        }
        let tcp = TcpPacket::new_checked(ip.payload()).unwrap();
        let (from, to) = (ip.src_addr().into(), ip.dst_addr().into());
        let repr = TcpRepr::parse(&tcp, &from, &to, &ChecksumCapabilities::default()).unwrap();
        Some(Sent {
            control: repr.control,
            sequence: repr.seq_number.0,
            acknowledged: repr.ack_number.map(|number| number.0),
            payload: repr.payload.to_vec(),
        })
    };
    frames.into_iter().filter_map(parse).collect()
}

/// The host's side of a connection, in memory.
#[derive(Default)]
struct End {
    from_guest: RefCell<Vec<u8>>,
    for_guest: RefCell<VecDeque<u8>>,
    takes: RefCell<usize>,
    finished: RefCell<bool>,
    broken: RefCell<bool>,
    is_over: RefCell<bool>,
}

impl End {
    fn open() -> Self {
        Self { takes: RefCell::new(usize::MAX), ..Self::default() }
    }
}

impl HostEnd for End {
    fn read(&self, room: &mut [u8]) -> io::Result<usize> {
        let mut waiting = self.for_guest.borrow_mut();
        if waiting.is_empty() {
            return if *self.is_over.borrow() { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        let count = room.len().min(waiting.len());
        for (to, from) in room.iter_mut().zip(waiting.drain(..count)) {
            *to = from;
        }
        Ok(count)
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut takes = self.takes.borrow_mut();
        let count = bytes.len().min(*takes);
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        *takes -= count;
        self.from_guest.borrow_mut().extend(&bytes[..count]);
        Ok(count)
    }

    fn finish(&self) {
        *self.finished.borrow_mut() = true;
    }

    fn break_off(&self) {
        *self.broken.borrow_mut() = true;
    }
}

fn public(port: u16) -> SocketAddr {
    (PUBLIC, port).into()
}

fn pair(port: u16, remote: SocketAddr) -> Pair {
    Pair { guest: (GUEST_V4, port).into(), remote }
}

fn events(stack: &mut Stack) -> Vec<Event> {
    std::iter::from_fn(|| stack.next_event()).collect()
}

/// A connection that stands; the number from which the stack's own bytes are counted.
fn establish(stack: &mut Stack, port: u16, now: Instant) -> i32 {
    let to = public(80);
    stack.input(&tcp_frame(syn(port, to)), now);
    assert!(matches!(events(stack)[..], [Event::Connect { .. }]));
    assert_eq!(sent(stack), [], "nothing is promised before the host's side stands");
    assert!(stack.connected(pair(port, to), now).is_some());
    let answers = sent(stack);
    let [Sent { control: TcpControl::Syn, sequence, acknowledged: Some(1), .. }] = answers[..] else {
        panic!("{answers:?}")
    };
    let acknowledged = Some(sequence.wrapping_add(1));
    stack.input(&tcp_frame(Packet { control: TcpControl::None, sequence: 1, acknowledged, ..syn(port, to) }), now);
    sequence.wrapping_add(1)
}

/// Whether a connection of `port` carries bytes both ways.
#[track_caller]
fn check_carries(stack: &mut Stack, port: u16, own: i32, now: Instant) {
    let end = End::open();
    end.for_guest.borrow_mut().extend(b"pong");
    let acknowledged = Some(own);
    let data =
        Packet { control: TcpControl::Psh, sequence: 1, acknowledged, payload: b"ping", ..syn(port, public(80)) };
    stack.input(&tcp_frame(data), now);
    assert!(matches!(stack.step(pair(port, public(80)), &end, now), Step::Wait { .. }));
    assert_eq!(*end.from_guest.borrow(), b"ping");
    let answers = sent(stack);
    assert!(answers.iter().any(|sent| sent.payload == b"pong"), "{answers:?}");
}

#[test]
fn a_connection_carries_bytes_and_ends_when_both_sides_have_finished() {
    let (mut stack, now) = stack(Policy::default());
    let own = establish(&mut stack, 1000, now);
    check_carries(&mut stack, 1000, own, now);
    let (end, to) = (End::open(), public(80));
    let acknowledged = Some(own + 4);
    stack.input(&tcp_frame(Packet { control: TcpControl::Fin, sequence: 5, acknowledged, ..syn(1000, to) }), now);
    assert!(matches!(stack.step(pair(1000, to), &end, now), Step::Wait { .. }));
    assert!(*end.finished.borrow() && !*end.broken.borrow());
    *end.is_over.borrow_mut() = true;
    assert!(matches!(stack.step(pair(1000, to), &end, now), Step::Wait { .. }));
    assert!(sent(&mut stack).iter().any(|sent| sent.control == TcpControl::Fin));
    let acknowledged = Some(own + 5);
    stack.input(&tcp_frame(Packet { control: TcpControl::None, sequence: 6, acknowledged, ..syn(1000, to) }), now);
    assert_eq!(stack.step(pair(1000, to), &end, now), Step::Over);
    assert!(!*end.broken.borrow(), "an orderly end is no break");
    let events = events(&mut stack);
    let [Event::Tell(conversation)] = &events[..] else { panic!("{events:?}") };
    assert_eq!((conversation.sent_bytes, conversation.received_bytes), (4, 4));
    assert_eq!(conversation.to_string(), "tcp 1.1.1.1:80: egress");
}

#[test]
fn what_the_host_saw_is_what_the_guest_sees() {
    let (mut stack, now) = stack(Policy::default());
    stack.input(&tcp_frame(syn(1000, public(80))), now);
    stack.input(&tcp_frame(syn(1001, public(80))), now);
    assert_eq!(events(&mut stack).len(), 2);
    let failure = |refused| Failure { refused, reason: "for a reason".to_owned() };
    stack.not_connected(pair(1000, public(80)), failure(true), now);
    assert!(matches!(sent(&mut stack)[..], [Sent { control: TcpControl::Rst, acknowledged: Some(1), .. }]));
    stack.not_connected(pair(1001, public(80)), failure(false), now);
    let frame = stack.output().pop_front().unwrap();
    assert_eq!(frame[34..36], [3, 1], "no way to the host");
    assert_eq!(events(&mut stack).len(), 2);
    assert_eq!((stack.counters().failed, stack.counters().open), (2, 0));
}

#[test]
fn a_refusal_is_an_answer_and_no_socket() {
    let (mut stack, now) = stack(Policy::default());
    for address in ["127.0.0.1:80", "10.0.0.1:80", "169.254.169.254:80", "192.0.2.1:8080", "224.0.0.1:80"] {
        stack.input(&tcp_frame(syn(1000, address.parse().unwrap())), now);
        assert!(matches!(sent(&mut stack)[..], [Sent { control: TcpControl::Rst, .. }]), "{address}");
        stack.input(&udp_frame(1000, address.parse().unwrap(), b"x"), now);
        let told = events(&mut stack);
        assert!(told.iter().all(|event| matches!(event, Event::Tell(_))), "{told:?}");
        let answer = stack.output().pop_front();
        assert!(address.starts_with("224") || answer.unwrap()[34..36] == [3, 13], "{address}");
    }
    assert_eq!((stack.counters().refused, stack.counters().begun), (9, 0));
}

#[test]
fn malformed_frames_change_nothing() {
    let (mut stack, now) = stack(Policy::default());
    let own = establish(&mut stack, 1000, now);
    let good = [tcp_frame(syn(2000, public(80))), udp_frame(2000, public(80), b"hello"), vec![0xff; 60]];
    let mut count = 0;
    for frame in &good {
        for cut in 0..frame.len() {
            stack.input(&frame[..cut], now);
            count += 1;
        }
    }
    // Lengths that are not those of what is there.
    for (at, byte) in [(14, 0x4f), (14, 0x65), (16, 0xff), (17, 0), (46, 0), (46, 0xf0), (34, 0), (35, 0), (23, 200)] {
        let mut frame = good[0].clone();
        frame[at] = byte;
        stack.input(&frame, now);
    }
    stack.input(&vec![0; 100_000], now);
    assert!(count > 150 && stack.counters().dropped_frames > 50);
    drop(events(&mut stack));
    sent_anything(&mut stack);
    check_carries(&mut stack, 1000, own, now);
}

fn sent_anything(stack: &mut Stack) -> usize {
    let bytes = stack.output().drain(..).map(|frame| frame.len()).sum();
    stack.output_taken(bytes);
    bytes
}

#[test]
fn fragments_and_spoofed_sources_are_dropped() {
    let (mut stack, now) = stack(Policy::default());
    for flags in [0x20, 0x3f, 0x01] {
        let mut frame = tcp_frame(syn(1000, public(80)));
        frame[20] = flags;
        stack.input(&frame, now);
    }
    for source in [PUBLIC, GATEWAY_V4, Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST] {
        stack.input(&tcp_frame_from(source, syn(1000, public(80))), now);
    }
    assert_eq!((events(&mut stack), sent_anything(&mut stack)), (Vec::new(), 0));
    assert_eq!(stack.counters().dropped_frames, 8);
}

#[test]
fn a_hundred_thousand_syns_fill_no_table() {
    let (mut stack, now) = stack(Policy::default());
    let own = establish(&mut stack, 1, now);
    for number in 0..100_000_u32 {
        let [_, a, b, c] = number.to_be_bytes();
        let (address, port) = if number % 2 == 0 { ([10, a, b, c], 80) } else { ([1, a, b, c], 443) };
        stack.input(&tcp_frame(syn(1000, (address, port).into())), now);
        drop(stack.next_event());
        assert!(stack.connecting.len() <= CONNECTING_MAX);
        assert!(stack.output.is_full() || stack.output.frames().len() <= OUTPUT_BYTES_MAX / 54 + 1);
        assert!(stack.events.len() <= 1 + usize::try_from(NOTES_MAX).unwrap());
    }
    assert_eq!(stack.counters().begun, 1 + CONNECTING_MAX as u64);
    assert_eq!(stack.counters().refused, 100_000 - CONNECTING_MAX as u64);
    sent_anything(&mut stack);
    drop(events(&mut stack));
    check_carries(&mut stack, 1, own, now);
}

#[test]
fn a_guest_that_does_not_read_holds_up_only_itself() {
    let (mut stack, now) = stack(Policy::default());
    let own = establish(&mut stack, 1000, now);
    let other = establish(&mut stack, 1001, now);
    let end = End::open();
    end.for_guest.borrow_mut().extend(vec![7; 4 << 20]);
    // A window of nothing.
    let closed =
        Packet { control: TcpControl::None, sequence: 1, acknowledged: Some(own), window: 0, ..syn(1000, public(80)) };
    stack.input(&tcp_frame(closed), now);
    for _ in 0..100 {
        let step = stack.step(pair(1000, public(80)), &end, now);
        assert!(matches!(step, Step::Wait { readable: false, .. }), "{step:?}");
        sent_anything(&mut stack);
    }
    assert!(
        end.for_guest.borrow().len() >= (4 << 20) - BUFFER_BYTES,
        "only a buffer's worth was read of the host's side"
    );
    check_carries(&mut stack, 1001, other, now);
    // It is not for ever.
    let later = now + TCP_IDLE_LIMIT + Duration::from_secs(1);
    assert_eq!(stack.step(pair(1000, public(80)), &end, later), Step::Over);
    assert!(*end.broken.borrow());
}

#[test]
fn a_host_that_does_not_read_holds_up_the_guest() {
    let (mut stack, now) = stack(Policy::default());
    let own = establish(&mut stack, 1000, now);
    let end = End::default();
    let to = public(80);
    let payload = vec![1; 30_000];
    let (mut sequence, mut accepted) = (1, 0);
    for _ in 0..100 {
        let acknowledged = Some(own);
        let packet = Packet { control: TcpControl::None, sequence, acknowledged, payload: &payload, ..syn(1000, to) };
        stack.input(&tcp_frame(packet), now);
        stack.step(pair(1000, to), &end, now);
        if let Some(number) = sent(&mut stack).into_iter().filter_map(|sent| sent.acknowledged).next_back() {
            accepted = number - 1;
            sequence = number;
        }
    }
    assert!(usize::try_from(accepted).unwrap() <= BUFFER_BYTES, "{accepted}");
    *end.takes.borrow_mut() = usize::MAX;
    assert!(matches!(stack.step(pair(1000, to), &end, now), Step::Wait { writable: false, .. }));
    assert_eq!(end.from_guest.borrow().len(), usize::try_from(accepted).unwrap());
}

#[test]
fn a_guest_that_breaks_off_breaks_the_other_side_off() {
    let (mut stack, now) = stack(Policy::default());
    let own = establish(&mut stack, 1000, now);
    let end = End::open();
    let to = public(80);
    stack.input(
        &tcp_frame(Packet { control: TcpControl::Rst, sequence: 1, acknowledged: Some(own), ..syn(1000, to) }),
        now,
    );
    assert_eq!(stack.step(pair(1000, to), &end, now), Step::Over);
    assert!(*end.broken.borrow());
}

#[test]
fn a_guest_that_does_not_want_the_connection_any_more_leaves_nothing() {
    let (mut stack, now) = stack(Policy::default());
    let (end, to) = (End::open(), public(80));
    stack.input(&tcp_frame(syn(1000, to)), now);
    assert!(matches!(events(&mut stack)[..], [Event::Connect { .. }]));
    // It went on to another address meanwhile, and answers our answer with a reset.
    assert!(stack.connected(pair(1000, to), now).is_some());
    let reset = Packet { control: TcpControl::Rst, sequence: 1, ..syn(1000, to) };
    stack.input(&tcp_frame(reset), now);
    assert_eq!(stack.step(pair(1000, to), &end, now), Step::Over);
    assert!(*end.broken.borrow());
    assert_eq!(stack.counters().open, 0);
}

#[test]
fn packets_of_no_connection_are_told_so_and_resets_are_not() {
    let (mut stack, now) = stack(Policy::default());
    let to = public(80);
    let stray = Packet { control: TcpControl::None, sequence: 9, acknowledged: Some(77), ..syn(1000, to) };
    stack.input(&tcp_frame(stray), now);
    assert!(matches!(sent(&mut stack)[..], [Sent { control: TcpControl::Rst, sequence: 77, .. }]));
    stack.input(&tcp_frame(Packet { control: TcpControl::Rst, ..stray }), now);
    assert_eq!(sent(&mut stack), []);
}

#[test]
fn a_question_of_any_size_is_only_passed_on() {
    let (mut stack, now) = stack(Policy::default());
    let dns: SocketAddr = (GATEWAY_V4, 53).into();
    stack.input(&udp_frame(1000, dns, &vec![0; 60_000]), now);
    let events = events(&mut stack);
    let [Event::Question { payload, .. }] = &events[..] else { panic!("{events:?}") };
    assert!(crate::dns::Question::parse(payload).is_err());
}

#[test]
fn datagrams_begin_so_many_conversations_and_no_more() {
    let (mut stack, now) = stack(Policy::default());
    for number in 0..1000 {
        stack.input(&udp_frame(1000 + number, public(443), b"x"), now);
    }
    let begun = events(&mut stack).iter().filter(|event| matches!(event, Event::Converse { .. })).count();
    assert_eq!(begun, CONVERSATIONS_MAX);
    assert!(stack.datagram(pair(1000, public(443)), b"answer"));
    stack.conversation_over(pair(1000, public(443)), None, now);
    assert!(!stack.datagram(pair(1000, public(443)), b"late"));
    let told = events(&mut stack);
    let [Event::Tell(conversation)] = &told[..] else { panic!("{told:?}") };
    assert_eq!((conversation.protocol, conversation.received_bytes), (Spoken::Udp, 6));
}

#[test]
fn a_domain_is_reached_by_what_we_answered_and_not_by_guessing() {
    let policy = Policy { domains: vec!["a.example".parse().unwrap()], ..Policy::default() };
    let (mut stack, now) = stack(policy);
    let refused = |stack: &mut Stack, at| {
        stack.input(&tcp_frame(syn(1000, public(443))), at);
        let told = events(stack);
        let [Event::Tell(conversation)] = &told[..] else { panic!("{told:?}") };
        assert_eq!(conversation.outcome, Outcome::Refused(RefuseRule::Domain));
    };
    // Guessed, or resolved by its own packets elsewhere, which are refused as well.
    refused(&mut stack, now);
    stack.input(&udp_frame(1000, ([8, 8, 8, 8], 53).into(), b"a question"), now);
    assert!(
        matches!(&events(&mut stack)[..], [Event::Tell(told)] if told.outcome == Outcome::Refused(RefuseRule::Domain))
    );
    assert!(matches!(stack.judge_name("b.example", now), crate::policy::NameVerdict::Refused(RefuseRule::Domain)));
    drop(events(&mut stack));
    // Resolved by us.
    stack.learn("a.example", &[PUBLIC.into()], now);
    stack.input(&tcp_frame(syn(1001, public(443))), now);
    assert!(matches!(events(&mut stack)[..], [Event::Connect { .. }]));
    // A stale answer.
    refused(&mut stack, now + LEARNED_LIMIT + Duration::from_secs(1));
}

#[test]
fn a_name_that_resolves_to_a_closed_place_opens_nothing() {
    let (mut stack, now) = stack(Policy::default());
    stack.learn("rebound.example", &[Ipv4Addr::LOCALHOST.into(), [10, 0, 0, 1].into()], now);
    for (address, place) in [("127.0.0.1:80", Place::Loopback), ("10.0.0.1:80", Place::Private)] {
        stack.input(&tcp_frame(syn(1000, address.parse().unwrap())), now);
        let told = events(&mut stack);
        let [Event::Tell(conversation)] = &told[..] else { panic!("{told:?}") };
        assert_eq!(conversation.outcome, Outcome::Refused(RefuseRule::Place(place)));
        assert_eq!(conversation.host.as_deref(), Some("rebound.example"));
    }
}

#[test]
fn a_changed_policy_ends_what_its_rules_no_longer_let_through() {
    let (mut stack, now) = stack(Policy::default());
    let own = establish(&mut stack, 1000, now);
    stack.input(&tcp_frame(syn(1001, public(80))), now);
    stack.input(&udp_frame(1002, public(443), b"x"), now);
    drop((events(&mut stack), sent(&mut stack)));
    // What changes nothing for them ends none of them.
    stack.set_policy(Policy { hosts: vec!["10.0.0.1".parse().unwrap()], ..Policy::default() }, now);
    assert_eq!((events(&mut stack), stack.counters().open), (Vec::new(), 3));
    check_carries(&mut stack, 1000, own, now);

    stack.set_policy(Policy { domains: vec!["a.example".parse().unwrap()], ..Policy::default() }, now);
    assert!(matches!(sent(&mut stack)[..], [Sent { control: TcpControl::Rst, acknowledged: Some(1), .. }]));
    let told = events(&mut stack);
    assert!(told.contains(&Event::EndConversation(pair(1002, public(443)))), "{told:?}");
    assert!(stack.connected(pair(1001, public(80)), now).is_none());
    let end = End::open();
    assert_eq!(stack.step(pair(1000, public(80)), &end, now), Step::Over);
    assert!(*end.broken.borrow());
    assert!(sent(&mut stack).iter().any(|sent| sent.control == TcpControl::Rst), "the guest hears of it");
    assert_eq!(stack.counters().open, 0);
}

#[test]
fn streams_of_questions_are_bounded_and_can_be_given_up() {
    let (mut stack, now) = stack(Policy::default());
    let gateway = (GATEWAY_V4, 53).into();
    for port in 1000..3000 {
        stack.input(&tcp_frame(syn(port, gateway)), now);
        let _ = sent_anything(&mut stack);
    }
    let served = events(&mut stack).iter().filter(|event| matches!(event, Event::Questions(_))).count();
    assert_eq!(served, CONNECTIONS_MAX);
    stack.give_up(pair(1000, gateway), now);
    assert!(sent(&mut stack).iter().any(|sent| sent.control == TcpControl::Rst));
    assert_eq!(stack.counters().open, CONNECTIONS_MAX as u64 - 1);
}

#[test]
fn a_guest_that_begins_and_gives_up_over_and_over_has_the_host_connect_so_often_and_no_more() {
    let (mut stack, now) = stack(Policy::default());
    let mut connects = 0;
    for number in 0..1000_u16 {
        let syn = syn(1000 + number, public(80));
        stack.input(&tcp_frame(syn), now);
        stack.input(&tcp_frame(Packet { control: TcpControl::Rst, sequence: 1, ..syn }), now);
        connects += events(&mut stack).iter().filter(|event| matches!(event, Event::Connect { .. })).count();
    }
    assert_eq!(connects, CONNECTING_MAX);
    drop(sent(&mut stack));
    // Whatever comes of it, the guest does not hear of it, and the place is free again.
    assert!(stack.connected(pair(1000, public(80)), now).is_none());
    stack.not_connected(pair(1001, public(80)), Failure { refused: true, reason: String::new() }, now);
    assert_eq!((sent(&mut stack), stack.counters().open), (Vec::new(), CONNECTING_MAX as u64 - 2));
}

proptest::proptest! {
    /// No frame, and no sequence of them, does harm.
    #[test]
    fn no_frames_do_harm(bytes in proptest::collection::vec(proptest::arbitrary::any::<u8>(), 0..2000)) {
        crate::trial::frames(&bytes);
    }

    /// Well-formed frames with a few bytes changed reach further.
    #[test]
    fn no_changed_frames_do_harm(changes in proptest::collection::vec((0_usize..80, proptest::arbitrary::any::<u8>()), 1..8)) {
        let mut bytes = Vec::new();
        let to = public(80);
        let ack = Packet { control: TcpControl::Psh, sequence: 1, acknowledged: Some(1), payload: b"data", ..syn(1000, to) };
        for mut frame in [tcp_frame(syn(1000, to)), tcp_frame(ack), udp_frame(1000, (GATEWAY_V4, 53).into(), b"question")] {
            for (at, byte) in &changes {
                if let Some(place) = frame.get_mut(*at) {
                    *place = *byte;
                }
            }
            bytes.extend(u16::try_from(frame.len()).unwrap().to_be_bytes());
            bytes.push(2);
            bytes.extend(frame);
        }
        crate::trial::frames(&bytes);
    }
}
