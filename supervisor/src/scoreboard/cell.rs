//! One cell: what one process says of itself, and the few words that the supervisor says of it.
//!
//! Claimed by the supervisor, then held by the child as [`Cell`]. A reader may see words of one cell
//! from different instants; each word alone is always true. `state` is stored Release and read Acquire:
//! whoever reads a state sees what was written before it.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::now_ms;
use crate::config::CellLayout;

/// The fixed words of a cell, by their place in it.
#[derive(Clone, Copy)]
pub(super) enum Word {
    State,
    Slot,
    Generation,
    Pid,
    Life,
    SpawnedMs,
    HeartbeatMs,
    LoopLagUs,
    Requests,
    InFlight,
    Connections,
}
/// How many there are.
pub(super) const FIXED_WORDS: usize = Word::Connections as usize + 1;

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

/// What a worker says with each heartbeat; what it counts stands in its words already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Beat {
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
    /// How late its event loop was then, in microseconds.
    pub loop_lag_us: u64,
    /// Requests begun since the fork.
    pub requests: u64,
    /// Requests being answered now.
    pub in_flight: u64,
    /// Open connections.
    pub connections: u64,
}

/// One cell, as its owner holds it.
#[derive(Debug, Clone, Copy)]
pub struct Cell {
    words: &'static [AtomicU64],
    layout: CellLayout,
}

impl Cell {
    pub(super) fn new(words: &'static [AtomicU64], layout: CellLayout) -> Self {
        Self { words, layout }
    }

    /// Says that the child does its work from now on.
    pub fn ready(&self) {
        self.set(Word::HeartbeatMs, now_ms());
        self.set_state(CellState::Ready);
    }

    /// Says that the child lives. Two plain stores: no lock, no call but for the clock.
    pub fn beat(&self, beat: &Beat) {
        self.set(Word::LoopLagUs, beat.loop_lag_us);
        self.set(Word::HeartbeatMs, now_ms());
    }

    /// Where the owner counts the requests it has begun.
    #[must_use]
    pub fn requests(&self) -> &'static AtomicU64 {
        &self.words[Word::Requests as usize]
    }

    /// Where it says how many it answers now.
    #[must_use]
    pub fn in_flight(&self) -> &'static AtomicU64 {
        &self.words[Word::InFlight as usize]
    }

    /// Where it says how many connections are open.
    #[must_use]
    pub fn connections(&self) -> &'static AtomicU64 {
        &self.words[Word::Connections as usize]
    }

    /// The application's counters; only the owner writes them.
    #[must_use]
    pub fn counters(&self) -> &'static [AtomicU64] {
        &self.words[FIXED_WORDS..FIXED_WORDS + self.layout.counters]
    }

    /// The application's gauges; only the owner writes them.
    #[must_use]
    pub fn gauges(&self) -> &'static [AtomicU64] {
        let start = FIXED_WORDS + self.layout.counters;
        &self.words[start..start + self.layout.gauges]
    }

    /// What its owner last said.
    #[must_use]
    pub fn reading(&self) -> Reading {
        Reading {
            state: self.state(),
            heartbeat_ms: self.get(Word::HeartbeatMs),
            loop_lag_us: self.get(Word::LoopLagUs),
            requests: self.get(Word::Requests),
            in_flight: self.get(Word::InFlight),
            connections: self.get(Word::Connections),
        }
    }

    pub(super) fn is_taken(&self) -> bool {
        self.state() != CellState::Free as u64
    }

    /// Forgets what an owner before wrote.
    pub(super) fn clear(&self) {
        for word in self.words {
            word.store(0, Ordering::Relaxed);
        }
    }

    /// Copies what every cell has from one of another layout.
    pub(super) fn mirror(&self, original: &Self) {
        for word in [
            Word::SpawnedMs,
            Word::HeartbeatMs,
            Word::LoopLagUs,
            Word::Requests,
            Word::InFlight,
            Word::Connections,
        ] {
            self.set(word, original.get(word));
        }
        let is_ready = original.state() == CellState::Ready as u64;
        self.set_state(if is_ready { CellState::Ready } else { CellState::Booting });
    }

    pub(super) fn get(&self, word: Word) -> u64 {
        self.words[word as usize].load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, word: Word, value: u64) {
        self.words[word as usize].store(value, Ordering::Relaxed);
    }

    pub(super) fn state(&self) -> u64 {
        self.words[Word::State as usize].load(Ordering::Acquire)
    }

    pub(super) fn set_state(&self, state: CellState) {
        self.words[Word::State as usize].store(state as u64, Ordering::Release);
    }

    #[cfg(test)]
    pub(super) fn address(&self) -> usize {
        self.words.as_ptr() as usize
    }
}
