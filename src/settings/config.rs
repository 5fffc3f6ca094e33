//! The settings as the program reads them: one plain struct, checked, with units in its types.
//!
//! `load` makes it from the values of `resolve`; `main` hands its parts to the supervisor, the
//! workers and the application. Nothing in it prints a secret. It does not know where a value is
//! from.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use supervisor::Bind;
use worker::Collector;

use super::database::DatabaseUrl;
use super::faults::Faults;
use super::resolve::Resolved;
use super::value::Value;
use crate::addresses::Network;

/// Where development keeps what it makes.
const DEVELOPMENT_FOLDER: &str = ".peace";

/// What one start of the program is to do.
#[derive(Debug, Clone)]
pub struct Config {
    /// Worker processes: 1 to 256.
    pub workers: usize,
    /// Where the API is. Port 0 lets the system choose one.
    pub bind: Bind,
    /// The control socket; `None` turns it off.
    pub control: Option<PathBuf>,
    /// Whether somebody named the control socket: a start without it is refused then.
    pub control_is_given: bool,
    /// Who the children are to be, by name or number.
    pub user: Option<String>,
    /// And their group.
    pub group: Option<String>,
    /// The file that holds the supervisor's process id.
    pub pid_file: Option<PathBuf>,
    /// Address of metrics and status; `None` turns them off.
    pub admin_bind: Option<SocketAddr>,
    /// Whether somebody named that address: a start without it is refused then.
    pub admin_bind_is_given: bool,
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
    /// Whether passwords may be guessed so often and no more.
    pub login_limits: bool,
    /// Whose word about the client's address counts.
    pub trusted_proxies: Vec<Network>,
    /// A refresh token that is used again within this time does not end its session.
    pub refresh_grace: Duration,
    /// Between two looks for expired rows.
    pub housekeeping: Duration,
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
    /// Requests after which a worker is replaced.
    pub max_requests: Option<usize>,
    /// And up to so many more.
    pub max_requests_jitter: Option<usize>,
    /// Memory with which a worker is replaced.
    pub max_rss_bytes: Option<u64>,
    /// Age at which a worker is replaced.
    pub max_lifetime: Option<Duration>,
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
    /// The file that log lines go to; `None` is the standard error stream.
    pub log_file: Option<PathBuf>,
    /// Which log lines are written, in the syntax of `RUST_LOG`; known to be well-formed.
    pub log_filter: String,
    /// Who takes traces of requests; `None`: nobody.
    pub collector: Option<Collector>,
    /// The part of the requests that is traced where the caller says nothing.
    pub trace_sample: f64,
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
        let bind = bind(resolved).expect("--bind cannot be off");
        let backlog = u32::try_from(resolved.whole("backlog")).expect("the table caps it");
        Self {
            workers: resolved.whole("workers"),
            admin_bind: admin_bind(resolved, &bind, environment),
            bind,
            control: control(resolved),
            control_is_given: resolved.found.contains_key("control"),
            user: resolved.account("user"),
            group: resolved.account("group"),
            pid_file: resolved.path("pid-file"),
            admin_bind_is_given: resolved.found.contains_key("admin-bind"),
            environment,
            database: database(resolved),
            jwt_secret: resolved.secret("jwt-secret-key"),
            jwt_secret_previous: resolved.secret("jwt-secret-key-previous"),
            item_writes: item_writes(resolved),
            login_limits: resolved.switch("login-limits"),
            trusted_proxies: trusted_proxies(resolved),
            refresh_grace: resolved.time("refresh-grace"),
            housekeeping: resolved.time("housekeeping-interval"),
            pool_size: resolved.whole("pool-size"),
            transaction_pooler: resolved.choice("database-pooler") == Some("transaction"),
            timeout: resolved.time("timeout"),
            boot_timeout: resolved.time("boot-timeout"),
            graceful_timeout: resolved.time("graceful-timeout"),
            keepalive_grace: resolved.time("keepalive-grace"),
            shutdown_delay: resolved.time("shutdown-delay"),
            max_requests: resolved.optional_whole("max-requests"),
            max_requests_jitter: resolved.optional_whole("max-requests-jitter"),
            max_rss_bytes: resolved.optional_size("max-rss"),
            max_lifetime: resolved.optional_time("max-lifetime"),
            max_connections: resolved.whole("max-connections"),
            backlog,
            steering: resolved.switch("steering"),
            cors_origins: cors_origins(resolved),
            log_format: log_format(resolved),
            log_file: resolved.path("log-file"),
            log_filter: resolved.log_filter("log-filter"),
            collector: collector(resolved),
            trace_sample: trace_sample(resolved),
            access_log: resolved.switch("access-log"),
            docs: resolved.switch("docs"),
            faults: faults(resolved),
            debug: resolved.switch("debug"),
        }
    }
}

/// Where the server listens, if that is known.
pub(super) fn bind(resolved: &Resolved) -> Option<Bind> {
    match resolved.values.get("bind") {
        Some(Value::Address(address)) => Some(Bind::Tcp(*address)),
        Some(Value::UnixSocket(path)) => Some(Bind::Unix(path.clone())),
        _ => None,
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
fn admin_bind(resolved: &Resolved, bind: &Bind, environment: Environment) -> Option<SocketAddr> {
    let next_port = || match bind {
        Bind::Tcp(address) if address.port() != 0 => address.port().checked_add(1),
        _ => None,
    };
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

fn trusted_proxies(resolved: &Resolved) -> Vec<Network> {
    match resolved.value("trusted-proxies") {
        Value::Networks(networks) => networks.clone(),
        _ => Vec::new(),
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

fn collector(resolved: &Resolved) -> Option<Collector> {
    match resolved.value("otlp-endpoint") {
        Value::Collector(collector) => Some(collector.clone()),
        _ => None,
    }
}

fn trace_sample(resolved: &Resolved) -> f64 {
    match resolved.value("trace-sample") {
        Value::Share(share) => *share,
        other => panic!("trace-sample is {other:?}"),
    }
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

    fn optional_whole(&self, name: &str) -> Option<usize> {
        match self.value(name) {
            Value::Whole(number) => Some(*number),
            _ => None,
        }
    }

    fn optional_size(&self, name: &str) -> Option<u64> {
        match self.value(name) {
            Value::Size(bytes) => Some(*bytes),
            _ => None,
        }
    }

    fn optional_time(&self, name: &str) -> Option<Duration> {
        match self.value(name) {
            Value::Time(time) => Some(*time),
            _ => None,
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

    fn account(&self, name: &str) -> Option<String> {
        match self.value(name) {
            Value::Account(name) => Some(name.clone()),
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
