//! The commands that only look: at the files, at the database's rows.
//!
//! `cli` calls it; it calls `show` for what a command says, and `runner` for the rows.

use clap::Args;

use super::{Call, Failure, block_on, print};
use crate::records::Record;
use crate::runner;
use crate::show::{self, Entry};

#[derive(Debug, Args)]
pub(super) struct Current {
    /// Show every applied revision
    #[arg(short, long)]
    verbose: bool,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct History {
    /// Mark the database's revision
    #[arg(short, long)]
    indicate_current: bool,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Heads {}

impl Current {
    pub(super) fn run(&self, call: &Call) -> Result<(), Failure> {
        let chain = call.chain()?;
        let records = recorded(call)?;
        let current = show::Current::new(&chain, &records, self.verbose);
        if self.json { print::json(&current) } else { print::lines(&current.lines()) }
    }
}

impl History {
    pub(super) fn run(&self, call: &Call) -> Result<(), Failure> {
        let chain = call.chain()?;
        let records = if self.indicate_current { recorded(call)? } else { Vec::new() };
        let entries = show::history(&chain, &records);
        if self.json {
            print::json(&entries)
        } else {
            print::lines(&entries.iter().map(Entry::line).collect::<Vec<_>>())
        }
    }
}

impl Heads {
    pub(super) fn run(&self, call: &Call) -> Result<(), Failure> {
        let chain = call.chain()?;
        print::lines(&[show::named(&chain, Some(&chain.head().id))])
    }
}

fn recorded(call: &Call) -> Result<Vec<Record>, Failure> {
    block_on(runner::recorded(&call.database()?))
}
