//! The sessions of one worker, lent to one caller at a time.
//!
//! `Database` and the transactions ask here for a [`Loan`]; bb8 keeps the sessions behind it.
//! Promises: loans are given in the order of asking, and every wait is bounded (callers, time); a
//! server known to be away is told at once; closing waits for what runs on its own.
//! Does not know: what is asked.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use bb8::QueueStrategy;
use tokio::{
    sync::Semaphore,
    task::{JoinHandle, spawn_local},
    time::{Instant, sleep, timeout},
};

use crate::record::{self, Stage};

use super::{
    config::DatabaseConfig,
    connector::{Connector, Manager, Reporter},
    error::DbError,
    hosts::address,
    lane::Lane,
    link::Link,
    loan::Loan,
    tasks::Tasks,
};
use crate::meters::{Count, Counter, Meters, POOL_WAITS_AT};

/// How long ending the sessions may take.
const GOODBYE: Duration = Duration::from_secs(1);

pub(super) struct Pool {
    pub(super) config: DatabaseConfig,
    pub(super) link: Arc<Link>,
    connector: Arc<Connector>,
    /// A session of the lane has statements of its own: there is none behind a transaction pooler.
    pub(super) lane: Option<Rc<Lane>>,
    /// `None` once closed.
    sessions: RefCell<Option<bb8::Pool<Manager>>>,
    /// One per session. bb8 hands out idle sessions without an order, the semaphore first come,
    /// first served. The lane looks whether one is free.
    permits: Arc<Semaphore>,
    tasks: Tasks,
    waiting: Cell<usize>,
    /// Statements answered, one way or the other: a sign that the server lives.
    pub(super) answers: Cell<u64>,
    probing: Cell<bool>,
}

impl Pool {
    /// Begins to connect, and returns at once.
    pub(super) fn open(config: DatabaseConfig, meters: Meters) -> Rc<Self> {
        let link = Arc::new(Link::new(address(&config.server), meters));
        let connector = Arc::new(Connector::new(&config, Arc::clone(&link)));
        let permits = Arc::new(Semaphore::new(config.pool_size as usize));
        let lane = match config.transaction_pooler {
            true => None,
            false => Some(Lane::open(&config, &link, &connector, &permits)),
        };
        let sessions = bb8::Pool::builder()
            .max_size(config.pool_size)
            .min_idle(config.pool_size)
            .idle_timeout(None)
            // The session used last has its server process awake and its caches warm.
            .queue_strategy(QueueStrategy::Lifo)
            .max_lifetime(config.connection_lifetime)
            // The connector tries until it succeeds, and the wait for a loan is bounded below.
            .retry_connection(false)
            .connection_timeout(config.pool_wait * 2)
            .error_sink(Box::new(Reporter(Arc::clone(&link))))
            .build_unchecked(Manager(Arc::clone(&connector)));
        Rc::new(Self {
            permits,
            sessions: RefCell::new(Some(sessions)),
            tasks: Tasks::default(),
            waiting: Cell::default(),
            answers: Cell::default(),
            probing: Cell::default(),
            config,
            link,
            connector,
            lane,
        })
    }

    /// Lends a session to one caller alone.
    ///
    /// **Blocks** up to the pool wait; not at all while the server is known to be away.
    pub(super) async fn lend(self: &Rc<Self>) -> Result<Loan, DbError> {
        if let Some(cause) = self.link.down() {
            return Err(DbError::Unavailable { cause });
        }
        let _place = self.queue()?;
        let asked = Instant::now();
        let _timed = record::begin(Stage::PoolWait);
        tokio::select! {
            biased;
            loan = self.next_session() => loan.inspect(|_| self.waited_since(asked)),
            cause = self.link.lost() => Err(DbError::Unavailable { cause }),
            () = sleep(self.config.pool_wait) => Err(self.waited_in_vain()),
        }
    }

    /// Tells how long a loan was waited for.
    fn waited_since(&self, asked: Instant) {
        self.link.meters.observe(POOL_WAITS_AT, asked.elapsed());
    }

