//! What a worker counts, and where: words that others may read while it writes them.
//!
//! The application gives [`Meters`] (of shared memory, or of its own) and reads by the places named
//! here; every room counts its own at the event itself, so that a worker that is killed has lost none.
//! Promises: counting is a plain load and a plain store, no lock, no locked instruction, no allocation:
//! this thread is the only writer. Words that are not there are not counted in.
//! Does not know: who reads, or what the numbers are called outside.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Single counters, by their place among the counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    /// Handlers that panicked.
    Panics,
    /// Connections turned away, since all were in use.
    Shed,
    /// What came and was no HTTP request.
    Malformed,
    /// Bytes that clients have sent.
    ReceivedBytes,
    /// Bytes that were sent to clients.
    SentBytes,
    /// Callers that found every connection of the pool in use.
    PoolWaits,
    /// Callers that got none: the wait was over, or too many waited.
    PoolTimeouts,
    /// Statements cut off, by the server or by us.
    StatementTimeouts,
    /// Reads that the lane could not answer, so that the pool did.
    LaneDetours,
    /// Tries to connect to the database that failed.
    ConnectFailures,
    /// Spans that no collector took.
    SpansDropped,
}

/// Numbers that go up and down, by their place among the gauges; written with each heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gauge {
    /// Connections of the pool and the lane that exist.
    DatabaseConnections,
    /// Connections of the pool that are lent.
    PoolInUse,
    /// Connections that the pool may have.
    PoolMax,
    /// Callers that wait for one.
    PoolWaiting,
    /// Statements in flight on the lane.
    LaneInFlight,
    /// Whether the database is known to be away.
    DatabaseDown,
}

/// Words of the gauges above.
pub const GAUGES: usize = Gauge::DatabaseDown as usize + 1;

/// What errors of the server are counted by: those that say something of their own, then classes, then
/// all others.
pub const SQLSTATES: [&str; 28] = [
    "23502", "23503", "23505", "23514", "25006", "25P03", "26000", "40001", "40P01", "42501",
    "42703", "42P01", "53300", "57014", "57P01", "57P03", "08", "0A", "22", "23", "25", "28", "42",
    "53", "54", "55", "57", "other",
];

/// Why something is run again: another transaction stood in the way, or the connection was lost.
pub const RETRY_CAUSES: [&str; 3] = ["40001", "40P01", "other"];

/// Upper ends of the buckets of a duration, in nanoseconds: those of OpenTelemetry, and below them some
/// for what is as quick as this. What is longer has a bucket of its own.
pub const BUCKETS_NS: [u64; 17] = [
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    75_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    750_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    7_500_000_000,
    10_000_000_000,
];

/// Words of one distribution of durations: a count per bucket, and the sum in nanoseconds.
pub const HISTOGRAM_WORDS: usize = BUCKETS_NS.len() + 2;

/// Where errors of the server are counted, in the order of [`SQLSTATES`].
pub const ERRORS_AT: usize = Counter::SpansDropped as usize + 1;
/// Where retries are, in the order of [`RETRY_CAUSES`].
pub const RETRIES_AT: usize = ERRORS_AT + SQLSTATES.len();
/// Where the distribution of waits for the pool is.
pub const POOL_WAITS_AT: usize = RETRIES_AT + RETRY_CAUSES.len();
/// Where that of the event loop's lags is: one per heartbeat.
pub const LAGS_AT: usize = POOL_WAITS_AT + HISTOGRAM_WORDS;
/// Where those of requests begin; see [`Durations`](crate::Durations).
pub const DURATIONS_AT: usize = LAGS_AT + HISTOGRAM_WORDS;

/// The words a worker writes. Cheap to copy.
#[derive(Debug, Clone, Copy)]
pub struct Meters {
    /// Requests begun since the start.
    pub requests: &'static AtomicU64,
    /// Requests being answered now.
    pub in_flight: &'static AtomicU64,
    /// Connections open now.
    pub connections: &'static AtomicU64,
    /// All other counts since the start.
    pub counters: &'static [AtomicU64],
    /// All other numbers of now.
    pub gauges: &'static [AtomicU64],
}

