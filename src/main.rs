//! `peace-supervisor`: the wiring. Settings in, an exit code out.
//!
//! The settings are read and checked before anything else happens. Then the supervisor is given what
//! to run in its children: the programs of the embedded database, the check, the workers. Everything
//! that is more than wiring stands in a module of the library.

use std::cell::RefCell;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use peace::account::Account;
use peace::app::AppSettings;
use peace::embedded::{Cluster, EmbeddedError, Lock, Place};
use peace::pid_file::{PidFile, PidFileError};
use peace::programs::{self, Need, REFUSED, UNAVAILABLE};
use peace::settings::{self, Command, Config, Database, DatabaseUrl, Loaded, Sources};
use peace::{admin, ctl, docs, healthcheck, journal, platform, resources, serving, top};
use supervisor::{Outcome, Post, Program, ProgramKind, Reload, Start, Supervisor, Task, Work};

/// Gives back what password hashes took: after logins a worker holds 27 MiB with it, and 115 MiB with
/// glibc's, which keeps the 19 MiB of each.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How to report that a stop was not a clean one (sysexits `EX_TEMPFAIL`).
const FORCED: u8 = 75;
/// What the supervisor keeps for us over an upgrade.
const PID_FILE: &str = "pid-file";
const CLUSTER: &str = "cluster";

