//! One session with the server: the client, its prepared statements, and whether another caller may
//! have it.
//!
//! Opened by the connector, kept by bb8, used through a loan of the pool.
//! Promises: a statement is prepared once per session and costs one round trip afterwards; one that
//! went out of date is prepared again once; behind a transaction pooler none is prepared, and each
//! costs one round trip; a session goes back to others only in state `Idle`, so
//! that what is forgotten is closed, never reused.
//! Does not know: deadlines; the loan has them.
//!
//! Source: PostgreSQL, "Message Flow, Extended Query".

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    pin::pin,
    sync::Arc,
};

use futures_util::TryStreamExt;
use tokio_postgres::{Client, RowStream, Statement, types::ToSql};

use super::{
    error::{DbError, Refusal, is_read_only, is_stale_statement, leaves_session_usable},
    link::Link,
    rows::Rows,
    typed::typed,
};

/// What a caller passes for `$1`, `$2`, ...
pub type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// Statements by their text. Bounded by the program: its statements are literals.
pub(super) type Prepared = HashMap<&'static str, Statement>;

pub(super) struct Session {
    client: Client,
    /// `None` behind a transaction pooler: the next statement may meet a server session that has never
    /// heard of this one's, or has one of the same name.
    prepared: Option<RefCell<Prepared>>,
    state: Cell<State>,
    era: u64,
    link: Arc<Link>,
    /// The URL wants a server that takes writes.
    must_write: bool,
}

/// What the server is doing for this session, as far as we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing: anyone may have it.
    Idle,
    /// It owes the answer to one statement, and will be idle when that has come.
    Asked,
    /// A transaction is open.
    InTransaction,
    /// Unknown, or gone.
    Lost,
}

/// All that one statement gave.
pub(super) struct Answer {
    pub(super) rows: Rows,
    /// Rows inserted, changed or deleted; for SELECT the rows given.
    pub(super) affected: u64,
}

impl Session {
    /// Of a client that was begun in `era`. **Errors** when that is over.
    pub(super) fn new(
        client: Client,
        prepared: Option<Prepared>,
        link: Arc<Link>,
        era: u64,
        must_write: bool,
    ) -> Result<Self, String> {
        link.opened(era)?;
        let (prepared, state) = (prepared.map(RefCell::new), Cell::new(State::Idle));
        Ok(Self { client, prepared, state, era, link, must_write })
    }

    pub(super) fn state(&self) -> State {
        self.state.get()
    }

    /// Moves to `state`; a lost session stays lost.
    pub(super) fn enter(&self, state: State) {
        if self.state.get() != State::Lost {
            self.state.set(state);
        }
    }

    /// Whether another caller may have it. Local: costs no round trip.
    pub(super) fn is_reusable(&self) -> bool {
        self.state.get() == State::Idle && !self.client.is_closed() && self.era == self.link.era()
    }

    /// Runs one statement. Whatever fails, the state says what that did to the session.
    pub(super) async fn run(
        &self,
        sql: &'static str,
        params: Params<'_>,
    ) -> Result<Answer, DbError> {
        match self.run_once(sql, params).await {
            Err(Failed::Stale(refusal)) => {
                if let Some(prepared) = &self.prepared {
                    prepared.borrow_mut().remove(sql);
                }
                // Inside a transaction the failure has ended it: only the whole can be run again.
                if self.state.get() == State::InTransaction {
                    return Err(DbError::Conflict(refusal));
                }
                self.run_once(sql, params).await.map_err(Failed::into_error)
            }
            answer => answer.map_err(Failed::into_error),
        }
    }

    async fn run_once(&self, sql: &'static str, params: Params<'_>) -> Result<Answer, Failed> {
        let asked = match &self.prepared {
            Some(prepared) => {
                let statement = self.statement(prepared, sql).await?;
                if params.len() != statement.params().len() {
                    let wrong = DbError::wrong_count(statement.params().len(), params.len());
                    return Err(Failed::ForGood(wrong));
                }
                self.client.query_raw(&statement, params.iter().copied()).await
            }
            None => {
                let params = typed(params).map_err(Failed::ForGood)?;
                self.client.query_typed_raw(sql, params).await
            }
        };
        let answer = match asked {
            Ok(stream) => read(stream).await,
            Err(error) => Err(error),
        };
        answer.map_err(|error| self.failed(&error))
    }

    async fn statement(
        &self,
        prepared: &RefCell<Prepared>,
        sql: &'static str,
    ) -> Result<Statement, Failed> {
        if let Some(statement) = prepared.borrow().get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql).await.map_err(|error| self.failed(&error))?;
        prepared.borrow_mut().insert(sql, statement.clone());
        Ok(statement)
    }

    /// Runs a command without parameters, such as COMMIT.
    pub(super) async fn command(&self, sql: &'static str) -> Result<(), DbError> {
        let done = self.client.batch_execute(sql).await;
        done.map_err(|error| self.failed(&error).into_error())
    }

    /// Waits until everything asked before is answered.
    pub(super) async fn settle(&self) -> Result<(), DbError> {
        let settled = self.client.check_connection().await;
        settled.map_err(|error| self.failed(&error).into_error())
    }

    fn failed(&self, error: &tokio_postgres::Error) -> Failed {
        if !leaves_session_usable(error) {
            self.enter(State::Lost);
        }
        if self.must_write && is_read_only(error) {
            self.enter(State::Lost);
            // Nobody is to stay there, nor to read there what is true no more.
            self.link.fell_silent("the server takes no writes any more");
        }
        if let Some(code) = error.code() {
            self.link.meters.refused(code.code());
        }
        match error.as_db_error() {
            Some(said) if is_stale_statement(error) => Failed::Stale(Refusal {
                sqlstate: said.code().code().to_owned(),
                message: said.message().to_owned(),
            }),
            _ => Failed::ForGood(DbError::from(error)),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.link.ended();
    }
}

/// Waits for all of an answer.
async fn read(stream: RowStream) -> Result<Answer, tokio_postgres::Error> {
    let mut stream = pin!(stream);
    let mut rows = Vec::new();
    while let Some(row) = stream.try_next().await? {
        rows.push(row);
    }
    let affected = stream.rows_affected().unwrap_or_default();
    Ok(Answer { rows: Rows::of_driver(rows), affected })
}

/// Why a statement failed, as this file tells it apart.
enum Failed {
    /// The prepared statement is out of date; nothing was executed.
    Stale(Refusal),
    ForGood(DbError),
}

impl Failed {
    fn into_error(self) -> DbError {
        match self {
            Self::Stale(refusal) => DbError::other(&refusal.to_string()),
            Self::ForGood(error) => error,
        }
    }
}
