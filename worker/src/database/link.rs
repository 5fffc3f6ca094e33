//! Whether the server can be reached, as one worker sees it; shared by the pool, the connector and
//! every session.
//!
//! Sessions report that they begin and end, the connector reports its failures and what the pool lacks,
//! the pool reports a silent server; callers of the pool, and the lane, ask and wait here.
//! Promises: "down" is told to everyone at once, so that nobody waits for a server known to be
//! away; one success ends it, but not that of a session which was begun before. The log says the cause when it begins, every ten seconds while it
//! lasts, and when it is over.
//! Does not know: how to connect.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch;
use tracing::{info, warn};

use crate::meters::{Counter, Meters};

/// A failure that goes on is logged this often.
const REPORT_EVERY: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Link {
    state: watch::Sender<State>,
    address: String,
    pub(super) meters: Meters,
    reported: Mutex<Option<Instant>>,
}

#[derive(Debug, Default)]
struct State {
    /// Sessions that exist, in use or idle.
    live: u32,
    /// Sessions of an earlier era belong to a server that fell silent.
    era: u64,
    /// Sessions that the pool lacks, and that are being opened for it.
    opening: u32,
    /// Whether the last try to connect failed.
    failing: bool,
    /// Why there is no server, while there is none.
    down: Option<Arc<str>>,
    closed: bool,
}

impl Link {
    pub(super) fn new(address: String, meters: Meters) -> Self {
        Self { state: watch::Sender::default(), address, meters, reported: Mutex::new(None) }
    }

    /// Why the server is away, if it is known to be.
    pub(super) fn down(&self) -> Option<Arc<str>> {
        self.state.borrow().down.clone()
    }

    pub(super) fn live(&self) -> u32 {
        self.state.borrow().live
    }

    pub(super) fn era(&self) -> u64 {
        self.state.borrow().era
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state.borrow().closed
    }

    /// A session that was begun in `era` is open: the server is there. **Errors** when that one was given
    /// up meanwhile; the session is to be dropped then.
    pub(super) fn opened(&self, era: u64) -> Result<(), String> {
        let (mut is_current, mut was_down) = (false, None);
        self.state.send_modify(|state| {
            is_current = state.era == era;
            if is_current {
                state.live += 1;
                state.failing = false;
                was_down = state.down.take();
            }
        });
        if was_down.is_some() {
            *self.last_report() = None;
            info!(server = self.address, "the database is back");
        }
        match is_current {
            true => Ok(()),
            false => Err("the server was given up while a session was opened".to_owned()),
        }
    }

    /// A session is gone.
    pub(super) fn ended(&self) {
        self.state.send_modify(|state| state.live -= 1);
    }

    /// One try to connect failed. While sessions live, the server is not down for that.
    pub(super) fn connect_failed(&self, cause: &str) {
        self.meters.count(Counter::ConnectFailures).increment();
        self.report(cause);
        self.state.send_modify(|state| state.failing = true);
        if self.live() == 0 {
            self.set_down(cause);
        }
    }

    /// The server does not answer, whatever sessions we still hold.
    pub(super) fn fell_silent(&self, cause: &str) {
        self.report(cause);
        self.set_down(cause);
    }

    fn set_down(&self, cause: &str) {
        self.state.send_modify(|state| {
            state.down = Some(cause.into());
            state.era += 1;
        });
    }

    /// The pool lacks a session, until this is dropped.
    pub(super) fn open_for_pool(&self) -> Opening<'_> {
        self.state.send_modify(|state| state.opening += 1);
        Opening(self)
    }

    pub(super) fn pool_is_full(&self) -> bool {
        self.state.borrow().opening == 0
    }

    /// Waits until the pool lacks no session.
    pub(super) async fn pool_full(&self) {
        self.reach(|state| (state.opening == 0).then_some(())).await;
    }

    /// Waits until the pool lacks a session.
    pub(super) async fn pool_short(&self) {
        self.reach(|state| (state.opening > 0).then_some(())).await;
    }

    /// Waits until a pool of that many has no session at all, and was refused one.
    pub(super) async fn pool_refused(&self, pool_size: u32) {
        let is_refused = |state: &State| state.failing && state.opening >= pool_size;
        self.reach(|state| is_refused(state).then_some(())).await;
    }

    /// Waits until the server of `era` is given up.
    pub(super) async fn era_over(&self, era: u64) {
        self.reach(|state| (state.era != era).then_some(())).await;
    }

    /// Ends connecting for good.
    pub(super) fn close(&self) {
        self.state.send_modify(|state| state.closed = true);
    }

    /// Waits until the server is known to be away; gives the cause.
    pub(super) async fn lost(&self) -> Arc<str> {
        self.reach(|state| state.down.clone()).await
    }

    /// Waits for the first session.
    pub(super) async fn first_session(&self) {
        self.reach(|state| (state.live > 0).then_some(())).await;
    }

    /// Waits until no session is left.
    pub(super) async fn no_session(&self) {
        self.reach(|state| (state.live == 0).then_some(())).await;
    }

    /// Waits for [`Link::close`].
    pub(super) async fn closed(&self) {
        self.reach(|state| state.closed.then_some(())).await;
    }

    async fn reach<T>(&self, wanted: impl Fn(&State) -> Option<T>) -> T {
        let mut states = self.state.subscribe();
        loop {
            if let Some(found) = wanted(&states.borrow_and_update()) {
                return found;
            }
            // Cannot fail: `self` holds the sender.
            let _ = states.changed().await;
        }
    }

    /// Logs `cause`, unless something was logged a moment ago.
    pub(super) fn report(&self, cause: &str) {
        let now = Instant::now();
        let mut reported = self.last_report();
        if reported.is_none_or(|last| now.duration_since(last) >= REPORT_EVERY) {
            *reported = Some(now);
            warn!(server = self.address, cause, "trouble with the database");
        }
    }

    fn last_report(&self) -> MutexGuard<'_, Option<Instant>> {
        self.reported.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session that the pool waits for.
pub(super) struct Opening<'a>(&'a Link);

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.0.state.send_modify(|state| state.opening -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> Link {
        Link::new("test".to_owned(), Meters::detached(0))
    }

    #[test]
    fn a_failure_takes_the_server_down_and_a_session_brings_it_back() {
        let link = link();
        link.connect_failed("refused");
        assert_eq!(link.down().as_deref(), Some("refused"));
        link.opened(link.era()).unwrap();
        assert_eq!((link.down(), link.live()), (None, 1));
    }

    #[test]
    fn while_a_session_lives_a_failure_is_not_the_end() {
        let link = link();
        link.opened(link.era()).unwrap();
        link.connect_failed("too many connections");
        assert_eq!(link.down(), None);
        link.ended();
        link.connect_failed("refused");
        assert_eq!(link.down().as_deref(), Some("refused"));
    }

    #[test]
    fn a_silent_server_ends_the_era_of_its_sessions() {
        let link = link();
        let before = link.era();
        link.opened(before).unwrap();
        link.fell_silent("no answer");
        assert_eq!((link.down().as_deref(), link.live()), (Some("no answer"), 1));
        assert!(link.era() > before);
    }

    #[test]
    fn a_session_of_a_server_that_was_given_up_meanwhile_is_none() {
        let link = link();
        let before = link.era();
        link.fell_silent("the server takes no writes any more");
        assert!(link.opened(before).is_err());
        assert_eq!((link.live(), link.down().is_some()), (0, true));
        assert!(link.opened(link.era()).is_ok());
        assert_eq!((link.live(), link.down().is_some()), (1, false));
    }
}
