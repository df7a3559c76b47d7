//! The protocol version, and how two sides settle on one.

use serde::{Deserialize, Serialize};

/// The newest protocol this build speaks. Raised whenever the meaning of any message changes.
pub const PROTOCOL_NEWEST: u16 = 2;

/// The oldest protocol this build still speaks.
pub const PROTOCOL_OLDEST: u16 = 2;

/// An inclusive range of protocol versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProtocolRange {
    /// Oldest version spoken.
    pub oldest: u16,
    /// Newest version spoken.
    pub newest: u16,
}

impl ProtocolRange {
    /// What this build speaks.
    pub const OURS: Self = Self { oldest: PROTOCOL_OLDEST, newest: PROTOCOL_NEWEST };

    /// The newest version both sides speak, if there is one.
    #[must_use]
    pub fn settle(self, other: Self) -> Option<u16> {
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest.max(other.oldest)).then_some(newest)
    }
}

#[cfg(test)]
mod tests {
    use super::ProtocolRange;

    #[track_caller]
    fn check(ours: (u16, u16), theirs: (u16, u16), expected: Option<u16>) {
        let range = |(oldest, newest)| ProtocolRange { oldest, newest };
        assert_eq!(range(ours).settle(range(theirs)), expected);
        assert_eq!(range(theirs).settle(range(ours)), expected);
    }

    #[test]
    fn the_newest_common_version_wins() {
        check((1, 1), (1, 1), Some(1));
        check((1, 3), (2, 5), Some(3));
        check((1, 2), (3, 4), None);
    }
}
