//! The database that the servers share: an embedded one for the time of the measurement, or a given
//! one. Filled with rows that are known, and asked what it saw.
//!
//! The conductor calls it. Everybody finds the same rows: what a load adds is removed before the next
//! server starts. It promises to change nothing in a database that holds somebody's rows.

mod rows;

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fs;
use std::io::Read as _;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use migrations::{Access, Options, Target};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use peace::embedded::{self, Place, Tuning};
use peace::settings::{DatabaseUrl, Wrong};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config, Row, SimpleQueryMessage};

use crate::guard::{Guard, Held};
use crate::scenario::Table;
use crate::wait::pause;

/// How long the embedded server may take until it answers.
const START: Duration = Duration::from_secs(30);
/// How long the longest statement may take: one that fills tables, or a scenario's own.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long sessions of a server that has left may take to leave.
const LEAVE: Duration = Duration::from_secs(3);
/// As much of initdb's words as is read.
const WORDS_BYTES_MAX: u64 = 64 * 1024;
/// Settings of PostgreSQL without which a measurement cannot be repeated.
const SETTINGS: [&str; 7] = [
    "fsync",
    "synchronous_commit",
    "shared_buffers",
    "max_connections",
    "wal_level",
    "work_mem",
    "max_parallel_workers_per_gather",
];

/// A database, connected.
pub(crate) struct Database {
    runtime: Runtime,
    client: Client,
    /// For the servers.
    pub(crate) url: String,
    /// In words, without a secret.
    pub(crate) description: String,
    /// The first process of its server, where we can see it.
    pub(crate) postmaster: Option<Pid>,
    own: Option<Held>,
}

/// What the database counted until now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counted {
    pub(crate) transactions: u64,
    pub(crate) deadlocks: u64,
}

/// What the database says of itself.
pub(crate) struct Portrait {
    pub(crate) version: String,
    pub(crate) settings: BTreeMap<String, String>,
}

impl Database {
    /// A new one, that is gone when we are. **Blocks** for some seconds.
    ///
    /// # Errors
    /// In one line.
    pub(crate) fn embedded(guard: &mut Guard, connections_max: usize) -> Result<Self, String> {
        let failed = |error: embedded::EmbeddedError| error.to_string();
        let place = Place::inside(&guard.folder().join("postgres")).map_err(failed)?;
        let cluster = embedded::Cluster::new(place).map_err(failed)?;
        let mut initdb = cluster.initdb().map_err(failed)?;
        cluster.run_as_owner(&mut initdb);
        run_initdb(guard, &mut initdb)?;
        cluster.adopt().map_err(failed)?;
        // Durable as a real one: writes wait for the disk.
        let tuning = Tuning { connections_max, settings: vec![("shared_buffers", "256MB")] };
        let mut server = cluster.server(&tuning).map_err(failed)?;
        cluster.run_as_owner(&mut server);
        let own = guard.spawn(server.stdin(Stdio::null()).process_group(0), Signal::SIGQUIT);
        let own = own.map_err(|error| format!("cannot run postgres: {error}"))?;
        let socket = cluster.place().socket.display().to_string();
        let runtime = event_loop()?;
        let maintenance = url_of(&socket, "postgres");
        let client = await_connection(&runtime, &maintenance)
            .map_err(|why| format!("{why}{}", last_line(&cluster.place().log)))?;
        let create = format!("create database {}", cluster.database());
        runtime.block_on(in_time(START, client.batch_execute(&create)))?;
        drop(client);
        let url = url_of(&socket, cluster.database());
        let client = await_connection(&runtime, &url)?;
        let postmaster = Some(Pid::from_raw(own.pid()));
        let description = "embedded PostgreSQL, made for this measurement".to_owned();
        let database = Self { runtime, client, url, description, postmaster, own: Some(own) };
        database.bring_to_head(&access(&database.url)?)?;
        Ok(database)
    }

    /// Somebody's, that is empty or holds nothing but what an earlier measurement has left.
    ///
    /// # Errors
    /// When it cannot be reached, or is in use.
    pub(crate) fn given(url: &str) -> Result<Self, String> {
        let access = access(url).map_err(|wrong| format!("--database-url: {wrong}"))?;
        let runtime = event_loop()?;
        let client = connect(&runtime, &access)
            .map_err(|why| format!("--database-url: cannot connect: {why}"))?;
        let description = format!("given: {}", place(&access.config));
        let url = url.to_owned();
        let mut database = Self { runtime, client, url, description, postmaster: None, own: None };
        database.refuse_somebodys()?;
        database.bring_to_head(&access)?;
        database.postmaster = database.find_postmaster();
        Ok(database)
    }

