//! The heritage: all that a program leaves to the one that takes its place in the same process.
//!
//! Written by `handover` into a memfd, read by `start` in the program that comes then, which may be of
//! another version: so the first line says what this is and in which version, and nothing is read behind
//! another one. It names descriptors by their numbers; they stay open over the exec. It promises that what
//! was read is whole; whether the descriptors are what they should be is for those who adopt them.
//! Source: memfd_create(2), fcntl(2) on seals and `FD_CLOEXEC`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::PathBuf;

use nix::fcntl::{FcntlArg, FdFlag, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::{Deserialize, Serialize};

use crate::state::{ChildId, ClientId, State};

/// What the first line says before the version.
const MAGIC: &str = "peace-supervisor heritage ";
/// Changes with every change of [`Heritage`] or of [`State`] that an older program would misread.
const VERSION: u32 = 2;
/// Longer than any heritage: every slot with two workers is a hundredth of it.
const BYTES_MAX: u64 = 16 << 20;

/// What is left, descriptors as numbers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Heritage {
    /// The process; its children know it by this.
    pub(crate) supervisor: i32,
    pub(crate) state: State,
    pub(crate) children: Vec<ChildLeft>,
    pub(crate) listeners: ListenersLeft,
    /// By program: the sockets of services.
    pub(crate) service_listeners: BTreeMap<String, i32>,
    pub(crate) scoreboard: i32,
    /// Of another layout: the one of the program before this one, as long as that may have to come back.
    pub(crate) scoreboard_before: Option<i32>,
    /// How the process was started.
    pub(crate) start: StartLeft,
    pub(crate) control: Option<ControlLeft>,
    pub(crate) signals: SignalsLeft,
    /// What the application keeps over an upgrade, by its own names.
    pub(crate) entrusted: BTreeMap<String, i32>,
    /// Every descriptor that stays open over the exec, but this text.
    pub(crate) descriptors: BTreeSet<i32>,
}

/// The slots' sockets.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ListenersLeft {
    /// By slot.
    pub(crate) slots: Vec<Option<i32>>,
    /// How many of these others opened.
    pub(crate) given: usize,
    pub(crate) shared: SharedLeft,
}

/// Sockets of all slots.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SharedLeft {
    pub(crate) tcp: Vec<i32>,
    pub(crate) unix: Vec<i32>,
    /// Our own one, and its file.
    pub(crate) door: Option<(i32, FileLeft)>,
}

/// A socket's file: its path, its device and inode.
pub(crate) type FileLeft = (PathBuf, (u64, u64));

/// A living child.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ChildLeft {
    pub(crate) id: ChildId,
    pub(crate) pid: i32,
    pub(crate) channel: i32,
    /// Of `scoreboard`.
    pub(crate) cell: Option<usize>,
    /// Whether it counts elsewhere, and that cell is only what we say of it.
    pub(crate) is_guest: bool,
    /// Its cell of `scoreboard_before`, when it counts there.
    pub(crate) cell_before: Option<usize>,
}

/// The command line and the environment of the start: every program that comes later is run with these.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StartLeft {
    pub(crate) arguments: Vec<OsString>,
    pub(crate) environment: Vec<(OsString, OsString)>,
}

/// The control socket and who asks there.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ControlLeft {
    pub(crate) listener: i32,
    /// Path of the file, its device and inode.
    pub(crate) name: FileLeft,
    pub(crate) next_client: ClientId,
    pub(crate) clients: Vec<ClientLeft>,
}

/// A client of the control socket.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ClientLeft {
    pub(crate) id: ClientId,
    pub(crate) stream: i32,
    pub(crate) line: Vec<u8>,
    pub(crate) deadline_ms: Option<u64>,
}

/// How the process was started, as far as signals go.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct SignalsLeft {
    pub(crate) started_on_terminal: bool,
    pub(crate) ignores_hangup: bool,
}

