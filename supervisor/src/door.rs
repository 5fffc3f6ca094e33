//! A listening unix socket with a name in the file system, which is removed by who made it.
//!
//! Used by `control`, whose clients may stop the program, and by `shared` for the API. There is no moment
//! at which anybody may connect who may not: the mode is set before the name exists. A socket that nobody
//! answers on was left behind by a crash, and is replaced; anything else in its place is somebody's, and
//! stays. Knows no request. Source: unix(7), flock(2).

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, fchmod};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use crate::heritage::FileLeft;

/// The longest path of a socket, in bytes.
const PATH_BYTES_MAX: usize = 107;

/// A listening socket and its name, which is removed when this is dropped by the process that made it, unless
/// somebody keeps a copy: those of its children are none of their affair.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) listener: UnixListener,
    path: PathBuf,
    /// Device and inode, by which another socket of the same name is told from ours. No other one can
    /// have them as long as ours is open.
    identity: (u64, u64),
    /// The process that made it.
    maker: u32,
    /// Another one has a copy, with which the next program may be started: only a stop takes the name away.
    is_kept: bool,
}

/// For whom a socket is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Visitors {
    /// Who may connect: those who may write the file.
    pub(crate) mode: Mode,
    /// How many the kernel lets wait until they are accepted.
    pub(crate) backlog: i32,
    /// Whether a folder that is missing is made, for the own user alone.
    pub(crate) makes_folder: bool,
}

/// Listens at `path`, non-blocking.
///
/// # Errors
/// When the place is taken or the system refuses; the text says what, and how to mend it.
pub(crate) fn listen(path: &Path, visitors: Visitors) -> io::Result<Door> {
    let address = address_of(path)?;
    if visitors.makes_folder {
        make_folder_of(path)?;
    }
    // Two copies that start at once must not both find the same socket abandoned.
    let _lock = lock_folder_of(path)?;
    clear(path, &address)?;
    let door = Door::of(bind(&address, visitors.mode)?, path)?;
    SockRef::from(&door.listener).listen(visitors.backlog)?;
    Ok(door)
}

/// Whether there is room for a socket at `path`: nothing, or one that nobody answers on.
///
/// # Errors
/// As [`listen`].
pub(crate) fn probe(path: &Path) -> io::Result<()> {
    is_abandoned(path, &address_of(path)?).map(drop)
}

fn address_of(path: &Path) -> io::Result<SockAddr> {
    match path.as_os_str().len() {
        ..=PATH_BYTES_MAX => SockAddr::unix(path),
        length => Err(mendable(
            ErrorKind::InvalidInput,
            &format!("{length} bytes are too long for a socket's path"),
            "give one of 107 bytes or fewer",
        )),
    }
}

fn make_folder_of(path: &Path) -> io::Result<()> {
    let folder = folder_of(path);
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            let mend = format!("make {}, or give another path", folder.display());
            Err(mendable(error.kind(), &format!("no folder for it: {error}"), &mend))
        }
        _ => Ok(()),
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn lock_folder_of(path: &Path) -> io::Result<File> {
    let folder = File::open(folder_of(path))?;
    match folder.try_lock() {
        Ok(()) => Ok(folder),
        Err(TryLockError::WouldBlock) => Err(taken("another copy opens one in the same folder")),
        Err(TryLockError::Error(refused)) => Err(refused),
    }
}

/// Makes room: removes a socket that nobody answers on.
fn clear(path: &Path, address: &SockAddr) -> io::Result<()> {
    match is_abandoned(path, address)? {
        true => fs::remove_file(path),
        false => Ok(()),
    }
}

/// Whether there is a socket that nobody answers on; else there is nothing.
fn is_abandoned(path: &Path, address: &SockAddr) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Err(absent) if absent.kind() == ErrorKind::NotFound => return Ok(false),
        Err(refused) => return Err(refused),
        Ok(found) if !found.file_type().is_socket() => {
            let mend = "remove that file, or give another path";
            return Err(mendable(ErrorKind::AlreadyExists, "a file that is no socket", mend));
        }
        Ok(_) => {}
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(address) {
        Err(refused) if refused.kind() == ErrorKind::ConnectionRefused => Ok(true),
        // Its queue is full: somebody is there all the same.
        Err(full) if full.kind() == ErrorKind::WouldBlock => Err(taken("another copy has it")),
        Err(refused) => Err(refused),
        Ok(()) => Err(taken("another copy answers there")),
    }
}

/// A socket with a name, that refuses everybody until it listens.
fn bind(address: &SockAddr, mode: Mode) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    // The name gets the mode that the socket has, less the umask (Linux), so there is none for this one call:
    // this process has one thread. To change the mode of the name afterwards would follow a link.
    fchmod(&socket, mode)?;
    let umask = nix::sys::stat::umask(Mode::empty());
    let bound = socket.bind(address);
    nix::sys::stat::umask(umask);
    bound?;
    Ok(socket)
}

fn taken(what: &str) -> io::Error {
    mendable(ErrorKind::AddrInUse, what, "stop it, or give another path")
}

fn mendable(kind: ErrorKind, what: &str, mend: &str) -> io::Error {
    io::Error::new(kind, format!("{what}: {mend}"))
}

