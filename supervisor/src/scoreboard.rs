//! The scoreboard: shared memory in which every child says how it is.
//!
//! A memfd, mapped before the first fork. Four regions: a header (magic, layout, sizes); what the
//! supervisor tells of itself (`facts`); one row per slot, with the sums of its dead; one cell per
//! *process* (`cell`), never two processes in one: a slot has two workers while one replaces the other.
//!
//! The supervisor claims a cell and fills it before the fork; from then on the child is the only
//! writer of what it counts, with Relaxed stores (plain moves), at the event itself: a child that is
//! killed has lost none. A cell = fixed words + two opaque areas whose lengths the application gives:
//! *counters*, which at the child's end are added to its slot's row, and *gauges*, which end with it.
//! Nothing here knows what they count.
//!
//! Whoever has the map reads one truth (`board`): sum = rows + living cells. While the supervisor moves
//! the counts of a dead cell its sequence word is odd, and a reader who met that looks again; so no count
//! is seen twice or not at all, and no sum ever goes down. Called by the loop, and by children through
//! [`Cell`] and [`Board`]. Source: memfd_create(2), fcntl(2) on seals; Boehm, "Can Seqlocks Get Along
//! With Programming Language Memory Models?" (the fences).

mod board;
mod cell;
mod facts;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

pub use self::board::{Board, CellView, SlotView, Snapshot};
pub use self::cell::{Beat, Cell, CellState, Reading};
use self::cell::{FIXED_WORDS, Word};
use self::facts::{FACT_WORDS, SLOT_WORDS, SlotWord};
pub use self::facts::{Facts, RestartReason};
pub(crate) use self::facts::{LifePost, Post, SlotPost};
use crate::clock::now_ms;
use crate::config::{CellLayout, SLOTS_MAX, Told};
use crate::sys;

/// Cells: every slot may have a worker and its successor, and there are the programs.
const CELLS_MAX: usize = 2 * SLOTS_MAX + 16;
/// Rows: one per slot, and one that all programs beside the workers share.
const ROWS: usize = SLOTS_MAX + 1;
/// The row, and the "slot" of a cell, of programs.
const PROGRAMS: usize = SLOTS_MAX;
/// Says that this memory is a scoreboard of ours ("scorebd" and a version).
const MAGIC: u64 = u64::from_be_bytes(*b"scorebd3");
/// 128 bytes: two cache lines, which processors fetch together. No two cells share one.
const LINE_WORDS: usize = 16;
/// Words before the facts: what never changes, then the sequence word on a line of its own.
const HEADER_WORDS: usize = 2 * LINE_WORDS;
/// Where the sequence word is.
const SEQUENCE: usize = LINE_WORDS;

/// The shared memory, as the supervisor holds it: it alone writes outside of cells.
#[derive(Debug)]
pub struct Scoreboard {
    map: Map,
    /// Kept so that a successor can be given the same memory.
    file: File,
    /// Processes that missed a deadline, until they are reaped: what ended them was that.
    overdue: Vec<i32>,
    /// The process that is being recycled, until it is reaped.
    worn: Option<i32>,
}

/// The words, and where which are. Cheap to copy; valid as long as the process.
#[derive(Debug, Clone, Copy)]
struct Map {
    words: &'static [AtomicU64],
    layout: CellLayout,
}

impl Scoreboard {
    /// Makes an empty scoreboard whose cells have room for so many counters and gauges.
    ///
    /// # Errors
    /// When the system refuses the memory.
    pub fn new(layout: CellLayout) -> io::Result<Self> {
        let file = sealed_memory(words_of(layout) * size_of::<u64>())?;
        let board = Self::of(file, layout)?;
        for (word, value) in header(layout).into_iter().enumerate() {
            board.map.words[word].store(value, Ordering::Relaxed);
        }
        Ok(board)
    }

