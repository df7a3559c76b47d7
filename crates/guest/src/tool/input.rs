//! What a tool reads from standard input.

use std::io::Read;

use pyro_wire::{Fault, FaultKind};

/// All of the input, which must be exactly as long as was announced: what was cut on its way is not acted on.
pub(crate) fn exactly(input: impl Read, size_bytes: u64) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    input
        .take(size_bytes.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|error| Fault::new(FaultKind::Io, format!("cannot read what was sent: {error}")))?;
    if bytes.len() as u64 == size_bytes {
        return Ok(bytes);
    }
    let relation = if bytes.len() as u64 > size_bytes { "more than" } else { "less than" };
    Err(Fault::new(FaultKind::InvalidArgument, format!("{relation} the announced {size_bytes} bytes were sent")))
}
