//! A guest's output kept in a bounded memory, to be reported.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;

/// Bytes kept from the beginning and from the end of a captured stream.
const CAPTURE_HALF_BYTES: usize = 512 * 1024;

/// The same for a command in a list of many.
const SHORT_HALF_BYTES: usize = 8 * 1024;

/// Keeps the beginning and the end of a stream, and counts what lies between.
#[derive(Debug)]
pub(crate) struct Capture {
    half_bytes: usize,
    head: Vec<u8>,
    tail: VecDeque<u8>,
    total_bytes: u64,
}

impl Default for Capture {
    fn default() -> Self {
        Self { half_bytes: CAPTURE_HALF_BYTES, head: Vec::new(), tail: VecDeque::new(), total_bytes: 0 }
    }
}

impl Capture {
    /// One that keeps little.
    pub(crate) fn short() -> Self {
        Self { half_bytes: SHORT_HALF_BYTES, ..Self::default() }
    }

    /// How many bytes the stream had.
    pub(crate) fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// How much of the middle was not kept, and where in what was kept it is missing.
    pub(crate) fn gap(&self) -> Option<(usize, u64)> {
        let left_out = self.total_bytes - (self.head.len() + self.tail.len()) as u64;
        (left_out > 0).then_some((self.head.len(), left_out))
    }

    /// What was kept, and whether that is all.
    pub(crate) fn into_bytes(self) -> (Vec<u8>, bool) {
        let mut bytes = self.head;
        bytes.extend(self.tail);
        let whole = bytes.len() as u64 == self.total_bytes;
        (bytes, whole)
    }

    /// Takes more of the stream.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.total_bytes += bytes.len() as u64;
        let (head, rest) = bytes.split_at(bytes.len().min(self.half_bytes - self.head.len()));
        self.head.extend_from_slice(head);
        self.tail.extend(rest);
        let surplus = self.tail.len().saturating_sub(self.half_bytes);
        self.tail.drain(..surplus);
    }
}

/// A capture that more than one stream goes into, as they come.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shared(Arc<Mutex<Capture>>);

impl Shared {
    /// What was captured.
    pub(crate) fn into_capture(self) -> Capture {
        std::mem::take(&mut self.capture())
    }

    fn capture(&self) -> MutexGuard<'_, Capture> {
        // A capture is whole between any two bytes.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsyncWrite for Shared {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.capture().push(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Capture {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.push(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::{CAPTURE_HALF_BYTES, Capture};

    #[test]
    fn a_short_stream_is_kept_whole() {
        let mut capture = Capture::default();
        capture.push(b"one ");
        capture.push(b"two");
        assert_eq!(capture.gap(), None);
        assert_eq!(capture.into_bytes(), (b"one two".to_vec(), true));
    }

    #[test]
    fn a_long_stream_keeps_its_ends() {
        let mut capture = Capture::default();
        capture.push(b"begin");
        for _ in 0..CAPTURE_HALF_BYTES {
            capture.push(b"xyz");
        }
        capture.push(b"end");
        assert_eq!(capture.total_bytes(), 8 + 3 * CAPTURE_HALF_BYTES as u64);
        assert_eq!(capture.gap(), Some((CAPTURE_HALF_BYTES, 8 + CAPTURE_HALF_BYTES as u64)));
        let (bytes, whole) = capture.into_bytes();
        assert_eq!((bytes.len(), whole), (2 * CAPTURE_HALF_BYTES, false));
        assert!(bytes.starts_with(b"beginxyz") && bytes.ends_with(b"xyzend"));
    }
}
