//! Panics that end nothing but what they happened in: a guest may find a defect of ours, and its machine must live on.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Longest reason that is kept, in characters.
const REASON_CHARS_MAX: usize = 200;

thread_local! {
    /// Whether a panic of this thread is caught.
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic of the current thread closes a network and ends nothing else: for whoever decides what a panic does.
#[must_use]
pub fn contains_panics() -> bool {
    CONTAINED.get()
}

/// Does something; or says why it panicked. What it worked on must not be used any more then.
pub(crate) fn contained<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let outer = CONTAINED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    CONTAINED.set(outer);
    result.map_err(|payload| reason(payload.as_ref()))
}

fn reason(payload: &(dyn Any + Send)) -> String {
    let words = payload.downcast_ref::<String>().map(String::as_str);
    let words = words.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
    words.chars().take(REASON_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::{contained, contains_panics};

    #[test]
    fn a_panic_is_a_reason_and_only_contained_where_it_is_caught() {
        assert!(!contains_panics());
        assert_eq!(contained(contains_panics), Ok(true));
        let number = 7;
        assert_eq!(contained(|| -> () { panic!("it was {number}") }), Err("it was 7".to_owned()));
        assert_eq!(contained(|| -> () { panic!("plain") }), Err("plain".to_owned()));
        assert_eq!(contained(|| contained(|| -> () { panic!("{}", "x".repeat(1000)) }).unwrap_err().len()), Ok(200));
        assert!(!contains_panics());
    }
}
