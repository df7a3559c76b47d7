//! A whole network, with a guest on one side that speaks frames and, on the other, servers on this machine's loopback.
//!
//! Nothing here sends anything beyond the loopback: what would, is refused.

mod guest;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use crate::{GATEWAY_V4, GATEWAY_V6, HostRule, Outcome, Policy, RefuseRule};
use guest::Guest;
use smoltcp::socket::tcp::State;

const GATEWAY: IpAddr = IpAddr::V4(GATEWAY_V4);

fn opened(ports: &[u16]) -> Policy {
    Policy { hosts: ports.iter().map(|port| HostRule::host_loopback(*port)).collect(), ..Policy::default() }
}

/// A server that sends back what it gets, to so many clients.
fn echo_server(clients: usize) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().take(clients) {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut buffer = vec![0; 64 << 10];
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    if stream.write_all(&buffer[..count]).is_err() {
                        return;
                    }
                }
                drop(stream.shutdown(std::net::Shutdown::Write));
            });
        }
    });
    port
}

/// Sends `count` bytes over a connection and reads them back; both sides finish.
fn check_echo(guest: &mut Guest, handle: smoltcp::iface::SocketHandle, count: usize) {
    let byte = |at: usize| u8::try_from(at % 251).unwrap();
    let (mut sent, mut received) = (0, 0);
    guest.until("everything comes back", |guest| {
        let socket = guest.tcp(handle);
        while sent < count && socket.can_send() {
            let piece: Vec<u8> = (sent..count.min(sent + 50_000)).map(byte).collect();
            sent += socket.send_slice(&piece).unwrap();
            if sent == count {
                socket.close();
            }
        }
        while socket.can_recv() {
            let piece = socket.recv(|bytes| (bytes.len(), bytes.to_vec())).unwrap();
            assert!(
                piece.iter().enumerate().all(|(at, got)| *got == byte(received + at)),
                "other bytes than were sent"
            );
            received += piece.len();
        }
        received == count && !socket.may_recv()
    });
}

#[test]
fn a_connection_carries_everything_and_is_told() {
    let port = echo_server(1);
    let mut guest = Guest::new(opened(&[port]));
    let handle = guest.connect(GATEWAY, port);
    assert!(guest.stands(handle));
    check_echo(&mut guest, handle, 20 << 20);
    guest.until("it is told", |guest| !guest.heard.all().is_empty());
    let told = guest.heard.all();
    assert_eq!((told[0].sent_bytes, told[0].received_bytes), (20 << 20, 20 << 20));
    assert!(matches!(told[0].outcome, Outcome::Carried(_)));
    assert_eq!(guest.network.counters().open, 0);
}

#[test]
fn a_hundred_connections_at_once_do_not_mix() {
    let port = echo_server(100);
    let mut guest = Guest::new(opened(&[port]));
    let handles: Vec<_> = (0..100).map(|_| guest.connect(GATEWAY, port)).collect();
    for handle in &handles {
        assert!(guest.stands(*handle));
    }
    for handle in handles {
        check_echo(&mut guest, handle, 100_000);
    }
    guest.until("all are told", |guest| guest.heard.all().len() == 100);
}

#[test]
fn the_gateway_is_reached_in_ipv6_too() {
    let port = echo_server(1);
    let mut guest = Guest::new(opened(&[port]));
    let handle = guest.connect(GATEWAY_V6.into(), port);
    assert!(guest.stands(handle));
    check_echo(&mut guest, handle, 100_000);
}

#[test]
fn what_is_closed_is_refused_at_once_and_told_with_the_rule() {
    let mut guest = Guest::new(opened(&[1]));
    let began = Instant::now();
    for address in ["10.0.0.1", "127.0.0.1", "169.254.169.254", "192.0.2.1", "fe80::1", "fd00::1", "::ffff:10.0.0.1"] {
        let handle = guest.connect(address.parse().unwrap(), 80);
        assert!(!guest.stands(handle), "{address}");
        guest.sockets.remove(handle);
    }
    assert!(began.elapsed() < Duration::from_secs(30), "no refusal waits for anything");
    let told = guest.heard.lines();
    assert_eq!(told[0], "tcp 10.0.0.1:80: refused: private address");
    assert_eq!(told[3], "tcp host.pyro.internal:80 (192.0.2.1): refused: port of the host that was not opened");
    assert_eq!((told.len(), guest.network.counters().refused, guest.network.counters().begun), (7, 7, 0));
}

#[test]
fn a_port_where_nobody_listens_refuses() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let mut guest = Guest::new(opened(&[port]));
    let handle = guest.connect(GATEWAY, port);
    assert!(!guest.stands(handle));
    guest.until("it is told", |guest| !guest.heard.all().is_empty());
    assert!(matches!(guest.heard.all()[0].outcome, Outcome::Failed { .. }));
}

