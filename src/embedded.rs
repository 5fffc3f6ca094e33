//! The embedded PostgreSQL: a server of this project's own, from the system's binaries.
//!
//! What it is for: `cargo run` and `deploy/up` without a database at hand, and the tests' throw-away
//! cluster. Called by `main` (which locks it), by the children in [`crate::programs`] (which make and
//! run it), by `peace-migrate` (which finds it running) and by the tests. It promises: nothing but a
//! unix socket in a folder that only its owner may enter; one server per data folder; a data folder
//! that is whole or absent, since initdb works in a sibling that is renamed when it is done. It knows
//! no table and no migration.
//!
//! PostgreSQL refuses to run as root. Started by root, it runs as `postgres` (or `nobody`), with its
//! files under `/var/lib/peace`, because such a user cannot enter a folder that only root may read.
//! Root keeps the lock and the log: that user can lead root nowhere.

mod binaries;
mod cluster;
mod place;

use nix::unistd::Uid;

pub use binaries::{Binaries, MAJOR_MIN};
pub use cluster::{Cluster, Lock, Tuning, answering};
pub use place::{Owner, Place};

/// Why there is no embedded PostgreSQL. Each text says how to mend it.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// No server is installed.
    #[error(
        "no PostgreSQL server is installed (looked in PATH, /usr/lib/postgresql and /usr/pgsql-*): \
         install PostgreSQL {MAJOR_MIN} or newer, or set DATABASE_URL"
    )]
    NotInstalled,
    /// The newest one found is too old.
    #[error(
        "PostgreSQL {seen} is too old: install {MAJOR_MIN} or newer, or set DATABASE_URL to one"
    )]
    TooOld {
        /// Its version.
        seen: u32,
    },
    /// The data was made by a version that is not installed any more.
    #[error(
        "the data in {data} belongs to PostgreSQL {made_by}, which is not installed: install it, \
         or move the folder away to start with an empty database"
    )]
    OtherVersion {
        /// The data folder.
        data: String,
        /// The version that made it.
        made_by: u32,
    },
    /// Another copy of this program runs a server on the same data.
    #[error("the database in {data} is in use by another copy of this program: stop it first")]
    InUse {
        /// The data folder.
        data: String,
    },
    /// A folder of the data belongs to somebody else, or is none.
    #[error("{folder} is not a folder of user {uid}: run `chown -R {uid} {folder}`, as root")]
    ForeignFolder {
        /// The folder.
        folder: String,
        /// Whose it has to be.
        uid: Uid,
    },
    /// The folder of the socket cannot be used.
    #[error(
        "no socket of the database can be in {folder}: {why}; set XDG_RUNTIME_DIR to a folder of yours"
    )]
    SocketFolder {
        /// The folder.
        folder: String,
        /// What is in the way.
        why: String,
    },
    /// An upgrade keeps the database where it is.
    #[error("database-url has changed: that needs a restart")]
    Changed,
    /// A file operation failed.
    #[error("cannot {what}: {source}")]
    Files {
        /// What was tried.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
}

impl EmbeddedError {
    /// A failure of `what`, for `map_err`.
    fn files<E: Into<std::io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |source| Self::Files { what, source: source.into() }
    }
}
