//! Finds the system's PostgreSQL server.
//!
//! Called by [`super::Cluster`]. Debian keeps the servers of several versions side by side outside
//! PATH, Fedora has one in PATH, the PostgreSQL project's own packages use `/usr/pgsql-N`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::EmbeddedError;

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
        if !initdb.is_file() {
            return None;
        }
        let said = Command::new(&postgres).arg("--version").output().ok()?;
        let major = major(&String::from_utf8_lossy(&said.stdout))?;
        Some(Self { initdb, postgres, major })
    }
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
}
