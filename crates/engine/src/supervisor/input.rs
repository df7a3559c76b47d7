//! What a client types, waiting for whoever it is for: bounded by the credit that the client has.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyro_wire::credit::ReceiveCredit;
use tokio::sync::Notify;

/// Standard input that waits to be taken.
#[derive(Debug, Default)]
pub(super) struct Input {
    state: Mutex<InputState>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct InputState {
    waiting: VecDeque<Vec<u8>>,
    credit: ReceiveCredit,
}

impl Input {
    /// Whether the client had credit for these bytes; they wait then.
    pub(super) fn push(&self, bytes: Vec<u8>) -> bool {
        let mut state = self.state();
        let within = state.credit.receive(bytes.len()).is_ok();
        state.waiting.push_back(bytes);
        self.changed.notify_one();
        within
    }

    /// The next bytes; none are the end.
    pub(super) async fn pop(&self) -> Vec<u8> {
        loop {
            if let Some(bytes) = self.state().waiting.pop_front() {
                return bytes;
            }
            self.changed.notified().await;
        }
    }

    /// So many were taken; what the client is to be given back for it now.
    pub(super) fn consume(&self, count: usize) -> Option<u32> {
        self.state().credit.consume(count)
    }

    fn state(&self) -> MutexGuard<'_, InputState> {
        // Every critical section only moves values.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
