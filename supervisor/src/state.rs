//! All that the supervisor knows, as plain data.
//!
//! Written by [`crate::plan`] alone, read by the loop. It holds no descriptor and no closure, so it
//! can be compared, printed, tested without processes, and written out for a successor.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::{Config, ProgramKind};

/// A child, from the decision to fork it until it is reaped. Never used twice.
pub type ChildId = u64;

/// A connection to the control socket. Never used twice.
pub type ClientId = u64;

/// Everything that is decided by, and everything that was decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// What the operator chose.
    pub config: Config,
    /// The programs beside the workers, in the order of their start; they end in reverse.
    pub programs: Vec<ProgramSpec>,
    /// Where in its life the supervisor is.
    pub phase: Phase,
    /// One record per slot.
    pub slots: Vec<Slot>,
    /// One record per service in `programs` (unused for steps), by index.
    pub services: Vec<Attempts>,
    /// Every child that was not reaped yet.
    pub children: BTreeMap<ChildId, Child>,
    /// The replacement of all workers, while one is under way.
    pub roll: Option<Roll>,
    /// The application was asked to read its files, and has not answered yet.
    pub reload_asked: bool,
    /// And all workers were told to leave since: its answer is of no use any more.
    pub reload_void: bool,
    /// A reload was asked for while it could not begin: it follows as soon as it can.
    pub reload_again: bool,
    /// The replacement of one worker that is worn, while one is under way.
    pub recycle: Option<Recycle>,
    /// Its record of failures, and when to try again.
    pub recycle_attempts: Attempts,
    /// The replacement of the program itself, while one is under way.
    pub upgrade: Option<Upgrade>,
    /// An upgrade was asked for while it could not begin: it follows as soon as it can.
    pub upgrade_again: bool,
    /// How many upgrades have begun.
    pub upgrades: u64,
    /// How many reloads have begun.
    pub reloads: u64,
    /// How often new settings were read: a child forked before the last time is to be replaced.
    pub round: u64,
    /// How the last reload ended, if there was one.
    pub last_reload: Option<Result<(), String>>,
    /// How many slots are wanted.
    pub target: usize,
    /// How few there may be: a socket that others opened is never without a worker.
    pub workers_min: usize,
    /// How many the settings want that are being rolled out, where that is new.
    pub next_target: Option<usize>,
    /// All workers were told to leave, and no new ones are wanted until a reload.
    pub paused: bool,
    /// The slots that new connections are steered to, as the kernel was last told.
    pub steered: Vec<usize>,
    /// When the children's heartbeats were last looked at.
    pub looked_at_ms: u64,
    /// Who waits for the end of what they asked for.
    pub waiting: Vec<Waiter>,
    /// The id the next child gets.
    pub next_child: ChildId,
}

/// Where in its life the supervisor is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Running the programs, one after the other; `program` is the index of the current one.
    Boot {
        /// Index into [`State::programs`].
        program: usize,
    },
    /// Opening the sockets.
    Bind,
    /// The first workers were forked; the start has succeeded when all were ready once.
    FirstStart,
    /// Serving: whatever dies is replaced.
    Serve,
    /// Serving on for a while, before a graceful stop.
    Delay {
        /// When it ends.
        until_ms: u64,
        /// Whether new connections are turned away already.
        refusing: bool,
    },
    /// Ending: nothing is started any more.
    Stop {
        /// What `run` will return, unless something worse happens on the way.
        outcome: Outcome,
        /// How hurried.
        haste: Haste,
    },
    /// Over: every child was reaped.
    Over(Outcome),
}

/// How quickly to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Haste {
    /// Within the graceful timeout.
    Graceful,
    /// Within the quick timeout.
    Quick,
    /// At once.
    Now,
}

/// How it all ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Everything in flight was answered.
    Drained,
    /// A child had to be killed, or cut its work short.
    Forced,
    /// The start failed.
    Failed {
        /// The exit code that says so (sysexits).
        code: u8,
        /// Why, in one line.
        text: String,
    },
}

/// A program beside the workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramSpec {
    /// What people call it.
    pub name: String,
    /// What to do when it fails without saying why, for example where its log is.
    pub hint: Option<String>,
    /// Step or service.
    pub kind: ProgramKind,
}

