//! What the supervisor tells of itself and of its slots, in words that any reader of the map sees.
//!
//! The loop hands every [`Event`] that its journal is told to [`Scoreboard::count`], and once a turn what
//! it knows to [`Scoreboard::post`]; a reader gets them as [`Facts`] and
//! [`SlotView`](super::SlotView). Decides nothing.

use std::sync::atomic::{AtomicU64, Ordering};

use super::cell::Word;
use super::{LINE_WORDS, SLOTS_MAX, Scoreboard, add};
use crate::journal::Event;
use crate::state::{Exit, Role};
use crate::status::ChildState;

/// The supervisor's words, by their place.
#[derive(Clone, Copy)]
enum Fact {
    Pid,
    Generation,
    Target,
    Ready,
    Rolls,
    RollsFailed,
    Upgrades,
    UpgradesFailed,
    Steerings,
    HasReloaded,
    ErrorBytes,
}
/// The longest text of a failed reload that is kept.
const ERROR_BYTES_MAX: usize = 256;
/// Where that text begins.
const ERROR: usize = Fact::ErrorBytes as usize + 1;
/// Words of all facts.
pub(super) const FACT_WORDS: usize = (ERROR + ERROR_BYTES_MAX / 8).next_multiple_of(LINE_WORDS);

/// The words of a slot, by their place; its counters follow.
#[derive(Clone, Copy)]
pub(super) enum SlotWord {
    Listens,
    Generation,
    Queue,
    LastExit,
    /// How many of its workers ended unasked.
    Died,
    /// One word per reason.
    Restarts,
    /// Of its dead workers.
    Requests = SlotWord::Restarts as isize + RestartReason::ALL.len() as isize,
}
/// How many there are.
pub(super) const SLOT_WORDS: usize = SlotWord::Requests as usize + 1;

/// Why a worker was replaced although no operator had asked for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartReason {
    /// It ended by itself.
    Exit,
    /// A signal ended it that was not ours.
    Signal,
    /// It was silent for too long, or missed another deadline, and was killed.
    Hung,
    /// It could not begin, and said why.
    Boot,
    /// There was no process to be had.
    Fork,
    /// It was worn: see [`Recycling`](crate::Recycling).
    Recycled,
}

impl RestartReason {
    /// All of them, in the order of their words.
    pub const ALL: [Self; 6] =
        [Self::Exit, Self::Signal, Self::Hung, Self::Boot, Self::Fork, Self::Recycled];

    /// One word for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Exit => "exit",
            Self::Signal => "signal",
            Self::Hung => "hung",
            Self::Boot => "boot",
            Self::Fork => "fork",
            Self::Recycled => "recycled",
        }
    }
}

/// What a reader sees of the supervisor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Its process id.
    pub pid: i32,
    /// Which reading of the settings the next worker gets.
    pub generation: u64,
    /// How many workers are wanted.
    pub target: u64,
    /// How many slots are served.
    pub ready: u64,
    /// Replacements of all workers that succeeded.
    pub rolls: u64,
    /// And that were given up.
    pub rolls_failed: u64,
    /// Replacements of the program that succeeded.
    pub upgrades: u64,
    /// And that were given up.
    pub upgrades_failed: u64,
    /// How often new connections were steered elsewhere.
    pub steerings: u64,
    /// How the last reload ended, if there was one.
    pub last_reload: Option<Result<(), String>>,
}

/// What the loop knows at the end of a turn.
pub(crate) struct Post<'a> {
    pub(crate) generation: u64,
    pub(crate) target: usize,
    pub(crate) ready: usize,
    pub(crate) last_reload: Option<&'a Result<(), String>>,
    pub(crate) slots: &'a [SlotPost],
    pub(crate) lives: &'a [LifePost],
}

/// What the loop knows of one slot.
pub(crate) struct SlotPost {
    pub(crate) listens: bool,
    pub(crate) generation: u64,
    pub(crate) queue: u32,
    pub(crate) last_exit: Option<Exit>,
    pub(crate) restarts: u64,
}

