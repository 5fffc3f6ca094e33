//! What changes the bookkeeping only: stamp and repair.
//!
//! The command line calls it; it calls `session` for the lock and `records` for the rows.
//! It promises that each is one transaction under the lock, and that the log says what was done.
//! It does not know the schema; whoever does may refuse a stamp before anything is written.

use crate::database::access::Access;
use crate::database::records::{self, Record, STAMP, UNSTAMP};
use crate::database::runner::{self, Event, Options, Report};
use crate::database::session::Session;
use crate::error::Error;
use crate::files::chain::{Chain, Revision};
use crate::files::target::Target;

/// What `stamp` is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stamp<'a> {
    /// What shall count as applied, up to here.
    pub(crate) target: &'a Target,
    /// Forget every row before, also those of revisions that are unknown here.
    pub(crate) purge: bool,
}

/// A changed row.
enum Change<'a> {
    Forget(&'a str),
    Write(&'a Revision),
}

/// What `repair` did.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Repaired {
    pub(crate) revision: String,
    /// The checksum before.
    pub(crate) recorded: String,
    /// The file's, which the row has now.
    pub(crate) file: String,
}

/// Makes the rows say that exactly the revisions up to the target are applied.
///
/// `compare` may refuse, with the session under the lock and the newest revision of the target
/// (`None` = base), before anything is written.
/// **Blocks** and **errors** as an upgrade does.
pub(crate) async fn stamp(
    access: &Access,
    stamp: Stamp<'_>,
    options: &Options<'_>,
    compare: impl AsyncFnOnce(&Session, Option<&Revision>) -> Result<(), Error>,
    progress: &mut dyn FnMut(Event<'_>),
) -> Result<Report, Error> {
    runner::locked(access, options, progress, async |session, _| {
        let (records, wanted) = standing(session, stamp, options.chain).await?;
        let goal = wanted.checked_sub(1).map(|index| &options.chain.all()[index]);
        compare(session, goal).await?;
        let changes = changes(options.chain, &records, wanted, stamp.purge);
        write(session, &changes).await?;
        Ok(Report {
            from: records::newest(&records).map(|record| record.revision.clone()),
            to: goal.map(|revision| revision.id.clone()),
            steps: changes.iter().map(|change| change.revision().to_owned()).collect(),
        })
    })
    .await
}

/// The rows there are, and how many revisions shall count as applied.
async fn standing(
    session: &Session,
    Stamp { target, purge }: Stamp<'_>,
    chain: &Chain,
) -> Result<(Vec<Record>, usize), Error> {
    records::refuse_alembic(session).await?;
    let records = records::read(session).await?;
    let applied = if purge { 0 } else { records::standing(chain, &records)?.applied };
    Ok((records, target.resolve(chain, applied)?))
}

/// Pure.
fn changes<'a>(
    chain: &'a Chain,
    records: &'a [Record],
    wanted: usize,
    purge: bool,
) -> Vec<Change<'a>> {
    let wanted = &chain.all()[..wanted];
    let stays = |record: &Record| {
        !purge
            && record.state != "running"
            && wanted.iter().any(|revision| revision.id == record.revision)
    };
    let gone = records.iter().rev().filter(|record| !stays(record));
    let new = wanted.iter().filter(|revision| {
        !records.iter().any(|record| record.revision == revision.id && stays(record))
    });
    let gone = gone.map(|record| Change::Forget(&record.revision));
    gone.chain(new.map(Change::Write)).collect()
}

impl Change<'_> {
    fn revision(&self) -> &str {
        match self {
            Self::Forget(id) => id,
            Self::Write(revision) => &revision.id,
        }
    }
}

async fn write(session: &Session, changes: &[Change<'_>]) -> Result<(), Error> {
    session.execute("opening a transaction", "begin").await?;
    session.check_lock().await?;
    records::make_tables(session).await?;
    for change in changes {
        match change {
            Change::Forget(id) => records::remove(session, id, UNSTAMP).await?,
            Change::Write(revision) => records::mark_stamped(session, revision, STAMP).await?,
        }
    }
    session.execute(&format!("committing {STAMP}"), "commit").await
}

/// Takes the file of one applied revision for the one that was applied; `None`: it is.
///
/// **Blocks** and **errors** as an upgrade does.
pub(crate) async fn repair(
    access: &Access,
    target: &Target,
    options: &Options<'_>,
    progress: &mut dyn FnMut(Event<'_>),
) -> Result<Option<Repaired>, Error> {
    runner::locked(access, options, progress, async |session, _| {
        let records = records::read(session).await?;
        let applied = records.iter().filter(|record| record.state != "running").count();
        let revision = target.named(options.chain, applied)?;
        let record = records
            .iter()
            .find(|record| record.revision == revision.id && record.state != "running")
            .ok_or_else(|| Error::NotApplied(revision.id.clone()))?;
        if record.checksum == revision.checksum {
            return Ok(None);
        }
        records::accept(session, revision, &record.checksum).await?;
        Ok(Some(Repaired {
            revision: revision.id.clone(),
            recorded: record.checksum.clone(),
            file: revision.checksum.clone(),
        }))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::records::tests::record;
    use crate::files::embedded::embedded;

    #[test]
    fn a_stamp_changes_only_what_differs() {
        let chain = embedded().unwrap();
        let check = |records: &[Record], wanted, purge, expected: &str| {
            let changes = changes(chain, records, wanted, purge);
            let found: Vec<String> = changes
                .iter()
                .map(|change| {
                    let sign = if matches!(change, Change::Write(_)) { '+' } else { '-' };
                    let place =
                        chain.index_of(change.revision()).map_or("?".into(), |at| at.to_string());
                    format!("{sign}{place}")
                })
                .collect();
            assert_eq!(found.join(" "), expected);
        };
        let two = [record(0, "applied"), record(1, "stamped")];
        check(&[], 2, false, "+0 +1");
        check(&two, 2, false, "");
        check(&two, 1, false, "-1");
        check(&two, 0, false, "-1 -0");
        check(&two, 2, true, "-1 -0 +0 +1");
        check(&[record(0, "applied"), record(1, "running")], 2, false, "-1 +1");
        check(&[record(0, "applied"), record(1, "running")], 1, false, "-1");
        let foreign = Record { revision: "ffff".to_owned(), ..record(1, "applied") };
        check(&[record(0, "applied"), foreign], 1, true, "-? -0 +0");
    }
}
