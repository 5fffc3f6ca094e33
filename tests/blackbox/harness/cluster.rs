//! A throw-away PostgreSQL: the system's server on fresh data, made by the application's own code.
//!
//! One is shared by all tests of the process; a test that stops its server has one of its own. Its
//! life is tied to ours without a signal handler or an exit hook: a shell runs the server and waits
//! on a pipe whose other end only we hold. At end of file (we are gone, however that came about) it
//! stops the server and removes the folder.

use std::fs::{self, Permissions};
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

use nix::unistd::chown;
use peace::embedded::{self, Binaries, Place, Tuning};

use super::certificates::Shown;
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
const ACCESS: &str =
    "local all locked scram-sha-256\nlocal all all trust\nlocal replication all trust\n";
/// The same over the network, where nobody comes in in clear if there is TLS.
const ACCESS_BY_TLS: &str = "hostssl all locked 127.0.0.1/32 scram-sha-256\n\
    hostssl all shown 127.0.0.1/32 cert\nhostssl all all 127.0.0.1/32 trust\n";
const ACCESS_IN_CLEAR: &str = "hostnossl all all 127.0.0.1/32 trust\n";
/// The port in the name of a socket, unless told.
const PORT: u16 = 5432;

static SHARED: LazyLock<Cluster> = LazyLock::new(|| Cluster::start(&[]));

/// A running, or for the moment stopped, cluster.
pub(crate) struct Cluster {
    cluster: embedded::Cluster,
    connections_max: usize,
    settings: Vec<(&'static str, &'static str)>,
    port: u16,
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
        let new = Self::new(1000, usual(settings), PORT);
        new.make();
        new.resume();
        new
    }

    /// A new one that accepts only a few connections.
    pub(crate) fn start_small(connections_max: usize) -> Self {
        let new = Self::new(connections_max, vec![("fsync", "off")], PORT);
        new.make();
        new.resume();
        new
    }

    /// A new one that listens on 127.0.0.1, too; what it shows there makes it speak TLS.
    pub(crate) fn start_on_tcp(shown: Option<&Shown>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let text = port.to_string().leak();
        let ssl = if shown.is_some() { "on" } else { "off" };
        let settings = usual(&[("listen_addresses", "127.0.0.1"), ("port", text), ("ssl", ssl)]);
        let new = Self::new(1000, settings, port);
        new.make();
        let by_network = if shown.is_some() { ACCESS_BY_TLS } else { ACCESS_IN_CLEAR };
        new.write("pg_hba.conf", &format!("{ACCESS}{by_network}"));
        if let Some(Shown { certificate, key, authority }) = shown {
            new.write("server.crt", certificate);
            new.write("server.key", key);
            new.write("authority.crt", authority);
            new.write("postgresql.auto.conf", "ssl_ca_file = 'authority.crt'\n");
        }
        drop(listener);
        new.resume();
        new
    }

    /// A standby that follows `primary`, with all that is in it now.
    pub(crate) fn standby_of(primary: &Self) -> Self {
        let new = Self::new(primary.connections_max, primary.settings.clone(), PORT);
        let server = Binaries::find(None).expect("PostgreSQL is installed");
        let mut copy = Command::new(server.postgres.with_file_name("pg_basebackup"));
        copy.args(["--dbname", &primary.url("postgres"), "--checkpoint", "fast", "--no-sync"]);
        copy.args(["--write-recovery-conf", "--pgdata"]).arg(&new.cluster.place().data);
        copy.current_dir(new.cluster.place().base());
        new.cluster.run_as_owner(&mut copy);
        let copied = copy.output().expect("PostgreSQL's own pg_basebackup is beside it");
        assert!(copied.status.success(), "{copied:?}");
        new.resume();
        new
    }

    fn new(connections_max: usize, settings: Vec<(&'static str, &'static str)>, port: u16) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("peace-pg-{}-{number}", process::id()));
        let place = Place::inside(&folder).expect("a place for the cluster");
        let cluster = embedded::Cluster::new(place).expect("PostgreSQL is installed");
        Self {
            cluster,
            connections_max,
            settings,
            port,
            keeper: Mutex::new(None),
            template: Once::new(),
        }
    }

    fn make(&self) {
        let mut initdb = self.cluster.initdb().expect("nothing is in the way of initdb");
        self.cluster.run_as_owner(&mut initdb);
        let made = initdb.arg("--no-sync").status().expect("initdb runs");
        assert!(made.success(), "initdb failed: {}", self.log());
        self.cluster.adopt().expect("the data is in its place");
        self.write("pg_hba.conf", ACCESS);
    }

    /// Writes a file among the data, for the server's eyes only.
    fn write(&self, name: &str, content: &str) {
        let place = self.cluster.place();
        let path = place.data.join(name);
        fs::write(&path, content).expect("the data can be written");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("it is ours");
        if let Some(owner) = place.owner {
            chown(&path, Some(owner.uid), Some(owner.gid)).expect("we are root");
        }
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
        let url = self.cluster.url(database);
        if self.port == PORT { url } else { format!("{url} port={}", self.port) }
    }

    /// Its socket.
    pub(crate) fn socket(&self) -> String {
        format!("{}/.s.PGSQL.{}", self.socket_folder(), self.port)
    }

    /// The folder of its socket.
    pub(crate) fn socket_folder(&self) -> String {
        self.cluster.place().socket.display().to_string()
    }

    /// Where it listens, of those that do.
    pub(crate) fn port(&self) -> u16 {
        self.port
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

/// What makes a server fast and observable, and more.
fn usual(more: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    let mut all = vec![
        ("fsync", "off"),
        ("shared_preload_libraries", "pg_stat_statements"),
        ("log_line_prefix", "%d|%a|"),
    ];
    all.extend(more);
    all
}

impl Drop for Cluster {
    fn drop(&mut self) {
        match self.keeper().take() {
            Some(mut keeper) => {
                drop(keeper.stdin.take());
                keeper.wait().expect("the keeper is our child");
            }
            // Stopped for good: another process may get our number, and would find its data.
            None => drop(fs::remove_dir_all(self.cluster.place().base())),
        }
    }
}
