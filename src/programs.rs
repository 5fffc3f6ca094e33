//! The programs that run beside the workers, each in a child of the supervisor.
//!
//! With the embedded database: *initdb* (a step), *postgres* (a service), *migrate* (a step). Always:
//! *check* (a step), the last one before the port opens. `main` lists them in that order. Each function
//! here is the whole life of one forked process: it may start a runtime, block, or exec.
//! They know nothing of slots and sockets.

use std::future::Future;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use nix::libc::{SIGINT, SIGKILL, SIGQUIT};
use supervisor::{Post, ProgramKind};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_postgres::config::Host;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Config};
use tracing::{info, warn};
use worker::DbError;

use crate::embedded::{Cluster, EmbeddedError, Lock, MAJOR_MIN, Tuning};
use crate::settings::{self, DatabaseUrl};
use crate::tls::TlsError;

/// Exit code for a wrong setting (sysexits `EX_USAGE`).
pub const USAGE: u8 = 64;
/// Exit code for a database that is not there (sysexits `EX_UNAVAILABLE`).
pub const UNAVAILABLE: u8 = 69;
/// Exit code for a refusal of the system (sysexits `EX_OSERR`).
pub const REFUSED: u8 = 71;

/// Making the data files takes a second or two; a slow disk takes longer.
pub const INITDB: ProgramKind = ProgramKind::Step { timeout_ms: 120_000 };
/// INT lets PostgreSQL end its sessions and write a checkpoint.
pub const POSTGRES: ProgramKind =
    ProgramKind::Service { stop_signal: SIGINT, hurry_signal: SIGQUIT };
/// Includes the server's start, and its recovery after a crash.
pub const MIGRATE: ProgramKind = ProgramKind::Step { timeout_ms: 300_000 };
/// The one attempt and some room: a wrong setting is to be told within seconds.
pub const CHECK: ProgramKind = ProgramKind::Step { timeout_ms: 5_000 };

const CHECK_CONNECT_TIMEOUT: Duration = Duration::from_millis(2_500);
const CHECK_ANSWER_TIMEOUT: Duration = Duration::from_millis(1_500);
const SERVER_START_TIMEOUT: Duration = Duration::from_secs(120);
const SERVER_START_POLL: Duration = Duration::from_millis(50);
/// The longest text that a child's channel takes.
const TEXT_BYTES_MAX: usize = 200;

/// What the workers of this configuration need of a database server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// Workers.
    pub workers: usize,
    /// Connections of each worker's pool.
    pub pool_size: usize,
    /// Whether a pooler opens the server's sessions, so that their number is its own affair.
    pub transaction_pooler: bool,
}

impl Need {
    /// What these settings ask for.
    #[must_use]
    pub fn of(config: &settings::Config) -> Self {
        Self {
            workers: config.workers,
            pool_size: config.pool_size,
            transaction_pooler: config.transaction_pooler,
        }
    }

    /// Connections at the worst moment: one worker more than usual while another is replaced, each
    /// with its pool and one connection for its reads.
    #[must_use]
    pub fn connections(self) -> usize {
        (self.workers + 1) * (self.pool_size + 1)
    }
}

/// How to reach the application's database in `cluster`.
#[must_use]
pub fn server_of(cluster: &Cluster) -> Config {
    parse(&cluster.url(cluster.database()))
}

/// Makes the data of the embedded cluster, unless it is there: becomes initdb.
pub fn initdb(post: &Post, cluster: &Cluster, lock: &Lock) -> u8 {
    if cluster.is_made() {
        return 0;
    }
    info!(data = %cluster.place().data.display(), "making the embedded database");
    let command = cluster.initdb();
    become_command(post, cluster, lock, command, SIGKILL)
}

/// Serves the embedded cluster: becomes postgres, which ends with the supervisor whatever happens.
pub fn postgres(post: &Post, cluster: &Cluster, lock: &Lock, need: Need) -> u8 {
    // Some connections stay free for people who look around.
    let connections_max = (need.connections() + 20).max(100);
    let command = cluster
        .adopt()
        .and_then(|()| cluster.server(&Tuning { connections_max, settings: Vec::new() }));
    become_command(post, cluster, lock, command, SIGQUIT)
}

/// Execs `command` as the cluster's owner, so that `death_signal` reaches it when the supervisor dies.
fn become_command(
    post: &Post,
    cluster: &Cluster,
    lock: &Lock,
    command: Result<Command, EmbeddedError>,
    death_signal: i32,
) -> u8 {
    let attempt = || {
        let mut command = command?;
        cluster.become_owner()?;
        lock.hand_on().map_err(|source| refused("hand on the lock", source))?;
        post.die_with_supervisor(death_signal).map_err(|source| refused("outlive", source))?;
        Err(refused(&format!("run {}", command.get_program().display()), command.exec()))
    };
    match attempt() {
        Ok(never) => never,
        Err(error) => {
            let mend = format!("see {}", cluster.place().log.display());
            let Failure { code, text } =
                Failure::mendable(REFUSED, "the embedded PostgreSQL", &error.to_string(), &mend);
            post.fail(code, text)
        }
    }
}

