//! The deadline of a connection: what it waits for now, and until when.
//!
//! `socket.rs` reports bytes, `answer.rs` reports requests and responses; `connection.rs` keeps one timer
//! and asks for the deadline. (hyper has one setting for both the head and the idle time.)
//! Promises: in every phase there is a deadline, here or in the room that works on the request; keeping
//! it costs a few stores per request, and no timer is moved while requests follow one another.
//! Does not know: bytes.

use std::cell::Cell;

use tokio::time::Instant;

use crate::config::Limits;

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The first byte.
    Silent,
    /// The rest of a request's head.
    Head,
    /// The handler; it has deadlines of its own.
    Handler,
    /// The client, to take the response.
    Response,
    /// The next request.
    Idle,
    /// The client, to stop sending what nobody reads.
    Linger,
}

/// The phase of one connection, and its deadline.
pub(crate) struct Watch {
    phase: Cell<Phase>,
    due: Cell<Option<Instant>>,
    stalled: Cell<Option<Instant>>,
    /// When the response was made, as long as the kernel takes all that is written.
    answered: Cell<Option<Instant>>,
    /// Whether the request at work was received to its end, its body included.
    whole: Cell<bool>,
    /// Whether something came after that.
    ahead: Cell<bool>,
    /// Whether the time for the first byte, or for the next request, is over.
    expired: Cell<bool>,
}

