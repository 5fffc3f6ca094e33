//! What a way down would lose in this very database.
//!
//! `runner` asks before it takes a revision back; it calls `guard` for what the files drop, and
//! `session` to look at it.
//! It promises to look only: nothing is counted beyond a thousand, and nothing waited for longer
//! than a statement of the file would.
//! It does not know whether the loss is meant.

use std::time::Duration;

use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use crate::error::Error;
use crate::guard::{self, Loss};
use crate::script::{LOCK_TIMEOUT, Script};
use crate::session::{Param, Session};

/// More is only "more than".
const COUNT_MAX: i64 = 1000;
/// For one count; a column that is null throughout needs its whole table read.
const COUNT_TIMEOUT: Duration = Duration::from_secs(10);

/// The table, if it holds rows of its own, and the column, if it is no generated one.
const RESOLVE_SQL: &str = "select format('%I.%I', nspname, relname), \
    (select format('%I', attname) from pg_attribute where attrelid = pg_class.oid \
    and attname = $2::name and attnum > 0 and not attisdropped and attgenerated = '') \
    from pg_class join pg_namespace on pg_namespace.oid = relnamespace \
    where pg_class.oid = to_regclass($1) and relkind in ('r', 'p')";

/// What was found.
#[derive(Default)]
pub(crate) struct Look {
    /// `item: 12 rows`, `item.title: 3 values`.
    pub(crate) found: Vec<String>,
    /// What has no such name, or not yet.
    pub(crate) open: Vec<Loss>,
}

/// Looks for what a script drops.
pub(crate) async fn look(session: &Session, script: &Script) -> Result<Look, Error> {
    look_again(session, script, guard::losses(script)).await
}

/// Looks for what had no such name before.
pub(crate) async fn look_again(
    session: &Session,
    script: &Script,
    losses: Vec<Loss>,
) -> Result<Look, Error> {
    let mut look = Look::default();
    if !losses.is_empty() {
        set_timeouts(session, script).await?;
    }
    for loss in losses {
        match &loss {
            Loss::Unseen { what } => look.found.push(what.clone()),
            Loss::Rows { table } => match resolve(session, table, "").await? {
                None => look.open.push(loss),
                Some((name, _)) => {
                    let some = count(session, &format!("select from {name}"), "rows").await?;
                    look.found.extend(some.map(|some| format!("{table}: {some}")));
                }
            },
            Loss::Values { table, column } => match resolve(session, table, column).await? {
                Some((name, Some(quoted))) => {
                    let sql = format!("select from {name} where {quoted} is not null");
                    let some = count(session, &sql, "values").await?;
                    look.found.extend(some.map(|some| format!("{table}.{column}: {some}")));
                }
                _ => look.open.push(loss),
            },
        }
    }
    Ok(look)
}

async fn set_timeouts(session: &Session, script: &Script) -> Result<(), Error> {
    let lock_timeout = match script.lock_timeout {
        Duration::ZERO => LOCK_TIMEOUT,
        limit => limit,
    };
    let settings = format!(
        "set lock_timeout = {}; set statement_timeout = {}",
        lock_timeout.as_millis(),
        COUNT_TIMEOUT.as_millis(),
    );
    session.execute("setting the timeouts", &settings).await
}

async fn resolve(
    session: &Session,
    table: &str,
    column: &str,
) -> Result<Option<(String, Option<String>)>, Error> {
    let params: [Param<'_>; 2] = [(&table, Type::TEXT), (&column, Type::TEXT)];
    let rows = session.query("looking for what would be lost", RESOLVE_SQL, &params).await?;
    Ok(rows.first().map(|row| (row.get(0), row.get(1))))
}

/// `12 rows`; nothing when there is none.
async fn count(session: &Session, sql: &str, unit: &str) -> Result<Option<String>, Error> {
    let sql = format!("select count(*) from ({sql} limit {}) few", COUNT_MAX + 1);
    let few = match session.query_one("counting what would be lost", &sql, &[]).await {
        Ok(row) => row.get::<_, i64>(0),
        Err(Error::Database { code: Some(SqlState::QUERY_CANCELED), .. }) => {
            return Ok(Some(format!("too many {unit} to look at in a short time")));
        }
        Err(error) => return Err(error),
    };
    Ok(match few {
        0 => None,
        1 => Some(format!("1 {}", unit.trim_end_matches('s'))),
        _ if few > COUNT_MAX => Some(format!("more than {COUNT_MAX} {unit}")),
        _ => Some(format!("{few} {unit}")),
    })
}
