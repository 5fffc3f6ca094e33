//! What a forked child is given, and what it does before its own work begins.
//!
//! [`Post`] is all that the application's closures see of the supervisor. [`settle`] runs in the
//! child right after the fork: it ties the child's life to the supervisor's. Knows no policy.
//! Source: prctl(2) on `PR_SET_PDEATHSIG` and `PR_SET_NAME`.

use std::ffi::CString;
use std::io;
use std::net::TcpListener;

use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Pid, getppid, setpgid};

use crate::channel::{ChildChannel, Message};
use crate::scoreboard::Cell;
use crate::state::Role;
use crate::sys;

/// What the kernel keeps of a process's name.
const NAME_MAX_BYTES: usize = 15;

/// A child's place: what it is for, and all it may use.
#[derive(Debug)]
pub struct Post {
    /// What it is for.
    pub role: Role,
    /// The sockets of its slot; empty for steps and services.
    pub listeners: Vec<TcpListener>,
    /// The way to and from the supervisor.
    pub channel: ChildChannel,
    /// Its cell of the scoreboard.
    pub cell: Cell,
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
    match role {
        Role::Worker { .. } => {
            // A signal that nobody sends by hand.
            sys::die_one_second_after(Signal::SIGPWR)?;
            die_with(supervisor, Signal::SIGPWR)
        }
        Role::Step { .. } | Role::Service { .. } => {
            die_with(supervisor, Signal::SIGKILL)?;
            SigSet::empty().thread_set_mask()?;
            Ok(())
        }
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
