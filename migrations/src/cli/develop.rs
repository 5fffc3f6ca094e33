//! The commands that compare schemas: what is declared, what the revisions give, what is there.
//!
//! `cli` calls it; it calls `check` and `drift`.

use std::fs;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{Call, Failure, block_on, print};
use crate::check::{self, Finding};
use crate::compare::Difference;
use crate::drift;
use crate::lockfile::LockFile;
use crate::materialise;
use crate::runner::LOCK_WAIT;
use crate::target::Target;

/// Beside the folder of the revisions.
const LOCK_FILE: &str = "schema.lock";

#[derive(Debug, Args)]
pub(super) struct Check {
    /// Write JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Drift {
    /// Compare with this revision instead of the database's own
    #[arg(long, value_name = "REVISION")]
    against: Option<Target>,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Dump {
    /// Write it to standard output instead
    #[arg(long)]
    stdout: bool,
}

/// What a comparison found, as JSON.
#[derive(Serialize)]
struct Report<'a, T> {
    ok: bool,
    findings: &'a [T],
}

impl Check {
    pub(super) fn run(&self, call: &Call) -> Result<(), Failure> {
        let (chain, declared, server) = (call.chain()?, call.declared()?, call.server()?);
        let lock = call.lock_text()?;
        let findings: Vec<Finding> =
            block_on(check::check(&server, &chain, &declared, lock.as_deref()))?;
        report(&findings, self.json, "no changes: the revisions give what is declared")?;
        if findings.is_empty() {
            return Ok(());
        }
        let what = "the code and the revisions differ";
        Err(Failure::Differs(format!("{what}: `peace-migrate revision --autogenerate -m …`")))
    }
}

impl Drift {
    pub(super) fn run(&self, call: &Call) -> Result<(), Failure> {
        let (chain, config, server) = (call.chain()?, call.database()?, call.server()?);
        let lock = call.lock_text()?.as_deref().and_then(LockFile::parse);
        let against = self.against.clone();
        let differences: Vec<Difference> = block_on(async {
            let mut live = drift::read(&config, LOCK_WAIT).await?;
            if let Some(target) = against {
                live.revision = target.revision(&chain)?.map(str::to_owned);
            }
            drift::drift(&live, &chain, lock.as_ref(), &server).await
        })?;
        report(&differences, self.json, "no drift: the database is as its revision says")?;
        if differences.is_empty() {
            return Ok(());
        }
        Err(Failure::Drifted("the database is not what its revision says".to_owned()))
    }
}

impl Dump {
    pub(super) fn run(&self, call: &Call) -> Result<(), Failure> {
        let (chain, server) = (call.chain()?, call.server()?);
        let read = async |scratch: &_| {
            let config = materialise::migrated(scratch, &chain, &Target::Head).await?;
            materialise::read_versioned(&config).await
        };
        let (catalog, major) = block_on(server.with_scratch(read))?;
        let text = LockFile::new(&chain.head().id, major, &catalog).text();
        let path = call.lock_path().filter(|_| !self.stdout);
        let Some(path) = path else { return print::lines(&text.lines().collect::<Vec<_>>()) };
        fs::write(&path, text)?;
        print::lines(&[format!("wrote {}", path.display())])
    }
}

impl Call {
    /// Where `schema.lock` is or will be.
    fn lock_path(&self) -> Option<PathBuf> {
        Some(self.versions.as_ref()?.parent()?.join(LOCK_FILE))
    }

    /// What `schema.lock` says.
    fn lock_text(&self) -> Result<Option<String>, Failure> {
        let Some(path) = self.lock_path().filter(|path| path.exists()) else { return Ok(None) };
        let text = fs::read_to_string(&path).map_err(|error| Failure::Read {
            path: path.display().to_string(),
            reason: error.to_string(),
        })?;
        Ok(Some(text))
    }
}

/// Prints what was found, or `nothing` when it is nothing.
fn report<T: Serialize + ToString>(
    findings: &[T],
    json: bool,
    nothing: &str,
) -> Result<(), Failure> {
    if json {
        return print::json(&Report { ok: findings.is_empty(), findings });
    }
    match findings {
        [] => print::lines(&[nothing]),
        _ => print::lines(&findings.iter().map(ToString::to_string).collect::<Vec<_>>()),
    }
}
