//! The command `peace-migrate`: arguments in, lines and an exit code out.
//!
//! `src/bin/peace-migrate.rs` hands it the process's arguments and the application. It parses, lets
//! one of the families under `cli/` do the command, and turns a failure into an exit code.
//! It promises: results on stdout, progress and errors on stderr, no password on either; exit codes
//! as `--help` lists them. Names are Alembic's.
//! It does not know where the database is looked for, nor what a command does.

mod adopt;
mod develop;
mod files;
mod migrate;
mod print;
mod revision;
mod show;

use std::borrow::Cow;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::database::access::Access;
use crate::error::Error;
use crate::files::chain::Chain;
use crate::files::embedded::embedded;
use crate::files::folder::{self, FolderError};
use crate::files::lint::NoLinter;
use crate::files::rebase::RebaseError;
use crate::schema::declared::{Declared, Table};
use crate::schema::generate::Unwritten;
use crate::schema::scratch::Server;
use crate::stop;

const SCRATCH_URL_VARIABLE: &str = "PEACE_SCRATCH_URL";
/// Below a command's own options.
const GLOBAL: &str = "What every command takes";

// No `Debug`: the URL may hold a password.
/// Bring a PostgreSQL database along the schema's revisions.
#[derive(Parser)]
#[command(
    name = "peace-migrate",
    version,
    disable_help_subcommand = true,
    after_help = "Exit codes: 0 done, 1 error, 2 usage, 3 a difference or an error of lint was found, \
        4 drift, 5 the database's history differs, 6 lock or timeout, 7 data would be destroyed, \
        130 interrupted. Running a command again is always safe."
)]
struct Cli {
    /// The database; postgres://, postgresql://, postgresql+asyncpg:// or key=value [default: that of
    /// the server's settings (DATABASE_URL, .env, ...); in development also the one that deploy/up runs]
    #[arg(long, global = true, value_name = "URL", help_heading = GLOBAL)]
    database_url: Option<String>,
    /// Take the revisions from this folder instead of those compiled in; commands about files look
    /// for migrations/versions of the workspace around first
    #[arg(long, global = true, value_name = "DIR", help_heading = GLOBAL)]
    versions: Option<PathBuf>,
    /// Take the declared schema from this file of SQL instead of the code
    #[arg(long, global = true, value_name = "FILE", help_heading = GLOBAL)]
    schema: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Apply revisions
    Upgrade(migrate::Upgrade),
    /// Take revisions back; what they added is dropped with its data
    Downgrade(migrate::Downgrade),
    /// Make the rows say what is applied, without running anything
    Stamp(migrate::Stamp),
    /// Accept the edited file of an applied revision
    Repair(migrate::Repair),
    /// Show the database's revision; nothing when there is none
    Current(show::Current),
    /// List the revisions, newest first
    History(show::History),
    /// Show the newest revision
    Heads(show::Heads),
    /// Show a revision and its files
    Show(show::Show),
    /// Compare the applied files with those that are here
    Verify(show::Verify),
    /// Compare what the code declares with what the revisions give
    Check(develop::Check),
    /// Compare a database's schema with the one of its revision
    Drift(develop::Drift),
    /// Write schema.lock: the schema at the head revision, for reviewers and for drift
    Dump(develop::Dump),
    /// Write the files of a new revision, blank or generated from what the code declares
    Revision(revision::Revision),
    /// Make two heads one line: a branch moves on top of the other, under new dates
    Rebase(files::Rebase),
    /// Look for long locks, lost data and slips in revisions' up files
    Lint(files::Lint),
    /// Take over a database that Alembic manages; its tables and rows stay as they are
    AdoptAlembic(adopt::AdoptAlembic),
}

/// Finds the application's database; is given what `--database-url` says. `None`: nobody says where it
/// is. An error is one line for people, without a password.
pub type FindDatabase<'a> = &'a dyn Fn(Option<String>) -> Result<Option<Access>, String>;

/// What an application hands to its command.
#[derive(Clone, Copy)]
pub struct Application<'a> {
    /// The tables that it declares.
    pub tables: &'a [Table],
    /// Looks a variable up.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// Called by the commands that work on a database.
    pub database: FindDatabase<'a>,
    /// Reads a database URL, in whatever spellings the application takes. An error is one line.
    pub read_url: &'a dyn Fn(&str) -> Result<Access, String>,
}

