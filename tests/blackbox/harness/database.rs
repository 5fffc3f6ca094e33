//! Databases of tests, and plain SQL for looking into them.
//!
//! Each test has a [`Database`] of its own, cloned from a template that was migrated once by the
//! library that migrates everywhere else.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use migrations::Access;
use peace::embedded::Binaries;
use tokio::runtime::{self, Runtime};
use tokio_postgres::types::{FromSql, ToSql};
use tokio_postgres::{Client, Config, NoTls, Row, Statement};

use super::cluster::Cluster;
use super::turn::Turn;
use super::wait::until_true;

const TEMPLATE: &str = "peace_template";

/// One test's database.
pub(crate) struct Database<'a> {
    name: String,
    cluster: &'a Cluster,
}

impl Database<'static> {
    /// At head, empty, in the shared cluster.
    pub(crate) fn new(_turn: &Turn) -> Self {
        Self::migrated_in(Cluster::shared())
    }

    /// Without any table, in the shared cluster.
    pub(crate) fn blank(_turn: &Turn) -> Self {
        Self::blank_in(Cluster::shared())
    }
}

impl<'a> Database<'a> {
    /// Without any table, in `cluster`.
    pub(crate) fn blank_in(cluster: &'a Cluster) -> Self {
        Self::copy_of("template1", cluster)
    }

    /// At head, empty, in `cluster`.
    pub(crate) fn migrated_in(cluster: &'a Cluster) -> Self {
        cluster.make_template();
        Self::copy_of(TEMPLATE, cluster)
    }

    fn copy_of(template: &str, cluster: &'a Cluster) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let maintenance = Sql::connect(&cluster.url("postgres")).expect("the cluster answers");
        maintenance.run(&format!("create database {name} template {template}"));
        Self { name, cluster }
    }

    /// The same database on another server, which has copied it.
    pub(crate) fn on<'b>(&self, cluster: &'b Cluster) -> Database<'b> {
        Database { name: self.name.clone(), cluster }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn url(&self) -> String {
        self.cluster.url(&self.name)
    }

    /// The same for the library of migrations.
    pub(crate) fn access(&self) -> Access {
        access(&self.url())
    }

    /// The schema as `pg_dump` writes it, without the marks that are new in every dump.
    pub(crate) fn dump(&self) -> String {
        let server = Binaries::find(None).expect("PostgreSQL is installed");
        let mut command = Command::new(server.postgres.with_file_name("pg_dump"));
        let dumped = command.args(["--schema-only", "--dbname", &self.url()]).output();
        let dumped = dumped.expect("PostgreSQL's own pg_dump is beside it");
        assert!(dumped.status.success(), "{dumped:?}");
        let text = String::from_utf8(dumped.stdout).expect("it prints UTF-8");
        let is_mark =
            |line: &&str| line.starts_with("\\restrict") || line.starts_with("\\unrestrict");
        let lines = text.lines().filter(|line| !is_mark(line));
        lines.map(|line| format!("{line}\n")).collect()
    }

    /// Makes a session of this user that has the user's id, for the tokens of `jwt`.
    pub(crate) fn add_session(&self, user: &str) {
        self.sql().run(&format!(
            "insert into session (id, user_id, family_hash, token_hash, expires)
             values ('{user}', '{user}', uuid_send('{user}'), '', now() + interval '30 days')"
        ));
    }

    /// A session in this database.
    pub(crate) fn sql(&self) -> Sql {
        Sql::connect(&self.url()).expect("the cluster answers")
    }

    /// Waits until no session of the program is at work: a statement may be answered a little before
    /// `pg_stat_statements` has counted it.
    pub(crate) fn await_counted(&self) {
        let beside = self.sql_beside();
        until_true("sessions at rest", Duration::from_secs(10), || {
            let busy = "select count(*) from pg_stat_activity where datname = $1 \
                and application_name like 'peace/%' and state <> 'idle'";
            beside.value::<i64>(busy, &[&self.name]) == 0
        });
    }

    /// Waits until the program has so many sessions, and none prepares its statements any more: such a one
    /// would wait for a lock, too.
    pub(crate) fn await_warm(&self, sessions: usize) {
        let idle = "select count(*) from pg_stat_activity where datname = $1 \
            and application_name like 'peace/%' and state = 'idle' \
            and state_change < now() - interval '300 ms'";
        let beside = self.sql_beside();
        until_true("the pool is warm", Duration::from_secs(20), || {
            beside.value::<i64>(idle, &[&self.name]) == sessions as i64
        });
    }

    /// Waits until so many of the program's sessions wait for a lock.
    pub(crate) fn await_waiting(&self, sessions: usize) {
        let waiting = "select count(*) from pg_stat_activity where datname = $1 \
            and wait_event_type = 'Lock' and application_name like 'peace/%'";
        let beside = self.sql_beside();
        until_true("sessions wait for a lock", Duration::from_secs(10), || {
            beside.value::<i64>(waiting, &[&self.name]) == sessions as i64
        });
    }

    /// A session beside it, whose statements do not count as this database's.
    pub(crate) fn sql_beside(&self) -> Sql {
        Sql::connect(&self.cluster.url("postgres")).expect("the cluster answers")
    }
}

