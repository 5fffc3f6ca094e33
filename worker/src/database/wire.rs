//! A session of the lane: statements out, answers in, any number of them on the way.
//!
//! The lane asks; [`Wire::open`] goes on where `dial` ended, and what it gives with the wire drives it.
//! Promises: the statements of one turn of the event loop leave in one write, with one Sync for at most
//! [`BATCH_MAX`] of them, so that the server answers them in one write, too; each gets its own answer
//! or its own error; those behind one that failed, which the server leaves out up to the Sync, are told
//! so; whose caller has left is answered into the void.
//! Does not know: time, or what is asked.
//!
//! Between two Syncs the server has one transaction. That is sound for what only reads: each statement
//! sees what was committed when it began, as it would alone.
//!
//! Source: PostgreSQL, "Message Flow, Extended Query" and "Pipelining".

mod driver;
mod prepare;
#[cfg(test)]
mod tests;

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, VecDeque},
    rc::Rc,
    sync::Arc,
    task::Waker,
};

use bytes::BytesMut;
use postgres_protocol::message::frontend::{self, BindError};
use tokio::sync::{Notify, oneshot};
use tokio_postgres::types::Type;

pub(super) use self::driver::Driver;
use super::{
    dial::Socket,
    error::DbError,
    link::Link,
    rows::{Column, Rows},
    session::Params,
};

/// Statements between two Syncs at most: so many share the fate of the slowest among them.
const BATCH_MAX: u32 = 32;

pub(super) struct Wire {
    statements: HashMap<&'static str, Statement>,
    state: RefCell<State>,
    /// Statements answered, with rows or with an error.
    answers: Cell<u64>,
    /// How many answers there were when it was seen to hang; it hangs until there is one more.
    hung_at: Cell<Option<u64>>,
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
    Skipped,
    /// Nobody is answered at the moment; it may be run yet.
    Hung,
    /// It was prepared for tables that have changed since.
    Stale,
}

/// A statement as the server knows it.
struct Statement {
    name: String,
    params: Vec<Type>,
    columns: Rc<[Column]>,
}

impl Wire {
    /// Prepares `warm` on a session that was just begun.
    pub(super) async fn open(
        mut socket: Socket,
        warm: &[&'static str],
        link: &Arc<Link>,
    ) -> Result<(Rc<Self>, Driver), String> {
        let statements =
            prepare::all(&mut socket, warm).await.map_err(|error| error.to_string())?;
        let wire = Rc::new(Self {
            statements,
            state: RefCell::default(),
            answers: Cell::default(),
            hung_at: Cell::default(),
            asked: Notify::new(),
            is_idle: Cell::default(),
            era: link.opened(),
            link: Arc::clone(link),
        });
        let driver = Driver::new(Rc::clone(&wire), socket);
        Ok((wire, driver))
    }

    /// Sends a statement with this turn of the event loop. `None`: it is not prepared here.
    pub(super) fn ask(
        &self,
        sql: &str,
        params: Params<'_>,
    ) -> Option<Result<oneshot::Receiver<Reply>, DbError>> {
        let statement = self.statements.get(sql)?;
        let mut state = self.state.borrow_mut();
        if let Err(error) = statement.encode(params, &mut state.outbox) {
            return Some(Err(error));
        }
        let (asker, reply) = oneshot::channel();
        let columns = Rc::clone(&statement.columns);
        state.owed.push_back(Owed::Answer { columns, asker: Some(asker) });
        state.unsynced += 1;
        if state.unsynced == BATCH_MAX {
            state.sync();
        }
        state.wake();
        if self.is_idle.take() {
            self.asked.notify_one();
        }
        Some(Ok(reply))
    }

    /// Whether it takes statements.
    pub(super) fn is_open(&self) -> bool {
        self.state.borrow().stage == Stage::Open
    }

    /// Whether its server is still the one to ask.
    pub(super) fn is_of_this_era(&self) -> bool {
        self.era == self.link.era()
    }

    /// What the server owes; a few Syncs are counted with it.
    pub(super) fn in_flight(&self) -> usize {
        self.state.borrow().owed.len()
    }

    pub(super) fn answers(&self) -> u64 {
        self.answers.get()
    }

    /// Waits until something is in flight.
    pub(super) async fn is_asked(&self) {
        while self.in_flight() == 0 {
            self.is_idle.set(true);
            self.asked.notified().await;
        }
    }

    /// It has answered nothing for too long: whoever waits is told, and their answers are nobody's.
    pub(super) fn hang(&self) {
        self.hung_at.set(Some(self.answers.get()));
        for owed in &mut self.state.borrow_mut().owed {
            if let Owed::Answer { asker, .. } = owed
                && let Some(asker) = asker.take()
            {
                let _ = asker.send(Err(Failed::Hung));
            }
        }
    }

    pub(super) fn hangs(&self) -> bool {
        self.hung_at.get() == Some(self.answers.get())
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
    fn sync(&mut self) {
        frontend::sync(&mut self.outbox);
        self.owed.push_back(Owed::Sync);
        self.unsynced = 0;
    }

    fn wake(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }
}

impl Statement {
    /// Appends Bind and Execute; nothing when a value does not fit its parameter.
    fn encode(&self, params: Params<'_>, out: &mut BytesMut) -> Result<(), DbError> {
        if params.len() != self.params.len() {
            return Err(DbError::wrong_count(self.params.len(), params.len()));
        }
        let begin = out.len();
        let values = params.iter().zip(&self.params);
        let bound = frontend::bind(
            "",
            &self.name,
            [1],
            values,
            |(value, kind), out| match value.to_sql_checked(kind, out)? {
                tokio_postgres::types::IsNull::Yes => Ok(postgres_protocol::IsNull::Yes),
                tokio_postgres::types::IsNull::No => Ok(postgres_protocol::IsNull::No),
            },
            [1],
            out,
        );
        let encoded = bound.and_then(|()| Ok(frontend::execute("", 0, out)?));
        encoded.map_err(|error| {
            out.truncate(begin);
            DbError::other(&match error {
                BindError::Conversion(error) => format!("a parameter does not fit: {error}"),
                BindError::Serialization(error) => format!("a parameter is too long: {error}"),
            })
        })
    }
}