/// What every command is called with.
struct Call<'a> {
    versions: Option<PathBuf>,
    schema: Option<PathBuf>,
    url: Option<String>,
    application: Application<'a>,
}

/// Why the command ended without success.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(
        "no database: set DATABASE_URL=postgres://user:password@host:5432/name or, in development, \
        start ./deploy/up, which runs one"
    )]
    NoDatabase,
    #[error("{0}")]
    Database(String),
    #[error(transparent)]
    Run(#[from] Error),
    #[error(
        "no folder of revisions: run this inside a workspace that has migrations/versions, or give \
        --versions"
    )]
    NoFolder,
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Rebase(#[from] RebaseError),
    #[error(transparent)]
    Unwritten(#[from] Unwritten),
    #[error(transparent)]
    NoLinter(#[from] NoLinter),
    #[error("PEACE_SCRATCH_URL: {0}")]
    ScratchUrl(String),
    #[error("cannot read {path}: {reason}")]
    Read { path: String, reason: String },
    #[error("{path}:{line}: unclosed {what}")]
    Unclosed { path: String, line: usize, what: &'static str },
    /// The findings are printed already.
    #[error("{0}")]
    Differs(String),
    #[error("{0}")]
    Drifted(String),
    #[error("the database is not at the newest revision {head}: run `peace-migrate upgrade`")]
    Behind { head: String },
    #[error("a script needs both ends: write FROM:TO, each head, base or the beginning of an id")]
    NoRange,
    #[error("FROM:TO is for --sql: a run begins where the database stands")]
    RangeOnline,
    #[error("FROM is after TO: turn them around")]
    BackwardRange,
    #[error("interrupted: what was not committed is rolled back; run the command again to go on")]
    Interrupted,
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Self::NoDatabase | Self::Database(_) | Self::ScratchUrl(_) | Self::NoFolder => 2,
            Self::Rebase(error) => error.exit_code(),
            Self::Unwritten(error) => error.exit_code(),
            Self::Read { .. } | Self::Unclosed { .. } => 2,
            Self::NoRange | Self::RangeOnline | Self::BackwardRange => 2,
            Self::Run(error) => error.exit_code(),
            Self::Output(_) | Self::Folder(_) | Self::NoLinter(_) => 1,
            Self::Differs(_) | Self::Behind { .. } => 3,
            Self::Drifted(_) => 4,
            Self::Interrupted => stop::INTERRUPTED,
        }
    }
}

/// Runs one command; returns the exit code. **Blocks** until it is done.
///
/// `args` begins with the program's name.
pub fn run(args: impl IntoIterator<Item = OsString>, application: &Application<'_>) -> u8 {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Without a place to print to there is nobody to tell.
            drop(error.print());
            return u8::try_from(error.exit_code()).unwrap_or(2);
        }
    };
    match execute(cli, application) {
        Ok(()) => 0,
        Err(failure) => {
            print::failure(&failure);
            failure.exit_code()
        }
    }
}

fn execute(cli: Cli, application: &Application<'_>) -> Result<(), Failure> {
    let call = Call {
        versions: cli.versions,
        schema: cli.schema,
        url: cli.database_url,
        application: *application,
    };
    match cli.command {
        Command::Upgrade(upgrade) => upgrade.run(&call),
        Command::Downgrade(downgrade) => downgrade.run(&call),
        Command::Stamp(stamp) => stamp.run(&call),
        Command::Repair(repair) => repair.run(&call),
        Command::Current(current) => current.run(&call),
        Command::History(history) => history.run(&call),
        Command::Heads(heads) => heads.run(&call),
        Command::Show(show) => show.run(&call),
        Command::Verify(verify) => verify.run(&call),
        Command::Check(check) => check.run(&call),
        Command::Drift(drift) => drift.run(&call),
        Command::Dump(dump) => dump.run(&call),
        Command::Revision(revision) => revision.run(&call),
        Command::Rebase(rebase) => rebase.run(&call),
        Command::Lint(lint) => lint.run(&call),
        Command::AdoptAlembic(adopt) => adopt.run(&call),
    }
}