fn refused(what: &str, source: std::io::Error) -> EmbeddedError {
    EmbeddedError::Files { what: what.to_owned(), source }
}

/// Brings the embedded database to the newest revision, as soon as its server answers.
pub fn migrate(post: &Post, cluster: &Cluster) -> u8 {
    finish(post, migrate_embedded(cluster))
}

async fn migrate_embedded(cluster: &Cluster) -> Result<(), Failure> {
    let maintenance = parse(&cluster.url("postgres"));
    let client = timeout(SERVER_START_TIMEOUT, connect_patiently(&maintenance))
        .await
        .map_err(|_| Failure::embedded(cluster, "it did not start"))?;
    let name = cluster.database();
    let exists = client.query_opt("select from pg_database where datname = $1", &[&name]).await;
    if exists.map_err(|_| Failure::embedded(cluster, "it does not answer"))?.is_none() {
        let create = client.batch_execute(&format!("create database {name}")).await;
        create.map_err(|_| Failure::embedded(cluster, "its database cannot be created"))?;
    }
    let options = migrations::Options::new(chain()?);
    let target = migrations::Target::Head;
    let mut tell = |event: migrations::Event<'_>| info!("migrate: {event}");
    let access = server_of(cluster).into();
    migrations::upgrade(&access, &target, &options, &mut tell).await.map_err(|error| {
        let mend = format!("see {}", cluster.place().log.display());
        Failure::mendable(UNAVAILABLE, "migrate", &error.to_string(), &mend)
    })?;
    Ok(())
}

/// The revisions of this program, which a template's user may have broken.
fn chain() -> Result<&'static migrations::Chain, Failure> {
    migrations::embedded().map_err(|error| {
        let mend = "correct migrations/versions and build again";
        Failure::mendable(USAGE, "migrations", &error.to_string(), mend)
    })
}

async fn connect_patiently(server: &Config) -> Client {
    let mut tries = interval(SERVER_START_POLL);
    tries.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tries.tick().await;
        if let Ok(client) = worker::connect(server, None, CHECK_CONNECT_TIMEOUT).await {
            return client;
        }
    }
}

/// Looks at the database once, before the port opens: are we let in, is it new enough, has it room?
pub fn check(post: &Post, server: &DatabaseUrl, need: Need) -> u8 {
    finish(post, check_server(server, need))
}

async fn check_server(server: &DatabaseUrl, need: Need) -> Result<(), Failure> {
    let needed = chain()?.head().id.as_str();
    let tls = server.tls().map_err(|error| bad_setting(&error))?;
    let mut config = server.config().clone();
    config.application_name("peace/check");
    let failed = |why: &str| {
        let what = format!("no connection to the database{}", place(&config));
        Failure::mendable(UNAVAILABLE, &what, why, "correct DATABASE_URL or start it")
    };
    let client = worker::connect(&config, tls.as_ref(), CHECK_CONNECT_TIMEOUT)
        .await
        .map_err(|why| failed(&why))?;
    let capacity = match timeout(CHECK_ANSWER_TIMEOUT, capacity(&client)).await {
        Ok(answer) => answer.map_err(|error| failed(&DbError::from(&error).to_string()))?,
        Err(_) => return Err(failed("it does not answer")),
    };
    capacity.check(need)?;
    tell_of_revision(&client, needed).await;
    Ok(())
}

/// What a server offers.
#[derive(Debug, Clone, Copy)]
struct Capacity {
    version: i32,
    connections_max: i32,
    reserved: i32,
    /// CONNECTION LIMIT of the role and of the database, where they have one that holds for this role.
    role_limit: Option<i32>,
    database_limit: Option<i32>,
}

impl Capacity {
    fn check(self, need: Need) -> Result<(), Failure> {
        let (major, oldest) = (self.version / 10_000, MAJOR_MIN);
        if u32::try_from(major).unwrap_or(0) < oldest {
            let text = format!("PostgreSQL {major} is too old: use {oldest} or newer");
            return Err(Failure::new(USAGE, text));
        }
        let (offered, what) = self.offered();
        let needed = need.connections();
        if need.transaction_pooler || needed <= offered {
            return Ok(());
        }
        let Need { workers, pool_size, .. } = need;
        let text = format!(
            "{workers} workers need up to {needed} connections ((workers + 1) x (pool of \
             {pool_size} + 1)), there are {offered}: lower --workers or --pool-size, or raise {what}"
        );
        Err(Failure::new(USAGE, text))
    }

