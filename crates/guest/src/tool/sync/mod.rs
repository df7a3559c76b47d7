//! Bringing a directory up to date: listing and hashing what is there, and putting what comes.

mod destination;
mod inventory;
mod receive;

pub(crate) use inventory::{digests, inventory};
pub(crate) use receive::receive;

use std::io::{BufRead, Read};

use pyro_wire::sync::INPUT_LINE_BYTES_MAX;
use pyro_wire::{Fault, FaultKind};
use serde::de::DeserializeOwned;

/// The next line of input; none at its end.
fn next_line<T: DeserializeOwned>(input: &mut impl BufRead) -> Result<Option<T>, Fault> {
    let mut line = Vec::new();
    input.take(INPUT_LINE_BYTES_MAX as u64).read_until(b'\n', &mut line).map_err(|error| broken(&error.to_string()))?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.pop() != Some(b'\n') {
        return Err(broken("a line has no end"));
    }
    serde_json::from_slice(&line).map(Some).map_err(|error| broken(&error.to_string()))
}

fn broken(reason: &str) -> Fault {
    Fault::new(FaultKind::InvalidArgument, format!("what was sent cannot be read: {reason}"))
}
