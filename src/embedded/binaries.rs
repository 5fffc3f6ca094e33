//! Finds the system's PostgreSQL server.
//!
//! Called by [`super::Cluster`]. Debian keeps the servers of several versions side by side outside
//! PATH, Fedora has one in PATH, the PostgreSQL project's own packages use `/usr/pgsql-N`.

use std::env;
use std::fs;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::EmbeddedError;

/// How long a server may take to say its version; a program of that name that does not is none.
const VERSION_TIMEOUT: Duration = Duration::from_secs(2);
const VERSION_BYTES_MAX: usize = 256;

/// The oldest major version this project works with.
pub const MAJOR_MIN: u32 = 15;

/// The two programs that a cluster needs, of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    /// Makes a data folder.
    pub initdb: PathBuf,
    /// Serves it.
    pub postgres: PathBuf,
    /// Their major version.
    pub major: u32,
}

impl Binaries {
    /// The newest server installed, or the one of version `wanted`.
    ///
    /// # Errors
    /// When none is installed, or only ones that are too old.
    pub fn find(wanted: Option<u32>) -> Result<Self, EmbeddedError> {
        let found = folders().into_iter().filter_map(|folder| Self::in_folder(&folder));
        let found: Vec<Self> =
            found.filter(|one| wanted.is_none_or(|major| one.major == major)).collect();
        let newest = found.into_iter().max_by_key(|one| one.major);
        match newest {
            None => Err(EmbeddedError::NotInstalled),
            Some(old) if old.major < MAJOR_MIN => Err(EmbeddedError::TooOld { seen: old.major }),
            Some(newest) => Ok(newest),
        }
    }

    fn in_folder(folder: &Path) -> Option<Self> {
        let (initdb, postgres) = (folder.join("initdb"), folder.join("postgres"));
        if !folder.is_absolute() || !initdb.is_file() || !postgres.is_file() {
            return None;
        }
        let major = major(&version(&postgres)?)?;
        Some(Self { initdb, postgres, major })
    }
}

/// What `postgres --version` says; nothing when it takes too long.
fn version(postgres: &Path) -> Option<String> {
    let mut command = Command::new(postgres);
    command.arg("--version").env_clear().stdin(Stdio::null()).stderr(Stdio::null());
    let mut child = command.stdout(Stdio::piped()).spawn().ok()?;
    let said = child.stdout.take().and_then(|stdout| first_line(stdout, VERSION_TIMEOUT));
    // It has said what it had to say; a program that has not will not.
    let _ = child.kill();
    let _ = child.wait();
    said
}

fn first_line(mut from: impl Read + AsFd, limit: Duration) -> Option<String> {
    let deadline = Instant::now() + limit;
    let mut line = Vec::new();
    while !line.contains(&b'\n') && line.len() < VERSION_BYTES_MAX {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).ok()?;
        let mut readable = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
        match poll(&mut readable, left) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(_) => return None,
        }
        let mut chunk = [0_u8; VERSION_BYTES_MAX];
        match from.read(&mut chunk).ok()? {
            0 => break,
            length => line.extend_from_slice(&chunk[..length]),
        }
    }
    String::from_utf8(line).ok()
}

/// Where servers are installed, in no order of preference.
fn folders() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = env::split_paths(&path).collect();
    folders.extend(subfolders("/usr/lib/postgresql", "").map(|version| version.join("bin")));
    folders.extend(subfolders("/usr", "pgsql-").map(|version| version.join("bin")));
    folders
}

fn subfolders(parent: &str, prefix: &'static str) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    entries
        .filter(move |entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
}

/// The major version in what `postgres --version` says: "postgres (PostgreSQL) 15.18 (Debian …)".
fn major(said: &str) -> Option<u32> {
    let version = said.split(") ").nth(1)?;
    let digits = version.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn versions_are_read_as_the_distributions_print_them() {
        assert_eq!(major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(major("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(major("postgres (PostgreSQL) 17.2\n"), Some(17));
        assert_eq!(major("no version"), None);
    }

    #[test]
    fn a_version_that_is_not_installed_is_not_found() {
        assert!(matches!(Binaries::find(Some(9)), Err(EmbeddedError::NotInstalled)));
    }

    #[test]
    fn a_program_that_says_nothing_is_no_server() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["initdb", "postgres"] {
            let path = folder.path().join(name);
            fs::write(&path, "#!/bin/sh\nexec cat <>/dev/zero >/dev/null\n").unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        }
        assert_eq!(Binaries::in_folder(folder.path()), None);
        assert_eq!(Binaries::in_folder(Path::new("")), None);
        let (silent, _open) = std::io::pipe().unwrap();
        assert_eq!(first_line(silent, Duration::from_millis(10)), None);
    }
}
