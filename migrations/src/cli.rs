//! The command `peace-migrate`: arguments in, lines and an exit code out.
//!
//! `src/bin/peace-migrate.rs` hands it the process's arguments and environment; it calls `runner`.
//! It promises: results on stdout, progress and errors on stderr, no password on either; exit 0
//! done, 1 error, 2 usage, 5 the history differs, 6 lock or timeout. Names are Alembic's.
//! It does not know where the environment comes from.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use tokio_postgres::Config;

use crate::chain::{Chain, Revision};
use crate::embedded::embedded;
use crate::error::Error;
use crate::records::{self, Record};
use crate::runner::{self, Event, Options, Report};
use crate::target::Target;
use crate::url::{UrlError, parse_url};

const URL_VARIABLE: &str = "DATABASE_URL";
const LOCK_WAIT_MAX_S: u64 = 24 * 3600;

/// Bring a PostgreSQL database along the schema's revisions.
#[derive(Debug, Parser)]
#[command(name = "peace-migrate", version, disable_help_subcommand = true)]
struct Cli {
    /// The database; postgres://, postgresql://, postgresql+asyncpg:// or key=value [env:
    /// DATABASE_URL]
    #[arg(long, global = true, value_name = "URL", hide_default_value = true)]
    database_url: Option<String>,
    /// Take the revisions from this folder instead of those compiled in
    #[arg(long, global = true, value_name = "DIR")]
    versions: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Apply revisions
    Upgrade {
        /// head, +N, or the beginning of a revision's id
        #[arg(default_value = "head")]
        target: Target,
        #[command(flatten)]
        lock: Lock,
    },
    /// Take revisions back; what they added is dropped with its data
    Downgrade {
        /// base, -N, or the beginning of the id of the revision to stay at
        #[arg(allow_hyphen_values = true)]
        target: Target,
        #[command(flatten)]
        lock: Lock,
    },
    /// Show the database's revision; nothing when there is none
    Current {
        /// Show every applied revision
        #[arg(short, long)]
        verbose: bool,
        /// Write JSON
        #[arg(long)]
        json: bool,
    },
    /// List the revisions, newest first
    History {
        /// Mark the database's revision
        #[arg(short, long)]
        indicate_current: bool,
        /// Write JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the newest revision
    Heads,
}

#[derive(Debug, Args)]
struct Lock {
    /// Wait so long for another migration to end
    #[arg(long, value_name = "SECONDS", default_value_t = 60,
        value_parser = clap::value_parser!(u64).range(..=LOCK_WAIT_MAX_S))]
    lock_wait: u64,
}

/// Why the command ended without success.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(
        "no database: set DATABASE_URL=postgres://user:password@host:5432/name, or give \
        --database-url"
    )]
    NoUrl,
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error(transparent)]
    Run(#[from] Error),
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Self::NoUrl | Self::Url(_) => 2,
            Self::Run(error) => error.exit_code(),
            Self::Output(_) => 1,
        }
    }
}

/// Runs one command; returns the exit code. **Blocks** until it is done.
///
/// `args` begins with the program's name; `env` looks a variable up.
pub fn run(args: impl IntoIterator<Item = OsString>, env: impl Fn(&str) -> Option<String>) -> u8 {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Without a place to print to there is nobody to tell.
            drop(error.print());
            return u8::try_from(error.exit_code()).unwrap_or(2);
        }
    };
    match execute(&cli, env) {
        Ok(()) => 0,
        Err(failure) => {
            eprintln!("peace-migrate: {failure}");
            failure.exit_code()
        }
    }
}