/// Migrates a new database that others are copied from.
pub(super) fn make_template(cluster: &Cluster) {
    let maintenance = Sql::connect(&cluster.url("postgres")).expect("the cluster answers");
    maintenance.run(&format!("create database {TEMPLATE}"));
    maintenance.run("create extension if not exists pg_stat_statements");
    migrate(&cluster.url(TEMPLATE));
}

/// Brings a database to head.
fn migrate(url: &str) {
    let chain = migrations::embedded().expect("the revisions are well formed");
    let options = migrations::Options::new(chain);
    let access = access(url);
    let work = async {
        migrations::upgrade(&access, &migrations::Target::Head, &options, &mut |_| ()).await
    };
    event_loop().block_on(work).expect("the template can be migrated");
}

fn access(url: &str) -> Access {
    url.parse::<Config>().expect("a URL of our own").into()
}

/// For a few calls of asynchronous code.
pub(crate) fn event_loop() -> Runtime {
    runtime::Builder::new_current_thread().enable_all().build().expect("an event loop")
}

/// A session, used from ordinary code.
pub(crate) struct Sql {
    client: Client,
    event_loop: Runtime,
}

impl Sql {
    pub(crate) fn connect(url: &str) -> Result<Self, tokio_postgres::Error> {
        let event_loop = event_loop();
        let client = event_loop.block_on(async {
            let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
            // Ends with the client; its errors reach the client too.
            tokio::spawn(async move { drop(connection.await) });
            Ok(client)
        })?;
        Ok(Self { client, event_loop })
    }

    /// Runs statements without parameters.
    pub(crate) fn run(&self, statements: &str) {
        let ran = self.event_loop.block_on(self.client.batch_execute(statements));
        ran.unwrap_or_else(|error| panic!("{statements}: {:?}", error.as_db_error()));
    }

    /// Runs a statement that the server has to refuse.
    pub(crate) fn fails(&self, statement: &str) {
        let ran = self.event_loop.block_on(self.client.batch_execute(statement));
        assert!(ran.is_err(), "{statement}");
    }

    pub(crate) fn rows(&self, statement: &str, params: &[&(dyn ToSql + Sync)]) -> Vec<Row> {
        let rows = self.event_loop.block_on(self.client.query(statement, params));
        rows.unwrap_or_else(|error| panic!("{statement}: {:?}", error.as_db_error()))
    }

    /// What a statement would give, without running it.
    pub(crate) fn prepare(&self, statement: &str) -> Result<Statement, tokio_postgres::Error> {
        self.event_loop.block_on(self.client.prepare(statement))
    }

    /// The first column of the one row.
    pub(crate) fn value<T>(&self, statement: &str, params: &[&(dyn ToSql + Sync)]) -> T
    where
        T: for<'a> FromSql<'a>,
    {
        let rows = self.rows(statement, params);
        assert_eq!(rows.len(), 1, "{statement}");
        rows[0].get(0)
    }
}