    /// Takes over the scoreboard that a predecessor left in `file`, with its sums and its living cells.
    ///
    /// # Errors
    /// When it is none, or one whose words mean something else.
    pub fn adopt(file: File, layout: CellLayout) -> io::Result<Self> {
        let other = |what: &str| io::Error::other(format!("the scoreboard of before {what}"));
        if file.metadata()?.len() != (words_of(layout) * size_of::<u64>()) as u64 {
            return Err(other("has another size"));
        }
        // Without the seal somebody could cut the memory off under us.
        let seals = SealFlag::from_bits_truncate(fcntl(&file, FcntlArg::F_GET_SEALS)?);
        if !seals.contains(SealFlag::F_SEAL_SHRINK) {
            return Err(other("is not sealed"));
        }
        let board = Self::of(file, layout)?;
        let found = board.map.words.iter().map(|word| word.load(Ordering::Relaxed));
        if !found.zip(header(layout)).all(|(found, expected)| found == expected) {
            return Err(other("has another layout"));
        }
        Ok(board)
    }

    /// Takes over one whose application's words mean something else: only what every scoreboard has is
    /// read of it. Its header says where that is.
    ///
    /// # Errors
    /// When it is none of this version.
    pub fn adopt_foreign(file: File) -> io::Result<Self> {
        let mut bytes = [0; size_of::<[u64; 5]>()];
        file.read_exact_at(&mut bytes, 0)?;
        let word = |place: usize| {
            let bytes = bytes.as_chunks::<8>().0[place];
            u64::from_ne_bytes(bytes)
        };
        let room = file.metadata()?.len();
        if word(0) != MAGIC || word(2).max(word(3)) > room {
            let text = "the scoreboard of before is of another version: stop it and start this one";
            return Err(io::Error::other(text));
        }
        let words = |place: usize| usize::try_from(word(place)).unwrap_or_default();
        let (id, counters, gauges) = (word(1), words(2), words(3));
        Self::adopt(file, CellLayout { id, counters, gauges, told: Told::default() })
    }

