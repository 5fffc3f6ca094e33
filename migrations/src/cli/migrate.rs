//! The commands that move a database along the revisions, or its bookkeeping.
//!
//! `cli` calls it; it calls `runner`, `dry_run`, `rehearse`, `amend` (with `drift`, which may refuse
//! a stamp) and, for `--sql`, `offline`.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{Call, Failure, block_on, print};
use crate::database::amend;
use crate::database::apply::Direction;
use crate::database::consent;
use crate::database::offline;
use crate::database::records::Standing;
use crate::database::rehearse::{self, Fate, Rehearsal};
use crate::database::runner::{self, Event, LOCK_WAIT, Options, Report};
use crate::database::session::Session;
use crate::error::Error;
use crate::files::chain::{Chain, Revision};
use crate::files::target::{Range, Target};
use crate::schema::drift::{self, Live};
use crate::schema::dry_run;
use crate::show;

const LOCK_WAIT_MAX_S: u64 = 24 * 3600;

#[derive(Debug, Args)]
pub(super) struct Upgrade {
    /// head, +N, or the beginning of a revision's id; FROM:TO with --sql
    #[arg(default_value = "head")]
    target: Range,
    /// Write a script for psql instead, from FROM, the database's revision, or base
    #[arg(long, conflicts_with = "dry_run")]
    sql: bool,
    /// Only try, on an empty copy; `live`: on this database, in one transaction that is rolled back
    #[arg(long, value_name = "WHERE", require_equals = true, num_args = 0..=1,
        default_missing_value = "scratch")]
    dry_run: Option<DryRun>,
    /// Let files destroy data that give no reason for it
    #[arg(long)]
    allow_destructive: bool,
    #[command(flatten)]
    lock: Lock,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum DryRun {
    /// In a scratch database; what depends on rows is not tried
    Scratch,
    /// Takes real locks until the rollback, and sequences keep what they gave out
    Live,
}

#[derive(Debug, Args)]
pub(super) struct Downgrade {
    /// base, -N, or the beginning of the id of the revision to stay at; FROM:TO with --sql
    #[arg(allow_hyphen_values = true)]
    target: Range,
    /// Write a script for psql instead
    #[arg(long)]
    sql: bool,
    /// Go on although rows or values would be lost
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    lock: Lock,
}

#[derive(Debug, Args)]
pub(super) struct Stamp {
    /// head, base, or the beginning of a revision's id; FROM:TO with --sql
    target: Range,
    /// Forget all rows first, also those of unknown revisions
    #[arg(long)]
    purge: bool,
    /// Write a script for psql instead
    #[arg(long, conflicts_with_all = ["purge", "force"])]
    sql: bool,
    /// Do not compare the database's schema with the one of the revision first
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    lock: Lock,
}

#[derive(Debug, Args)]
pub(super) struct Repair {
    /// The beginning of the id of the revision whose up file was edited
    target: Target,
    /// Write JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    lock: Lock,
}

#[derive(Debug, Args)]
pub(super) struct Lock {
    /// Wait so long for another migration to end, and in each step for tables that others lock
    #[arg(long, value_name = "SECONDS", default_value_t = LOCK_WAIT.as_secs(),
        value_parser = clap::value_parser!(u64).range(..=LOCK_WAIT_MAX_S))]
    lock_wait: u64,
}

impl Upgrade {
    pub(super) fn run(&self, call: &Call) -> Result<(), Failure> {
        let chain = call.chain()?;
        let options = self.lock.options(&chain, self.allow_destructive);
        if self.sql {
            return script(call, &options, (&self.target, Direction::Up));
        }
        let target = online(&self.target)?;
        match self.dry_run {
            None => migrate(call, (target, Direction::Up), &options),
            Some(DryRun::Scratch) => dry_run(call, target, &options),
            Some(DryRun::Live) => rehearse(call, target, &options),
        }
    }
}

impl Downgrade {
    pub(super) fn run(&self, call: &Call) -> Result<(), Failure> {
        let chain = call.chain()?;
        let options = self.lock.options(&chain, self.yes);
        if self.sql {
            // Without a look at the database nobody knows where the way begins.
            if self.target.from.is_none() {
                return Err(Failure::NoRange);
            }
            return script(call, &options, (&self.target, Direction::Down));
        }
        migrate(call, (online(&self.target)?, Direction::Down), &options)
    }
}

impl Stamp {
    pub(super) fn run(&self, call: &Call) -> Result<(), Failure> {
        let chain = call.chain()?;
        if self.sql {
            let (from, to) = ends(call, &chain, &self.target)?;
            return print::text(&offline::stamp(&chain, from, to));
        }
        let stamp = amend::Stamp { target: online(&self.target)?, purge: self.purge };
        let (access, options) = (call.database()?, self.lock.options(&chain, false));
        let (server, lock) = (call.server()?, call.lock_file()?);
        let compare = async |session: &Session, goal: Option<&Revision>| {
            if self.force {
                return Ok(());
            }
            let live = Live::at(goal, session).await?;
            let differences = drift::drift(&live, &chain, lock.as_ref(), &server).await?;
            let lines: Vec<String> = differences.iter().map(ToString::to_string).collect();
            if lines.is_empty() { Ok(()) } else { Err(Error::StampDiffers(lines)) }
        };
        let report = block_on(amend::stamp(&access, stamp, &options, compare, &mut print::event))?;
        print_report(&chain, &report)
    }
}

