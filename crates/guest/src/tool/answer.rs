//! What a tool says on standard output: lines of JSON, and raw bytes announced by them.

use std::io::{BufWriter, Write};

use pyro_wire::{Fault, FaultKind};
use serde::Serialize;

const BUFFER_BYTES: usize = 64 * 1024;

/// The answer of a tool in the making.
#[derive(Debug)]
pub(crate) struct Answer<W: Write> {
    out: BufWriter<W>,
}

impl<W: Write> Answer<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out: BufWriter::with_capacity(BUFFER_BYTES, out) }
    }

    /// One value on a line of its own.
    pub(crate) fn line(&mut self, value: &impl Serialize) -> Result<(), Fault> {
        let json = serde_json::to_vec(value)
            .map_err(|error| Fault::new(FaultKind::Defect, format!("an answer is no JSON: {error}")))?;
        self.raw(&json)?;
        self.raw(b"\n")
    }

    /// Bytes as they are; the line before says how many.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.out.write_all(bytes).map_err(|error| unheard(&error))
    }

    /// Sends what is left.
    pub(crate) fn finish(mut self) -> Result<(), Fault> {
        self.out.flush().map_err(|error| unheard(&error))
    }
}

fn unheard(error: &std::io::Error) -> Fault {
    Fault::new(FaultKind::Io, format!("cannot write the answer: {error}"))
}
