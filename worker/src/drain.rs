//! Leaving: how a worker stops without losing a request.
//!
//! `runtime.rs` calls [`leave`] with the first order; `accept.rs` and `connection.rs` wait for the stages,
//! `answer.rs` asks for them.
//! Promises: every response sent from the first moment on says `Connection: close`; a client that asks at
//! least once within the grace is told so, and never closed upon. At the end of the grace an idle
//! connection is closed, but not if a byte of a request has reached this host's kernel when it is asked for
//! the last time, directly before the FIN: that request is answered. One that meets the FIN on its way is
//! not looked at, and its client reads the end of the stream without a byte of an answer, and no reset,
//! for as long as the close lingers (`socket.rs`): it may send it again. (Nothing in HTTP/1.1 can save that
//! one but a longer grace.) Orders that come while leaving only make it quicker; nothing outlives the
//! deadline, which is the one that cuts requests.
//! Does not know: why it leaves.
//! Source: RFC 9112 section 9.6.

use std::cell::Cell;
use std::pin::pin;

use tokio::sync::Notify;
use tokio::time::{Duration, Instant, sleep_until};

use crate::config::Config;
use crate::shared::Shared;

/// How long requests in flight have when the supervisor died.
const ORPHAN_TIMEOUT: Duration = Duration::from_millis(500);

/// How quickly a worker is to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leave {
    /// With all the time a drain has.
    Drain,
    /// Quickly; a second one: now.
    Quit,
    /// Quicker still: the supervisor died.
    Orphaned,
}

/// How a worker's work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Everything was answered.
    Drained,
    /// The deadline came first.
    Forced {
        /// Requests that got no answer.
        requests_cut: u64,
        /// Writes and transactions of the database whose end was not seen.
        transactions_cut: u64,
    },
}

impl Outcome {
    fn of(requests_cut: u64, transactions_cut: u64) -> Self {
        match (requests_cut, transactions_cut) {
            (0, 0) => Self::Drained,
            _ => Self::Forced { requests_cut, transactions_cut },
        }
    }
}

/// The stage of leaving.
pub(crate) struct Drain {
    stage: Cell<Stage>,
    draining: Notify,
    closing: Notify,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Serving,
    /// No new connections; every response says that it is the last one.
    Draining,
    /// Idle connections are closed, too.
    Closing,
}

impl Drain {
    pub(crate) fn new() -> Self {
        Self { stage: Cell::new(Stage::Serving), draining: Notify::new(), closing: Notify::new() }
    }

    /// Whether a response sent now must be the last one of its connection.
    pub(crate) fn is_draining(&self) -> bool {
        self.stage.get() >= Stage::Draining
    }

    /// Wait until no more connections are wanted.
    pub(crate) async fn draining(&self) {
        while !self.is_draining() {
            self.draining.notified().await;
        }
    }

    /// Whether idle connections are to be closed.
    pub(crate) fn is_closing(&self) -> bool {
        self.stage.get() == Stage::Closing
    }

    /// Wait until idle connections are to be closed.
    pub(crate) async fn closing(&self) {
        while !self.is_closing() {
            self.closing.notified().await;
        }
    }

    pub(crate) fn begin(&self) {
        self.reach(Stage::Draining, &self.draining);
    }

    pub(crate) fn close(&self) {
        self.reach(Stage::Closing, &self.closing);
    }

    fn reach(&self, stage: Stage, told: &Notify) {
        self.stage.set(self.stage.get().max(stage));
        told.notify_waiters();
    }
}

/// When the steps of leaving are due. Orders only ever bring them forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Plan {
    close_at: Instant,
    cut_at: Instant,
    quits: u32,
}

impl Plan {
    fn new(order: Leave, config: &Config, now: Instant) -> Self {
        let cut_at = now + config.drain_timeout;
        let close_at = cut_at.min(now + config.keepalive_grace);
        Self { close_at, cut_at, quits: 0 }.hurry(order, config, now)
    }

    #[must_use]
    fn hurry(mut self, order: Leave, config: &Config, now: Instant) -> Self {
        let within = match order {
            Leave::Drain => return self,
            Leave::Quit if self.quits > 0 => Duration::ZERO,
            Leave::Quit => config.quit_timeout,
            Leave::Orphaned => ORPHAN_TIMEOUT,
        };
        self.quits += u32::from(order == Leave::Quit);
        self.close_at = self.close_at.min(now);
        self.cut_at = self.cut_at.min(now + within);
        self
    }
}

/// Leave: `finish` is done when nothing is left to do, and gives how many transactions it had to leave;
/// `running` says how many there are when the deadline comes first.
pub(crate) async fn leave(
    first: Leave,
    mut next_order: impl AsyncFnMut() -> Leave,
    config: &Config,
    shared: &Shared,
    running: impl Fn() -> u64,
    finish: impl AsyncFnOnce(Duration) -> usize,
) -> Outcome {
    let mut plan = Plan::new(first, config, Instant::now());
    tracing::info!(order = ?first, in_flight = shared.stats.in_flight.get(), "leaving");
    shared.drain.begin();
    let mut finished = pin!(finish(plan.cut_at.duration_since(Instant::now())));
    loop {
        tokio::select! {
            biased;
            left = &mut finished => {
                return Outcome::of(shared.stats.in_flight.get(), left as u64);
            }
            order = next_order() => plan = plan.hurry(order, config, Instant::now()),
            () = sleep_until(plan.close_at), if !shared.drain.is_closing() => shared.drain.close(),
            () = sleep_until(plan.cut_at) => {
                return Outcome::of(shared.stats.in_flight.get(), running());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config::default()
    }

    fn times(plan: &Plan, now: Instant) -> (u128, u128) {
        let ms = |at: Instant| at.duration_since(now).as_millis();
        (ms(plan.close_at), ms(plan.cut_at))
    }

    #[test]
    fn a_drain_has_a_grace_and_a_deadline() {
        let now = Instant::now();
        assert_eq!(times(&Plan::new(Leave::Drain, &config(), now), now), (5_000, 30_000));
        let hasty = Config { drain_timeout: Duration::from_secs(3), ..config() };
        assert_eq!(times(&Plan::new(Leave::Drain, &hasty, now), now), (3_000, 3_000));
    }

    #[test]
    fn quit_is_quick_and_a_second_one_is_now() {
        let now = Instant::now();
        let plan = Plan::new(Leave::Quit, &config(), now);
        assert_eq!(times(&plan, now), (0, 2_000));
        assert_eq!(times(&plan.hurry(Leave::Quit, &config(), now), now), (0, 0));
    }

    #[test]
    fn an_order_only_ever_brings_the_end_forward() {
        let now = Instant::now();
        let plan = Plan::new(Leave::Drain, &config(), now).hurry(Leave::Orphaned, &config(), now);
        assert_eq!(times(&plan, now), (0, 500));
        for later in [Leave::Drain, Leave::Quit, Leave::Orphaned] {
            let soon = now + Duration::from_millis(400);
            assert_eq!(times(&plan.hurry(later, &config(), soon), now), (0, 500));
        }
    }
}
