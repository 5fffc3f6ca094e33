//! The lane: one session that all reads of a worker share, each sent without waiting for the others'
//! answers.
//!
//! `Database` asks here first for what reads a row, and asks the pool where the lane has no answer;
//! the connector opens its session.
//! Promises: requests that are ready in the same turn of the event loop cost one write and one read
//! of the socket together; nobody waits behind a statement that hangs, since everybody turns to the
//! pool when the lane has answered nothing for a moment, and comes back when it does; a session that
//! ended is replaced, and none of its readers hears of it; what is in flight is bounded, what
//! nobody waits for any more included.
//! Does not know: writes. Its session is read-only, so that a statement that is none fails here
//! without harm, and is the pool's to run.
//!
//! Source: PostgreSQL, "Message Flow, Pipelining".

use std::{
    cell::{Cell, RefCell},
    pin::pin,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use tokio::{sync::Notify, task::spawn_local, time::timeout};

use super::{
    config::DatabaseConfig,
    connector::Connector,
    error::DbError,
    link::Link,
    pool::add,
    session::{Answer, Params, Session, State},
};

/// A lane that answers nothing for so long hangs: behind a lock, a long statement, a dead network.
const PATIENCE: Duration = Duration::from_millis(50);

pub(super) struct Lane {
    connector: Arc<Connector>,
    link: Arc<Link>,
    in_flight_max: usize,
    answer_timeout: Duration,
    lifetime: Duration,
    /// `None` while there is none to be had.
    session: RefCell<Option<Rc<Session>>>,
    /// Told when the session is of no more use.
    lost: Notify,
    /// Statements whose answers are outstanding.
    in_flight: Cell<usize>,
    /// Statements answered since the start.
    answers: Cell<u64>,
    /// How many answers there were when the lane was seen to hang; it hangs until there is one more.
    hung_at: Cell<Option<u64>>,
    /// Reads that the pool had to answer.
    pub(super) detours: Cell<u64>,
}

impl Lane {
    /// Begins to connect, and returns at once.
    pub(super) fn open(
        config: &DatabaseConfig,
        link: &Arc<Link>,
        connector: &Arc<Connector>,
    ) -> Rc<Self> {
        let lane = Rc::new(Self {
            connector: Arc::clone(connector),
            link: Arc::clone(link),
            in_flight_max: config.lane_max,
            answer_timeout: config.answer_timeout(),
            lifetime: config.connection_lifetime,
            session: RefCell::default(),
            lost: Notify::new(),
            in_flight: Cell::default(),
            answers: Cell::default(),
            hung_at: Cell::default(),
            detours: Cell::default(),
        });
        spawn_local(Rc::clone(&lane).keep());
        lane
    }

    /// Runs one statement that reads. `None`: the lane cannot, ask the pool.
    ///
    /// **Blocks** up to the statement timeout, and a moment only while nobody gets an answer.
    pub(super) async fn ask(
        self: &Rc<Self>,
        sql: &'static str,
        params: Params<'_>,
    ) -> Option<Result<Answer, DbError>> {
        let answer = match self.enter() {
            Some(passage) => passage.ask(sql, params).await,
            None => None,
        };
        if answer.is_none() {
            add(&self.detours);
        }
        answer
    }

    fn enter(self: &Rc<Self>) -> Option<Passage> {
        if self.hangs() || self.in_flight.get() >= self.in_flight_max {
            return None;
        }
        let session = self.session.borrow().clone()?;
        if !session.is_reusable() {
            self.retire(&session);
            return None;
        }
        self.in_flight.set(self.in_flight.get() + 1);
        Some(Passage { lane: Rc::clone(self), session, answered: false })
    }

    fn hangs(&self) -> bool {
        self.hung_at.get() == Some(self.answers.get())
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.get()
    }

    /// Gives `session` to nobody any more, and asks for another.
    fn retire(&self, session: &Rc<Session>) {
        let mut current = self.session.borrow_mut();
        if current.as_ref().is_some_and(|current| Rc::ptr_eq(current, session)) {
            *current = None;
            self.lost.notify_one();
        }
    }

    /// Sees to it that there is a session, until the pool is closed. One that grew old serves until
    /// its successor is there.
    async fn keep(self: Rc<Self>) {
        let renew = async {
            loop {
                let session = Rc::new(self.connector.open_read_only().await);
                self.session.replace(Some(session));
                let _ = timeout(self.lifetime, self.lost.notified()).await;
            }
        };
        tokio::select! {
            biased;
            () = self.link.closed() => {}
            () = renew => {}
        }
        self.session.take();
    }
}

/// One statement on its way through the lane.
struct Passage {
    lane: Rc<Lane>,
    session: Rc<Session>,
    answered: bool,
}

impl Passage {
    async fn ask(
        mut self,
        sql: &'static str,
        params: Params<'_>,
    ) -> Option<Result<Answer, DbError>> {
        let lane = Rc::clone(&self.lane);
        let session = Rc::clone(&self.session);
        let mut question = pin!(session.run(sql, params));
        loop {
            let seen = lane.answers.get();
            match timeout(PATIENCE, &mut question).await {
                Ok(answer) => {
                    self.answered = true;
                    add(&lane.answers);
                    return for_caller(answer);
                }
                // A lane that is only slow answers others meanwhile.
                Err(_) if lane.answers.get() != seen => {}
                Err(_) => {
                    lane.hung_at.set(Some(seen));
                    return None;
                }
            }
        }
    }
}

/// A session that ended, a server that takes no statements now, a standby that had to cut the
/// statement off, a statement that is no read: the pool has ways to deal with them.
fn for_caller(answer: Result<Answer, DbError>) -> Option<Result<Answer, DbError>> {
    match answer {
        Err(DbError::Unavailable { .. } | DbError::Conflict(_)) => None,
        answer => Some(answer),
    }
}

impl Drop for Passage {
    /// The answer to a statement that nobody waits for any more is in flight all the same, until
    /// the session has answered what was asked behind it.
    fn drop(&mut self) {
        let (lane, session) = (Rc::clone(&self.lane), Rc::clone(&self.session));
        if self.answered {
            lane.in_flight.set(lane.in_flight.get() - 1);
            return;
        }
        spawn_local(async move {
            match timeout(lane.answer_timeout, session.settle()).await {
                Ok(Ok(())) => add(&lane.answers),
                _ => {
                    session.enter(State::Lost);
                    lane.retire(&session);
                }
            }
            lane.in_flight.set(lane.in_flight.get() - 1);
        });
    }
}