impl Repair {
    pub(super) fn run(&self, call: &Call) -> Result<(), Failure> {
        let (chain, access) = (call.chain()?, call.database()?);
        let options = self.lock.options(&chain, false);
        let repaired = block_on(amend::repair(&access, &self.target, &options, &mut print::event))?;
        match repaired {
            _ if self.json => print::json(&repaired),
            None => print::lines(&["nothing to repair: the file is the one that was applied"]),
            Some(repaired) => print::lines(&[
                format!("{}: accepted the edited file", repaired.revision),
                format!("  before  sha256:{}", repaired.recorded),
                format!("  now     sha256:{}", repaired.file),
            ]),
        }
    }
}

impl Lock {
    pub(super) fn options<'a>(&self, chain: &'a Chain, allow_loss: bool) -> Options<'a> {
        Options { chain, lock_wait: Duration::from_secs(self.lock_wait), allow_loss }
    }
}

fn migrate(call: &Call, goal: (&Target, Direction), options: &Options<'_>) -> Result<(), Failure> {
    let access = call.database()?;
    let report = block_on(runner::migrate(&access, goal, options, &mut print::event))?;
    print_report(options.chain, &report)
}

fn print_report(chain: &Chain, report: &Report) -> Result<(), Failure> {
    print::lines(&[told(chain, report)])
}

fn told(chain: &Chain, Report { from, to, steps }: &Report) -> String {
    let [from, to] = [from, to].map(|id| show::named(chain, id.as_deref()));
    if steps.is_empty() { format!("already at {to}") } else { format!("{from} -> {to}") }
}

fn dry_run(call: &Call<'_>, target: &Target, options: &Options<'_>) -> Result<(), Failure> {
    let (access, server) = (call.database()?, call.server()?);
    print::say(&"only trying, on an empty copy: what depends on rows is not tried");
    let say = &mut print::event;
    let report = block_on(dry_run::dry_run(&access, &server, target, options, say))?;
    print::lines(&[format!("{}; nothing was changed", told(options.chain, &report))])
}

fn rehearse(call: &Call, target: &Target, options: &Options<'_>) -> Result<(), Failure> {
    let access = call.database()?;
    print::event(Event::Rehearsing);
    let say = &mut print::event;
    let Rehearsal { files, failure } = block_on(rehearse::rehearse(&access, target, options, say))?;
    if files.is_empty() {
        return print::lines(&["nothing to try: no revision is pending"]);
    }
    let line = |(file, fate): &(String, Fate)| match fate {
        Fate::Fits => format!("ok         {file}"),
        Fate::Fails => format!("fails      {file}"),
        Fate::Slow => format!("not tried  {file} (a statement takes more than 10 s)"),
        Fate::Outside => format!("not tried  {file} (outside of a transaction)"),
        Fate::Behind => format!("not tried  {file} (may depend on the one before)"),
    };
    print::lines(&files.iter().map(line).collect::<Vec<_>>())?;
    failure.map_or(Ok(()), |error| Err(error.into()))
}

/// A target for a database: the beginning of the way is where it stands.
fn online(range: &Range) -> Result<&Target, Failure> {
    match range {
        Range { from: None, to: Some(to), has_colon: false } => Ok(to),
        _ => Err(Failure::RangeOnline),
    }
}

fn script(
    call: &Call,
    options: &Options<'_>,
    (range, direction): (&Range, Direction),
) -> Result<(), Failure> {
    let (from, to) = ends(call, options.chain, range)?;
    let standing = Standing { applied: from, interrupted: false };
    let to = options.chain.at(to);
    let steps = runner::plan(options.chain, standing, &to, direction)?;
    consent::to_files(&steps, options)?;
    print::text(&offline::steps(&steps))
}

/// How many revisions are applied before and after; the way begins where the range says, else where
/// the database stands, else at base.
fn ends(call: &Call, chain: &Chain, range: &Range) -> Result<(usize, usize), Failure> {
    let resolve = |target: &Target, applied| target.resolve(chain, applied).map_err(Error::from);
    let from = match &range.from {
        Some(from) if !from.is_relative() => resolve(from, 0)?,
        Some(_) => return Err(Failure::NoRange),
        None => match call.known_database()? {
            Some(access) => block_on(runner::standing(&access, chain))?.applied,
            None => 0,
        },
    };
    let to = range.to.as_ref().ok_or(Failure::NoRange)?;
    Ok((from, resolve(to, from)?))
}
