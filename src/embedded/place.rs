//! Where an embedded cluster keeps its files, and whose they are.
//!
//! Called by [`super::Cluster`]. A socket's path may have at most 107 bytes (unix(7)), so it does
//! not live in the project, whose path may be long. When root starts a server, the folder that holds
//! everything, the lock and the log stay root's: the server's user owns the data and the socket's
//! folder, and nothing that root opens can be a link of theirs.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::libc::{O_DIRECTORY, O_NOFOLLOW};
use nix::unistd::{Gid, Uid, User, fchown, geteuid};
use sha2::{Digest, Sha256};

use super::EmbeddedError;

/// The longest path of a socket, in bytes.
const SOCKET_BYTES_MAX: usize = 107;
/// What PostgreSQL calls its socket.
const SOCKET_NAME: &str = ".s.PGSQL.5432";

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
        let Project { base, socket, owner } = Project::in_folder(folder)?;
        match owner {
            Some(_) => folder_of_root(&base)?,
            None => private_folder(&base, None)?,
        }
        Self::make(&base, socket, owner)
    }

    /// The folder of the socket on which the project's server answers; `None` when it does not run,
    /// or when the folder is not that server's user's. Makes nothing.
    ///
    /// # Errors
    /// When the current folder cannot be found.
    pub fn answering_socket(folder: &Path) -> Result<Option<PathBuf>, EmbeddedError> {
        let Project { socket, owner, .. } = Project::in_folder(folder)?;
        let wanted = owner.map_or(geteuid(), |owner| owner.uid);
        let is_private = open_folder(&socket)
            .and_then(|folder| folder.metadata())
            .is_ok_and(|found| found.uid() == wanted.as_raw());
        let answers = || UnixStream::connect(socket.join(SOCKET_NAME)).is_ok();
        Ok((is_private && answers()).then_some(socket))
    }

    /// A place inside `base`, which has to be an absolute and short path. For clusters that are thrown
    /// away: all of it belongs to the server's user, who can remove it.
    ///
    /// # Errors
    /// As [`Place::of_project`].
    pub fn inside(base: &Path) -> Result<Self, EmbeddedError> {
        let owner = Owner::for_root()?;
        private_folder(base, owner)?;
        Self::make(base, base.join("socket"), owner)
    }

    fn make(base: &Path, socket: PathBuf, owner: Option<Owner>) -> Result<Self, EmbeddedError> {
        socket_folder(&socket, owner)?;
        let (data, log) = (base.join("postgres"), base.join("postgres.log"));
        Ok(Self { data, socket, log, owner })
    }

    /// The folder that holds all the others but, perhaps, the socket's.
    #[must_use]
    pub fn base(&self) -> &Path {
        self.data.parent().expect("the data folder is inside a folder")
    }

    /// An empty folder for initdb to work in, a sibling of the data; one left behind with this name is
    /// removed.
    pub(super) fn make_sibling(&self, sibling: &Path) -> Result<(), EmbeddedError> {
        match fs::remove_dir_all(sibling) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(EmbeddedError::files(format!("remove {}", sibling.display()))(error))
            }
            _ => private_folder(sibling, self.owner),
        }
    }

    /// Opens a file beside the data, for writing at its end. Never through a link: who runs the server
    /// must not choose what root writes to.
    pub(super) fn open(&self, path: &Path) -> Result<File, EmbeddedError> {
        let mut options = OpenOptions::new();
        options.create(true).append(true).mode(0o600).custom_flags(O_NOFOLLOW);
        options.open(path).map_err(EmbeddedError::files(format!("open {}", path.display())))
    }
}

/// Where the files of a project's cluster are, made or not.
struct Project {
    base: PathBuf,
    socket: PathBuf,
    owner: Option<Owner>,
}

