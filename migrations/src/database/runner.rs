//! Upgrade, downgrade, current: one run from connecting to parting.
//!
//! The command line and the application's *migrate* step call it; it calls `session`, `records`
//! and `apply`.
//! It promises that any number of runners may start at once and a run may be killed at any
//! moment: each revision is applied once, and the next run goes on where the last one ended.
//! It does not know where the chain comes from, nor where messages go.

use std::fmt;
use std::time::Duration;

use crate::database::access::Access;
use crate::database::apply::{self, Direction, Step};
use crate::database::consent;
use crate::database::loss;
use crate::database::pooler;
use crate::database::records::{self, Record, Standing};
use crate::database::session::Session;
use crate::database::settle;
use crate::error::{Error, Outcome};
use crate::files::chain::{Chain, Down, Revision};
use crate::files::target::{Target, TargetError};

/// A migration rarely takes longer; whoever starts many runners at once wants all to succeed.
pub const LOCK_WAIT: Duration = Duration::from_secs(60);

/// How a run behaves.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// The revisions there are.
    pub chain: &'a Chain,
    /// How long to wait for another runner, and in each step for others' table locks.
    pub lock_wait: Duration,
    /// Whether data may be destroyed although no file says why.
    pub allow_loss: bool,
}

impl<'a> Options<'a> {
    /// The revisions of `chain`, the usual wait for locks, and no loss of data.
    pub fn new(chain: &'a Chain) -> Self {
        Self { chain, lock_wait: LOCK_WAIT, allow_loss: false }
    }
}

/// What a run says on its way; `Display` is one line for people.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// Another runner holds the lock.
    Waiting {
        /// ` (process 123, peace-migrate)`, or empty when it cannot be seen.
        holder: &'a str,
    },
    /// A rehearsal begins.
    Rehearsing,
    /// Data goes, as was asked for.
    Losing {
        /// `item: 12 rows`.
        what: &'a str,
    },
    /// A step begins.
    Running {
        /// The step.
        step: Step<'a>,
    },
    /// What an interrupted index build left is removed.
    DroppingInvalidIndex {
        /// Qualified and quoted.
        name: &'a str,
    },
    /// A step could not get its locks and will be tried again.
    Retrying {
        /// The step.
        step: Step<'a>,
        /// Why.
        reason: &'a Error,
        /// From now.
        wait: Duration,
    },
    /// A step is recorded.
    Done {
        /// The step.
        step: Step<'a>,
        /// How long its statements took.
        duration: Duration,
    },
}

/// What a run did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The newest applied revision before; `None` = base.
    pub from: Option<String>,
    /// And after.
    pub to: Option<String>,
    /// The revisions applied or taken back, in order.
    pub steps: Vec<String>,
}

impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting { holder } => write!(f, "waiting for another migration{holder}"),
            Self::Rehearsing => f.write_str(
                "only trying: real locks are taken until the rollback, and sequences advance",
            ),
            Self::Losing { what } => write!(f, "losing {what}"),
            Self::Running { step } => write!(f, "running {step}"),
            Self::DroppingInvalidIndex { name } => {
                write!(f, "dropping {name}: an interrupted build left it INVALID")
            }
            Self::Retrying { reason, wait, .. } => {
                write!(f, "trying again in {} ms: {reason}", wait.as_millis())
            }
            Self::Done { step, duration } => {
                write!(f, "done {} in {} ms", step.revision.id, duration.as_millis())
            }
        }
    }
}

