//! The policy: what to do about what was observed.
//!
//! [`plan`] is pure: it reads and writes one [`State`] and answers with [`Action`]s. It forks
//! nothing, reads no clock and cannot fail, so every rule here is tested without a process, and a
//! seeded random history of a million steps checks what must always hold.
//!
//! Called by the loop, once per observation. The order of a turn: note the fact (`observed`), let the
//! phase start what is missing (`filling`, `roll`, `recycle`, `upgrade`, `stop`), and on a tick of the clock enforce the
//! deadlines. At the end of every turn stands who serves which slot (`watch`). New behaviour is a new rule here.

mod filling;
mod observed;
mod recycle;
mod roll;
mod scale;
mod stop;
mod upgrade;
mod watch;

pub use recycle::Wear;

use crate::channel::{Message, Order};
use crate::journal::Event;
use crate::state::{Child, ChildId, ClientId, Exit, Life, Role, State};

/// Exit code for "the system refused" (sysexits `EX_OSERR`).
pub(crate) const REFUSED: u8 = 71;
/// A child that was killed and is not reaped after this long is killed again.
const KILL_AGAIN_MS: u64 = 2_000;
/// Room for a child to notice its own deadline before the supervisor enforces it.
const ENFORCE_AFTER_MS: u64 = 500;
/// A tick this late means that we were stopped ourselves, or the whole machine was.
const SUSPENDED_AFTER_MS: u64 = 1_000;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// The clock, after everything else that had happened by then.
    Clock,
    /// An operator or the system sent a signal.
    Signal(Signal),
    /// A child said something.
    Message(ChildId, Message),
    /// A child was forked.
    Spawned(ChildId, i32),
    /// A child ended, or could not be forked.
    Exited(ChildId, Exit),
    /// The sockets are open, or were refused.
    Listening(Result<(), String>),
    /// The application has read its files again, or refuses them. A number of workers is what they say
    /// now, if that is new.
    Reloaded(Result<Option<usize>, String>),
    /// How the workers are.
    Looked(Look),
    /// The socket of one more slot is open, or was refused.
    Opened(usize, Result<(), String>),
    /// Somebody asks for something, and perhaps waits for its end.
    Asked(ClientId, Ask),
    /// This program has taken the place of another one. A number of workers is what its settings say,
    /// if that is new.
    TookOver(Option<usize>),
    /// This program was to give up its place, and could not: why.
    StayedOn(String),
}

/// A look at the workers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Look {
    /// When each last said that it lives.
    pub beats: Vec<(ChildId, u64)>,
    /// How many connections wait on each of [`State::closing_slots`].
    pub queues: Vec<(usize, u32)>,
    /// How much each is worn, where there are limits.
    pub wear: Vec<(ChildId, Wear)>,
    /// Those of [`State::waiting`] who have left.
    pub gone: Vec<ClientId>,
}

/// What can be asked for on the control socket, and whether the answer is to come at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// As [`Signal::Reload`].
    Reload {
        /// Answer when it has ended.
        wait: bool,
    },
    /// So many workers.
    Scale {
        /// How many.
        workers: usize,
        /// Answer when they are ready.
        wait: bool,
    },
    /// As [`Signal::Upgrade`].
    Upgrade {
        /// Answer when it has ended.
        wait: bool,
    },
    /// As [`Signal::Stop`].
    Stop,
}

/// A request from outside, by what it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Stop gracefully (TERM, or HUP of a terminal that is gone).
    Stop,
    /// Stop quickly (INT, QUIT).
    Quit,
    /// Read the files again and replace all workers (HUP).
    Reload,
    /// One worker more (TTIN).
    More,
    /// One worker fewer (TTOU).
    Fewer,
    /// All workers drain, the sockets stay (WINCH).
    Pause,
    /// Open the log files again (USR1).
    Reopen,
    /// Become the program that now has our name (USR2).
    Upgrade,
    /// Nothing in this version; carries its name.
    Other(&'static str),
}

/// What the application is to do with its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// Read them again, for the workers to come. Only this one may be refused.
    Read,
    /// All workers run with them: forget the old ones.
    Keep,
    /// A worker could not: go back to the old ones.
    Undo,
}