impl Meters {
    /// Words of this process alone, for `durations` words of durations of requests. They stay until its
    /// end: meant for a worker that nobody reads, as in tests.
    #[must_use]
    pub fn detached(durations: usize) -> Self {
        let words = |count: usize| -> &'static [AtomicU64] {
            Box::leak((0..count).map(|_| AtomicU64::new(0)).collect())
        };
        let own = words(3);
        Self {
            requests: &own[0],
            in_flight: &own[1],
            connections: &own[2],
            counters: words(DURATIONS_AT + durations),
            gauges: words(GAUGES),
        }
    }

    pub(crate) fn count(&self, counter: Counter) -> Count {
        Count(self.counters.get(counter as usize))
    }

    pub(crate) fn gauge(&self, gauge: Gauge) -> Count {
        Count(self.gauges.get(gauge as usize))
    }

    /// Counts an error of the server by what it says.
    pub(crate) fn refused(&self, sqlstate: &str) {
        let known = |name: &&str| *name == sqlstate || Some(*name) == sqlstate.get(..2);
        let place = SQLSTATES.iter().position(known).unwrap_or(SQLSTATES.len() - 1);
        Count(self.counters.get(ERRORS_AT + place)).increment();
    }

    /// Counts something that is run again, for this SQLSTATE; `None` where a connection was lost.
    pub(crate) fn retried(&self, sqlstate: Option<&str>) {
        let place = RETRY_CAUSES.iter().position(|cause| Some(*cause) == sqlstate);
        let place = place.unwrap_or(RETRY_CAUSES.len() - 1);
        Count(self.counters.get(RETRIES_AT + place)).increment();
    }

    /// How often something was run again.
    pub(crate) fn retries(&self) -> u64 {
        let causes = RETRIES_AT..RETRIES_AT + RETRY_CAUSES.len();
        causes.map(|place| Count(self.counters.get(place)).get()).sum()
    }

    /// Adds one duration to the distribution that begins at `place`.
    #[inline]
    pub(crate) fn observe(&self, place: usize, took: Duration) {
        let words = self.counters.get(place..).and_then(<[_]>::first_chunk::<HISTOGRAM_WORDS>);
        let Some([counts @ .., sum]) = words else { return };
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        // From the shortest on, which most are.
        let bucket = BUCKETS_NS.iter().position(|end_ns| ns <= *end_ns);
        Count(Some(&counts[bucket.unwrap_or(BUCKETS_NS.len())])).increment();
        Count(Some(sum)).add(ns);
    }
}

/// A number that only this thread changes. Without a word it is not counted, and always 0.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Count(pub(crate) Option<&'static AtomicU64>);

impl Count {
    pub(crate) fn get(self) -> u64 {
        self.0.map_or(0, |word| word.load(Ordering::Relaxed))
    }

    pub(crate) fn set(self, value: u64) {
        if let Some(word) = self.0 {
            word.store(value, Ordering::Relaxed);
        }
    }

    pub(crate) fn add(self, more: u64) {
        self.set(self.get().wrapping_add(more));
    }

    pub(crate) fn increment(self) {
        self.add(1);
    }

    pub(crate) fn decrement(self) {
        debug_assert!(self.0.is_none() || self.get() > 0, "counted down what was never counted up");
        self.set(self.get().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_counted_by_its_code_else_by_its_class() {
        let meters = Meters::detached(0);
        for sqlstate in ["23505", "23505", "23P01", "40001", "57P02", "XX000", ""] {
            meters.refused(sqlstate);
        }
        let count = |name: &str| {
            let place = SQLSTATES.iter().position(|known| *known == name).unwrap();
            meters.counters[ERRORS_AT + place].load(Ordering::Relaxed)
        };
        let counts = ["23505", "23", "40001", "57", "other", "22"].map(count);
        assert_eq!(counts, [2, 1, 1, 1, 2, 0]);
    }

    #[test]
    fn a_duration_falls_into_the_first_bucket_that_holds_it() {
        let meters = Meters::detached(0);
        for ns in [0, 500_000, 500_001, 10_000_000_000, 10_000_000_001] {
            meters.observe(POOL_WAITS_AT, Duration::from_nanos(ns));
        }
        let words = &meters.counters[POOL_WAITS_AT..LAGS_AT];
        let words: Vec<u64> = words.iter().map(|word| word.load(Ordering::Relaxed)).collect();
        assert_eq!((words[0], words[1], words[16], words[17]), (2, 1, 1, 1));
        assert_eq!((words[18], words[..18].iter().sum::<u64>()), (20_001_000_002, 5));
    }

    #[test]
    fn what_has_no_word_is_not_counted() {
        let meters = Meters { counters: &[], gauges: &[], ..Meters::detached(0) };
        meters.count(Counter::Panics).increment();
        meters.gauge(Gauge::PoolMax).set(4);
        meters.observe(POOL_WAITS_AT, Duration::from_nanos(1));
        meters.refused("23505");
        assert_eq!((meters.count(Counter::Panics).get(), meters.retries()), (0, 0));
    }
}