/// Applies revisions up to `target`.
///
/// **Blocks** until done: for the lock up to `options.lock_wait`, for each file as long as its
/// timeouts allow. **Errors**: see [`Error`]; running it again is always safe.
pub async fn upgrade(
    access: &Access,
    target: &Target,
    options: &Options<'_>,
    progress: &mut dyn FnMut(Event<'_>),
) -> Result<Report, Error> {
    migrate(access, (target, Direction::Up), options, progress).await
}

/// Takes revisions back until `target` is the newest one. What they added is dropped with its data.
///
/// **Blocks** and **errors** as [`upgrade`] does.
pub async fn downgrade(
    access: &Access,
    target: &Target,
    options: &Options<'_>,
    progress: &mut dyn FnMut(Event<'_>),
) -> Result<Report, Error> {
    migrate(access, (target, Direction::Down), options, progress).await
}

/// The newest applied revision; `None` when there is none. Takes no lock.
pub async fn current(access: &Access) -> Result<Option<String>, Error> {
    Ok(records::newest(&recorded(access).await?).map(|record| record.revision.clone()))
}

/// Every row of `peace_migration`, oldest first. Takes no lock.
pub async fn recorded(access: &Access) -> Result<Vec<Record>, Error> {
    let session = Session::open(access).await?;
    let result = records::read(&session).await;
    session.close().await;
    result
}

/// Where a database stands in the chain. Takes no lock.
pub(crate) async fn standing(access: &Access, chain: &Chain) -> Result<Standing, Error> {
    let session = Session::open(access).await?;
    let result = records::stand(&session, chain).await;
    session.close().await;
    result
}

/// Either of the two.
pub(crate) async fn migrate(
    access: &Access,
    goal: (&Target, Direction),
    options: &Options<'_>,
    progress: &mut dyn FnMut(Event<'_>),
) -> Result<Report, Error> {
    let session = Session::open(access).await?;
    let result = walk(access, &session, goal, options, progress).await;
    session.close().await;
    match result {
        Err(Error::Commit { file, reason, .. }) => {
            let outcome = settle::outcome(access, options, &file).await.unwrap_or(Outcome::Unknown);
            Err(Error::Commit { file, reason, outcome })
        }
        result => result,
    }
}

async fn walk(
    access: &Access,
    session: &Session,
    (target, direction): (&Target, Direction),
    options: &Options<'_>,
    progress: &mut dyn FnMut(Event<'_>),
) -> Result<Report, Error> {
    take_lock(session, options, progress).await?;
    let chain = options.chain;
    let standing = records::stand(session, chain).await?;
    let steps = plan(chain, standing, target, direction)?;
    // At the head, every start of a server comes by here: it need not look for a pooler.
    if !steps.is_empty() {
        pooler::refuse(access, session).await?;
        consent::to_files(&steps, options)?;
        let open = consent::to_way_down(session, &steps, options, progress).await?;
        records::make_tables(session).await?;
        for (at, (step, open)) in steps.iter().zip(open).enumerate() {
            let again = loss::look_again(session, step.script, open).await?;
            consent::to_loss(again.found, options, progress)?;
            progress(Event::Running { step: *step });
            let result = apply::run(session, step, options.lock_wait, progress).await;
            let duration = result.map_err(|error| advised(error, &steps[..=at]))?;
            progress(Event::Done { step: *step, duration });
        }
    }
    Ok(report(chain, standing, &steps))
}

/// Says what to do about rows that the last one of `steps` cannot live with.
fn advised(error: Error, steps: &[Step<'_>]) -> Error {
    let ([first, ..], [.., step]) = (steps, steps) else { return error };
    let about_rows = error.is_about_rows();
    match error {
        Error::Statement { place, reason, code } if about_rows => {
            let [began, stands] = [first, step].map(|step| step.from().unwrap_or("base".into()));
            let back = match step.direction {
                Direction::Up => "downgrade",
                Direction::Down => "upgrade",
            };
            let way_back = match steps.len() {
                1 => String::new(),
                _ => format!(", or go back with `peace-migrate {back} {began}`"),
            };
            let reason = format!(
                "{reason}; the database is at {stands}, and the steps before this one stand: mend \
                 the rows and run this again{way_back}"
            );
            Error::Statement { place, reason, code }
        }
        error => error,
    }
}

/// Does `work` in a session of its own under the lock, behind no transaction pooler.
pub(crate) async fn locked<T>(
    access: &Access,
    options: &Options<'_>,
    progress: &mut dyn FnMut(Event<'_>),
    work: impl AsyncFnOnce(&Session, &mut dyn FnMut(Event<'_>)) -> Result<T, Error>,
) -> Result<T, Error> {
    let session = Session::open(access).await?;
    let guarded = async {
        take_lock(&session, options, progress).await?;
        pooler::refuse(access, &session).await?;
        work(&session, progress).await
    };
    let result = guarded.await;
    session.close().await;
    result
}

/// Takes the lock, and says whom it waits for.
async fn take_lock(
    session: &Session,
    options: &Options<'_>,
    progress: &mut dyn FnMut(Event<'_>),
) -> Result<(), Error> {
    session.lock(options.lock_wait, |holder| progress(Event::Waiting { holder })).await
}

fn report(chain: &Chain, standing: Standing, steps: &[Step<'_>]) -> Report {
    let newest = standing.applied.checked_sub(1).map(|index| chain.all()[index].id.clone());
    let (from, to) = match steps {
        [] => (newest.clone(), newest),
        [first, .., last] => (first.from(), last.to()),
        [only] => (only.from(), only.to()),
    };
    let ids = steps.iter().map(|step| step.revision.id.clone());
    Report { from, to, steps: ids.collect() }
}

/// The steps from where the database stands to the target. Pure.
pub(crate) fn plan<'a>(
    chain: &'a Chain,
    standing: Standing,
    target: &Target,
    direction: Direction,
) -> Result<Vec<Step<'a>>, Error> {
    let Standing { applied, interrupted } = standing;
    match direction {
        Direction::Up => {
            let wanted = target.resolve(chain, applied)?;
            let due = chain.all().get(applied..wanted).ok_or(TargetError::Behind)?;
            let step = |revision: &'a Revision| {
                revision.up.refuse_blank()?;
                Ok(Step { revision, direction, script: &revision.up })
            };
            due.iter().map(step).collect()
        }
        // Of an interrupted revision something may be there: it is taken back too.
        Direction::Down => {
            let begun = applied + usize::from(interrupted);
            let wanted = target.resolve(chain, begun)?;
            let due = chain.all().get(wanted..begun).ok_or(TargetError::Ahead)?;
            let step = |revision: &'a Revision| match &revision.down {
                Down::Script(script) => Ok(Step { revision, direction, script }),
                Down::Irreversible(reason) => Err(Error::Irreversible {
                    revision: revision.id.clone(),
                    reason: reason.clone(),
                }),
            };
            due.iter().rev().map(step).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three revisions; the second one is irreversible.
    fn chain() -> Chain {
        let up = |id: &str, revises: &str, more: &str| {
            let header = format!("-- revision: {id}\n-- revises: {revises}\n-- message: m\n");
            format!("{header}-- transaction: yes\n{more}\nselect 1")
        };
        let down = |id: &str| format!("-- revision: {id}\n-- transaction: yes\n");
        let files = [
            ("00000000000001_m.up.sql", up("aaaa", "none", "")),
            ("00000000000001_m.down.sql", down("aaaa")),
            ("00000000000002_m.up.sql", up("bbbb", "aaaa", "-- irreversible: data\n")),
            ("00000000000003_m.up.sql", up("cccc", "bbbb", "")),
            ("00000000000003_m.down.sql", down("cccc")),
        ];
        Chain::new(files.iter().map(|(name, text)| (*name, text.as_str()))).unwrap()
    }

    #[track_caller]
    fn check(
        direction: Direction,
        (applied, interrupted): (usize, bool),
        target: &str,
        expected: Result<&str, &str>,
    ) {
        let (chain, target) = (chain(), target.parse().unwrap());
        let found = plan(&chain, Standing { applied, interrupted }, &target, direction)
            .map(|steps| {
                let ids: Vec<_> = steps.iter().map(|step| step.revision.id.as_str()).collect();
                ids.join(" ")
            })
            .map_err(|error| error.to_string());
        match (&found, expected) {
            (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
            _ => assert_eq!(found.as_deref().map_err(String::as_str), expected),
        }
    }

    #[test]
    fn upgrades_begin_after_what_is_applied() {
        check(Direction::Up, (0, false), "head", Ok("aaaa bbbb cccc"));
        check(Direction::Up, (1, false), "head", Ok("bbbb cccc"));
        check(Direction::Up, (1, true), "+1", Ok("bbbb"));
        check(Direction::Up, (1, false), "bbbb", Ok("bbbb"));
        check(Direction::Up, (2, false), "bbbb", Ok(""));
        check(Direction::Up, (3, false), "head", Ok(""));
        check(Direction::Up, (3, false), "bbbb", Err("use `peace-migrate downgrade`"));
        check(Direction::Up, (1, false), "-1", Err("use `peace-migrate downgrade`"));
        check(Direction::Up, (2, false), "+2", Err("leads beyond"));
    }

    #[test]
    fn a_file_that_was_never_filled_in_is_refused_on_the_way_up() {
        let up = "-- revision: aaaa\n-- revises: none\n-- message: m\n-- transaction: yes\n\n\
            -- Write the statements here.\n";
        let down = "-- revision: aaaa\n-- transaction: yes\n\n-- Nothing to take back.\n";
        let files = [("00000000000001_m.up.sql", up), ("00000000000001_m.down.sql", down)];
        let chain = Chain::new(files).unwrap();
        let planned = |applied, target, direction| {
            plan(&chain, Standing { applied, interrupted: false }, &target, direction)
        };
        let error = planned(0, Target::Head, Direction::Up).unwrap_err().to_string();
        let words = "there is no statement: write the statements, or remove the pair";
        assert_eq!(error, format!("00000000000001_m.up.sql:6: {words}"));
        assert_eq!(planned(1, Target::Base, Direction::Down).unwrap().len(), 1);
    }

    #[test]
    fn downgrades_go_back_over_what_was_begun() {
        check(Direction::Down, (3, false), "bbbb", Ok("cccc"));
        check(Direction::Down, (2, true), "-1", Ok("cccc"));
        check(Direction::Down, (1, false), "base", Ok("aaaa"));
        check(Direction::Down, (0, false), "base", Ok(""));
        check(Direction::Down, (3, false), "base", Err("revision bbbb is irreversible (data)"));
        check(Direction::Down, (1, false), "bbbb", Err("use `peace-migrate upgrade`"));
        check(Direction::Down, (1, false), "-2", Err("leads beyond"));
    }
}
