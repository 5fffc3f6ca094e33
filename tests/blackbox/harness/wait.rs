//! Waiting for a condition that nobody announces, under a deadline.
//!
//! Used where no event exists: a process that ends, a port that closes, a server that answers
//! again. Events of the program itself are awaited in `log`.

use std::thread;
use std::time::{Duration, Instant};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(2);

/// Looks until `look` finds something; panics with `what` when nothing was found within `limit`.
pub(crate) fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        pause(PAUSE);
    }
}

/// As [`until`], for a condition.
pub(crate) fn until_true(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    until(what, limit, || holds().then_some(()));
}

/// Gives the processor away for about `time`: for the pace of a load and for instants that are part
/// of a test's question, never for "it will have happened by then".
pub(crate) fn pause(time: Duration) {
    let end = Instant::now() + time;
    loop {
        // A parked thread may wake early.
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        thread::park_timeout(left);
    }
}
