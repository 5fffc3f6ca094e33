//! What a way down would lose in this very database.
//!
//! `runner` asks before it takes a revision back; it calls `guard` for what the files drop, and
//! `session` to look at it.
//! It promises to look only: nothing is counted beyond a thousand, and nothing waited for longer
//! than a statement of the file would.
//! It does not know whether the loss is meant.

use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use crate::database::session::{Param, Session};
use crate::error::Error;
use crate::files::guard::{self, Loss, Retype};
use crate::files::script::{LOCK_TIMEOUT, Script};

/// More is only "more than".
const COUNT_MAX: i64 = 1000;
/// For one count; a column that is null throughout needs its whole table read.
const COUNT_TIMEOUT: Duration = Duration::from_secs(10);

/// The table, if it holds rows of its own, and the column with its type, if it is no generated one.
const RESOLVE_SQL: &str = "select format('%I.%I', nspname, relname), \
    quote_ident(attname), format_type(atttypid, atttypmod) \
    from pg_class join pg_namespace on pg_namespace.oid = relnamespace \
    left join pg_attribute on attrelid = pg_class.oid \
    and attname = $2::name and attnum > 0 and not attisdropped and attgenerated = '' \
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
                Some((name, ..)) => {
                    let some = count(session, &format!("select from {name}"), "rows").await?;
                    look.found.extend(some.map(|some| format!("{table}: {some}")));
                }
            },
            Loss::Values { table, column } => match resolve(session, table, column).await? {
                Some((name, Some((quoted, _)))) => {
                    let sql = format!("select from {name} where {quoted} is not null");
                    let some = count(session, &sql, "values").await?;
                    look.found.extend(some.map(|some| format!("{table}.{column}: {some}")));
                }
                _ => look.open.push(loss),
            },
            Loss::Retype(retype) => match resolve(session, &retype.table, &retype.column).await? {
                Some((name, Some(column))) => {
                    look.found.extend(changed(session, retype, &name, &column).await?);
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
) -> Result<Option<(String, Option<(String, String)>)>, Error> {
    let params: [Param<'_>; 2] = [(&table, Type::TEXT), (&column, Type::TEXT)];
    let rows = session.query("looking for what would be lost", RESOLVE_SQL, &params).await?;
    let column = |row: &Row| Some((row.get::<_, Option<_>>(1)?, row.get::<_, Option<_>>(2)?));
    Ok(rows.first().map(|row| (row.get(0), column(row))))
}

/// `item.price as integer: 3 values`: those that a way back to the type of now would not restore.
///
/// The expression is the file's own: whatever it calls, it may not write here.
async fn changed(
    session: &Session,
    retype: &Retype,
    table: &str,
    (column, data_type): &(String, String),
) -> Result<Option<String>, Error> {
    let Retype { value, data_type: new, .. } = retype;
    let names_a_zone = value.to_ascii_lowercase().contains("at time zone");
    let crosses = matches!((has_zone(new), has_zone(data_type)), (Some(a), Some(b)) if a != b);
    if crosses && names_a_zone {
        return Ok(None);
    }
    // A comment may end it.
    let sql = format!(
        "select from {table} where {column} is distinct from ((({value}\n)::{new}\n)::{data_type})"
    );
    session.execute("looking at a column", "begin read only").await?;
    let counted = count(session, &sql, "values").await;
    session.execute("looking at a column", "rollback").await?;
    let is_unanswered = match &counted {
        // There and back through the session's zone is the same value, of another moment maybe.
        Ok(_) => crosses,
        Err(Error::Database { code: Some(code), .. }) => is_unanswerable(code),
        Err(_) => false,
    };
    let some = match counted {
        _ if is_unanswered => {
            let sql = format!("select from {table} where {column} is not null");
            let some = count(session, &sql, "values").await?;
            some.map(|some| format!("{some}, as whether they come back cannot be told"))
        }
        counted => counted?,
    };
    let Retype { table, column, .. } = retype;
    Ok(some.map(|some| format!("{table}.{column} as {new}: {some}")))
}

/// Whether a type of moments or times of day knows a zone; `None`: it is none of these.
fn has_zone(data_type: &str) -> Option<bool> {
    let name = data_type.to_ascii_lowercase();
    name.starts_with("time").then(|| name.contains("tz") || name.contains("with time zone"))
}

/// There is no such cast, type or operator, or yet; a value does not fit; or it would write.
fn is_unanswerable(code: &SqlState) -> bool {
    ["42", "22"].iter().any(|class| code.code().starts_with(class))
        || *code == SqlState::READ_ONLY_SQL_TRANSACTION
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
