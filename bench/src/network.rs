//! Rows of networks: bytes and names through a guest's network, beside the same over a plain loopback socket.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use anyhow::Result;

use crate::bed::Bed;
use crate::sample::Measured;
use crate::workspaces::{Workspace, repeated, samples};

/// Bytes of one stream.
const STREAM_BYTES: usize = 64 << 20;

/// Bytes of each of many streams.
const SMALL_STREAM_BYTES: usize = 256 << 10;

/// Streams at once.
const STREAMS: usize = 100;

/// Names that are asked for, one after another.
const NAMES: usize = 500;

/// One stream into a guest.
pub(crate) fn stream(bed: &Bed) -> Result<Measured> {
    fetched(bed, STREAM_BYTES, |url| format!("curl -sSf -o /dev/null {url}"))
}

/// A hundred at once.
pub(crate) fn streams(bed: &Bed) -> Result<Measured> {
    fetched(bed, SMALL_STREAM_BYTES, |url| {
        format!("curl -sSf --parallel --parallel-max {STREAMS} -o /dev/null '{url}?[1-{STREAMS}]'")
    })
}

/// Questions for a name, one after another.
pub(crate) fn names(bed: &Bed) -> Result<Measured> {
    let workspace = networked(bed, 1)?;
    let script =
        format!("python3 -c 'import socket\nfor _ in range({NAMES}): socket.gethostbyname(\"host.pyro.internal\")'");
    repeated(bed, || workspace.exec(&script))
}

/// The same bytes as one stream, over the loopback of this host.
pub(crate) fn loopback_stream(bed: &Bed) -> Result<Measured> {
    over_loopback(bed, STREAM_BYTES, 1)
}

/// The same as a hundred at once.
pub(crate) fn loopback_streams(bed: &Bed) -> Result<Measured> {
    over_loopback(bed, SMALL_STREAM_BYTES, STREAMS)
}

fn networked(bed: &Bed, port: u16) -> Result<Workspace<'_>> {
    let opened = format!("host.pyro.internal:{port}");
    let flags = ["--network-policy", "egress", "--allow-host", &opened];
    Workspace::create_with(bed, &flags.map(OsStr::new))
}

fn fetched(bed: &Bed, bytes: usize, script: impl Fn(&str) -> String) -> Result<Measured> {
    let port = server(bytes)?;
    let workspace = networked(bed, port)?;
    let script = script(&format!("http://host.pyro.internal:{port}/"));
    repeated(bed, || workspace.exec(&script))
}

fn over_loopback(bed: &Bed, bytes: usize, streams: usize) -> Result<Measured> {
    let port = server(bytes)?;
    samples(bed, || {
        let started = std::time::Instant::now();
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..streams).map(|_| scope.spawn(|| fetch(port))).collect();
            all.into_iter().try_for_each(|one| one.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a thread panicked"))))
        })?;
        Ok(started.elapsed().as_secs_f64() * 1000.0)
    })
}

fn fetch(port: u16) -> Result<()> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    std::io::copy(&mut stream, &mut std::io::sink())?;
    Ok(())
}

/// Gives everyone so many bytes, until the benchmark ends.
fn server(bytes: usize) -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Whoever went away needs no bytes.
            std::thread::spawn(move || drop(serve(stream, bytes)));
        }
    });
    Ok(port)
}

fn serve(mut stream: TcpStream, bytes: usize) -> std::io::Result<()> {
    let _ = stream.read(&mut [0; 4096])?;
    write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {bytes}\r\n\r\n")?;
    std::io::copy(&mut std::io::repeat(b'x').take(bytes as u64), &mut stream).map(drop)
}