/// A numbered place for one worker; it outlives its workers, and so does its socket.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// How many workers were forked for it.
    pub generation: u64,
    /// How many of them died unasked.
    pub restarts: u64,
    /// Its record of failures, and when to try again.
    pub attempts: Attempts,
    /// How the last worker ended.
    pub last_exit: Option<Exit>,
    /// How its socket is.
    pub socket: Socket,
    /// Since when none of its own workers serves it.
    pub unserved_since_ms: Option<u64>,
    /// The worker of another slot that accepts from its socket meanwhile.
    pub foster: Option<ChildId>,
}

/// A slot's listening socket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Socket {
    /// It listens.
    #[default]
    Open,
    /// It is being opened.
    Opening,
    /// It gets no new connections, and is shut when its queue was empty for a while.
    Closing {
        /// Since when its queue is empty.
        empty_since_ms: Option<u64>,
    },
    /// It is no more.
    Shut,
}

impl Socket {
    /// Whether connections may wait on it.
    #[must_use]
    pub fn listens(self) -> bool {
        matches!(self, Self::Open | Self::Closing { .. })
    }
}

/// Somebody who waits for the end of what they asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiter {
    /// Their connection.
    pub client: ClientId,
    /// What they wait for.
    pub goal: Goal,
}

/// What can be waited for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Goal {
    /// The end of the reload of this number.
    Reload(u64),
    /// The end of the upgrade of this number.
    Upgrade(u64),
    /// So many workers, all of them ready and no other there.
    Scale(usize),
}

/// A record of failures in a row.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempts {
    /// Deaths in a row that came too early.
    pub failures: u32,
    /// When to start again; `None` while there is a child, or none is wanted.
    pub restart_at_ms: Option<u64>,
}

/// One forked process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Child {
    /// Its process id; `None` between the decision and the fork.
    pub pid: Option<i32>,
    /// What it is for.
    pub role: Role,
    /// How far it is.
    pub life: Life,
    /// When it was forked.
    pub spawned_ms: u64,
    /// Which reading of the settings it was forked with.
    pub round: u64,
    /// When it last said that it lives.
    pub beat_ms: u64,
    /// Whether it was silent for too long when it was last looked at.
    pub silent: bool,
    /// When it was ready, if it ever was: only then can its end have cost a client something.
    pub ready_ms: Option<u64>,
    /// Whether it is to end: told by us, or by itself.
    pub asked: bool,
    /// Whether it said by itself that it leaves.
    pub leaves_unasked: bool,
    /// Why it could not start, when it said so.
    pub boot_failure: Option<(u8, String)>,
    /// Since when a worker is over a limit.
    pub worn_ms: Option<u64>,
    /// Of a pre-flight: the version that it said could take over.
    pub passed: Option<String>,
}

/// What a child is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// A program that runs to its end.
    Step {
        /// Index into [`State::programs`].
        program: usize,
    },
    /// A program that runs as long as the supervisor.
    Service {
        /// Index into [`State::programs`].
        program: usize,
    },
    /// A worker.
    Worker {
        /// Its slot.
        slot: usize,
        /// Which worker of that slot it is, from 1.
        generation: u64,
    },
    /// The program that now has our name, which tries whether it could take over.
    PreFlight,
}

/// How far a child is. Every state that waits carries its deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Life {
    /// Not ready yet; killed at the deadline. A step stays here until its end.
    Booting {
        /// When patience ends.
        deadline_ms: u64,
    },
    /// Doing its work.
    Serving {
        /// Since when.
        since_ms: u64,
    },
    /// Silent for too long: told to abort, and killed at the deadline.
    Hung {
        /// When patience ends.
        deadline_ms: u64,
    },
    /// Told to end; killed at the deadline.
    Draining {
        /// When patience ends.
        deadline_ms: u64,
    },
    /// Killed; killed again at the deadline if it was not reaped by then.
    Killed {
        /// When to try again.
        deadline_ms: u64,
    },
}

/// A replacement of all workers, one slot at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roll {
    /// The slot being replaced.
    pub slot: usize,
    /// What has to happen before the next slot.
    pub waits_for: RollStep,
}

/// A replacement of one worker that is over a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recycle {
    /// Its slot.
    pub slot: usize,
    /// What has to happen before it is over.
    pub waits_for: RollStep,
    /// The worker was worn so soon that its successor will be, too.
    pub is_early: bool,
}

