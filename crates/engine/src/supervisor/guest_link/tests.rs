//! The link against a scripted peer that speaks the wire format itself: what an honest agent gets, and what a hostile one.

use std::collections::BTreeMap;

use pyro_wire::connection::CONNECTION_WINDOW_BYTES;
use pyro_wire::credit::{GIVE_BACK_BYTES, WINDOW_BYTES};
use pyro_wire::exec::{ExecRequest, Program};
use pyro_wire::frame::DATA_BYTES_MAX;
use pyro_wire::message::{Answer, Request};
use pyro_wire::version::ProtocolRange;
use pyro_wire::{ConnectionId, Decoder, ExecId, Exit, Fault, FaultKind, Frame, GuestMessage, HostMessage, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::{ConnectionEvent, ExecEvent, GuestLink, LinkError};

/// The guest's end of the stream, frame by frame.
struct Peer {
    stream: UnixStream,
    decoder: Decoder,
}

impl Peer {
    async fn frame(&mut self) -> Option<Frame> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return Some(frame);
            }
            match self.stream.read(&mut buffer).await.unwrap() {
                0 => return None,
                count => self.decoder.push(&buffer[..count]),
            }
        }
    }

    async fn message(&mut self) -> HostMessage {
        match self.frame().await {
            Some(Frame::Control(payload)) => HostMessage::decode(&payload).unwrap(),
            other => panic!("expected a message, got {other:?}"),
        }
    }

    async fn say(&mut self, message: GuestMessage) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes).unwrap();
        self.stream.write_all(&bytes).await.unwrap();
    }

    async fn data(&mut self, exec: ExecId, stream: Stream, bytes: &[u8]) {
        let mut out = Vec::new();
        Frame::Data { exec, stream, bytes: bytes.to_vec() }.encode(&mut out).unwrap();
        self.stream.write_all(&out).await.unwrap();
    }

    async fn welcome(&mut self) {
        let HostMessage::Hello { session, protocol } = self.message().await else { panic!("no hello") };
        let settled = protocol.settle(ProtocolRange::OURS);
        let agent_version = "test".to_owned();
        self.say(GuestMessage::Welcome { session, protocol: settled, speaks: ProtocolRange::OURS, agent_version })
            .await;
    }

    async fn carry(&mut self, connection: ConnectionId, bytes: &[u8]) {
        let mut out = Vec::new();
        Frame::Connection { connection, bytes: bytes.to_vec() }.encode(&mut out).unwrap();
        self.stream.write_all(&out).await.unwrap();
    }

    async fn connected(&mut self) -> ConnectionId {
        let HostMessage::Connect { connection, port: 8000 } = self.message().await else { panic!("no connection") };
        self.say(GuestMessage::Connected { connection }).await;
        connection
    }

    async fn started(&mut self) -> ExecId {
        let HostMessage::Exec { exec, .. } = self.message().await else { panic!("no exec") };
        self.say(GuestMessage::Started { exec, pid: 7 }).await;
        exec
    }
}

fn pair() -> (UnixStream, Peer) {
    let (host, guest) = UnixStream::pair().unwrap();
    (host, Peer { stream: guest, decoder: Decoder::new() })
}

async fn linked() -> (GuestLink, Peer) {
    let (host, mut peer) = pair();
    let (link, ()) = tokio::join!(GuestLink::open(host, "s1"), peer.welcome());
    (link.unwrap(), peer)
}

fn command(stdin: bool) -> ExecRequest {
    ExecRequest {
        program: Program::Argv(vec!["true".into()]),
        env: BTreeMap::new(),
        cwd: "/".into(),
        stdin,
        terminal: None,
        timeout_ms: None,
        whole: false,
    }
}

