//! Transactions: all of it or nothing, run again when others stood in the way.
//!
//! Called by `Database::transaction`, inside a task of its own; calls the pool.
//! Promises: success is told only after COMMIT; a statement that failed is never committed over,
//! also when its error was swallowed; a run that PostgreSQL ended in favour of another transaction
//! (40001, 40P01) is repeated whole, with growing random pauses and a bound; whatever happens, the
//! session is idle or closed afterwards.
//! Does not know: the application's errors, beyond making one from [`DbError`]. Every statement
//! passes through here, so the conflict is seen where it happens.
//!
//! Source: PostgreSQL, "Serialization Failure Handling".

use std::{
    cell::OnceCell,
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::time::{sleep, timeout};
use tokio_postgres::Row;

use super::{
    at_most_one,
    error::DbError,
    pool::{Loan, Pool, add},
    session::{Answer, Params},
};

/// Runs of one transaction, at most.
const TRIES_MAX: u32 = 10;
/// No run begins later than this after the first began.
const RETRY_WITHIN: Duration = Duration::from_secs(5);
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(640);

/// An open transaction. Statements are prepared once per session, as outside of one.
pub struct Transaction<'a> {
    loan: &'a Loan,
    /// The first statement that failed. PostgreSQL saves nothing after it.
    failure: OnceCell<DbError>,
}

impl Transaction<'_> {
    /// Runs one statement and gives all its rows.
    pub async fn rows(&self, sql: &'static str, params: Params<'_>) -> Result<Vec<Row>, DbError> {
        Ok(self.ask(sql, params).await?.rows)
    }

    /// Runs one statement that gives at most one row.
    pub async fn row(&self, sql: &'static str, params: Params<'_>) -> Result<Option<Row>, DbError> {
        at_most_one(self.ask(sql, params).await?.rows)
    }

    /// Runs one statement and gives how many rows it inserted, changed or deleted.
    pub async fn execute(&self, sql: &'static str, params: Params<'_>) -> Result<u64, DbError> {
        Ok(self.ask(sql, params).await?.affected)
    }

    async fn ask(&self, sql: &'static str, params: Params<'_>) -> Result<Answer, DbError> {
        self.noted(self.loan.ask_within(sql, params).await)
    }

    fn noted<T>(&self, result: Result<T, DbError>) -> Result<T, DbError> {
        result.inspect_err(|error| _ = self.failure.set(error.clone()))
    }

    /// Whether another transaction stood in the way, so that the whole may be run again.
    fn in_conflict(&self) -> bool {
        matches!(self.failure.get(), Some(DbError::Conflict(_)))
    }

    /// COMMIT, or ROLLBACK where `outcome` or a statement failed.
    async fn end<T, E: From<DbError>>(&self, outcome: Result<T, E>) -> Result<T, E> {
        let failed = match (outcome, self.failure.get()) {
            (Ok(value), None) => {
                self.noted(self.loan.end("COMMIT").await)?;
                return Ok(value);
            }
            (Ok(_), Some(swallowed)) => swallowed.clone().into(),
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
        let Unsaved { error, again } = match run_once(pool, work).await {
            Ok(value) => return Ok(value),
            Err(unsaved) => unsaved,
        };
        let random = uuid::Uuid::new_v4().as_u64_pair().0;
        let Some(pause) = retry.pause(Instant::now(), random).filter(|_| again) else {
            return Err(error);
        };
        add(&pool.counts.retries);
        sleep(pause).await;
    }
}

/// A run that did not end in COMMIT.
struct Unsaved<E> {
    error: E,
    again: bool,
}

async fn run_once<T, E, F>(pool: &Rc<Pool>, work: &F) -> Result<T, Unsaved<E>>
where
    E: From<DbError>,
    F: AsyncFn(&Transaction<'_>) -> Result<T, E>,
{
    let for_good = |error: DbError| Unsaved { error: error.into(), again: false };
    let loan = pool.lend().await.map_err(for_good)?;
    // A session that the server had ended before: nothing was done yet, another one may do it.
    loan.begin().await.map_err(|error| Unsaved { error: error.into(), again: loan.is_lost() })?;
    let transaction = Transaction { loan: &loan, failure: OnceCell::new() };
    let limit = pool.config.transaction_timeout;
    let outcome = timeout(limit, work(&transaction)).await.unwrap_or_else(|_| {
        Err(DbError::timeout(&format!("the transaction was not done within {limit:?}")).into())
    });
    let ended = transaction.end(outcome).await;
    ended.map_err(|error| Unsaved { error, again: transaction.in_conflict() })
}

/// How often, and after which pauses, a transaction is run again.
struct Retry {
    began: Instant,
    tries: u32,
}

impl Retry {
    fn new(began: Instant) -> Self {
        Self { began, tries: 1 }
    }

    /// The pause before the next run, or `None` when there was enough. The upper half of it is
    /// random: two transactions that met once must not meet again.
    fn pause(&mut self, now: Instant, random: u64) -> Option<Duration> {
        let window = PAUSE_MIN.saturating_mul(1 << (self.tries - 1).min(16)).min(PAUSE_MAX);
        let half_us = window.as_micros() as u64 / 2;
        let pause = Duration::from_micros(half_us + random % (half_us + 1));
        self.tries += 1;
        let in_time = now.duration_since(self.began) + pause <= RETRY_WITHIN;
        (self.tries <= TRIES_MAX && in_time).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound() {
        let began = Instant::now();
        let mut retry = Retry::new(began);
        let pauses: Vec<_> = (0..9).map_while(|_| retry.pause(began, u64::MAX)).collect();
        assert_eq!(pauses.len(), 9);
        assert!(pauses.windows(2).all(|pair| pair[0] <= pair[1]), "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause <= PAUSE_MAX), "{pauses:?}");
    }

    #[test]
    fn the_random_half_stays_within_the_window() {
        for random in [0, 1, 4999, 5000, 5001, u64::MAX] {
            let pause = Retry::new(Instant::now()).pause(Instant::now(), random).unwrap();
            assert!(pause >= PAUSE_MIN / 2 && pause <= PAUSE_MIN, "{random}: {pause:?}");
        }
    }

    #[test]
    fn the_tenth_run_is_the_last() {
        let began = Instant::now();
        let mut retry = Retry::new(began);
        for _ in 1..TRIES_MAX {
            assert!(retry.pause(began, 0).is_some());
        }
        assert!(retry.pause(began, 0).is_none());
    }

    #[test]
    fn no_run_begins_after_five_seconds() {
        let began = Instant::now();
        assert!(Retry::new(began).pause(began + Duration::from_millis(4900), 0).is_some());
        assert!(Retry::new(began).pause(began + RETRY_WITHIN, 0).is_none());
    }
}
