//! The clock of a wire: who has waited for too long, who is better off elsewhere, and when it is to be
//! given up.
//!
//! The lane runs [`Wire::watch`] beside the driver, for as long as that runs. One clock for all who wait:
//! one each would cost them more than the wire does.
//! Promises: while the oldest has waited for [`PATIENCE`], and not only since there are so many, those who
//! wait are sent to the pool, as many as it has room for, when it has; nobody waits here for longer than the
//! statement timeout and what we add to it; a server that says nothing for so long is given up. Does not
//! know: who asks, or why it takes so long.

use std::{pin::pin, time::Duration};

use tokio::{
    sync::Semaphore,
    task::yield_now,
    time::{Instant, sleep},
};

use super::{Failed, Owed, Wire};

/// How long somebody waits, or up to twice as long, before another way is sought: behind a lock, a long
/// statement, a dead network.
pub(in crate::database) const PATIENCE: Duration = Duration::from_millis(50);
/// A wire that answers so many within [`PATIENCE`] is the quickest way, however long its queue: there are
/// many statements, not long ones, and to run some elsewhere, or twice, would cost a server that is busy
/// anyway.
const QUICK: u64 = 25;

impl Wire {
    /// Ends when nothing was answered within `limit`, and says so. `pool` has a permit for each
    /// statement that can be run elsewhere.
    pub(in crate::database) async fn watch(&self, limit: Duration, pool: &Semaphore) -> String {
        loop {
            self.is_asked().await;
            let mut heard = Instant::now();
            while self.in_flight() > 0 {
                let before = self.answers.get();
                self.is_quick.set(self.tick(pool).await);
                self.expire(limit);
                if self.answers.get() != before {
                    heard = Instant::now();
                } else if heard.elapsed() > limit {
                    return format!("it gave no answer within {limit:?}");
                }
            }
        }
    }

    /// A moment; gives whether many were answered in it.
    async fn tick(&self, pool: &Semaphore) -> bool {
        let before = self.answers.get();
        let is_stuck = !self.is_quick.get() && self.waits_since(PATIENCE);
        let mut over = pin!(sleep(PATIENCE));
        tokio::select! {
            biased;
            () = &mut over => {}
            () = self.hand_over(pool), if is_stuck => over.await,
        }
        self.answers.get() - before >= QUICK
    }

    /// Whether the oldest statement has waited for longer than that.
    fn waits_since(&self, time: Duration) -> bool {
        self.state.borrow().oldest().is_some_and(|asked| asked.elapsed() > time)
    }

    /// Waits until something is in flight.
    pub(super) async fn is_asked(&self) {
        while self.in_flight() == 0 {
            self.is_idle.set(true);
            self.asked.notified().await;
        }
    }

    /// For as long as somebody has waited for long: gives the pool one for each permit that comes free.
    /// More would only wait there instead, and for less long before they are refused.
    async fn hand_over(&self, pool: &Semaphore) {
        let before = self.answers.get();
        loop {
            let Ok(permit) = pool.acquire().await else { return };
            let room = 1 + pool.available_permits();
            drop(permit);
            let is_stuck = self.answers.get() - before < QUICK && self.waits_since(PATIENCE);
            if !is_stuck || self.detour(room) == 0 {
                return;
            }
            // They take theirs before the next look.
            yield_now().await;
        }
    }

    /// Sends so many of those who wait elsewhere, and gives their number; what comes for them later is
    /// nobody's. The oldest first, but those whom the server may be about to answer last.
    pub(super) fn detour(&self, room: usize) -> usize {
        let owed = &mut self.state.borrow_mut().owed;
        let first_batch = owed.iter().position(|owed| matches!(owed, Owed::Sync)).unwrap_or(0);
        let mut sent = 0;
        for index in (first_batch..owed.len()).chain(0..first_batch) {
            if sent == room {
                break;
            }
            if let Owed::Answer { asker, .. } = &mut owed[index]
                && let Some(asker) = asker.take()
                && asker.send(Err(Failed::Detour)).is_ok()
            {
                sent += 1;
            }
        }
        sent
    }

    /// Tells those who have waited for longer than `limit`.
    fn expire(&self, limit: Duration) {
        let now = Instant::now();
        for owed in &mut self.state.borrow_mut().owed {
            match owed {
                Owed::Answer { asked, asker, .. } if now.duration_since(*asked) > limit => {
                    if let Some(asker) = asker.take() {
                        // Whoever asked may have left.
                        let _ = asker.send(Err(Failed::Late));
                    }
                }
                Owed::Answer { .. } => return,
                Owed::Sync => {}
            }
        }
    }
}