#[tokio::test]
async fn output_arrives_in_order_and_then_the_end() {
    let (link, mut peer) = linked().await;
    let (running, exec) = tokio::join!(link.exec(command(false)), peer.started());
    let mut running = running.unwrap();
    peer.data(exec, Stream::Stdout, b"out").await;
    peer.data(exec, Stream::Stderr, b"err").await;
    peer.say(GuestMessage::Exited { exec, exit: Exit::Code(3), duration_ms: 5 }).await;
    assert!(matches!(running.next().await, Some(ExecEvent::Output(Stream::Stdout, bytes)) if bytes == b"out"));
    assert!(matches!(running.next().await, Some(ExecEvent::Output(Stream::Stderr, bytes)) if bytes == b"err"));
    assert!(matches!(running.next().await, Some(ExecEvent::Exited { exit: Exit::Code(3), duration_ms: 5 })));
    assert!(running.next().await.is_none());
}

#[tokio::test]
async fn credit_is_given_back_only_for_what_was_taken() {
    let (link, mut peer) = linked().await;
    let (running, exec) = tokio::join!(link.exec(command(false)), peer.started());
    let mut running = running.unwrap();
    for _ in 0..WINDOW_BYTES as usize / DATA_BYTES_MAX {
        peer.data(exec, Stream::Stdout, &[0; DATA_BYTES_MAX]).await;
    }
    let mut taken = 0;
    let mut given = 0;
    while given < WINDOW_BYTES {
        let Some(ExecEvent::Output(_, bytes)) = running.next().await else { panic!("no output") };
        taken += bytes.len();
        if taken == GIVE_BACK_BYTES as usize {
            let HostMessage::Credit { bytes, stream: Stream::Stdout, .. } = peer.message().await else { panic!() };
            assert_eq!(bytes, GIVE_BACK_BYTES);
            given += bytes;
            taken = 0;
        }
    }
    assert_eq!(given, WINDOW_BYTES);
}