fn main() -> ExitCode {
    let start = match Start::of_process() {
        Ok(start) => start,
        Err(error) => {
            journal::tell(&format!("{}: {error}", settings::NAME));
            return ExitCode::from(REFUSED);
        }
    };
    let Loaded { command, warnings } = match load() {
        Ok(loaded) => loaded,
        Err(refusal) => {
            start.refuse(settings::EXIT_USAGE, &refusal.in_one_line());
            let _ = writeln!(io::stderr(), "{refusal}");
            return ExitCode::from(settings::EXIT_USAGE);
        }
    };
    for warning in warnings {
        let _ = writeln!(io::stderr(), "{warning}");
    }
    match command {
        Command::Print(text) => print(&text),
        Command::Routes => print(&resources::listing()),
        Command::OpenApi(item_writes) => print(&docs::openapi_json(item_writes)),
        Command::Healthcheck(check) => match healthcheck::run(check) {
            Ok(()) => ExitCode::SUCCESS,
            Err(text) => {
                journal::tell(&format!("{}: {text}", settings::NAME));
                ExitCode::FAILURE
            }
        },
        Command::Top(shown) => match top::run(&shown) {
            Ok(text) => print(&text),
            Err(error) => {
                journal::tell(&format!("{}: {error}", settings::NAME));
                ExitCode::from(error.code())
            }
        },
        Command::Ctl(ask) => match ctl::run(&ask) {
            Ok(text) => print(&text),
            Err(error) => {
                journal::tell(&format!("{}: {error}", settings::NAME));
                ExitCode::from(error.code())
            }
        },
        Command::Serve(config) => match serve(*config, &start) {
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
fn serve(config: Config, start: &Start) -> Result<Outcome, (u8, String)> {
    let refused = |error: &dyn Display| give_up(start, REFUSED, error);
    let unavailable = |error: &dyn Display| give_up(start, UNAVAILABLE, error);
    platform::check_kernel().map_err(|error| refused(&error))?;
    let log_file = config.log_file.as_deref();
    journal::start(config.log_format, log_file, &config.log_filter)
        .map_err(|error| refused(&error))?;
    let account = Account::of(&config);
    let account = account.map_err(|error| give_up(start, settings::EXIT_USAGE, &error))?;
    let slots = serving::slots(&config);
    let mut supervisor = Supervisor::new(slots, start).map_err(|error| refused(&error))?;
    // After the port: that outwaits a predecessor that was killed.
    let pid_file = claim_pid_file(&config, start).map_err(|error| refused(&error))?;
    let rows = Rows::of(&config, start).map_err(|error| unavailable(&error))?;
    entrust(&mut supervisor, pid_file.as_ref(), &rows).map_err(|error| refused(&error))?;
    let pid_file = RefCell::new(pid_file);
    let Rows { server, cluster } = rows;
    let need = Need::of(&config);
    let app = AppSettings::new(&config).map_err(|error| refused(&error))?;
    open_control(&mut supervisor, &config, start).map_err(|error| refused(&error))?;
    let admin = open_admin(&mut supervisor, &config).map_err(|error| refused(&error))?;
    let current = Current::new(Settings { config, app });

    let cluster = cluster.as_ref();
    let mut programs = programs(cluster, &server, need, account);
    let mut names: Vec<&'static str> = programs.iter().map(|program| program.name).collect();
    if matches!(admin, Admin::Listening) {
        names.push(admin::NAME);
        programs.push(admin_program(names.clone(), account));
    }
    let work = Work {
        programs,
        worker: logged(Box::new(|post| {
            // Its lock must end with the supervisor.
            drop(pid_file.take());
            let Settings { config, app } = &*current.now.borrow();
            match become_account(account, &post) {
                Ok(()) => serving::serve(post, config, &server, app),
                Err(code) => code,
            }
        })),
        reload: Box::new(|reload| current.reload(reload)),
        journal: &mut admin::Told {
            journal: journal::Log { programs: names },
            missing: match admin {
                Admin::Missing(error) => Some(error),
                Admin::Off | Admin::Listening => None,
            },
        },
        version: env!("CARGO_PKG_VERSION"),
    };
    supervisor.run(work, start).map_err(|error| refused(&error))
}

/// Why it cannot serve. In an upgrade the program before is back, or serves on, when this is asked: before
/// anything is dropped that is still that program's.
fn give_up(start: &Start, code: u8, error: &dyn Display) -> (u8, String) {
    let text = error.to_string();
    start.refuse(code, &text);
    (code, text)
}

/// The pid file, claimed or taken over.
fn claim_pid_file(config: &Config, start: &Start) -> Result<Option<PidFile>, PidFileError> {
    let left = start.inherited(PID_FILE).map(File::from);
    let claimer = start.supervisor();
    match (&config.pid_file, left) {
        (Some(path), Some(file)) => PidFile::adopt(path, file, claimer).map(Some),
        (None, None) => Ok(None),
        _ if start.is_heir() => Err(PidFileError::Changed),
        (Some(path), None) => PidFile::claim(path).map(Some),
        (None, Some(_)) => Ok(None),
    }
}

/// What has to stay locked over an upgrade.
fn entrust(supervisor: &mut Supervisor, pid_file: Option<&PidFile>, rows: &Rows) -> io::Result<()> {
    if let Some(pid_file) = pid_file {
        supervisor.entrust(PID_FILE, pid_file.share()?);
    }
    if let Some((_, lock)) = &rows.cluster {
        supervisor.entrust(CLUSTER, lock.share()?);
    }
    Ok(())
}

/// Opens the control socket. One that nobody named is not worth a failure.
fn open_control(supervisor: &mut Supervisor, config: &Config, start: &Start) -> io::Result<()> {
    let Some(path) = &config.control else { return Ok(()) };
    match supervisor.open_control(path) {
        Err(error) if config.control_is_given || start.is_heir() => Err(error),
        Err(error) => {
            tracing::warn!(%error, "nobody can ask this supervisor: there is no control socket");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// Whether there is an admin process; `Missing` says why not, where nobody named an address for it: that is
/// not worth a failure, another copy of this program may have it.
enum Admin {
    Off,
    Missing(String),
    Listening,
}

/// Opens the admin process's socket.
fn open_admin(supervisor: &mut Supervisor, config: &Config) -> Result<Admin, String> {
    let Some(address) = config.admin_bind else { return Ok(Admin::Off) };
    let opened = supervisor.listen_for(admin::NAME, address);
    match opened.map_err(|error| error.to_string().replace("--bind", "--admin-bind")) {
        Ok(_) => Ok(Admin::Listening),
        Err(error) if config.admin_bind_is_given => Err(error),
        Err(error) => Ok(Admin::Missing(error)),
    }
}

/// The admin process, which has to know the programs' names, its own among them.
fn admin_program<'a>(names: Vec<&'static str>, account: Option<Account>) -> Program<'a> {
    let task: Task<'a> = Box::new(move |post| match become_account(account, &post) {
        Ok(()) => admin::serve(post, &names),
        Err(code) => code,
    });
    Program { name: admin::NAME, hint: None, kind: admin::KIND, task: logged(task) }
}

/// Who a child is from here on; an error is its exit code.
fn become_account(account: Option<Account>, post: &Post) -> Result<(), u8> {
    account.map_or(Ok(()), |account| account.assume(post))
}

/// What the workers to come are forked with.
struct Settings {
    config: Config,
    app: AppSettings,
}

/// The settings of now, and those that a reload may have to bring back.
struct Current {
    now: RefCell<Settings>,
    before: RefCell<Option<Settings>>,
}

impl Current {
    fn new(settings: Settings) -> Self {
        Self { now: RefCell::new(settings), before: RefCell::default() }
    }

    /// Gives how many workers there are to be, where that has changed.
    fn reload(&self, reload: Reload) -> Result<Option<usize>, String> {
        match reload {
            Reload::Read => {
                let fresh = reread(&self.now.borrow().config)?;
                let workers = fresh.config.workers;
                let old = self.now.replace(fresh);
                let changed = (old.config.workers != workers).then_some(workers);
                self.before.replace(Some(old));
                return Ok(changed);
            }
            Reload::Keep => drop(self.before.take()),
            Reload::Undo => drop(self.before.take().map(|old| self.now.replace(old))),
        }
        Ok(None)
    }
}

/// What runs before and beside the workers, in the order of its start.
fn programs<'a>(
    cluster: Option<&'a (Cluster, Lock)>,
    server: &'a DatabaseUrl,
    need: Need,
    account: Option<Account>,
) -> Vec<Program<'a>> {
    let hint = cluster.map(|(cluster, _)| format!("see {}", cluster.place().log.display()));
    let program = |name, kind: ProgramKind, task: Task<'a>| Program {
        name,
        hint: hint.clone(),
        kind,
        task: logged(task),
    };
    let mut all = Vec::new();
    if let Some((cluster, lock)) = cluster {
        all.push(program(
            "initdb",
            programs::INITDB,
            Box::new(|post| programs::initdb(&post, cluster, lock)),
        ));
        all.push(program(
            "postgres",
            programs::POSTGRES,
            Box::new(move |post| programs::postgres(&post, cluster, lock, need)),
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
        Box::new(move |post| match become_account(account, &post) {
            Ok(()) => programs::check(&post, server, need),
            Err(code) => code,
        }),
    ));
    all
}

