//! Credit-based flow control of one stream, as pure arithmetic.
//!
//! Every stream of a command starts with [`WINDOW_BYTES`] of credit at its sender, every direction of a connection with
//! [`crate::connection::CONNECTION_WINDOW_BYTES`]. Sending takes from it; the receiver gives bytes back
//! ([`crate::message::HostMessage::Credit`], [`crate::message::GuestMessage::Credit`]) as its consumer takes them. So neither side ever
//! holds more than one window of a stream whose consumer stalls, and no stream can hold up another.

/// Credit that the sender of a command's stream starts with, and the most its receiver ever has to hold.
pub const WINDOW_BYTES: u32 = 512 * 1024;

/// Credit is given back in pieces of at least this part of the window, so that it costs little traffic of its own.
const GIVE_BACK_PART: u32 = 4;

/// The smallest piece of credit that is given back for a command's stream.
pub const GIVE_BACK_BYTES: u32 = WINDOW_BYTES / GIVE_BACK_PART;

/// The sender's end: how many bytes may be sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendCredit {
    window_bytes: u32,
    left_bytes: u32,
}

/// A peer gave back more than it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("peer gave more credit than its window")]
pub struct CreditOverflow;

/// A peer sent more than it had credit for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("peer sent more than its credit")]
pub struct CreditExceeded;

impl Default for SendCredit {
    fn default() -> Self {
        Self::of_window(WINDOW_BYTES)
    }
}

impl SendCredit {
    /// The sender's end of a stream with this window.
    #[must_use]
    pub fn of_window(window_bytes: u32) -> Self {
        Self { window_bytes, left_bytes: window_bytes }
    }

    /// Bytes that may be sent now.
    #[must_use]
    pub fn left_bytes(self) -> usize {
        self.left_bytes as usize
    }

    /// Notes that `count` bytes, at most [`Self::left_bytes`], were sent.
    pub fn take(&mut self, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        debug_assert!(count <= self.left_bytes, "the sender looks before it sends");
        self.left_bytes = self.left_bytes.saturating_sub(count);
    }

    /// Notes credit given back by the peer.
    ///
    /// # Errors
    /// The peer gave back more than it got.
    pub fn give(&mut self, count: u32) -> Result<(), CreditOverflow> {
        let left = self.left_bytes.checked_add(count).filter(|left| *left <= self.window_bytes);
        self.left_bytes = left.ok_or(CreditOverflow)?;
        Ok(())
    }
}

/// The receiver's end: how much the peer may still send, and how much is due to be given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceiveCredit {
    window_bytes: u32,
    granted_bytes: u32,
    consumed_bytes: u32,
}

impl Default for ReceiveCredit {
    fn default() -> Self {
        Self::of_window(WINDOW_BYTES)
    }
}

impl ReceiveCredit {
    /// The receiver's end of a stream with this window.
    #[must_use]
    pub fn of_window(window_bytes: u32) -> Self {
        Self { window_bytes, granted_bytes: window_bytes, consumed_bytes: 0 }
    }

    /// Notes that `count` bytes arrived.
    ///
    /// # Errors
    /// The peer ignored its credit; the session must end, because holding its bytes would be unbounded.
    pub fn receive(&mut self, count: usize) -> Result<(), CreditExceeded> {
        let count = u32::try_from(count).map_err(|_| CreditExceeded)?;
        self.granted_bytes = self.granted_bytes.checked_sub(count).ok_or(CreditExceeded)?;
        Ok(())
    }

    /// Notes that the consumer took `count` bytes; returns the credit to give back now, if enough has gathered.
    #[must_use]
    pub fn consume(&mut self, count: usize) -> Option<u32> {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.consumed_bytes = self.consumed_bytes.saturating_add(count).min(self.window_bytes - self.granted_bytes);
        if self.consumed_bytes < self.window_bytes / GIVE_BACK_PART {
            return None;
        }
        let due = std::mem::take(&mut self.consumed_bytes);
        self.granted_bytes += due;
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{CreditExceeded, CreditOverflow, ReceiveCredit, SendCredit, WINDOW_BYTES};
    use crate::connection::CONNECTION_WINDOW_BYTES;

    proptest! {
        /// Whatever is sent and consumed in whatever order, nothing is refused, the receiver never holds more than a
        /// window, and the sender never stalls for good once everything was consumed.
        #[test]
        fn the_two_ends_agree(steps in prop::collection::vec((1_usize..200_000, 1_usize..200_000), 1..200),
                               window in prop::sample::select(vec![WINDOW_BYTES, CONNECTION_WINDOW_BYTES])) {
            let (mut sender, mut receiver) = (SendCredit::of_window(window), ReceiveCredit::of_window(window));
            let mut held = 0;
            for (send, take) in steps {
                let sent = send.min(sender.left_bytes());
                sender.take(sent);
                prop_assert_eq!(receiver.receive(sent), Ok(()));
                held += sent;
                prop_assert!(held <= window as usize);
                let taken = take.min(held);
                held -= taken;
                if let Some(credit) = receiver.consume(taken) {
                    prop_assert_eq!(sender.give(credit), Ok(()));
                }
            }
            if let Some(credit) = receiver.consume(held) {
                prop_assert_eq!(sender.give(credit), Ok(()));
            }
            prop_assert!(sender.left_bytes() > 0);
        }
    }

    #[test]
    fn a_peer_that_lies_is_caught() {
        assert_eq!(SendCredit::default().give(1), Err(CreditOverflow));
        let mut receiver = ReceiveCredit::default();
        assert_eq!(receiver.receive(WINDOW_BYTES as usize), Ok(()));
        assert_eq!(receiver.receive(1), Err(CreditExceeded));
    }
}
