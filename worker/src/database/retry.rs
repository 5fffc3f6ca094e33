//! Running again what other transactions stood in the way of.
//!
//! Used for transactions and for single statements, both of which PostgreSQL has undone wholly when
//! it says 40001 or 40P01.
//! Promises: growing random pauses, ten runs and five seconds at most, all of them counted.
//! Does not know: what is run.
//!
//! Source: PostgreSQL, "Serialization Failure Handling".

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::meters::Meters;

/// Runs, at most.
const TRIES_MAX: u32 = 10;
/// No run begins later than this after the first began.
const RETRY_WITHIN: Duration = Duration::from_secs(5);
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(640);

/// How often, and after which pauses, something is run again.
pub(super) struct Retry {
    began: Instant,
    tries: u32,
}

impl Retry {
    pub(super) fn new(began: Instant) -> Self {
        Self { began, tries: 1 }
    }

    /// Waits before the next run and counts it, for what the server said; `false` when there was enough.
    pub(super) async fn wait(&mut self, meters: &Meters, sqlstate: Option<&str>) -> bool {
        // From the system: a generator in memory could be a copy from before the fork.
        let random = uuid::Uuid::new_v4().as_u64_pair().0;
        let Some(pause) = self.pause(Instant::now(), random) else {
            return false;
        };
        meters.retried(sqlstate);
        sleep(pause).await;
        true
    }

    /// The pause before the next run, or `None` when there was enough. The upper half of it is
    /// random: two transactions that met once must not meet again.
    fn pause(&mut self, now: Instant, random: u64) -> Option<Duration> {
        let window = PAUSE_MIN.saturating_mul(1 << (self.tries - 1).min(16)).min(PAUSE_MAX);
        let half_us = window.as_micros() as u64 / 2;
        let pause = Duration::from_micros(half_us + random % (half_us + 1));
        self.tries += 1;
        let in_time = now.duration_since(self.began) + pause <= RETRY_WITHIN;
        (self.tries <= TRIES_MAX && in_time).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound() {
        let began = Instant::now();
        let mut retry = Retry::new(began);
        let pauses: Vec<_> = (0..9).map_while(|_| retry.pause(began, u64::MAX)).collect();
        assert_eq!(pauses.len(), 9);
        assert!(pauses.windows(2).all(|pair| pair[0] <= pair[1]), "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause <= PAUSE_MAX), "{pauses:?}");
    }

    #[test]
    fn the_random_half_stays_within_the_window() {
        for random in [0, 1, 4999, 5000, 5001, u64::MAX] {
            let pause = Retry::new(Instant::now()).pause(Instant::now(), random).unwrap();
            assert!(pause >= PAUSE_MIN / 2 && pause <= PAUSE_MIN, "{random}: {pause:?}");
        }
    }

    #[test]
    fn the_tenth_run_is_the_last() {
        let began = Instant::now();
        let mut retry = Retry::new(began);
        for _ in 1..TRIES_MAX {
            assert!(retry.pause(began, 0).is_some());
        }
        assert!(retry.pause(began, 0).is_none());
    }

    #[test]
    fn no_run_begins_after_five_seconds() {
        let began = Instant::now();
        assert!(Retry::new(began).pause(began + Duration::from_millis(4900), 0).is_some());
        assert!(Retry::new(began).pause(began + RETRY_WITHIN, 0).is_none());
    }
}
