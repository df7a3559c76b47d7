//! The link as the TCP stack sees it: at most one packet comes in at a time, and frames go out into a bounded queue.

use std::collections::VecDeque;

use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

use crate::limits::{MTU_BYTES, OUTPUT_BYTES_MAX};
use crate::packet;

/// Frames on their way to the guest.
#[derive(Debug, Default)]
pub(super) struct Output {
    frames: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl Output {
    /// Queues a frame. One that comes when far too much is waiting is lost, as on any link.
    pub(super) fn push(&mut self, frame: Vec<u8>) {
        if self.bytes <= 2 * OUTPUT_BYTES_MAX {
            self.bytes += frame.len();
            self.frames.push_back(frame);
        }
    }

    /// Whether senders that can wait must wait.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= OUTPUT_BYTES_MAX
    }

    pub(super) fn frames(&mut self) -> &mut VecDeque<Vec<u8>> {
        &mut self.frames
    }

    pub(super) fn taken(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// The link for one turn of the stack.
pub(super) struct Link<'a> {
    incoming: Option<&'a [u8]>,
    output: &'a mut Output,
}

impl<'a> Link<'a> {
    pub(super) fn new(incoming: Option<&'a [u8]>, output: &'a mut Output) -> Self {
        Self { incoming, output }
    }
}

pub(super) struct Incoming<'a>(&'a [u8]);

pub(super) struct Outgoing<'a>(&'a mut Output);

impl Device for Link<'_> {
    type RxToken<'b>
        = Incoming<'b>
    where
        Self: 'b;
    type TxToken<'b>
        = Outgoing<'b>
    where
        Self: 'b;

    fn receive(&mut self, _now: Instant) -> Option<(Incoming<'_>, Outgoing<'_>)> {
        let packet = self.incoming.take()?;
        Some((Incoming(packet), Outgoing(self.output)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Outgoing<'_>> {
        (!self.output.is_full()).then_some(Outgoing(self.output))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = MTU_BYTES;
        capabilities.checksum = packet::trusting();
        capabilities
    }
}

impl RxToken for Incoming<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

impl TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, fill: F) -> R {
        let mut result = None;
        self.0.push(packet::framed(len, |bytes| result = Some(fill(bytes))));
        result.expect("the frame was filled")
    }
}