#[tokio::test]
async fn standard_input_waits_for_credit_and_an_ended_command_lets_it_go() {
    let (link, mut peer) = linked().await;
    let (running, exec) = tokio::join!(link.exec(command(true)), peer.started());
    let mut running = running.unwrap();
    let mut stdin = running.take_stdin().unwrap();
    let writer = tokio::spawn(async move {
        stdin.write(&vec![1; WINDOW_BYTES as usize + 1]).await?;
        stdin.close().await
    });
    let mut received = 0;
    while received < WINDOW_BYTES as usize {
        let Some(Frame::Data { bytes, stream: Stream::Stdin, .. }) = peer.frame().await else { panic!("no data") };
        received += bytes.len();
    }
    assert!(!writer.is_finished(), "sent more than its credit");
    peer.say(GuestMessage::Exited { exec, exit: Exit::Code(0), duration_ms: 0 }).await;
    writer.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_command_that_is_not_started_says_why_and_a_dropped_one_is_killed() {
    let (link, mut peer) = linked().await;
    let refuse = async {
        let HostMessage::Exec { exec, .. } = peer.message().await else { panic!("no exec") };
        let fault = Fault::new(FaultKind::ProgramNotFound, "no such program: true");
        peer.say(GuestMessage::NotStarted { exec, fault }).await;
    };
    let (refused, ()) = tokio::join!(link.exec(command(false)), refuse);
    assert!(matches!(refused, Err(LinkError::Fault(Fault { kind: FaultKind::ProgramNotFound, .. }))));

    let (running, exec) = tokio::join!(link.exec(command(false)), peer.started());
    drop(running.unwrap());
    assert_eq!(peer.message().await, HostMessage::Kill { exec });
}

#[tokio::test]
async fn everyone_who_waits_hears_of_the_end() {
    let (link, mut peer) = linked().await;
    let (running, _exec) = tokio::join!(link.exec(command(false)), peer.started());
    let mut running = running.unwrap();
    let vanish = async {
        peer.message().await;
        drop(peer);
    };
    let (answer, ()) = tokio::join!(link.request(Request::Sync), vanish);
    assert!(matches!(answer, Err(LinkError::Lost)));
    assert!(running.next().await.is_none());
    assert!(matches!(running.lost(), LinkError::Lost));
    assert!(matches!(link.exec(command(false)).await, Err(LinkError::Lost)));
}

#[tokio::test]
async fn answers_find_their_requests() {
    let (link, mut peer) = linked().await;
    let answer_both_reversed = async {
        let (HostMessage::Request { id: first, .. }, HostMessage::Request { id: second, .. }) =
            (peer.message().await, peer.message().await)
        else {
            panic!("no requests")
        };
        peer.say(GuestMessage::Reply { id: second, result: Err(Fault::new(FaultKind::Io, "disk")) }).await;
        peer.say(GuestMessage::Reply { id: first, result: Ok(Answer::Done) }).await;
    };
    let (one, two, ()) = tokio::join!(link.request(Request::Sync), link.request(Request::Sync), answer_both_reversed);
    assert!(matches!(one, Ok(Answer::Done)));
    assert!(matches!(two, Err(LinkError::Fault(Fault { kind: FaultKind::Io, .. }))));
}

#[tokio::test]
async fn the_directions_of_a_connection_flow_under_credit_and_end_apart() {
    let (link, mut peer) = linked().await;
    let (connection, id) = tokio::join!(link.connect(8000), peer.connected());
    let (mut reader, mut writer) = connection.unwrap();
    peer.carry(id, b"hello").await;
    peer.carry(id, b"").await;
    assert_eq!(reader.next().await, ConnectionEvent::Bytes(b"hello".to_vec()));
    assert_eq!(reader.next().await, ConnectionEvent::Ended);
    let writing = tokio::spawn(async move {
        writer.write(&vec![1; CONNECTION_WINDOW_BYTES as usize + 1]).await?;
        writer.close().await
    });
    let mut received = 0;
    while received < CONNECTION_WINDOW_BYTES as usize {
        let Some(Frame::Connection { bytes, .. }) = peer.frame().await else { panic!("no bytes") };
        received += bytes.len();
    }
    assert!(!writing.is_finished(), "sent more than its credit");
    peer.say(GuestMessage::ConnectionCredit { connection: id, bytes: CONNECTION_WINDOW_BYTES }).await;
    writing.await.unwrap().unwrap();
    for expected in [1, 0] {
        let Some(Frame::Connection { bytes, .. }) = peer.frame().await else { panic!("no bytes") };
        assert_eq!(bytes.len(), expected);
    }
    // It is over: nothing is said of it when its holder goes.
    drop(reader);
    let (running, exec) = tokio::join!(link.exec(command(false)), peer.started());
    drop(running);
    assert_eq!(peer.message().await, HostMessage::Kill { exec });
}

#[tokio::test]
async fn a_connection_that_breaks_is_told_to_whoever_has_it() {
    let (link, mut peer) = linked().await;
    let refuse = async {
        let HostMessage::Connect { connection, .. } = peer.message().await else { panic!("no connection") };
        let fault = Fault::new(FaultKind::ConnectionRefused, "nothing listens");
        peer.say(GuestMessage::NotConnected { connection, fault }).await;
    };
    let (refused, ()) = tokio::join!(link.connect(8000), refuse);
    assert!(matches!(refused, Err(LinkError::Fault(Fault { kind: FaultKind::ConnectionRefused, .. }))));

    let (connection, id) = tokio::join!(link.connect(8000), peer.connected());
    let (mut reader, mut writer) = connection.unwrap();
    peer.say(GuestMessage::ConnectionReset { connection: id }).await;
    assert_eq!(reader.next().await, ConnectionEvent::Reset);
    assert!(writer.write(b"too late").await.is_err());

    let (connection, id) = tokio::join!(link.connect(8000), peer.connected());
    drop(connection.unwrap());
    assert_eq!(peer.message().await, HostMessage::ConnectionReset { connection: id });

    let (connection, _) = tokio::join!(link.connect(8000), peer.connected());
    let (mut reader, _writer) = connection.unwrap();
    drop(peer);
    assert_eq!(reader.next().await, ConnectionEvent::Reset);
}

#[tokio::test]
async fn a_guest_that_floods_a_connection_loses_the_session() {
    let (link, mut peer) = linked().await;
    let (connection, id) = tokio::join!(link.connect(8000), peer.connected());
    let _connection = connection.unwrap();
    let mut out = Vec::new();
    Frame::Connection { connection: id, bytes: vec![0; DATA_BYTES_MAX] }.encode(&mut out).unwrap();
    while peer.stream.write_all(&out).await.is_ok() {}
    assert!(matches!(link.request(Request::Sync).await, Err(LinkError::Protocol { .. })));
}

/// A session that begins well, and then gets these bytes, ends with a protocol error.
#[track_caller]
fn check_hostile(bytes: Vec<u8>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (link, mut peer) = linked().await;
        let (running, exec) = tokio::join!(link.exec(command(false)), peer.started());
        assert_eq!(exec, ExecId(1), "the attacks below name command 1");
        let mut running = running.unwrap();
        // The link may hang up before it has taken everything.
        drop(peer.stream.write_all(&bytes).await);
        while running.next().await.is_some() {}
        assert!(matches!(running.lost(), LinkError::Protocol { .. }), "{:?}", running.lost());
    });
}

