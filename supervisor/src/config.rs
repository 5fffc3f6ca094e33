//! What the supervisor must be told: how many slots, where to listen, how long to wait.
//!
//! Made by the application from its settings, which also validates the numbers it shows to people.
//! Plain data: it becomes part of [`crate::state::State`]. Knows no flag and no variable.

use serde::{Deserialize, Serialize};

use crate::bind::Bind;

/// Slots the scoreboard has room for.
pub const SLOTS_MAX: usize = 256;

/// Everything the supervisor decides by. Units are in the names; there is no default on purpose:
/// the caller chooses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Slots, and so workers: 1 to [`SLOTS_MAX`].
    pub workers: usize,
    /// Where to listen; port 0 lets the system choose once for all slots.
    pub bind: Bind,
    /// Connections the kernel queues per slot (capped by `net.core.somaxconn`).
    pub backlog: u32,
    /// Whether new connections are kept away from slots that do not serve.
    pub steering: bool,
    /// A worker that is silent for this long is killed and replaced.
    pub timeout_ms: u64,
    /// Time between a graceful stop and its beginning, for load balancers to notice.
    pub shutdown_delay_ms: u64,
    /// Time a worker has from fork to ready.
    pub boot_timeout_ms: u64,
    /// Time a worker has to answer what is in flight after a graceful stop.
    pub graceful_timeout_ms: u64,
    /// The same after a quick stop.
    pub quick_timeout_ms: u64,
    /// Time a service has to end after its stop signal, before it is killed.
    pub service_stop_timeout_ms: u64,
    /// A worker that was ready this long starts again with a clean record.
    pub stable_after_ms: u64,
    /// When a worker is replaced although nothing is wrong with it.
    pub recycling: Recycling,
    /// The pause after the second quick death in a row; it doubles with each further one.
    pub backoff_min_ms: u64,
    /// The longest pause between two starts in one slot.
    pub backoff_max_ms: u64,
    /// What the application writes into a scoreboard cell.
    pub cells: CellLayout,
}

/// The two opaque areas of a scoreboard cell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CellLayout {
    /// What their words mean, as a number: a scoreboard whose id is another one is not taken over.
    pub id: u64,
    /// Words that are added to the slot's sums at the child's end.
    pub counters: usize,
    /// Words that end with it.
    pub gauges: usize,
    /// The counters that a status tells of each process.
    #[serde(default)]
    pub told: Told,
}

/// Counters that stand in rows of equal length: a status tells their sum over all rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Where the first row begins, among the counters.
    pub at: usize,
    /// How many rows there are.
    pub rows: usize,
    /// Counters of one row.
    pub words: usize,
}

/// As much as one worker may do, hold and live. `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recycling {
    /// Requests.
    pub requests_max: Option<u64>,
    /// And up to so many more, another number for each worker.
    pub jitter_max: u64,
    /// Memory, in bytes.
    pub rss_bytes_max: Option<u64>,
    /// Time since it was ready.
    pub lifetime_ms_max: Option<u64>,
}

impl Recycling {
    /// Whether there is any limit.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.requests_max.or(self.rss_bytes_max).or(self.lifetime_ms_max).is_some()
    }
}

/// What kind of program the application runs beside the workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProgramKind {
    /// Runs to its end before the next one starts; a failure ends the start.
    Step {
        /// Time it has, in milliseconds; then it is killed and the start has failed.
        timeout_ms: u64,
    },
    /// Runs as long as the supervisor; restarted with a pause that grows.
    Service {
        /// The signal that asks it to end (signal(7) number).
        stop_signal: i32,
        /// The signal that asks it to end at once.
        hurry_signal: i32,
    },
}
