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
use peace::embedded::{Cluster, Lock, Place};
use peace::programs::{self, Need, REFUSED, UNAVAILABLE};
use peace::settings::{self, Command, Config, Database, Loaded, Sources};
use peace::{journal, resources, serving};
use supervisor::{Outcome, Program, Supervisor, Task, Work};

/// How to report that a stop was not a clean one (sysexits `EX_TEMPFAIL`).
const FORCED: u8 = 75;

fn main() -> ExitCode {
    let Loaded { command, warnings } = match load() {
        Ok(loaded) => loaded,
        Err(refusal) => return fail(settings::EXIT_USAGE, &refusal.to_string()),
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
            Ok(Outcome::Failed { code, text }) => fail(code, &line(&text)),
            Err((code, text)) => fail(code, &line(&text)),
        },
    }
}

/// Runs the supervisor until its end.
fn serve(config: Config) -> Result<Outcome, (u8, String)> {
    journal::start(config.log_format, &config.log_filter);
    let supervisor = Supervisor::new(serving::slots(&config)).map_err(refused)?;
    let (cluster, _lock) = embedded(&config).map_err(unavailable)?.unzip();
    let server = match (&config.database, &cluster) {
        (Database::Url(url), _) => url.config().clone(),
        (Database::Embedded, Some(cluster)) => programs::server_of(cluster),
        (Database::Embedded, None) => unreachable!("an embedded database has a cluster"),
    };
    let need = Need { workers: config.workers, pool_size: config.pool_size };
    let app = AppSettings::new(&config).map_err(refused)?;
    let current = RefCell::new((config, app));

    let (names, programs) = programs(cluster.as_ref(), &server, need);
    let work = Work {
        programs,
        worker: Box::new(|post| {
            let (config, app) = &*current.borrow();
            serving::serve(post, config, &server, app)
        }),
        reload: Box::new(|| {
            let fresh = reload(&current.borrow().0)?;
            *current.borrow_mut() = fresh;
            Ok(())
        }),
        journal: &mut journal::Log { programs: names },
    };
    supervisor.run(work).map_err(refused)
}

/// What runs before and beside the workers, in the order of its start, with the names for the log.
fn programs<'a>(
    cluster: Option<&'a Cluster>,
    server: &'a tokio_postgres::Config,
    need: Need,
) -> (Vec<&'static str>, Vec<Program<'a>>) {
    let program = |name, kind, task: Task<'a>| (name, Program { kind, task });
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
    all.into_iter().unzip()
}

/// The cluster of the current folder, held for this process, when the settings ask for one.
fn embedded(config: &Config) -> Result<Option<(Cluster, Lock)>, peace::embedded::EmbeddedError> {
    match config.database {
        Database::Url(_) => Ok(None),
        Database::Embedded => {
            let cluster = Cluster::new(Place::of_project(Path::new("."))?)?;
            let lock = cluster.lock()?;
            Ok(Some((cluster, lock)))
        }
    }
}

/// The settings as they are now, for the workers to come. What only a start can change is refused.
fn reload(running: &Config) -> Result<(Config, AppSettings), String> {
    let Command::Serve(config) = load().map_err(|refusal| refusal.to_string())?.command else {
        return Err("the command line does not serve".to_owned());
    };
    serving::check_reload(running, &config)?;
    let app = AppSettings::new(&config).map_err(|error| error.to_string())?;
    Ok((*config, app))
}

fn load() -> Result<Loaded, settings::Refusal> {
    settings::load(std::env::args_os(), &Sources::of_process())
}

/// A reader that has gone away (`| head`) is no failure.
fn print(text: &str) -> ExitCode {
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn fail(code: u8, text: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{text}");
    ExitCode::from(code)
}

fn line(text: &str) -> String {
    format!("{}: {text}", settings::NAME)
}

fn refused(error: impl std::fmt::Display) -> (u8, String) {
    (REFUSED, error.to_string())
}

fn unavailable(error: impl std::fmt::Display) -> (u8, String) {
    (UNAVAILABLE, error.to_string())
}