impl Door {
    fn of(bound: Socket, path: &Path) -> io::Result<Self> {
        Ok(Self {
            listener: bound.into(),
            path: path.to_owned(),
            identity: identity(path)?,
            maker: std::process::id(),
            is_kept: false,
        })
    }

    /// Of a socket that a program before this one made in this very process.
    pub(crate) fn adopt(listener: OwnedFd, (path, identity): FileLeft) -> Self {
        let maker = std::process::id();
        Self { listener: listener.into(), path, identity, maker, is_kept: false }
    }

    /// Of a socket that was made in a process before, whose name is still there.
    ///
    /// # Errors
    /// When it is not.
    pub(crate) fn found(listener: UnixListener, path: &Path) -> io::Result<Self> {
        let is_socket = fs::symlink_metadata(path)?.file_type().is_socket();
        let lost = || io::Error::new(ErrorKind::NotFound, "its name is another file's");
        is_socket.then_some(()).ok_or_else(lost)?;
        let (path, identity) = (path.to_owned(), identity(path)?);
        Ok(Self { listener, path, identity, maker: std::process::id(), is_kept: true })
    }

    /// Whether it is such a one.
    pub(crate) fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// What tells the socket's file from others.
    pub(crate) fn name(&self) -> FileLeft {
        (self.path.clone(), self.identity)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the name away: nobody new finds it; who is queued is still served.
    pub(crate) fn withdraw(&self) {
        let is_ours = || identity(&self.path).is_ok_and(|found| found == self.identity);
        if self.maker == std::process::id() && is_ours() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if !self.is_kept {
            self.withdraw();
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use super::*;

    const OWNER: Visitors =
        Visitors { mode: Mode::from_bits_truncate(0o600), backlog: 16, makes_folder: true };

    fn listen(path: &Path) -> io::Result<Door> {
        super::listen(path, OWNER)
    }

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_socket_and_its_folder_are_for_their_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made/control.sock");
        let door = listen(&path).unwrap();
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(door.listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        drop(door);
        assert!(!path.exists());
    }

    #[test]
    fn the_mode_stands_before_anybody_can_connect() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let _bound = bind(&SockAddr::unix(&path).unwrap(), OWNER.mode).unwrap();
        assert_eq!(mode(&path), 0o600);
        let refused = UnixStream::connect(&path).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    }

    #[test]
    fn whoever_may_enter_the_folder_may_connect_where_that_is_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("api.sock");
        let visitors = Visitors { mode: Mode::from_bits_truncate(0o666), ..OWNER };
        let door = super::listen(&path, visitors).unwrap();
        assert_eq!(mode(&path), 0o666);
        let mut queued = UnixStream::connect(&path).unwrap();
        door.withdraw();
        assert!(!path.exists());
        io::Write::write_all(&mut queued, b"still heard").unwrap();
        assert!(door.listener.accept().is_ok());
        let missing = folder.path().join("missing/api.sock");
        let visitors = Visitors { makes_folder: false, ..visitors };
        let refused = super::listen(&missing, visitors).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::NotFound);
    }

    /// As a crash does, or the end of a child's copy.
    fn abandon(mut door: Door) {
        door.maker += 1;
    }

    #[test]
    fn an_abandoned_socket_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        abandon(listen(&path).unwrap());
        probe(&path).unwrap();
        assert!(path.exists(), "only who made it removes it");
        let _door = listen(&path).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn another_one_s_socket_of_the_same_name_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let old = listen(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let _new = listen(&path).unwrap();
        drop(old);
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_place_that_is_taken_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let _answering = listen(&path("answering")).unwrap();
        fs::write(path("file"), "precious").unwrap();
        symlink(path("answering"), path("link")).unwrap();
        let _datagrams = UnixDatagram::bind(path("datagrams")).unwrap();
        for (name, what) in [
            ("answering", "another copy answers there: stop it, or give another path"),
            ("file", "a file that is no socket: remove that file, or give another path"),
            ("link", "a file that is no socket"),
            ("datagrams", "Protocol wrong type"),
            ("absent/folder/control.sock", "no folder for it"),
            (&"x".repeat(200), "bytes are too long for a socket's path"),
        ] {
            let refused = listen(&path(name)).unwrap_err().to_string();
            assert!(refused.contains(what), "{name}: {refused}");
        }
        assert_eq!(fs::read_to_string(path("file")).unwrap(), "precious");
        assert_eq!(probe(&path("answering")).unwrap_err().kind(), ErrorKind::AddrInUse);
        UnixStream::connect(path("answering")).unwrap();
    }

    #[test]
    fn a_full_queue_is_no_abandoned_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let _door = listen(&path).unwrap();
        let address = SockAddr::unix(&path).unwrap();
        let connect = || {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
            socket.set_nonblocking(true)?;
            socket.connect(&address).map(|()| socket)
        };
        let mut waiting = Vec::new();
        while let Ok(socket) = connect() {
            waiting.push(socket);
        }
        assert_eq!(listen(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
        assert!(path.exists());
    }

    #[test]
    fn copies_that_start_at_once_do_not_take_it_from_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let first = lock_folder_of(&path).unwrap();
        assert_eq!(listen(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
        drop(first);
        listen(&path).unwrap();
    }
}
