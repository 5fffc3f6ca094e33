//! The database as a handler sees it: statements, transactions, and named failures.
//!
//! Handlers call [`Database`]: `rows` and `row` read, `write`, `write_row` and `insert_row` change
//! with one statement, `transaction` with several. It borrows a connection (`pool`, `loan`) that
//! the `connector` opened, runs statements on it (`session`, `transaction`, `retry`), and knows
//! whether the server is there (`link`).
//! Promises: a statement costs one round trip, once it is prepared or where none is (behind a
//! transaction pooler), and no other traffic is made for it; a write or a transaction runs to its end even when its caller has left; every wait has a
//! limit; a server that is away is told at once, and used again within a second of its return.
//! Does not know: HTTP, tables, or who asks.

mod config;
mod connector;
mod dial;
mod error;
mod hosts;
mod lane;
mod link;
mod loan;
mod local;
mod pool;
mod retry;
mod rows;
mod session;
mod tasks;
mod transaction;
mod typed;
mod values;
mod wire;

use std::{
    panic::resume_unwind,
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::time::sleep;

use crate::record;

pub use self::{
    config::DatabaseConfig,
    error::{ConstraintKind, DbError, Refusal},
    hosts::connect,
    rows::{By, Row, Rows},
    session::Params,
    transaction::Transaction,
    values::Values,
};
use self::{pool::Pool, retry::Retry, session::Answer};
use crate::meters::{Gauge, Meters};

/// One worker's pool of connections. Cheap to clone; lives on one thread.
#[derive(Clone)]
pub struct Database {
    pool: Rc<Pool>,
}

impl Database {
    /// Begins to connect in the background, and counts what happens in `meters`. Must be called inside the worker's runtime.
    pub fn open(mut config: DatabaseConfig, meters: Meters) -> Self {
        config.pool_size = config.pool_size.max(1);
        Self { pool: Pool::open(config, meters) }
    }

    /// Waits for the first connection, at most `within`, and no longer than until the first try to
    /// connect has failed: the server is known to be away then.
    ///
    /// **Errors**: `Unavailable`, with what that try said. Connecting goes on.
    pub async fn ready(&self, within: Duration) -> Result<(), DbError> {
        let link = &self.pool.link;
        let cause = tokio::select! {
            biased;
            () = link.first_session() => return Ok(()),
            cause = link.lost() => cause,
            () = sleep(within) => format!("no connection within {within:?}").into(),
        };
        Err(DbError::Unavailable { cause })
    }

    /// Runs one statement that reads, and gives all its rows.
    ///
    /// A statement that begins with SELECT must only read: if its connection ends before the answer
    /// has come, it is asked again on another one.
    ///
    /// **Blocks** up to the pool wait and the statement timeout; where a connection ends or hangs, it
    /// begins anew at another one.
    pub async fn rows(&self, sql: &'static str, params: Params<'_>) -> Result<Rows, DbError> {
        self.read(sql, params).await
    }

    /// As [`Database::rows`], for a statement that gives at most one row.
    ///
    /// **Errors**: `Other` if it gave more.
    pub async fn row(
        &self,
        sql: &'static str,
        params: Params<'_>,
    ) -> Result<Option<Row<'static>>, DbError> {
        at_most_one(self.read(sql, params).await?)
    }

    /// Runs one statement that changes rows, as a transaction of its own; gives how many it
    /// inserted, changed or deleted. They are saved when this answers.
    ///
    /// It runs in a task of its own, to its end, also when this future is dropped. Where another
    /// transaction stands in its way, it is run again.
    ///
    /// **Errors**: any [`DbError`]; `Unavailable` and `Timeout` leave it open whether a statement
    /// that was already sent has been done.
    ///
    /// **Blocks** up to the pool wait and the statement timeout.
    pub async fn write(&self, sql: &'static str, values: impl Values) -> Result<u64, DbError> {
        Ok(self.change(sql, values).await?.affected)
    }

    /// As [`Database::write`], for a statement that gives at most one row (RETURNING).
    ///
    /// **Errors**: `Other` if it gave more; they are saved all the same.
    pub async fn write_row(
        &self,
        sql: &'static str,
        values: impl Values,
    ) -> Result<Option<Row<'static>>, DbError> {
        at_most_one(self.change(sql, values).await?.rows)
    }

    /// As [`Database::write_row`], for a statement that always gives one row (INSERT … RETURNING).
    ///
    /// **Errors**: `Other` if it gave none, or more, which are saved all the same.
    pub async fn insert_row(
        &self,
        sql: &'static str,
        values: impl Values,
    ) -> Result<Row<'static>, DbError> {
        exactly_one(self.change(sql, values).await?.rows)
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
        self.to_its_end(async move { transaction::run(&pool, &work).await }).await
    }

    /// Waits for writes and transactions whose callers have left, at most `within`, then ends all
    /// connections. Gives how many had to be left; they end with the runtime. To be called when no
    /// handler runs.
    pub async fn close(&self, within: Duration) -> usize {
        self.pool.close(within).await
    }

    /// The pool in numbers.
    pub fn stats(&self) -> DatabaseStats {
        let Pool { link, lane, .. } = &*self.pool;
        DatabaseStats {
            connections: link.live().into(),
            in_use: self.pool.in_use() as u64,
            waiting: self.pool.waiting() as u64,
            running: self.pool.running() as u64,
            in_lane: lane.as_ref().map_or(0, |lane| lane.in_flight() as u64),
            waits: self.pool.waited().get(),
            waits_over: self.pool.waits_over().get(),
            timeouts: self.pool.timeouts().get(),
            retries: link.meters.retries(),
            detours: lane.as_ref().map_or(0, |lane| lane.detours().get()),
        }
    }

    /// Writes down for others how the pool is now.
    pub(crate) fn report(&self) {
        let Pool { link, config, .. } = &*self.pool;
        let DatabaseStats { connections, in_use, waiting, in_lane, .. } = self.stats();
        for (gauge, value) in [
            (Gauge::DatabaseConnections, connections),
            (Gauge::PoolInUse, in_use),
            (Gauge::PoolMax, config.pool_size.into()),
            (Gauge::PoolWaiting, waiting),
            (Gauge::LaneInFlight, in_lane),
            (Gauge::DatabaseDown, link.down().is_some().into()),
        ] {
            link.meters.gauge(gauge).set(value);
        }
    }

    /// Runs one statement on the lane; on a connection of its own where it is no read, there is no
    /// lane, or it cannot.
    async fn read(&self, sql: &'static str, params: Params<'_>) -> Result<Rows, DbError> {
        let lane = self.pool.lane.as_ref().filter(|_| is_select(sql));
        if let Some(lane) = lane
            && let Some(answer) = lane.ask(sql, params).await
        {
            if matches!(answer, Err(DbError::Timeout { .. })) {
                self.pool.timeouts().increment();
            }
            return answer;
        }
        // In a box: seldom needed, and large enough to make every handler's future slow to move.
        let answer = Box::pin(self.ask(sql, params)).await?;
        if let Some(lane) = lane {
            lane.learn(sql);
        }
        Ok(answer.rows)
    }

    async fn change(&self, sql: &'static str, values: impl Values) -> Result<Answer, DbError> {
        let database = self.clone();
        self.to_its_end(async move { database.ask(sql, &values.params()).await }).await
    }

    /// Runs `work` in a task of its own, which goes on when this future is dropped: for several
    /// statements that belong together and are no transaction. `close` waits for it, so it has to be
    /// bounded by itself. A panic in it goes on to the caller.
    pub async fn to_its_end<T, E>(
        &self,
        work: impl Future<Output = Result<T, E>> + 'static,
    ) -> Result<T, E>
    where
        T: 'static,
        E: From<DbError> + 'static,
    {
        // Its waits are those of the request that asks. In a box: a task is moved several times before it runs.
        let work = record::within(record::entered(), Box::pin(work));
        match self.pool.spawn(work).await {
            Ok(result) => result,
            Err(ended) if ended.is_panic() => resume_unwind(ended.into_panic()),
            Err(_) => Err(DbError::unavailable("the worker is ending").into()),
        }
    }

    /// Runs one statement, again where another transaction stood in its way.
    async fn ask(&self, sql: &'static str, params: Params<'_>) -> Result<Answer, DbError> {
        let mut retry = None;
        loop {
            match self.ask_any(sql, params).await {
                Err(DbError::Conflict(refusal)) => {
                    let retry = retry.get_or_insert_with(|| Retry::new(Instant::now()));
                    let meters = &self.pool.link.meters;
                    if !retry.wait(meters, Some(&refusal.sqlstate)).await {
                        return Err(DbError::Conflict(refusal));
                    }
                }
                answer => return answer,
            }
        }
    }

    /// Runs one statement on any connection; a SELECT on another one where that was lost.
    async fn ask_any(&self, sql: &'static str, params: Params<'_>) -> Result<Answer, DbError> {
        // Each try ends a connection that the server had ended; after that many, all are new.
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
    /// Connections that exist now.
    pub connections: u64,
    /// Connections lent now.
    pub in_use: u64,
    /// Callers that wait for a connection now.
    pub waiting: u64,
    /// Writes and transactions running now, and connections that wait for an answer nobody wants
    /// any more.
    pub running: u64,
    /// Statements in flight on the lane, the connection that reads share.
    pub in_lane: u64,
    /// Callers that found every connection in use.
    pub waits: u64,
    /// Callers that got no connection: the wait was over, or too many waited.
    pub waits_over: u64,
    /// Statements cut off, by the server or by us.
    pub timeouts: u64,
    /// Transactions and statements run again because of others.
    pub retries: u64,
    /// Reads that the lane could not answer, so that the pool did.
    pub detours: u64,
}

