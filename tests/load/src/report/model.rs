//! `report.json`: everything that was measured, as plain data.
//!
//! Written by the conductor, read by the page, the table, `compare` and `recommend`. It holds what was
//! seen and no conclusion. Times are in the unit that their names end with; `at_s` counts from the
//! report's start. What could not be seen is `null`, never 0.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::summary::Load;

/// The version of this file's form; a reader refuses others.
pub(crate) const FORMAT: u32 = 1;

/// Everything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// [`FORMAT`].
    pub(crate) format: u32,
    pub(crate) card: Card,
    /// The servers that were compared; a run names one by its place here.
    pub(crate) series: Vec<Series>,
    /// Every phase of every round, in the order in which they were measured.
    pub(crate) runs: Vec<Run>,
    /// Every start of a server, in order.
    pub(crate) lives: Vec<Life>,
    /// What a reader has to know before believing a number, each a sentence.
    pub(crate) warnings: Vec<String>,
}

/// Under which circumstances.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Card {
    /// When it began, RFC 3339.
    pub(crate) started: String,
    pub(crate) took_s: f64,
    /// The command line that repeats it, its words quoted as a shell needs them.
    pub(crate) command: String,
    /// Whether it was shortened (`--quick`): a first look, not a measurement.
    pub(crate) is_quick: bool,
    pub(crate) scenario: ScenarioCard,
    pub(crate) connections: usize,
    /// Processes that made the load.
    pub(crate) generators: usize,
    pub(crate) rounds: u32,
    pub(crate) warm_up_s: f64,
    /// Length of a phase.
    pub(crate) duration_s: f64,
    /// How long a client waits for an answer.
    pub(crate) timeout_s: f64,
    /// Seeded rows; 0 where the server was given and its rows are its own.
    pub(crate) users: u64,
    pub(crate) items: u64,
    /// Which database, in words, without a secret.
    pub(crate) database: Option<String>,
    /// What was done to the servers while they were measured, in words.
    pub(crate) events: Vec<String>,
    /// Of the tree the program was built from, when that is known.
    pub(crate) commit: Option<String>,
    /// Version of the tool.
    pub(crate) version: String,
    pub(crate) machine: Machine,
}

/// The scenario, whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ScenarioCard {
    pub(crate) name: String,
    pub(crate) about: String,
    /// Its file.
    pub(crate) text: String,
}

/// The computer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    /// Processors this process may use.
    pub(crate) cpus: usize,
    pub(crate) memory_bytes: u64,
    pub(crate) kernel: String,
    /// Version of the database server.
    pub(crate) postgres: Option<String>,
    /// Its settings that matter here, by name.
    pub(crate) postgres_settings: BTreeMap<String, String>,
}

/// One server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Series {
    pub(crate) name: String,
    /// How it was started, or its URL.
    pub(crate) command: String,
    /// What it says of its version.
    pub(crate) version: Option<String>,
}

/// One phase of one round: one server, one number of workers, one load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// Place of the server in [`Report::series`].
    pub(crate) series: usize,
    /// `None` for a server that was running already.
    pub(crate) workers: Option<u32>,
    /// From 0.
    pub(crate) round: u32,
    pub(crate) load: Load,
    /// Requests per second that were offered; `None` in a closed loop.
    pub(crate) offered: Option<f64>,
    pub(crate) at_s: f64,
    /// How long it was measured.
    pub(crate) duration_s: f64,
    pub(crate) traffic: Traffic,
    pub(crate) cpu: Cpu,
    pub(crate) memory: Option<Memory>,
    /// Requests answered by each worker, by slot; `None` for servers that do not tell.
    pub(crate) share: Option<Vec<u64>>,
    /// Connections of the server to its database.
    pub(crate) database_connections: Option<u64>,
    /// The course of it, window after window.
    pub(crate) windows: Vec<Window>,
    pub(crate) events: Vec<Event>,
}

/// What the clients saw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Traffic {
    /// Requests with the right answer, that came before the end of the phase.
    pub(crate) ok: u64,
    /// Requests with the right answer that came later. They count in the latencies.
    pub(crate) late: u64,
    /// The others, by kind: `refused`, `reset`, `closed`, `timeout`, `malformed`, `unreachable`,
    /// `unsendable`, `status 503`.
    pub(crate) errors: BTreeMap<String, u64>,
    /// Open loop: requests that were due and never sent, because no connection became free within the
    /// timeout.
    pub(crate) unsent: u64,
    /// From the instant at which a request was to be sent (closed loop: was sent) to the whole answer.
    /// Those that had none within the timeout, and those that were never sent, count with the time that
    /// they had waited by then; other errors do not count.
    pub(crate) latency: Latency,
    /// From the instant at which it was really sent.
    pub(crate) service: Latency,
    /// Open loop: how late requests were sent although a connection was free: the generator's own error.
    pub(crate) lateness: Option<Latency>,
    pub(crate) sent_bytes: u64,
    pub(crate) received_bytes: u64,
    /// Connections that were opened.
    pub(crate) connects: u64,
}

/// A distribution of durations. Zeros when there was none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) count: u64,
    pub(crate) mean_ms: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p90_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p99_9_ms: f64,
    pub(crate) max_ms: f64,
    /// The whole histogram, microseconds, HdrHistogram V2 in base64.
    pub(crate) histogram: String,
}

/// Who used the processors, in seconds of processor time during the phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cpu {
    /// The server's processes; `None` when they are not ours to see.
    pub(crate) server_s: Option<f64>,
    pub(crate) postgres_s: Option<f64>,
    /// All generators together.
    pub(crate) generator_s: f64,
    /// The busiest generator's share of one processor, 0 to 1.
    pub(crate) generator_peak: f64,
    /// Share of all processors that was in use, by anybody, 0 to 1.
    pub(crate) busy: f64,
    /// Share of all processors that the host took away, 0 to 1.
    pub(crate) stolen: f64,
    /// Share of all processors that was used by none of the above, 0 to 1; `None` when the server is not
    /// ours to see, and so cannot be told from others.
    pub(crate) foreign: Option<f64>,
}

/// Memory at the end of a phase, in bytes (PSS: shared pages are counted once over all).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// The whole server.
    pub(crate) total_bytes: u64,
    /// Each worker; of other servers each process.
    pub(crate) worker_bytes: Vec<u64>,
}

/// A piece of a phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Window {
    /// Since the start of the phase.
    pub(crate) at_s: f64,
    pub(crate) length_s: f64,
    pub(crate) ok: u64,
    pub(crate) errors: u64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

/// What was done to a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Event {
    /// Since the start of the phase.
    pub(crate) at_s: f64,
    pub(crate) kind: EventKind,
    /// In words: `worker of slot 1 killed`.
    pub(crate) text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EventKind {
    Kill,
    Reload,
    Scale,
}

/// One start of a server, to its end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Life {
    pub(crate) series: usize,
    pub(crate) workers: Option<u32>,
    pub(crate) round: u32,
    /// From the start of the program to the first right answer, in seconds.
    pub(crate) ready_s: Option<f64>,
    /// Requests of all its phases, warm-up included.
    pub(crate) requests: u64,
    /// Transactions that its database counted meanwhile.
    pub(crate) transactions: Option<u64>,
    pub(crate) deadlocks: Option<u64>,
    /// Transactions that the server repeated, by its own log.
    pub(crate) retries: Option<u64>,
}

impl Traffic {
    /// Requests that got the right answer.
    pub(crate) fn answered(&self) -> u64 {
        self.ok + self.late
    }

    /// Requests that ended without the right answer.
    pub(crate) fn failed(&self) -> u64 {
        self.errors.values().sum()
    }
}
