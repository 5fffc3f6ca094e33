//! Do the revisions give what the code declares?
//!
//! The command line calls it; it calls `materialise`, `compare` and `lockfile`.
//! It promises that "no" names everything that differs, and that no database but scratch ones is
//! touched. It does not know how a difference is mended: `generate` does.

use std::collections::BTreeSet;
use std::fmt;

use tokio_postgres::types::{Kind, Type};

use crate::database::access::Access;
use crate::database::session::{Param, Session};
use crate::error::Error;
use crate::files::chain::Chain;
use crate::files::target::Target;
use crate::schema::catalog::Catalog;
use crate::schema::compare::{self, Difference};
use crate::schema::declared::{Column, Declared, Table, quoted};
use crate::schema::lockfile::{LockFile, UNREADABLE};
use crate::schema::materialise;
use crate::schema::scratch::{Scratch, Server};

/// The numbers of a table's columns that never hold null, by themselves or by their domain.
const NEVER_NULL_SQL: &str = "select attnum from pg_attribute join pg_type t on t.oid = atttypid \
    where attrelid = to_regclass($1) and attnum > 0 and (attnotnull or typnotnull)";

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Finding {
    /// The declared schema and the revisions' are not the same.
    Difference(Difference),
    /// A field of a row struct cannot read its column.
    Field {
        /// `Item.added`.
        field: String,
        /// `item.added`.
        column: String,
        /// What is wrong and how to mend it.
        what: String,
    },
    /// What lint calls an error in the newest revision.
    Lint {
        /// Where, why and what to do instead.
        what: String,
    },
    /// `schema.lock` is not what the revisions give.
    Lock {
        /// Why.
        what: String,
    },
}

/// What the code declares and what the revisions give, as one server reads them.
pub(crate) struct Sides {
    pub(crate) declared: Catalog,
    pub(crate) migrated: Catalog,
    /// What the row structs cannot read.
    pub(crate) fields: Vec<Finding>,
    /// The server's major version.
    pub(crate) major: u32,
}

/// Whether the revisions of `chain` give `tables`, and their structs can read the rows: for a
/// program's own tests. Makes scratch databases on the server of `access`, and drops them.
pub async fn check_tables(
    access: &Access,
    chain: &Chain,
    tables: &[Table],
) -> Result<Vec<Finding>, Error> {
    let server = Server { server: access.clone(), given: None };
    check(&server, chain, &Declared::tables(tables), None).await
}

/// Makes both sides and compares them, and `lock` (the file's text, if there is one) too.
pub(crate) async fn check(
    server: &Server,
    chain: &Chain,
    declared: &Declared,
    lock: Option<&str>,
) -> Result<Vec<Finding>, Error> {
    let sides = server.with_scratch(async |scratch| sides(scratch, chain, declared).await).await?;
    let differences = compare::differences(&sides.migrated, &sides.declared);
    let fresh = LockFile::new(&chain.head().id, sides.major, &sides.migrated);
    let differences = differences.into_iter().map(Finding::Difference);
    Ok(differences.chain(sides.fields).chain(lock.and_then(|lock| stale(lock, &fresh))).collect())
}

/// Makes both sides, one after the other: a given scratch database holds one at a time.
pub(crate) async fn sides(
    scratch: &Scratch,
    chain: &Chain,
    declared: &Declared,
) -> Result<Sides, Error> {
    let session = Session::open(&scratch.database().await?).await?;
    let made = read_declared(&session, declared).await;
    let major = session.major();
    session.close().await;
    let (declared, fields) = made?;
    let access = materialise::migrated(scratch, chain, &Target::Head).await?;
    Ok(Sides { declared, migrated: materialise::read(&access).await?, fields, major })
}

/// The declared schema, and the fields that cannot read it.
pub(crate) async fn read_declared(
    session: &Session,
    declared: &Declared,
) -> Result<(Catalog, Vec<Finding>), Error> {
    materialise::declare(session, declared).await?;
    let catalog = Catalog::read(session).await?;
    let mut findings = Vec::new();
    for table in &declared.tables {
        findings.extend(unreadable(session, table).await?);
    }
    Ok((catalog, findings))
}

/// The fields that cannot read their columns.
async fn unreadable(session: &Session, table: &Table) -> Result<Vec<Finding>, Error> {
    let doing = format!("reading the columns of {}", table.name);
    let names: Vec<String> = table.columns.iter().map(|column| quoted(column.name())).collect();
    let name = table.quoted_name();
    let sql = format!("select {} from {name}", names.join(", "));
    let read = session.prepare(&doing, &sql).await?;
    let params: [Param<'_>; 1] = [(&name, Type::TEXT)];
    let never_null = session.query(&doing, NEVER_NULL_SQL, &params).await?;
    let never_null: BTreeSet<i16> = never_null.iter().map(|row| row.get(0)).collect();
    let findings = table.columns.iter().zip(read.columns()).filter_map(|(column, found)| {
        let nullable = found.column_id().is_none_or(|number| !never_null.contains(&number));
        Some(Finding::Field {
            field: format!("{}.{}", table.model, column.field),
            column: format!("{}.{}", table.name, column.name()),
            what: wrong(column, found.type_(), nullable)?,
        })
    });
    Ok(findings.collect())
}

/// Why values of a column cannot be read into its field.
fn wrong(column: &Column, found: &Type, nullable: bool) -> Option<String> {
    let rust_type = column.rust_type;
    if !(column.accepts)(found) {
        let found = match found.kind() {
            Kind::Array(member) => format!("{member}[]"),
            _ => found.to_string(),
        };
        return Some(format!("{rust_type} does not read a column of type {found}: change either"));
    }
    match ((column.is_nullable)(), nullable) {
        (false, true) => Some(format!(
            "{rust_type} does not read null and the column may be null: write Option<{rust_type}>, \
             or `not null`"
        )),
        (true, false) => Some(format!(
            "{rust_type} reads null and the column is never null: take the Option away, or the \
             `not null`"
        )),
        _ => None,
    }
}

/// Whether the lock file says something else than what the revisions give now. Another major
/// version has other words, so that nothing can be said.
fn stale(lock: &str, fresh: &LockFile) -> Option<Finding> {
    let what = match LockFile::parse(lock) {
        None => UNREADABLE.to_owned(),
        Some(lock) if lock.revision != fresh.revision => {
            format!("schema.lock is of revision {}, the head is {}", lock.revision, fresh.revision)
        }
        Some(lock) if lock.major != fresh.major || lock == *fresh => return None,
        Some(_) => "schema.lock is not what the revisions give".to_owned(),
    };
    Some(Finding::Lock { what: format!("{what}: run `peace-migrate dump`") })
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Difference(difference) => write!(f, "{difference}"),
            Self::Field { field, column, what } => write!(f, "{field} (column {column}): {what}"),
            Self::Lint { what } | Self::Lock { what } => write!(f, "{what}"),
        }
    }
}