    /// Goes on with what the supervisor itself has counted in another scoreboard, of whatever layout: rolls,
    /// restarts, the requests of the dead.
    pub(crate) fn go_on_from(&self, other: &Self) {
        let copy = |to: &[AtomicU64], from: &[AtomicU64]| {
            for (to, from) in to.iter().zip(from) {
                to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        };
        self.change(|| {
            copy(self.map.facts(), other.map.facts());
            for slot in 0..ROWS {
                copy(&self.map.row(slot)[..SLOT_WORDS], &other.map.row(slot)[..SLOT_WORDS]);
            }
        });
    }

    fn of(file: File, layout: CellLayout) -> io::Result<Self> {
        let words = sys::map_shared(&file, words_of(layout))?;
        Ok(Self { map: Map { words, layout }, file, overdue: Vec::new(), worn: None })
    }

    /// The memory itself, for a successor.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The same memory, for readers.
    #[must_use]
    pub fn board(&self) -> Board {
        Board::new(self.map)
    }

    /// Claims a free cell for a child that is about to be forked: booting, alive now. `slot` is a
    /// worker's; programs have none. `None` when all are taken.
    pub fn claim(&self, slot: Option<usize>, generation: u64) -> Option<(usize, Cell)> {
        let index = (0..CELLS_MAX).find(|index| !self.map.cell(*index).is_taken())?;
        let cell = self.map.cell(index);
        // Memory that nobody wrote is zero, and takes no room.
        if cell.get(Word::SpawnedMs) != 0 {
            cell.clear();
        }
        cell.set(Word::Slot, slot.unwrap_or(PROGRAMS) as u64);
        cell.set(Word::Generation, generation);
        cell.set(Word::SpawnedMs, now_ms());
        cell.set(Word::HeartbeatMs, now_ms());
        cell.set_state(CellState::Booting);
        Some((index, cell))
    }

    /// Notes which process a cell belongs to, when that is known.
    pub fn forked(&self, index: usize, pid: i32) {
        self.map.cell(index).set(Word::Pid, u64::try_from(pid).unwrap_or_default());
    }

    /// Notes who a cell belongs to, under the numbers that this program knows programs by.
    pub fn belongs(&self, index: usize, generation: u64, pid: i32) {
        self.map.cell(index).set(Word::Generation, generation);
        self.forked(index, pid);
    }

    /// Fills the cell of a process that counts in a cell of another scoreboard.
    pub(crate) fn mirror(&self, index: usize, other: &Self, original: usize) {
        self.map.cell(index).mirror(&other.map.cell(original));
    }

    /// Fills the cell of a process of which nobody can read how it is: it is taken to live.
    pub(crate) fn presume(&self, index: usize, spawned_ms: u64, is_ready: bool) {
        let cell = self.map.cell(index);
        cell.set(Word::SpawnedMs, spawned_ms);
        cell.set(Word::HeartbeatMs, now_ms());
        cell.set_state(if is_ready { CellState::Ready } else { CellState::Booting });
    }

    /// Gives a dead child's cell back; its counts move to the row of its slot.
    pub fn release(&mut self, index: usize) {
        let cell = self.map.cell(index);
        let row = self.map.row(usize::try_from(cell.get(Word::Slot)).unwrap_or(PROGRAMS));
        let [base_requests, base @ ..] = &row[SlotWord::Requests as usize..] else { return };
        self.change(|| {
            add(base_requests, cell.get(Word::Requests));
            for (sum, counter) in base.iter().zip(cell.counters()) {
                add(sum, counter.load(Ordering::Relaxed));
            }
            cell.set_state(CellState::Free);
        });
    }

    /// What a child last said.
    #[must_use]
    pub fn read(&self, index: usize) -> Reading {
        self.map.cell(index).reading()
    }

    /// Makes a change that readers see whole or not at all.
    fn change(&self, make: impl FnOnce()) {
        let sequence = &self.map.words[SEQUENCE];
        let even = sequence.load(Ordering::Relaxed);
        sequence.store(even | 1, Ordering::Relaxed);
        fence(Ordering::Release);
        make();
        // From an odd one, too: a predecessor that ended in the middle of a change left it so.
        sequence.store((even | 1).wrapping_add(1), Ordering::Release);
    }
}

impl Map {
    fn facts(self) -> &'static [AtomicU64] {
        &self.words[HEADER_WORDS..HEADER_WORDS + FACT_WORDS]
    }

    /// A slot's words, then the requests and the counters of its dead.
    fn row(self, slot: usize) -> &'static [AtomicU64] {
        let stride = row_words(self.layout);
        let start = HEADER_WORDS + FACT_WORDS + slot.min(PROGRAMS) * stride;
        &self.words[start..start + stride]
    }

    fn cell(self, index: usize) -> Cell {
        let stride = cell_words(self.layout);
        let start = HEADER_WORDS + FACT_WORDS + ROWS * row_words(self.layout) + index * stride;
        Cell::new(&self.words[start..start + stride], self.layout)
    }
}

/// What the first words of every scoreboard of this layout are.
fn header(layout: CellLayout) -> [u64; 5] {
    let words = words_of(layout) as u64;
    [MAGIC, layout.id, layout.counters as u64, layout.gauges as u64, words]
}

/// Words of the whole memory.
fn words_of(layout: CellLayout) -> usize {
    let (rows, cells) = (ROWS * row_words(layout), CELLS_MAX * cell_words(layout));
    HEADER_WORDS + FACT_WORDS + rows + cells
}

/// Words from one slot's row to the next.
fn row_words(layout: CellLayout) -> usize {
    (SLOT_WORDS + layout.counters).next_multiple_of(LINE_WORDS)
}

/// Words from one cell to the next.
fn cell_words(layout: CellLayout) -> usize {
    (FIXED_WORDS + layout.counters + layout.gauges).next_multiple_of(LINE_WORDS)
}

/// For words that one process writes: a plain read and a plain write, no locked instruction. What is
/// zero is not written: memory that nobody wrote takes no room.
fn add(word: &AtomicU64, more: u64) {
    if more > 0 {
        word.store(word.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }
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