#[test]
fn a_break_on_either_side_is_a_break_on_the_other() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut guest = Guest::new(opened(&[port]));
    let handle = guest.connect(GATEWAY, port);
    assert!(guest.stands(handle));
    let (mut accepted, _) = listener.accept().unwrap();
    guest.tcp(handle).abort();
    guest.turn();
    accepted.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let error = accepted.read(&mut [0; 10]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);

    let handle = guest.connect(GATEWAY, port);
    assert!(guest.stands(handle));
    let (accepted, _) = listener.accept().unwrap();
    guest.tcp(handle).send_slice(b"never read").unwrap();
    guest.until("it was sent", |guest| guest.tcp(handle).send_queue() == 0);
    // Closed with bytes unread: the system resets it.
    std::thread::sleep(Duration::from_millis(200));
    drop(accepted);
    guest.until("the break", |guest| guest.tcp(handle).state() == State::Closed);
}

#[test]
fn datagrams_find_their_way_back() {
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = server.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 65_535];
        while let Ok((count, from)) = server.recv_from(&mut buffer) {
            server.send_to(&buffer[..count], from).unwrap();
        }
    });
    let mut guest = Guest::new(opened(&[port]));
    for count in [1, 1400, 60_000] {
        assert_eq!(guest.ask(GATEWAY, port, &vec![7; count]), vec![7; count]);
    }
}

fn question(name: &str, kind: u16) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, u8::try_from(kind).unwrap(), 0, 1]);
    message
}

#[test]
fn names_are_answered_by_what_the_host_knows() {
    let mut guest = Guest::new(opened(&[80]));
    let answer = guest.ask(GATEWAY, 53, &question("localhost", 1));
    assert!(answer.ends_with(&[0, 4, 127, 0, 0, 1]), "{answer:?}");
    let answer = guest.ask(GATEWAY, 53, &question("host.pyro.internal", 1));
    assert!(answer.ends_with(&[0, 4, 192, 0, 2, 1]), "{answer:?}");
    let answer = guest.ask(GATEWAY_V6.into(), 53, &question("host.pyro.internal", 28));
    assert!(answer.ends_with(&[0x6f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]), "{answer:?}");
    assert_eq!(guest.network.counters().questions, 3);
}

#[test]
fn questions_come_over_a_stream_too() {
    let mut guest = Guest::new(opened(&[]));
    let handle = guest.connect(GATEWAY, 53);
    assert!(guest.stands(handle));
    let message = question("localhost", 1);
    let length = u16::try_from(message.len()).unwrap().to_be_bytes();
    for _ in 0..2 {
        guest.tcp(handle).send_slice(&[&length[..], &message].concat()).unwrap();
        let mut answer = Vec::new();
        guest.until("an answer", |guest| {
            let socket = guest.tcp(handle);
            while socket.can_recv() {
                answer.extend(socket.recv(|bytes| (bytes.len(), bytes.to_vec())).unwrap());
            }
            answer.ends_with(&[0, 4, 127, 0, 0, 1])
        });
    }
    // A message that says it is longer than any question ends it.
    guest.tcp(handle).send_slice(&[0xff; 1000]).unwrap();
    guest.until("the end", |guest| !guest.tcp(handle).may_recv());
}

#[test]
fn names_outside_the_domains_are_not_there_and_told() {
    let domains = vec!["allowed.example".parse().unwrap()];
    let mut guest = Guest::new(Policy { domains, ..Policy::default() });
    let answer = guest.ask(GATEWAY, 53, &question("localhost", 1));
    assert_eq!(answer[3] & 0xf, 3, "no such name");
    let handle = guest.connect([1, 1, 1, 1].into(), 443);
    assert!(!guest.stands(handle), "an address that was not resolved is refused before a socket is opened");
    assert_eq!(
        guest.heard.lines(),
        [
            "dns localhost: refused: outside the allowed domains",
            "tcp 1.1.1.1:443: refused: outside the allowed domains"
        ]
    );
}

#[test]
fn services_of_a_domain_are_not_elsewhere_and_no_refusal() {
    let domains = vec!["localhost".parse().unwrap()];
    let mut guest = Guest::new(Policy { domains, ..Policy::default() });
    for kind in [33, 64, 65] {
        let answer = guest.ask(GATEWAY, 53, &question("_http._tcp.localhost", kind));
        assert_eq!((answer[3] & 0xf, &answer[6..8]), (0, &[0, 0][..]), "there are none");
    }
    assert_eq!((guest.heard.lines(), guest.network.counters().refused), (Vec::<String>::new(), 0));
}