impl Watch {
    /// A connection that was just accepted.
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            phase: Cell::new(Phase::Silent),
            due: Cell::new(Some(Instant::now() + limits.first_byte_timeout)),
            stalled: Cell::new(None),
            answered: Cell::new(None),
            whole: Cell::new(true),
            ahead: Cell::new(false),
            expired: Cell::new(false),
        }
    }

    /// Bytes came. Those of the next request that come ahead of its turn count from the turn's start; those
    /// that come together with the end of the request before cannot be told from it.
    pub(crate) fn received(&self, limits: &Limits) {
        match self.phase.get() {
            Phase::Silent => self.await_head(limits),
            Phase::Idle if self.whole.get() => self.await_head(limits),
            Phase::Handler | Phase::Response if self.whole.get() => self.ahead.set(true),
            _ => {}
        }
    }

    /// The request at work was received to its end.
    pub(crate) fn received_whole(&self) {
        self.whole.set(true);
    }

    /// When the head that is complete now has begun; `None` when it came together with something else.
    pub(crate) fn head_began(&self, limits: &Limits) -> Option<Instant> {
        let due = self.due.get().filter(|_| self.is_in_head());
        due.and_then(|due| due.checked_sub(limits.head_timeout))
    }

    /// A head is complete and its request is being answered.
    pub(crate) fn asked(&self) {
        self.whole.set(false);
        self.ahead.set(false);
        self.enter(Phase::Handler, None);
    }

    /// The response is on its way, since `now`.
    pub(crate) fn answered(&self, now: Instant) {
        self.enter(Phase::Response, None);
        self.answered.set(Some(now));
    }

    /// Everything written so far has been taken by the kernel.
    pub(crate) fn flushed(&self, limits: &Limits) {
        self.stalled.set(None);
        if self.phase.get() != Phase::Response {
            return;
        }
        // A response that did not have to wait is flushed in the moment it is made.
        let now = self.answered.take().unwrap_or_else(Instant::now);
        if self.ahead.take() {
            self.enter(Phase::Head, Some(now + limits.head_timeout));
        } else {
            self.enter(Phase::Idle, Some(now + limits.keepalive_timeout));
        }
    }

    /// Something, but not all, was written.
    pub(crate) fn moved(&self) {
        self.stalled.set(None);
    }

    /// The kernel takes no more, since the client does not read.
    pub(crate) fn stalled(&self, limits: &Limits) {
        self.answered.set(None);
        if self.stalled.get().is_none() {
            self.stalled.set(Some(Instant::now() + limits.write_idle_timeout));
        }
    }

    /// All is said; what the client still sends is awaited until `due`.
    pub(crate) fn lingers(&self, due: Instant) {
        self.enter(Phase::Linger, Some(due));
    }

    /// Whether a head has begun and not ended.
    pub(crate) fn is_in_head(&self) -> bool {
        self.phase.get() == Phase::Head
    }

    /// Whether no request is at work, nor its response on its way: what is written now answers none. (An
    /// answer to what is no request that is written behind a response which its client does not read
    /// counts as a part of that.)
    pub(crate) fn is_between_requests(&self) -> bool {
        matches!(self.phase.get(), Phase::Silent | Phase::Head | Phase::Idle)
    }

    /// Whether there is no request: all that came before was answered, and nothing of another is here.
    pub(crate) fn is_idle(&self) -> bool {
        match self.phase.get() {
            Phase::Silent => true,
            Phase::Idle => self.whole.get(),
            _ => false,
        }
    }

    /// The deadline is over. Gives whether that was one for something to come: the connection is to be
    /// closed then, unless it has come.
    pub(crate) fn expire(&self) -> bool {
        self.expired.set(self.is_idle());
        self.expired.get()
    }

    /// Whether an idle connection is to be closed.
    pub(crate) fn is_expired(&self) -> bool {
        self.expired.get()
    }

    /// When the connection is to be cut; `None` while a handler works.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match (self.due.get(), self.stalled.get()) {
            (Some(due), Some(stalled)) => Some(due.min(stalled)),
            (due, stalled) => due.or(stalled),
        }
    }

    fn await_head(&self, limits: &Limits) {
        self.enter(Phase::Head, Some(Instant::now() + limits.head_timeout));
    }

    fn enter(&self, phase: Phase, due: Option<Instant>) {
        self.phase.set(phase);
        self.due.set(due);
        self.expired.set(false);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn in_seconds(watch: &Watch) -> Option<u64> {
        watch.deadline().map(|due| due.duration_since(Instant::now()).as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn every_phase_has_its_limit() {
        let limits = Limits::default();
        let watch = Watch::new(&limits);
        assert_eq!(in_seconds(&watch), Some(10));
        tokio::time::advance(Duration::from_secs(4)).await;
        watch.received(&limits);
        assert_eq!(in_seconds(&watch), Some(10));
        watch.asked();
        assert_eq!(in_seconds(&watch), None);
        watch.answered(Instant::now());
        watch.flushed(&limits);
        assert_eq!(in_seconds(&watch), Some(75));
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_began_behind_a_request_has_its_time_from_the_answer_on() {
        let limits = Limits::default();
        let watch = Watch::new(&limits);
        watch.asked();
        // The body of this request is no head of the next.
        watch.received(&limits);
        watch.received_whole();
        watch.answered(Instant::now());
        watch.flushed(&limits);
        assert_eq!(in_seconds(&watch), Some(75));
        watch.asked();
        watch.received_whole();
        watch.received(&limits);
        assert_eq!(in_seconds(&watch), None);
        watch.answered(Instant::now());
        watch.flushed(&limits);
        assert_eq!(in_seconds(&watch), Some(10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_trickled_head_does_not_move_its_deadline() {
        let limits = Limits::default();
        let watch = Watch::new(&limits);
        watch.received(&limits);
        tokio::time::advance(Duration::from_secs(6)).await;
        watch.received(&limits);
        assert_eq!(in_seconds(&watch), Some(4));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_slowly_is_idle_from_the_last_byte_on() {
        let limits = Limits::default();
        let watch = Watch::new(&limits);
        watch.asked();
        watch.received_whole();
        watch.answered(Instant::now());
        watch.stalled(&limits);
        tokio::time::advance(Duration::from_secs(6)).await;
        watch.moved();
        watch.flushed(&limits);
        assert_eq!(in_seconds(&watch), Some(75));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_cut_whatever_else_it_does() {
        let limits = Limits::default();
        let watch = Watch::new(&limits);
        watch.asked();
        watch.answered(Instant::now());
        watch.stalled(&limits);
        tokio::time::advance(Duration::from_secs(6)).await;
        watch.asked();
        watch.stalled(&limits);
        assert_eq!(in_seconds(&watch), Some(4));
        watch.moved();
        assert_eq!(in_seconds(&watch), None);
    }
}
