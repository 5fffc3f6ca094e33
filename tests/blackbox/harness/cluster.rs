//! A throw-away PostgreSQL: the system's server on fresh data, made by the application's own code.
//!
//! One is shared by all tests of the process; a test that stops its server has one of its own. Its
//! life is tied to ours without a signal handler or an exit hook: a shell runs the server and waits
//! on a pipe whose other end only we hold. At end of file (we are gone, however that came about) it
//! stops the server and removes the folder.

use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

use peace::embedded::{self, Place, Tuning};

use super::database::{self, Sql};
use super::wait::until;

/// `$1` is the cluster's folder, the rest runs its server. A line on the pipe names a signal to stop
/// the server with; at end of file the folder goes too.
const KEEPER: &str = r#"
folder=$1; shift
"$@" & server=$!
read -r signal
kill -s "${signal:-QUIT}" "$server"
wait "$server"
[ -n "$signal" ] || rm -rf "$folder"
"#;

/// Roles that have to show their password; everybody else is trusted.
const ACCESS: &str = "local all locked scram-sha-256\nlocal all all trust\n";

static SHARED: LazyLock<Cluster> = LazyLock::new(|| Cluster::start(&[]));

/// A running, or for the moment stopped, cluster.
pub(crate) struct Cluster {
    cluster: embedded::Cluster,
    connections_max: usize,
    settings: Vec<(&'static str, &'static str)>,
    keeper: Mutex<Option<Child>>,
    template: Once,
}

impl Cluster {
    /// The one that all tests share.
    pub(crate) fn shared() -> &'static Self {
        &SHARED
    }

    /// A new one, with `settings` on top of those that make it fast and observable.
    pub(crate) fn start(settings: &[(&'static str, &'static str)]) -> Self {
        let mut all = vec![
            ("fsync", "off"),
            ("shared_preload_libraries", "pg_stat_statements"),
            ("log_line_prefix", "%d|%a|"),
        ];
        all.extend(settings);
        Self::start_with(1000, all)
    }

    /// A new one that accepts only a few connections.
    pub(crate) fn start_small(connections_max: usize) -> Self {
        Self::start_with(connections_max, vec![("fsync", "off")])
    }

    fn start_with(connections_max: usize, settings: Vec<(&'static str, &'static str)>) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("peace-pg-{}-{number}", process::id()));
        let place = Place::inside(&folder).expect("a place for the cluster");
        let cluster = embedded::Cluster::new(place).expect("PostgreSQL is installed");
        let new = Self {
            cluster,
            connections_max,
            settings,
            keeper: Mutex::new(None),
            template: Once::new(),
        };
        new.make();
        new.resume();
        new
    }

    fn make(&self) {
        let mut initdb = self.cluster.initdb().expect("nothing is in the way of initdb");
        self.cluster.run_as_owner(&mut initdb);
        let made = initdb.arg("--no-sync").status().expect("initdb runs");
        assert!(made.success(), "initdb failed: {}", self.log());
        self.cluster.adopt().expect("the data is in its place");
        fs::write(self.cluster.place().data.join("pg_hba.conf"), ACCESS).expect("the access rules");
    }

    /// Stops the server in good order: sessions are ended, files are written.
    pub(crate) fn stop(&self) {
        self.end("INT");
    }

    /// Stops it as a loss of power would: at once, and nobody is told.
    pub(crate) fn crash(&self) {
        self.end("QUIT");
    }

    fn end(&self, signal: &str) {
        let mut keeper = self.keeper().take().expect("the server runs");
        let mut order = keeper.stdin.take().expect("the keeper listens");
        writeln!(order, "{signal}").expect("the keeper lives");
        keeper.wait().expect("the keeper is our child");
    }

    /// Starts the server on the data there is, and waits until it answers.
    pub(crate) fn resume(&self) {
        let tuning =
            Tuning { connections_max: self.connections_max, settings: self.settings.clone() };
        let server = self.cluster.server(&tuning).expect("the server's command");
        *self.keeper() = Some(self.keep(&server));
        until("the cluster answers", Duration::from_secs(30), || {
            Sql::connect(&self.url("postgres")).ok()
        });
    }

    /// Runs `server` under its keeper, as the user who owns the data.
    fn keep(&self, server: &Command) -> Child {
        let place = self.cluster.place();
        let log = fs::OpenOptions::new().append(true).open(&place.log).expect("its log");
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, "keeper"]).arg(place.base());
        keeper.arg(server.get_program()).args(server.get_args());
        keeper.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        keeper.current_dir(place.base()).process_group(0);
        keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        self.cluster.run_as_owner(&mut keeper);
        keeper.spawn().expect("sh runs")
    }

    /// How to connect to one of its databases.
    pub(crate) fn url(&self, database: &str) -> String {
        self.cluster.url(database)
    }

    /// The folder of its socket.
    pub(crate) fn socket(&self) -> String {
        format!("{}/.s.PGSQL.5432", self.cluster.place().socket.display())
    }

    /// What its server has logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.cluster.place().log).unwrap_or_default()
    }

    /// Migrates the template of this cluster's databases, once.
    pub(super) fn make_template(&self) {
        self.template.call_once(|| database::make_template(self));
    }

    fn keeper(&self) -> MutexGuard<'_, Option<Child>> {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(mut keeper) = self.keeper().take() {
            drop(keeper.stdin.take());
            keeper.wait().expect("the keeper is our child");
        }
    }
}