    /// Blocks until it is done, or has taken longer than anything here may.
    fn wait<T>(
        &self,
        work: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, String> {
        self.runtime.block_on(in_time(PATIENCE, work))
    }

    fn bring_to_head(&self, access: &Access) -> Result<(), String> {
        let chain = migrations::embedded().map_err(|error| error.to_string())?;
        let options = Options::new(chain);
        let work =
            async { migrations::upgrade(access, &Target::Head, &options, &mut |_| ()).await };
        let done = self.runtime.block_on(work);
        done.map(|_| ()).map_err(|error| format!("the database cannot be migrated: {error}"))
    }

    /// The parent of our session's process, if that is one of this machine.
    fn find_postmaster(&self) -> Option<Pid> {
        let backend =
            "select pg_backend_pid() where coalesce(inet_server_addr() << '127.0.0.0/8', true)";
        let backend = self.wait(self.client.query_opt(backend, &[])).ok()??;
        let backend: i32 = backend.get(0);
        let stat = fs::read_to_string(format!("/proc/{backend}/stat")).ok()?;
        let (name, rest) = stat.rsplit_once(')')?;
        let parent = rest.split_whitespace().nth(1)?.parse().ok()?;
        name.contains("postgres").then(|| Pid::from_raw(parent))
    }

    /// What this statement gives, everything as text.
    ///
    /// # Errors
    /// When the database refuses it.
    pub(crate) fn table(&self, sql: &str) -> Result<Table, String> {
        let messages = self.wait(self.client.simple_query(sql))?;
        let mut table = Table::default();
        for message in messages {
            match message {
                SimpleQueryMessage::RowDescription(columns) => {
                    table.columns = columns.iter().map(|one| one.name().to_owned()).collect();
                }
                SimpleQueryMessage::Row(row) => {
                    let cells = (0..row.len()).map(|at| row.get(at).unwrap_or_default().to_owned());
                    table.rows.push(cells.collect());
                }
                _ => {}
            }
        }
        Ok(table)
    }

    /// Connections to this database, ours apart.
    pub(crate) fn connections(&self) -> Option<u64> {
        let others = "select count(*) from pg_stat_activity \
            where datname = current_database() and pid <> pg_backend_pid()";
        self.number(others).ok()?.try_into().ok()
    }

    /// What it has counted, when the sessions of a server that left are gone, too: they report at
    /// their end. **Blocks** for up to 3 s.
    pub(crate) fn counted(&self) -> Option<Counted> {
        let started = Instant::now();
        while self.connections()? > 0 && started.elapsed() < LEAVE {
            pause();
        }
        let counted = "select xact_commit + xact_rollback, deadlocks \
            from pg_stat_database where datname = current_database()";
        let row = self.wait(self.client.query_one(counted, &[])).ok()?;
        let number = |at: usize| u64::try_from(row.get::<_, i64>(at)).ok();
        Some(Counted { transactions: number(0)?, deadlocks: number(1)? })
    }

    /// Version and settings.
    pub(crate) fn portrait(&self) -> Portrait {
        let settings = SETTINGS
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), self.text(&format!("show {name}"))?)));
        Portrait {
            version: self.text("show server_version").unwrap_or_default(),
            settings: settings.collect(),
        }
    }

    fn text(&self, sql: &str) -> Option<String> {
        self.wait(self.client.query_one(sql, &[])).ok()?.try_get(0).ok()
    }

    fn number(&self, sql: &str) -> Result<i64, String> {
        let row = self.wait(self.client.query_one(sql, &[]));
        Ok(row?.get(0))
    }

    fn rows(&self, sql: &str) -> Result<Vec<Row>, String> {
        self.wait(self.client.query(sql, &[]))
    }

    /// Ends our own server; its files go with the scratch folder.
    pub(crate) fn stop(mut self, guard: &mut Guard) {
        if let Some(mut own) = self.own.take() {
            let _ = nix::sys::signal::kill(Pid::from_raw(own.pid()), Signal::SIGQUIT);
            let _ = own.child().wait();
            guard.forget(&own);
        }
    }
}

/// For the conductor, which blocks.
pub(crate) fn event_loop() -> Result<Runtime, String> {
    Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())
}

