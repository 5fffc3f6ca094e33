//! Housekeeping: what has expired is deleted, a little at a time.
//!
//! `app` starts it in each worker, and it goes on until the worker leaves. Of all workers and hosts
//! one is at it at a time: who finds the lock taken leaves the work to the others until the next
//! time.
//! Promises: no request waits for it, but for a connection of the pool while one batch is deleted;
//! a batch is small, and a transaction of its own; it needs no session that lasts (a transaction
//! pooler may stand between); workers do not wake at the same moment. What is deleted has not
//! counted for a while: every query says itself what has expired.
//! Does not know: what the rows were for.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::sleep;
use tracing::{info, warn};
use uuid::Uuid;
use worker::{Database, DbError, Transaction};

use crate::resources::Statement;

/// Batches in a row, at most; the rest is left for the next time.
const BATCHES_MAX: usize = 100;

/// Deletes what has expired about every `interval`, for as long as the worker does not leave.
pub async fn keep(database: Database, interval: Duration, leaving: Rc<Cell<bool>>) {
    loop {
        sleep(interval.mul_f64(jitter())).await;
        if leaving.get() {
            return;
        }
        match clean(&database, &leaving).await {
            Ok(0) => {}
            Ok(rows) => info!(rows, "expired rows were deleted"),
            // The next time comes; requests say louder that the database is away.
            Err(error) => warn!(%error, "expired rows could not be deleted"),
        }
    }
}

/// Half of it to one and a half.
fn jitter() -> f64 {
    let [random, ..] = Uuid::new_v4().into_bytes();
    0.5 + f64::from(random) / 255.0
}

/// Deletes batch after batch, until the worker is to leave; gives how many rows.
async fn clean(database: &Database, leaving: &Cell<bool>) -> Result<u64, DbError> {
    let mut rows = 0;
    for _ in 0..BATCHES_MAX {
        if leaving.get() {
            break;
        }
        match database.transaction(clean_once).await? {
            0 => break,
            some => rows += some,
        }
    }
    Ok(rows)
}

/// Deletes one batch of each table, unless another worker is at it.
async fn clean_once(tx: &Transaction<'_>) -> Result<u64, DbError> {
    let is_ours = tx.row(TRY_LOCK, &[]).await?.is_some_and(|row| row.get("is_ours"));
    let mut rows = 0;
    if is_ours {
        for sql in [DELETE_SESSIONS, DELETE_TRIES, DELETE_ANSWERS] {
            rows += tx.execute(sql, &[]).await?;
        }
    }
    Ok(rows)
}

// Queries

/// The key is the word "peace", in ASCII: of all that shares this database only we take it.
const TRY_LOCK: &str = "select pg_try_advisory_xact_lock(482737218405) as is_ours";

/// An access token may be good for a quarter of an hour longer than its session.
const DELETE_SESSIONS: &str = "
    delete from session where id in (
        select id from session where expires < now() - interval '1 hour'
        order by expires limit 1000 for update skip locked)";

const DELETE_TRIES: &str = "
    delete from login_tries where key in (
        select key from login_tries where until < now()
        order by until limit 1000 for update skip locked)";

const DELETE_ANSWERS: &str = "
    delete from idempotency where key in (
        select key from idempotency where created < now() - interval '24 hours'
        order by created limit 1000 for update skip locked)";

/// What is worth preparing.
pub(crate) const STATEMENTS: &[Statement] = &[
    Statement { name: "peace::housekeeping::TRY_LOCK", sql: TRY_LOCK },
    Statement { name: "peace::housekeeping::DELETE_SESSIONS", sql: DELETE_SESSIONS },
    Statement { name: "peace::housekeeping::DELETE_TRIES", sql: DELETE_TRIES },
    Statement { name: "peace::housekeeping::DELETE_ANSWERS", sql: DELETE_ANSWERS },
];
