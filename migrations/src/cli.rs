//! The command `peace-migrate`: arguments in, lines and an exit code out.
//!
//! `src/bin/peace-migrate.rs` hands it the process's arguments and environment. It parses, lets one
//! of the families under `cli/` do the command, and turns a failure into an exit code.
//! It promises: results on stdout, progress and errors on stderr, no password on either; exit codes
//! as `--help` lists them. Names are Alembic's.
//! It does not know where the environment comes from, nor what a command does.

mod migrate;
mod print;
mod show;

use std::borrow::Cow;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use tokio_postgres::Config;

use crate::chain::Chain;
use crate::embedded::embedded;
use crate::error::Error;
use crate::url::{UrlError, parse_url};

const URL_VARIABLE: &str = "DATABASE_URL";

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
    Upgrade(migrate::Upgrade),
    /// Take revisions back; what they added is dropped with its data
    Downgrade(migrate::Downgrade),
    /// Show the database's revision; nothing when there is none
    Current(show::Current),
    /// List the revisions, newest first
    History(show::History),
    /// Show the newest revision
    Heads(show::Heads),
}

/// What every command is called with.
struct Call {
    versions: Option<PathBuf>,
    url: Option<String>,
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
    match execute(cli, env) {
        Ok(()) => 0,
        Err(failure) => {
            print::say(&format_args!("peace-migrate: {failure}"));
            failure.exit_code()
        }
    }
}

fn execute(cli: Cli, env: impl Fn(&str) -> Option<String>) -> Result<(), Failure> {
    let url = cli.database_url.or_else(|| env(URL_VARIABLE));
    let url = url.filter(|url| !url.trim().is_empty());
    let call = Call { versions: cli.versions, url };
    match cli.command {
        Command::Upgrade(upgrade) => upgrade.run(&call),
        Command::Downgrade(downgrade) => downgrade.run(&call),
        Command::Current(current) => current.run(&call),
        Command::History(history) => history.run(&call),
        Command::Heads(heads) => heads.run(&call),
    }
}

impl Call {
    /// The revisions that the command is about.
    fn chain(&self) -> Result<Cow<'static, Chain>, Failure> {
        Ok(match &self.versions {
            None => Cow::Borrowed(embedded().map_err(Error::from)?),
            Some(folder) => Cow::Owned(Chain::read(folder).map_err(Error::from)?),
        })
    }

    /// The database that the command is about.
    fn database(&self) -> Result<Config, Failure> {
        Ok(parse_url(self.url.as_deref().ok_or(Failure::NoUrl)?)?)
    }
}

/// Runs the asynchronous part of a command.
fn block_on<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(work)?)
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
        execute(cli, env).unwrap_err().exit_code()
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
