//! A rehearsal on the live database: every pending file in one transaction that is rolled back.
//!
//! The command line calls it for `--dry-run=live`; it calls `runner` for the plan and `apply` to
//! send a file.
//! It promises that neither the schema nor the bookkeeping is changed. It takes real locks until the
//! rollback, waits for others' at most a second, runs no statement for more than ten, and sequences
//! keep what they gave out.
//! It does not know how a file outside of a transaction would fare: that is not tried.

use std::time::Duration;

use tokio_postgres::error::SqlState;

use crate::database::access::Access;
use crate::database::apply::{self, Direction, RESET_SQL, Step};
use crate::database::consent;
use crate::database::records;
use crate::database::runner::{self, Event, Options};
use crate::database::session::Session;
use crate::error::Error;
use crate::files::script::Mode;
use crate::files::target::Target;

/// A live server must not feel a rehearsal.
const LOCK_TIMEOUT_MS: u32 = 1000;
/// The locks of all files before it are held meanwhile, whatever the file itself allows.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);

/// What became of the files.
pub(crate) struct Rehearsal {
    /// Every pending one, in order.
    pub(crate) files: Vec<(String, Fate)>,
    /// Why one of them fails.
    pub(crate) failure: Option<Error>,
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Fits,
    Fails,
    /// A statement of it would hold the locks for longer than a rehearsal may.
    Slow,
    /// It cannot run in a transaction.
    Outside,
    /// One before it was not applied, on which it may depend.
    Behind,
}

/// Tries what an upgrade to `target` would do.
///
/// **Blocks** as an upgrade does. **Errors**: those that the upgrade would end with before its
/// first file.
pub(crate) async fn rehearse(
    access: &Access,
    target: &Target,
    options: &Options<'_>,
    progress: &mut dyn FnMut(Event<'_>),
) -> Result<Rehearsal, Error> {
    runner::locked(access, options, progress, async |session, progress| {
        rolled_back(session, target, options, progress).await
    })
    .await
}

async fn rolled_back(
    session: &Session,
    target: &Target,
    options: &Options<'_>,
    progress: &mut dyn FnMut(Event<'_>),
) -> Result<Rehearsal, Error> {
    let standing = records::stand(session, options.chain).await?;
    let steps = runner::plan(options.chain, standing, target, Direction::Up)?;
    consent::to_files(&steps, options)?;
    session.execute("opening a transaction", "begin").await?;
    let rehearsal = each(session, &steps, progress).await;
    match session.execute("rolling back", "rollback").await {
        Err(error) if rehearsal.failure.is_none() => Err(error),
        _ => Ok(rehearsal),
    }
}

async fn each(
    session: &Session,
    steps: &[Step<'_>],
    progress: &mut dyn FnMut(Event<'_>),
) -> Rehearsal {
    let mut rehearsal = Rehearsal { files: Vec::new(), failure: None };
    for step in steps {
        let fate = if rehearsal.files.last().is_some_and(|(_, fate)| *fate != Fate::Fits) {
            Fate::Behind
        } else if step.script.mode != Mode::Transaction {
            Fate::Outside
        } else {
            progress(Event::Running { step: *step });
            match attempt(session, step).await {
                Ok(()) => Fate::Fits,
                Err(Error::Statement { code: SqlState::QUERY_CANCELED, .. }) => Fate::Slow,
                Err(error) => {
                    rehearsal.failure = Some(error);
                    Fate::Fails
                }
            }
        };
        rehearsal.files.push((step.script.file.clone(), fate));
    }
    rehearsal
}

async fn attempt(session: &Session, step: &Step<'_>) -> Result<(), Error> {
    let settings = format!(
        "{RESET_SQL}; set local lock_timeout = {LOCK_TIMEOUT_MS}; set local statement_timeout = {}",
        step.script.statement_timeout.min(STATEMENT_TIMEOUT).as_millis()
    );
    session.execute("setting the timeouts", &settings).await?;
    apply::send(session, step.script).await
}
