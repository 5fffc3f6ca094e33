//! One step: a script of one revision, up or down, with its bookkeeping.
//!
//! `runner` calls it for each step; it calls `session`, `records` and `index`.
//! It promises that a script in a transaction is applied and recorded as one, or not at all; and
//! that one outside of a transaction is marked `running` before it begins, so that the next run
//! repeats it. What only waited for somebody's lock is tried again.
//! It does not know which steps are due.

use std::fmt;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_postgres::error::SqlState;

use crate::database::index::{self, Found};
use crate::database::records::{self, DOWNGRADE};
use crate::database::runner::Event;
use crate::database::session::{Session, between};
use crate::error::{Error, Outcome};
use crate::files::chain::Revision;
use crate::files::script::{IndexBuild, Mode, Script};
use crate::files::sql;

/// Between two tries; each holds up the others for no longer than its `lock_timeout`.
const BACKOFF_MIN: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// Added to what the server's own timeouts allow a script.
const GRACE: Duration = Duration::from_secs(10);

/// Which way a step goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// `.up.sql`.
    Up,
    /// `.down.sql`.
    Down,
}

/// One script that is due.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    /// The revision it applies or takes back.
    pub revision: &'a Revision,
    /// Which of its files.
    pub direction: Direction,
    pub(crate) script: &'a Script,
}

impl Step<'_> {
    /// The newest revision before the step; `None` = base.
    pub(crate) fn from(&self) -> Option<String> {
        match self.direction {
            Direction::Up => self.revision.revises.clone(),
            Direction::Down => Some(self.revision.id.clone()),
        }
    }

    /// And after it.
    pub(crate) fn to(&self) -> Option<String> {
        match self.direction {
            Direction::Up => Some(self.revision.id.clone()),
            Direction::Down => self.revision.revises.clone(),
        }
    }
}

impl fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |id: Option<String>| id.unwrap_or("<base>".to_owned());
        write!(f, "{} -> {}, {}", name(self.from()), name(self.to()), self.revision.message)
    }
}

