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
use peace::pid_file::PidFile;
use peace::programs::{self, Need, REFUSED, UNAVAILABLE};
use peace::settings::{self, Command, Config, Database, DatabaseUrl, Loaded, Sources};
use peace::{ctl, docs, journal, platform, resources, serving};
use supervisor::{Outcome, Program, ProgramKind, Reload, Supervisor, Task, Work};

/// Gives back what password hashes took: after logins a worker holds 27 MiB with it, and 115 MiB with
/// glibc's, which keeps the 19 MiB of each.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
        Command::OpenApi(item_writes) => print(&docs::openapi_json(item_writes)),
        Command::Ctl(ask) => match ctl::run(&ask) {
            Ok(text) => print(&text),
            Err(error) => {
                journal::tell(&format!("{}: {error}", settings::NAME));
                ExitCode::from(error.code())
            }
        },
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
    let mut supervisor = Supervisor::new(serving::slots(&config)).map_err(refused)?;
    // After the port: that outwaits a predecessor that was killed.
    let pid_file = config.pid_file.as_deref().map(PidFile::claim).transpose().map_err(refused)?;
    let pid_file = RefCell::new(pid_file);
    let Rows { server, cluster, _lock } = Rows::of(&config).map_err(unavailable)?;
    let need = Need::of(&config);
    let app = AppSettings::new(&config).map_err(refused)?;
    open_control(&mut supervisor, &config)?;
    let current = RefCell::new(Settings { config, app });
    let mut previous = None;

    let programs = programs(cluster.as_ref(), &server, need);
    let names = programs.iter().map(|program| program.name).collect();
    let work = Work {
        programs,
        worker: Box::new(|post| {
            // Its lock must end with the supervisor.
            drop(pid_file.take());
            let Settings { config, app } = &*current.borrow();
            serving::serve(post, config, &server, app)
        }),
        reload: Box::new(|reload| {
            match reload {
                Reload::Read => {
                    let fresh = reread(&current.borrow().config)?;
                    let workers = fresh.config.workers;
                    let old = current.replace(fresh);
                    let changed = (old.config.workers != workers).then_some(workers);
                    previous = Some(old);
                    return Ok(changed);
                }
                Reload::Keep => previous = None,
                Reload::Undo => drop(previous.take().map(|old| current.replace(old))),
            }
            Ok(None)
        }),
        journal: &mut journal::Log { programs: names },
        version: env!("CARGO_PKG_VERSION"),
    };
    supervisor.run(work).map_err(refused)
}

/// Opens the control socket. One that nobody named is not worth a failure.
fn open_control(supervisor: &mut Supervisor, config: &Config) -> Result<(), (u8, String)> {
    let Some(path) = &config.control else { return Ok(()) };
    match supervisor.open_control(path) {
        Err(error) if config.control_is_given => Err(refused(error)),
        Err(error) => {
            tracing::warn!(%error, "nobody can ask this supervisor: there is no control socket");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// What the workers to come are forked with.
struct Settings {
    config: Config,
    app: AppSettings,
}

/// What runs before and beside the workers, in the order of its start.
fn programs<'a>(
    cluster: Option<&'a Cluster>,
    server: &'a DatabaseUrl,
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
    server: DatabaseUrl,
    cluster: Option<Cluster>,
    _lock: Option<Lock>,
}

impl Rows {
    /// Of the settings: a server that others run, or the cluster of the current folder, held for this
    /// process.
    fn of(config: &Config) -> Result<Self, EmbeddedError> {
        match &config.database {
            Database::Url(url) => Ok(Self { server: url.clone(), cluster: None, _lock: None }),
            Database::Embedded => {
                let cluster = Cluster::new(Place::of_project(Path::new("."))?)?;
                let lock = cluster.lock()?;
                let server = DatabaseUrl::in_clear(programs::server_of(&cluster));
                Ok(Self { server, cluster: Some(cluster), _lock: Some(lock) })
            }
        }
    }
}

/// The settings as they are now, for the workers to come. What only a start can change is refused.
fn reread(running: &Config) -> Result<Settings, String> {
    let Loaded { command, warnings } = load().map_err(|refusal| refusal.in_one_line())?;
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
