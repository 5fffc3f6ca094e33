//! The scoreboard: shared memory in which every child says how it is.
//!
//! A memfd, mapped before the first fork. A header (magic, layout, sizes), then one cell per
//! *process*, never two processes in one: a slot has two workers while one replaces the other.
//!
//! The supervisor claims a cell and fills it before the fork; from then on the child is its only
//! writer, with Relaxed stores (plain moves). A reader may see words of one cell from different
//! instants; each word alone is always true. `state` is stored Release and read Acquire.
//!
//! A cell = fixed words + two opaque areas whose lengths the application gives: *counters*, which at
//! the child's end are added to its slot's base so that sums never go down, and *gauges*, which end
//! with it. Nothing here knows what they count. Called by the loop, and by children through [`Cell`].
//! Source: memfd_create(2), fcntl(2) on seals.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::clock::now_ms;
use crate::config::SLOTS_MAX;
use crate::sys;

/// Cells: every slot may have a worker and its successor, and there are the programs.
const CELLS_MAX: usize = 2 * SLOTS_MAX + 16;
/// Says that this memory is a scoreboard of ours ("scorebd" and a version).
const MAGIC: u64 = u64::from_be_bytes(*b"scorebd1");
/// Words before the first cell: a cache line pair.
const HEADER_WORDS: usize = LINE_WORDS;
/// 128 bytes: two cache lines, which processors fetch together. No two cells share one.
const LINE_WORDS: usize = 16;

/// The fixed words of a cell, by their place in it.
#[derive(Clone, Copy)]
enum Word {
    State,
    Slot,
    Generation,
    HeartbeatMs,
    Requests,
    InFlight,
    Connections,
    LoopLagUs,
}
/// How many there are.
const FIXED_WORDS: usize = Word::LoopLagUs as usize + 1;

/// How far the owner of a cell is, as others may read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum CellState {
    /// Nobody's.
    Free = 0,
    /// Forked, not ready.
    Booting = 1,
    /// Doing its work.
    Ready = 2,
}

/// What a worker reports with each heartbeat.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Requests answered since the fork.
    pub requests: u64,
    /// Requests being answered now.
    pub in_flight: u64,
    /// Open connections.
    pub connections: u64,
    /// How late the event loop ran its last tick, in microseconds.
    pub loop_lag_us: u64,
}

/// What the supervisor reads of one cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Raw state; see [`CellState`].
    pub state: u64,
    /// When the owner last said that it lives.
    pub heartbeat_ms: u64,
    /// What it reported.
    pub load: Load,
}

/// The shared memory, as the supervisor holds it.
#[derive(Debug)]
pub struct Scoreboard {
    words: &'static [AtomicU64],
    counters: usize,
    gauges: usize,
    /// Per slot, the requests and counters of all its dead workers.
    base: Vec<Vec<u64>>,
    /// Kept so that a successor can be given the same memory.
    _file: File,
}

/// One cell, as its owner holds it.
#[derive(Debug, Clone, Copy)]
pub struct Cell {
    words: &'static [AtomicU64],
    counters: usize,
}

impl Scoreboard {
    /// Makes an empty scoreboard whose cells have room for so many counters and gauges.
    ///
    /// # Errors
    /// When the system refuses the memory.
    pub fn new((counters, gauges): (usize, usize)) -> io::Result<Self> {
        let stride = stride(counters, gauges);
        let words = HEADER_WORDS + CELLS_MAX * stride;
        let file = sealed_memory(words * size_of::<u64>())?;
        let words = sys::map_shared(&file, words)?;
        for (word, value) in
            [MAGIC, counters as u64, gauges as u64, stride as u64].iter().enumerate()
        {
            words[word].store(*value, Ordering::Relaxed);
        }
        let base = vec![vec![0; 1 + counters]; SLOTS_MAX];
        Ok(Self { words, counters, gauges, base, _file: file })
    }

    /// Claims a free cell for a child that is about to be forked: booting, alive now.
    /// `None` when all are taken.
    pub fn claim(&self, slot: usize, generation: u64) -> Option<(usize, Cell)> {
        let index = (0..CELLS_MAX)
            .find(|index| self.cell(*index).get(Word::State) == CellState::Free as u64)?;
        let cell = self.cell(index);
        for word in cell.words {
            word.store(0, Ordering::Relaxed);
        }
        cell.set(Word::Slot, slot as u64);
        cell.set(Word::Generation, generation);
        cell.set(Word::HeartbeatMs, now_ms());
        cell.set_state(CellState::Booting);
        Some((index, cell))
    }

    /// Gives a dead child's cell back; its counts move to the base of its slot.
    pub fn release(&mut self, index: usize) {
        let cell = self.cell(index);
        let slot = usize::try_from(cell.get(Word::Slot)).unwrap_or(usize::MAX);
        if let Some(base) = self.base.get_mut(slot) {
            base[0] += cell.get(Word::Requests);
            for (sum, counter) in base[1..].iter_mut().zip(cell.counters()) {
                *sum += counter.load(Ordering::Relaxed);
            }
        }
        cell.set_state(CellState::Free);
    }