/// Its words come through a pipe: a log could not be written when the disk is full.
fn run_initdb(guard: &mut Guard, initdb: &mut Command) -> Result<(), String> {
    let initdb = initdb.arg("--no-sync").stderr(Stdio::piped());
    let mut made = guard
        .spawn(initdb, Signal::SIGKILL)
        .map_err(|error| format!("cannot run initdb: {error}"))?;
    let mut words = Vec::new();
    if let Some(stderr) = made.child().stderr.take() {
        let _ = stderr.take(WORDS_BYTES_MAX).read_to_end(&mut words);
    }
    let status = made.child().wait();
    guard.forget(&made);
    match status.is_ok_and(|status| status.success()) {
        true => Ok(()),
        false => Err(format!("initdb failed{}", reason(&String::from_utf8_lossy(&words)))),
    }
}

/// The first line that tells an error; tidying up comes after it.
fn reason(words: &str) -> String {
    let tells = |line: &&str| ["error:", "FATAL:", "PANIC:"].iter().any(|mark| line.contains(mark));
    let line = words.lines().find(tells).or_else(|| words.lines().last());
    line.map_or_else(String::new, |line| format!("; it said: {line}"))
}

/// As every client library reads it.
fn url_of(socket: &str, database: &str) -> String {
    format!("postgresql://peace@/{database}?host={socket}")
}

fn await_connection(runtime: &Runtime, url: &str) -> Result<Client, String> {
    let access = access(url)?;
    let started = Instant::now();
    loop {
        match connect(runtime, &access) {
            Ok(client) => return Ok(client),
            Err(why) if started.elapsed() > START => {
                return Err(format!("the embedded PostgreSQL does not answer: {why}"));
            }
            Err(_) => pause(),
        }
    }
}

/// As the server reads it.
fn access(url: &str) -> Result<Access, String> {
    let url: DatabaseUrl = url.parse().map_err(|wrong: Wrong| wrong.to_string())?;
    let tls = url.tls().map_err(|error| error.to_string())?;
    Ok(Access { config: url.config().clone(), tls })
}

fn connect(runtime: &Runtime, Access { config, tls }: &Access) -> Result<Client, String> {
    let mut config = config.clone();
    config.application_name("peace-loadtest");
    runtime.block_on(worker::connect(&config, tls.as_ref(), START))
}

/// What comes of it by the deadline, failures in words.
async fn in_time<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, String> {
    match timeout(limit, work).await {
        Ok(done) => done.map_err(|error| in_words(&error)),
        Err(_) => Err(format!("PostgreSQL did not answer within {} s", limit.as_secs())),
    }
}

/// PostgreSQL's own words, where there are some; otherwise the system's.
fn in_words(error: &tokio_postgres::Error) -> String {
    match (error.as_db_error(), error.source()) {
        (Some(told), _) => told.message().to_owned(),
        (None, Some(cause)) => format!("{error}: {cause}"),
        (None, None) => error.to_string(),
    }
}

/// Where it is, as somebody would say it.
fn place(config: &Config) -> String {
    let hosts = config.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(folder) => folder.display().to_string(),
    });
    let hosts: Vec<String> = hosts.collect();
    format!("{}, database {}", hosts.join(", "), config.get_dbname().unwrap_or("?"))
}

fn last_line(log: &Path) -> String {
    let log = fs::read_to_string(log).unwrap_or_default();
    log.lines().last().map_or_else(String::new, |line| format!("; it said: {line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn initdb_fails_for_the_reason_that_it_tells_before_it_tidies_up() {
        let words = "initdb: error: could not write file \"a\": No space left on device\n\
            initdb: removing contents of data directory \"b\"\n";
        assert!(reason(words).ends_with("No space left on device"), "{}", reason(words));
        assert_eq!((reason("a\nb\n").as_str(), reason("").as_str()), ("; it said: b", ""));
    }

    #[test]
    fn initdbs_words_are_heard_where_no_log_can_be_written() {
        let mut guard = Guard::start().unwrap();
        let script = "echo 'initdb: error: no room' >&2; exit 1";
        let failed = run_initdb(&mut guard, Command::new("sh").args(["-c", script]));
        assert_eq!(failed, Err("initdb failed; it said: initdb: error: no room".to_owned()));
    }

    #[test]
    fn a_place_is_told_as_somebody_would_and_without_a_secret() {
        let told = |url: &str| place(&url.parse().unwrap());
        assert_eq!(told("postgres://ann:secret@127.0.0.1/shop"), "127.0.0.1, database shop");
        assert_eq!(told("host=/run/here dbname=shop"), "/run/here, database shop");
    }

    #[test]
    fn nobody_connects_where_nobody_listens_and_the_system_says_why() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let Err(why) = Database::given(&format!("postgres://ann@127.0.0.1:{port}/shop")) else {
            panic!("it answers")
        };
        assert!(why.contains("cannot connect") && why.contains("refused"), "{why}");
    }
}
