//! Rows of what is present: published ports beside a plain loopback socket, the moments of a service's life, and other calls while
//! something prints without end.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::bed::{Bed, ended_well};
use crate::sample::Measured;
use crate::workspaces::{Workspace, milliseconds, repeated, samples};

/// Bytes of one stream.
const STREAM_BYTES: usize = 256 << 20;

/// Bytes that are written at a time.
const PIECE_BYTES: usize = 64 << 10;

/// What a client says first.
const GIVE: u8 = b'g';
const TAKE: u8 = b't';
const CRASH: u8 = b'c';

/// Bytes of a flood after which it has used up what it may print at once: what follows is the rule.
const FLOOD_BYTES: u64 = 8_000_000;

/// Longest wait for what always comes.
const PATIENCE: Duration = Duration::from_secs(120);

/// The guest's end: gives so many bytes, or takes as many and says that it has, or dies.
const SERVER: &str = r#"
import os, socket, sys
count, piece = int(sys.argv[1]), 65536
server = socket.create_server(("127.0.0.1", 7000))
block = bytes(piece)
while True:
    client, _ = server.accept()
    wish = client.recv(1)
    if wish == b"c":
        os._exit(3)
    if wish == b"g":
        for _ in range(count // piece):
            client.sendall(block)
    # Whoever only looks whether somebody listens wishes for nothing.
    if wish == b"t":
        room, left = bytearray(piece), count
        while left:
            left -= client.recv_into(room) or left
        client.sendall(b"k")
    client.close()
"#;

/// One stream out of a guest through a published port.
pub(crate) fn port_out(bed: &Bed) -> Result<Measured> {
    let (_workspace, port) = served(bed)?;
    samples(bed, || timed(port, take))
}

/// One into a guest.
pub(crate) fn port_in(bed: &Bed) -> Result<Measured> {
    let (_workspace, port) = served(bed)?;
    samples(bed, || timed(port, give))
}

/// The same from one end of a plain socket of this host to the other.
pub(crate) fn loopback(bed: &Bed) -> Result<Measured> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            // Whoever went away needs no bytes.
            drop(client.read_exact(&mut [0]).and_then(|()| pour(&mut client)));
        }
    });
    samples(bed, || timed(port, take))
}

/// From the start of a web server to its readiness, whole process.
pub(crate) fn start(bed: &Bed) -> Result<Measured> {
    let workspace = Workspace::create(bed, None)?;
    let start = |name: &str| {
        let probe = ["--ready-tcp", "localhost:8000", "--ready-interval-ms", "50", "--ready-timeout-seconds", "90"];
        let server = ["--", "python3", "-m", "http.server", "8000"];
        workspace.verb_of("service", "start", &[&[name], &probe[..], &server[..]].concat())
    };
    // The first one pays for the translation of what runs for the first time.
    bed.timed(start("web"))?;
    samples(bed, || {
        bed.timed(workspace.verb_of("service", "stop", &["web"]))?;
        let started = Instant::now();
        bed.timed(start("web"))?;
        Ok(milliseconds(started))
    })
}

/// From the crash of a service until `service status` tells it. The service dies of what comes through its port.
pub(crate) fn crash(bed: &Bed) -> Result<Measured> {
    let (workspace, port) = served(bed)?;
    samples(bed, || {
        let started = Instant::now();
        connect(port)?.write_all(&[CRASH])?;
        while state(&workspace)?["state"] != "exited" {
            ensure!(started.elapsed() < PATIENCE, "a service that crashed is not seen to have");
        }
        let taken = milliseconds(started);
        bed.timed(workspace.verb_of("service", "restart", &["server"]))?;
        Ok(taken)
    })
}

/// `service stop` of one that ends when it is asked to, whole process.
pub(crate) fn stop(bed: &Bed) -> Result<Measured> {
    let workspace = Workspace::create(bed, None)?;
    samples(bed, || {
        bed.timed(workspace.verb_of("service", "start", &["idle", "--", "sleep", "100000"]))?;
        let started = Instant::now();
        bed.timed(workspace.verb_of("service", "stop", &["idle"]))?;
        Ok(milliseconds(started))
    })
}

