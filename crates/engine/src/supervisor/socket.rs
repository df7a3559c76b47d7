//! The socket between clients and a supervisor: where it is bound, and frames over it.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use pyro_wire::{Decoder, Frame, Stream};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};

use super::protocol::ONLY_EXEC;

/// Bytes taken from the socket at a time.
const READ_BYTES: usize = 128 * 1024;

/// Binds the socket at `path`, in place of one that a dead supervisor left. Only its owner may connect.
///
/// # Errors
/// As the system calls.
pub(super) fn listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let (_dir, short) = short_path(path)?;
    let listener = UnixListener::bind(&short)?;
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(listener)
}

/// Connects to the socket at `path`.
///
/// # Errors
/// As `connect`: nobody listens, or nobody did.
pub async fn connect(path: &Path) -> io::Result<(FrameReader, FrameWriter)> {
    let (_dir, short) = short_path(path)?;
    Ok(split(UnixStream::connect(&short).await?))
}

/// Frames in both directions over a connection.
pub(super) fn split(stream: UnixStream) -> (FrameReader, FrameWriter) {
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
    /// The other side is gone.
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
        frame.encode(&mut bytes).map_err(io::Error::other)?;
        self.writer.write_all(&bytes).await
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::{Received, connect, listen, split};
    use crate::supervisor::protocol::{Ask, ClientMessage};

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
