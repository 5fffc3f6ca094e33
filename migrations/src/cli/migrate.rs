//! The commands that move a database along the revisions.
//!
//! `cli` calls it; it calls `runner`.

use std::time::Duration;

use clap::Args;

use super::{Call, Failure, block_on, print};
use crate::apply::Direction;
use crate::chain::Chain;
use crate::runner::{self, Event, LOCK_WAIT, Options, Report};
use crate::show;
use crate::target::Target;

const LOCK_WAIT_MAX_S: u64 = 24 * 3600;

#[derive(Debug, Args)]
pub(super) struct Upgrade {
    /// head, +N, or the beginning of a revision's id
    #[arg(default_value = "head")]
    target: Target,
    #[command(flatten)]
    lock: Lock,
}

#[derive(Debug, Args)]
pub(super) struct Downgrade {
    /// base, -N, or the beginning of the id of the revision to stay at
    #[arg(allow_hyphen_values = true)]
    target: Target,
    #[command(flatten)]
    lock: Lock,
}

#[derive(Debug, Args)]
pub(super) struct Lock {
    /// Wait so long for another migration to end
    #[arg(long, value_name = "SECONDS", default_value_t = LOCK_WAIT.as_secs(),
        value_parser = clap::value_parser!(u64).range(..=LOCK_WAIT_MAX_S))]
    lock_wait: u64,
}

impl Upgrade {
    pub(super) fn run(&self, call: &Call) -> Result<(), Failure> {
        migrate(call, (&self.target, Direction::Up), &self.lock)
    }
}

impl Downgrade {
    pub(super) fn run(&self, call: &Call) -> Result<(), Failure> {
        migrate(call, (&self.target, Direction::Down), &self.lock)
    }
}

impl Lock {
    pub(super) fn options<'a>(&self, chain: &'a Chain) -> Options<'a> {
        Options { chain, lock_wait: Duration::from_secs(self.lock_wait) }
    }
}

fn migrate(call: &Call, goal: (&Target, Direction), lock: &Lock) -> Result<(), Failure> {
    let (chain, config) = (call.chain()?, call.database()?);
    let mut say = |event: Event<'_>| print::say(&event);
    let options = lock.options(&chain);
    let Report { from, to, steps } = block_on(runner::migrate(&config, goal, &options, &mut say))?;
    let [from, to] = [from, to].map(|id| show::named(&chain, id.as_deref()));
    if steps.is_empty() {
        print::lines(&[format!("already at {to}")])
    } else {
        print::lines(&[format!("{from} -> {to}")])
    }
}
