//! Looking for secrets in what a client has: it sends the bytes, and hears whose secrets are in them, never a value.

use std::io;

use pyro_wire::Stream;

use super::Vault;
use crate::supervisor::protocol::{ClientMessage, ServerMessage};
use crate::supervisor::socket::{FrameReader, FrameWriter, Received};

/// Looks through items until the client leaves; each ends with an empty data frame. With `cut` each comes back without the
/// secrets.
pub(in crate::supervisor) async fn look(
    vault: &Vault,
    cut: bool,
    mut reader: FrameReader,
    mut writer: FrameWriter,
) -> io::Result<()> {
    let mut stream = vault.stream();
    loop {
        let Received::Data(Stream::Stdin, bytes) = reader.next::<ClientMessage>().await? else { return Ok(()) };
        let is_end = bytes.is_empty();
        let passed = match &mut stream {
            Some(stream) if is_end => stream.finish(),
            Some(stream) => stream.push(&bytes),
            None => bytes,
        };
        if cut {
            // What stands for a secret may be longer than what it stands for.
            for part in passed.chunks(pyro_wire::frame::DATA_BYTES_MAX) {
                writer.data(Stream::Stdout, part.to_vec()).await?;
            }
        }
        if is_end {
            let found = stream.as_ref().map_or_else(Vec::new, |stream| vault.found(stream));
            writer.send(&ServerMessage::Looked { found }).await?;
            stream = vault.stream();
        }
    }
}