/// The two halves of replacing one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RollStep {
    /// This child has to become ready.
    Successor(ChildId),
    /// This child has to leave.
    Predecessor(ChildId),
}

/// A replacement of the program itself, in this very process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Upgrade {
    /// This child tries whether the new program could take over.
    PreFlight {
        /// Which.
        child: ChildId,
    },
    /// It could: the loop becomes it as soon as nothing else is to be done.
    HandOver {
        /// The new program's version.
        version: String,
    },
    /// The new program runs, and replaces the workers.
    Trial {
        /// Its version.
        version: String,
        /// What [`State::round`] was before.
        old_round: u64,
    },
    /// It could not replace them: this child tries whether the old program could take over again.
    WayBack {
        /// Which.
        child: ChildId,
        /// Why the new one could not.
        reason: String,
        /// What [`State::round`] was before the trial.
        old_round: u64,
    },
    /// It could: the loop becomes the old program again.
    HandBack {
        /// Why.
        reason: String,
        /// What [`State::round`] was before the trial.
        old_round: u64,
    },
    /// The old program is back, and replaces the workers that the new one had forked.
    Undone {
        /// Why.
        reason: String,
    },
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// With this code.
    Code(u8),
    /// By this signal (signal(7) number).
    Signal(i32),
    /// It could not be forked.
    NotForked,
}

impl State {
    /// A supervisor that has done nothing yet.
    #[must_use]
    pub fn new(config: Config, programs: Vec<ProgramSpec>) -> Self {
        Self {
            slots: vec![Slot::default(); config.workers],
            target: config.workers,
            workers_min: 1,
            next_target: None,
            services: vec![Attempts::default(); programs.len()],
            config,
            programs,
            phase: Phase::Boot { program: 0 },
            children: BTreeMap::new(),
            roll: None,
            reload_asked: false,
            reload_void: false,
            reload_again: false,
            recycle: None,
            recycle_attempts: Attempts::default(),
            upgrade: None,
            upgrade_again: false,
            upgrades: 0,
            reloads: 0,
            round: 0,
            last_reload: None,
            paused: false,
            steered: Vec::new(),
            looked_at_ms: 0,
            waiting: Vec::new(),
            next_child: 1,
        }
    }

    /// The workers of `slot` that are booting or serving: the one that counts, and in a roll its
    /// successor.
    pub fn live_workers(&self, slot: usize) -> impl Iterator<Item = (ChildId, &Child)> {
        self.workers().filter(move |(_, child)| {
            child.slot() == Some(slot)
                && matches!(child.life, Life::Booting { .. } | Life::Serving { .. })
        })
    }

    /// All workers, however far they are.
    pub fn workers(&self) -> impl Iterator<Item = (ChildId, &Child)> {
        self.children
            .iter()
            .filter(|(_, child)| child.slot().is_some())
            .map(|(id, child)| (*id, child))
    }

    /// The workers of `slot` that were not told to leave. One that was killed for its silence, or for not
    /// becoming ready, counts until it is reaped: two workers must never share a slot but in a roll.
    pub fn fillers(&self, slot: usize) -> impl Iterator<Item = (ChildId, &Child)> {
        self.workers().filter(move |(_, child)| child.slot() == Some(slot) && !child.asked)
    }

    /// Whether `slot` may get a worker: nobody fills it, and no more than one is still leaving.
    #[must_use]
    pub fn is_vacant(&self, slot: usize) -> bool {
        let workers = self.workers().filter(|(_, child)| child.slot() == Some(slot));
        self.fillers(slot).next().is_none() && workers.count() < 2
    }

    /// The worker that serves `slot`: ready, not told to leave, and not silent.
    #[must_use]
    pub fn server(&self, slot: usize) -> Option<ChildId> {
        let mut workers = self.workers().filter(|(_, child)| child.slot() == Some(slot));
        workers.find(|(_, child)| child.serves()).map(|(id, _)| id)
    }

    /// How many slots have a socket that is to stay: always the lowest ones.
    #[must_use]
    pub fn open_slots(&self) -> usize {
        self.slots.iter().take_while(|slot| slot.socket == Socket::Open).count()
    }