/// Something to do. The loop does these in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Fork a child.
    Spawn(ChildId, Role),
    /// Send an order to a child.
    Send(ChildId, Order),
    /// Send a signal (its number) to a child.
    Signal(ChildId, i32),
    /// Send SIGKILL to a child.
    Kill(ChildId),
    /// Open the sockets.
    Listen,
    /// Close the supervisor's copies of the sockets: each worker empties its queue and closes the last
    /// one, so that a client who comes too late is refused at once and can go elsewhere.
    StopListening,
    /// The same after a start that has failed: what the service manager keeps for us is the next start's.
    LeaveListening,
    /// Open the socket of one more slot.
    Open(usize),
    /// Take a slot's socket out of the group, for good.
    Shut(usize),
    /// Give new connections to these slots only.
    Steer(Vec<usize>),
    /// Turn new connections away; those that wait already are still served.
    RefuseNew,
    /// Answer somebody who asked.
    Answer(ClientId, Result<(), String>),
    /// Tell the application about its settings.
    Reload(Reload),
    /// Forget the program that was here before this one: it will not come back.
    Commit,
    /// Tell the journal.
    Record(Event),
}

/// Decides. Answers what to do now; what to wait for is in the state.
pub fn plan(state: &mut State, now_ms: u64, observation: Observation) -> Vec<Action> {
    let mut turn = Turn { state, now_ms, actions: Vec::new() };
    let ticked = observation == Observation::Clock;
    turn.note(observation);
    if ticked {
        turn.end_delay();
    }
    turn.advance();
    if ticked {
        // Only now: a child whose message was still unread is not late.
        turn.forgive_suspension();
        turn.enforce_deadlines();
    }
    turn.tend();
    turn.actions
}

/// One call of [`plan`].
struct Turn<'a> {
    state: &'a mut State,
    now_ms: u64,
    actions: Vec<Action>,
}

impl Turn<'_> {
    /// Whoever was stopped, the machine included, could not see anybody meet a deadline: all get the
    /// time that was lost.
    fn forgive_suspension(&mut self) {
        let deadlines = self.state.children.values().filter_map(|child| child.life.deadline_ms());
        let late_ms = self.now_ms.saturating_sub(deadlines.min().unwrap_or(self.now_ms));
        if late_ms >= SUSPENDED_AFTER_MS {
            for child in self.state.children.values_mut() {
                child.life = child.life.postponed(late_ms + 1);
            }
        }
    }

    fn enforce_deadlines(&mut self) {
        let children = self.state.children.iter();
        let late = children
            .filter(|(_, child)| child.life.deadline_ms().is_some_and(|at| at <= self.now_ms))
            .map(|(id, child)| (*id, child.role, child.pid.unwrap_or_default()))
            .collect::<Vec<_>>();
        for (id, role, pid) in late {
            self.record(Event::Killed { role, pid });
            self.kill(id);
        }
    }

    /// Tells a child to end. A second, hastier order never gives it more time.
    fn drain(&mut self, id: ChildId, order: Order, timeout_ms: u64) {
        self.actions.push(Action::Send(id, order));
        self.wait_for_end(id, timeout_ms + ENFORCE_AFTER_MS);
    }

    /// Tells a worker to leave within the graceful timeout; one that was killed leaves anyway.
    fn retire(&mut self, id: ChildId) {
        if !matches!(self.child(id).life, Life::Killed { .. }) {
            self.drain(id, Order::Drain, self.state.config.graceful_timeout_ms);
        }
    }

    fn wait_for_end(&mut self, id: ChildId, timeout_ms: u64) {
        let latest_ms = self.now_ms + timeout_ms;
        let child = self.child(id);
        let deadline_ms = match child.life {
            Life::Draining { deadline_ms } | Life::Hung { deadline_ms } => {
                deadline_ms.min(latest_ms)
            }
            _ => latest_ms,
        };
        child.life = Life::Draining { deadline_ms };
        child.asked = true;
    }

    fn kill(&mut self, id: ChildId) {
        self.actions.push(Action::Kill(id));
        let deadline_ms = self.now_ms + KILL_AGAIN_MS;
        self.child(id).life = Life::Killed { deadline_ms };
    }

    fn child(&mut self, id: ChildId) -> &mut Child {
        self.state.children.get_mut(&id).expect("ids come from this state")
    }

    fn record(&mut self, event: Event) {
        self.actions.push(Action::Record(event));
    }
}
