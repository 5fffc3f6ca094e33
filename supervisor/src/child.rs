//! What a forked child is given, and what it does before its own work begins.
//!
//! [`Post`] is all that the application's closures see of the supervisor. [`settle`] runs in the
//! child right after the fork: it ties the child's life to the supervisor's. Knows no policy.
//! Source: prctl(2) on `PR_SET_PDEATHSIG` and `PR_SET_NAME`.

use std::ffi::CString;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Gid, Pid, Uid, getppid, setgid, setgroups, setpgid, setuid};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

use crate::channel::{ChildChannel, Message};
use crate::scoreboard::{Board, Cell};
use crate::state::Role;
use crate::sys;

/// What the kernel keeps of a process's name.
const NAME_MAX_BYTES: usize = 15;

/// A child's place: what it is for, and all it may use.
#[derive(Debug)]
pub struct Post {
    /// What it is for.
    pub role: Role,
    /// The socket of its slot, or of its service where that has one; empty for steps. Several where all
    /// slots accept from the same ones.
    pub listeners: Vec<TcpListener>,
    /// Of these, those that have no port.
    pub unix_listeners: Vec<UnixListener>,
    /// The way to and from the supervisor.
    pub channel: ChildChannel,
    /// Its cell of the scoreboard.
    pub cell: Cell,
    /// What all cells say.
    pub board: Board,
    /// Whether another worker serves its slot, and serves on if this one cannot begin: then it is better
    /// not to begin than to serve worse.
    pub replaces: bool,
    /// The supervisor's process id; an orphan sees another one as its parent.
    pub supervisor: i32,
}

impl Post {
    /// Says that the work has begun: to the supervisor, and to everybody on the scoreboard.
    pub fn ready(&self) {
        self.cell.ready();
        self.channel.send(&Message::Ready);
    }

    /// Says why the work cannot begin; answers `code`, for the closure to return.
    pub fn fail(&self, code: u8, text: impl Into<String>) -> u8 {
        self.channel.send(&Message::BootFailed { code, text: text.into() });
        code
    }

    /// Becomes this user with this one group, for good: without any right of root, and none to be had by
    /// executing a program. The tie to the supervisor's life, which the kernel cuts at this, is made anew.
    ///
    /// # Errors
    /// When the system refuses, or the supervisor is dead already: the child has to leave.
    pub fn become_user(&self, uid: u32, gid: u32) -> io::Result<()> {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        setgroups(&[gid])?;
        setgid(gid)?;
        setuid(uid)?;
        let none = CapabilitySet::empty();
        let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
        set_capabilities(None, none)?;
        prctl::set_no_new_privs()?;
        die_with(Pid::from_raw(self.supervisor), death_signal(self.role))
    }

    /// Asks the kernel to send `signal` when the supervisor dies. A change of user id forgets what
    /// was asked before, so a child that drops its privileges asks again.
    ///
    /// # Errors
    /// When the supervisor is dead already: the child has to leave.
    pub fn die_with_supervisor(&self, signal: i32) -> io::Result<()> {
        die_with(Pid::from_raw(self.supervisor), Signal::try_from(signal)?)
    }
}

/// Makes the forked process a child of its own: in a process group of its own (a terminal's Ctrl-C is
/// for the supervisor to interpret), named for its role, and tied to the supervisor's life.
///
/// Steps and services start with no signal blocked; a worker unblocks them when its own handlers
/// stand.
pub(crate) fn settle(role: Role, supervisor: Pid) -> io::Result<()> {
    setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
    prctl::set_name(&name(role))?;
    if let Role::Worker { .. } = role {
        sys::die_one_second_after(death_signal(role))?;
        return die_with(supervisor, death_signal(role));
    }
    die_with(supervisor, death_signal(role))?;
    SigSet::empty().thread_set_mask()?;
    Ok(())
}

/// What tells a child that the supervisor is dead; a worker gets one that nobody sends by hand.
fn death_signal(role: Role) -> Signal {
    match role {
        Role::Worker { .. } => Signal::SIGPWR,
        Role::Step { .. } | Role::Service { .. } | Role::PreFlight => Signal::SIGKILL,
    }
}

/// Arms the parent-death signal; fails when the parent died before it was armed.
fn die_with(supervisor: Pid, signal: Signal) -> io::Result<()> {
    prctl::set_pdeathsig(signal)?;
    if getppid() == supervisor {
        Ok(())
    } else {
        Err(io::Error::other("the supervisor died during the fork"))
    }
}

/// What ps(1) and top(1) show.
fn name(role: Role) -> CString {
    let name = match role {
        Role::PreFlight => "peace-preflight".to_owned(),
        Role::Worker { slot, .. } => worker_name("peace", &format!("/{slot}")),
        Role::Step { program } => format!("peace-step/{program}"),
        Role::Service { program } => format!("peace-service/{program}"),
    };
    CString::new(name).expect("digits and letters hold no NUL")
}

/// Its slot is shown whole, whatever the program is called.
fn worker_name(program: &str, slot: &str) -> String {
    let room = NAME_MAX_BYTES.saturating_sub(slot.len());
    format!("{program:.room$}{slot}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_of_a_long_name_still_shows_its_slot() {
        for (program, slot, shown) in [
            ("short", "/0", "short/0"),
            ("thirteen-long", "/9", "thirteen-long/9"),
            ("thirteen-long", "/10", "thirteen-lon/10"),
            ("longer-than-all-of-it", "/0", "longer-than-a/0"),
        ] {
            assert_eq!(worker_name(program, slot), shown);
        }
    }
}