fn execute(cli: &Cli, env: impl Fn(&str) -> Option<String>) -> Result<(), Failure> {
    let chain = &match &cli.versions {
        Some(folder) => Chain::read(folder).map_err(Error::from)?,
        None => embedded().map_err(Error::from)?.clone(),
    };
    let database = || {
        let url = cli.database_url.clone().or_else(|| env(URL_VARIABLE));
        let url = url.filter(|url| !url.trim().is_empty()).ok_or(Failure::NoUrl)?;
        parse_url(&url).map_err(Failure::from)
    };
    match &cli.command {
        Command::Upgrade { target, lock } => {
            let run = async |config: &Config, options: &Options<'_>| {
                runner::upgrade(config, target, options, &mut say).await
            };
            migrate(&database()?, chain, lock, run)
        }
        Command::Downgrade { target, lock } => {
            let run = async |config: &Config, options: &Options<'_>| {
                runner::downgrade(config, target, options, &mut say).await
            };
            migrate(&database()?, chain, lock, run)
        }
        Command::Current { verbose, json } => {
            let records = recorded(&database()?)?;
            let current = Current::new(chain, &records, *verbose);
            if *json { print_json(&current) } else { print(&current.lines()) }
        }
        Command::History { indicate_current, json } => {
            let records = if *indicate_current { recorded(&database()?)? } else { Vec::new() };
            let current = records::newest(&records).map(|record| record.revision.as_str());
            let entries: Vec<Entry<'_>> =
                chain.all().iter().rev().map(|one| Entry::new(chain, one, current)).collect();
            if *json {
                print_json(&entries)
            } else {
                print(&entries.iter().map(Entry::line).collect::<Vec<_>>())
            }
        }
        Command::Heads => print(&[format!("{} (head)", chain.head().id)]),
    }
}

fn migrate(
    config: &Config,
    chain: &Chain,
    lock: &Lock,
    run: impl AsyncFnOnce(&Config, &Options<'_>) -> Result<Report, Error>,
) -> Result<(), Failure> {
    let options = Options { chain, lock_wait: Duration::from_secs(lock.lock_wait) };
    let report = block_on(run(config, &options))??;
    let name = |revision: &Option<String>| match revision {
        None => "base".to_owned(),
        Some(id) if *id == chain.head().id => format!("{id} (head)"),
        Some(id) => id.clone(),
    };
    if report.steps.is_empty() {
        print(&[format!("already at {}", name(&report.to))])
    } else {
        print(&[format!("{} -> {}", name(&report.from), name(&report.to))])
    }
}

fn recorded(config: &Config) -> Result<Vec<Record>, Failure> {
    Ok(block_on(runner::recorded(config))??)
}

fn block_on<T>(work: impl Future<Output = T>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(work))
}

fn say(event: Event<'_>) {
    eprintln!("{event}");
}

fn print(lines: &[impl AsRef<str>]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    for line in lines {
        writeln!(out, "{}", line.as_ref())?;
    }
    Ok(())
}

fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(io::Error::from)?;
    print(&[text])
}

/// What `current` shows.
#[derive(serde::Serialize)]
struct Current<'a> {
    revision: Option<&'a str>,
    head: &'a str,
    /// Whether this build's chain has the revision.
    known: bool,
    /// The revision in which an earlier run was interrupted.
    interrupted: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    records: Option<&'a [Record]>,
}

impl<'a> Current<'a> {
    fn new(chain: &'a Chain, records: &'a [Record], verbose: bool) -> Self {
        let revision = records::newest(records).map(|record| record.revision.as_str());
        Self {
            revision,
            head: &chain.head().id,
            known: revision.is_none_or(|id| chain.index_of(id).is_some()),
            interrupted: records
                .iter()
                .find(|record| record.state == "running")
                .map(|record| record.revision.as_str()),
            records: verbose.then_some(records),
        }
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(revision) = self.revision {
            let mark = match self.known {
                false => " (unknown to this build)",
                true if revision == self.head => " (head)",
                true => "",
            };
            lines.push(format!("{revision}{mark}"));
        }
        if let Some(revision) = self.interrupted {
            lines.push(format!("{revision} (interrupted: run `peace-migrate upgrade`)"));
        }
        for Record { name, state, applied_at, checksum, .. } in self.records.unwrap_or_default() {
            lines.push(format!("  {applied_at}  {state}  {name}  sha256:{checksum}"));
        }
        lines
    }
}

