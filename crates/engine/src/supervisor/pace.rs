//! How much of what something in the guest prints is taken in, so that a flood leaves guest and supervisor time for others.
//!
//! Beyond it the guest waits, by the credit that every command has.

use std::time::Duration;

use tokio::time::Instant;

/// Bytes that may be printed at once, and in each second after that: faster than anybody reads.
const BURST_BYTES_MAX: i64 = 4 << 20;
/// See [`BURST_BYTES_MAX`].
const BYTES_PER_SECOND_MAX: i64 = 1 << 20;

/// How much may still be printed now.
#[derive(Debug)]
pub(super) struct Pace {
    /// Less than none when more was printed.
    left_bytes: i64,
    at: Instant,
}

impl Pace {
    /// That of something that has not printed yet.
    pub(super) fn new() -> Self {
        Self { left_bytes: BURST_BYTES_MAX, at: Instant::now() }
    }

    /// Waits until so many bytes were not too many.
    pub(super) async fn keep(&mut self, bytes: usize) {
        let wait = self.note(bytes, Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    fn note(&mut self, bytes: usize, now: Instant) -> Duration {
        let elapsed_ms = i64::try_from(now.duration_since(self.at).as_millis()).unwrap_or(i64::MAX);
        let earned = elapsed_ms.saturating_mul(BYTES_PER_SECOND_MAX) / 1000;
        // What is too little for a byte is not lost, but counts the next time.
        if earned > 0 {
            self.at = now;
        }
        self.left_bytes = self.left_bytes.saturating_add(earned).min(BURST_BYTES_MAX);
        self.left_bytes = self.left_bytes.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
        let missing = u64::try_from(-self.left_bytes).unwrap_or(0);
        Duration::from_millis(missing.saturating_mul(1000) / BYTES_PER_SECOND_MAX.unsigned_abs())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{BURST_BYTES_MAX, BYTES_PER_SECOND_MAX, Pace};

    #[test]
    fn a_flood_is_slowed_down_and_a_burst_is_not() {
        let mut pace = Pace::new();
        let mut now = Instant::now();
        let piece = 64 << 10;
        for _ in 0..BURST_BYTES_MAX / 65_536 {
            assert_eq!(pace.note(piece, now), Duration::ZERO);
        }
        let (begun, mut printed) = (now, 0);
        while now.duration_since(begun) < Duration::from_secs(20) {
            now += pace.note(piece, now) + Duration::from_micros(100);
            printed += piece;
        }
        let fair = 20 * usize::try_from(BYTES_PER_SECOND_MAX).unwrap();
        assert!(printed > fair - 4 * piece && printed < fair + 4 * piece, "{printed}");
        now += Duration::from_secs(60);
        assert_eq!(pace.note(4 << 20, now), Duration::ZERO, "who was quiet may print again");
    }
}
