//! The commands that compare schemas: what is declared, what the revisions give, what is there.
//!
//! `cli` calls it; it calls `check` and `drift`.

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::migrate::Lock;
use super::{Call, Failure, block_on, print};
use crate::error::Error;
use crate::files::chain::{Chain, Revision};
use crate::files::embedded::LOCK;
use crate::files::folder;
use crate::files::lint::{self, Severity};
use crate::files::target::Target;
use crate::schema::check::{self, Finding};
use crate::schema::drift;
use crate::schema::generate;
use crate::schema::lockfile::{LockFile, UNREADABLE};
use crate::schema::materialise;

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
    /// Write a script for psql that takes the drift away: read it first
    #[arg(long, conflicts_with = "json")]
    sql: bool,
    /// Write JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    lock: Lock,
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
        let (chain, declared, server) = (call.written_chain()?, call.declared()?, call.server()?);
        let lock = call.lock_text()?;
        let mut findings: Vec<Finding> =
            block_on(check::check(&server, &chain, &declared, lock.as_deref()))?;
        findings.extend(dangers(&chain));
        report(&findings, self.json, "no changes: the revisions give what is declared")?;
        if findings.is_empty() {
            return Ok(());
        }
        Err(Failure::Differs(advice(&findings).to_owned()))
    }
}

/// What to do about the weightiest of them.
fn advice(findings: &[Finding]) -> &'static str {
    let any = |fits: fn(&Finding) -> bool| findings.iter().any(fits);
    if any(|one| matches!(one, Finding::Difference(_))) {
        "the code and the revisions differ: `peace-migrate revision --autogenerate -m …`"
    } else if any(|one| matches!(one, Finding::Field { .. })) {
        "the code cannot read what it declares: mend the fields or the columns"
    } else if any(|one| matches!(one, Finding::Lock { .. })) {
        "the revisions are what is declared, schema.lock is not"
    } else {
        "the newest revision is dangerous: see `peace-migrate lint --all`"
    }
}

impl Drift {
    pub(super) fn run(&self, call: &Call) -> Result<(), Failure> {
        let (chain, access, server) = (call.chain()?, call.database()?, call.server()?);
        let lock = call.lock_file()?;
        let wait = self.lock.options(&chain, false).lock_wait;
        let mut live = block_on(drift::read(&access, wait))?;
        if let Some(target) = &self.against {
            live.revision = target.revision(&chain).map_err(Error::from)?.map(str::to_owned);
        }
        if self.sql {
            let script = drift::script(&live, &chain, &server);
            return print::text(&block_on(async { Ok(script.await) })??);
        }
        let differences = block_on(drift::drift(&live, &chain, lock.as_ref(), &server))?;
        report(&differences, self.json, "no drift: the database is as its revision says")?;
        if differences.is_empty() {
            return Ok(());
        }
        Err(Failure::Drifted("the database is not what its revision says".to_owned()))
    }
}

impl Dump {
    pub(super) fn run(&self, call: &Call) -> Result<(), Failure> {
        let path = if self.stdout { None } else { Some(lock_path(&call.folder()?)) };
        let (chain, server) = (call.written_chain()?, call.server()?);
        let read = async |scratch: &_| {
            let access = materialise::migrated(scratch, &chain, &Target::Head).await?;
            materialise::read_versioned(&access).await
        };
        let (catalog, major) = block_on(server.with_scratch(read))?;
        let text = LockFile::new(&chain.head().id, major, &catalog).text();
        let Some(path) = path else { return print::lines(&text.lines().collect::<Vec<_>>()) };
        folder::replace(&path, &text)?;
        print::lines(&[format!("wrote {}", path.display())])
    }
}

/// What lint calls an error in the newest set; older ones may be applied and stay as they are.
/// A build without a linter goes on without.
fn dangers(chain: &Chain) -> Vec<Finding> {
    let found = lint::lint(chain, newest_set(chain.all())).unwrap_or_else(|no_linter| {
        print::say(&format_args!("not linted: {no_linter}"));
        Vec::new()
    });
    let errors = found.iter().filter(|one| one.severity == Severity::Error);
    errors.map(|one| Finding::Lint { what: one.to_string() }).collect()
}

/// The head, and what was written together with it: `X: labels`, `X`, `X: fill`, `X: validate`.
fn newest_set(all: &[Revision]) -> &[Revision] {
    let Some(head) = all.last() else { return all };
    let title = generate::title(&head.message);
    let begin = all.iter().rposition(|one| generate::title(&one.message) != title);
    &all[begin.map_or(0, |other| other + 1)..]
}

/// Where the lock file of a folder of revisions is or will be.
pub(super) fn lock_path(folder: &Path) -> PathBuf {
    folder.parent().unwrap_or(Path::new("")).join(LOCK_FILE)
}

impl Call<'_> {
    /// What `schema.lock` says: the one beside the folder; without a folder, the one compiled in.
    pub(super) fn lock_text(&self) -> Result<Option<Cow<'static, str>>, Failure> {
        let Some(folder) = folder::find(self.versions.as_deref()) else {
            return Ok(LOCK.map(Cow::Borrowed));
        };
        let path = lock_path(&folder);
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read_to_string(&path).map_err(|error| Failure::Read {
            path: path.display().to_string(),
            reason: error.to_string(),
        })?;
        Ok(Some(Cow::Owned(text)))
    }

    /// The same, read; one that says nothing is told, and then there is none.
    pub(super) fn lock_file(&self) -> Result<Option<LockFile>, Failure> {
        let Some(text) = self.lock_text()? else { return Ok(None) };
        let lock = LockFile::parse(&text);
        if lock.is_none() {
            print::say(&format_args!("{UNREADABLE}: not compared with it"));
        }
        Ok(lock)
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
