//! The life of a workspace's supervisor, as data: what may be asked when, and when it is stopped for want of use.
//!
//! ```text
//! Running --reset--> Resetting --done or failed--> Running
//!    |                                               |
//!    +---stop, discard, idle too long, machine lost--+--> Ending
//! ```
//!
//! No clock and no I/O: the loop in [`super::driver`] says what happens and when, and does what is answered.

use std::time::Duration;

/// Where a supervisor is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The machine takes commands.
    Running,
    /// Another machine is about to take its place.
    Resetting,
    /// The machine is being ended; nothing new begins.
    Ending,
}

/// What someone wants, as far as it matters for whether it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// To use the machine.
    Use,
    /// To reset it.
    Reset,
    /// To end it.
    End,
    /// To be told something, or to change what is written about it.
    Look,
}

/// Why it may not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It is being reset.
    #[error("the workspace is just being reset")]
    Resetting,
    /// It is being ended.
    #[error("the workspace is just being stopped")]
    Ending,
}

/// The state.
#[derive(Debug, Clone)]
pub struct Life {
    phase: Phase,
    /// Uses that are going on.
    uses: usize,
    /// When the last use ended, or the life began, on the loop's clock.
    unused_since: Duration,
    ttl: Duration,
}

impl Life {
    /// A machine that just started.
    #[must_use]
    pub fn new(ttl: Duration, now: Duration) -> Self {
        Self { phase: Phase::Running, uses: 0, unused_since: now, ttl }
    }

    /// Whether a wish may come true now.
    ///
    /// # Errors
    /// Why not.
    pub fn admit(&self, wish: Wish) -> Result<(), Denied> {
        match (self.phase, wish) {
            (Phase::Running, _) | (Phase::Resetting, Wish::Look | Wish::End) | (Phase::Ending, Wish::Look) => Ok(()),
            (Phase::Resetting, Wish::Use | Wish::Reset) => Err(Denied::Resetting),
            (Phase::Ending, Wish::Use | Wish::Reset | Wish::End) => Err(Denied::Ending),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// A use began.
    pub fn use_began(&mut self) {
        self.uses += 1;
    }

    /// A use is over.
    pub fn use_over(&mut self, now: Duration) {
        self.uses = self.uses.saturating_sub(1);
        self.unused_since = self.unused_since.max(now);
    }

    /// It was used for a moment.
    pub fn was_used(&mut self, now: Duration) {
        self.unused_since = self.unused_since.max(now);
    }

    /// Uses that are going on.
    #[must_use]
    pub fn uses(&self) -> usize {
        self.uses
    }

    /// A reset began.
    pub fn reset_began(&mut self) {
        self.phase = Phase::Resetting;
    }

    /// It is done, or was given up.
    pub fn reset_over(&mut self, now: Duration) {
        if self.phase == Phase::Resetting {
            self.phase = Phase::Running;
        }
        self.unused_since = self.unused_since.max(now);
    }

    /// The end began. There is no way back.
    pub fn end_began(&mut self) {
        self.phase = Phase::Ending;
    }

    /// The time to live was changed.
    pub fn set_ttl(&mut self, ttl: Duration) {
        self.ttl = ttl;
    }

    /// Its time to live.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// For how long it has not been used.
    #[must_use]
    pub fn idle(&self, now: Duration) -> Duration {
        if self.uses > 0 { Duration::ZERO } else { now.saturating_sub(self.unused_since) }
    }

    /// Whether it is to be stopped for want of use.
    #[must_use]
    pub fn expired(&self, now: Duration) -> bool {
        self.phase == Phase::Running && self.uses == 0 && self.idle(now) >= self.ttl
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{Denied, Life, Phase, Wish};

    #[derive(Debug, Clone, Copy)]
    enum Event {
        Begin,
        Over,
        Reset,
        ResetOver,
        End,
        Pass(u64),
    }

    fn any_event() -> impl Strategy<Value = Event> {
        prop_oneof![
            Just(Event::Begin),
            Just(Event::Over),
            Just(Event::Reset),
            Just(Event::ResetOver),
            Just(Event::End),
            (0_u64..100).prop_map(Event::Pass),
        ]
    }

    proptest! {
        /// Whatever happens in whatever order: an end is final, what is in use is never stopped for want of use, and what
        /// was used within its time to live is not either.
        #[test]
        fn no_order_of_events_breaks_the_rules(events in prop::collection::vec(any_event(), 0..60)) {
            let mut life = Life::new(Duration::from_secs(60), Duration::ZERO);
            let (mut now, mut last_over, mut ended) = (Duration::ZERO, Duration::ZERO, false);
            for event in events {
                match event {
                    Event::Begin if life.admit(Wish::Use).is_ok() => life.use_began(),
                    Event::Over if life.uses() > 0 => {
                        life.use_over(now);
                        last_over = now;
                    }
                    Event::Reset if life.admit(Wish::Reset).is_ok() => life.reset_began(),
                    Event::ResetOver if life.phase() == Phase::Resetting => {
                        life.reset_over(now);
                        last_over = now;
                    }
                    Event::End if life.admit(Wish::End).is_ok() => {
                        life.end_began();
                        ended = true;
                    }
                    Event::Pass(seconds) => now += Duration::from_secs(seconds),
                    _ => {}
                }
                prop_assert_eq!(ended, life.phase() == Phase::Ending);
                prop_assert!(!ended || life.admit(Wish::Use) == Err(Denied::Ending));
                prop_assert!(life.admit(Wish::Look).is_ok());
                if life.expired(now) {
                    prop_assert!(life.uses() == 0 && now - last_over >= Duration::from_secs(60) && !ended);
                }
            }
        }
    }

    #[test]
    fn an_idle_one_expires_when_its_time_is_over_and_not_before() {
        let mut life = Life::new(Duration::from_secs(60), Duration::ZERO);
        assert!(!life.expired(Duration::from_secs(59)) && life.expired(Duration::from_secs(60)));
        life.use_began();
        assert!(!life.expired(Duration::from_secs(600)));
        life.use_over(Duration::from_secs(600));
        assert!(!life.expired(Duration::from_secs(659)) && life.expired(Duration::from_secs(660)));
        life.set_ttl(Duration::from_secs(120));
        assert!(!life.expired(Duration::from_secs(719)) && life.expired(Duration::from_secs(720)));
    }
}
