//! Settings: from flags, environment, files and defaults to one checked [`Config`].
//!
//! `main` calls [`load`] before anything else happens, and again at a reload. One table
//! ([`SETTINGS`]) says what there is; flags, help, completions, README's table, `config show` and
//! `config check` are made from it. The order of sources is flag, environment, systemd credential,
//! `.env`, settings file, default. [`load`] promises to report every problem at once, each in one
//! line that says what is wrong and how to mend it, to show no secret, and to change nothing: no
//! variable, no file. It opens no socket and asks no server.

mod command;
mod config;
mod database;
mod dotenv;
mod faults;
mod file;
mod found;
mod nearest;
mod problem;
mod resolve;
mod rules;
mod setting;
mod show;
mod sources;
mod table;
#[cfg(test)]
mod tests;
mod value;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

pub use config::{Config, Database, Environment, ItemWrites, LogFormat};
pub use database::DatabaseUrl;
pub use faults::Faults;
pub use problem::{EXIT_USAGE, Refusal};
pub use setting::{Effect, Fallback, Flag, Kind, Section, Setting};
pub use show::readme_table;
pub use sources::Sources;
pub use table::SETTINGS;
pub use value::Wrong;

use crate::ctl::Ask;
use crate::healthcheck::Healthcheck;
use crate::top::{Form, Source, Top};
use command::Verb;
use found::{Found, Origin};
use problem::Problem;
use resolve::{Resolved, resolve};
use sources::Gathered;
use supervisor::Request;
use value::Value;

/// The program, as its messages call it.
pub const NAME: &str = "peace-supervisor";

/// What the program was asked to do, and what it should know about its settings.
#[derive(Debug)]
pub struct Loaded {
    /// What to do.
    pub command: Command,
    /// Lines for standard error; the command goes on.
    pub warnings: Vec<String>,
}

/// What the program was asked to do.
#[derive(Debug)]
pub enum Command {
    /// Serve with these settings.
    Serve(Box<Config>),
    /// Ask the supervisor that runs.
    Ctl(Ask),
    /// Show how the workers are.
    Top(Top),
    /// Ask the server how it is.
    Healthcheck(Healthcheck),
    /// Print the routes of the API.
    Routes,
    /// Print the API document, as it is where these may write items.
    OpenApi(ItemWrites),
    /// Print this text (help, version, completions, `config show`, `config check`) and exit 0.
    Print(String),
}

/// Where the rows are, for a program that needs nothing else: `flag` is what its command line says.
/// `None` where nobody says it and there is no embedded database, as in production.
///
/// **Errors** are for people. What is wrong with other settings is none.
/// **Blocks** on the disk only.
pub fn database(flag: Option<String>, sources: &Sources) -> Result<Option<Database>, Refusal> {
    let flag = flag.map(|url| Found::new(url, Origin::Flag("--database-url".to_owned())));
    let flags = flag.into_iter().map(|found| ("database-url", Ok(found))).collect();
    resolve::database(sources::gather(flags, sources))
}

/// Reads the command line (the program's name first) and every source of settings.
///
/// **Errors** are for people: print them and exit with [`EXIT_USAGE`].
/// **Blocks** on the disk only.
pub fn load(
    args: impl IntoIterator<Item = OsString>,
    sources: &Sources,
) -> Result<Loaded, Refusal> {
    let (verb, flags) = command::parse(args)?;
    let gather = || sources::gather(flags, sources);
    match verb {
        Verb::Print(text) => Ok(Loaded { command: Command::Print(text), warnings: Vec::new() }),
        Verb::Routes => Ok(Loaded { command: Command::Routes, warnings: Vec::new() }),
        Verb::OpenApi => Ok(openapi(&resolve(gather()))),
        Verb::Serve => serve(resolve(gather())),
        Verb::Healthcheck { live } => healthcheck(resolve(gather()), live),
        Verb::Top { once, admin, interval } => top(gather(), once, admin.as_deref(), &interval),
        Verb::Ctl { request, json } => ctl(gather(), request, json),
        Verb::ConfigCheck => check(resolve(gather())),
        Verb::ConfigShow => Ok(show(&resolve(gather()))),
    }
}

