//! What a database remembers: `peace_migration` (one row per applied revision) and
//! `peace_migration_log` (what was done, for people).
//!
//! `runner` reads where the database stands; the rows themselves are written in `write`. It calls
//! `session`.
//! It promises that a database with another history (edited or unknown revisions, Alembic's) is
//! refused before anything is touched.
//! It does not know how a script is run.

mod write;

use tokio_postgres::types::Type;

use crate::database::session::{Param, Session};
use crate::error::Error;
use crate::files::chain::{Chain, Revision};

pub(crate) use write::{
    ADOPT, DOWNGRADE, STAMP, UNSTAMP, UPGRADE, accept, columns, is_running, make_tables,
    mark_applied, mark_running, mark_stamped, remove, remove_sql, tables_sql, write_sql,
};

/// One row: the newest applied revision (text, null when there is none) and whether revision `$1`
/// (text) is applied (bool).
///
/// One cheap autocommit statement for a readiness check. SQLSTATE 42P01 means that the database
/// was never migrated. A newer release's revisions on top do not take `$1` away.
pub const READINESS_SQL: &str = "select (select revision from peace_migration newest \
    where state <> 'running' and not exists (select from peace_migration next \
    where next.revises = newest.revision and next.state <> 'running') \
    order by applied_at desc limit 1), \
    exists (select from peace_migration where revision = $1 and state <> 'running')";

/// A row of `peace_migration`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Record {
    /// The revision's id.
    pub revision: String,
    /// Its parent's id, or `none`.
    pub revises: String,
    /// The files' name.
    pub name: String,
    /// SHA-256 of the up file that was applied.
    pub checksum: String,
    /// `applied`, `stamped`, or `running`: a file outside of a transaction began and did not end.
    pub state: String,
    /// UTC, RFC 3339.
    pub applied_at: String,
}

/// Where a database stands in the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// So many revisions from the root are applied.
    pub(crate) applied: usize,
    /// The next one is marked `running`: an earlier run was interrupted in it.
    pub(crate) interrupted: bool,
}

/// The database's history is not the one of the files.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// An applied file was changed.
    #[error(
        "{file} was edited after it was applied: restore it and write the change as a new \
        revision, or accept it with `peace-migrate repair`"
    )]
    Edited {
        /// The file's name.
        file: String,
    },
    /// Applied, and unknown here.
    #[error(
        "this build does not know the applied revision {}: a newer release or another branch \
        migrated this database (use its peace-migrate), or its file was deleted (restore it)",
        .0.join(", ")
    )]
    Unknown(
        /// Their ids.
        Vec<String>,
    ),
    /// A revision is applied and one before it is not.
    #[error(
        "revision {revision} is applied but {missing} before it is not: the table \
        peace_migration was edited by hand"
    )]
    Gap {
        /// The one applied.
        revision: String,
        /// The one missing.
        missing: String,
    },
    /// Alembic's database.
    #[error(
        "Alembic manages this database (revision {revision}): take it over with \
        `peace-migrate adopt-alembic`; nothing was changed"
    )]
    Alembic {
        /// The content of `alembic_version`.
        revision: String,
    },
    /// Not Alembic's database, and to be taken over from it.
    #[error(
        "there is no table alembic_version in the schema {schema}, so that there is nothing to \
        take over: `peace-migrate upgrade` begins with an empty database"
    )]
    NotAlembic {
        /// Where it was looked for.
        schema: String,
    },
    /// Branches in Python.
    #[error("Alembic stands at {} revisions, {}: bring them together with `alembic merge heads` and \
        `alembic upgrade head`, and that to a revision of ours; nothing was changed",
        .0.len(), .0.join(" and "))]
    AlembicHeads(
        /// The rows of `alembic_version`.
        Vec<String>,
    ),
    /// A revision that only Python has.
    #[error(
        "Alembic stands at revision {revision}, which is none of `peace-migrate history`: go to \
        one of those with `alembic downgrade`, or write what is beyond as a revision with this id; \
        nothing was changed"
    )]
    AlembicUnknown {
        /// The row of `alembic_version`.
        revision: String,
    },
}

/// Reads where the database stands; refuses one that is Alembic's.
pub(crate) async fn stand(session: &Session, chain: &Chain) -> Result<Standing, Error> {
    refuse_alembic(session).await?;
    Ok(standing(chain, &read(session).await?)?)
}

/// Every row, oldest first; none when there is no table.
pub(crate) async fn read(session: &Session) -> Result<Vec<Record>, Error> {
    if !table_exists(session, "peace_migration").await? {
        return Ok(Vec::new());
    }
    let sql = format!(
        "select revision, revises, name, checksum, state, \
         to_char(applied_at at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') \
         from {}.peace_migration order by applied_at, revision",
        session.schema
    );
    let rows = session.query("reading the table peace_migration", &sql, &[]).await?;
    Ok(rows
        .iter()
        .map(|row| Record {
            revision: row.get(0),
            revises: row.get(1),
            name: row.get(2),
            checksum: row.get(3),
            state: row.get(4),
            applied_at: row.get(5),
        })
        .collect())
}

/// The newest applied revision: the one that no other applied one revises.
pub(crate) fn newest(records: &[Record]) -> Option<&Record> {
    let applied = || records.iter().filter(|record| record.state != "running");
    applied().find(|record| applied().all(|next| next.revises != record.revision))
}