impl Heritage {
    /// Writes it into memory that nobody can change any more.
    pub(crate) fn write(&self) -> io::Result<File> {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let mut file = File::from(memfd_create(c"peace-heritage", flags)?);
        writeln!(file, "{MAGIC}{VERSION}")?;
        file.write_all(&serde_json::to_vec(self)?)?;
        let seals = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals | SealFlag::F_SEAL_SEAL))?;
        Ok(file)
    }

    /// Reads what another program wrote; the text of an error says what to do.
    pub(crate) fn read(text: &[u8]) -> Result<Self, String> {
        let (first, rest) = text.split_at(text.iter().position(|byte| *byte == b'\n').unwrap_or(0));
        let first = String::from_utf8_lossy(first);
        match first.strip_prefix(MAGIC).map(str::parse::<u32>) {
            Some(Ok(VERSION)) => serde_json::from_slice(rest)
                .map_err(|error| format!("what the running program left is damaged: {error}")),
            Some(Ok(other)) => Err(format!(
                "the running program leaves version {other} of its state, this one takes over \
                 version {VERSION}: stop it and start this one"
            )),
            _ => Err("what the running program left is no state of a supervisor".to_owned()),
        }
    }

    /// The text of a descriptor that was inherited under this number.
    pub(crate) fn text_of(number: i32) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        // Opened anew: the offset of the inherited one may be anywhere.
        let file = File::open(format!("/proc/self/fd/{number}"))?;
        io::Read::read_to_end(&mut io::Read::take(file, BYTES_MAX), &mut text)?;
        Ok(text)
    }
}

/// The descriptors that are to stay open over an exec.
#[derive(Debug, Default)]
pub(crate) struct Passing<'a>(Vec<BorrowedFd<'a>>);

impl<'a> Passing<'a> {
    /// Adds one; its number.
    pub(crate) fn add(&mut self, descriptor: &'a impl AsFd) -> i32 {
        let descriptor = descriptor.as_fd();
        self.0.push(descriptor);
        descriptor.as_raw_fd()
    }

    pub(crate) fn numbers(&self) -> BTreeSet<i32> {
        self.0.iter().map(AsRawFd::as_raw_fd).collect()
    }

    /// Lets them stay open over an exec, or not.
    pub(crate) fn stay_open(&self, stay: bool) -> io::Result<()> {
        let flags = if stay { FdFlag::empty() } else { FdFlag::FD_CLOEXEC };
        self.0.iter().try_for_each(|descriptor| {
            fcntl(descriptor, FcntlArg::F_SETFD(flags))?;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(first: &str) -> Vec<u8> {
        format!("{first}\n{{}}").into_bytes()
    }

    #[test]
    fn what_is_of_another_version_is_not_read() {
        let refused = |first: &str| Heritage::read(&text(first)).unwrap_err();
        assert!(refused("peace-supervisor heritage 3").contains("leaves version 3 of its state"));
        for other in ["", "peace-supervisor heritage", "peace-supervisor heritage one", "#!/bin/sh"]
        {
            assert!(refused(other).contains("no state of a supervisor"), "{other}");
        }
        assert!(refused("peace-supervisor heritage 2").contains("damaged"));
    }

    #[test]
    fn descriptors_stay_open_as_long_as_they_are_to() {
        let (one, other) = io::pipe().unwrap();
        let mut passing = Passing::default();
        assert_eq!(passing.add(&one), one.as_raw_fd());
        let flags = |pipe: BorrowedFd<'_>| fcntl(pipe, FcntlArg::F_GETFD).unwrap();
        passing.stay_open(true).unwrap();
        assert_eq!((flags(one.as_fd()), flags(other.as_fd())), (0, FdFlag::FD_CLOEXEC.bits()));
        passing.stay_open(false).unwrap();
        assert_eq!(flags(one.as_fd()), FdFlag::FD_CLOEXEC.bits());
        assert_eq!(passing.numbers(), BTreeSet::from([one.as_raw_fd()]));
    }
}
