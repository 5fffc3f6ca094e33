//! The commands about files alone: one moves them, one reads them for dangers.
//!
//! `cli` calls it; it calls `folder`, `rebase` and `lint`.

use std::borrow::Cow;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{Call, Failure, block_on, print};
use crate::database::records;
use crate::database::runner;
use crate::error::Error;
use crate::files::chain::{Chain, Revision};
use crate::files::folder;
use crate::files::lint::{self, Finding, Severity};
use crate::files::rebase;
use crate::files::target;

#[derive(Debug, Args)]
pub(super) struct Rebase {
    /// The beginning of the id of a revision that only the branch to move has; by default the
    /// branch that began later
    revision: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Lint {
    /// Read these revisions' files [default: those that the database lacks; without a database, the
    /// newest]
    #[arg(value_name = "REVISION", conflicts_with = "all")]
    revisions: Vec<String>,
    /// Read every file
    #[arg(long)]
    all: bool,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

/// What `lint` found, as JSON.
#[derive(Debug, Serialize)]
struct Report {
    /// Files read.
    files: usize,
    errors: usize,
    warnings: usize,
    findings: Vec<Finding>,
}

impl Rebase {
    pub(super) fn run(&self, call: &Call) -> Result<(), Failure> {
        let folder = call.folder()?;
        let plan = rebase::rebase(&folder, self.revision.as_deref(), &call.applied()?)?;
        print::lines(&plan.lines())
    }
}

impl Lint {
    pub(super) fn run(&self, call: &Call) -> Result<(), Failure> {
        let chain = call.written_chain()?;
        let revisions = self.chosen(&chain, call)?;
        let report = Report::new(revisions.len(), lint::lint(&chain, revisions)?);
        if self.json {
            print::json(&report)?;
        } else {
            print::lines(&report.findings.iter().map(Finding::to_string).collect::<Vec<_>>())?;
        }
        match report.errors {
            0 if self.json => Ok(()),
            0 => print::lines(&[report.summary()]),
            _ => Err(Failure::Differs(report.summary())),
        }
    }

    fn chosen<'a>(&self, chain: &'a Chain, call: &Call) -> Result<Vec<&'a Revision>, Failure> {
        let all = chain.all();
        if self.all {
            return Ok(all.iter().collect());
        }
        if !self.revisions.is_empty() {
            let find = |id: &String| target::find(all, &id.to_ascii_lowercase());
            let places: Result<Vec<usize>, _> = self.revisions.iter().map(find).collect();
            return Ok(places.map_err(Error::from)?.into_iter().map(|place| &all[place]).collect());
        }
        let Some(access) = call.known_database()? else { return Ok(vec![chain.head()]) };
        let records = block_on(runner::recorded(&access))?;
        let standing = records::standing(chain, &records).map_err(Error::from)?;
        Ok(all[standing.applied..].iter().collect())
    }
}

impl Report {
    fn new(files: usize, findings: Vec<Finding>) -> Self {
        let count = |severity| findings.iter().filter(|one| one.severity == severity).count();
        Self { files, errors: count(Severity::Error), warnings: count(Severity::Warning), findings }
    }

    fn summary(&self) -> String {
        let count = |count: usize, what: &str| match count {
            1 => format!("1 {what}"),
            _ => format!("{count} {what}s"),
        };
        let [errors, warnings] = [count(self.errors, "error"), count(self.warnings, "warning")];
        format!("{errors}, {warnings} in {}", count(self.files, "file"))
    }
}

impl Call<'_> {
    /// The folder that a command writes to.
    pub(super) fn folder(&self) -> Result<PathBuf, Failure> {
        folder::find(self.versions.as_deref()).ok_or(Failure::NoFolder)
    }

    /// The revisions as they are written now; without a folder of them, those compiled in.
    pub(super) fn written_chain(&self) -> Result<Cow<'static, Chain>, Failure> {
        match folder::find(self.versions.as_deref()) {
            Some(folder) => Ok(Cow::Owned(Chain::read(&folder).map_err(Error::from)?)),
            None => self.chain(),
        }
    }

    /// The ids that the database has, if one is given.
    fn applied(&self) -> Result<Vec<String>, Failure> {
        let Some(access) = self.known_database()? else { return Ok(Vec::new()) };
        let records = block_on(runner::recorded(&access))?;
        Ok(records.into_iter().map(|record| record.revision).collect())
    }
}