/// What `history` shows of a revision.
#[derive(serde::Serialize)]
struct Entry<'a> {
    revision: &'a str,
    revises: Option<&'a str>,
    message: &'a str,
    name: &'a str,
    head: bool,
    current: bool,
}

impl<'a> Entry<'a> {
    fn new(chain: &Chain, revision: &'a Revision, current: Option<&str>) -> Self {
        Self {
            revision: &revision.id,
            revises: revision.revises.as_deref(),
            message: &revision.message,
            name: &revision.name,
            head: revision.id == chain.head().id,
            current: current == Some(revision.id.as_str()),
        }
    }

    fn line(&self) -> String {
        let head = if self.head { " (head)" } else { "" };
        let current = if self.current { " (current)" } else { "" };
        let parent = self.revises.unwrap_or("<base>");
        format!("{parent} -> {}{head}{current}, {}", self.revision, self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exit code of a command that fails; it must not succeed, so that nothing is printed.
    fn failure_code(args: &[&str], url: Option<&str>) -> u8 {
        let cli = match Cli::try_parse_from(std::iter::once(&"peace-migrate").chain(args)) {
            Ok(cli) => cli,
            Err(error) => return u8::try_from(error.exit_code()).unwrap(),
        };
        let env = |name: &str| url.filter(|_| name == URL_VARIABLE).map(str::to_owned);
        execute(&cli, env).unwrap_err().exit_code()
    }

    #[test]
    fn the_command_line_is_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn usage_errors_exit_2() {
        for args in [&["merge"][..], &[], &["upgrade", "+x"], &["downgrade"], &["upgrade", "a"]] {
            assert_eq!(failure_code(args, None), 2, "{args:?}");
        }
        assert_eq!(failure_code(&["upgrade"], None), 2);
        assert_eq!(failure_code(&["upgrade"], Some("  ")), 2);
        assert_eq!(failure_code(&["upgrade"], Some("postgres://me:secret@db:port/x")), 2);
        assert_eq!(failure_code(&["history", "--indicate-current"], None), 2);
        assert_eq!(failure_code(&["current", "--lock-wait", "1"], None), 2);
        assert_eq!(failure_code(&["upgrade", "--lock-wait", "86401"], None), 2);
    }

    #[test]
    fn an_unreachable_database_or_folder_exits_1() {
        let url = Some("host=/nonexistent user=me");
        assert_eq!(failure_code(&["upgrade"], url), 1);
        assert_eq!(failure_code(&["downgrade", "-1"], url), 1);
        assert_eq!(failure_code(&["current"], url), 1);
        assert_eq!(failure_code(&["heads", "--versions", "/nonexistent"], None), 1);
    }

    #[test]
    fn current_marks_what_it_found() {
        let chain = embedded().unwrap();
        let record = |revision: &str, revises: &str, state: &str| Record {
            revision: revision.into(),
            revises: revises.into(),
            name: "n".into(),
            checksum: "c".into(),
            state: state.into(),
            applied_at: "2026-01-01T00:00:00Z".into(),
        };
        let first = record("586f9c3cd40c", "none", "stamped");
        let second = record("1246b5faa711", "586f9c3cd40c", "applied");
        let running = record("1246b5faa711", "586f9c3cd40c", "running");
        let foreign = record("ffffffffffff", "586f9c3cd40c", "applied");
        let lines = |records: &[Record]| Current::new(chain, records, false).lines();
        assert!(lines(&[]).is_empty());
        assert_eq!(lines(&[second, first.clone()]), ["1246b5faa711"]);
        assert_eq!(lines(&[first.clone(), foreign]), ["ffffffffffff (unknown to this build)"]);
        assert_eq!(
            lines(&[first, running]),
            ["586f9c3cd40c", "1246b5faa711 (interrupted: run `peace-migrate upgrade`)"]
        );
        let head = record(&chain.head().id, "586f9c3cd40c", "applied");
        assert_eq!(lines(&[head]), [format!("{} (head)", chain.head().id)]);
    }
}
