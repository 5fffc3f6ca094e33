//! The one connection a run has, and the lock it holds.
//!
//! `runner` opens it, `records` and `apply` speak through it; it calls `access` and
//! tokio-postgres.
//! It promises that every wait has a deadline, that nothing else runs on this connection, and
//! that the lock is polled: a session blocked in `pg_advisory_lock` is an open transaction, which
//! `create index concurrently` of the lock's holder would wait for, for ever.
//! It does not know what a revision is.
//! Source: PostgreSQL manual, "Explicit Locking", section 13.3.5 (advisory locks).

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{CancelToken, Client, Row, Statement};

use crate::database::access::Access;
use crate::error::{Error, words};
use crate::stop::afterwards;

/// From the first packet until the session is ready.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// One step of the bookkeeping.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Parting from the server; without an answer the socket is simply closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
const POLL_MIN: Duration = Duration::from_millis(200);
const POLL_MAX: Duration = Duration::from_millis(500);
/// `server_version_num` of PostgreSQL 15.
const SERVER_VERSION_MIN: i32 = 150_000;

/// First half of the advisory lock's key; the second is the hash of the schema's name.
pub(crate) const LOCK_CLASS: i32 = i32::from_be_bytes(*b"PEAC");

const OPEN_SQL: &str = "select quote_ident(current_schema()::text), \
    current_setting('server_version_num')::int, current_setting('server_version')";
const UNLOCK_SQL: &str = "select pg_advisory_unlock_all()";
const TRY_LOCK_SQL: &str = "select pg_try_advisory_lock($1, hashtext($2))";
const HELD_SQL: &str = "select exists (select from pg_locks \
    where pid = pg_backend_pid() and granted and locktype = 'advisory' and objsubid = 2 \
    and database = (select oid from pg_database where datname = current_database()) \
    and classid = $1::oid and objid = (hashtext($2)::bigint & 4294967295)::oid)";
const LOCKED_SQL: &str = "select exists (select from pg_locks \
    where granted and locktype = 'advisory' and objsubid = 2 \
    and database = (select oid from pg_database where datname = current_database()) \
    and classid = $1::oid and objid = (hashtext($2)::bigint & 4294967295)::oid)";
const HOLDER_SQL: &str = "select coalesce((select \
    format(' (process %s, %s)', pid, application_name) from pg_locks join pg_stat_activity \
    using (pid) where granted and locktype = 'advisory' and objsubid = 2 \
    and database = (select oid from pg_database where datname = current_database()) \
    and classid = $1::oid and objid = (hashtext($2)::bigint & 4294967295)::oid limit 1), '')";

/// An open connection; closing or losing it releases the lock.
///
/// Dropped instead of closed, it cancels the statement that runs: what is open is rolled back.
pub(crate) struct Session {
    // Dropped before `line`, so that the driver ends with the statement.
    client: Client,
    line: Line,
    /// The schema the bookkeeping tables live in, quoted for SQL.
    pub(crate) schema: String,
    /// `server_version_num`.
    version: i32,
}

impl Session {
    /// Connects and checks the server's version. Waits up to 15 s.
    pub(crate) async fn open(access: &Access) -> Result<Self, Error> {
        let session = Self::connect(access).await?;
        if session.schema.is_empty() { Err(Error::NoSchema) } else { Ok(session) }
    }

    /// The same where no schema of `search_path` has to exist; `schema` is then empty.
    pub(crate) async fn connect(access: &Access) -> Result<Self, Error> {
        let failed = |why, code| Error::Connect { place: access.place(), why, code };
        let (client, driver) = timeout(CONNECT_TIMEOUT, access.connect(CONNECT_TIMEOUT))
            .await
            .map_err(|_| failed(format!("no answer for {} s", CONNECT_TIMEOUT.as_secs()), None))?
            .map_err(|error| failed(words(&error), error.code().cloned()))?;
        let (access, cancel) = (access.clone(), client.cancel_token());
        let line = Line { access, cancel, driver: Some(driver) };
        let mut session = Self { client, line, schema: String::new(), version: 0 };
        let row = session.query_one("looking at the server", OPEN_SQL, &[]).await?;
        session.version = row.get(1);
        if session.version < SERVER_VERSION_MIN {
            return Err(Error::ServerTooOld { version: row.get(2) });
        }
        session.schema = row.get::<_, Option<String>>(0).unwrap_or_default();
        Ok(session)
    }

    /// Polls for the lock until `wait` is over; calls `waiting` once with whoever holds it.
    pub(crate) async fn lock(
        &self,
        wait: Duration,
        mut waiting: impl FnMut(&str),
    ) -> Result<(), Error> {
        let begin = Instant::now();
        let mut asked = false;
        while !self.flag("taking the migration lock", TRY_LOCK_SQL).await? {
            let left = wait.saturating_sub(begin.elapsed());
            if left.is_zero() {
                return Err(Error::Locked { waited: wait, holder: self.holder().await? });
            }
            if !asked {
                waiting(&self.holder().await?);
                asked = true;
            }
            sleep(between(POLL_MIN, POLL_MAX).min(left)).await;
        }
        self.check_lock().await
    }

