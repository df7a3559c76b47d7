//! The socket between clients and a supervisor: where it is bound, and frames over it.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pyro_wire::{Decoder, Frame, Stream};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};

use super::protocol::ONLY_EXEC;

/// Bytes taken from the socket at a time.
const READ_BYTES: usize = 128 * 1024;

/// How long a supervisor may take to accept those who wait, before one more is told that it does not answer.
const CROWD_LIMIT: Duration = Duration::from_secs(30);

/// How often a connection that the kernel did not take is tried again.
const RETRY_EVERY: Duration = Duration::from_millis(10);

/// Binds the socket at `path`, in place of one that a dead supervisor left. Only its owner may connect.
///
/// # Errors
/// As the system calls.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let (_dir, short) = short_path(path)?;
    let listener = UnixListener::bind(&short)?;
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(listener)
}

/// Connects to the socket at `path`. Where so many wait to be accepted that the kernel takes no more, it is tried again.
///
/// # Errors
/// As `connect`: nobody listens, or nobody did.
pub async fn connect(path: &Path) -> io::Result<(FrameReader, FrameWriter)> {
    let (_dir, short) = short_path(path)?;
    let begun = Instant::now();
    loop {
        match UnixStream::connect(&short).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && begun.elapsed() < CROWD_LIMIT => {
                tokio::time::sleep(RETRY_EVERY).await;
            }
            connected => return Ok(split(connected?)),
        }
    }
}

/// Frames in both directions over a connection.
pub(crate) fn split(stream: UnixStream) -> (FrameReader, FrameWriter) {
    let (reader, writer) = stream.into_split();
    (FrameReader { reader, decoder: Decoder::new(), buffer: vec![0; READ_BYTES] }, FrameWriter { writer })
}

/// The name of a socket may have 107 bytes at most, a path far more: the directory is named by its descriptor.
fn short_path(path: &Path) -> io::Result<(File, PathBuf)> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let dir = File::open(parent)?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name);
    Ok((dir, short))
}

/// What came over a connection.
#[derive(Debug)]
pub enum Received<M> {
    /// A message.
    Message(M),
    /// Bytes of a command's stream; empty at its end.
    Data(Stream, Vec<u8>),
    /// The other side is gone.
    End,
}

/// The receiving half of a connection.
#[derive(Debug)]
pub struct FrameReader {
    reader: OwnedReadHalf,
    decoder: Decoder,
    buffer: Vec<u8>,
}

/// The sending half of a connection.
#[derive(Debug)]
pub struct FrameWriter {
    writer: OwnedWriteHalf,
}

impl FrameReader {
    /// The next thing that comes. Cancel-safe.
    ///
    /// # Errors
    /// The other side does not speak the protocol.
    pub async fn next<M: DeserializeOwned>(&mut self) -> io::Result<Received<M>> {
        loop {
            match self.decoder.next_frame().map_err(io::Error::other)? {
                Some(Frame::Control(json)) => return Ok(Received::Message(serde_json::from_slice(&json)?)),
                Some(Frame::Data { stream, bytes, .. }) => return Ok(Received::Data(stream, bytes)),
                Some(Frame::Connection { .. }) => return Err(io::Error::other("a frame of a connection")),
                None => {}
            }
            match self.reader.read(&mut self.buffer).await {
                Ok(0) | Err(_) => return Ok(Received::End),
                Ok(count) => self.decoder.push(&self.buffer[..count]),
            }
        }
    }
}

impl FrameWriter {
    /// Sends a message.
    ///
    /// # Errors
    /// The other side is gone; [`io::ErrorKind::InvalidInput`] if the message is longer than a frame.
    pub async fn send(&mut self, message: &impl Serialize) -> io::Result<()> {
        let json = serde_json::to_vec(message)?;
        self.frame(&Frame::Control(json)).await
    }

    /// Sends bytes of a command's stream; none at its end.
    ///
    /// # Errors
    /// The other side is gone.
    pub async fn data(&mut self, stream: Stream, bytes: Vec<u8>) -> io::Result<()> {
        self.frame(&Frame::Data { exec: ONLY_EXEC, stream, bytes }).await
    }

    async fn frame(&mut self, frame: &Frame) -> io::Result<()> {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        self.writer.write_all(&bytes).await
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::{RETRY_EVERY, Received, connect, listen, split};
    use crate::supervisor::protocol::{Ask, ClientMessage};

    #[tokio::test]
    async fn whoever_finds_a_crowd_waits() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = listen(&path).unwrap();
        // From here on the kernel lets one wait to be accepted, and no more.
        rustix::net::listen(&listener, 0).unwrap();
        let clients: Vec<_> = (0..5)
            .map(|_| {
                tokio::spawn({
                    let path = path.clone();
                    async move { connect(&path).await.map(drop) }
                })
            })
            .collect();
        tokio::time::sleep(RETRY_EVERY * 3).await;
        assert!(clients.iter().any(|client| !client.is_finished()), "nobody had to wait");
        for client in clients {
            while !client.is_finished() {
                drop(tokio::time::timeout(RETRY_EVERY, listener.accept()).await);
            }
            client.await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn a_path_of_any_length_is_bound_and_only_for_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("x".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let path = deep.join("socket");
        std::fs::write(&path, "left by a dead one").unwrap();
        let listener = listen(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        let (_, mut writer) = connect(&path).await.unwrap();
        let asked = ClientMessage::Ask { protocol: 1, ask: Ask::Status };
        writer.send(&asked).await.unwrap();
        drop(writer);
        let (mut reader, _writer) = split(listener.accept().await.unwrap().0);
        assert!(matches!(reader.next::<ClientMessage>().await.unwrap(), Received::Message(heard) if heard == asked));
        assert!(matches!(reader.next::<ClientMessage>().await.unwrap(), Received::End));
    }
}
