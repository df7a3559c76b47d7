//! Connections to ports, made by the real agent, which runs as a process among others: its loopback is this machine's.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use pyro_wire::connection::{CONNECTION_WINDOW_BYTES, CONNECTIONS_MAX};
use pyro_wire::frame::DATA_BYTES_MAX;
use pyro_wire::{ConnectionId, FaultKind, Frame, HostMessage};

use super::host::{Host, shell};

const MEBIBYTE: usize = 1 << 20;

/// Something that listens, and does `serve` with each who comes.
fn service(address: &str, serve: fn(TcpStream)) -> u16 {
    let listener = TcpListener::bind(address).expect("a free port");
    // The standard library's queue of 128 is too short for all at once: the kernel drops what finds it full for some
    // seconds, and breaks off what it dropped.
    rustix::net::listen(&listener, i32::try_from(2 * CONNECTIONS_MAX).expect("small")).expect("a longer queue");
    let port = listener.local_addr().expect("bound").port();
    thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.expect("a client");
            thread::spawn(move || serve(client));
        }
    });
    port
}

fn echo(mut client: TcpStream) {
    drop(std::io::copy(&mut client.try_clone().expect("a copy"), &mut client));
}

/// Bytes in which a lost or doubled piece shows.
fn pattern(count: usize) -> Vec<u8> {
    (0..count).map(|at| u8::try_from(at.wrapping_mul(31) / 7 % 251).expect("a byte")).collect()
}

#[test]
fn both_families_are_reached_and_every_byte_comes_back() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let port = service(address, echo);
        let mut host = Host::ready();
        let sent = pattern(5 * MEBIBYTE + 17);
        let connection = host.connect(port, &sent);
        let carried = host.until_carried(connection, |carried| carried.ended);
        assert!(carried.connected && !carried.reset);
        assert!(carried.bytes == sent, "{address}: {} of {} bytes", carried.bytes.len(), sent.len());
        // The agent forgot it, and takes what still comes for nothing.
        host.say(&HostMessage::ConnectionCredit { connection, bytes: 1 });
        assert_eq!(host.run(shell("echo goes on")).stdout, b"goes on\n");
    }
}

#[test]
fn each_direction_ends_by_itself() {
    // Says all it has to say before it listens to anything.
    let port = service("127.0.0.1:0", |mut client| {
        client.write_all(b"first").expect("sent");
        client.shutdown(std::net::Shutdown::Write).expect("half closed");
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).expect("heard");
        assert_eq!(heard, pattern(MEBIBYTE));
    });
    let mut host = Host::ready();
    let connection = host.connect(port, &pattern(MEBIBYTE));
    let carried = host.until_carried(connection, |carried| carried.ended);
    assert_eq!((carried.bytes.as_slice(), carried.reset), (&b"first"[..], false));
}

#[test]
fn nobody_at_the_port_is_told_at_once() {
    let mut host = Host::ready();
    let unused = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
    let connection = host.connect(unused, b"");
    let fault = host.until_carried(connection, |carried| carried.fault.is_some()).fault.clone().expect("refused");
    assert_eq!(fault.kind, FaultKind::ConnectionRefused);
    assert!(fault.message.contains(&unused.to_string()), "{}", fault.message);
}

#[test]
fn who_breaks_off_is_told_to_the_other_side() {
    // Closing with unread bytes is how a program breaks a connection off.
    let port = service("127.0.0.1:0", |mut client| client.read_exact(&mut [0]).expect("one byte"));
    let mut host = Host::ready();
    let connection = host.connect(port, &pattern(3 * CONNECTION_WINDOW_BYTES as usize));
    host.until_carried(connection, |carried| carried.reset);

    let port = service("127.0.0.1:0", |mut client| {
        client.write_all(b"x").expect("sent");
        let broke_off = client.read_to_end(&mut Vec::new()).expect_err("it broke off");
        assert_eq!(broke_off.kind(), std::io::ErrorKind::ConnectionReset);
        client_saw_it();
    });
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    SAW_IT.set(listener.local_addr().expect("bound").port()).expect("once");
    // So much that its end cannot have come before it is broken off.
    let connection = host.connect(port, &pattern(64 * MEBIBYTE));
    host.until_carried(connection, |carried| !carried.bytes.is_empty());
    host.say(&HostMessage::ConnectionReset { connection });
    listener.accept().expect("the service saw that the host broke off");
}

