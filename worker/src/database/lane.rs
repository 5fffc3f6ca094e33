//! The lane: one session that all reads of a worker share, none of which waits for another's answer
//! before it is sent.
//!
//! `Database` asks here first for what reads, and asks the pool where the lane has no answer; the
//! connector opens its session, a `wire`.
//! Promises: requests that are ready in the same turn of the event loop cost one write and one read of
//! the socket together; nobody waits behind a statement that hangs, since everybody turns to the pool
//! when the lane has answered nothing for a moment, and comes back when it does; a session that ended
//! is replaced, and none of its readers hears of it; what is in flight is bounded, what nobody waits
//! for any more included.
//! Does not know: writes. Its session is read-only, so that a statement that is no read fails here
//! without harm, and is the pool's to run.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use tokio::{task::spawn_local, time::sleep};

use super::{
    config::DatabaseConfig,
    connector::Connector,
    error::DbError,
    link::Link,
    pool::add,
    rows::Rows,
    session::Params,
    wire::{Failed, Wire},
};

/// A lane that answers nothing for so long, or up to twice as long, hangs: behind a lock, a long
/// statement, a dead network.
const PATIENCE: Duration = Duration::from_millis(50);
/// A statement is sent again when others before it failed; after so many times the pool runs it.
const TRIES_MAX: u32 = 3;

pub(super) struct Lane {
    connector: Arc<Connector>,
    link: Arc<Link>,
    in_flight_max: usize,
    answer_timeout: Duration,
    lifetime: Duration,
    /// `None` while there is none to be had.
    wire: RefCell<Option<Rc<Wire>>>,
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
            wire: RefCell::default(),
            detours: Cell::default(),
        });
        spawn_local(Rc::clone(&lane).keep());
        lane
    }

    /// Runs one statement that reads. `None`: the lane cannot, ask the pool.
    ///
    /// **Blocks** up to the statement timeout, and a moment only while nobody gets an answer.
    pub(super) async fn ask(
        &self,
        sql: &'static str,
        params: Params<'_>,
    ) -> Option<Result<Rows, DbError>> {
        let answer = self.try_ask(sql, params).await;
        if answer.is_none() {
            add(&self.detours);
        }
        answer
    }

    async fn try_ask(
        &self,
        sql: &'static str,
        params: Params<'_>,
    ) -> Option<Result<Rows, DbError>> {
        for _ in 0..TRIES_MAX {
            let wire = self.usable()?;
            let reply = match wire.ask(sql, params)? {
                Ok(reply) => reply.await.ok()?,
                Err(error) => return Some(Err(error)),
            };
            match reply {
                Ok(rows) => return Some(Ok(rows)),
                Err(Failed::Skipped) => {}
                Err(Failed::Hung) => return None,
                Err(Failed::Stale) => {
                    // The next one is prepared for the tables as they are now.
                    wire.close();
                    return None;
                }
                // A server that takes no statements now, a standby that had to cut the statement off, a
                // statement that is no read: the pool has ways to deal with them.
                Err(Failed::Error(DbError::Unavailable { .. } | DbError::Conflict(_))) => {
                    return None;
                }
                Err(Failed::Error(error)) => return Some(Err(error)),
            }
        }
        None
    }

    fn usable(&self) -> Option<Rc<Wire>> {
        let wire = self.wire.borrow().clone()?;
        if !wire.is_of_this_era() {
            // Its server fell silent, or is to be left: its end brings another.
            wire.abandon();
        }
        let free = wire.is_open() && !wire.hangs() && wire.in_flight() < self.in_flight_max;
        free.then_some(wire)
    }

    pub(super) fn in_flight(&self) -> usize {
        self.wire.borrow().as_ref().map_or(0, |wire| wire.in_flight())
    }

    /// Sees to it that there is a wire, until the pool is closed.
    async fn keep(self: Rc<Self>) {
        let renewing = async {
            // The pool first: it can do all that the lane can.
            self.link.first_session().await;
            loop {
                let (wire, driver) = self.connector.open_wire().await;
                // The one before serves until now, and then what it was asked.
                self.replace(Some(Rc::clone(&wire)));
                let mut driving = spawn_local(driver.run());
                tokio::select! {
                    biased;
                    _ = &mut driving => self.replace(None),
                    () = self.watch(&wire) => {
                        wire.abandon();
                        self.replace(None);
                    }
                    () = sleep(self.lifetime) => {}
                }
            }
        };
        tokio::select! {
            biased;
            () = self.link.closed() => {}
            () = renewing => {}
        }
        self.replace(None);
    }

    fn replace(&self, wire: Option<Rc<Wire>>) {
        if let Some(old) = self.wire.replace(wire) {
            old.close();
        }
    }

    /// Lets everybody turn to the pool when the wire hangs; ends when it has hung for longer than any
    /// statement may take. One clock for all who wait: one each would cost them more than the wire does.
    async fn watch(&self, wire: &Wire) {
        loop {
            wire.is_asked().await;
            let (mut seen, mut waited) = (wire.answers(), Duration::ZERO);
            while wire.in_flight() > 0 {
                sleep(PATIENCE).await;
                waited += PATIENCE;
                if wire.answers() != seen {
                    (seen, waited) = (wire.answers(), Duration::ZERO);
                } else if waited > PATIENCE {
                    wire.hang();
                }
                if waited > self.answer_timeout {
                    return;
                }
            }
        }
    }
}
