//! The pid file: says which process the supervisor is, and keeps a second copy out.
//!
//! Claimed by `main` before it serves, given up at its end. What counts is the lock, not the text: a
//! file that a crash left behind says nothing, and its number may be another process by now. A forked
//! child shares the lock as long as it holds its copy of this, so it has to drop it. It knows nothing
//! of what is run under it. Source: flock(2), open(2).

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::libc::{O_NOFOLLOW, O_NONBLOCK};

/// Tries to get the file that has the name, while others remove and make it.
const TRIES_MAX: usize = 10;
/// Longer than any number of a process.
const PID_BYTES_MAX: u64 = 20;

/// A pid file that is ours. Removed when it is dropped by the process that claimed it.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    /// Holds the lock.
    file: File,
    claimer: u32,
}

/// Why the file cannot be ours.
#[derive(Debug, thiserror::Error)]
pub enum PidFileError {
    /// Another copy runs.
    #[error("another copy holds {}{}: stop it, or give another --pid-file", path.display(), of(*pid))]
    Held {
        /// The file.
        path: PathBuf,
        /// What stands in it, if that is a process id.
        pid: Option<u32>,
    },
    /// An upgrade keeps it as it is.
    #[error("pid-file has changed: that needs a restart")]
    Changed,
    /// It cannot be opened or written.
    #[error("cannot write the pid file {}: {source}: give another --pid-file", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl PidFile {
    /// Makes the file ours and writes this process's id into it. Never blocks but on the disk.
    ///
    /// # Errors
    /// When another process holds it, or it cannot be written.
    pub fn claim(path: &Path) -> Result<Self, PidFileError> {
        let refused = |source| PidFileError::Refused { path: path.to_owned(), source };
        for _ in 0..TRIES_MAX {
            let file = open(path).map_err(refused)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(PidFileError::Held { path: path.to_owned(), pid: read_pid(&file) });
                }
                Err(TryLockError::Error(source)) => return Err(refused(source)),
            }
            // Who held it may have removed it between our two steps.
            if is_named(&file, path) {
                return Self::write(path, file).map_err(refused);
            }
        }
        Err(refused(io::Error::other("others keep removing it")))
    }

    /// Takes over the one that a program before this one has claimed for process `claimer`.
    ///
    /// # Errors
    /// When it is another file than the one at `path`.
    pub fn adopt(path: &Path, file: File, claimer: u32) -> Result<Self, PidFileError> {
        match is_named(&file, path) {
            true => Ok(Self { path: path.to_owned(), file, claimer }),
            false => Err(PidFileError::Changed),
        }
    }

    /// A copy that shares the lock, for a program after this one.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub fn share(&self) -> io::Result<OwnedFd> {
        Ok(self.file.try_clone()?.into())
    }

    fn write(path: &Path, file: File) -> io::Result<Self> {
        let mut claimed = Self { path: path.to_owned(), file, claimer: std::process::id() };
        claimed.file.set_len(0)?;
        writeln!(claimed.file, "{}", claimed.claimer)?;
        Ok(claimed)
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if self.claimer == std::process::id() && is_named(&self.file, &self.path) {
            // Before the lock is given up with the descriptor: nobody can have claimed it yet.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Opens it without changing it: it may be another copy's. Never through a link, and only a plain
/// file.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o644);
    let file = options.custom_flags(O_NOFOLLOW | O_NONBLOCK).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("not a plain file")),
    }
}

/// Whether `path` still is the name of `file`.
fn is_named(file: &File, path: &Path) -> bool {
    let (Ok(ours), Ok(named)) = (file.metadata(), fs::symlink_metadata(path)) else { return false };
    (ours.dev(), ours.ino()) == (named.dev(), named.ino())
}

fn read_pid(file: &File) -> Option<u32> {
    let mut text = String::new();
    file.take(PID_BYTES_MAX).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn of(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn ours() -> String {
        format!("{}\n", std::process::id())
    }

    #[test]
    fn it_holds_our_number_until_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("peace.pid");
        let claimed = PidFile::claim(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), ours());
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777 & !0o644, 0, "{mode:o}");
        drop(claimed);
        assert!(!path.exists());
    }

    #[test]
    fn a_second_copy_is_refused_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("peace.pid");
        let claimed = PidFile::claim(&path).unwrap();
        let text = PidFile::claim(&path).unwrap_err().to_string();
        let (path_shown, pid) = (path.display(), std::process::id());
        let wanted = format!(
            "another copy holds {path_shown} (pid {pid}): stop it, or give another --pid-file"
        );
        assert_eq!(text, wanted);
        assert_eq!(fs::read_to_string(&path).unwrap(), ours());
        drop(claimed);
        PidFile::claim(&path).unwrap();
    }

    #[test]
    fn what_a_crash_left_is_replaced_whatever_it_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("peace.pid");
        for left in ["1\n", "", "a long line that is no number of any process\nand another\n"] {
            fs::write(&path, left).unwrap();
            let _claimed = PidFile::claim(&path).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), ours());
            fs::write(&path, left).unwrap();
            assert!(matches!(PidFile::claim(&path), Err(PidFileError::Held { .. })), "{left}");
        }
    }

    #[test]
    fn an_heir_keeps_the_lock_and_removes_the_file_at_its_own_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("peace.pid");
        let claimed = PidFile::claim(&path).unwrap();
        let shared = claimed.share().unwrap();
        // As an exec does.
        std::mem::forget(claimed);
        let other = folder.path().join("other");
        fs::write(&other, "").unwrap();
        let copy = shared.try_clone().unwrap();
        let changed = PidFile::adopt(&other, copy.into(), std::process::id()).unwrap_err();
        assert!(matches!(changed, PidFileError::Changed));
        let adopted = PidFile::adopt(&path, shared.into(), std::process::id()).unwrap();
        assert!(matches!(PidFile::claim(&path), Err(PidFileError::Held { .. })));
        drop(adopted);
        assert!(!path.exists());
    }

    #[test]
    fn a_name_that_became_another_s_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("peace.pid");
        let first = PidFile::claim(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let _second = PidFile::claim(&path).unwrap();
        drop(first);
        assert_eq!(fs::read_to_string(&path).unwrap(), ours());
    }

    #[test]
    fn a_child_s_copy_removes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("peace.pid");
        let mut claimed = PidFile::claim(&path).unwrap();
        claimed.claimer += 1;
        drop(claimed);
        assert!(path.exists());
    }

    #[test]
    fn what_cannot_be_written_says_how_to_mend_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("victim"), "precious").unwrap();
        symlink(path("victim"), path("link")).unwrap();
        nix::unistd::mkfifo(&path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        for (name, why) in [
            ("absent/peace.pid", "No such file or directory"),
            (".", "Is a directory"),
            ("link", "symbolic links"),
            ("fifo", "not a plain file"),
        ] {
            let text = PidFile::claim(&path(name)).unwrap_err().to_string();
            assert!(text.starts_with("cannot write the pid file /"), "{text}");
            assert!(text.contains(why) && text.ends_with(": give another --pid-file"), "{text}");
        }
        assert_eq!(fs::read_to_string(path("victim")).unwrap(), "precious");
    }
}
