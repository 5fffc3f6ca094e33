//! What `create index concurrently` leaves behind.
//!
//! `apply` calls it around every such script; it calls `session`.
//! A build that is killed or fails leaves an index of its name that is INVALID: it costs every
//! write, serves no read, and makes the next build fail.
//! Source: PostgreSQL manual, CREATE INDEX, "Building Indexes Concurrently".

use std::time::Duration;

use tokio_postgres::types::Type;

use crate::database::session::{Param, Session};
use crate::error::Error;
use crate::files::script::IndexBuild;

const FIND_SQL: &str = "select indisvalid, format('%I.%I', nspname, relname) \
    from pg_class join pg_index on indexrelid = pg_class.oid \
    join pg_namespace on pg_namespace.oid = relnamespace \
    where relname = $1::name \
    and relnamespace = (select relnamespace from pg_class where oid = to_regclass($2))";

/// The state of an index in the catalogue.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Absent,
    Valid,
    Invalid {
        /// Qualified and quoted for SQL.
        name: String,
    },
}

/// Looks for the index of that name in the schema of its table.
pub(crate) async fn find(session: &Session, build: &IndexBuild) -> Result<Found, Error> {
    let params: [Param<'_>; 2] = [(&build.name, Type::TEXT), (&build.table, Type::TEXT)];
    let rows = session.query("looking for the index", FIND_SQL, &params).await?;
    Ok(match rows.first() {
        None => Found::Absent,
        Some(row) if row.get(0) => Found::Valid,
        Some(row) => Found::Invalid { name: row.get(1) },
    })
}

/// Drops an index without blocking anybody. Waits up to `limit`.
pub(crate) async fn drop_index(
    session: &Session,
    name: &str,
    limit: Duration,
) -> Result<(), Error> {
    let doing = "dropping an INVALID index";
    let sql = format!("drop index concurrently {name}");
    session.send(limit, doing, &sql).await?.map_err(|error| Error::database(doing, &error))
}
