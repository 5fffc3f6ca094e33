//! Do the revisions give what the code declares?
//!
//! The command line calls it; it calls `materialise`, `compare` and `lockfile`.
//! It promises that "no" names everything that differs, and that no database but scratch ones is
//! touched. It does not know how a difference is mended: `generate` does.

use std::fmt;

use crate::catalog::{Catalog, Kind, Object};
use crate::chain::Chain;
use crate::compare::{self, Difference};
use crate::error::Error;
use crate::lockfile::LockFile;
use crate::materialise;
use crate::schema::{Column, Declared, Table, quoted};
use crate::scratch::{Scratch, Server};
use crate::session::Session;
use crate::target::Target;

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
    let config = materialise::migrated(scratch, chain, &Target::Head).await?;
    Ok(Sides { declared, migrated: materialise::read(&config).await?, fields, major })
}

async fn read_declared(
    session: &Session,
    declared: &Declared,
) -> Result<(Catalog, Vec<Finding>), Error> {
    materialise::declare(session, declared).await?;
    let catalog = Catalog::read(session).await?;
    let mut findings = Vec::new();
    for table in &declared.tables {
        findings.extend(unreadable(session, &catalog, table).await?);
    }
    Ok((catalog, findings))
}

/// The fields that cannot read their columns.
async fn unreadable(
    session: &Session,
    catalog: &Catalog,
    table: &Table,
) -> Result<Vec<Finding>, Error> {
    let names: Vec<String> = table.columns.iter().map(|column| quoted(column.name())).collect();
    let sql = format!("select {} from {}", names.join(", "), table.quoted_name());
    let read = session.prepare("reading the columns of a table", &sql).await?;
    let nullable = |name: &str| {
        let own = |key: &crate::catalog::Key| {
            key.kind == Kind::Column && unquoted(&key.name) == name && is_called(&key.of, table)
        };
        let found = catalog.objects.iter().find(|(key, _)| own(key));
        !matches!(found, Some((_, Object::Column(column))) if column.not_null)
    };
    let pairs = table.columns.iter().zip(read.columns());
    let findings = pairs.filter_map(|(column, found)| {
        let what = wrong(column, found.type_(), nullable(column.name()))?;
        Some(Finding::Field { field: format!("{}.{}", table.model, column.field), what })
    });
    Ok(findings.collect())
}

/// Why values of a column cannot be read into its field.
fn wrong(column: &Column, found: &crate::Type, nullable: bool) -> Option<String> {
    let rust_type = column.rust_type;
    if !(column.accepts)(found) {
        return Some(format!("{rust_type} does not read a column of type {found}: change either"));
    }
    match ((column.is_nullable)(), nullable) {
        (false, true) => Some(format!(
            "{rust_type} does not read null and the column may be null: write Option<{rust_type}>, \
             or `not null`"
        )),
        (true, false) => Some(format!(
            "{rust_type} reads null and the column is never null: take the Option or the `not null` away"
        )),
        _ => None,
    }
}

/// Whether the catalogue's name is this table's.
fn is_called(of: &str, table: &Table) -> bool {
    of.split('.').map(unquoted).eq(table.name.split('.'))
}

fn unquoted(name: &str) -> String {
    match name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inner) => inner.replace("\"\"", "\""),
        None => name.to_owned(),
    }
}

/// Whether the lock file says something else than what the revisions give now. Another major
/// version has other words, so that nothing can be said.
fn stale(lock: &str, fresh: &LockFile) -> Option<Finding> {
    let what = match LockFile::parse(lock) {
        None => "schema.lock cannot be read (a merge left a conflict?)".to_owned(),
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
            Self::Field { field, what } => write!(f, "{field}: {what}"),
            Self::Lint { what } | Self::Lock { what } => write!(f, "{what}"),
        }
    }
}
