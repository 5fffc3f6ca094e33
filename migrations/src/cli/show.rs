//! The commands that only look: at the files, at the database's rows.
//!
//! `cli` calls it; it calls `show` for what a command says, and `runner` for the rows.

use clap::Args;

use super::{Call, Failure, block_on, print};
use crate::database::records::{self, Record};
use crate::database::runner;
use crate::error::Error;
use crate::files::chain::{self, Chain, ChainError, Revision};
use crate::files::target::{Range, Target};
use crate::show::{self, Entry, Verdict};

#[derive(Debug, Args)]
pub(super) struct Current {
    /// Show every applied revision
    #[arg(short, long)]
    verbose: bool,
    /// Exit 3 unless the database is at the newest revision
    #[arg(short, long)]
    check_heads: bool,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct History {
    /// Only these revisions, FROM and TO among them; each may be left out
    #[arg(short, long, value_name = "FROM:TO", allow_hyphen_values = true)]
    rev_range: Option<Range>,
    /// Show files and checksums
    #[arg(short, long)]
    verbose: bool,
    /// Mark the database's revision
    #[arg(short, long)]
    indicate_current: bool,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Heads {
    /// Write JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Show {
    /// head, current, or the beginning of a revision's id
    target: Target,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Verify {
    /// Write JSON
    #[arg(long)]
    json: bool,
}

impl Current {
    pub(super) fn run(&self, call: &Call) -> Result<(), Failure> {
        let chain = call.chain()?;
        let records = recorded(call)?;
        let current = show::Current::new(&chain, &records, self.verbose);
        if self.json {
            print::json(&current)?;
        } else {
            print::lines(&current.lines())?;
        }
        if self.check_heads && !current.is_head() {
            return Err(Failure::Behind { head: chain.head().id.clone() });
        }
        Ok(())
    }
}

impl History {
    pub(super) fn run(&self, call: &Call) -> Result<(), Failure> {
        let chain = call.chain()?;
        let range = self.rev_range.as_ref();
        let targets = range.into_iter().flat_map(|range| range.from.iter().chain(&range.to));
        let is_relative = targets.into_iter().any(Target::is_relative);
        let records = if self.indicate_current || is_relative { recorded(call)? } else { vec![] };
        let (first, end) = span(&chain, range, applied(&chain, &records))?;
        let marked = if self.indicate_current { &records[..] } else { &[] };
        let mut entries = show::history(&chain, marked);
        // Newest first.
        let len = entries.len();
        entries = entries.drain(len - end..len - first).collect();
        if self.json {
            print::json(&entries)
        } else {
            let lines = entries.iter().flat_map(|entry| match self.verbose {
                true => entry.paragraph(),
                false => vec![entry.line()],
            });
            print::lines(&lines.collect::<Vec<_>>())
        }
    }
}

/// The places of a range's revisions, its ends among them.
fn span(chain: &Chain, range: Option<&Range>, applied: usize) -> Result<(usize, usize), Failure> {
    let resolve = |target: Option<&Target>, default| match target {
        Some(target) => target.resolve(chain, applied).map_err(Error::from),
        None => Ok(default),
    };
    let len = chain.all().len();
    let Some(range) = range else { return Ok((0, len)) };
    // Alone it is one revision.
    let from = if range.has_colon { range.from.as_ref() } else { range.to.as_ref() };
    let first = resolve(from, 0)?.saturating_sub(1);
    let end = resolve(range.to.as_ref(), len)?;
    if first > end { Err(Failure::BackwardRange) } else { Ok((first, end)) }
}

impl Heads {
    pub(super) fn run(&self, call: &Call) -> Result<(), Failure> {
        let chain = call.chain();
        if let (Err(Failure::Run(Error::Chain(ChainError::Heads(_)))), Some(folder)) =
            (&chain, &call.versions)
        {
            let files = chain::sql_files(folder).map_err(Error::from)?;
            let texts = files.iter().map(|(name, text)| (name.as_str(), text.as_str()));
            let revisions = chain::parse(texts).map_err(Error::from)?;
            return self.print(&chain::heads(&revisions).map_err(Error::from)?);
        }
        self.print(&[chain?.head()])
    }

    fn print(&self, heads: &[&Revision]) -> Result<(), Failure> {
        match self.json {
            true => print::json(&heads.iter().map(|one| Entry::head(one)).collect::<Vec<_>>()),
            false => {
                let line = |head: &&Revision| format!("{} (head)", head.id);
                print::lines(&heads.iter().map(line).collect::<Vec<_>>())
            }
        }
    }
}

impl Show {
    pub(super) fn run(&self, call: &Call) -> Result<(), Failure> {
        let chain = call.chain()?;
        let records = if self.target.is_relative() { recorded(call)? } else { vec![] };
        let revision = self.target.named(&chain, applied(&chain, &records)).map_err(Error::from)?;
        let page = show::Page::new(&chain, revision);
        if self.json { print::json(&page) } else { print::lines(&page.lines()) }
    }
}

impl Verify {
    pub(super) fn run(&self, call: &Call) -> Result<(), Failure> {
        let chain = call.chain()?;
        let records = recorded(call)?;
        let verdicts = show::verify(&chain, &records);
        if self.json {
            print::json(&verdicts)?;
        } else {
            print::lines(&verdicts.iter().map(Verdict::line).collect::<Vec<_>>())?;
        }
        records::standing(&chain, &records).map_err(Error::from)?;
        Ok(())
    }
}

/// The place of the database's revision, as far as it is known here.
fn applied(chain: &Chain, records: &[Record]) -> usize {
    let newest = records::newest(records).and_then(|record| chain.index_of(&record.revision));
    newest.map_or(0, |index| index + 1)
}

fn recorded(call: &Call) -> Result<Vec<Record>, Failure> {
    block_on(runner::recorded(&call.database()?))
}
