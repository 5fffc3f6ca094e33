//! What is worth telling an operator, as facts.
//!
//! [`crate::plan`] and the loop produce them, the application's [`Journal`] writes them. Nothing here
//! knows a log format. No event carries a secret.

use std::os::fd::OwnedFd;

use serde::Serialize;

use crate::state::{Exit, Role};

/// Where facts go. Must not block for long: the loop waits for it.
pub trait Journal {
    /// Takes one fact.
    fn record(&mut self, event: &Event);

    /// The file that it writes into, as it is after [`Event::Reopening`], for the children: they may have no
    /// right to open it. `None` where it writes into none.
    fn file(&self) -> Option<OwnedFd> {
        None
    }
}

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Event {
    /// The sockets are open.
    Listening {
        /// Where; ports are the real ones, several addresses are separated by commas.
        address: String,
        /// How many sockets.
        slots: usize,
    },
    /// A child was forked.
    Spawned {
        /// What for.
        role: Role,
        /// Its process id.
        pid: i32,
    },
    /// A worker serves.
    Ready {
        /// Which.
        role: Role,
        /// Its process id.
        pid: i32,
    },
    /// All workers were ready: the start has succeeded.
    Serving {
        /// How many.
        workers: usize,
    },
    /// A child ended.
    Exited {
        /// What it was for.
        role: Role,
        /// Its process id; 0 when it could not be forked.
        pid: i32,
        /// How.
        exit: Exit,
        /// Whether it was asked to.
        expected: bool,
        /// Why it could not start, when it said so.
        reason: Option<String>,
        /// The pause before the next start, if there will be one.
        restart_in_ms: Option<u64>,
    },
    /// A child missed its deadline and is killed.
    Killed {
        /// What it was for.
        role: Role,
        /// Its process id.
        pid: i32,
    },
    /// New connections go to these slots.
    Steered {
        /// Which.
        slots: Vec<usize>,
    },
    /// The kernel refuses to steer: it spreads new connections over all slots.
    NotSteered {
        /// What it said.
        reason: String,
    },
    /// A worker has not said for a while that it lives: it gets no new connections.
    Silent {
        /// Which.
        role: Role,
        /// Its process id.
        pid: i32,
    },
    /// A worker leaves, and we have not told it to.
    Leaving {
        /// Which.
        role: Role,
        /// Its process id.
        pid: i32,
    },
    /// It says so again.
    Heard {
        /// Which.
        role: Role,
        /// Its process id.
        pid: i32,
    },
    /// A worker was silent for too long, and is being killed.
    Hung {
        /// Which.
        role: Role,
        /// Its process id.
        pid: i32,
        /// For how long.
        silence_ms: u64,
    },
    /// Another number of workers is wanted.
    Scaling {
        /// How many.
        workers: usize,
    },
    /// They cannot be had; it stays at those there are.
    ScaleFailed {
        /// Why.
        reason: String,
    },
    /// Log files are to be opened again: the journal opens its own when it hears this.
    Reopening,
    /// All workers drain, and no new ones come until a reload.
    Paused,
    /// The stop has begun.
    Stopping {
        /// In what way.
        haste: crate::state::Haste,
    },
    /// The workers are being replaced.
    Rolling,
    /// All workers were replaced.
    Rolled,
    /// The replacement was given up; the old workers serve on.
    RollFailed {
        /// Why.
        reason: String,
    },
    /// A worker is over a limit, and is being replaced.
    Recycling {
        /// Which.
        role: Role,
        /// Its process id.
        pid: i32,
        /// The limit, by the name of its setting.
        reason: &'static str,
    },
    /// It could not be: it serves on, and is tried again later.
    RecycleFailed {
        /// Why.
        reason: String,
    },
    /// A worker was over a limit so soon that replacing it does not help.
    WornEarly {
        /// The limit, by the name of its setting.
        reason: &'static str,
        /// How soon after it was ready.
        after_ms: u64,
    },
    /// What the application counts begins at zero: the program before has counted other things.
    CountsBegin,
    /// The new program can take over, and is about to.
    Upgrading {
        /// Its version.
        version: String,
    },
    /// The new program runs, and so do its workers.
    Upgraded {
        /// Its version.
        version: String,
    },
    /// The program was not replaced, or is back: what served, serves on.
    UpgradeFailed {
        /// Why.
        reason: String,
    },
    /// A signal that leads to nothing in this version.
    SignalIgnored {
        /// Its name.
        signal: &'static str,
    },
}

impl Event {
    /// The kernel has refused.
    pub(crate) fn not_steered(refused: &std::io::Error) -> Self {
        Self::NotSteered { reason: refused.to_string() }
    }
}
