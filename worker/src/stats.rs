//! The counters that a worker's rooms count in, and the heartbeat.
//!
//! Every room counts here, in words of `meters`; the heartbeat runs on the event loop itself, so a loop that is blocked stops
//! beating, which is exactly what must be noticed.
//! Does not know: who reads the numbers.

use std::convert::Infallible;

use tokio::time::{Duration, Instant, sleep_until};

use crate::database::DatabaseStats;
use crate::meters::{Count, Counter, LAGS_AT, Meters};

/// Time between two heartbeats.
pub const BEAT: Duration = Duration::from_millis(100);

/// The numbers of one heartbeat.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Requests begun since the start.
    pub requests: u64,
    /// Requests being answered now.
    pub in_flight: u64,
    /// Connections open now.
    pub connections: u64,
    /// How late the event loop was to this heartbeat, in microseconds.
    pub loop_lag_us: u64,
    /// Handlers that panicked since the start.
    pub panics: u64,
    /// Connections refused since the start because all were in use.
    pub shed: u64,
    /// What the database pool does and did.
    pub database: DatabaseStats,
}

/// The counters of one worker that its rooms count in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stats {
    pub(crate) meters: Meters,
    pub(crate) requests: Count,
    pub(crate) in_flight: Count,
    pub(crate) connections: Count,
    pub(crate) panics: Count,
    pub(crate) shed: Count,
    pub(crate) malformed: Count,
    pub(crate) received_bytes: Count,
    pub(crate) sent_bytes: Count,
}

impl Stats {
    pub(crate) fn new(meters: Meters) -> Self {
        Self {
            meters,
            requests: Count(Some(meters.requests)),
            in_flight: Count(Some(meters.in_flight)),
            connections: Count(Some(meters.connections)),
            panics: meters.count(Counter::Panics),
            shed: meters.count(Counter::Shed),
            malformed: meters.count(Counter::Malformed),
            received_bytes: meters.count(Counter::ReceivedBytes),
            sent_bytes: meters.count(Counter::SentBytes),
        }
    }

    /// The numbers now, without those of other rooms.
    pub(crate) fn load(&self, lag: Duration) -> Load {
        Load {
            requests: self.requests.get(),
            in_flight: self.in_flight.get(),
            connections: self.connections.get(),
            loop_lag_us: u64::try_from(lag.as_micros()).unwrap_or(u64::MAX),
            panics: self.panics.get(),
            shed: self.shed.get(),
            database: DatabaseStats::default(),
        }
    }
}

/// Beat for ever, and count how late each heartbeat is. `load` gives the numbers, after one that came late by
/// as much.
pub(crate) async fn beat(
    meters: Meters,
    load: impl Fn(Duration) -> Load,
    mut on_beat: Box<dyn FnMut(&Load)>,
) -> Infallible {
    on_beat(&load(Duration::ZERO));
    loop {
        let due = Instant::now() + BEAT;
        sleep_until(due).await;
        let lag = Instant::now().duration_since(due);
        meters.observe(LAGS_AT, lag);
        on_beat(&load(lag));
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::meters::{BUCKETS_NS, HISTOGRAM_WORDS};

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn beats_come_every_100_ms_and_say_how_late_they_are() {
        let beats = Rc::new(RefCell::new(Vec::new()));
        let stats = Stats::new(Meters::detached(0));
        stats.requests.increment();
        let heard = Rc::clone(&beats);
        let on_beat = Box::new(move |load: &Load| heard.borrow_mut().push(*load));
        let start = Instant::now();
        let beating = beat(stats.meters, move |lag| stats.load(lag), on_beat);
        let beating = tokio::task::spawn_local(beating);
        while beats.borrow().len() < 4 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!((300..=320).contains(&start.elapsed().as_millis()));
        // The loop was blocked for a while: time went on, and nothing ran.
        tokio::time::advance(Duration::from_millis(450)).await;
        while beats.borrow().len() < 5 {
            tokio::task::yield_now().await;
        }
        let late = beats.borrow()[4];
        assert!((340_000..=360_000).contains(&late.loop_lag_us), "{late:?}");
        assert_eq!(late.requests, 1);
        let lags = &stats.meters.counters[LAGS_AT..LAGS_AT + HISTOGRAM_WORDS];
        let lags: Vec<u64> = lags.iter().map(|word| word.load(Ordering::Relaxed)).collect();
        let (sum_ns, counts) = lags.split_last().unwrap();
        let half_a_second = BUCKETS_NS.iter().position(|end_ns| *end_ns == 500_000_000).unwrap();
        assert_eq!((counts[half_a_second], counts.iter().sum::<u64>()), (1, 4));
        assert!((340_000_000..=365_000_000).contains(sum_ns), "{sum_ns}");
        beating.abort();
    }
}
