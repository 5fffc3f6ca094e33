//! Takes over a database that Alembic manages: the tables stay, the history becomes ours.
//!
//! The command line calls it; it calls `runner` for the lock, `drift` for the proof and `records`
//! for the rows.
//! It promises that a schema counts as a revision only when it is what that revision's files give,
//! or the caller accepts what differs; that everything is written in one transaction, or nothing;
//! and that Alembic's own table keeps its row: until it is retired, Python can go on.
//! It does not know who else uses the database. Alembic takes no lock: while it upgrades, this may
//! record the revision before; running it again then records the rest.
//! Source: Alembic's documentation, "Working with Branches" (one row of `alembic_version` per head).

use crate::database::access::Access;
use crate::database::records::{self, ADOPT, HistoryError};
use crate::database::runner::{self, Event, Options};
use crate::database::session::Session;
use crate::error::Error;
use crate::files::chain::{Chain, Revision};
use crate::schema::catalog::Catalog;
use crate::schema::compare::Difference;
use crate::schema::drift::{self, Live};
use crate::schema::scratch::Server;

/// What Alembic's table is called when Alembic is not to find it.
pub(crate) const RETIRED: &str = "alembic_version_retired";

/// What `adopt` is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wishes {
    /// Record the revision although the schema is not what its files give.
    pub(crate) accept_drift: bool,
    /// Rename Alembic's table.
    pub(crate) retire: bool,
}

/// What `adopt` found and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Adoption {
    /// Where the database stands; `None` = base.
    pub(crate) revision: Option<String>,
    /// What the schema has otherwise than that revision's files give. Unless that was accepted,
    /// nothing was changed.
    pub(crate) differences: Vec<Difference>,
    /// The revisions that were recorded, in order; empty when they had been before.
    pub(crate) recorded: Vec<String>,
    /// Whether Alembic's table was renamed.
    pub(crate) retired: bool,
}

/// Records the revision that Alembic has brought the database to as applied.
///
/// **Blocks** for the lock up to `options.lock_wait`, and for the proof as long as the revisions
/// take on an empty database. **Errors**: see [`Error`]; running it again is always safe.
pub(crate) async fn adopt(
    access: &Access,
    server: &Server,
    wishes: Wishes,
    options: &Options<'_>,
    progress: &mut dyn FnMut(Event<'_>),
) -> Result<Adoption, Error> {
    runner::locked(access, options, progress, async |session, _| {
        take_over(session, server, wishes, options.chain).await
    })
    .await
}

async fn take_over(
    session: &Session,
    server: &Server,
    wishes: Wishes,
    chain: &Chain,
) -> Result<Adoption, Error> {
    let records = records::read(session).await?;
    let applied = records::standing(chain, &records)?.applied;
    let heads = records::alembic_heads(session).await?;
    let reached = match &heads {
        Some(heads) => reached(chain, heads)?,
        // Its table was retired before.
        None if applied > 0 => applied,
        None => return Err(HistoryError::NotAlembic { schema: session.schema.clone() }.into()),
    };
    // Empty when our own revisions are on top of Alembic's already.
    let due = chain.all().get(applied..reached).unwrap_or_default();
    let newest = applied.max(reached).checked_sub(1).map(|index| &chain.all()[index]);
    let differences = match applied < reached || applied == 0 {
        true => differences(session, server, chain, newest).await?,
        false => Vec::new(),
    };
    let mut adoption = Adoption {
        revision: newest.map(|revision| revision.id.clone()),
        differences,
        recorded: Vec::new(),
        retired: false,
    };
    if adoption.differences.is_empty() || wishes.accept_drift {
        adoption.retired = wishes.retire && heads.is_some();
        write(session, due, adoption.retired).await?;
        adoption.recorded = due.iter().map(|revision| revision.id.clone()).collect();
    }
    Ok(adoption)
}

/// How many revisions of the chain Alembic has applied. Pure.
fn reached(chain: &Chain, heads: &[String]) -> Result<usize, HistoryError> {
    match heads {
        [] => Ok(0),
        [id] => match chain.index_of(id) {
            Some(index) => Ok(index + 1),
            None => Err(HistoryError::AlembicUnknown { revision: id.clone() }),
        },
        _ => Err(HistoryError::AlembicHeads(heads.to_vec())),
    }
}

/// What the schema has otherwise than the files up to `revision` give on an empty database.
async fn differences(
    session: &Session,
    server: &Server,
    chain: &Chain,
    revision: Option<&Revision>,
) -> Result<Vec<Difference>, Error> {
    let live = Live {
        revision: revision.map(|revision| revision.id.clone()),
        catalog: Catalog::read(session).await?,
        major: session.major(),
    };
    // Never a committed file instead: this is the proof that all later ones rest on.
    drift::drift(&live, chain, None, server).await
}

/// One transaction; what fails in it is rolled back with the session's end.
async fn write(session: &Session, due: &[Revision], retire: bool) -> Result<(), Error> {
    let begin = "begin; set local lock_timeout = '3s'";
    session.execute("opening a transaction", begin).await?;
    session.check_lock().await?;
    records::make_tables(session).await?;
    for revision in due {
        records::mark_stamped(session, revision, ADOPT).await?;
    }
    if retire {
        // Its key keeps its name: so Alembic fails already when it makes itself a new table.
        let schema = &session.schema;
        let rename = format!("alter table {schema}.alembic_version rename to {RETIRED}");
        session.execute("retiring the table alembic_version", &rename).await?;
    }
    session.execute("committing the takeover", "commit").await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::embedded::embedded;

    #[test]
    fn one_row_of_alembic_is_a_place_in_the_chain() {
        let reached = |heads: &[&str]| {
            let heads: Vec<String> = heads.iter().map(|&head| head.to_owned()).collect();
            reached(embedded().unwrap(), &heads)
        };
        assert_eq!(reached(&[]), Ok(0));
        assert_eq!(reached(&["586f9c3cd40c"]), Ok(1));
        assert_eq!(reached(&["1246b5faa711"]), Ok(2));
        let revision = "1246b5faa71".to_owned();
        assert_eq!(reached(&["1246b5faa71"]), Err(HistoryError::AlembicUnknown { revision }));
        let both = ["1246b5faa711", "586f9c3cd40c"];
        let heads = both.map(str::to_owned).to_vec();
        assert_eq!(reached(&both), Err(HistoryError::AlembicHeads(heads)));
    }
}
