//! What the application counts itself, in the words behind the worker's.
//!
//! `app`, `readiness` and `serving` write, `table` names.

use std::sync::atomic::{AtomicU64, Ordering};

use worker::meters::GAUGES;

/// The application's counters, by their place behind the worker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnCounter {
    /// Passwords that were hashed or verified.
    PasswordJobs,
    /// Passwords that were not, since too many others waited.
    PasswordsRefused,
    /// Log lines that nobody took.
    LogLinesLost,
}
pub(super) const OWN_COUNTERS: usize = OwnCounter::LogLinesLost as usize + 1;

/// The application's gauges, by their place behind the worker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnGauge {
    /// Passwords that wait for their turn, or have it.
    PasswordQueue,
    /// See [`SchemaState`].
    Schema,
}
pub(super) const OWN_GAUGES: usize = OwnGauge::Schema as usize + 1;

/// What a worker last heard of the database's revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum SchemaState {
    /// Nothing.
    Unknown = 0,
    /// It is what this program needs, or newer.
    Applied = 1,
    /// It is older.
    Behind = 2,
}

/// Where a worker's application counts. Only the worker's thread writes: plain loads and stores.
#[derive(Debug, Clone, Copy)]
pub struct AppMeters {
    /// What becomes of passwords.
    pub passwords: PasswordMeters,
    schema: Word,
    log_lines_lost: Word,
}

/// Where it is counted what becomes of passwords.
#[derive(Debug, Clone, Copy, Default)]
pub struct PasswordMeters {
    done: Word,
    refused: Word,
    queue: Word,
}

/// A word, if there is one to be counted in.
#[derive(Debug, Clone, Copy, Default)]
struct Word(Option<&'static AtomicU64>);

impl AppMeters {
    /// Those of a cell with these words.
    #[must_use]
    pub fn of(counters: &'static [AtomicU64], gauges: &'static [AtomicU64]) -> Self {
        let counter = |own: OwnCounter| Word(counters.get(super::own_counters_at() + own as usize));
        let gauge = |own: OwnGauge| Word(gauges.get(GAUGES + own as usize));
        let passwords = PasswordMeters {
            done: counter(OwnCounter::PasswordJobs),
            refused: counter(OwnCounter::PasswordsRefused),
            queue: gauge(OwnGauge::PasswordQueue),
        };
        Self {
            passwords,
            schema: gauge(OwnGauge::Schema),
            log_lines_lost: counter(OwnCounter::LogLinesLost),
        }
    }

    /// Whether the database was at the needed revision when it was last asked.
    #[must_use]
    pub fn is_applied(&self) -> bool {
        self.schema.get() == SchemaState::Applied as u64
    }

    /// Writes down how many log lines this process has lost so far.
    pub fn log_lines_lost(&self, lines: u64) {
        self.log_lines_lost.set(lines);
    }

    /// Writes down what was heard of the database's revision.
    pub fn heard(&self, schema: SchemaState) {
        self.schema.set(schema as u64);
    }
}

impl PasswordMeters {
    /// A password waits from now on, until the value is dropped.
    #[must_use]
    pub fn queued(self) -> Queued {
        self.queue.add(1);
        Queued(self.queue)
    }

    /// One was hashed or verified.
    pub fn done(self) {
        self.done.add(1);
    }

    /// One was turned away.
    pub fn refused(self) {
        self.refused.add(1);
    }
}

/// One password that waits, or is at work.
pub struct Queued(Word);

impl Drop for Queued {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

impl Word {
    fn get(self) -> u64 {
        self.0.map_or(0, |word| word.load(Ordering::Relaxed))
    }

    fn set(self, value: u64) {
        if let Some(word) = self.0 {
            word.store(value, Ordering::Relaxed);
        }
    }

    fn add(self, more: u64) {
        self.set(self.get().wrapping_add(more));
    }
}
