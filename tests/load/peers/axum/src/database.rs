//! The pool, and what handlers ask it.
//!
//! Every statement is prepared once for each connection, and is then one round trip. A connection goes
//! back to the pool before the answer is written.

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Config, NoTls, Row};

use crate::errors::Result;

type Values<'a> = [&'a (dyn ToSql + Sync)];

/// So many connections to the database of this URL, made when they are first needed.
pub(crate) fn pool(url: &str, size: usize) -> std::result::Result<Pool, String> {
    // Of SQLAlchemy's, as `postgresql+asyncpg`, only the scheme differs; `key=value` text has none.
    let url =
        url.split_once("://").map_or(url.to_owned(), |(_, rest)| format!("postgresql://{rest}"));
    let config: Config = url.parse().map_err(|error| format!("DATABASE_URL: {error}"))?;
    // No question whether a connection is still there before each use of it.
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_config(config, NoTls, recycling);
    Pool::builder(manager).max_size(size).build().map_err(|error| error.to_string())
}

/// The one row of a statement, if there is one.
pub(crate) async fn row(pool: &Pool, sql: &str, values: &Values<'_>) -> Result<Option<Row>> {
    let client = pool.get().await?;
    let statement = client.prepare_cached(sql).await?;
    Ok(client.query_opt(&statement, values).await?)
}

/// The rows of a statement.
pub(crate) async fn rows(pool: &Pool, sql: &str, values: &Values<'_>) -> Result<Vec<Row>> {
    let client = pool.get().await?;
    let statement = client.prepare_cached(sql).await?;
    Ok(client.query(&statement, values).await?)
}
