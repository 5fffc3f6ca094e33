//! Is a live database's schema the one of its revision?
//!
//! The command line calls it; it calls `records`, `catalog`, `lockfile`, `materialise` when the
//! lock file is of another revision, and `generate` for the way back. It takes no lock and writes
//! nothing.
//! It promises that a migration that runs meanwhile, and revisions that are pending, are no drift.
//! Not reported: schemas that no revision makes, and extensions beyond those that they make. They
//! are other programs'.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::database::access::Access;
use crate::database::records;
use crate::database::session::{Session, between};
use crate::error::Error;
use crate::files::chain::{Chain, Revision};
use crate::files::target::Target;
use crate::schema::catalog::{Catalog, Key, Kind};
use crate::schema::compare::Difference;
use crate::schema::generate::{self, Unwritten};
use crate::schema::lockfile::{self, LockFile};
use crate::schema::materialise;
use crate::schema::scratch::Server;

const POLL: (Duration, Duration) = (Duration::from_millis(200), Duration::from_millis(500));

/// A database as it stands between two migrations.
pub(crate) struct Live {
    /// `None` = base.
    pub(crate) revision: Option<String>,
    pub(crate) catalog: Catalog,
    pub(crate) major: u32,
}

impl Live {
    /// What is there, to be compared with a revision that the database may not say it is at.
    pub(crate) async fn at(revision: Option<&Revision>, session: &Session) -> Result<Self, Error> {
        Ok(Self {
            revision: revision.map(|revision| revision.id.clone()),
            catalog: Catalog::read(session).await?,
            major: session.major(),
        })
    }
}

/// Reads a database's schema and its revision as they belong together.
///
/// **Waits** for a migration that runs, up to `wait`.
pub(crate) async fn read(access: &Access, wait: Duration) -> Result<Live, Error> {
    let session = Session::open(access).await?;
    let live = read_settled(&session, wait).await;
    session.close().await;
    live
}

async fn read_settled(session: &Session, wait: Duration) -> Result<Live, Error> {
    let begin = Instant::now();
    loop {
        let before = records::read(session).await?;
        let busy = session.is_locked().await?;
        let catalog = Catalog::read(session).await?;
        let after = records::read(session).await?;
        if !busy && !session.is_locked().await? && before == after {
            let revision = records::newest(&after).map(|record| record.revision.clone());
            return Ok(Live { revision, catalog, major: session.major() });
        }
        if begin.elapsed() > wait {
            return Err(Error::Locked { waited: wait, holder: session.holder().await? });
        }
        sleep(between(POLL.0, POLL.1)).await;
    }
}

/// What the live schema has otherwise than its revision says. `lock`: the lock file, if it can be
/// read.
pub(crate) async fn drift(
    live: &Live,
    chain: &Chain,
    lock: Option<&LockFile>,
    server: &Server,
) -> Result<Vec<Difference>, Error> {
    let fits = |lock: &&LockFile| {
        Some(&lock.revision) == live.revision.as_ref() && lock.major == live.major
    };
    let expected = match lock.filter(fits) {
        Some(lock) => lock.lines.clone(),
        None => expected(live, chain, server).await?.lines().collect(),
    };
    let have: Vec<String> = ours(&live.catalog, &expected).lines().collect();
    Ok(lockfile::differences(&have, &expected))
}

/// A script for psql that makes the live schema what its revision says; empty when it is.
pub(crate) async fn script(
    live: &Live,
    chain: &Chain,
    server: &Server,
) -> Result<String, Unwritten> {
    let expected = expected(live, chain, server).await?;
    let lines: Vec<String> = expected.lines().collect();
    generate::mending(ours(&live.catalog, &lines), &expected)
}

/// What the revisions up to the live one give, made in a scratch database.
pub(crate) async fn expected(
    live: &Live,
    chain: &Chain,
    server: &Server,
) -> Result<Catalog, Error> {
    let Some(revision) = live.revision.clone() else { return Ok(Catalog::default()) };
    let target = Target::Revision(revision);
    let read = async |scratch: &_| {
        materialise::read(&materialise::migrated(scratch, chain, &target).await?).await
    };
    server.with_scratch(read).await
}

/// The live objects without those of other programs.
fn ours(live: &Catalog, expected: &[String]) -> Catalog {
    let expected: BTreeSet<&str> = expected.iter().map(String::as_str).collect();
    let makes = |object: &str| expected.contains(object);
    let is_ours = |key: &Key| match (key.kind, schema_of(&key.of)) {
        (Kind::Extension | Kind::Schema, _) => makes(&key.to_string()),
        (Kind::Comment, None) if key.name.starts_with("schema ") => makes(&key.name),
        (_, Some(schema)) => makes(&format!("schema {schema}")),
        _ => true,
    };
    let objects = live.objects.iter().filter(|(key, _)| is_ours(key));
    Catalog { objects: objects.map(|(key, object)| (key.clone(), object.clone())).collect() }
}

/// The schema in a qualified name, quoted as it is there; `None` = the home schema.
fn schema_of(name: &str) -> Option<&str> {
    let mut quoted = false;
    let dot = name.char_indices().take_while(|(_, letter)| *letter != '(').find(|(_, letter)| {
        quoted ^= *letter == '"';
        *letter == '.' && !quoted
    });
    dot.map(|(at, _)| &name[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dot_in_quotes_does_not_qualify() {
        assert_eq!(schema_of("item"), None);
        assert_eq!(schema_of("app.item"), Some("app"));
        assert_eq!(schema_of("\"a.b\""), None);
        assert_eq!(schema_of("\"a.b\".item"), Some("\"a.b\""));
        assert_eq!(schema_of("f(app.item)"), None);
    }
}