    /// Whether this very session holds the lock, which it would not behind a transaction pooler.
    pub(crate) async fn check_lock(&self) -> Result<(), Error> {
        if self.flag("checking the migration lock", HELD_SQL).await? {
            Ok(())
        } else {
            Err(Error::Pooled)
        }
    }

    /// The server's major version.
    pub(crate) fn major(&self) -> u32 {
        u32::try_from(self.version / 10_000).unwrap_or_default()
    }

    /// Whether some session holds the migration lock.
    pub(crate) async fn is_locked(&self) -> Result<bool, Error> {
        self.flag("looking at the migration lock", LOCKED_SQL).await
    }

    /// ` (process 123, peace-migrate)`, or empty when nobody holds the lock or can be seen.
    pub(crate) async fn holder(&self) -> Result<String, Error> {
        let params = self.lock_params();
        Ok(self.query_one("looking for the lock's holder", HOLDER_SQL, &params).await?.get(0))
    }

    async fn flag(&self, doing: &str, sql: &str) -> Result<bool, Error> {
        Ok(self.query_one(doing, sql, &self.lock_params()).await?.get(0))
    }

    fn lock_params(&self) -> [Param<'_>; 2] {
        [(&LOCK_CLASS, Type::INT4), (&self.schema, Type::TEXT)]
    }

    /// Rows of one bookkeeping statement, in one round trip. Waits up to 30 s.
    pub(crate) async fn query(
        &self,
        doing: &str,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, Error> {
        within(ANSWER_TIMEOUT, doing, self.client.query_typed(sql, params))
            .await?
            .map_err(|error| Error::database(doing, &error))
    }

    /// The one row of a bookkeeping statement.
    pub(crate) async fn query_one(
        &self,
        doing: &str,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Row, Error> {
        within(ANSWER_TIMEOUT, doing, self.client.query_typed_one(sql, params))
            .await?
            .map_err(|error| Error::database(doing, &error))
    }

    /// Statements of the bookkeeping, without parameters. Waits up to 30 s.
    pub(crate) async fn execute(&self, doing: &str, sql: &str) -> Result<(), Error> {
        self.send(ANSWER_TIMEOUT, doing, sql).await?.map_err(|error| Error::database(doing, &error))
    }

    /// What a statement would give, without running it. Waits up to 30 s.
    pub(crate) async fn prepare(&self, doing: &str, sql: &str) -> Result<Statement, Error> {
        within(ANSWER_TIMEOUT, doing, self.client.prepare(sql))
            .await?
            .map_err(|error| Error::database(doing, &error))
    }

    /// Sends SQL as it is, by the simple protocol.
    ///
    /// **Errors**: the outer one when there is no answer within `limit`.
    pub(crate) async fn send(
        &self,
        limit: Duration,
        doing: &str,
        sql: &str,
    ) -> Result<Result<(), tokio_postgres::Error>, Error> {
        within(limit, doing, self.client.batch_execute(sql)).await
    }

    /// Gives the lock back.
    pub(crate) async fn unlock(&self) -> Result<(), Error> {
        self.execute("giving the migration lock back", UNLOCK_SQL).await
    }

    /// Gives the lock back and says goodbye. Waits up to 4 s; a dead connection needs neither.
    pub(crate) async fn close(self) {
        let Self { client, mut line, .. } = self;
        drop(timeout(CLOSE_TIMEOUT, client.batch_execute(UNLOCK_SQL)).await);
        drop(client);
        if let Some(driver) = line.driver.take() {
            part(driver).await;
        }
    }
}

/// What a connection leaves behind when nobody closes it.
struct Line {
    access: Access,
    cancel: CancelToken,
    /// `None`: it was closed.
    driver: Option<JoinHandle<()>>,
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(driver) = self.driver.take() {
            let (access, cancel) = (self.access.clone(), self.cancel.clone());
            afterwards(async move {
                drop(timeout(CLOSE_TIMEOUT, access.cancel(&cancel)).await);
                part(driver).await;
            });
        }
    }
}

/// Waits for the goodbye, 2 s at most.
async fn part(mut driver: JoinHandle<()>) {
    if timeout(CLOSE_TIMEOUT, &mut driver).await.is_err() {
        driver.abort();
    }
}

/// A parameter and its type: a typed statement needs no prepare of its own.
pub(crate) type Param<'a> = (&'a (dyn ToSql + Sync), Type);

async fn within<T>(
    limit: Duration,
    doing: &str,
    answer: impl Future<Output = T>,
) -> Result<T, Error> {
    timeout(limit, answer).await.map_err(|_| Error::Silent { doing: doing.to_owned(), limit })
}

/// A random duration, so that runners which began together do not stay in step.
pub(crate) fn between(min: Duration, max: Duration) -> Duration {
    let random = RandomState::new().hash_one(std::process::id());
    let span_ms = u64::try_from((max - min).as_millis()).unwrap_or(u64::MAX).saturating_add(1);
    min + Duration::from_millis(random % span_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_durations_stay_within_their_bounds() {
        for _ in 0..1000 {
            let duration = between(POLL_MIN, POLL_MAX);
            assert!((POLL_MIN..=POLL_MAX).contains(&duration), "{duration:?}");
        }
        assert_eq!(between(POLL_MIN, POLL_MIN), POLL_MIN);
    }
}
