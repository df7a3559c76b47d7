//! Frames over the stream to the hypervisor: each behind its length, four bytes, the most significant first.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Instant;

use tokio::io::Interest;
use tokio::net::UnixStream;

use super::Shared;
use crate::limits::FRAME_BYTES_MAX;

const LENGTH_BYTES: usize = 4;

/// Bytes that are read at once: a few of the longest frames.
const READ_BYTES: usize = 4 * (LENGTH_BYTES + FRAME_BYTES_MAX);

/// Frames that are written at once.
const WRITE_FRAMES: usize = 32;

/// Carries frames both ways until the stream ends.
///
/// # Errors
/// The stream ended, or what comes over it is no frame.
pub(super) async fn carry(shared: &Arc<Shared>, stream: UnixStream) -> io::Result<()> {
    let mut reader = Reader { buffer: vec![0; READ_BYTES], filled: 0 };
    let mut writer = Writer::default();
    loop {
        // Output first: what waits for room can go on while the input is worked on.
        while writer.write(shared, &stream)? {}
        let interest = if writer.is_waiting() { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        tokio::select! {
            ready = stream.ready(interest) => {
                if ready?.is_readable() {
                    reader.read(shared, &stream)?;
                    // Connections get their turn between two reads of a guest that never stops sending.
                    tokio::task::yield_now().await;
                }
            }
            () = shared.output.notified() => {}
        }
    }
}

struct Reader {
    buffer: Vec<u8>,
    filled: usize,
}

impl Reader {
    fn read(&mut self, shared: &Arc<Shared>, stream: &UnixStream) -> io::Result<()> {
        match stream.try_read(&mut self.buffer[self.filled..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => self.filled += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
        let mut at = 0;
        let now = Instant::now();
        while let Some(frame) = next_frame(&self.buffer[at..self.filled])? {
            at += LENGTH_BYTES + frame.len();
            shared.with(|stack| stack.input(frame, now));
        }
        self.buffer.copy_within(at..self.filled, 0);
        self.filled -= at;
        Ok(())
    }
}

/// The frame at the front of `bytes`, when all of it is there.
fn next_frame(bytes: &[u8]) -> io::Result<Option<&[u8]>> {
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(io::Error::other)?;
    // The hypervisor frames what the guest sends, so this is not the guest's doing alone.
    if length > READ_BYTES - LENGTH_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(rest.get(..length))
}

/// Frames that were taken from the stack, and how far they were written.
#[derive(Default)]
struct Writer {
    frames: Vec<([u8; LENGTH_BYTES], Vec<u8>)>,
    written: usize,
}

impl Writer {
    fn is_waiting(&self) -> bool {
        !self.frames.is_empty()
    }

    /// Writes some; whether there may be more to write at once.
    fn write(&mut self, shared: &Arc<Shared>, stream: &UnixStream) -> io::Result<bool> {
        if self.frames.is_empty() {
            let mut stack = shared.stack();
            while self.frames.len() < WRITE_FRAMES
                && let Some(frame) = stack.output().pop_front()
            {
                let length = u32::try_from(frame.len()).unwrap_or(0).to_be_bytes();
                self.frames.push((length, frame));
            }
        }
        if self.frames.is_empty() {
            return Ok(false);
        }
        let mut slices: Vec<IoSlice<'_>> =
            self.frames.iter().flat_map(|(length, frame)| [IoSlice::new(length), IoSlice::new(frame)]).collect();
        let mut rest = &mut slices[..];
        IoSlice::advance_slices(&mut rest, self.written);
        match stream.try_write_vectored(rest) {
            Ok(count) => self.written += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
        let mut taken = 0;
        let mut done = 0;
        for (_, frame) in &self.frames {
            let bytes = LENGTH_BYTES + frame.len();
            if self.written < bytes {
                break;
            }
            self.written -= bytes;
            taken += frame.len();
            done += 1;
        }
        self.frames.drain(..done);
        shared.stack().output_taken(taken);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::{READ_BYTES, next_frame};

    #[test]
    fn frames_are_found_when_they_are_whole() {
        assert_eq!(next_frame(&[0, 0, 0]).unwrap(), None);
        assert_eq!(next_frame(&[0, 0, 0, 2, 7]).unwrap(), None);
        assert_eq!(next_frame(&[0, 0, 0, 2, 7, 8, 9]).unwrap(), Some(&[7, 8][..]));
        assert_eq!(next_frame(&[0, 0, 0, 0]).unwrap(), Some(&[][..]));
        assert!(next_frame(&u32::try_from(READ_BYTES).unwrap().to_be_bytes()).is_err());
    }
}