    /// Callers that found every connection in use.
    pub(super) fn waited(&self) -> Count {
        self.link.meters.count(Counter::PoolWaits)
    }

    /// Callers that got none.
    pub(super) fn waits_over(&self) -> Count {
        self.link.meters.count(Counter::PoolTimeouts)
    }

    /// Statements cut off.
    pub(super) fn timeouts(&self) -> Count {
        self.link.meters.count(Counter::StatementTimeouts)
    }

    /// Takes a place among those who wait, if there is one.
    fn queue(&self) -> Result<Place<'_>, DbError> {
        if self.permits.available_permits() == 0 {
            if self.waiting.get() >= self.config.waiters_max {
                self.waits_over().increment();
                return Err(DbError::Busy { cause: "too many callers wait already" });
            }
            self.waited().increment();
        }
        Ok(Place::take(&self.waiting))
    }

    async fn next_session(self: &Rc<Self>) -> Result<Loan, DbError> {
        let closed = || DbError::unavailable("the pool is closed");
        let permits = Arc::clone(&self.permits);
        let permit = permits.acquire_owned().await.map_err(|_| closed())?;
        let sessions = self.sessions.borrow().clone().ok_or_else(closed)?;
        let session = sessions.get_owned().await.map_err(|_| self.waited_in_vain())?;
        Ok(Loan::new(session, permit, Rc::clone(self)))
    }

    /// Tells a pool in use from a server that is away.
    fn waited_in_vain(&self) -> DbError {
        self.waits_over().increment();
        if self.link.live() > 0 {
            return DbError::Busy { cause: "none came free within the pool wait" };
        }
        let cause = format!("no connection within {:?}", self.config.pool_wait);
        self.link.fell_silent(&cause);
        DbError::unavailable(&cause)
    }

    /// Runs `work` to its end, whoever stops waiting for it.
    pub(super) fn spawn<T: 'static>(
        &self,
        work: impl Future<Output = T> + 'static,
    ) -> JoinHandle<T> {
        self.tasks.spawn(work)
    }

    /// Waits until nothing runs on its own any more, at most `within`, then ends all sessions.
    /// Gives how many still ran.
    pub(super) async fn close(&self, within: Duration) -> usize {
        let _ = timeout(within, self.tasks.none()).await;
        let running = self.tasks.count();
        self.permits.close();
        self.link.close();
        drop(self.sessions.take());
        if running == 0 {
            let _ = timeout(GOODBYE, self.link.no_session()).await;
        }
        // The connections' own tasks, which nobody can wait for, now have our word to end: one turn
        // of the event loop to write it, one to close.
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        running
    }

    pub(super) fn in_use(&self) -> usize {
        (self.config.pool_size as usize).saturating_sub(self.permits.available_permits())
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.get()
    }

    pub(super) fn running(&self) -> usize {
        self.tasks.count()
    }

    /// Waits until the server is known to be silent; gives the cause. Has it asked first, unless it
    /// has answered anyone since there were `answers`. For as long as it lives, this never ends.
    pub(super) async fn silent(self: &Rc<Self>, answers: u64) -> Arc<str> {
        if self.answers.get() == answers && !self.probing.replace(true) {
            // Not in this future: its client may leave, and the others wait for the outcome too.
            // Nor among `tasks`: a pool that closes need not wait for it.
            spawn_local(Rc::clone(self).probe());
        }
        self.link.lost().await
    }

    async fn probe(self: Rc<Self>) {
        let _turn = Reset(&self.probing);
        if let Err(cause) = self.connector.probe().await {
            self.link.fell_silent(&cause);
        }
    }
}

/// One caller that waits for a session.
struct Place<'a>(&'a Cell<usize>);

impl<'a> Place<'a> {
    fn take(waiting: &'a Cell<usize>) -> Self {
        waiting.set(waiting.get() + 1);
        Self(waiting)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Clears a mark, also when its holder is dropped.
struct Reset<'a>(&'a Cell<bool>);

impl Drop for Reset<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}
