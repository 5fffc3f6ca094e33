//! The lane: one session that all reads of a worker share, none of which waits for another's answer
//! before it is sent.
//!
//! `Database` asks here first for what reads, and asks the pool where the lane has no answer; the
//! connector opens its session, a `wire`.
//! Promises: requests that are ready in the same turn of the event loop cost one write and one read of
//! the socket together; nobody comes to wait behind a statement that takes long while a connection of
//! the pool is free, and who waits already takes the next ones that come free when little is answered for
//! a moment; a session that ended is replaced when the pool lacks none, and none of its readers
//! hears of it; each session has its clock until it ends, the one that was replaced, too; what is in
//! flight is bounded, what nobody waits for any more included.
//! Does not know: writes. Its session is read-only, so that a statement that is no read fails here
//! without harm, and is the pool's to run.

#[cfg(test)]
mod tests;

use std::{cell::RefCell, future::pending, rc::Rc, sync::Arc, time::Duration};

use tokio::{sync::Semaphore, task::spawn_local, time::timeout};

use crate::record::{self, Stage};

use super::{
    config::DatabaseConfig,
    connector::Connector,
    error::DbError,
    link::Link,
    rows::Rows,
    session::Params,
    wire::{Driver, Failed, PATIENCE, Wire},
};
use crate::meters::{Count, Counter};

/// A statement is sent again when others before it failed; after so many times the pool runs it.
const TRIES_MAX: u32 = 3;
/// A session that lacks a statement is replaced for it when it is so old.
const LEARN_AFTER: Duration = Duration::from_secs(1);

pub(super) struct Lane {
    connector: Arc<Connector>,
    link: Arc<Link>,
    /// The pool's: one for each of its sessions that is free.
    permits: Arc<Semaphore>,
    pool_size: u32,
    in_flight_max: usize,
    answer_timeout: Duration,
    lifetime: Duration,
    /// The newest one.
    wire: RefCell<Option<Rc<Wire>>>,
}

impl Lane {
    /// Begins to connect, and returns at once.
    pub(super) fn open(
        config: &DatabaseConfig,
        link: &Arc<Link>,
        connector: &Arc<Connector>,
        permits: &Arc<Semaphore>,
    ) -> Rc<Self> {
        let lane = Rc::new(Self {
            connector: Arc::clone(connector),
            link: Arc::clone(link),
            permits: Arc::clone(permits),
            pool_size: config.pool_size,
            in_flight_max: config.lane_max,
            answer_timeout: config.answer_timeout(),
            lifetime: config.connection_lifetime,
            wire: RefCell::default(),
        });
        spawn_local(Rc::clone(&lane).keep());
        lane
    }

    /// Runs one statement that reads. `None`: the lane cannot, ask the pool.
    ///
    /// **Blocks** up to the statement timeout and half a second; for a moment only where nobody is
    /// answered and the pool has room.
    pub(super) async fn ask(
        &self,
        sql: &'static str,
        params: Params<'_>,
    ) -> Option<Result<Rows, DbError>> {
        let timed = record::begin(Stage::Query(sql));
        let answer = self.try_ask(sql, params).await;
        drop(timed);
        if answer.is_none() {
            self.detours().increment();
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
            let reply = match wire.ask(sql, params, || self.pool_is_free())? {
                Ok(reply) => reply.await.ok()?,
                Err(error) => return Some(Err(error)),
            };
            match reply {
                Ok(rows) => return Some(Ok(rows)),
                // Its time is not to begin anew.
                Err(Failed::Skipped { asked }) if asked.elapsed() > PATIENCE => return None,
                Err(Failed::Skipped { .. }) => {}
                Err(Failed::Detour) => return None,
                Err(Failed::Late) => return Some(Err(self.too_late())),
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
        (wire.is_open() && wire.in_flight() < self.in_flight_max).then_some(wire)
    }

    /// Whether a statement can be run there at once.
    fn pool_is_free(&self) -> bool {
        self.permits.available_permits() > 0 && self.link.pool_is_full()
    }

    fn too_late(&self) -> DbError {
        DbError::timeout(&format!("the server gave no answer within {:?}", self.answer_timeout))
    }

    /// The pool has answered `sql`. Where the server would not prepare that for the lane, as before a
    /// migration, the next session will have it.
    pub(super) fn learn(&self, sql: &str) {
        if let Some(wire) = &*self.wire.borrow()
            && wire.was_refused(sql)
            && wire.age() > LEARN_AFTER
        {
            wire.close();
        }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.wire.borrow().as_ref().map_or(0, |wire| wire.in_flight())
    }

    /// Reads that the pool had to answer.
    pub(super) fn detours(&self) -> Count {
        self.link.meters.count(Counter::LaneDetours)
    }

    /// Sees to it that there is a wire, until the pool is closed.
    async fn keep(self: Rc<Self>) {
        let renewing = async {
            self.link.first_session().await;
            loop {
                let (wire, driver) = self.connector.open_wire().await;
                // The one before serves until now, and then what it was asked.
                self.replace(Some(Rc::clone(&wire)));
                let living = spawn_local(Rc::clone(&self).live(wire, driver));
                let _ = timeout(self.lifetime, living).await;
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

    /// The life of one wire, whether it is the newest one or not.
    async fn live(self: Rc<Self>, wire: Rc<Wire>, driver: Driver) {
        // In a task of its own: what wakes it is too frequent to look at all the rest each time.
        let mut driving = spawn_local(driver.run());
        let why = tokio::select! {
            biased;
            ended = &mut driving => ended.ok().and_then(|ended| ended.err()).map(|end| end.to_string()),
            why = wire.watch(self.answer_timeout, &self.permits) => Some(why),
            // Why, all have been told.
            () = self.link.era_over(wire.era()) => None,
            () = self.make_room(&wire) => None,
        };
        wire.abandon();
        if let Some(why) = why {
            self.link.report(&format!("the connection of the reads has ended: {why}"));
        }
    }

    /// Leaves the wire's place at the server to a pool that has none there, and is refused.
    async fn make_room(&self, wire: &Wire) {
        self.link.pool_refused(self.pool_size).await;
        wire.close();
        pending().await
    }
}
