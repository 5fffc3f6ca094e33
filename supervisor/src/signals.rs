//! Signals, read as data.
//!
//! The supervisor blocks them and reads a signalfd: no handler runs, so none can be inherited by a
//! child, and none interrupts anything. Called by the loop. Source: signalfd(2), signal(7).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal as Number};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::heritage::SignalsLeft;
use crate::plan::Signal;
use crate::sys;

/// What the supervisor reacts to. Others keep their default action.
const WATCHED: [Number; 10] = [
    Number::SIGTERM,
    Number::SIGINT,
    Number::SIGQUIT,
    Number::SIGHUP,
    Number::SIGCHLD,
    Number::SIGTTIN,
    Number::SIGTTOU,
    Number::SIGUSR1,
    Number::SIGUSR2,
    Number::SIGWINCH,
];

/// The blocked signals of this process.
#[derive(Debug)]
pub(crate) struct Signals {
    fd: SignalFd,
    started_on_terminal: bool,
    ignores_hangup: bool,
}

impl Signals {
    /// Blocks all watched signals and opens the descriptor they are read from.
    pub(crate) fn block() -> io::Result<Self> {
        let set: SigSet = WATCHED.into_iter().collect();
        set.thread_block()?;
        let ignores_hangup = is_ignored(Number::SIGHUP);
        // A script's background job is started with INT and QUIT ignored; a child that execs would keep
        // that, and not hear what the kernel tells it when we die.
        for signal in WATCHED.into_iter().chain([Number::SIGALRM]) {
            sys::default_action(signal)?;
        }
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Self { fd, started_on_terminal: on_terminal(), ignores_hangup })
    }

    /// The same in a process whose program before this one had them blocked. None that came since is
    /// lost, which a change of its action could do; and they have their default actions already.
    pub(crate) fn adopt(left: SignalsLeft) -> io::Result<Self> {
        let set: SigSet = WATCHED.into_iter().collect();
        set.thread_block()?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let SignalsLeft { started_on_terminal, ignores_hangup } = left;
        Ok(Self { fd, started_on_terminal, ignores_hangup })
    }

    /// What the program after this one cannot find out any more.
    pub(crate) fn leave(&self) -> SignalsLeft {
        let Self { started_on_terminal, ignores_hangup, .. } = *self;
        SignalsLeft { started_on_terminal, ignores_hangup }
    }

    /// The next signal that asks for something. A child's death is `None`: it only wakes the loop,
    /// which reaps in any case, since one SIGCHLD may stand for many deaths.
    pub(crate) fn next(&self) -> io::Result<Option<Signal>> {
        while let Some(info) = self.fd.read_signal()? {
            let number = i32::try_from(info.ssi_signo).ok().and_then(|n| Number::try_from(n).ok());
            match number {
                Some(Number::SIGTERM) => return Ok(Some(Signal::Stop)),
                Some(Number::SIGINT | Number::SIGQUIT) => return Ok(Some(Signal::Quit)),
                // nohup(1): the operator wants it to outlive the terminal.
                Some(Number::SIGHUP) if self.terminal_is_gone() && self.ignores_hangup => {}
                Some(Number::SIGHUP) if self.terminal_is_gone() => return Ok(Some(Signal::Stop)),
                Some(Number::SIGHUP) => return Ok(Some(Signal::Reload)),
                // The kernel sends it whenever somebody resizes the terminal.
                Some(Number::SIGWINCH) if info.ssi_code > 0 => {}
                Some(Number::SIGWINCH) => return Ok(Some(Signal::Pause)),
                Some(Number::SIGUSR2) => return Ok(Some(Signal::Upgrade)),
                Some(Number::SIGTTIN) => return Ok(Some(Signal::More)),
                Some(Number::SIGTTOU) => return Ok(Some(Signal::Fewer)),
                Some(Number::SIGUSR1) => return Ok(Some(Signal::Reopen)),
                Some(Number::SIGCHLD) | None => {}
                Some(other) => return Ok(Some(Signal::Other(other.as_str()))),
            }
        }
        Ok(None)
    }

    /// A hang-up of the terminal the operator started us on is a request to stop, not to reload.
    fn terminal_is_gone(&self) -> bool {
        self.started_on_terminal && !on_terminal()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Whether this process has a controlling terminal: only ENXIO says that it has none. Source: tty(4).
fn on_terminal() -> bool {
    match File::open("/dev/tty") {
        Ok(_) => true,
        Err(refused) => refused.raw_os_error() != Some(Errno::ENXIO as i32),
    }
}

/// Whether the process was started with `signal` ignored. Source: proc_pid_status(5), `SigIgn`.
fn is_ignored(signal: Number) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal as i32 - 1) & 1 == 1)
}
