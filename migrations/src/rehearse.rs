//! A rehearsal on the live database: every pending file in one transaction that is rolled back.
//!
//! The command line calls it for `--dry-run=live`; it calls `runner` for the plan and `apply` to
//! send a file.
//! It promises that neither the schema nor the bookkeeping is changed. It takes real locks until the
//! rollback, waits for others' at most a second, and sequences keep what they gave out.
//! It does not know how a file outside of a transaction would fare: that is not tried.

use tokio_postgres::Config;

use crate::apply::{self, Direction, RESET_SQL, Step};
use crate::consent;
use crate::error::Error;
use crate::records;
use crate::runner::{self, Event, Options};
use crate::script::Mode;
use crate::session::Session;
use crate::target::Target;

/// A live server must not feel a rehearsal.
const LOCK_TIMEOUT_MS: u32 = 1000;

/// What became of a file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Tried {
    pub(crate) revision: String,
    pub(crate) file: String,
    /// False: it cannot run in a transaction.
    pub(crate) tried: bool,
}

/// Tries what an upgrade to `target` would do.
///
/// **Blocks** as an upgrade does. **Errors**: those that the upgrade would end with.
pub(crate) async fn rehearse(
    config: &Config,
    target: &Target,
    options: &Options<'_>,
    progress: &mut dyn FnMut(Event<'_>),
) -> Result<Vec<Tried>, Error> {
    runner::locked(config, options, progress, async |session, progress| {
        rolled_back(session, target, options, progress).await
    })
    .await
}

async fn rolled_back(
    session: &Session,
    target: &Target,
    options: &Options<'_>,
    progress: &mut dyn FnMut(Event<'_>),
) -> Result<Vec<Tried>, Error> {
    let standing = records::stand(session, options.chain).await?;
    let steps = runner::plan(options.chain, standing, target, Direction::Up)?;
    consent::to_files(&steps, options)?;
    session.execute("opening a transaction", "begin").await?;
    let result = each(session, &steps, progress).await;
    session.execute("rolling back", "rollback").await?;
    result
}

async fn each(
    session: &Session,
    steps: &[Step<'_>],
    progress: &mut dyn FnMut(Event<'_>),
) -> Result<Vec<Tried>, Error> {
    let mut all = Vec::new();
    for step in steps {
        let tried = step.script.mode == Mode::Transaction;
        if tried {
            progress(Event::Running { step: *step });
            attempt(session, step).await?;
        }
        let (revision, file) = (step.revision.id.clone(), step.script.file.clone());
        all.push(Tried { revision, file, tried });
    }
    Ok(all)
}

async fn attempt(session: &Session, step: &Step<'_>) -> Result<(), Error> {
    let settings = format!(
        "{RESET_SQL}; set local lock_timeout = {LOCK_TIMEOUT_MS}; set local statement_timeout = {}",
        step.script.statement_timeout.as_millis()
    );
    session.execute("setting the timeouts", &settings).await?;
    apply::send(session, step.script).await
}
