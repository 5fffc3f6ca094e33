//! A real pgbouncer in front of the shared cluster, in transaction mode.
//!
//! The tests of what a pooler breaks start one. It listens in the folder of the cluster's socket and
//! runs as the cluster's user, since pgbouncer refuses to run as root. A shell holds it as the
//! cluster's own does: at end of file on a pipe that only we hold, it is killed.

/// What the server does behind it.
mod serving;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use crate::harness::cluster::Cluster;
use crate::harness::database::Sql;
use crate::harness::folder::Folder;
use crate::harness::wait::until;
use crate::harness::{Database, Launch, Turn};

/// `$@` runs the pooler.
const KEEPER: &str = r#"
"$@" & pooler=$!
read -r _
kill -s KILL "$pooler"
wait "$pooler"
"#;

/// Where the system's package puts it; an ordinary user's PATH may lack the place.
const PLACES: [&str; 3] = ["/usr/sbin", "/usr/bin", "/usr/local/bin"];

/// A running pooler.
pub(crate) struct Pooler {
    /// Its socket is there.
    folder: PathBuf,
    port: u16,
    keeper: Child,
    /// Its settings, and its log.
    files: Folder,
}

impl Pooler {
    /// One that opens up to `pool_size` server connections for each user and database.
    pub(crate) fn start(pool_size: usize) -> Self {
        Self::before(Cluster::shared(), pool_size, "")
    }

    /// One that opens as many in any case, so that also a client that is alone meets another one in
    /// each transaction.
    pub(crate) fn start_rotating(pool_size: usize) -> Self {
        let more = format!("min_pool_size = {pool_size}\nserver_round_robin = 1\n");
        Self::before(Cluster::shared(), pool_size, &more)
    }

    /// One in front of `cluster`, with `more` settings.
    pub(crate) fn before(cluster: &Cluster, pool_size: usize, more: &str) -> Self {
        static PORT: AtomicU16 = AtomicU16::new(6432);
        let port = PORT.fetch_add(1, Ordering::Relaxed);
        let socket = PathBuf::from(cluster.socket());
        let folder = socket.parent().expect("a socket is in a folder").to_owned();
        let files = Folder::open_to_all();
        files.write("pgbouncer.ini", &(ini(&folder, port, pool_size) + more));
        let pooler = Self { keeper: keep(&folder, files.path()), folder, port, files };
        pooler.await_answer();
        pooler
    }

    /// Kills it.
    pub(crate) fn stop(&mut self) {
        drop(self.keeper.stdin.take());
        self.keeper.wait().expect("the keeper is our child");
    }

    /// Starts it again.
    pub(crate) fn resume(&mut self) {
        self.keeper = keep(&self.folder, self.files.path());
        self.await_answer();
    }

    fn await_answer(&self) {
        until("pgbouncer answers", Duration::from_secs(10), || {
            Sql::connect(&format!("{} user=peace dbname=postgres", self.place())).ok()
        });
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.files.path().join("log")).unwrap_or_default()
    }

    /// How to reach `database` through it, with a password that it does not ask for.
    pub(crate) fn url(&self, database: &Database<'_>, password: &str) -> String {
        format!("{} user=peace password={password} dbname={}", self.place(), database.name())
    }

    fn place(&self) -> String {
        format!("host={} port={}", self.folder.display(), self.port)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}

fn ini(folder: &Path, port: u16, pool_size: usize) -> String {
    format!(
        "[databases]\n\
         * = host={folder} user=peace\n\
         [pgbouncer]\n\
         pool_mode = transaction\n\
         default_pool_size = {pool_size}\n\
         auth_type = any\n\
         unix_socket_dir = {folder}\n\
         listen_port = {port}\n",
        folder = folder.display()
    )
}

/// Runs it in the socket's folder, as the user whom that belongs to.
fn keep(folder: &Path, files: &Path) -> Child {
    let owner = fs::metadata(folder).expect("the cluster runs");
    let log = fs::OpenOptions::new().create(true).append(true).open(files.join("log"));
    let log = log.expect("a file in our own folder");
    let program = PLACES.iter().map(|place| Path::new(place).join("pgbouncer"));
    let program = program.into_iter().find(|path| path.exists());
    let mut keeper = Command::new("sh");
    keeper.args(["-c", KEEPER, "keeper"]);
    keeper.arg(program.expect("`tests/run --all` installs pgbouncer"));
    keeper.arg(files.join("pgbouncer.ini"));
    keeper.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    keeper.current_dir(folder).process_group(0).uid(owner.uid()).gid(owner.gid());
    keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
    keeper.spawn().expect("sh runs")
}

// Case 16.
#[test]
fn a_migration_through_a_transaction_pooler_is_refused_before_it_changes_anything() {
    let turn = Turn::shared();
    for pool_size in [1, 5] {
        let database = Database::blank(&turn);
        let pooler = Pooler::start(pool_size);
        let url = pooler.url(&database, "secret-word");
        let migrate = |command: &[&str]| {
            let launch = Launch::bare(&turn).program(env!("CARGO_BIN_EXE_peace-migrate"));
            launch.env("DATABASE_URL", &url).args(command.iter().copied()).output()
        };
        for command in [
            &["upgrade", "head"][..],
            &["upgrade", "--dry-run=live"],
            &["stamp", "head"],
            &["repair", "586f"],
            &["adopt-alembic"],
        ] {
            let output = migrate(command);
            let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            assert_eq!(output.status.code(), Some(6), "pool of {pool_size}: {told}");
            assert!(told.contains("a transaction pooler stands in between"), "{told}");
            assert!(!told.contains("secret-word"), "{told}");
        }
        let tables = "select count(*) from pg_class where relnamespace = 'public'::regnamespace \
                      and relname <> 'pg_stat_statements'";
        assert_eq!(database.sql().value::<i64>(tables, &[]), 0, "pool of {pool_size}");
        let locks = "select count(*) from pg_locks where locktype = 'advisory' and database = \
                     (select oid from pg_database where datname = current_database())";
        assert_eq!(database.sql().value::<i64>(locks, &[]), 0, "the lock was given back");
        // What only reads is none of its business.
        assert!(migrate(&["current"]).status.success(), "pool of {pool_size}");
    }
}