/// What the loop knows of one child.
pub(crate) struct LifePost {
    pub(crate) cell: usize,
    pub(crate) life: ChildState,
    pub(crate) asked: bool,
    /// Whether it counts in another scoreboard.
    pub(crate) is_guest: bool,
}

/// In a cell's word for its life: it was told to leave.
const ASKED: u64 = 1 << 8;
/// And: it counts in another scoreboard, so that the application's words here are not its own.
const GUEST: u64 = 1 << 9;

impl Scoreboard {
    /// Writes down what the loop knows. Some plain stores per slot and per child.
    pub(crate) fn post(&self, post: &Post<'_>) {
        let facts = self.map.facts();
        let set = |fact: Fact, value: u64| facts[fact as usize].store(value, Ordering::Relaxed);
        set(Fact::Pid, std::process::id().into());
        set(Fact::Generation, post.generation);
        set(Fact::Target, post.target as u64);
        set(Fact::Ready, post.ready as u64);
        if read_reload(facts).as_ref() != post.last_reload.map(shortened).as_ref() {
            self.change(|| write_reload(facts, post.last_reload));
        }
        for (number, slot) in post.slots.iter().enumerate().take(SLOTS_MAX) {
            let row = self.map.row(number);
            let set = |word: SlotWord, value| row[word as usize].store(value, Ordering::Relaxed);
            set(SlotWord::Listens, slot.listens.into());
            set(SlotWord::Generation, slot.generation);
            set(SlotWord::Queue, slot.queue.into());
            set(SlotWord::LastExit, slot.last_exit.map_or(0, exit_to_word));
            set(SlotWord::Died, slot.restarts);
        }
        for LifePost { cell, life, asked, is_guest } in post.lives {
            let asked = if *asked { ASKED } else { 0 };
            let guest = if *is_guest { GUEST } else { 0 };
            self.map.cell(*cell).set(Word::Life, *life as u64 | asked | guest);
        }
    }

    /// Counts what the journal is told.
    pub(crate) fn count(&mut self, event: &Event) {
        let fact = match event {
            Event::Rolled => Fact::Rolls,
            Event::RollFailed { .. } => Fact::RollsFailed,
            Event::Upgraded { .. } => Fact::Upgrades,
            Event::UpgradeFailed { .. } => Fact::UpgradesFailed,
            Event::Steered { .. } => Fact::Steerings,
            Event::Hung { pid, .. } | Event::Killed { pid, .. } => {
                return self.overdue.push(*pid);
            }
            Event::Recycling { pid, .. } => {
                self.worn = Some(*pid);
                return;
            }
            Event::RecycleFailed { .. } => {
                self.worn = None;
                return;
            }
            Event::Exited { .. } => return self.count_exit(event),
            _ => return,
        };
        add(&self.map.facts()[fact as usize], 1);
    }

    fn count_exit(&mut self, event: &Event) {
        let Event::Exited { role, pid, exit, expected, reason, .. } = event else { return };
        let was_overdue = self.overdue.contains(pid);
        self.overdue.retain(|other| other != pid);
        let was_worn = self.worn.take_if(|worn| *worn == *pid).is_some();
        let why = match (was_overdue || !expected, was_worn) {
            (true, _) => restart_reason(*exit, was_overdue, reason.is_some()),
            (false, true) => RestartReason::Recycled,
            (false, false) => return,
        };
        if let Role::Worker { slot, .. } = role {
            add(&self.map.row(*slot)[SlotWord::Restarts as usize + why as usize], 1);
        }
    }
}

fn restart_reason(exit: Exit, was_overdue: bool, said_why: bool) -> RestartReason {
    match exit {
        Exit::NotForked => RestartReason::Fork,
        _ if was_overdue => RestartReason::Hung,
        _ if said_why => RestartReason::Boot,
        Exit::Code(_) => RestartReason::Exit,
        Exit::Signal(_) => RestartReason::Signal,
    }
}

