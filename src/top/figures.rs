//! What is shown: rates and quantiles, of the difference between two looks.
//!
//! Pure; `top` calls it. Its names and their order are the JSON of `top --once --json`. What is not known
//! (a rate after one look, a quantile of no request) is `null`.

use std::time::Duration;

use serde::Serialize;
use supervisor::Status;
use supervisor::status::{ChildState, LastReload, WorkerStatus};
use worker::meters::BUCKETS_NS;

use super::look::Look;

/// Everything at one instant, and what happened since the look before.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Figures {
    pub(super) version: String,
    pub(super) pid: i32,
    pub(super) age_s: Option<f64>,
    pub(super) generation: u64,
    pub(super) target: usize,
    pub(super) ready: usize,
    pub(super) last_reload: LastReload,
    pub(super) requests_per_s: Option<f64>,
    pub(super) p50_ms: Option<f64>,
    pub(super) p99_ms: Option<f64>,
    pub(super) in_flight: u64,
    pub(super) connections: u64,
    pub(super) queue: u64,
    pub(super) loop_lag_ms: f64,
    pub(super) workers: Vec<WorkerFigures>,
}

/// One worker, or a slot that waits for one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct WorkerFigures {
    pub(super) slot: usize,
    pub(super) pid: Option<i32>,
    pub(super) state: ChildState,
    pub(super) generation: u64,
    pub(super) age_s: Option<f64>,
    pub(super) requests_per_s: Option<f64>,
    pub(super) p50_ms: Option<f64>,
    pub(super) p99_ms: Option<f64>,
    pub(super) in_flight: u64,
    pub(super) connections: u64,
    pub(super) queue: u64,
    pub(super) loop_lag_ms: Option<f64>,
    pub(super) cpu_percent: Option<f64>,
    pub(super) rss_bytes: u64,
    pub(super) restarts: u64,
    pub(super) last_exit: Option<String>,
}

/// What one worker did between two looks.
#[derive(Default)]
struct Change {
    requests: u64,
    cpu_s: f64,
    /// Counts by duration, then a sum; see `worker::meters`.
    durations: Vec<u64>,
}

impl Figures {
    /// Of the first look: it has no rates.
    pub(super) fn first(look: &Look) -> Self {
        Self::of(None, &look.status, Duration::ZERO)
    }

    /// Of two looks.
    pub(super) fn between(before: &Look, now: &Look) -> Self {
        Self::of(Some(&before.status), &now.status, now.at.saturating_duration_since(before.at))
    }

    pub(super) fn of(before: Option<&Status>, now: &Status, elapsed: Duration) -> Self {
        let change = |worker: &WorkerStatus| {
            worker.pid?;
            Some(Change::of(before?, worker))
        };
        let changes: Vec<Option<Change>> = now.workers.iter().map(change).collect();
        let per_s =
            |count: f64| Some(count / elapsed.as_secs_f64()).filter(|rate| rate.is_finite());
        let workers = now.workers.iter().zip(&changes);
        let workers = workers.map(|(worker, change)| WorkerFigures {
            slot: worker.slot,
            pid: worker.pid,
            state: worker.state,
            generation: worker.generation,
            age_s: worker.age_s,
            requests_per_s: change.as_ref().and_then(|change| per_s(change.requests as f64)),
            p50_ms: change.as_ref().and_then(|change| quantile_ms(&change.durations, 0.5)),
            p99_ms: change.as_ref().and_then(|change| quantile_ms(&change.durations, 0.99)),
            in_flight: worker.in_flight,
            connections: worker.connections,
            queue: worker.queue,
            loop_lag_ms: lag_ms(worker),
            cpu_percent: change.as_ref().and_then(|change| per_s(100.0 * change.cpu_s)),
            rss_bytes: worker.rss_bytes,
            restarts: worker.restarts,
            last_exit: worker.last_exit.clone(),
        });
        let workers = workers.collect();
        let sum = changes.iter().flatten().fold(Change::default(), Change::plus);
        let total = |of: fn(&WorkerStatus) -> u64| now.workers.iter().map(of).sum();
        let lags = now.workers.iter().filter_map(lag_ms);
        Self {
            version: now.version.clone(),
            pid: now.pid,
            age_s: now.age_s,
            generation: now.generation,
            target: now.target,
            ready: now.ready,
            last_reload: now.last_reload.clone(),
            requests_per_s: before.and_then(|_| per_s(sum.requests as f64)),
            p50_ms: quantile_ms(&sum.durations, 0.5),
            p99_ms: quantile_ms(&sum.durations, 0.99),
            in_flight: total(|worker| worker.in_flight),
            connections: total(|worker| worker.connections),
            queue: queued(&now.workers),
            loop_lag_ms: lags.fold(0.0, f64::max),
            workers,
        }
    }
}

/// How late a worker's loop was at its last heartbeat, or how long the next one is overdue.
fn lag_ms(worker: &WorkerStatus) -> Option<f64> {
    let overdue = Duration::from_millis(worker.heartbeat_age_ms?).saturating_sub(worker::BEAT);
    Some(worker.loop_lag_ms?.max(overdue.as_secs_f64() * 1_000.0))
}

/// Two workers of one slot, while one replaces the other, have one queue. They stand side by side.
fn queued(workers: &[WorkerStatus]) -> u64 {
    let slots = workers.chunk_by(|one, other| one.slot == other.slot);
    slots.filter_map(|workers| workers.first()).map(|worker| worker.queue).sum()
}

impl Change {
    /// Who was not there before began with nothing.
    fn of(before: &Status, worker: &WorkerStatus) -> Self {
        let was = |old: &&WorkerStatus| {
            (old.slot, old.generation, old.pid) == (worker.slot, worker.generation, worker.pid)
        };
        let Some(old) = before.workers.iter().find(was) else {
            let (requests, durations) = (worker.requests, worker.durations.clone());
            return Self { requests, cpu_s: worker.cpu_s.unwrap_or_default(), durations };
        };
        let cpu_s = worker.cpu_s.unwrap_or_default() - old.cpu_s.unwrap_or_default();
        let durations = worker.durations.iter().zip(&old.durations);
        Self {
            requests: worker.requests.saturating_sub(old.requests),
            cpu_s: cpu_s.max(0.0),
            durations: durations.map(|(now, before)| now.wrapping_sub(*before)).collect(),
        }
    }

    fn plus(mut self, other: &Self) -> Self {
        self.requests += other.requests;
        self.durations.resize(self.durations.len().max(other.durations.len()), 0);
        for (sum, more) in self.durations.iter_mut().zip(&other.durations) {
            *sum = sum.wrapping_add(*more);
        }
        self
    }
}

/// The duration that this share of the requests did not exceed, as Prometheus estimates it: within its bucket
/// they lie evenly, and what is longer than all buckets is as long as the last one.
fn quantile_ms(words: &[u64], share: f64) -> Option<f64> {
    let counts = words.get(..=BUCKETS_NS.len())?;
    let rank = share * counts.iter().sum::<u64>() as f64;
    let (mut below, mut low_ns) = (0.0, 0);
    for (place, count) in counts.iter().enumerate() {
        let (count, high_ns) = (*count as f64, BUCKETS_NS.get(place).copied().unwrap_or(low_ns));
        if count > 0.0 && below + count >= rank {
            let within = (rank - below) / count;
            return Some((low_ns as f64 + (high_ns - low_ns) as f64 * within) / 1_000_000.0);
        }
        below += count;
        low_ns = high_ns;
    }
    None
}