    /// The slots whose queue has to be looked at.
    pub fn closing_slots(&self) -> impl Iterator<Item = usize> {
        let closing = |(number, slot): (usize, &Slot)| {
            matches!(slot.socket, Socket::Closing { .. }).then_some(number)
        };
        self.slots.iter().enumerate().filter_map(closing)
    }

    /// The child that runs program `program`.
    #[must_use]
    pub fn program_child(&self, program: usize) -> Option<ChildId> {
        self.children
            .iter()
            .find(|(_, child)| child.role.program() == Some(program))
            .map(|(id, _)| *id)
    }

    /// The earliest instant at which the clock alone changes something.
    #[must_use]
    pub fn next_deadline_ms(&self) -> Option<u64> {
        let children = self.children.values().filter_map(|child| child.life.deadline_ms());
        // A slot that waits for the end of a worker does not wait for the clock.
        let vacant = |(number, _): &(usize, &Slot)| self.is_vacant(*number);
        let slots = self.slots.iter().enumerate().filter(vacant);
        let slots = slots.filter_map(|(_, slot)| slot.attempts.restart_at_ms);
        let services = self.services.iter().filter_map(|service| service.restart_at_ms);
        let look = self.watches().then_some(self.looked_at_ms + LOOK_EVERY_MS);
        let delay = match self.phase {
            Phase::Delay { until_ms, .. } => Some(until_ms),
            _ => None,
        };
        children.chain(slots).chain(services).chain(look).chain(delay).min()
    }

    /// Whether nobody is being replaced on purpose: no reload, upgrade nor recycling is under way.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.roll.is_none()
            && !self.reload_asked
            && self.upgrade.is_none()
            && self.recycle.is_none()
    }

    /// Whether the loop is to become another program now.
    #[must_use]
    pub fn hands_over(&self) -> bool {
        let decided =
            matches!(self.upgrade, Some(Upgrade::HandOver { .. } | Upgrade::HandBack { .. }));
        decided && self.phase == Phase::Serve
    }

    /// Whether workers are watched: heartbeats, queues, and who serves which slot.
    #[must_use]
    pub fn watches(&self) -> bool {
        matches!(self.phase, Phase::FirstStart | Phase::Serve | Phase::Delay { .. })
    }
}

/// How often heartbeats and queues are looked at.
pub const LOOK_EVERY_MS: u64 = 250;

impl Child {
    /// The slot of a worker.
    #[must_use]
    pub fn slot(&self) -> Option<usize> {
        match self.role {
            Role::Worker { slot, .. } => Some(slot),
            Role::Step { .. } | Role::Service { .. } | Role::PreFlight => None,
        }
    }

    /// Whether it was ever ready.
    #[must_use]
    pub fn served(&self) -> bool {
        self.ready_ms.is_some()
    }

    /// Whether new connections are in good hands with it.
    #[must_use]
    pub fn serves(&self) -> bool {
        matches!(self.life, Life::Serving { .. }) && !self.silent
    }
}

impl Role {
    /// The program of a step or a service.
    #[must_use]
    pub fn program(self) -> Option<usize> {
        match self {
            Self::Step { program } | Self::Service { program } => Some(program),
            Self::Worker { .. } | Self::PreFlight => None,
        }
    }
}

impl Life {
    /// The same state with its deadline, if it has one, `by_ms` later.
    #[must_use]
    pub fn postponed(self, by_ms: u64) -> Self {
        match self {
            Self::Booting { deadline_ms } => Self::Booting { deadline_ms: deadline_ms + by_ms },
            Self::Hung { deadline_ms } => Self::Hung { deadline_ms: deadline_ms + by_ms },
            Self::Draining { deadline_ms } => Self::Draining { deadline_ms: deadline_ms + by_ms },
            Self::Killed { deadline_ms } => Self::Killed { deadline_ms: deadline_ms + by_ms },
            Self::Serving { .. } => self,
        }
    }

    /// When the clock ends this state, if it does.
    #[must_use]
    pub fn deadline_ms(self) -> Option<u64> {
        match self {
            Self::Booting { deadline_ms }
            | Self::Hung { deadline_ms }
            | Self::Draining { deadline_ms }
            | Self::Killed { deadline_ms } => Some(deadline_ms),
            Self::Serving { .. } => None,
        }
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::NotForked => f.write_str("fork was refused"),
        }
    }
}
