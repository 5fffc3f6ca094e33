//! The database as a handler sees it: statements, transactions, and named failures.
//!
//! Handlers call [`Database`]; it borrows a session (`pool`, `loan`) that the `connector` opened,
//! runs statements on it (`session`, `transaction`, `retry`), and knows whether the server is there
//! (`link`).
//! Promises: a statement costs one round trip once it is prepared, and no other traffic is made for
//! it; a transaction runs to its end even when its caller has left; every wait has a limit; a
//! server that is away is told at once, and used again within a second of its return.
//! Does not know: HTTP, tables, or who asks.

mod config;
mod connector;
mod error;
mod link;
mod loan;
mod pool;
mod retry;
mod session;
mod tasks;
mod transaction;

use std::{
    panic::resume_unwind,
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::time::timeout;
use tokio_postgres::Row;

pub use self::{
    config::DatabaseConfig,
    error::{ConstraintKind, DbError, Refusal},
    session::Params,
    transaction::Transaction,
};
use self::{pool::Pool, retry::Retry, session::Answer};

/// One worker's pool of sessions. Cheap to clone; lives on one thread.
#[derive(Clone)]
pub struct Database {
    pool: Rc<Pool>,
}

impl Database {
    /// Begins to connect in the background. Must be called inside the worker's runtime.
    pub fn open(mut config: DatabaseConfig) -> Self {
        config.pool_size = config.pool_size.max(1);
        Self { pool: Pool::open(config) }
    }

    /// Waits for the first session, at most `within`.
    ///
    /// **Errors**: `Unavailable`, with what the last try to connect said. Connecting goes on.
    pub async fn ready(&self, within: Duration) -> Result<(), DbError> {
        timeout(within, self.pool.link.first_session()).await.map_err(|_| {
            let unanswered = || format!("no session within {within:?}").into();
            DbError::Unavailable { cause: self.pool.link.down().unwrap_or_else(unanswered) }
        })
    }

    /// Runs one statement, which is its own transaction, and gives all its rows. Where another
    /// transaction stands in its way, it is run again.
    ///
    /// A statement that begins with SELECT must only read: if its session ends before the answer
    /// has come, it is asked again on another one.
    ///
    /// **Blocks** up to the pool wait and the statement timeout.
    pub async fn rows(&self, sql: &'static str, params: Params<'_>) -> Result<Vec<Row>, DbError> {
        Ok(self.ask(sql, params).await?.rows)
    }

    /// As [`Database::rows`], for a statement that gives at most one row.
    ///
    /// **Errors**: `Other` if it gave more.
    pub async fn row(&self, sql: &'static str, params: Params<'_>) -> Result<Option<Row>, DbError> {
        at_most_one(self.ask(sql, params).await?.rows)
    }

    /// As [`Database::rows`], and gives how many rows were inserted, changed or deleted.
    pub async fn execute(&self, sql: &'static str, params: Params<'_>) -> Result<u64, DbError> {
        Ok(self.ask(sql, params).await?.affected)
    }

    /// Runs `work` in a transaction and gives its result after COMMIT.
    ///
    /// It runs in a task of its own, to its end, also when this future is dropped. When another
    /// transaction stands in the way, `work` is called again: what it does besides the transaction
    /// it must be able to do twice. An `Err` of `work` rolls back, and so does a statement that
    /// failed, whatever `work` made of it. A panic of `work` rolls back and goes on to the caller.
    ///
    /// **Errors**: those of `work`, and any [`DbError`]; `Unavailable` and `Timeout` leave it open
    /// whether a COMMIT that was already sent has been done.
    pub async fn transaction<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: 'static,
        E: From<DbError> + 'static,
        F: AsyncFn(&Transaction<'_>) -> Result<T, E> + 'static,
    {
        let pool = Rc::clone(&self.pool);
        let task = self.pool.spawn(async move { transaction::run(&pool, &work).await });
        match task.await {
            Ok(result) => result,
            Err(ended) if ended.is_panic() => resume_unwind(ended.into_panic()),
            Err(_) => Err(DbError::unavailable("the worker is ending").into()),
        }
    }

    /// Waits for transactions whose callers have left, at most `within`, then ends all sessions.
    /// Gives how many had to be left; they end with the runtime. To be called when no handler runs.
    pub async fn close(&self, within: Duration) -> usize {
        self.pool.close(within).await
    }

    /// The pool in numbers.
    pub fn stats(&self) -> DatabaseStats {
        let Pool { counts, link, .. } = &*self.pool;
        DatabaseStats {
            sessions: link.live().into(),
            in_use: self.pool.in_use() as u64,
            waiting: self.pool.waiting() as u64,
            running: self.pool.running() as u64,
            waits: counts.waited.get(),
            waits_over: counts.waits_over.get(),
            timeouts: counts.timeouts.get(),
            retries: counts.retries.get(),
        }
    }

    /// Runs one statement, again where another transaction stood in its way.
    async fn ask(&self, sql: &'static str, params: Params<'_>) -> Result<Answer, DbError> {
        let mut retry = None;
        loop {
            match self.ask_any(sql, params).await {
                Err(DbError::Conflict(refusal)) => {
                    let retry = retry.get_or_insert_with(|| Retry::new(Instant::now()));
                    if !retry.wait(&self.pool.counts.retries).await {
                        return Err(DbError::Conflict(refusal));
                    }
                }
                answer => return answer,
            }
        }
    }

    /// Runs one statement on any session; a SELECT on another one where the session was lost.
    async fn ask_any(&self, sql: &'static str, params: Params<'_>) -> Result<Answer, DbError> {
        // Each try ends a session that the server had ended; after that many, all are new.
        let mut tries_left = self.pool.config.pool_size;
        loop {
            let loan = self.pool.lend().await?;
            match loan.ask(sql, params).await {
                Err(DbError::Unavailable { .. })
                    if loan.is_lost() && is_select(sql) && tries_left > 0 =>
                {
                    tries_left -= 1;
                }
                answer => return answer,
            }
        }
    }
}

/// What the pool does now, and has done since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DatabaseStats {
    /// Sessions that exist now.
    pub sessions: u64,
    /// Sessions lent now.
    pub in_use: u64,
    /// Callers that wait for a session now.
    pub waiting: u64,
    /// Transactions running now, and sessions that wait for an answer nobody wants any more.
    pub running: u64,
    /// Callers that found every session in use.
    pub waits: u64,
    /// Callers that got no session: the wait was over, or too many waited.
    pub waits_over: u64,
    /// Statements cut off, by the server or by us.
    pub timeouts: u64,
    /// Transactions and statements run again because of others.
    pub retries: u64,
}

fn at_most_one(mut rows: Vec<Row>) -> Result<Option<Row>, DbError> {
    let row = rows.pop();
    match rows.len() {
        0 => Ok(row),
        more => Err(DbError::other(&format!("the statement gave {} rows, not one", more + 1))),
    }
}

fn is_select(sql: &str) -> bool {
    let word = sql.split_ascii_whitespace().next();
    word.is_some_and(|word| word.eq_ignore_ascii_case("select"))
}

#[cfg(test)]
mod tests {
    use std::{env, fs, os::unix::net::UnixListener, path::PathBuf, process};

    use tokio::runtime::{Builder, LocalOptions};

    use super::*;

    const SQL: &str = "SELECT 1";

    /// Runs `test` with a pool of one session against the server in `folder`, if there is one.
    fn with_pool(folder: &str, test: impl AsyncFnOnce(&Database)) {
        let server = format!("host={folder} user=peace").parse().unwrap();
        let config = DatabaseConfig {
            pool_size: 1,
            waiters_max: 2,
            pool_wait: Duration::from_millis(100),
            ..DatabaseConfig::new(server, 0, 1)
        };
        let runtime =
            Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        runtime.unwrap().block_on(async {
            let database = Database::open(config);
            test(&database).await;
            assert_eq!(database.close(Duration::ZERO).await, 0);
        });
    }

    /// A server that takes connections and never says a word; gone when dropped.
    struct Silent {
        folder: PathBuf,
        _listener: UnixListener,
    }

    impl Silent {
        fn listen(name: &str) -> Self {
            let folder = env::temp_dir().join(format!("peace-{name}-{}", process::id()));
            fs::create_dir_all(&folder).unwrap();
            let _listener = UnixListener::bind(folder.join(".s.PGSQL.5432")).unwrap();
            Self { folder, _listener }
        }
    }

    impl Drop for Silent {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }

    #[test]
    fn an_absent_server_is_told_at_once_with_its_cause() {
        with_pool("/nowhere/at/all", async |database| {
            let asked = Instant::now();
            let error = database.row(SQL, &[]).await.unwrap_err();
            assert!(matches!(error, DbError::Unavailable { .. }), "{error}");
            assert!(error.to_string().contains("No such file or directory"), "{error}");
            assert!(asked.elapsed() < Duration::from_millis(100), "waited although it was known");

            let error = database.ready(Duration::from_millis(1)).await.unwrap_err();
            assert!(error.to_string().contains("No such file or directory"), "{error}");
        });
    }

    #[test]
    fn a_transaction_tells_an_absent_server_too() {
        with_pool("/nowhere/at/all", async |database| {
            let saved: Result<(), DbError> = database.transaction(async |_| Ok(())).await;
            assert!(matches!(saved, Err(DbError::Unavailable { .. })), "{saved:?}");
        });
    }

    #[test]
    fn a_silent_server_is_given_up_after_the_pool_wait() {
        let silent = Silent::listen("silent");
        with_pool(silent.folder.to_str().unwrap(), async |database| {
            let error = database.row(SQL, &[]).await.unwrap_err();
            assert!(matches!(error, DbError::Unavailable { .. }), "{error}");

            let asked = Instant::now();
            let error = database.row(SQL, &[]).await.unwrap_err();
            assert!(matches!(error, DbError::Unavailable { .. }), "{error}");
            assert!(asked.elapsed() < Duration::from_millis(100), "waited although it was known");
        });
    }

    #[test]
    fn one_waiter_too_many_is_sent_away_at_once() {
        let silent = Silent::listen("waiters");
        with_pool(silent.folder.to_str().unwrap(), async |database| {
            let ask = || database.row(SQL, &[]);
            let (first, second, third) = tokio::join!(ask(), ask(), async {
                let asked = Instant::now();
                (ask().await, asked.elapsed())
            });
            assert!(matches!(first, Err(DbError::Unavailable { .. })), "{first:?}");
            assert!(matches!(second, Err(DbError::Unavailable { .. })), "{second:?}");
            assert!(matches!(third.0, Err(DbError::Busy { .. })), "{third:?}");
            assert!(third.1 < Duration::from_millis(100), "{third:?}");
            assert_eq!(database.stats().waiting, 0);
        });
    }

    #[test]
    fn only_a_select_is_asked_twice() {
        for sql in ["SELECT 1", "select\n1", "  Select 1"] {
            assert!(is_select(sql), "{sql}");
        }
        for sql in
            ["INSERT INTO t VALUES (1)", "WITH x AS (DELETE FROM t) SELECT 1", "selected", ""]
        {
            assert!(!is_select(sql), "{sql}");
        }
    }
}