    /// What a child last said.
    #[must_use]
    pub fn read(&self, index: usize) -> Reading {
        let cell = self.cell(index);
        Reading {
            state: cell.words[Word::State as usize].load(Ordering::Acquire),
            heartbeat_ms: cell.get(Word::HeartbeatMs),
            load: Load {
                requests: cell.get(Word::Requests),
                in_flight: cell.get(Word::InFlight),
                connections: cell.get(Word::Connections),
                loop_lag_us: cell.get(Word::LoopLagUs),
            },
        }
    }

    /// Requests that the dead workers of `slot` had answered.
    #[must_use]
    pub fn base_requests(&self, slot: usize) -> u64 {
        self.base[slot][0]
    }

    fn cell(&self, index: usize) -> Cell {
        let stride = stride(self.counters, self.gauges);
        let start = HEADER_WORDS + index * stride;
        Cell { words: &self.words[start..start + stride], counters: self.counters }
    }
}

impl Cell {
    /// Says that the child does its work from now on.
    pub fn ready(&self) {
        self.set(Word::HeartbeatMs, now_ms());
        self.set_state(CellState::Ready);
    }

    /// Says that the child lives, and what it does. A few plain stores: no lock, no call.
    pub fn beat(&self, load: &Load) {
        self.set(Word::Requests, load.requests);
        self.set(Word::InFlight, load.in_flight);
        self.set(Word::Connections, load.connections);
        self.set(Word::LoopLagUs, load.loop_lag_us);
        self.set(Word::HeartbeatMs, now_ms());
    }

    /// The application's counters; only this process writes them.
    #[must_use]
    pub fn counters(&self) -> &'static [AtomicU64] {
        &self.words[FIXED_WORDS..FIXED_WORDS + self.counters]
    }

    /// The application's gauges; only this process writes them.
    #[must_use]
    pub fn gauges(&self) -> &'static [AtomicU64] {
        &self.words[FIXED_WORDS + self.counters..]
    }

    fn get(&self, word: Word) -> u64 {
        self.words[word as usize].load(Ordering::Relaxed)
    }

    fn set(&self, word: Word, value: u64) {
        self.words[word as usize].store(value, Ordering::Relaxed);
    }

    fn set_state(&self, state: CellState) {
        self.words[Word::State as usize].store(state as u64, Ordering::Release);
    }
}

/// Words from one cell to the next.
fn stride(counters: usize, gauges: usize) -> usize {
    (FIXED_WORDS + counters + gauges).next_multiple_of(LINE_WORDS)
}

/// Nameless memory of a fixed size.
fn sealed_memory(bytes: usize) -> io::Result<File> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let file = File::from(memfd_create(c"peace-scoreboard", flags)?);
    file.set_len(bytes as u64)?;
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_tells_what_its_owner_wrote() {
        let board = Scoreboard::new((2, 1)).unwrap();
        let (index, cell) = board.claim(3, 7).unwrap();
        assert_eq!(board.read(index).state, CellState::Booting as u64);

        let load = Load { requests: 9, in_flight: 1, connections: 4, loop_lag_us: 250 };
        cell.ready();
        cell.beat(&load);
        let reading = board.read(index);
        assert_eq!((reading.state, reading.load), (CellState::Ready as u64, load));
        assert!(now_ms() - reading.heartbeat_ms < 60_000);
    }

    #[test]
    fn counts_of_the_dead_stay_with_their_slot_and_gauges_do_not() {
        let mut board = Scoreboard::new((1, 1)).unwrap();
        for requests in [5, 6] {
            let (index, cell) = board.claim(1, 1).unwrap();
            assert_eq!(cell.gauges()[0].load(Ordering::Relaxed), 0);
            cell.beat(&Load { requests, ..Load::default() });
            cell.counters()[0].store(2, Ordering::Relaxed);
            cell.gauges()[0].store(8, Ordering::Relaxed);
            board.release(index);
        }
        assert_eq!(board.base_requests(1), 11);
        assert_eq!(board.base[1], [11, 4]);
    }

    #[test]
    fn every_cell_is_claimed_once_and_lines_are_not_shared() {
        let mut board = Scoreboard::new((3, 2)).unwrap();
        let claimed: Vec<_> = (0..CELLS_MAX).map(|_| board.claim(0, 1).unwrap()).collect();
        assert!(board.claim(0, 1).is_none());
        for pair in claimed.windows(2) {
            let gap = pair[1].1.words.as_ptr() as usize - pair[0].1.words.as_ptr() as usize;
            assert_eq!(gap % 128, 0);
        }
        board.release(claimed[5].0);
        assert_eq!(board.claim(0, 2).unwrap().0, claimed[5].0);
    }
}
