//! One cluster: how it is made, served and reached.
//!
//! Answers with commands; who runs them, and for how long, is the caller's affair. Source: the
//! PostgreSQL manual on initdb, on postgres, and on shutting down the server.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollTimeout, poll};
use nix::unistd::{setgid, setgroups, setuid};
use tokio_postgres::Config;

use super::{Binaries, EmbeddedError, Owner, Place};

/// The user of the cluster, and the name of its database: one that SQL does not have to quote.
const NAME: &str = env!("CARGO_CRATE_NAME");

/// How long what a killed copy has left may hold the lock before a new one gives up.
const LOCK_WAIT: Duration = Duration::from_millis(1_500);
const LOCK_POLL_MS: u16 = 25;

/// A cluster, made or not.
#[derive(Debug, Clone)]
pub struct Cluster {
    binaries: Binaries,
    place: Place,
    /// Where initdb works in this attempt. The children of one supervisor agree on it.
    sibling: PathBuf,
}

/// Held by the one program that may run this cluster's server.
#[derive(Debug)]
pub struct Lock(File);

/// What a server is started with.
#[derive(Debug, Clone)]
pub struct Tuning {
    /// Connections it accepts.
    pub connections_max: usize,
    /// Further settings, as postgres' own `-c` takes them: `("fsync", "off")`.
    pub settings: Vec<(&'static str, &'static str)>,
}

impl Lock {
    /// Of a descriptor that shares it.
    #[must_use]
    pub fn adopt(left: OwnedFd) -> Self {
        Self(left.into())
    }

    /// A descriptor that shares it.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub fn share(&self) -> io::Result<OwnedFd> {
        Ok(self.0.try_clone()?.into())
    }

    /// Lets a program that this process execs hold it, too.
    ///
    /// # Errors
    /// When the system refuses; it never does.
    pub fn hand_on(&self) -> io::Result<()> {
        fcntl(&self.0, FcntlArg::F_SETFD(FdFlag::empty()))?;
        Ok(())
    }
}

impl Cluster {
    /// The cluster at `place`, served by the newest installed server, or by the one that made it.
    ///
    /// # Errors
    /// When no fitting server is installed.
    pub fn new(place: Place) -> Result<Self, EmbeddedError> {
        let made_by = fs::read_to_string(place.data.join("PG_VERSION")).ok();
        let made_by = made_by.and_then(|text| text.trim().parse().ok());
        let binaries = match (Binaries::find(made_by), made_by) {
            (Err(EmbeddedError::NotInstalled), Some(made_by)) => {
                let data = place.data.display().to_string();
                Err(EmbeddedError::OtherVersion { data, made_by })
            }
            (found, _) => found,
        }?;
        let sibling = place.data.with_extension(format!("new.{}", process::id()));
        Ok(Self { binaries, place, sibling })
    }