    /// How many connections there are for this program at most, and what says so.
    fn offered(self) -> (usize, &'static str) {
        let limits = [
            (Some(self.connections_max - self.reserved), "max_connections"),
            (self.role_limit, "the role's CONNECTION LIMIT"),
            (self.database_limit, "the database's CONNECTION LIMIT"),
        ];
        let limits = limits.into_iter().filter_map(|(limit, what)| Some((limit?, what)));
        let (least, what) = limits.min_by_key(|(limit, _)| *limit).unwrap_or_default();
        (usize::try_from(least).unwrap_or(0), what)
    }
}

async fn capacity(client: &Client) -> Result<Capacity, tokio_postgres::Error> {
    let row = client
        // No statement is prepared here: a pooler may stand between.
        .query_typed_one(
            "select current_setting('server_version_num')::int4, \
                    current_setting('max_connections')::int4, \
                    current_setting('superuser_reserved_connections')::int4, \
                    nullif(case when not rolsuper then rolconnlimit end, -1), \
                    nullif(case when not rolsuper then datconnlimit end, -1) \
             from pg_roles, pg_database \
             where rolname = session_user and datname = current_database()",
            &[],
        )
        .await?;
    Ok(Capacity {
        version: row.get(0),
        connections_max: row.get(1),
        reserved: row.get(2),
        role_limit: row.get(3),
        database_limit: row.get(4),
    })
}

/// A schema that is behind stops nobody: the workers answer 503 until it is right. One that is ahead
/// is usual while releases overlap.
async fn tell_of_revision(client: &Client, needed: &str) {
    let answer = client.query_typed_one(migrations::READINESS_SQL, &[(&needed, Type::TEXT)]).await;
    let row = match answer.map_err(|error| DbError::from(&error)) {
        Ok(row) => Some(row),
        // Not even the table of the revisions is there.
        Err(DbError::SchemaBehind(_)) => None,
        Err(error) => return warn!(needed, %error, "the database's revision cannot be read"),
    };
    let newest = row.as_ref().and_then(|row| row.get::<_, Option<String>>(0));
    let found = newest.as_deref().unwrap_or("base");
    match row.is_some_and(|row| row.get(1)) {
        true if found == needed => {}
        true => {
            info!(needed, found, "the database is ahead of this program, which serves all the same")
        }
        false => warn!(needed, found, "the database is behind: run `peace-migrate upgrade head`"),
    }
}

/// Why a program ends the start.
struct Failure {
    code: u8,
    text: String,
}

impl Failure {
    fn new(code: u8, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    /// What failed, why, and what to do about it: in as many bytes as the channel takes. What does not
    /// fit is the end of the reason, then the middle of what failed.
    fn mendable(code: u8, what: &str, why: &str, mend: &str) -> Self {
        // Longer only when a log's path is: such a path is known by its ends.
        let mend = without_middle(mend, 3 * TEXT_BYTES_MAX / 4);
        let room = TEXT_BYTES_MAX - mend.len() - ": ".len() - "; ".len();
        let what = without_middle(what, room.saturating_sub(why.len()).max(room / 2));
        let why = without_end(why, room - what.len());
        Self::new(code, format!("{what}: {why}; {mend}"))
    }

    fn embedded(cluster: &Cluster, why: &str) -> Self {
        let mend = format!("see {}", cluster.place().log.display());
        Self::mendable(UNAVAILABLE, "the embedded PostgreSQL", why, &mend)
    }
}

/// What stands for text that was left out.
const GAP: &str = "\u{2026}";

/// `text` in at most `max` bytes.
fn without_end(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(max.saturating_sub(GAP.len()));
    format!("{}{GAP}", &text[..end])
}

/// `text` in at most `max` bytes, both of its ends among them.
fn without_middle(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let half = max.saturating_sub(GAP.len()) / 2;
    let (head, tail) = (text.floor_char_boundary(half), text.ceil_char_boundary(text.len() - half));
    format!("{}{GAP}{}", &text[..head], &text[tail..])
}

/// Runs `work` to its end in this process, and tells the supervisor why it failed.
fn finish(post: &Post, work: impl Future<Output = Result<(), Failure>>) -> u8 {
    match run(work) {
        Ok(()) => 0,
        Err(Failure { code, text }) => post.fail(code, text),
    }
}

/// Runs `work` on a runtime, which is left as it is then: a name that is still being looked up, on a
/// thread that nothing can end, holds up nobody. The process ends soon.
fn run(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Failure::new(REFUSED, format!("no event loop: {error}")))?;
    let result = runtime.block_on(work);
    runtime.shutdown_background();
    result
}

/// Our own URLs are well formed.
fn parse(url: &str) -> Config {
    url.parse().expect("the folder of a socket is a valid host")
}

