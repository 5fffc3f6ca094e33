//! A folder that lives as long as its test, and whom it belongs to.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A fresh folder with a short path, removed at the end.
#[derive(Debug)]
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        let made = tempfile::Builder::new().prefix("peace-test-").tempdir();
        Self(made.expect("the folder for temporary files can be written"))
    }

    /// One that everybody may look into.
    pub(crate) fn open_to_all() -> Self {
        let new = Self::new();
        fs::set_permissions(new.path(), Permissions::from_mode(0o755)).expect("it is ours");
        new
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file into it and answers its path.
    pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::write(&path, content).expect("a file can be written into our own folder");
        path
    }

    /// The same, for nobody else to read.
    pub(crate) fn write_private(&self, name: &str, content: &str) -> PathBuf {
        let path = self.write(name, content);
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("it is ours");
        path
    }
}