/// What the supervisor says of a process in one word.
pub(super) struct LifeWord {
    pub(super) life: ChildState,
    pub(super) asked: bool,
    pub(super) is_guest: bool,
}

/// Of its word.
pub(super) fn word_to_life(word: u64) -> LifeWord {
    use ChildState::{Backoff, Booting, Draining, Hung, Ready};
    let all = [Booting, Ready, Draining, Backoff, Hung];
    let life = all.into_iter().find(|life| *life as u64 == word & !(ASKED | GUEST));
    let (asked, is_guest) = (word & ASKED != 0, word & GUEST != 0);
    LifeWord { life: life.unwrap_or(Booting), asked, is_guest }
}

/// What a reader sees; the caller looks whether it changed meanwhile.
pub(super) fn read(facts: &[AtomicU64]) -> Facts {
    let get = |fact: Fact| facts[fact as usize].load(Ordering::Relaxed);
    Facts {
        pid: i32::try_from(get(Fact::Pid)).unwrap_or_default(),
        generation: get(Fact::Generation),
        target: get(Fact::Target),
        ready: get(Fact::Ready),
        rolls: get(Fact::Rolls),
        rolls_failed: get(Fact::RollsFailed),
        upgrades: get(Fact::Upgrades),
        upgrades_failed: get(Fact::UpgradesFailed),
        steerings: get(Fact::Steerings),
        last_reload: read_reload(facts),
    }
}

fn read_reload(facts: &[AtomicU64]) -> Option<Result<(), String>> {
    let get = |word: usize| facts[word].load(Ordering::Relaxed);
    if get(Fact::HasReloaded as usize) == 0 {
        return None;
    }
    let length = usize::try_from(get(Fact::ErrorBytes as usize)).unwrap_or(usize::MAX);
    let length = length.min(ERROR_BYTES_MAX);
    let bytes = (0..length.div_ceil(8)).flat_map(|word| get(ERROR + word).to_le_bytes());
    let text: Vec<u8> = bytes.take(length).collect();
    let text = String::from_utf8_lossy(&text).into_owned();
    Some(if text.is_empty() { Ok(()) } else { Err(text) })
}

fn write_reload(facts: &[AtomicU64], reload: Option<&Result<(), String>>) {
    let text = reload.map(shortened).and_then(Result::err).unwrap_or_default();
    facts[Fact::HasReloaded as usize].store(reload.is_some().into(), Ordering::Relaxed);
    facts[Fact::ErrorBytes as usize].store(text.len() as u64, Ordering::Relaxed);
    for (place, chunk) in text.as_bytes().chunks(8).enumerate() {
        let mut bytes = [0; 8];
        bytes[..chunk.len()].copy_from_slice(chunk);
        facts[ERROR + place].store(u64::from_le_bytes(bytes), Ordering::Relaxed);
    }
}

/// As much of a failure as there is room for.
fn shortened(ended: &Result<(), String>) -> Result<(), String> {
    let cut = |text: &String| text[..text.floor_char_boundary(ERROR_BYTES_MAX)].to_owned();
    ended.as_ref().map_err(cut).copied()
}

/// How a worker ended, in a word that is never 0.
fn exit_to_word(exit: Exit) -> u64 {
    match exit {
        Exit::NotForked => 1,
        Exit::Code(code) => 0x100 | u64::from(code),
        Exit::Signal(signal) => 0x200 | u64::from(signal.unsigned_abs() & 0xff),
    }
}

/// The reverse; `None` for 0: nobody has ended yet.
pub(super) fn word_to_exit(word: u64) -> Option<Exit> {
    let low = word.to_le_bytes()[0];
    match word >> 8 {
        1 => Some(Exit::Code(low)),
        2 => Some(Exit::Signal(low.into())),
        _ => (word == 1).then_some(Exit::NotForked),
    }
}
