//! The runs of a report put together: one point for each server, number of workers and load, with a
//! sample for each round.
//!
//! Everything that is told of a report is told from here. It computes medians and spreads; whether a
//! difference means something is [`super::statistics`]' affair.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::model::{Report, Run};
use super::number;

/// A peak that loses a larger share of its requests, in percent, is no peak: errors are quicker than
/// answers.
pub(crate) const ERRORS_MAX_PERCENT: f64 = 0.1;

/// What was offered to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Load {
    /// Each connection sends its next request when the answer is there: finds the peak, hides stalls.
    Closed,
    /// So many percent of this server's own peak, at fixed instants.
    PercentOfPeak(u8),
    /// So many requests per second, the same for every server, at fixed instants.
    Rate(u64),
}

/// The measurements of one server with one number of workers under one load, a run for each round.
#[derive(Debug, Clone)]
pub(crate) struct Point<'a> {
    pub(crate) series: usize,
    pub(crate) workers: Option<u32>,
    pub(crate) load: Load,
    pub(crate) runs: Vec<&'a Run>,
}

/// What can be asked of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Metric {
    /// Right answers per second. In an open loop every request belongs to the phase in which it was due,
    /// so answers that came after its end count: a slow server is not a slower one. In a closed loop
    /// they do not: nothing is due, and what was under way at the end was under way at the start.
    Rate,
    P50,
    P90,
    P99,
    P99_9,
    Max,
    /// Requests that were sent and did not get the right answer, as a share of all, in percent.
    Errors,
    /// Requests that were due and never sent, as a share of all that were due, in percent; of an open
    /// loop only.
    Unsent,
    /// Processor time per right answer, in microseconds.
    CpuServer,
    CpuPostgres,
    CpuGenerator,
    /// The whole server, in MiB.
    Memory,
}

/// Middle and ends of some samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Report {
    /// All points: by server, then workers, then load.
    pub(crate) fn points(&self) -> Vec<Point<'_>> {
        let mut points: Vec<Point<'_>> = Vec::new();
        for run in &self.runs {
            let same = |point: &&mut Point<'_>| {
                (point.series, point.workers, point.load) == (run.series, run.workers, run.load)
            };
            match points.iter_mut().find(same) {
                Some(point) => point.runs.push(run),
                None => points.push(Point {
                    series: run.series,
                    workers: run.workers,
                    load: run.load,
                    runs: vec![run],
                }),
            }
        }
        points.sort_by_key(|point| (point.series, point.workers, point.load));
        points
    }

    /// `2 workers`, with the server's name where there are several.
    pub(crate) fn label(&self, series: usize, workers: Option<u32>) -> String {
        let name = self.series.get(series).map_or("?", |series| series.name.as_str());
        let count = match workers {
            None => return name.to_owned(),
            Some(1) => "1 worker".to_owned(),
            Some(count) => format!("{count} workers"),
        };
        if self.series.len() > 1 { format!("{name}, {count}") } else { count }
    }
}

impl Point<'_> {
    /// One sample for each round that has one, in the order of the rounds.
    pub(crate) fn samples(&self, metric: Metric) -> Vec<f64> {
        self.runs.iter().filter_map(|run| metric.of(run)).collect()
    }

    /// `None` without a sample.
    pub(crate) fn spread(&self, metric: Metric) -> Option<Spread> {
        Spread::of(&self.samples(metric))
    }

    /// The share of its requests that failed, where it is more than can be overlooked.
    pub(crate) fn lost_percent(&self) -> Option<f64> {
        let errors = self.spread(Metric::Errors)?.median;
        (errors > ERRORS_MAX_PERCENT).then_some(errors)
    }
}

impl Metric {
    /// Its value in a run; `None` when it was not seen.
    pub(crate) fn of(self, run: &Run) -> Option<f64> {
        let traffic = &run.traffic;
        let latency = &traffic.latency;
        let answered = traffic.answered() > 0;
        let per_answer_us = |cpu_s: f64| (traffic.ok > 0).then(|| cpu_s * 1e6 / traffic.ok as f64);
        match self {
            Self::Rate => {
                let is_open = run.offered.is_some();
                let counted = if is_open { traffic.answered() } else { traffic.ok };
                Some(counted as f64 / run.duration_s)
            }
            Self::P50 => answered.then_some(latency.p50_ms),
            Self::P90 => answered.then_some(latency.p90_ms),
            Self::P99 => answered.then_some(latency.p99_ms),
            Self::P99_9 => answered.then_some(latency.p99_9_ms),
            Self::Max => answered.then_some(latency.max_ms),
            Self::Errors => {
                let bad = traffic.failed();
                let all = bad + traffic.answered();
                (all > 0).then(|| bad as f64 * 100.0 / all as f64)
            }
            Self::Unsent => {
                let due = traffic.failed() + traffic.answered() + traffic.unsent;
                (run.offered.is_some() && due > 0)
                    .then(|| traffic.unsent as f64 * 100.0 / due as f64)
            }
            Self::CpuServer => run.cpu.server_s.and_then(per_answer_us),
            Self::CpuPostgres => run.cpu.postgres_s.and_then(per_answer_us),
            Self::CpuGenerator => per_answer_us(run.cpu.generator_s),
            Self::Memory => {
                run.memory.as_ref().map(|memory| memory.total_bytes as f64 / f64::from(1 << 20))
            }
        }
    }

    /// Whether more of it is better.
    pub(crate) fn is_better_high(self) -> bool {
        self == Self::Rate
    }

    /// As people write it, `--fail-if` included.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rate => "requests/s",
            Self::P50 => "p50",
            Self::P90 => "p90",
            Self::P99 => "p99",
            Self::P99_9 => "p99.9",
            Self::Max => "max",
            Self::Errors => "errors",
            Self::Unsent => "unsent",
            Self::CpuServer => "server CPU",
            Self::CpuPostgres => "PostgreSQL CPU",
            Self::CpuGenerator => "generator CPU",
            Self::Memory => "memory",
        }
    }

    /// Of its values.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Rate => "/s",
            Self::P50 | Self::P90 | Self::P99 | Self::P99_9 | Self::Max => "ms",
            Self::Errors | Self::Unsent => "%",
            Self::CpuServer | Self::CpuPostgres | Self::CpuGenerator => "µs/request",
            Self::Memory => "MiB",
        }
    }
}

impl Spread {
    /// `None` of nothing.
    pub(crate) fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let half = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            1 => sorted[half],
            _ => f64::midpoint(sorted[half - 1], sorted[half]),
        };
        Some(Self { median, min, max })
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => write!(f, "closed loop"),
            Self::PercentOfPeak(percent) => write!(f, "{percent} % of its peak"),
            Self::Rate(rate) => write!(f, "{}/s offered", number::count(*rate)),
        }
    }
}
