//! Where an embedded cluster keeps its files, and whose they are.
//!
//! Called by [`super::Cluster`]. A socket's path may have at most 107 bytes (unix(7)), so it does
//! not live in the project, whose path may be long.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid, User, chown, geteuid};
use sha2::{Digest, Sha256};

use super::EmbeddedError;

/// The user a server runs as when root starts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: Uid,
    /// Group.
    pub gid: Gid,
}

/// The folders of one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The data folder; initdb works in a sibling of it.
    pub data: PathBuf,
    /// The folder of the socket.
    pub socket: PathBuf,
    /// What the server logs goes here.
    pub log: PathBuf,
    /// Whose all this is, when root makes it for somebody else.
    pub owner: Option<Owner>,
}

impl Place {
    /// The place of the project in `folder`; the same folder always has the same place.
    ///
    /// # Errors
    /// When a folder cannot be made, or belongs to somebody else.
    pub fn of_project(folder: &Path) -> Result<Self, EmbeddedError> {
        let owner = Owner::for_root()?;
        let name = short_name(folder)?;
        let (base, socket) = match owner {
            Some(_) => {
                let base = Path::new("/var/lib/peace").join(name);
                (base.clone(), base.join("socket"))
            }
            None => {
                let runtime =
                    std::env::var_os("XDG_RUNTIME_DIR").map_or("/tmp".into(), PathBuf::from);
                let uid = geteuid();
                (folder.join(".peace"), runtime.join(format!("peace-{uid}-{name}")))
            }
        };
        Self::make(&base, socket, owner)
    }

    /// A place inside `base`, which has to be a short path. For clusters that are thrown away.
    ///
    /// # Errors
    /// As [`Place::of_project`].
    pub fn inside(base: &Path) -> Result<Self, EmbeddedError> {
        Self::make(base, base.join("socket"), Owner::for_root()?)
    }

    fn make(base: &Path, socket: PathBuf, owner: Option<Owner>) -> Result<Self, EmbeddedError> {
        private_folder(base, owner)?;
        private_folder(&socket, owner)?;
        let (data, log) = (base.join("postgres"), base.join("postgres.log"));
        Ok(Self { data, socket, log, owner })
    }

    /// The folder that holds all the others but, perhaps, the socket's.
    #[must_use]
    pub fn base(&self) -> &Path {
        self.data.parent().expect("the data folder is inside a folder")
    }
}

impl Owner {
    /// `None` when this process is not root: then the server runs as who we are.
    fn for_root() -> Result<Option<Self>, EmbeddedError> {
        if !geteuid().is_root() {
            return Ok(None);
        }
        let look = |name| User::from_name(name).map_err(EmbeddedError::files("read the users"));
        let user = match look("postgres")? {
            Some(user) => Some(user),
            None => look("nobody")?,
        };
        Ok(user.map(|user| Self { uid: user.uid, gid: user.gid }))
    }
}

/// Makes `folder`, with its parents, so that only its owner may enter it; one that exists has to be
/// so already, since a socket in a folder of somebody else's is theirs to replace.
fn private_folder(folder: &Path, owner: Option<Owner>) -> Result<(), EmbeddedError> {
    let shown = folder.display().to_string();
    let what = |verb: &str| EmbeddedError::files(format!("{verb} {shown}"));
    let hand_over = |Owner { uid, gid }: Owner| chown(folder, Some(uid), Some(gid));
    if let Some(parent) = folder.parent() {
        fs::create_dir_all(parent).map_err(what("make the parent of"))?;
    }
    match DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => {
            owner
                .map_or(Ok(()), hand_over)
                .map_err(std::io::Error::from)
                .map_err(what("hand over"))?;
        }
        Err(exists) if exists.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(refused) => return Err(what("make")(refused)),
    }
    let found = fs::symlink_metadata(folder).map_err(what("look at"))?;
    let wanted = owner.map_or(geteuid(), |owner| owner.uid);
    if !found.is_dir() || found.uid() != wanted.as_raw() {
        return Err(EmbeddedError::ForeignFolder { folder: shown.clone() });
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(what("protect"))
}

/// Twelve digits that stand for a folder, whatever path leads to it.
fn short_name(folder: &Path) -> Result<String, EmbeddedError> {
    let folder = folder.canonicalize().map_err(EmbeddedError::files("find the current folder"))?;
    let digest = Sha256::digest(folder.as_os_str().as_encoded_bytes());
    Ok(digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_short_name_by_whatever_path() {
        let folder = tempfile::tempdir().unwrap();
        let name = short_name(folder.path()).unwrap();
        assert_eq!(name.len(), 12);
        let detour = folder.path().join("..").join(folder.path().file_name().unwrap());
        assert_eq!(short_name(&detour).unwrap(), name);
        assert!(short_name(&folder.path().join("absent")).is_err());
    }

    #[test]
    fn folders_are_private_and_a_link_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::inside(&folder.path().join("cluster")).unwrap();
        let mode = fs::metadata(&place.socket).unwrap().mode();
        assert_eq!(mode & 0o777, 0o700);

        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&place.socket, &link).unwrap();
        let refused = private_folder(&link, place.owner);
        assert!(matches!(refused, Err(EmbeddedError::ForeignFolder { .. })));
    }
}