fn data(stream: Stream, length: usize) -> Vec<u8> {
    let mut out = Vec::new();
    Frame::Data { exec: ExecId(1), stream, bytes: vec![0; length] }.encode(&mut out).unwrap();
    out
}

fn said(message: &GuestMessage) -> Vec<u8> {
    let mut out = Vec::new();
    message.encode(&mut out).unwrap();
    out
}

#[test]
fn hostile_bytes_end_the_session() {
    check_hostile(b"GET / HTTP/1.1\r\n".to_vec());
    check_hostile(data(Stream::Stdin, 1));
    check_hostile([data(Stream::Stdout, 0), data(Stream::Stdout, 1)].concat());
    check_hostile(said(&GuestMessage::Credit { exec: ExecId(1), bytes: 1 }));
    check_hostile(said(&GuestMessage::Welcome {
        session: "s1".to_owned(),
        protocol: Some(1),
        speaks: ProtocolRange::OURS,
        agent_version: String::new(),
    }));
    let mut deep = Vec::new();
    Frame::Control(vec![b'['; 100_000]).encode(&mut deep).unwrap();
    check_hostile(deep);
}

#[tokio::test]
async fn a_flood_past_the_credit_ends_the_session() {
    let (link, mut peer) = linked().await;
    let (running, exec) = tokio::join!(link.exec(command(false)), peer.started());
    let mut running = running.unwrap();
    let flood = async {
        let mut out = Vec::new();
        Frame::Data { exec, stream: Stream::Stdout, bytes: vec![0; DATA_BYTES_MAX] }.encode(&mut out).unwrap();
        while peer.stream.write_all(&out).await.is_ok() {}
    };
    // Nobody takes the output, so no credit is given back, and the peer goes on all the same.
    flood.await;
    while running.next().await.is_some() {}
    assert!(matches!(running.lost(), LinkError::Protocol { .. }));
}

#[tokio::test]
async fn a_peer_of_another_age_is_told_apart() {
    let (host, mut peer) = pair();
    let theirs = ProtocolRange { oldest: 7, newest: 9 };
    let answer = async {
        let HostMessage::Hello { session, .. } = peer.message().await else { panic!("no hello") };
        let agent_version = "9.0.0".to_owned();
        peer.say(GuestMessage::Welcome { session, protocol: None, speaks: theirs, agent_version }).await;
    };
    let (link, ()) = tokio::join!(GuestLink::open(host, "s1"), answer);
    assert!(matches!(link, Err(LinkError::Version { agent, .. }) if agent == theirs));
}