static SAW_IT: std::sync::OnceLock<u16> = std::sync::OnceLock::new();

fn client_saw_it() {
    TcpStream::connect(("127.0.0.1", *SAW_IT.get().expect("set"))).expect("somebody waits");
}

#[test]
fn slow_sides_hold_up_only_themselves() {
    let flood = service("127.0.0.1:0", |mut client| while client.write_all(&[7; 4096]).is_ok() {});
    let deaf = service("127.0.0.1:0", |client| {
        thread::sleep(Duration::from_secs(600));
        drop(client);
    });
    let port = service("127.0.0.1:0", echo);
    let mut host = Host::ready();
    let flooded = host.connect(flood, b"");
    host.connections.get_mut(&flooded).expect("ours").stalled = true;
    let unread = host.connect(deaf, &pattern(64 * MEBIBYTE));
    host.until_carried(flooded, |carried| carried.bytes.len() == CONNECTION_WINDOW_BYTES as usize);
    let sent = pattern(MEBIBYTE);
    let connection = host.connect(port, &sent);
    assert!(host.until_carried(connection, |carried| carried.ended).bytes == sent);
    assert_eq!(host.run(shell("echo goes on")).stdout, b"goes on\n");
    assert_eq!(host.connections[&flooded].bytes.len(), CONNECTION_WINDOW_BYTES as usize, "more than its credit");
    assert!(!host.connections[&unread].ended);
}

#[test]
fn very_many_go_at_once_and_not_more() {
    let port = service("127.0.0.1:0", echo);
    let mut host = Host::ready();
    let sent = pattern(3000);
    let all: Vec<ConnectionId> = (0..CONNECTIONS_MAX).map(|_| host.connect(port, &sent)).collect();
    let one_more = host.connect(port, b"");
    let fault = host.until_carried(one_more, |carried| carried.fault.is_some()).fault.clone().expect("refused");
    assert_eq!(fault.kind, FaultKind::LimitReached);
    for connection in all {
        assert!(host.until_carried(connection, |carried| carried.ended).bytes == sent);
    }
    let connection = host.connect(port, &sent);
    assert!(host.until_carried(connection, |carried| carried.ended).bytes == sent, "ended ones make room");
}

#[test]
fn a_session_takes_its_connections_along() {
    let port = service("127.0.0.1:0", echo);
    let mut host = Host::ready();
    let connection = host.connect(port, b"");
    host.until_carried(connection, |carried| carried.connected);
    assert!(host.hello("second", pyro_wire::version::ProtocolRange::OURS).is_some());
    let mut out = Vec::new();
    Frame::Connection { connection, bytes: b"late".to_vec() }.encode(&mut out).expect("short");
    host.send(&out);
    assert_eq!(host.run(shell("echo goes on")).stdout, b"goes on\n");
}

#[test]
fn a_host_that_floods_past_its_credit_loses_its_session() {
    let port = service("127.0.0.1:0", |client| {
        thread::sleep(Duration::from_secs(600));
        drop(client);
    });
    let mut host = Host::ready();
    let connection = host.connect(port, &pattern(CONNECTION_WINDOW_BYTES as usize + 1));
    host.until_carried(connection, |carried| carried.connected);
    let mut out = Vec::new();
    Frame::Connection { connection, bytes: vec![0; DATA_BYTES_MAX] }.encode(&mut out).expect("short");
    // The kernel takes some megabytes that nobody reads. The agent does not, and hangs up.
    host.flood(&out);
    assert!(host.wait().success());
}
