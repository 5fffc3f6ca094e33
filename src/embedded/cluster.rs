//! One cluster: how it is made, served and reached.
//!
//! Answers with commands; who runs them, and for how long, is the caller's affair. Source: the
//! PostgreSQL manual on initdb, on postgres, and on shutting down the server.

use std::fs::{self, File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{setgid, setgroups, setuid};

use super::{Binaries, EmbeddedError, Owner, Place};

/// The user of the cluster, and the name of its database.
const NAME: &str = "peace";

/// A cluster, made or not.
#[derive(Debug, Clone)]
pub struct Cluster {
    binaries: Binaries,
    place: Place,
}

/// Held by the one program that may run this cluster's server.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code, reason = "held, not read: closing it unlocks")] Flock<File>);

/// What a server is started with.
#[derive(Debug, Clone)]
pub struct Tuning {
    /// Connections it accepts.
    pub connections_max: usize,
    /// Further settings, as postgres' own `-c` takes them: `("fsync", "off")`.
    pub settings: Vec<(&'static str, &'static str)>,
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
        Ok(Self { binaries, place })
    }

    /// Where it keeps its files.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Takes the cluster for this process and its children, until the last of them is gone.
    ///
    /// # Errors
    /// When another program has it.
    pub fn lock(&self) -> Result<Lock, EmbeddedError> {
        let path = self.place.base().join("lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(EmbeddedError::files(format!("open {}", path.display())))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Lock(lock)),
            Err((_, Errno::EWOULDBLOCK)) => {
                Err(EmbeddedError::InUse { data: self.place.data.display().to_string() })
            }
            Err((_, refused)) => {
                Err(EmbeddedError::files(format!("lock {}", path.display()))(refused))
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
    /// When what an interrupted attempt left behind cannot be removed.
    pub fn initdb(&self) -> Result<Command, EmbeddedError> {
        let sibling = self.sibling();
        if sibling.exists() {
            let what = format!("remove {}", sibling.display());
            fs::remove_dir_all(&sibling).map_err(EmbeddedError::files(what))?;
        }
        let mut command = Command::new(&self.binaries.initdb);
        command
            .args(["--username", NAME, "--encoding", "UTF8", "--no-locale"])
            // The socket's folder is closed to everybody else; there is no other way in.
            .args(["--auth", "trust", "--no-instructions", "--pgdata"])
            .arg(sibling);
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
        let what = format!("rename {}", self.sibling().display());
        fs::rename(self.sibling(), &self.place.data).map_err(EmbeddedError::files(what))
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

    /// Where a command works, and where its words go.
    fn settle(&self, command: &mut Command) -> Result<(), EmbeddedError> {
        let path = &self.place.log;
        let log = OpenOptions::new().create(true).append(true).open(path);
        let log = log.map_err(EmbeddedError::files(format!("open {}", path.display())))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command.current_dir(self.place.base());
        // The caller's own database variables (PGDATA, PGOPTIONS, …) are not meant for this server.
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG"))
        {
            command.env_remove(name);
        }
        Ok(())
    }

    fn sibling(&self) -> std::path::PathBuf {
        self.place.data.with_extension("new")
    }
}