#[test]
fn a_changed_policy_counts_at_once() {
    let port = echo_server(1);
    let mut guest = Guest::new(opened(&[]));
    let handle = guest.connect(GATEWAY, port);
    assert!(!guest.stands(handle));
    guest.network.set_policy(opened(&[port]));
    let handle = guest.connect(GATEWAY, port);
    assert!(guest.stands(handle));
    check_echo_once(&mut guest, handle);
    guest.network.set_policy(Policy { closed: Some(RefuseRule::Off), ..opened(&[port]) });
    guest.until("it is broken off", |guest| guest.tcp(handle).state() == State::Closed);
    let handle = guest.connect(GATEWAY, port);
    assert!(!guest.stands(handle));
    let told = guest.heard.lines();
    assert_eq!(
        told.last(),
        Some(&format!("tcp host.pyro.internal:{port} (192.0.2.1): refused: the network was turned off")),
        "{told:?}"
    );
}

/// Sends a few bytes over a connection, which stays open, and reads them back.
fn check_echo_once(guest: &mut Guest, handle: smoltcp::iface::SocketHandle) {
    guest.tcp(handle).send_slice(b"ping").unwrap();
    guest.until("it comes back", |guest| guest.tcp(handle).recv(|bytes| (bytes.len(), bytes == b"ping")) == Ok(true));
}

#[test]
fn a_defect_closes_the_network_and_ends_nothing_else() {
    let port = echo_server(2);
    let mut guest = Guest::new(opened(&[port]));
    let handle = guest.connect(GATEWAY, port);
    assert!(guest.stands(handle));
    check_echo_once(&mut guest, handle);
    assert_eq!(guest.network.failure(), None);
    guest.heard.break_down();
    let refused = guest.connect([10, 0, 0, 1].into(), 80);
    assert!(!guest.stands(refused));
    guest.until("it has failed", |guest| guest.network.failure() == Some("a defect for this test"));
    assert_eq!(guest.network.counters().open, 0);

    // What stood is broken off, what is new is refused at once, and a changed policy opens nothing.
    guest.until("the break", |guest| {
        let _ = guest.tcp(handle).send_slice(b"x");
        guest.tcp(handle).state() == State::Closed
    });
    guest.network.set_policy(opened(&[port]));
    let handle = guest.connect(GATEWAY, port);
    assert!(!guest.stands(handle));
    let answer = guest.ask(GATEWAY, 53, &question("localhost", 1));
    assert_eq!(answer[3] & 0xf, 3, "no such name");
    let told = guest.heard.lines();
    assert_eq!(told.last().map(String::as_str), Some("dns localhost: refused: the network has failed"), "{told:?}");
}

#[test]
fn a_network_that_meets_one_defect_after_another_ends() {
    let mut guest = Guest::new(opened(&[]));
    guest.heard.break_down();
    let refused = guest.connect([10, 0, 0, 1].into(), 80);
    assert!(!guest.stands(refused));
    assert!(guest.network.failure().is_some());
    guest.heard.break_down();
    let _ = guest.connect([10, 0, 0, 2].into(), 80);
    guest.until_it_ends();
}

#[test]
fn a_flood_of_questions_and_frames_leaves_connections_alive() {
    let port = echo_server(1);
    let mut guest = Guest::new(opened(&[port]));
    let handle = guest.connect(GATEWAY, port);
    assert!(guest.stands(handle));
    for number in 0..20_000_u32 {
        let mut frame = vec![0x52, 0x54, 0, 0x70, 0x79, 1, 0x52, 0x54, 0, 0x70, 0x79, 2, 8, 0];
        frame.extend(
            (0..u8::try_from(number % 200).unwrap()).map(|at| at.wrapping_mul(u8::try_from(number % 251).unwrap())),
        );
        guest.send_frame(&frame);
        if number % 100 == 0 {
            guest.turn();
        }
    }
    check_echo(&mut guest, handle, 1 << 20);
    assert!(guest.network.counters().dropped_frames > 10_000);
}

#[test]
fn the_gateway_answers_an_echo() {
    let mut guest = Guest::new(opened(&[]));
    // An echo request of ICMP with eight bytes in it.
    let mut icmp = vec![8, 0, 0, 0, 0, 1, 0, 1];
    icmp.extend(b"12345678");
    let sum = |bytes: &[u8]| {
        let mut sum: u32 = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        (!u16::try_from(sum).unwrap()).to_be_bytes()
    };
    let checksum = sum(&icmp);
    icmp[2..4].copy_from_slice(&checksum);
    let mut ip = vec![0x45, 0, 0, 36, 0, 0, 0, 0, 64, 1, 0, 0, 192, 0, 2, 2, 192, 0, 2, 1];
    let checksum = sum(&ip);
    ip[10..12].copy_from_slice(&checksum);
    let ethernet = [0x52, 0x54, 0, 0x70, 0x79, 1, 0x52, 0x54, 0, 0x70, 0x79, 2, 8, 0];
    guest.send_frame(&[&ethernet[..], &ip, &icmp].concat());
    let answer = guest.next_frame();
    assert_eq!((&answer[26..34], answer[34]), (&[192, 0, 2, 1, 192, 0, 2, 2][..], 0));
    assert!(answer.ends_with(b"12345678"));
}