/// Runs a step, again while others hold the locks it needs and `patience` lasts.
pub(crate) async fn run(
    session: &Session,
    step: &Step<'_>,
    patience: Duration,
    progress: &mut dyn FnMut(Event<'_>),
) -> Result<Duration, Error> {
    let begin = Instant::now();
    let mut backoff = BACKOFF_MIN;
    let mut tries = 1;
    loop {
        let error = match attempt(session, step, progress).await {
            Err(error) if error.is_contention() => error,
            result => return result,
        };
        let left = patience.saturating_sub(begin.elapsed());
        if left.is_zero() {
            let file = step.script.file.clone();
            return Err(Error::Contended { file, tries, reason: error.to_string() });
        }
        let wait = between(backoff / 2, backoff).min(left);
        progress(Event::Retrying { step: *step, reason: &error, wait });
        sleep(wait).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
        tries += 1;
    }
}

async fn attempt(
    session: &Session,
    step: &Step<'_>,
    progress: &mut dyn FnMut(Event<'_>),
) -> Result<Duration, Error> {
    prepare(session, step.script).await?;
    match &step.script.mode {
        Mode::Transaction => in_transaction(session, step).await,
        Mode::Alone { builds } => alone(session, step, builds.as_ref(), progress).await,
    }
}

/// Undoes every setting that an earlier file may have left in the session.
pub(crate) const RESET_SQL: &str = "reset session authorization; reset role; reset all";
/// Undoes what would let the bookkeeping fail after a file, and keeps its timeouts.
pub(crate) const RESET_ROLE_SQL: &str = "reset session authorization; reset role";

/// Gives the session back its own settings, and the script's timeouts.
async fn prepare(session: &Session, script: &Script) -> Result<(), Error> {
    let settings = format!(
        "{RESET_SQL}; \
         set lock_timeout = {}; set statement_timeout = {}; \
         set idle_in_transaction_session_timeout = {}",
        script.lock_timeout.as_millis(),
        script.statement_timeout.as_millis(),
        GRACE.as_millis(),
    );
    session.execute("setting the timeouts", &settings).await?;
    // A killed runner's statement ends within a second and its lock is free. A server that cannot
    // watch its client (not on Linux) refuses; there it ends with the statement.
    let watch = "set client_connection_check_interval = '1s'";
    session.send(GRACE, "setting the timeouts", watch).await.map(drop)
}

async fn in_transaction(session: &Session, step: &Step<'_>) -> Result<Duration, Error> {
    session.execute("opening a transaction", "begin").await?;
    let result = within_transaction(session, step).await;
    // A server that answers nothing would not answer this either; it rolls back by itself.
    if !matches!(result, Ok(_) | Err(Error::Silent { .. } | Error::Commit { .. })) {
        drop(session.execute("rolling back", "rollback").await);
    }
    result
}

async fn within_transaction(session: &Session, step: &Step<'_>) -> Result<Duration, Error> {
    session.check_lock().await?;
    let begin = Instant::now();
    send(session, step.script).await?;
    let duration = begin.elapsed();
    session.execute("resetting the role", RESET_ROLE_SQL).await?;
    record(session, step, duration).await?;
    commit(session, step.script).await?;
    Ok(duration)
}

/// Commits; when nobody answers, what became of it is for the caller to find out.
async fn commit(session: &Session, script: &Script) -> Result<(), Error> {
    let file = script.file.clone();
    session.execute(&format!("committing {file}"), "commit").await.map_err(|error| {
        if error.is_loss_of_connection() {
            Error::Commit { file, reason: error.to_string(), outcome: Outcome::Unknown }
        } else {
            error
        }
    })
}

async fn alone(
    session: &Session,
    step: &Step<'_>,
    builds: Option<&IndexBuild>,
    progress: &mut dyn FnMut(Event<'_>),
) -> Result<Duration, Error> {
    session.check_lock().await?;
    let begin = Instant::now();
    let due = match builds {
        Some(build) => clear_way(session, step, build, progress).await?,
        None => true,
    };
    if due {
        let interrupted = records::is_running(session, step.revision).await?;
        records::mark_running(session, step.revision).await?;
        match send(session, step.script).await {
            Err(error) if interrupted && is_dropped(step, &error) => {}
            result => result?,
        }
    }
    if let Some(build) = builds
        && index::find(session, build).await? != Found::Valid
    {
        let (file, index) = (step.script.file.clone(), build.name.clone());
        return Err(Error::IndexInvalid { file, index });
    }
    let duration = begin.elapsed();
    record(session, step, duration).await?;
    Ok(duration)
}

/// Whether an interrupted run had dropped the object that this way down drops.
fn is_dropped(step: &Step<'_>, error: &Error) -> bool {
    let is_missing = |code: &SqlState| *code == SqlState::UNDEFINED_OBJECT;
    step.direction == Direction::Down
        && matches!(error, Error::Statement { code, .. } if is_missing(code))
        && sql::statements(&step.script.sql).is_ok_and(|all| all[0][0].is("drop"))
}

/// Drops the INVALID index of an interrupted build. False: that build had ended well, and only
/// its bookkeeping is missing. Somebody else's index, who may be building it, stays.
async fn clear_way(
    session: &Session,
    step: &Step<'_>,
    build: &IndexBuild,
    progress: &mut dyn FnMut(Event<'_>),
) -> Result<bool, Error> {
    match index::find(session, build).await? {
        Found::Absent => Ok(true),
        _ if !records::is_running(session, step.revision).await? => {
            let (file, index) = (step.script.file.clone(), build.name.clone());
            Err(Error::IndexExists { file, index })
        }
        Found::Invalid { name } => {
            progress(Event::DroppingInvalidIndex { name: &name });
            let limit = step.script.statement_timeout + GRACE;
            index::drop_index(session, &name, limit).await?;
            Ok(true)
        }
        Found::Valid => Ok(false),
    }
}

/// Sends the whole file as one message. Waits as long as the server's own timeouts allow it.
pub(crate) async fn send(session: &Session, script: &Script) -> Result<(), Error> {
    let limit = script.statement_timeout * script.statements.max(1) + GRACE;
    session
        .send(limit, &format!("running {}", script.file), &script.sql)
        .await?
        .map_err(|error| Error::statement(script, &error))
}

async fn record(session: &Session, step: &Step<'_>, duration: Duration) -> Result<(), Error> {
    match step.direction {
        Direction::Up => records::mark_applied(session, step.revision, duration).await,
        Direction::Down => records::remove(session, &step.revision.id, DOWNGRADE).await,
    }
}
