//! One session in the hands of one caller, and every deadline of waiting for its answers.
//!
//! Made by the pool; used by `Database` for one statement and by a transaction for all of its own.
//! Promises: a statement is answered, or given up, under a deadline; a server that falls silent is
//! noticed before that deadline; a loan dropped while an answer is outstanding comes back only when
//! the session is idle again, and one dropped inside a transaction never does.
//! Does not know: what is asked.

use std::{pin::pin, rc::Rc, sync::Arc, time::Duration};

use bb8::PooledConnection;
use tokio::{sync::OwnedSemaphorePermit, time::timeout};

use crate::record::{self, Stage};

use super::{
    connector::Manager,
    error::DbError,
    pool::Pool,
    session::{Answer, Params, Session, State},
};

/// An answer that takes longer than this, while no other statement is answered, makes us ask
/// whether the server lives at all.
const SILENCE: Duration = Duration::from_millis(1500);

/// Each statement sees what was committed before it began, whatever the server's default is: what waits
/// for a lock has to find what the other one has made.
const BEGIN: &str = "START TRANSACTION ISOLATION LEVEL READ COMMITTED";

/// One session, lent to one caller.
pub(super) struct Loan {
    held: Rc<Held>,
    pool: Rc<Pool>,
}

/// The session goes back to bb8 before the permit wakes the next caller.
struct Held {
    session: PooledConnection<'static, Manager>,
    _permit: OwnedSemaphorePermit,
}

impl Loan {
    pub(super) fn new(
        session: PooledConnection<'static, Manager>,
        permit: OwnedSemaphorePermit,
        pool: Rc<Pool>,
    ) -> Self {
        Self { held: Rc::new(Held { session, _permit: permit }), pool }
    }

    fn session(&self) -> &Session {
        &self.held.session
    }

    pub(super) fn is_lost(&self) -> bool {
        self.session().state() == State::Lost
    }

    /// Runs one statement by itself (it is its own transaction).
    pub(super) async fn ask(
        &self,
        sql: &'static str,
        params: Params<'_>,
    ) -> Result<Answer, DbError> {
        self.session().enter(State::Asked);
        let answer = self.answered(sql, self.session().run(sql, params)).await;
        self.session().enter(State::Idle);
        answer
    }

    /// Opens a transaction.
    pub(super) async fn begin(&self) -> Result<(), DbError> {
        self.session().enter(State::InTransaction);
        self.answered(BEGIN, self.session().command(BEGIN)).await
    }

    /// Runs one statement of the open transaction.
    pub(super) async fn ask_within(
        &self,
        sql: &'static str,
        params: Params<'_>,
    ) -> Result<Answer, DbError> {
        self.answered(sql, self.session().run(sql, params)).await
    }

    /// Ends the open transaction by `command`, COMMIT or ROLLBACK. A session whose transaction
    /// did not end is not given to anyone.
    pub(super) async fn end(&self, command: &'static str) -> Result<(), DbError> {
        let ended = self.answered(command, self.session().command(command)).await;
        // A refused COMMIT has ended the transaction too.
        if ended.is_ok() || command == "COMMIT" {
            self.session().enter(State::Idle);
        }
        ended
    }

    /// Waits for the answer to `sql`, up to our deadline or until the server is known to be silent. Given
    /// up, the session is lost.
    async fn answered<T>(
        &self,
        sql: &'static str,
        question: impl Future<Output = Result<T, DbError>>,
    ) -> Result<T, DbError> {
        let _timed = record::begin(Stage::Query(sql));
        let mut question = pin!(question);
        let limit = self.pool.config.answer_timeout();
        let answers = self.pool.answers.get();
        let mut outcome = timeout(SILENCE.min(limit), &mut question).await.map_err(|_| None);
        if outcome.is_err() {
            let rest = limit.saturating_sub(SILENCE);
            outcome = tokio::select! {
                biased;
                answer = timeout(rest, question) => answer.map_err(|_| None),
                cause = self.pool.silent(answers) => Err(Some(cause)),
            };
        }
        match outcome {
            Ok(answer) => self.heard(answer),
            Err(cause) => Err(self.give_up(cause)),
        }
    }

    fn heard<T>(&self, answer: Result<T, DbError>) -> Result<T, DbError> {
        self.pool.answers.set(self.pool.answers.get() + 1);
        if matches!(answer, Err(DbError::Timeout { .. })) {
            self.pool.timeouts().increment();
        }
        answer
    }

    fn give_up(&self, silence: Option<Arc<str>>) -> DbError {
        self.session().enter(State::Lost);
        if let Some(cause) = silence {
            return DbError::Unavailable { cause };
        }
        self.pool.timeouts().increment();
        let limit = self.pool.config.answer_timeout();
        DbError::timeout(&format!("the server gave no answer within {limit:?}"))
    }
}

impl Drop for Loan {
    /// An answer still owed belongs to nobody: the session waits for it before it goes back.
    /// (A session in any other state but `Idle` is closed by bb8, which asks `has_broken`.)
    fn drop(&mut self) {
        if self.session().state() != State::Asked {
            return;
        }
        let held = Rc::clone(&self.held);
        let limit = self.pool.config.answer_timeout();
        self.pool.spawn(async move {
            if let Ok(Ok(())) = timeout(limit, held.session.settle()).await {
                held.session.enter(State::Idle);
            }
        });
    }
}
