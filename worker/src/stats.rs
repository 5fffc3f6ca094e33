//! What a worker counts, and the heartbeat that carries it out.
//!
//! Every room counts here; the heartbeat runs on the event loop itself, so a loop that is blocked stops
//! beating, which is exactly what must be noticed.
//! Does not know: who reads the numbers.

use std::cell::Cell;
use std::convert::Infallible;

use tokio::time::{Duration, Instant, sleep_until};

use crate::database::DatabaseStats;

/// Time between two heartbeats.
const BEAT: Duration = Duration::from_millis(100);

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

/// The counters of one worker.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    pub(crate) requests: Count,
    pub(crate) in_flight: Count,
    pub(crate) connections: Count,
    pub(crate) panics: Count,
    pub(crate) shed: Count,
}

/// A number that only this thread changes.
#[derive(Debug, Default)]
pub(crate) struct Count(Cell<u64>);

impl Count {
    pub(crate) fn get(&self) -> u64 {
        self.0.get()
    }

    pub(crate) fn increment(&self) {
        self.0.set(self.0.get() + 1);
    }

    pub(crate) fn decrement(&self) {
        debug_assert!(self.0.get() > 0, "counted down what was never counted up");
        self.0.set(self.0.get().saturating_sub(1));
    }
}

impl Stats {
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

/// Beat for ever. `load` gives the numbers, after a heartbeat that came late by as much.
pub(crate) async fn beat(
    load: impl Fn(Duration) -> Load,
    mut on_beat: Box<dyn FnMut(&Load)>,
) -> Infallible {
    on_beat(&load(Duration::ZERO));
    loop {
        let due = Instant::now() + BEAT;
        sleep_until(due).await;
        on_beat(&load(Instant::now().duration_since(due)));
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn beats_come_every_100_ms_and_say_how_late_they_are() {
        let beats = Rc::new(RefCell::new(Vec::new()));
        let stats = Rc::new(Stats::default());
        stats.requests.increment();
        let heard = Rc::clone(&beats);
        let on_beat = Box::new(move |load: &Load| heard.borrow_mut().push(*load));
        let start = Instant::now();
        let beating = tokio::task::spawn_local(beat(move |lag| stats.load(lag), on_beat));
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
        beating.abort();
    }
}
