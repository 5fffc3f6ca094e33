//! A session of the lane: statements out, answers in, any number of them on the way.
//!
//! The lane asks; [`Wire::open`] goes on where `dial` ended, and what it gives with the wire drives it;
//! [`Wire::watch`] is its clock.
//! Promises: the statements of one turn of the event loop leave in one write, with one Sync for at most
//! [`BATCH_MAX`] of them, so that the server answers them in one write, too; each gets its own answer
//! or its own error; those behind one that failed, which the server leaves out up to the Sync, are told
//! so; whose caller has left is answered into the void; nobody waits behind one that waits for [`LATE`] if
//! there is another way, unless it is the number that makes them wait.
//! Does not know: what is asked, or what that other way is.
//!
//! Between two Syncs the server has one transaction. That is sound for what only reads: each statement
//! sees what was committed when it began, as it would alone.
//!
//! Source: PostgreSQL, "Message Flow, Extended Query" and "Pipelining".

mod clock;
mod driver;
mod prepare;
mod statement;
#[cfg(test)]
mod tests;

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    sync::Arc,
    task::Waker,
    time::Duration,
};

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

use self::prepare::{Described, Prepared};
pub(super) use self::{clock::PATIENCE, driver::Driver};
use super::{
    dial::Socket,
    error::DbError,
    link::Link,
    rows::{Column, Rows},
    session::Params,
};

/// Statements between two Syncs at most: so many share the fate of the slowest among them.
const BATCH_MAX: u32 = 32;
/// The oldest statement has waited for so long: others are quicker elsewhere.
const LATE: Duration = Duration::from_millis(5);

pub(super) struct Wire {
    prepared: Prepared,
    opened: Instant,
    state: RefCell<State>,
    /// Statements answered, with rows or with an error.
    answers: Cell<u64>,
    /// Whether it has answered many a moment ago.
    is_quick: Cell<bool>,
    /// Told with the next statement, where that is waited for.
    asked: Notify,
    is_idle: Cell<bool>,
    era: u64,
    link: Arc<Link>,
}

/// What the askers and the driver share.
#[derive(Default)]
struct State {
    /// Not yet taken by the socket.
    outbox: BytesMut,
    /// What the server owes, in its order.
    owed: VecDeque<Owed>,
    /// Statements since the last Sync.
    unsynced: u32,
    /// When the first of them was asked. One look at the clock is enough for all.
    turn: Option<Instant>,
    stage: Stage,
    /// The driver's, while it waits.
    driver: Option<Waker>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Open,
    /// What is owed is awaited, then it is closed.
    Closing,
    /// To be closed as it is, or closed already.
    Over,
}

enum Owed {
    /// To somebody, or to nobody any more.
    Answer {
        columns: Rc<[Column]>,
        asked: Instant,
        asker: Option<oneshot::Sender<Reply>>,
    },
    Sync,
}

/// What comes of one statement. No reply at all: the session ended.
pub(super) type Reply = Result<Rows, Failed>;

#[derive(Debug)]
pub(super) enum Failed {
    /// By its own fault, or that of its data.
    Error(DbError),
    /// It was not run, since one before it failed.
    Skipped {
        /// When it was asked.
        asked: Instant,
    },
    /// Nobody is answered at the moment, and elsewhere there is room now; it may be run yet.
    Detour,
    /// It was not answered in its time; it may be run yet.
    Late,
    /// It was prepared for tables that have changed since.
    Stale,
}

impl Wire {
    /// Prepares `warm` on a session that was begun in `era`. **Errors** when that is over, too.
    pub(super) async fn open(
        mut socket: Socket,
        warm: &[&'static str],
        link: &Arc<Link>,
        era: u64,
    ) -> Result<(Rc<Self>, Driver), String> {
        let prepared = prepare::all(&mut socket, warm).await.map_err(|error| error.to_string())?;
        link.opened(era)?;
        let wire = Rc::new(Self {
            prepared,
            opened: Instant::now(),
            state: RefCell::default(),
            answers: Cell::default(),
            is_quick: Cell::default(),
            asked: Notify::new(),
            is_idle: Cell::default(),
            era,
            link: Arc::clone(link),
        });
        let driver = Driver::new(Rc::clone(&wire), socket);
        Ok((wire, driver))
    }

    /// Sends a statement with this turn of the event loop. `None`: it is not prepared here, or it would
    /// wait, and `can_detour`.
    pub(super) fn ask(
        &self,
        sql: &str,
        params: Params<'_>,
        can_detour: impl FnOnce() -> bool,
    ) -> Option<Result<oneshot::Receiver<Reply>, DbError>> {
        let Described::Ready(statement) = self.prepared.get(sql)? else { return None };
        let mut state = self.state.borrow_mut();
        let asked = state.turn.unwrap_or_else(Instant::now);
        if !self.is_quick.get() && state.is_late(asked) && can_detour() {
            return None;
        }
        if let Err(error) = statement.encode(params, &mut state.outbox) {
            return Some(Err(error));
        }
        let (asker, reply) = oneshot::channel();
        let columns = Rc::clone(&statement.columns);
        state.push(Owed::Answer { columns, asked, asker: Some(asker) }, asked);
        if self.is_idle.take() {
            self.asked.notify_one();
        }
        Some(Ok(reply))
    }

    /// Whether it takes statements.
    pub(super) fn is_open(&self) -> bool {
        self.state.borrow().stage == Stage::Open
    }

    /// Whether the server would not prepare `sql` when the session began.
    pub(super) fn was_refused(&self, sql: &str) -> bool {
        matches!(self.prepared.get(sql), Some(Described::Refused))
    }

    pub(super) fn age(&self) -> Duration {
        self.opened.elapsed()
    }

    /// Its server is the one to ask until the era is over.
    pub(super) fn era(&self) -> u64 {
        self.era
    }

    /// What the server owes; a few Syncs are counted with it.
    pub(super) fn in_flight(&self) -> usize {
        self.state.borrow().owed.len()
    }

    /// Takes no more statements, and ends when those on the way are answered.
    pub(super) fn close(&self) {
        self.enter(Stage::Closing);
    }

    /// Ends at once.
    pub(super) fn abandon(&self) {
        self.enter(Stage::Over);
    }

    fn enter(&self, stage: Stage) {
        let mut state = self.state.borrow_mut();
        if state.stage != Stage::Over {
            state.stage = stage;
        }
        state.wake();
    }
}

impl State {
    /// A statement was put into the outbox.
    fn push(&mut self, owed: Owed, asked: Instant) {
        self.owed.push_back(owed);
        self.turn = Some(asked);
        self.unsynced += 1;
        if self.unsynced == BATCH_MAX {
            self.sync();
        }
        self.wake();
    }

    fn sync(&mut self) {
        frontend::sync(&mut self.outbox);
        self.owed.push_back(Owed::Sync);
        self.unsynced = 0;
        self.turn = None;
    }

    fn is_late(&self, now: Instant) -> bool {
        self.oldest().is_some_and(|asked| now.duration_since(asked) > LATE)
    }

    /// When the statement was asked that the server is at.
    fn oldest(&self) -> Option<Instant> {
        self.owed.iter().find_map(|owed| match owed {
            Owed::Answer { asked, .. } => Some(*asked),
            Owed::Sync => None,
        })
    }

    fn wake(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }
}
