//! The life of a service, as data: what happens to it, and what is to be done then.
//!
//! ```text
//!             ready
//!  Starting ---------> Running
//!     |  \               |   \
//!     |   \--ended-------+----\--------> Exited    its process ended by itself
//!     |                  |     \
//!     |--not ready       |      asked--> Stopped   once its process has ended
//!     '-----(asked to end, and ended)--> Failed    it was not ready in time, or was lost with its machine
//! ```

use crate::store::service_record::ServiceState;

/// Where a service is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServiceLife {
    state: ServiceState,
    /// Why it was asked to end, once it was; the first reason counts.
    ending: Option<Ending>,
    reason: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Ending {
    Stop(String),
    NotReady(String),
}

/// What happens to a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Happening {
    /// It is ready.
    Ready,
    /// It did not become ready in its time, or cannot be looked at.
    NotReady(String),
    /// Somebody wants it to end.
    StopAsked(String),
    /// Its process ended.
    Ended,
    /// Its machine was lost with it.
    Lost(String),
}

/// What is to be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Todo {
    Nothing,
    /// Its state changed.
    Tell,
    /// Its process is to be asked to end.
    Terminate,
}

impl ServiceLife {
    /// A service whose process was just started.
    pub(super) fn new(is_probed: bool) -> Self {
        let state = if is_probed { ServiceState::Starting } else { ServiceState::Running };
        Self { state, ending: None, reason: None }
    }

    pub(super) fn state(&self) -> ServiceState {
        self.state
    }

    /// Why it is in its state.
    pub(super) fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Takes in what happened.
    pub(super) fn apply(&mut self, happening: Happening) -> Todo {
        if !self.state.is_alive() {
            return Todo::Nothing;
        }
        match happening {
            Happening::Ready if self.state == ServiceState::Starting && self.ending.is_none() => {
                self.state = ServiceState::Running;
                Todo::Tell
            }
            Happening::NotReady(seen) if self.state == ServiceState::Starting => self.end_for(Ending::NotReady(seen)),
            Happening::Ready | Happening::NotReady(_) => Todo::Nothing,
            Happening::StopAsked(why) => self.end_for(Ending::Stop(why)),
            Happening::Ended => self.be_over(ServiceState::Exited, None),
            Happening::Lost(how) => self.be_over(ServiceState::Failed, Some(how)),
        }
    }

    fn end_for(&mut self, ending: Ending) -> Todo {
        if self.ending.is_some() {
            return Todo::Nothing;
        }
        self.ending = Some(ending);
        Todo::Terminate
    }

    fn be_over(&mut self, state: ServiceState, reason: Option<String>) -> Todo {
        (self.state, self.reason) = match self.ending.take() {
            None => (state, reason),
            Some(Ending::Stop(why)) => (ServiceState::Stopped, Some(why)),
            Some(Ending::NotReady(seen)) => (ServiceState::Failed, Some(seen)),
        };
        Todo::Tell
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Happening, ServiceLife, Todo};
    use crate::store::service_record::ServiceState;

    fn any_happening() -> impl Strategy<Value = Happening> {
        prop_oneof![
            Just(Happening::Ready),
            Just(Happening::NotReady("no".to_owned())),
            Just(Happening::StopAsked("asked".to_owned())),
            Just(Happening::Ended),
            Just(Happening::Lost("lost".to_owned())),
        ]
    }

    proptest! {
        /// Whatever happens in whatever order: an end is final, nobody is asked to end twice, running is only who is ready, each
        /// change of the state is told, and what stopped was asked to.
        #[test]
        fn no_order_of_happenings_breaks_the_rules(
            is_probed in any::<bool>(),
            happenings in prop::collection::vec(any_happening(), 0..12),
        ) {
            let mut life = ServiceLife::new(is_probed);
            let (mut asked, mut was_ready) = (0, !is_probed);
            for happening in happenings {
                let before = life.clone();
                let todo = life.apply(happening.clone());
                prop_assert_eq!(todo == Todo::Tell, before.state() != life.state());
                if !before.state().is_alive() {
                    prop_assert_eq!(&before, &life);
                }
                asked += usize::from(todo == Todo::Terminate);
                prop_assert!(asked <= 1);
                was_ready |= todo == Todo::Tell && happening == Happening::Ready;
                match life.state() {
                    ServiceState::Starting => prop_assert!(is_probed && !was_ready),
                    ServiceState::Running => prop_assert!(was_ready),
                    ServiceState::Exited => prop_assert!(asked == 0),
                    ServiceState::Stopped => prop_assert!(asked == 1 && life.reason() == Some("asked")),
                    ServiceState::Failed => prop_assert!(life.reason() != Some("asked")),
                }
            }
        }
    }

    #[track_caller]
    fn check(is_probed: bool, happenings: &[Happening], state: ServiceState, reason: Option<&str>) {
        let mut life = ServiceLife::new(is_probed);
        for happening in happenings {
            life.apply(happening.clone());
        }
        assert_eq!((life.state(), life.reason()), (state, reason));
    }

    #[test]
    fn lives_end_as_they_were_lived() {
        let stop = || Happening::StopAsked("asked".to_owned());
        let not_ready = || Happening::NotReady("503".to_owned());
        check(true, &[Happening::Ready], ServiceState::Running, None);
        check(true, &[Happening::Ended], ServiceState::Exited, None);
        check(false, &[Happening::Ended, stop()], ServiceState::Exited, None);
        check(true, &[Happening::Ready, stop()], ServiceState::Running, None);
        check(true, &[Happening::Ready, stop(), Happening::Ended], ServiceState::Stopped, Some("asked"));
        check(true, &[not_ready(), Happening::Ready, Happening::Ended], ServiceState::Failed, Some("503"));
        check(true, &[stop(), not_ready(), Happening::Lost("gone".to_owned())], ServiceState::Stopped, Some("asked"));
        check(false, &[Happening::Lost("gone".to_owned())], ServiceState::Failed, Some("gone"));
    }
}