/// Compares the rows with the files.
pub(crate) fn standing(chain: &Chain, records: &[Record]) -> Result<Standing, HistoryError> {
    let unknown: Vec<String> = records
        .iter()
        .filter(|record| chain.index_of(&record.revision).is_none())
        .map(|record| record.revision.clone())
        .collect();
    if !unknown.is_empty() {
        return Err(HistoryError::Unknown(unknown));
    }
    let mut standing = Standing { applied: 0, interrupted: false };
    let mut missing: Option<&Revision> = None;
    for revision in chain.all() {
        match (records.iter().find(|record| record.revision == revision.id), missing) {
            (None, None) => missing = Some(revision),
            (None, Some(_)) => {}
            (Some(_), Some(missing)) => {
                let (revision, missing) = (revision.id.clone(), missing.id.clone());
                return Err(HistoryError::Gap { revision, missing });
            }
            // Its file may be mended before the next try.
            (Some(record), None) if record.state == "running" => {
                standing.interrupted = true;
                missing = Some(revision);
            }
            (Some(record), None) if record.checksum != revision.checksum => {
                return Err(HistoryError::Edited { file: revision.up.file.clone() });
            }
            (Some(_), None) => standing.applied += 1,
        }
    }
    Ok(standing)
}

async fn table_exists(session: &Session, table: &str) -> Result<bool, Error> {
    let name = format!("{}.{table}", session.schema);
    let params: [Param<'_>; 1] = [(&name, Type::TEXT)];
    let sql = "select to_regclass($1) is not null";
    Ok(session.query_one("looking for our tables", sql, &params).await?.get(0))
}

/// What Alembic's table holds: a row for each head; `None` when there is no such table.
pub(crate) async fn alembic_heads(session: &Session) -> Result<Option<Vec<String>>, Error> {
    if !table_exists(session, "alembic_version").await? {
        return Ok(None);
    }
    let sql = format!(
        "select version_num::text from {}.alembic_version order by version_num",
        session.schema
    );
    let rows = session.query("reading the table alembic_version", &sql, &[]).await?;
    Ok(Some(rows.iter().map(|row| row.get(0)).collect()))
}

/// A database that only Alembic has a history of is not ours yet.
pub(crate) async fn refuse_alembic(session: &Session) -> Result<(), Error> {
    if table_exists(session, "peace_migration").await? {
        return Ok(());
    }
    match alembic_heads(session).await?.unwrap_or_default() {
        heads if heads.is_empty() => Ok(()),
        heads => Err(HistoryError::Alembic { revision: heads.join(", ") }.into()),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::files::chain::ROOT;
    use crate::files::embedded::embedded;

    /// The row of one of the embedded revisions.
    pub(crate) fn record(index: usize, state: &str) -> Record {
        let revision = &embedded().unwrap().all()[index];
        Record {
            revision: revision.id.clone(),
            revises: revision.revises.clone().unwrap_or(ROOT.to_owned()),
            name: revision.name.clone(),
            checksum: revision.checksum.clone(),
            state: state.to_owned(),
            applied_at: String::new(),
        }
    }

    #[test]
    fn a_database_stands_where_its_rows_end() {
        let check = |records: &[Record], applied, interrupted| {
            let found = standing(embedded().unwrap(), records).unwrap();
            assert_eq!(found, Standing { applied, interrupted });
        };
        check(&[], 0, false);
        check(&[record(0, "applied")], 1, false);
        check(&[record(1, "applied"), record(0, "stamped")], 2, false);
        check(&[record(0, "applied"), record(1, "running")], 1, true);
        let mended = Record { checksum: String::new(), ..record(1, "running") };
        check(&[record(0, "applied"), mended], 1, true);
    }

    #[test]
    fn another_history_is_refused() {
        let check = |records: &[Record]| standing(embedded().unwrap(), records).unwrap_err();
        let edited = Record { checksum: String::new(), ..record(0, "applied") };
        let file = "20241216222729_init.up.sql".to_owned();
        assert_eq!(check(&[edited]), HistoryError::Edited { file });
        let foreign = Record { revision: "ffff".to_owned(), ..record(1, "applied") };
        assert_eq!(
            check(&[record(0, "applied"), foreign]),
            HistoryError::Unknown(vec!["ffff".to_owned()])
        );
        let ids = ["586f9c3cd40c".to_owned(), "1246b5faa711".to_owned()];
        let [missing, revision] = ids;
        assert_eq!(
            check(&[record(1, "applied")]),
            HistoryError::Gap { revision: revision.clone(), missing: missing.clone() }
        );
        assert_eq!(
            check(&[record(0, "running"), record(1, "applied")]),
            HistoryError::Gap { revision, missing }
        );
    }

    #[test]
    fn the_newest_is_the_one_that_no_applied_one_revises() {
        let newest = |records: &[Record]| newest(records).map(|record| record.revision.clone());
        assert_eq!(newest(&[]), None);
        assert_eq!(newest(&[record(0, "running")]), None);
        let records = [record(1, "applied"), record(0, "applied")];
        assert_eq!(newest(&records), Some("1246b5faa711".to_owned()));
        let records = [record(1, "running"), record(0, "applied")];
        assert_eq!(newest(&records), Some("586f9c3cd40c".to_owned()));
    }
}