/// What to correct of `DATABASE_URL`, or beside it.
fn bad_setting(error: &TlsError) -> Failure {
    Failure::new(USAGE, without_middle(&format!("DATABASE_URL: {error}"), TEXT_BYTES_MAX))
}

/// Where the server is, without user and password. Of several, each says what it has to say itself.
fn place(server: &Config) -> String {
    let host = match (server.get_hosts(), server.get_hostaddrs()) {
        ([Host::Tcp(name)], _) => name.clone(),
        ([Host::Unix(folder)], _) => folder.display().to_string(),
        ([], [address]) => address.to_string(),
        _ => return String::new(),
    };
    format!(" at {host}:{}", server.get_ports().first().copied().unwrap_or(5432))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(workers: usize, pool_size: usize) -> Need {
        Need { workers, pool_size, transaction_pooler: false }
    }

    #[test]
    fn connections_are_counted_for_the_worst_moment() {
        assert_eq!(need(4, 4).connections(), 25);
        assert_eq!(need(1, 1).connections(), 4);
    }

    #[test]
    fn a_server_is_refused_for_its_age_or_its_size() {
        let need = need(4, 4);
        let limits = Capacity {
            version: 150_018,
            connections_max: 100,
            reserved: 3,
            role_limit: None,
            database_limit: None,
        };
        let server = |version, connections_max| Capacity { version, connections_max, ..limits };
        assert!(server(150_018, 28).check(need).is_ok());
        let Err(small) = server(150_018, 27).check(need) else { panic!("one connection short") };
        assert_eq!(small.code, USAGE);
        assert!(small.text.contains("25 connections") && small.text.contains("there are 24"));
        assert!(small.text.ends_with("raise max_connections"), "{}", small.text);
        let Err(old) = server(140_002, 100).check(need) else { panic!("too old") };
        assert!(old.text.contains("PostgreSQL 14 is too old"));

        for (role_limit, database_limit, what) in [
            (Some(24), Some(30), "raise the role's CONNECTION LIMIT"),
            (None, Some(24), "raise the database's CONNECTION LIMIT"),
        ] {
            let Err(small) = (Capacity { role_limit, database_limit, ..limits }).check(need) else {
                panic!("one connection short: {what}")
            };
            assert!(small.text.ends_with(what), "{}", small.text);
        }
        assert!(Capacity { role_limit: Some(25), ..limits }.check(need).is_ok());

        let pooled = Need { transaction_pooler: true, ..need };
        assert!(server(150_018, 4).check(pooled).is_ok(), "the pooler opens as many as there are");
        assert!(server(140_002, 100).check(pooled).is_err(), "it makes no server newer");
    }

    #[test]
    fn an_address_never_shows_who_connects() {
        let server = "postgres://ann:secret@db.example:5433/x?sslmode=disable".parse().unwrap();
        assert_eq!(place(&server), " at db.example:5433");
        assert_eq!(place(&parse("host=/run/pg user=ann")), " at /run/pg:5432");
        assert_eq!(place(&parse("host=a,b user=ann")), "");
    }

    #[test]
    fn a_long_failure_keeps_both_ends_of_its_place_and_what_to_do() {
        let place = format!("the database at {}.example:5433", "long-".repeat(40));
        let failure = Failure::mendable(69, &place, &"because ".repeat(40), "start it");
        assert!(failure.text.len() <= TEXT_BYTES_MAX, "{}", failure.text.len());
        assert!(failure.text.starts_with("the database at long-"), "{}", failure.text);
        assert!(failure.text.contains(".example:5433: because"), "{}", failure.text);
        assert!(failure.text.ends_with("; start it"), "{}", failure.text);

        let short = Failure::mendable(69, "a place", "a reason", "start it");
        assert_eq!(short.text, "a place: a reason; start it");
        let umlauts = Failure::mendable(69, &"ü".repeat(300), &"é".repeat(300), "start it");
        assert!(umlauts.text.len() <= TEXT_BYTES_MAX);
        let deep = Failure::mendable(69, "what", "why", &format!("see /{}/log", "c".repeat(300)));
        assert!(deep.text.len() <= TEXT_BYTES_MAX && deep.text.ends_with("c/log"), "{}", deep.text);
    }

    /// What getaddrinfo(3) does with a name server that does not answer.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "stands for getaddrinfo, which tokio runs there")]
    fn a_thread_that_does_not_end_holds_up_no_failure() {
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let started = std::time::Instant::now();
        let failed = run(async {
            tokio::task::spawn_blocking(move || ended.recv());
            Err(Failure::new(UNAVAILABLE, "too late"))
        });
        assert!(failed.is_err() && started.elapsed() < Duration::from_secs(5));
        drop(end);
    }
}