fn serve(mut resolved: Resolved) -> Result<Loaded, Refusal> {
    Refusal::unless_empty(std::mem::take(&mut resolved.problems))?;
    let config = Box::new(Config::new(&resolved));
    Ok(Loaded { command: Command::Serve(config), warnings: lines(&resolved.warnings) })
}

/// What is wrong with other settings keeps nobody from asking. A source that cannot be read may have
/// named the socket, so it is told unless a stronger one did.
fn ctl(gathered: Gathered, request: Request, json: bool) -> Result<Loaded, Refusal> {
    let (control, warnings) = control(gathered)?;
    Ok(Loaded { command: Command::Ctl(Ask { control, request, json }), warnings })
}

/// The control socket, and what makes it doubtful.
fn control(gathered: Gathered) -> Result<(PathBuf, Vec<String>), Refusal> {
    let doubts = lines(&gathered.problems);
    let mut resolved = resolve(gathered);
    if ["control", "env"].iter().any(|name| resolved.values.get(name).is_none()) {
        Refusal::unless_empty(std::mem::take(&mut resolved.problems))?;
    }
    let is_given = resolved.found.contains_key("control");
    let control = config::control(&resolved).ok_or_else(|| {
        let wrong = Wrong::new("off, so nobody can be asked", "give the path of the socket");
        Refusal::from(Problem::new("--control", &wrong))
    })?;
    Ok((control, if is_given { Vec::new() } else { doubts }))
}

/// Looks at the control socket unless an admin process is named; keys change something only where it is known
/// whose socket it is.
fn top(
    gathered: Gathered,
    once: Option<Form>,
    admin: Option<&str>,
    interval: &str,
) -> Result<Loaded, Refusal> {
    let interval = INTERVAL.parse(interval);
    let interval = match interval.map_err(|wrong| Problem::new("--interval", &wrong))? {
        Value::Time(interval) => interval,
        other => panic!("--interval is {other:?}"),
    };
    let top = |source, control| Top { source, control, interval, once };
    let Some(admin) = admin else {
        let (control, warnings) = control(gathered)?;
        let command = Command::Top(top(Source::Control(control.clone()), Some(control)));
        return Ok(Loaded { command, warnings });
    };
    let address = Kind::Address.parse(admin);
    let address = match address.map_err(|wrong| Problem::new("--admin", &wrong))? {
        Value::Address(address) => address,
        other => panic!("--admin is {other:?}"),
    };
    let is_given = gathered.found.contains_key("control");
    let control = if is_given { Some(control(gathered)?.0) } else { None };
    let command = Command::Top(top(Source::Admin(address), control));
    Ok(Loaded { command, warnings: Vec::new() })
}

/// Between two looks of `top`.
const INTERVAL: Kind = Kind::Time { min: Duration::from_millis(100), max: Duration::from_secs(60) };

/// What is wrong with other settings keeps nobody from asking.
fn healthcheck(mut resolved: Resolved, live: bool) -> Result<Loaded, Refusal> {
    let Some(bind) = config::bind(&resolved) else {
        Refusal::unless_empty(std::mem::take(&mut resolved.problems))?;
        let wrong = Wrong::new("not known", "give the address of the server");
        return Err(Problem::new("--bind", &wrong).into());
    };
    let command = Command::Healthcheck(Healthcheck { bind, live });
    Ok(Loaded { command, warnings: Vec::new() })
}

fn check(mut resolved: Resolved) -> Result<Loaded, Refusal> {
    Refusal::unless_empty(std::mem::take(&mut resolved.problems))?;
    let text = show::all_good(&resolved);
    Ok(Loaded { command: Command::Print(text), warnings: lines(&resolved.warnings) })
}

/// What is wrong with settings is for those who serve with them.
fn openapi(resolved: &Resolved) -> Loaded {
    Loaded { command: Command::OpenApi(config::item_writes(resolved)), warnings: Vec::new() }
}

/// Shows what there is, problems included: they are what one looks for with it.
fn show(resolved: &Resolved) -> Loaded {
    let notes = resolved.problems.iter().chain(&resolved.warnings);
    let command = Command::Print(show::show(resolved));
    Loaded { command, warnings: lines(notes) }
}

fn lines<'a>(problems: impl IntoIterator<Item = &'a Problem>) -> Vec<String> {
    problems.into_iter().map(|problem| format!("{NAME}: {problem}")).collect()
}
