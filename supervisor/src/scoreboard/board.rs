//! The scoreboard as its readers see it: a copy of everything at one instant.
//!
//! The supervisor reads it for a `status`, a child for whoever asks it; any number may read at once, none
//! holds up a writer. Knows no names: those of counters and gauges are the application's.

use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::thread::yield_now;

use super::cell::{CellState, Word};
use super::facts::{self, Facts, LifeWord, RestartReason, SlotWord, word_to_exit, word_to_life};
use super::{CELLS_MAX, Map, PROGRAMS, SEQUENCE, SLOTS_MAX};
use crate::config::Told;
use crate::state::Exit;
use crate::status::ChildState;

/// How often a reader looks again before it gives up. A change takes microseconds: only a supervisor
/// that was stopped in the middle of one lets so many tries fail.
const TRIES_MAX: u32 = 10_000;

/// The shared memory, for reading.
#[derive(Debug, Clone, Copy)]
pub struct Board {
    map: Map,
}

/// Everything at one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Of the supervisor.
    pub facts: Facts,
    /// Of every slot that listens or ever had a worker, by number.
    pub slots: Vec<SlotView>,
    /// Of every living process.
    pub cells: Vec<CellView>,
    /// The application's counters, over all processes that there are and were.
    pub counters: Vec<u64>,
    /// Requests begun, over all of them.
    pub requests: u64,
}

/// One slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotView {
    /// Its number.
    pub slot: usize,
    /// Whether its socket listens.
    pub listens: bool,
    /// Its newest worker's number, from 1.
    pub generation: u64,
    /// Connections that wait on its socket.
    pub queue: u64,
    /// How its last worker ended.
    pub last_exit: Option<Exit>,
    /// How many of its workers ended unasked.
    pub restarts: u64,
    /// How many were replaced for what, in the order of [`RestartReason::ALL`].
    pub reasons: [u64; RestartReason::ALL.len()],
    /// Requests of its dead and its living workers.
    pub requests: u64,
}

/// One living process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellView {
    /// Its slot; `None` for a program beside the workers.
    pub slot: Option<usize>,
    /// Which worker of its slot it is; for a program, which one.
    pub generation: u64,
    /// Its process id.
    pub pid: i32,
    /// How far it is, as the supervisor sees it.
    pub life: ChildState,
    /// Whether it was told to leave.
    pub asked: bool,
    /// Whether it has said itself that it is ready.
    pub is_ready: bool,
    /// When it was forked, on the clock of [`Board::now_ms`].
    pub spawned_ms: u64,
    /// When it last said that it lives.
    pub heartbeat_ms: u64,
    /// How late its event loop was then, in microseconds.
    pub loop_lag_us: u64,
    /// Requests it has begun.
    pub requests: u64,
    /// Requests it answers now.
    pub in_flight: u64,
    /// Connections it holds.
    pub connections: u64,
    /// The application's gauges; none of a process that counts in a scoreboard of another layout.
    pub gauges: Vec<u64>,
    /// Of its counters those that a status tells; see [`Told`].
    pub told: Vec<u64>,
}

impl Board {
    pub(super) fn new(map: Map) -> Self {
        Self { map }
    }

    /// The time on the clock that heartbeats are told in, in milliseconds.
    #[must_use]
    pub fn now_ms() -> u64 {
        crate::clock::now_ms()
    }

    /// A copy of everything; `None` when the supervisor stands still in the middle of a change.
    #[must_use]
    pub fn snapshot(&self) -> Option<Snapshot> {
        let sequence = &self.map.words[SEQUENCE];
        for _ in 0..TRIES_MAX {
            let before = sequence.load(Ordering::Acquire);
            if before.is_multiple_of(2) {
                let snapshot = self.look();
                fence(Ordering::Acquire);
                if sequence.load(Ordering::Relaxed) == before {
                    return Some(snapshot);
                }
            }
            yield_now();
        }
        None
    }

    fn look(&self) -> Snapshot {
        let facts = facts::read(self.map.facts());
        let mut counters = vec![0; self.map.layout.counters];
        let mut slots: Vec<SlotView> = (0..SLOTS_MAX).map_while(|slot| self.slot(slot)).collect();
        for slot in slots.iter().map(|slot| slot.slot).chain([PROGRAMS]) {
            sum(&mut counters, &self.map.row(slot)[SlotWord::Requests as usize + 1..]);
        }
        let mut cells = Vec::new();
        for index in 0..CELLS_MAX {
            let Some(view) = self.cell(index) else { continue };
            sum(&mut counters, self.map.cell(index).counters());
            if let Some(slot) = view.slot.and_then(|slot| slots.get_mut(slot)) {
                slot.requests += view.requests;
            }
            cells.push(view);
        }
        let requests = slots.iter().map(|slot| slot.requests).sum();
        Snapshot { facts, slots, cells, counters, requests }
    }

    /// A slot; `None` when none of this number was ever in use, nor any above.
    fn slot(&self, slot: usize) -> Option<SlotView> {
        let row = self.map.row(slot);
        let get = |word: usize| row[word].load(Ordering::Relaxed);
        let listens = get(SlotWord::Listens as usize) != 0;
        let generation = get(SlotWord::Generation as usize);
        (listens || generation > 0).then(|| SlotView {
            slot,
            listens,
            generation,
            queue: get(SlotWord::Queue as usize),
            last_exit: word_to_exit(get(SlotWord::LastExit as usize)),
            restarts: get(SlotWord::Died as usize),
            reasons: std::array::from_fn(|reason| get(SlotWord::Restarts as usize + reason)),
            requests: get(SlotWord::Requests as usize),
        })
    }

    /// The process of a cell, if there is one.
    fn cell(&self, index: usize) -> Option<CellView> {
        let cell = self.map.cell(index);
        let reading = cell.reading();
        let LifeWord { life, asked, is_guest } = word_to_life(cell.get(Word::Life));
        let gauges = if is_guest { &[] } else { cell.gauges() };
        (reading.state != CellState::Free as u64).then(|| CellView {
            slot: usize::try_from(cell.get(Word::Slot)).ok().filter(|slot| *slot < SLOTS_MAX),
            generation: cell.get(Word::Generation),
            pid: i32::try_from(cell.get(Word::Pid)).unwrap_or_default(),
            life,
            asked,
            is_ready: reading.state == CellState::Ready as u64,
            spawned_ms: cell.get(Word::SpawnedMs),
            heartbeat_ms: reading.heartbeat_ms,
            loop_lag_us: reading.loop_lag_us,
            requests: reading.requests,
            in_flight: reading.in_flight,
            connections: reading.connections,
            gauges: gauges.iter().map(|gauge| gauge.load(Ordering::Relaxed)).collect(),
            told: told(cell.counters(), self.map.layout.told),
        })
    }
}

/// The sum of all rows.
fn told(counters: &[AtomicU64], Told { at, rows, words }: Told) -> Vec<u64> {
    let mut sums = vec![0; words];
    let rows = counters.get(at..at + rows * words).unwrap_or_default();
    rows.chunks(words.max(1)).for_each(|row| sum(&mut sums, row));
    sums
}

fn sum(sums: &mut [u64], words: &[AtomicU64]) {
    for (sum, word) in sums.iter_mut().zip(words) {
        *sum = sum.wrapping_add(word.load(Ordering::Relaxed));
    }
}
