//! The command `peace-migrate`: arguments in, lines and an exit code out.
//!
//! `src/bin/peace-migrate.rs` hands it the process's arguments and environment; it calls `runner`.
//! It promises: results on stdout, progress and errors on stderr, no password on either; exit 0
//! done, 1 error, 2 usage, 5 the history differs, 6 lock or timeout. Names are Alembic's.
//! It does not know where the environment comes from.

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use tokio_postgres::Config;

use crate::apply::Direction;
use crate::chain::Chain;
use crate::embedded::embedded;
use crate::error::Error;
use crate::records::Record;
use crate::runner::{self, Event, LOCK_WAIT, Options, Report};
use crate::show::{self, Current, Entry};
use crate::target::Target;
use crate::url::{UrlError, parse_url};

const URL_VARIABLE: &str = "DATABASE_URL";
const LOCK_WAIT_MAX_S: u64 = 24 * 3600;

// No `Debug`: the URL may hold a password.
/// Bring a PostgreSQL database along the schema's revisions.
#[derive(Parser)]
#[command(
    name = "peace-migrate",
    version,
    disable_help_subcommand = true,
    after_help = "Exit codes: 0 done, 1 error, 2 usage, 5 the database's history differs, 6 lock or \
        timeout. Running a command again is always safe."
)]
struct Cli {
    /// The database; postgres://, postgresql://, postgresql+asyncpg:// or key=value [env:
    /// DATABASE_URL]
    #[arg(long, global = true, value_name = "URL")]
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
    #[arg(long, value_name = "SECONDS", default_value_t = LOCK_WAIT.as_secs(),
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
            say(&format_args!("peace-migrate: {failure}"));
            failure.exit_code()
        }
    }
}

fn execute(cli: &Cli, env: impl Fn(&str) -> Option<String>) -> Result<(), Failure> {
    let read;
    let chain = match &cli.versions {
        None => embedded().map_err(Error::from)?,
        Some(folder) => {
            read = Chain::read(folder).map_err(Error::from)?;
            &read
        }
    };
    let database = || {
        let url = cli.database_url.clone().or_else(|| env(URL_VARIABLE));
        let url = url.filter(|url| !url.trim().is_empty()).ok_or(Failure::NoUrl)?;
        parse_url(&url).map_err(Failure::from)
    };
    match &cli.command {
        Command::Upgrade { target, lock } => {
            migrate(&database()?, (target, Direction::Up), &lock.options(chain))
        }
        Command::Downgrade { target, lock } => {
            migrate(&database()?, (target, Direction::Down), &lock.options(chain))
        }
        Command::Current { verbose, json } => {
            let records = recorded(&database()?)?;
            let current = Current::new(chain, &records, *verbose);
            if *json { print_json(&current) } else { print(&current.lines()) }
        }
        Command::History { indicate_current, json } => {
            let records = if *indicate_current { recorded(&database()?)? } else { Vec::new() };
            let entries = show::history(chain, &records);
            if *json {
                print_json(&entries)
            } else {
                print(&entries.iter().map(Entry::line).collect::<Vec<_>>())
            }
        }
        Command::Heads => print(&[show::named(chain, Some(&chain.head().id))]),
    }
}

impl Lock {
    fn options<'a>(&self, chain: &'a Chain) -> Options<'a> {
        Options { chain, lock_wait: Duration::from_secs(self.lock_wait) }
    }
}

fn migrate(
    config: &Config,
    goal: (&Target, Direction),
    options: &Options<'_>,
) -> Result<(), Failure> {
    let mut say = |event: Event<'_>| say(&event);
    let Report { from, to, steps } = block_on(runner::migrate(config, goal, options, &mut say))??;
    let [from, to] = [from, to].map(|id| show::named(options.chain, id.as_deref()));
    if steps.is_empty() {
        print(&[format!("already at {to}")])
    } else {
        print(&[format!("{from} -> {to}")])
    }
}

fn recorded(config: &Config) -> Result<Vec<Record>, Failure> {
    Ok(block_on(runner::recorded(config))??)
}

fn block_on<T>(work: impl Future<Output = T>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(work))
}

/// A closed stderr must not end a migration.
fn say(line: &dyn Display) {
    drop(writeln!(io::stderr(), "{line}"));
}

fn print(lines: &[impl AsRef<str>]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    for line in lines {
        match writeln!(out, "{}", line.as_ref()) {
            // Whoever read it has read enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            result => result?,
        }
    }
    Ok(())
}

fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(io::Error::from)?;
    print(&[text])
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
}