impl Call<'_> {
    /// The revisions that the command is about.
    fn chain(&self) -> Result<Cow<'static, Chain>, Failure> {
        if let Some(folder) = &self.versions {
            return Ok(Cow::Owned(Chain::read(folder).map_err(Error::from)?));
        }
        let chain = embedded().map_err(Error::from)?;
        if let Some(newer) = unbuilt(chain) {
            print::say(&format_args!(
                "note: revision {newer} of this workspace is not compiled in: build again, or give --versions"
            ));
        }
        Ok(Cow::Borrowed(chain))
    }

    /// The database that the command is about.
    fn database(&self) -> Result<Access, Failure> {
        self.known_database()?.ok_or(Failure::NoDatabase)
    }

    /// The same, for a command that does without; whether it answers is another matter.
    fn known_database(&self) -> Result<Option<Access>, Failure> {
        (self.application.database)(self.url.clone()).map_err(Failure::Database)
    }

    /// Where scratch databases can be made. With one of its own it needs no other.
    fn server(&self) -> Result<Server, Failure> {
        let given = (self.application.env)(SCRATCH_URL_VARIABLE);
        let given = given.as_deref().map(str::trim).filter(|url| !url.is_empty());
        let given = given.map(self.application.read_url).transpose();
        let given = given.map_err(Failure::ScratchUrl)?;
        let server = match &given {
            Some(given) => self.known_database()?.unwrap_or_else(|| given.clone()),
            None => self.database()?,
        };
        Ok(Server { server, given })
    }

    /// What the code, or the file given in its place, declares.
    fn declared(&self) -> Result<Declared, Failure> {
        let Some(file) = &self.schema else { return Ok(Declared::tables(self.application.tables)) };
        let path = || file.display().to_string();
        let text = std::fs::read_to_string(file)
            .map_err(|error| Failure::Read { path: path(), reason: error.to_string() })?;
        Declared::sql(&text).map_err(|(line, what)| Failure::Unclosed { path: path(), line, what })
    }
}

/// The head of the folder around, when it was written after this program was built.
fn unbuilt(chain: &Chain) -> Option<String> {
    let written = Chain::read(&folder::find(None)?).ok()?;
    let head = written.head().id.clone();
    chain.all().iter().all(|revision| revision.id != head).then_some(head)
}

/// Runs the asynchronous part of a command, and ends it at INT or TERM.
fn block_on<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(stop::stoppable(work));
    // A look-up of a name cannot be stopped; nobody waits for it.
    runtime.shutdown_background();
    Ok(ended?.ok_or(Failure::Interrupted)??)
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
        let read_url = |url: &str| match url.parse::<tokio_postgres::Config>() {
            Ok(config) if !config.get_hosts().is_empty() => Ok(Access::from(config)),
            _ => Err("no URL".to_owned()),
        };
        let database = |flag: Option<String>| {
            let url = flag.or(url.map(str::to_owned));
            url.as_deref().map(read_url).transpose()
        };
        let application =
            Application { tables: &[], env: &|_| None, database: &database, read_url: &read_url };
        execute(cli, &application).unwrap_err().exit_code()
    }

    #[test]
    fn the_command_line_is_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn the_options_of_a_command_stand_before_those_of_all() {
        let help = Cli::try_parse_from(["peace-migrate", "lint", "--help"]).err().unwrap();
        let help = help.to_string();
        let at = |word: &str| help.find(word).unwrap_or_else(|| panic!("{word}: {help}"));
        let in_order = ["--all", GLOBAL, "--database-url", "--versions", "--schema"].map(at);
        assert!(in_order.is_sorted(), "{help}");
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
        assert_eq!(failure_code(&["lint", "--all", "586f9c3cd40c"], None), 2);
        let reason = ["revision", "--autogenerate", "-m", "x", "--allow-destructive"];
        assert_eq!(failure_code(&[&reason[..], &[" "]].concat(), None), 2);
        assert_eq!(failure_code(&["lint", "zzzz"], None), 2);
        assert_eq!(failure_code(&["rebase", "zzzz", "--database-url", "postgres://a:b"], None), 2);
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