fn at_most_one(rows: Rows) -> Result<Option<Row<'static>>, DbError> {
    match rows.len() {
        0 | 1 => Ok(rows.into_last()),
        more => Err(DbError::other(&format!("the statement gave {more} rows, not one"))),
    }
}

fn exactly_one(rows: Rows) -> Result<Row<'static>, DbError> {
    at_most_one(rows)?.ok_or_else(|| DbError::other("the statement gave no row"))
}

fn is_select(sql: &str) -> bool {
    let word = sql.split_ascii_whitespace().next();
    word.is_some_and(|word| word.eq_ignore_ascii_case("select"))
}

#[cfg(test)]
mod tests {
    use std::{
        env, fs,
        io::Write,
        os::unix::net::{UnixListener, UnixStream},
        path::PathBuf,
        process, thread,
    };

    use tokio::{
        runtime::{Builder, LocalOptions},
        time::timeout,
    };

    use super::*;
    use crate::meters::Counter;

    const SQL: &str = "SELECT 1";

    /// Runs `test` with a pool of one connection against the server in `folder`, if there is one.
    fn with_pool(folder: &str, test: impl AsyncFnOnce(&Database)) {
        in_runtime(async {
            let database = Database::open(config(folder, 1), Meters::detached(0));
            test(&database).await;
            assert_eq!(database.close(Duration::ZERO).await, 0);
        });
    }

