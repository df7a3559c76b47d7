//! Adds up the progress of downloads that run side by side.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::progress::{Progress, Reporter};

/// A sum of bytes, reported from time to time.
pub(super) struct Tally<'a> {
    pub(super) report: Reporter<'a>,
    done: AtomicU64,
    told: AtomicU64,
}

const STEP_BYTES: u64 = 256 << 10;

impl<'a> Tally<'a> {
    /// An empty sum.
    pub(super) fn new(report: Reporter<'a>) -> Self {
        Self { report, done: AtomicU64::new(0), told: AtomicU64::new(0) }
    }

    /// What one download reports to: how much of its file is here, which may fall.
    pub(super) fn file(&self) -> impl Fn(u64) + Send + Sync {
        let last = AtomicU64::new(0);
        move |got| {
            let before = last.swap(got, Ordering::Relaxed);
            // Wrapping, for a download that starts over takes back what it had told.
            let done =
                self.done.fetch_add(got.wrapping_sub(before), Ordering::Relaxed).wrapping_add(got.wrapping_sub(before));
            if done.abs_diff(self.told.load(Ordering::Relaxed)) >= STEP_BYTES {
                self.told.store(done, Ordering::Relaxed);
                (self.report)(Progress::Done(done));
            }
        }
    }

    /// Reports the sum as it is.
    pub(super) fn finish(&self) {
        (self.report)(Progress::Done(self.done.load(Ordering::Relaxed)));
    }
}
