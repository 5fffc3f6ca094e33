//! The settings as the program reads them: one plain struct, checked, with units in its types.
//!
//! `load` makes it from the values of `resolve`; `main` hands its parts to the supervisor, the
//! workers and the application. Nothing in it prints a secret. It does not know where a value is
//! from.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::database::DatabaseUrl;
use super::faults::Faults;
use super::resolve::Resolved;
use super::value::Value;

/// Where development keeps what it makes.
const DEVELOPMENT_FOLDER: &str = ".peace";

/// What one start of the program is to do.
#[derive(Debug, Clone)]
pub struct Config {
    /// Worker processes: 1 to 256.
    pub workers: usize,
    /// Address of the API. Port 0 lets the system choose one.
    pub bind: SocketAddr,
    /// The control socket; `None` turns it off.
    pub control: Option<PathBuf>,
    /// Whether somebody named the control socket: a start without it is refused then.
    pub control_is_given: bool,
    /// The file that holds the supervisor's process id.
    pub pid_file: Option<PathBuf>,
    /// Address of metrics and status; `None` turns them off.
    pub admin_bind: Option<SocketAddr>,
    /// Development or production.
    pub environment: Environment,
    /// Where the rows are.
    pub database: Database,
    /// Signs access tokens; `None` (in development only) asks for a generated one.
    pub jwt_secret: Option<SecretString>,
    /// The key before; its tokens are still good.
    pub jwt_secret_previous: Option<SecretString>,
    /// Who may write items.
    pub item_writes: ItemWrites,
    /// Connections of each worker to the database: 1 to 100.
    pub pool_size: usize,
    /// Whether a pooler stands between, which gives each transaction any session of the server.
    pub transaction_pooler: bool,
    /// A worker silent for this long is hung.
    pub timeout: Duration,
    /// Time a worker has from fork to ready.
    pub boot_timeout: Duration,
    /// Time requests in flight have after a graceful stop.
    pub graceful_timeout: Duration,
    /// Time a draining worker keeps idle connections; zero closes them at once.
    pub keepalive_grace: Duration,
    /// Time between a graceful stop and its drain.
    pub shutdown_delay: Duration,
    /// Connections a worker holds at once.
    pub max_connections: usize,
    /// Connections the kernel queues per worker.
    pub backlog: u32,
    /// Whether new connections are kept away from workers that do not serve.
    pub steering: bool,
    /// Web origins whose pages may call the API, as browsers write them; `*` alone is all.
    pub cors_origins: Vec<String>,
    /// Form of log lines; `None` means pretty on a terminal, else JSON.
    pub log_format: Option<LogFormat>,
    /// Which log lines are written, in the syntax of `RUST_LOG`; known to be well-formed.
    pub log_filter: String,
    /// Whether every request writes a log line.
    pub access_log: bool,
    /// Whether the API shows its document, and pages about it.
    pub docs: bool,
    /// What goes wrong on purpose.
    pub faults: Option<Faults>,
    /// Whether answers of errors carry debug text.
    pub debug: bool,
}

/// Who is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    /// Whoever builds it.
    Development,
    /// The public: what is only good for building is refused.
    Production,
}

/// Who may write items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemWrites {
    /// The user they belong to.
    Owner,
    /// Everyone, as in the Python template.
    Anyone,
}

/// Where the rows are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Database {
    /// In a PostgreSQL that we run ourselves.
    Embedded,
    /// In a server that others run.
    Url(DatabaseUrl),
}

/// Form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    Pretty,
}

impl Config {
    /// Takes the values over. Called only when there is no problem with any of them.
    pub(super) fn new(resolved: &Resolved) -> Self {
        let environment = environment(resolved);
        let bind = resolved.address("bind").expect("--bind cannot be off");
        let backlog = u32::try_from(resolved.whole("backlog")).expect("the table caps it");
        Self {
            workers: resolved.whole("workers"),
            bind,
            control: control(resolved),
            control_is_given: resolved.found.contains_key("control"),
            pid_file: resolved.path("pid-file"),
            admin_bind: admin_bind(resolved, bind, environment),
            environment,
            database: database(resolved),
            jwt_secret: resolved.secret("jwt-secret-key"),
            jwt_secret_previous: resolved.secret("jwt-secret-key-previous"),
            item_writes: item_writes(resolved),
            pool_size: resolved.whole("pool-size"),
            transaction_pooler: resolved.choice("database-pooler") == Some("transaction"),
            timeout: resolved.time("timeout"),
            boot_timeout: resolved.time("boot-timeout"),
            graceful_timeout: resolved.time("graceful-timeout"),
            keepalive_grace: resolved.time("keepalive-grace"),
            shutdown_delay: resolved.time("shutdown-delay"),
            max_connections: resolved.whole("max-connections"),
            backlog,
            steering: resolved.switch("steering"),
            cors_origins: cors_origins(resolved),
            log_format: log_format(resolved),
            log_filter: resolved.log_filter("log-filter"),
            access_log: resolved.switch("access-log"),
            docs: resolved.switch("docs"),
            faults: faults(resolved),
            debug: resolved.switch("debug"),
        }
    }
}