/// Work of a child that writes its log as its own, to the last line.
fn logged(mut task: Task<'_>) -> Task<'_> {
    Box::new(move |post| {
        journal::forked(post.role);
        let code = task(post);
        journal::finish();
        code
    })
}

/// Where the rows are; and the cluster that holds them, when that is our affair.
struct Rows {
    server: DatabaseUrl,
    cluster: Option<(Cluster, Lock)>,
}

impl Rows {
    /// Of the settings: a server that others run, or the cluster of the current folder, held for this
    /// process.
    fn of(config: &Config, start: &Start) -> Result<Self, EmbeddedError> {
        let left = start.inherited(CLUSTER);
        match &config.database {
            Database::Url(_) if left.is_some() => Err(EmbeddedError::Changed),
            Database::Embedded if left.is_none() && start.is_heir() => Err(EmbeddedError::Changed),
            Database::Url(url) => Ok(Self { server: url.clone(), cluster: None }),
            Database::Embedded => {
                let cluster = Cluster::new(Place::of_project(Path::new("."))?)?;
                let lock = left.map_or_else(|| cluster.lock(), |left| Ok(Lock::adopt(left)))?;
                let server = DatabaseUrl::in_clear(programs::server_of(&cluster));
                Ok(Self { server, cluster: Some((cluster, lock)) })
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
    let _ = io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}