impl Project {
    fn in_folder(folder: &Path) -> Result<Self, EmbeddedError> {
        // The server works in its own folder: a path from ours would lead elsewhere there.
        let folder =
            folder.canonicalize().map_err(EmbeddedError::files("find the current folder"))?;
        let name = short_name(&folder);
        let owner = Owner::for_root()?;
        let (base, socket) = match owner {
            Some(_) => {
                let base = Path::new("/var/lib/peace").join(name);
                (base.clone(), base.join("socket"))
            }
            None => {
                let socket = format!("peace-{}-{name}", geteuid());
                (folder.join(".peace"), runtime_folder().join(socket))
            }
        };
        Ok(Self { base, socket, owner })
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

/// The folder for sockets of this user: short, and gone with the machine's next start.
fn runtime_folder() -> PathBuf {
    let named = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    named.filter(|path| path.is_absolute()).unwrap_or_else(|| "/tmp".into())
}

/// Makes `folder` for root alone to write in; others pass through it. What is in it stays root's,
/// whatever the server's user does with their own.
fn folder_of_root(folder: &Path) -> Result<(), EmbeddedError> {
    let what = |verb: &str| EmbeddedError::files(format!("{verb} {}", folder.display()));
    if let Some(parent) = folder.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(parent).map_err(what("make"))?;
    }
    DirBuilder::new().recursive(true).mode(0o711).create(folder).map_err(what("make"))?;
    let opened = open_folder(folder).map_err(what("open"))?;
    let root = Owner { uid: Uid::from_raw(0), gid: Gid::from_raw(0) };
    hand_over(&opened, root).map_err(what("take"))?;
    opened.set_permissions(Permissions::from_mode(0o711)).map_err(what("protect"))
}

/// Makes `folder` so that only its owner may enter it; one that exists has to be theirs, or still
/// ours, since a start may have ended before it was handed over.
fn private_folder(folder: &Path, owner: Option<Owner>) -> Result<(), EmbeddedError> {
    let shown = folder.display().to_string();
    let what = |verb: &str| EmbeddedError::files(format!("{verb} {shown}"));
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(what("make")(error));
        }
        _ => {}
    }
    let foreign = |uid: Uid| EmbeddedError::ForeignFolder { folder: shown.clone(), uid };
    let (ours, wanted) = (geteuid(), owner.map_or(geteuid(), |owner| owner.uid));
    let opened = match open_folder(folder) {
        // A link, or a file.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Err(foreign(wanted)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(foreign(wanted));
        }
        opened => opened.map_err(what("open"))?,
    };
    let found = Uid::from_raw(opened.metadata().map_err(what("look at"))?.uid());
    match owner {
        Some(owner) if found == ours => hand_over(&opened, owner).map_err(what("hand over"))?,
        _ if found != wanted => return Err(foreign(wanted)),
        _ => {}
    }
    opened.set_permissions(Permissions::from_mode(0o700)).map_err(what("protect"))
}

/// A private folder for the socket. Whoever owned it could put another server in place of
/// ours.
fn socket_folder(folder: &Path, owner: Option<Owner>) -> Result<(), EmbeddedError> {
    let refused = |why: String| EmbeddedError::SocketFolder { folder: shown(folder), why };
    let length = folder.join(SOCKET_NAME).as_os_str().len();
    if length > SOCKET_BYTES_MAX {
        return Err(refused(format!("{length} bytes are too long for a socket's path")));
    }
    private_folder(folder, owner).map_err(|error| match error {
        EmbeddedError::ForeignFolder { .. } => refused("it belongs to another user".to_owned()),
        EmbeddedError::Files { source, .. } => refused(source.to_string()),
        other => other,
    })
}

/// Opens a folder itself, not what a link of this name leads to.
fn open_folder(folder: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(O_NOFOLLOW | O_DIRECTORY).open(folder)
}

fn hand_over(folder: &File, owner: Owner) -> io::Result<()> {
    Ok(fchown(folder, Some(owner.uid), Some(owner.gid))?)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Twelve digits that stand for a folder, given by its one true path.
fn short_name(folder: &Path) -> String {
    let digest = Sha256::digest(folder.as_os_str().as_encoded_bytes());
    digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_folder_has_a_short_name_of_its_own() {
        let name = short_name(Path::new("/srv/one"));
        assert_eq!(name.len(), 12);
        assert_ne!(short_name(Path::new("/srv/two")), name);
    }

    #[test]
    fn folders_are_private_and_a_link_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::inside(&folder.path().join("cluster")).unwrap();
        let mode = fs::metadata(&place.socket).unwrap().mode();
        assert_eq!(mode & 0o777, 0o700);

        let link = folder.path().join("link");
        symlink(&place.socket, &link).unwrap();
        let refused = private_folder(&link, place.owner);
        assert!(matches!(refused, Err(EmbeddedError::ForeignFolder { .. })), "{refused:?}");
        let refused = socket_folder(&link, place.owner).unwrap_err().to_string();
        assert!(refused.contains("XDG_RUNTIME_DIR"), "{refused}");
    }

    #[test]
    fn a_folder_that_was_not_handed_over_yet_is_handed_over() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("cluster");
        fs::create_dir(&base).unwrap();
        let place = Place::inside(&base).unwrap();
        let wanted = place.owner.map_or(geteuid(), |owner| owner.uid);
        assert_eq!(fs::metadata(&base).unwrap().uid(), wanted.as_raw());
    }

    #[test]
    fn what_root_keeps_stays_root_s_and_links_lead_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("cluster");
        let place = Place::inside(&base).unwrap();
        if geteuid().is_root() {
            folder_of_root(&base).unwrap();
            let found = fs::metadata(&base).unwrap();
            assert_eq!((found.uid(), found.mode() & 0o777), (0, 0o711));
        }
        let victim = folder.path().join("victim");
        fs::write(&victim, "").unwrap();
        symlink(&victim, &place.log).unwrap();
        assert!(place.open(&place.log).is_err());
    }

    #[test]
    fn a_long_path_is_no_place_for_a_socket() {
        let folder = tempfile::tempdir().unwrap();
        let long = folder.path().join("x".repeat(100));
        let refused = socket_folder(&long, None).unwrap_err().to_string();
        assert!(refused.contains("XDG_RUNTIME_DIR"), "{refused}");
    }
}