    /// Where it keeps its files.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Takes the cluster for this process and the children that [`Lock::hand_on`] it, initdb and the
    /// server, until the last of them is gone. Blocks for up to 1.5 s: what a killed copy has left needs a moment.
    ///
    /// # Errors
    /// When another program has it.
    pub fn lock(&self) -> Result<Lock, EmbeddedError> {
        let path = self.place.base().join("lock");
        let file = self.place.open(&path)?;
        let refused =
            |source: io::Error| EmbeddedError::files(format!("lock {}", path.display()))(source);
        let started = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Lock(file)),
                Err(TryLockError::Error(error)) => return Err(refused(error)),
                Err(TryLockError::WouldBlock) if started.elapsed() >= LOCK_WAIT => {
                    return Err(EmbeddedError::InUse {
                        data: self.place.data.display().to_string(),
                    });
                }
                // A signal ends the pause early, and that is as good.
                Err(TryLockError::WouldBlock) => {
                    let _ = poll(&mut [], PollTimeout::from(LOCK_POLL_MS));
                }
            }
        }
    }

    /// Whether the data folder is there; it is whole, then.
    #[must_use]
    pub fn is_made(&self) -> bool {
        self.place.data.join("PG_VERSION").is_file()
    }

    /// The command that makes the data, in a sibling of its folder. [`Cluster::adopt`] comes after.
    ///
    /// # Errors
    /// When the sibling cannot be made.
    pub fn initdb(&self) -> Result<Command, EmbeddedError> {
        self.remove_interrupted_attempts();
        self.place.make_sibling(&self.sibling)?;
        let mut command = Command::new(&self.binaries.initdb);
        command
            .args(["--username", NAME, "--encoding", "UTF8", "--no-locale"])
            // The socket's folder is closed to everybody else; there is no other way in.
            .args(["--auth", "trust", "--no-instructions", "--pgdata"])
            .arg(&self.sibling);
        self.settle(&mut command)?;
        Ok(command)
    }

    /// Puts the data that initdb has made in its place.
    ///
    /// # Errors
    /// When the folder cannot be renamed.
    pub fn adopt(&self) -> Result<(), EmbeddedError> {
        if self.is_made() {
            return Ok(());
        }
        let what = format!("rename {}", self.sibling.display());
        fs::rename(&self.sibling, &self.place.data).map_err(EmbeddedError::files(what))
    }

    /// The command that serves the data. It ends in good order at INT, and at once, with the data
    /// safe, at QUIT.
    ///
    /// # Errors
    /// When its log cannot be opened.
    pub fn server(&self, tuning: &Tuning) -> Result<Command, EmbeddedError> {
        let mut command = Command::new(&self.binaries.postgres);
        command.arg("-D").arg(&self.place.data);
        let socket = self.place.socket.display().to_string();
        let connections_max = tuning.connections_max.to_string();
        let ours = [
            ("listen_addresses", ""),
            ("unix_socket_directories", &socket),
            ("unix_socket_permissions", "0700"),
            ("max_connections", &connections_max),
        ];
        for (name, value) in ours.iter().chain(&tuning.settings) {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        self.settle(&mut command)?;
        Ok(command)
    }

    /// What clients need to connect, for a tokio-postgres configuration.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("host={} user={NAME} dbname={database}", self.place.socket.display())
    }

    /// The database that the application uses. It has to be created.
    #[must_use]
    pub fn database(&self) -> &'static str {
        NAME
    }

    /// Makes this process the user that the server runs as, if that is another one.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn become_owner(&self) -> Result<(), EmbeddedError> {
        let Some(Owner { uid, gid }) = self.place.owner else { return Ok(()) };
        let become_owner = || {
            setgroups(&[gid])?;
            setgid(gid)?;
            setuid(uid)
        };
        become_owner().map_err(EmbeddedError::files("drop the privileges of root"))
    }

    /// Lets `command` drop the privileges of root itself. For a caller that stays who it is.
    pub fn run_as_owner(&self, command: &mut Command) {
        if let Some(Owner { uid, gid }) = self.place.owner {
            command.uid(uid.as_raw()).gid(gid.as_raw());
        }
    }

    /// Where a command works, where its words go, and what it knows of our environment: nothing that
    /// could be a secret, or was meant for another server (PGDATA, PGOPTIONS, ...).
    fn settle(&self, command: &mut Command) -> Result<(), EmbeddedError> {
        let log = self.place.open(&self.place.log)?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command.current_dir(self.place.base()).env_clear();
        command.envs(std::env::vars_os().filter(|(name, _)| is_harmless(name.as_encoded_bytes())));
        Ok(())
    }

    /// What killed starts have left. Nothing works there any more, since we hold the lock; what stays
    /// all the same is in nobody's way.
    fn remove_interrupted_attempts(&self) {
        let is_attempt = |path: &Path| {
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            name == b"postgres.new" || name.starts_with(b"postgres.new.")
        };
        let entries = fs::read_dir(self.place.base()).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()).filter(|path| is_attempt(path)) {
            let _ = fs::remove_dir_all(path);
        }
    }
}

/// How to reach the application's database in the cluster of the project in `folder`; `None` when no
/// server answers there. Makes nothing.
///
/// # Errors
/// When the folder cannot be found.
pub fn answering(folder: &Path) -> Result<Option<Config>, EmbeddedError> {
    let reach = |socket: PathBuf| {
        let mut config = Config::new();
        config.host_path(socket).user(NAME).dbname(NAME);
        config
    };
    Ok(Place::answering_socket(folder)?.map(reach))
}

fn is_harmless(name: &[u8]) -> bool {
    matches!(name, b"PATH" | b"HOME" | b"LANG" | b"TZ") || name.starts_with(b"LC_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(folder: &Path) -> Cluster {
        Cluster::new(Place::inside(&folder.join("cluster")).unwrap()).unwrap()
    }

    #[test]
    fn what_an_interrupted_attempt_left_is_in_nobody_s_way() {
        let folder = tempfile::tempdir().unwrap();
        let cluster = cluster(folder.path());
        let old = cluster.place().base().join("postgres.new.1");
        fs::create_dir_all(old.join("base")).unwrap();
        let ours = cluster.sibling.clone();
        fs::create_dir_all(ours.join("base")).unwrap();
        cluster.initdb().unwrap();
        assert!(!old.exists() && fs::read_dir(ours).unwrap().next().is_none());
    }

    #[test]
    fn only_one_has_the_cluster_and_what_it_executes_has_it_too() {
        let folder = tempfile::tempdir().unwrap();
        let cluster = cluster(folder.path());
        let lock = cluster.lock().unwrap();
        assert!(matches!(cluster.lock(), Err(EmbeddedError::InUse { .. })));
        // Holds the lock for as long as its input is open.
        lock.hand_on().unwrap();
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        drop(lock);
        assert!(matches!(cluster.lock(), Err(EmbeddedError::InUse { .. })));
        drop(child.stdin.take());
        child.wait().unwrap();
        cluster.lock().unwrap();
    }

    #[test]
    fn a_server_knows_none_of_our_secrets() {
        for name in ["DATABASE_URL", "JWT_SECRET_KEY", "PGDATA", "PGOPTIONS", "PATHS", "LANGUAGE"] {
            assert!(!is_harmless(name.as_bytes()), "{name}");
        }
        assert!(is_harmless(b"LC_ALL") && is_harmless(b"PATH"));
    }
}
