//! Sockets that every slot accepts from: a unix socket, or what the service manager opened that does not
//! share one port.
//!
//! Part of `listener`, which asks it for what it does with a slot's own socket. Here a slot has none: each
//! worker gets a copy of every socket, so whoever lives takes what is queued, and there is nothing to steer
//! and nothing to foster. Knows no policy. Source: unix(7), accept(2).

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::sys::stat::Mode;
use socket2::SockRef;

use crate::Error;
use crate::bind::Bind;
use crate::door::{self, Door, Visitors};
use crate::heritage::{Passing, SharedLeft};
use crate::start::Descriptors;
use crate::sys;

/// Copies of listening sockets, for one process.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    pub(crate) tcp: Vec<TcpListener>,
    pub(crate) unix: Vec<UnixListener>,
}

/// The sockets.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Those that others opened, and keep.
    theirs: Ports,
    /// Our own one.
    door: Option<Door>,
}

impl Shared {
    /// Those that this process was started with; of them the one that is ours.
    pub(crate) fn given(theirs: Ports, door: Option<Door>) -> Self {
        Self { theirs, door }
    }

    /// Opens one at `path`. Who may enter its folder may connect.
    pub(crate) fn open(path: &Path, backlog: u32) -> Result<Self, Error> {
        let visitors = Visitors {
            mode: Mode::from_bits_truncate(0o666),
            backlog: i32::try_from(backlog).unwrap_or(i32::MAX),
            makes_folder: false,
        };
        let door = door::listen(path, visitors);
        let door = door.map_err(|source| Error::refusal(Bind::Unix(path.to_owned()), source))?;
        Ok(Self { theirs: Ports::default(), door: Some(door) })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count() == 0
    }

    pub(crate) fn count(&self) -> usize {
        self.theirs.tcp.len() + self.theirs.unix.len() + usize::from(self.door.is_some())
    }

    /// Where each listens.
    pub(crate) fn addresses(&self) -> Vec<Bind> {
        let tcp = self.theirs.tcp.iter().filter_map(|one| one.local_addr().ok().map(Bind::Tcp));
        let unix = self.theirs.unix.iter().filter_map(|one| {
            let path = one.local_addr().ok()?.as_pathname()?.to_owned();
            Some(Bind::Unix(path))
        });
        let ours = self.door.iter().map(|door| Bind::Unix(door.path().to_owned()));
        tcp.chain(unix).chain(ours).collect()
    }

    /// The one that the service manager may keep for us: ours.
    pub(crate) fn ours(&self) -> Option<BorrowedFd<'_>> {
        self.door.as_ref().map(|door| door.listener.as_fd())
    }

    /// Whether that one was kept for us.
    pub(crate) fn is_kept(&self) -> bool {
        self.door.as_ref().is_some_and(Door::is_kept)
    }

    /// How many connections wait, as far as the kernel tells: not of unix sockets.
    pub(crate) fn queue_length(&self) -> u32 {
        self.theirs.tcp.iter().filter_map(|one| sys::queue_length(one).ok()).sum()
    }

    /// Lets nobody new find ours. Of theirs, whoever comes now is for the next program.
    pub(crate) fn withdraw(&self) {
        self.door.iter().for_each(Door::withdraw);
    }

    /// In a child: its own copies, the sockets themselves.
    pub(crate) fn take(&mut self) -> io::Result<Ports> {
        let mut ports = std::mem::take(&mut self.theirs);
        if let Some(door) = self.door.take() {
            ports.unix.push(door.listener.try_clone()?);
        }
        Ok(ports)
    }

    /// Leaves them to the program after this one.
    pub(crate) fn leave<'a>(&'a self, passing: &mut Passing<'a>) -> SharedLeft {
        SharedLeft {
            tcp: self.theirs.tcp.iter().map(|one| passing.add(one)).collect(),
            unix: self.theirs.unix.iter().map(|one| passing.add(one)).collect(),
            door: self.door.as_ref().map(|door| (passing.add(&door.listener), door.name())),
        }
    }

    /// Takes over those of the program before.
    pub(crate) fn adopt(left: &SharedLeft, descriptors: &mut Descriptors) -> io::Result<Self> {
        let mut take = |number: &i32| {
            let descriptor = descriptors.take(*number)?;
            match SockRef::from(&descriptor).is_listener()? {
                true => Ok(descriptor),
                false => Err(io::Error::other("a shared socket does not listen")),
            }
        };
        let mut theirs = Ports::default();
        for number in &left.tcp {
            theirs.tcp.push(take(number)?.into());
        }
        for number in &left.unix {
            theirs.unix.push(take(number)?.into());
        }
        let door = match &left.door {
            Some((number, name)) => Some(Door::adopt(take(number)?, name.clone())),
            None => None,
        };
        Ok(Self { theirs, door })
    }
}