    fn in_runtime(test: impl Future<Output = ()>) {
        let mut runtime = Builder::new_current_thread();
        let runtime = runtime.enable_all().build_local(LocalOptions::default());
        runtime.unwrap().block_on(test);
    }

    fn config(folder: &str, pool_size: u32) -> DatabaseConfig {
        let server = format!("host={folder} user=peace").parse().unwrap();
        DatabaseConfig {
            pool_size,
            waiters_max: 2,
            pool_wait: Duration::from_millis(100),
            ..DatabaseConfig::new(server, 0, 1)
        }
    }

    /// A server that takes connections and says no word unless told to; gone when dropped.
    struct Silent {
        folder: PathBuf,
        listener: UnixListener,
    }

    impl Silent {
        fn listen(name: &str) -> Self {
            let folder = env::temp_dir().join(format!("peace-{name}-{}", process::id()));
            fs::create_dir_all(&folder).unwrap();
            let listener = UnixListener::bind(folder.join(".s.PGSQL.5432")).unwrap();
            Self { folder, listener }
        }

        /// Lets that many clients in, and falls silent.
        fn welcome(&self, clients: usize) -> Vec<UnixStream> {
            let welcome = |_| {
                let (mut client, _) = self.listener.accept().unwrap();
                // AuthenticationOk and ReadyForQuery.
                client.write_all(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I").unwrap();
                client
            };
            (0..clients).map(welcome).collect()
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
            let failures = database.pool.link.meters.count(Counter::ConnectFailures).get();
            assert!(failures > 0, "the try that was told of is counted");
        });
    }

    #[test]
    fn nobody_waits_for_a_server_that_refused_the_first_try() {
        with_pool("/nowhere/at/all", async |database| {
            let asked = Instant::now();
            let error = database.ready(Duration::from_secs(60)).await.unwrap_err();
            assert!(error.to_string().contains("No such file or directory"), "{error}");
            assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
        });
    }

    #[test]
    fn a_client_that_leaves_does_not_keep_others_from_hearing_that_the_server_is_silent() {
        let silent = Silent::listen("probe");
        let config = config(silent.folder.to_str().unwrap(), 2);
        thread::scope(|scope| {
            let clients = scope.spawn(|| silent.welcome(2));
            in_runtime(async {
                let database = Database::open(config, Meters::detached(0));
                database.ready(Duration::from_secs(5)).await.unwrap();
                // Asks whether the server lives, and leaves before that is known.
                let leaving = timeout(Duration::from_millis(1700), database.row(SQL, &[]));
                let staying = async {
                    sleep(Duration::from_millis(50)).await;
                    database.row(SQL, &[]).await
                };
                let (left, error) = tokio::join!(leaving, staying);
                assert!(left.is_err(), "answered by a silent server");
                assert!(matches!(error, Err(DbError::Unavailable { .. })), "{error:?}");
            });
            drop(clients.join());
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
    fn a_statement_without_its_row_is_a_fault_of_the_program() {
        assert!(at_most_one(Rows::of_driver(Vec::new())).unwrap().is_none());
        let error = exactly_one(Rows::of_driver(Vec::new())).unwrap_err();
        assert!(matches!(error, DbError::Other { .. }), "{error:?}");
        assert_eq!(error.to_string(), "the statement gave no row");
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
