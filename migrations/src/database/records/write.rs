//! The rows of `peace_migration` and `peace_migration_log`, written.
//!
//! `apply`, `amend` and `adopt` write through it, in the transaction that is open, if one is;
//! `offline` takes its SQL. It calls `session`.
//! It promises that whatever changes a row also says so in the log, and that a script for psql says
//! what a run does: both have one source.

use std::time::Duration;

use tokio_postgres::types::Type;

use super::table_exists;
use crate::database::session::{Param, Session};
use crate::error::Error;
use crate::files::chain::{ROOT, Revision};

/// Actions of the log.
pub(crate) const UPGRADE: &str = "upgrade";
pub(crate) const DOWNGRADE: &str = "downgrade";
pub(crate) const STAMP: &str = "stamp";
pub(crate) const UNSTAMP: &str = "unstamp";
pub(crate) const ADOPT: &str = "adopt";
const WRITING: &str = "writing the table peace_migration";
const TOOL: &str = concat!("peace-migrate ", env!("CARGO_PKG_VERSION"));

/// Makes the two tables if there are none.
///
/// Only under the lock: `create table if not exists` races with itself.
pub(crate) async fn make_tables(session: &Session) -> Result<(), Error> {
    if table_exists(session, "peace_migration").await? {
        return Ok(());
    }
    let sql = tables_sql(&session.schema);
    session.execute("creating the table peace_migration", &sql).await
}

/// `unique (revises)` makes a fork impossible in the database too; the root says `none`, because
/// nulls would not collide.
pub(crate) fn tables_sql(schema: &str) -> String {
    format!(
        "create table if not exists {schema}.peace_migration (
             revision text primary key,
             revises text not null unique,
             name text not null,
             checksum text not null,
             state text not null check (state in ('applied', 'stamped', 'running')),
             applied_at timestamptz not null default clock_timestamp(),
             applied_by text not null default current_user,
             tool text not null,
             duration_ms bigint
         );
         create table if not exists {schema}.peace_migration_log (
             id bigint generated always as identity primary key,
             at timestamptz not null default clock_timestamp(),
             action text not null,
             revision text not null,
             detail text
         )"
    )
}

/// Whether the row of `revision` is marked `running`.
pub(crate) async fn is_running(session: &Session, revision: &Revision) -> Result<bool, Error> {
    let sql = format!(
        "select exists (select from {}.peace_migration where revision = $1 and state = 'running')",
        session.schema
    );
    let params: [Param<'_>; 1] = [(&revision.id, Type::TEXT)];
    Ok(session.query_one("reading the table peace_migration", &sql, &params).await?.get(0))
}

/// Marks that a script outside of a transaction begins.
pub(crate) async fn mark_running(session: &Session, revision: &Revision) -> Result<(), Error> {
    write(session, revision, ("running", UPGRADE), None).await
}

/// Records that `revision` is applied, in the transaction that is open, if one is.
pub(crate) async fn mark_applied(
    session: &Session,
    revision: &Revision,
    duration: Duration,
) -> Result<(), Error> {
    write(session, revision, ("applied", UPGRADE), Some(duration)).await
}

/// Records that `revision` counts as applied, in the transaction that is open.
pub(crate) async fn mark_stamped(
    session: &Session,
    revision: &Revision,
    action: &str,
) -> Result<(), Error> {
    write(session, revision, ("stamped", action), None).await
}

async fn write(
    session: &Session,
    revision: &Revision,
    (state, action): (&str, &str),
    duration: Option<Duration>,
) -> Result<(), Error> {
    let sql = write_sql(&session.schema, action, &["$1", "$2", "$3", "$4", "$5", "$6", "$7"]);
    let duration_ms = duration.and_then(|duration| i64::try_from(duration.as_millis()).ok());
    let [id, revises, name, checksum, tool] = columns(revision);
    let params: [Param<'_>; 7] = [
        (&id, Type::TEXT),
        (&revises, Type::TEXT),
        (&name, Type::TEXT),
        (&checksum, Type::TEXT),
        (&state, Type::TEXT),
        (&tool, Type::TEXT),
        (&duration_ms, Type::INT8),
    ];
    session.query(WRITING, &sql, &params).await.map(drop)
}

/// What a row says of its revision: id, revises, name, checksum; and who says it.
pub(crate) fn columns(revision: &Revision) -> [&str; 5] {
    let revises = revision.revises.as_deref().unwrap_or(ROOT);
    [&revision.id, revises, &revision.name, &revision.checksum, TOOL]
}

/// Upserts a row; whatever ends a step also goes to the log.
///
/// `values`: revision, revises, name, checksum, state, tool, duration, as SQL expressions.
pub(crate) fn write_sql(schema: &str, action: &str, values: &[&str; 7]) -> String {
    format!(
        "with written as (insert into {schema}.peace_migration as row \
         (revision, revises, name, checksum, state, tool, duration_ms) \
         values ({}) on conflict (revision) do update \
         set checksum = excluded.checksum, state = excluded.state, tool = excluded.tool, \
         applied_at = clock_timestamp(), applied_by = current_user, \
         duration_ms = excluded.duration_ms returning row.revision, row.name, row.state) \
         insert into {schema}.peace_migration_log (action, revision, detail) \
         select '{action}', revision, name from written where state <> 'running'",
        values.join(", ")
    )
}

/// Forgets `revision`, in the transaction that is open, if one is.
pub(crate) async fn remove(session: &Session, revision: &str, action: &str) -> Result<(), Error> {
    let params: [Param<'_>; 1] = [(&revision, Type::TEXT)];
    session.query(WRITING, &remove_sql(&session.schema, action, "$1"), &params).await.map(drop)
}

/// Deletes the row of `revision`, an SQL expression, and says so in the log.
pub(crate) fn remove_sql(schema: &str, action: &str, revision: &str) -> String {
    format!(
        "with gone as (delete from {schema}.peace_migration where revision = {revision} \
         returning revision, name) \
         insert into {schema}.peace_migration_log (action, revision, detail) \
         select '{action}', revision, name from gone"
    )
}

/// Takes the file's checksum for the recorded one.
pub(crate) async fn accept(
    session: &Session,
    revision: &Revision,
    recorded: &str,
) -> Result<(), Error> {
    let sql = format!(
        "with written as (update {schema}.peace_migration set checksum = $2 where revision = $1 \
         returning revision) \
         insert into {schema}.peace_migration_log (action, revision, detail) \
         select 'repair', revision, $3 || ' -> ' || $2 from written",
        schema = session.schema
    );
    let params: [Param<'_>; 3] =
        [(&revision.id, Type::TEXT), (&revision.checksum, Type::TEXT), (&recorded, Type::TEXT)];
    session.query(WRITING, &sql, &params).await.map(drop)
}
