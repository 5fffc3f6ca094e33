//! Transactions: all of it or nothing, run again when others stood in the way.
//!
//! Called by `Database::transaction`, inside a task of its own; calls the pool.
//! Promises: success is told only after COMMIT; a statement that failed is never committed over,
//! also when its error was swallowed or its answer not waited for; a run that PostgreSQL ended in
//! favour of another transaction (40001, 40P01) is repeated whole; whatever happens, the session is
//! idle or closed afterwards.
//! Does not know: the application's errors, beyond making one from [`DbError`]. Every statement
//! passes through here, so the conflict is seen where it happens.

use std::{
    cell::{Cell, OnceCell},
    rc::Rc,
    time::Instant,
};

use tokio::time::timeout;

use super::{
    at_most_one,
    error::DbError,
    loan::Loan,
    pool::Pool,
    retry::Retry,
    rows::{Row, Rows},
    session::{Answer, Params},
};

/// An open transaction. Statements are prepared once per connection, as outside of one.
pub struct Transaction<'a> {
    loan: &'a Loan,
    /// The first statement that failed. PostgreSQL saves nothing after it.
    failure: OnceCell<DbError>,
    /// Statements whose answer is outstanding. At the end: those whose answer was not waited for.
    unanswered: Cell<u32>,
}

impl Transaction<'_> {
    /// Runs one statement and gives all its rows.
    pub async fn rows(&self, sql: &'static str, params: Params<'_>) -> Result<Rows, DbError> {
        Ok(self.ask(sql, params).await?.rows)
    }

    /// Runs one statement that gives at most one row.
    pub async fn row(
        &self,
        sql: &'static str,
        params: Params<'_>,
    ) -> Result<Option<Row<'static>>, DbError> {
        at_most_one(self.ask(sql, params).await?.rows)
    }

    /// Runs one statement and gives how many rows it inserted, changed or deleted.
    pub async fn execute(&self, sql: &'static str, params: Params<'_>) -> Result<u64, DbError> {
        Ok(self.ask(sql, params).await?.affected)
    }

    async fn ask(&self, sql: &'static str, params: Params<'_>) -> Result<Answer, DbError> {
        self.unanswered.set(self.unanswered.get() + 1);
        let answer = self.loan.ask_within(sql, params).await;
        self.unanswered.set(self.unanswered.get() - 1);
        self.noted(answer)
    }

    fn noted<T>(&self, result: Result<T, DbError>) -> Result<T, DbError> {
        result.inspect_err(|error| _ = self.failure.set(error.clone()))
    }

    /// What the server said when another transaction stood in the way, so that the whole may be run
    /// again.
    fn conflict(&self) -> Option<String> {
        match self.failure.get() {
            Some(DbError::Conflict(refusal)) => Some(refusal.sqlstate.clone()),
            _ => None,
        }
    }

    /// Why COMMIT would save nothing. PostgreSQL does not call that an error: it answers COMMIT of
    /// a failed transaction with a quiet ROLLBACK.
    fn doomed(&self) -> Option<DbError> {
        let unknown =
            || DbError::other("the transaction did not wait for the answer to a statement");
        self.failure.get().cloned().or_else(|| (self.unanswered.get() > 0).then(unknown))
    }

    /// COMMIT, or ROLLBACK where `outcome` or a statement failed.
    async fn end<T, E: From<DbError>>(&self, outcome: Result<T, E>) -> Result<T, E> {
        let failed = match (outcome, self.doomed()) {
            (Ok(value), None) => {
                self.noted(self.loan.end("COMMIT").await)?;
                return Ok(value);
            }
            (Ok(_), Some(unnoticed)) => unnoticed.into(),
            (Err(error), _) => error,
        };
        self.roll_back().await;
        Err(failed)
    }

    /// The caller has an error of its own already; a session that fails here too is closed.
    async fn roll_back(&self) {
        if !self.loan.is_lost() {
            let _ = self.loan.end("ROLLBACK").await;
        }
    }
}

/// Runs `work` in a transaction until it is saved, has failed, or was repeated often enough.
pub(super) async fn run<T, E, F>(pool: &Rc<Pool>, work: &F) -> Result<T, E>
where
    E: From<DbError>,
    F: AsyncFn(&Transaction<'_>) -> Result<T, E>,
{
    let mut retry = Retry::new(Instant::now());
    loop {
        match run_once(pool, work).await {
            Ok(value) => return Ok(value),
            Err(unsaved) => {
                let sqlstate = unsaved.sqlstate.as_deref();
                if !unsaved.again || !retry.wait(&pool.link.meters, sqlstate).await {
                    return Err(unsaved.error);
                }
            }
        }
    }
}

/// A run that did not end in COMMIT.
struct Unsaved<E> {
    error: E,
    again: bool,
    /// What the server said, where another transaction stood in the way.
    sqlstate: Option<String>,
}

async fn run_once<T, E, F>(pool: &Rc<Pool>, work: &F) -> Result<T, Unsaved<E>>
where
    E: From<DbError>,
    F: AsyncFn(&Transaction<'_>) -> Result<T, E>,
{
    let unsaved = |error: DbError, again| Unsaved { error: error.into(), again, sqlstate: None };
    let loan = pool.lend().await.map_err(|error| unsaved(error, false))?;
    // A session that the server had ended before: nothing was done yet, another one may do it.
    loan.begin().await.map_err(|error| unsaved(error, loan.is_lost()))?;
    let transaction =
        Transaction { loan: &loan, failure: OnceCell::new(), unanswered: Cell::new(0) };
    let limit = pool.config.transaction_timeout;
    let outcome = timeout(limit, work(&transaction)).await.unwrap_or_else(|_| {
        Err(DbError::timeout(&format!("the transaction was not done within {limit:?}")).into())
    });
    let ended = transaction.end(outcome).await;
    ended.map_err(|error| {
        let sqlstate = transaction.conflict();
        Unsaved { error, again: sqlstate.is_some(), sqlstate }
    })
}