/// `workspace exec -- true` while a shell prints without end.
pub(crate) fn exec_beside_shell(bed: &Bed) -> Result<Measured> {
    let workspace = Workspace::create(bed, None)?;
    bed.timed(workspace.verb_of("shell", "open", &[]))?;
    bed.timed(workspace.verb_of("shell", "write", &["s1", "--input", "yes a line of a flood"]))?;
    let flooded = FLOOD_BYTES.to_string();
    let wait = ["s1", "--cursor", &flooded, "--wait-for", ".", "--timeout-seconds", "600"];
    bed.timed(workspace.verb_of("shell", "read", &wait))?;
    repeated(bed, || workspace.verb("exec", &["--", "true"]))
}

/// The same while a service does.
pub(crate) fn exec_beside_service(bed: &Bed) -> Result<Measured> {
    let workspace = flooded(bed)?;
    repeated(bed, || workspace.verb("exec", &["--", "true"]))
}

/// `service status` meanwhile.
pub(crate) fn status_beside_service(bed: &Bed) -> Result<Measured> {
    let workspace = flooded(bed)?;
    repeated(bed, || workspace.verb_of("service", "status", &["flood"]))
}

/// A workspace in which a service prints without end.
fn flooded(bed: &Bed) -> Result<Workspace<'_>> {
    let workspace = Workspace::create(bed, None)?;
    bed.timed(workspace.verb_of("service", "start", &["flood", "--", "yes", "a line of a flood"]))?;
    let started = Instant::now();
    loop {
        let mut logs = workspace.verb_of("service", "logs", &["flood", "--tail-lines", "1", "--json"]);
        if json(&mut logs)?["to_byte"].as_u64() > Some(FLOOD_BYTES) {
            return Ok(workspace);
        }
        ensure!(started.elapsed() < PATIENCE, "this is no flood");
        thread::sleep(Duration::from_millis(100));
    }
}

/// A workspace with the server in it, and the port of this host that leads there.
fn served(bed: &Bed) -> Result<(Workspace<'_>, u16)> {
    let policy = ["--network-policy", "egress+published-ports"];
    let workspace = Workspace::create_with(bed, &policy.map(OsStr::new))?;
    bed.timed(workspace.verb_of("file", "write", &["server.py", "--text", SERVER]))?;
    let count = STREAM_BYTES.to_string();
    let probe = ["server", "--ready-tcp", "localhost:7000", "--ready-timeout-seconds", "90", "--publish", "7000"];
    let server = ["--json", "--", "python3", "server.py", &count];
    let started = json(&mut workspace.verb_of("service", "start", &[&probe[..], &server[..]].concat()))?;
    let port = started["ports"][0]["host_port"].as_u64().and_then(|port| u16::try_from(port).ok());
    Ok((workspace, port.context("a port was published")?))
}

fn state(workspace: &Workspace<'_>) -> Result<Value> {
    json(&mut workspace.verb_of("service", "status", &["server", "--json"]))
}

fn json(command: &mut std::process::Command) -> Result<Value> {
    let output = command.stdin(Stdio::null()).output()?;
    ended_well(&output)?;
    serde_json::from_slice(&output.stdout).context("--json is JSON")
}

fn connect(port: u16) -> Result<TcpStream> {
    Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, port))?)
}

fn timed(port: u16, carry: impl Fn(TcpStream) -> Result<()>) -> Result<f64> {
    let started = Instant::now();
    carry(connect(port)?)?;
    Ok(milliseconds(started))
}

/// Has the other end give all its bytes.
fn take(mut stream: TcpStream) -> Result<()> {
    stream.write_all(&[GIVE])?;
    let count = std::io::copy(&mut stream, &mut std::io::sink())?;
    ensure!(count == STREAM_BYTES as u64, "{count} of {STREAM_BYTES} bytes came");
    Ok(())
}

/// Gives the other end all it takes, and waits until it says that it has.
fn give(mut stream: TcpStream) -> Result<()> {
    stream.write_all(&[TAKE])?;
    pour(&mut stream)?;
    stream.shutdown(Shutdown::Write)?;
    let mut said = [0];
    stream.read_exact(&mut said)?;
    ensure!(said == *b"k", "the guest said {said:?}");
    Ok(())
}

fn pour(stream: &mut TcpStream) -> std::io::Result<()> {
    let piece = vec![0; PIECE_BYTES];
    (0..STREAM_BYTES / PIECE_BYTES).try_for_each(|_| stream.write_all(&piece))
}
