//! What is noted of a request while it is answered: how long it waited for what, and who asks.
//!
//! `answer.rs` makes one for each request where somebody wants to know, and enters it whenever the
//! request's handler runs; the rooms of the database note their times in whichever is entered.
//! Promises: where nobody wants to know, the rooms pay one look at a thread-local; a wait that is given up
//! is noted, too.
//! Does not know: HTTP, who reads it.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

/// What a request waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The rest of its head, before there was a record.
    Head {
        /// Its connection was accepted for it, and has had no other request.
        is_first: bool,
    },
    /// Its handler.
    Handler,
    /// A connection of the pool.
    PoolWait,
    /// The database's answer to this statement.
    Query(&'static str),
}

/// A stage, and when it was.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) stage: Stage,
    pub(crate) begin: Instant,
    pub(crate) end: Instant,
}

/// The record of one request.
#[derive(Debug, Default)]
pub(crate) struct Record {
    database_us: Cell<u64>,
    pool_wait_us: Cell<u64>,
    user: Cell<Option<Uuid>>,
    /// All stages, where they are wanted one by one.
    spans: Option<RefCell<Vec<Span>>>,
}

/// The most spans of one request; its sums go on.
const SPANS_MAX: usize = 64;

thread_local! {
    /// That of the request whose handler runs now.
    static ENTERED: RefCell<Option<Rc<Record>>> = const { RefCell::new(None) };
}

impl Record {
    /// One that keeps every stage if `with_spans`.
    pub(crate) fn new(with_spans: bool) -> Rc<Self> {
        Rc::new(Self { spans: with_spans.then(RefCell::default), ..Self::default() })
    }

    pub(crate) fn database_us(&self) -> u64 {
        self.database_us.get()
    }

    pub(crate) fn pool_wait_us(&self) -> u64 {
        self.pool_wait_us.get()
    }

    pub(crate) fn user(&self) -> Option<Uuid> {
        self.user.get()
    }

    pub(crate) fn set_user(&self, user: Uuid) {
        self.user.set(Some(user));
    }

    /// The stages so far, in the order of their ends.
    pub(crate) fn take_spans(&self) -> Option<Vec<Span>> {
        self.spans.as_ref().map(RefCell::take)
    }

    /// Whether anybody will ask when such a stage was: the clock costs more than the rest.
    fn wants(&self, stage: Stage) -> bool {
        self.spans.is_some() || matches!(stage, Stage::PoolWait | Stage::Query(_))
    }

    pub(crate) fn note(&self, span: Span) {
        let Span { stage, begin, end } = span;
        let sum = match stage {
            Stage::PoolWait => Some(&self.pool_wait_us),
            Stage::Query(_) => Some(&self.database_us),
            Stage::Head { .. } | Stage::Handler => None,
        };
        if let Some(sum) = sum {
            sum.set(sum.get() + us(end.duration_since(begin)));
        }
        if let Some(spans) = &self.spans
            && spans.borrow().len() < SPANS_MAX
        {
            spans.borrow_mut().push(span);
        }
    }
}

/// Runs `work`, whose waits are noted in `record`. It is pinned already, so that there is one of it, not
/// another one to move it from.
pub(crate) fn within<T>(
    record: Option<Rc<Record>>,
    mut work: impl Future<Output = T> + Unpin,
) -> impl Future<Output = T> {
    poll_fn(move |cx| {
        let _entered = record.as_ref().map(Entered::new);
        Pin::new(&mut work).poll(cx)
    })
}

/// While it lives, a record is entered; then the one before, also after a panic.
struct Entered(Option<Rc<Record>>);

impl Entered {
    fn new(record: &Rc<Record>) -> Self {
        Self(ENTERED.replace(Some(Rc::clone(record))))
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        ENTERED.set(self.0.take());
    }
}

/// The record of the request whose work runs now, if there is one.
pub(crate) fn entered() -> Option<Rc<Record>> {
    ENTERED.with_borrow(Clone::clone)
}

/// Begins a stage of the request that runs now; it ends when this is dropped.
pub(crate) fn begin(stage: Stage) -> Timed {
    let record = entered().filter(|record| record.wants(stage));
    Timed(record.map(|record| (record, stage, Instant::now())))
}

/// A stage that has begun.
#[must_use]
pub(crate) struct Timed(Option<(Rc<Record>, Stage, Instant)>);

impl Drop for Timed {
    fn drop(&mut self) {
        if let Some((record, stage, begin)) = self.0.take() {
            record.note(Span { stage, begin, end: Instant::now() });
        }
    }
}

/// A time in microseconds.
pub(crate) fn us(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use tokio::task::{spawn_local, yield_now};
    use tokio::time::{advance, sleep};

    use super::*;

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn waits_are_noted_for_the_request_whose_they_are() {
        let [one, other] = [Record::new(true), Record::new(false)];
        let work = |stage, ms| {
            Box::pin(async move {
                let timed = begin(stage);
                sleep(Duration::from_millis(ms)).await;
                drop(timed);
            })
        };
        let first = spawn_local(within(Some(Rc::clone(&one)), work(Stage::PoolWait, 30)));
        let second =
            spawn_local(within(Some(Rc::clone(&other)), work(Stage::Query("SELECT 1"), 20)));
        first.await.unwrap();
        second.await.unwrap();
        work(Stage::PoolWait, 5).await;
        assert_eq!((one.pool_wait_us(), one.database_us()), (30_000, 0));
        assert_eq!((other.pool_wait_us(), other.database_us()), (0, 20_000));
        assert_eq!(one.take_spans().map(|spans| spans.len()), Some(1));
        assert!(other.take_spans().is_none() && entered().is_none());
    }

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn a_wait_that_is_given_up_is_noted() {
        let record = Record::new(false);
        let work = Box::pin(async {
            let _timed = begin(Stage::PoolWait);
            std::future::pending::<()>().await;
        });
        let waiting = spawn_local(within(Some(Rc::clone(&record)), work));
        yield_now().await;
        advance(Duration::from_millis(7)).await;
        waiting.abort();
        let _ = waiting.await;
        assert_eq!(record.pool_wait_us(), 7_000);
    }

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn a_request_of_many_waits_keeps_some_and_sums_up_all() {
        let record = Record::new(true);
        let begin = Instant::now();
        let end = begin + Duration::from_millis(1);
        for _ in 0..1000 {
            record.note(Span { stage: Stage::Query("SELECT 1"), begin, end });
        }
        assert_eq!(record.take_spans().map(|spans| spans.len()), Some(SPANS_MAX));
        assert_eq!(record.database_us(), 1_000_000);
    }

    #[tokio::test(flavor = "local")]
    async fn a_panic_leaves_nobody_entered() {
        let record = Record::new(false);
        let ended =
            spawn_local(within(Some(record), Box::pin(async { panic!("a mistake") }))).await;
        assert!(ended.is_err() && entered().is_none());
    }
}