fn environment(resolved: &Resolved) -> Environment {
    match resolved.choice("env") {
        Some("production") => Environment::Production,
        _ => Environment::Development,
    }
}

/// What systemd made for the service has it, else in development the project; unless it is somewhere
/// else, or off.
pub(super) fn control(resolved: &Resolved) -> Option<PathBuf> {
    if resolved.found.contains_key("control") {
        return resolved.path("control");
    }
    let development = || match environment(resolved) {
        Environment::Development => Some(DEVELOPMENT_FOLDER.into()),
        Environment::Production => None,
    };
    let folder = resolved.runtime_folder.clone().or_else(development);
    folder.map(|folder| folder.join("control.sock"))
}

/// In development the port after the API's, on loopback, unless there is none or it is off.
fn admin_bind(
    resolved: &Resolved,
    bind: SocketAddr,
    environment: Environment,
) -> Option<SocketAddr> {
    let next_port = || bind.port().checked_add(1).filter(|_| bind.port() != 0);
    match environment {
        _ if resolved.found.contains_key("admin-bind") => resolved.address("admin-bind"),
        Environment::Development => next_port().map(|port| (Ipv4Addr::LOCALHOST, port).into()),
        Environment::Production => None,
    }
}

fn database(resolved: &Resolved) -> Database {
    match resolved.value("database-url") {
        Value::Database(url) => Database::Url(url.clone()),
        _ => Database::Embedded,
    }
}

/// Of settings that need not be right: the default where this one is wrong.
pub(super) fn item_writes(resolved: &Resolved) -> ItemWrites {
    match resolved.values.get("item-writes") {
        Some(Value::Choice("anyone")) => ItemWrites::Anyone,
        _ => ItemWrites::Owner,
    }
}

fn cors_origins(resolved: &Resolved) -> Vec<String> {
    match resolved.value("cors-origins") {
        Value::Origins(origins) => origins.clone(),
        _ => Vec::new(),
    }
}

fn log_format(resolved: &Resolved) -> Option<LogFormat> {
    resolved.choice("log-format").map(|word| match word {
        "json" => LogFormat::Json,
        _ => LogFormat::Pretty,
    })
}

fn faults(resolved: &Resolved) -> Option<Faults> {
    match resolved.value("faults") {
        Value::Faults(faults) => Some(faults.clone()),
        _ => None,
    }
}

/// Values by the type that the table gives them.
///
/// **Panics** when the table says otherwise; a test reads every field.
impl Resolved {
    fn value(&self, name: &str) -> &Value {
        self.values.get(name).expect("no problem, so every setting has a value")
    }

    fn whole(&self, name: &str) -> usize {
        match self.value(name) {
            Value::Whole(number) => *number,
            other => panic!("{name} is {other:?}"),
        }
    }

    fn time(&self, name: &str) -> Duration {
        match self.value(name) {
            Value::Time(time) => *time,
            other => panic!("{name} is {other:?}"),
        }
    }

    fn switch(&self, name: &str) -> bool {
        match self.value(name) {
            Value::Switch(switch) => *switch,
            other => panic!("{name} is {other:?}"),
        }
    }

    fn log_filter(&self, name: &str) -> String {
        match self.value(name) {
            Value::LogFilter(filter) => filter.clone(),
            other => panic!("{name} is {other:?}"),
        }
    }

    fn choice(&self, name: &str) -> Option<&'static str> {
        match self.value(name) {
            Value::Choice(word) => Some(word),
            _ => None,
        }
    }

    fn address(&self, name: &str) -> Option<SocketAddr> {
        match self.value(name) {
            Value::Address(address) => Some(*address),
            _ => None,
        }
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        match self.value(name) {
            Value::Path(path) => Some(path.clone()),
            _ => None,
        }
    }

    fn secret(&self, name: &str) -> Option<SecretString> {
        match self.value(name) {
            Value::Secret(secret) => Some(secret.clone()),
            _ => None,
        }
    }
}
