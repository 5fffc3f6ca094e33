//! `peace-supervisor`: the wiring. Settings in, an exit code out.
//!
//! The settings are read and checked before anything else happens. Then the supervisor is given what
//! to run in its children: the programs of the embedded database, the check, the workers. Everything
//! that is more than wiring stands in a module of the library.

use std::cell::RefCell;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use peace::app::AppSettings;
use peace::embedded::{Cluster, EmbeddedError, Lock, Place};
use peace::programs::{self, Need, REFUSED, UNAVAILABLE};
use peace::settings::{self, Command, Config, Database, Loaded, Sources};
use peace::{journal, platform, resources, serving};
use supervisor::{Outcome, Program, ProgramKind, Reload, Supervisor, Task, Work};

/// How to report that a stop was not a clean one (sysexits `EX_TEMPFAIL`).
const FORCED: u8 = 75;

fn main() -> ExitCode {
    let Loaded { command, warnings } = match load() {
        Ok(loaded) => loaded,
        Err(refusal) => {
            let _ = writeln!(std::io::stderr(), "{refusal}");
            return ExitCode::from(settings::EXIT_USAGE);
        }
    };
    for warning in warnings {
        let _ = writeln!(std::io::stderr(), "{warning}");
    }
    match command {
        Command::Print(text) => print(&text),
        Command::Routes => print(&resources::listing()),
        Command::Serve(config) => match serve(*config) {
            Ok(Outcome::Drained) => ExitCode::SUCCESS,
            Ok(Outcome::Forced) => ExitCode::from(FORCED),
            Ok(Outcome::Failed { code, text }) | Err((code, text)) => {
                journal::tell(&format!("{}: {text}", settings::NAME));
                ExitCode::from(code)
            }
        },
    }
}

/// Runs the supervisor until its end.
fn serve(config: Config) -> Result<Outcome, (u8, String)> {
    platform::check_kernel().map_err(refused)?;
    journal::start(config.log_format, &config.log_filter);
    let supervisor = Supervisor::new(serving::slots(&config)).map_err(refused)?;
    let Rows { server, cluster, _lock } = Rows::of(&config).map_err(unavailable)?;
    let need = Need { workers: config.workers, pool_size: config.pool_size };
    let app = AppSettings::new(&config).map_err(refused)?;
    let current = RefCell::new(Settings { config, app });
    let mut previous = None;

    let programs = programs(cluster.as_ref(), &server, need);
    let names = programs.iter().map(|program| program.name).collect();
    let work = Work {
        programs,
        worker: Box::new(|post| {
            let Settings { config, app } = &*current.borrow();
            serving::serve(post, config, &server, app)
        }),
        reload: Box::new(|reload| {
            match reload {
                Reload::Read => {
                    let fresh = reread(&current.borrow().config)?;
                    previous = Some(current.replace(fresh));
                }
                Reload::Keep => previous = None,
                Reload::Undo => drop(previous.take().map(|old| current.replace(old))),
            }
            Ok(())
        }),
        journal: &mut journal::Log { programs: names },
    };
    supervisor.run(work).map_err(refused)
}

/// What the workers to come are forked with.
struct Settings {
    config: Config,
    app: AppSettings,
}

/// What runs before and beside the workers, in the order of its start.
fn programs<'a>(
    cluster: Option<&'a Cluster>,
    server: &'a tokio_postgres::Config,
    need: Need,
) -> Vec<Program<'a>> {
    let hint = cluster.map(|cluster| format!("see {}", cluster.place().log.display()));
    let program =
        |name, kind: ProgramKind, task: Task<'a>| Program { name, hint: hint.clone(), kind, task };
    let mut all = Vec::new();
    if let Some(cluster) = cluster {
        all.push(program(
            "initdb",
            programs::INITDB,
            Box::new(|post| programs::initdb(&post, cluster)),
        ));
        all.push(program(
            "postgres",
            programs::POSTGRES,
            Box::new(move |post| programs::postgres(&post, cluster, need)),
        ));
        all.push(program(
            "migrate",
            programs::MIGRATE,
            Box::new(|post| programs::migrate(&post, cluster)),
        ));
    }
    all.push(program(
        "check",
        programs::CHECK,
        Box::new(move |post| programs::check(&post, server, need)),
    ));
    all
}

/// Where the rows are; and the cluster that holds them, when that is our affair.
struct Rows {
    server: tokio_postgres::Config,
    cluster: Option<Cluster>,
    _lock: Option<Lock>,
}

impl Rows {
    /// Of the settings: a server that others run, or the cluster of the current folder, held for this
    /// process.
    fn of(config: &Config) -> Result<Self, EmbeddedError> {
        match &config.database {
            Database::Url(url) => {
                Ok(Self { server: url.config().clone(), cluster: None, _lock: None })
            }
            Database::Embedded => {
                let cluster = Cluster::new(Place::of_project(Path::new("."))?)?;
                let lock = cluster.lock()?;
                let server = programs::server_of(&cluster);
                Ok(Self { server, cluster: Some(cluster), _lock: Some(lock) })
            }
        }
    }
}

/// The settings as they are now, for the workers to come. What only a start can change is refused.
fn reread(running: &Config) -> Result<Settings, String> {
    let Loaded { command, warnings } = load().map_err(|refusal| refusal.to_string())?;
    let Command::Serve(config) = command else {
        return Err("the command line does not serve".to_owned());
    };
    serving::check_reload(running, &config)?;
    let app = AppSettings::new(&config).map_err(|error| error.to_string())?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    Ok(Settings { config: *config, app })
}

fn load() -> Result<Loaded, settings::Refusal> {
    settings::load(std::env::args_os(), &Sources::of_process())
}

/// A reader that has gone away (`| head`) is no failure.
fn print(text: &str) -> ExitCode {
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn refused(error: impl std::fmt::Display) -> (u8, String) {
    (REFUSED, error.to_string())
}

fn unavailable(error: impl std::fmt::Display) -> (u8, String) {
    (UNAVAILABLE, error.to_string())
}
