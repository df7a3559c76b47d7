//! Output of what commands left running: read, so that nobody blocks on it or dies of it, and dropped.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::io::Errno;

use crate::events::{Events, Source};

/// Most outputs kept. Past it the oldest is closed; its writer then gets what any writer to a closed pipe gets.
const LEFTOVERS_MAX: usize = 4096;

/// Bytes dropped of one output between two looks at everything else.
const TURN_BYTES: usize = 256 * 1024;

/// All such outputs.
#[derive(Debug, Default)]
pub(crate) struct Leftovers {
    outputs: BTreeMap<u32, Leftover>,
    next: u32,
}

#[derive(Debug)]
struct Leftover {
    fd: Rc<OwnedFd>,
    readable: bool,
}

impl Leftovers {
    /// Takes over an output, which `events` watches already.
    pub(crate) fn adopt(&mut self, fd: Rc<OwnedFd>, events: &Events) {
        if self.outputs.len() >= LEFTOVERS_MAX {
            self.outputs.pop_first();
        }
        // After 2^32 of them the numbers start again, long after the first were closed.
        self.next = self.next.wrapping_add(1);
        if events.rename(&*fd, Source::Leftover(self.next)).is_ok() {
            self.outputs.insert(self.next, Leftover { fd, readable: true });
        }
    }

    pub(crate) fn note_readable(&mut self, number: u32) {
        if let Some(leftover) = self.outputs.get_mut(&number) {
            leftover.readable = true;
        }
    }

    /// Closes all of them.
    pub(crate) fn clear(&mut self) {
        self.outputs.clear();
    }

    /// Whether [`Self::drain`] would do something now.
    pub(crate) fn can_drain(&self) -> bool {
        self.outputs.values().any(|leftover| leftover.readable)
    }

    /// Reads and drops.
    pub(crate) fn drain(&mut self) {
        if self.can_drain() {
            let mut scratch = vec![0; 64 * 1024];
            self.outputs.retain(|_, leftover| leftover.drain(&mut scratch));
        }
    }
}

impl Leftover {
    /// `false` when its other end is closed.
    fn drain(&mut self, scratch: &mut [u8]) -> bool {
        let mut dropped_bytes = 0;
        while self.readable && dropped_bytes < TURN_BYTES {
            match rustix::io::read(&*self.fd, &mut *scratch) {
                Ok(count) if count > 0 => dropped_bytes += count,
                Err(Errno::AGAIN) => self.readable = false,
                Err(Errno::INTR) => {}
                Ok(_) | Err(_) => return false,
            }
        }
        true
    }
}
