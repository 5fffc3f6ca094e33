//! From the scoreboard's words to samples: which numbers a metric has now, and under which labels.
//!
//! `text` asks for one metric after the other. A slot with two workers, while one replaces the other, is
//! one sample: their sum, or the worse of the two.

use std::time::Instant;

use supervisor::Board;
use supervisor::scoreboard::{CellView, RestartReason, SlotView, Snapshot};
use supervisor::status::{ChildState, rss_bytes};
use worker::Durations;
use worker::meters::{
    ERRORS_AT, GAUGES, Gauge, HISTOGRAM_WORDS, LAGS_AT, POOL_WAITS_AT, RETRIES_AT, RETRY_CAUSES,
    SQLSTATES,
};

use super::own::{OwnGauge, SchemaState};
use super::table::{Metric, SlotNumber, Source, SupervisorNumber};

/// Everything at one instant, and what belongs to it.
pub struct Scrape<'a> {
    snapshot: &'a Snapshot,
    durations: &'a Durations,
    version: &'a str,
    /// Names of the programs beside the workers, in the order of their start.
    programs: &'a [&'a str],
    begun: Instant,
    now_ms: u64,
}

/// One number.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sample<'a> {
    /// Values of the metric's labels, in their order.
    pub(super) labels: Vec<String>,
    pub(super) value: Value<'a>,
}

/// A number, or several that belong together.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value<'a> {
    Whole(u64),
    Fraction(f64),
    /// Counts by bucket and the sum, as the worker keeps them.
    Histogram(&'a [u64]),
}

impl<'a> Scrape<'a> {
    /// Of a snapshot that was begun at `begun`.
    #[must_use]
    pub fn new(
        snapshot: &'a Snapshot,
        begun: Instant,
        version: &'a str,
        programs: &'a [&'a str],
    ) -> Self {
        let (durations, now_ms) = (super::durations(), Board::now_ms());
        Self { snapshot, durations, version, programs, begun, now_ms }
    }

    /// The samples of one metric.
    pub(super) fn samples(&self, metric: &Metric) -> Vec<Sample<'a>> {
        let facts = &self.snapshot.facts;
        match metric.source {
            Source::Durations => self.durations(),
            Source::PoolWaits => vec![alone(Value::Histogram(self.words(POOL_WAITS_AT)))],
            Source::Lags => vec![alone(Value::Histogram(self.words(LAGS_AT)))],
            Source::Requests => vec![whole(self.snapshot.requests)],
            Source::Counter(counter) => vec![whole(self.counter(counter as usize))],
            Source::Own(own) => vec![whole(self.counter(super::own_counters_at() + own as usize))],
            Source::Errors => self.labelled(&SQLSTATES, ERRORS_AT),
            Source::Retries => self.labelled(&RETRY_CAUSES, RETRIES_AT),
            Source::Gauge(gauge) => self.gauges(gauge as usize),
            Source::OwnGauge(own) => self.gauges(GAUGES + own as usize),
            Source::DatabaseConnections => self.database_connections(),
            Source::SchemaApplied => self.schema_applied(),
            Source::Slot(number) => self.by_slot(|slot| self.slot_number(slot, number)),
            Source::Workers => self.workers(),
            Source::Supervisor(SupervisorNumber::Target) => vec![whole(facts.target)],
            Source::Supervisor(SupervisorNumber::Steerings) => vec![whole(facts.steerings)],
            Source::Supervisor(SupervisorNumber::Generation) => vec![whole(facts.generation)],
            Source::Restarts => self.restarts(),
            Source::Rolls => by_result(facts.rolls, facts.rolls_failed),
            Source::Upgrades => by_result(facts.upgrades, facts.upgrades_failed),
            Source::Memory => self.memory(),
            Source::Build => vec![named(self.version, 1)],
            Source::Scrape => vec![alone(Value::Fraction(self.begun.elapsed().as_secs_f64()))],
        }
    }

    fn counter(&self, place: usize) -> u64 {
        self.snapshot.counters.get(place).copied().unwrap_or_default()
    }

    /// The words of a distribution.
    fn words(&self, place: usize) -> &'a [u64] {
        self.snapshot.counters.get(place..place + HISTOGRAM_WORDS).unwrap_or_default()
    }

    /// Those that anything was counted in, since most combinations never happen; and from the start on those
    /// whose first count must not be missed: what begins at 1 has not risen, for who asks for a rate.
    fn durations(&self) -> Vec<Sample<'a>> {
        let series = self.durations.series().map(|series| (series, self.words(series.at)));
        let used = series
            .filter(|(series, words)| series.is_expected || words.iter().any(|word| *word > 0));
        let sample = |(series, words): (worker::DurationSeries, &'a [u64])| {
            let status = series.status.map_or("other".to_owned(), |status| status.to_string());
            let labels = vec![series.method.to_owned(), series.route.to_owned(), status];
            Sample { labels, value: Value::Histogram(words) }
        };
        used.map(sample).collect()
    }

    fn labelled(&self, names: &[&str], at: usize) -> Vec<Sample<'a>> {
        let names = names.iter().enumerate();
        names.map(|(place, name)| named(name, self.counter(at + place))).collect()
    }

    /// One sample per slot that listens, or has a worker.
    fn by_slot(&self, value: impl Fn(&SlotView) -> Option<Value<'a>>) -> Vec<Sample<'a>> {
        let slots = self.snapshot.slots.iter();
        let slots = slots.filter(|slot| slot.listens || self.in_slot(slot.slot).next().is_some());
        let sample = |slot: &SlotView| {
            Some(Sample { labels: vec![slot.slot.to_string()], value: value(slot)? })
        };
        slots.filter_map(sample).collect()
    }

    /// The workers of a slot.
    fn in_slot(&self, slot: usize) -> impl Iterator<Item = &'a CellView> {
        self.snapshot.cells.iter().filter(move |cell| cell.slot == Some(slot))
    }

    fn slot_number(&self, slot: &SlotView, number: SlotNumber) -> Option<Value<'a>> {
        let cells = || self.in_slot(slot.slot);
        Some(match number {
            SlotNumber::Queue => Value::Whole(slot.queue),
            SlotNumber::InFlight => Value::Whole(cells().map(|cell| cell.in_flight).sum()),
            SlotNumber::Connections => Value::Whole(cells().map(|cell| cell.connections).sum()),
            SlotNumber::HeartbeatAge => {
                let oldest = cells().map(|cell| cell.heartbeat_ms).min()?;
                Value::Fraction(self.now_ms.saturating_sub(oldest) as f64 / 1_000.0)
            }
        })
    }

    /// Sums over the workers of each slot.
    fn gauges(&self, place: usize) -> Vec<Sample<'a>> {
        self.by_slot(|slot| Some(Value::Whole(self.in_slot(slot.slot).map(gauge(place)).sum())))
    }

    fn database_connections(&self) -> Vec<Sample<'a>> {
        let (all, used) = (Gauge::DatabaseConnections as usize, Gauge::PoolInUse as usize);
        let mut samples = Vec::new();
        for (state, is_used) in [("used", true), ("idle", false)] {
            samples.extend(self.by_slot(|slot| {
                let sum = |place| self.in_slot(slot.slot).map(gauge(place)).sum::<u64>();
                // The two are read one after the other, and need not fit.
                let count = if is_used { sum(used) } else { sum(all).saturating_sub(sum(used)) };
                Some(Value::Whole(count))
            }));
            for sample in samples.iter_mut().filter(|sample| sample.labels.len() == 1) {
                sample.labels.push(state.to_owned());
            }
        }
        samples
    }

    fn schema_applied(&self) -> Vec<Sample<'a>> {
        let place = GAUGES + OwnGauge::Schema as usize;
        self.by_slot(|slot| {
            let newest = self.in_slot(slot.slot).max_by_key(|cell| cell.generation)?;
            let applied = gauge(place)(newest) == SchemaState::Applied as u64;
            Some(Value::Whole(applied.into()))
        })
    }

    fn workers(&self) -> Vec<Sample<'a>> {
        use ChildState::{Backoff, Booting, Draining, Hung, Ready};
        let status = self.snapshot.status(self.version, self.programs);
        let count = |state: ChildState| {
            let workers = status.workers.iter().filter(|worker| worker.state == state);
            named(&state.to_string(), workers.count() as u64)
        };
        [Booting, Ready, Draining, Backoff, Hung].map(count).into()
    }

    fn restarts(&self) -> Vec<Sample<'a>> {
        let reason = |(place, reason): (usize, RestartReason)| {
            let slots = self.snapshot.slots.iter();
            named(reason.name(), slots.map(|slot| slot.reasons[place]).sum())
        };
        RestartReason::ALL.into_iter().enumerate().map(reason).collect()
    }

    fn memory(&self) -> Vec<Sample<'a>> {
        let of = |process: &str, slot: String, bytes: u64| Sample {
            labels: vec![process.to_owned(), slot],
            value: Value::Whole(bytes),
        };
        let mut samples = vec![of("supervisor", String::new(), rss_bytes(self.snapshot.facts.pid))];
        for cell in self.snapshot.cells.iter().filter(|cell| cell.slot.is_none()) {
            let program = usize::try_from(cell.generation).ok();
            let name = program.and_then(|program| self.programs.get(program)).unwrap_or(&"program");
            samples.push(of(name, String::new(), rss_bytes(cell.pid)));
        }
        for slot in &self.snapshot.slots {
            let bytes: Vec<u64> = self.in_slot(slot.slot).map(|cell| rss_bytes(cell.pid)).collect();
            if !bytes.is_empty() {
                samples.push(of("worker", slot.slot.to_string(), bytes.into_iter().sum()));
            }
        }
        samples
    }
}

fn gauge(place: usize) -> impl Fn(&CellView) -> u64 {
    move |cell| cell.gauges.get(place).copied().unwrap_or_default()
}

fn alone(value: Value<'_>) -> Sample<'_> {
    Sample { labels: Vec::new(), value }
}

fn whole<'a>(value: u64) -> Sample<'a> {
    alone(Value::Whole(value))
}

fn by_result<'a>(ok: u64, failed: u64) -> Vec<Sample<'a>> {
    vec![named("ok", ok), named("failed", failed)]
}

fn named<'a>(label: &str, value: u64) -> Sample<'a> {
    Sample { labels: vec![label.to_owned()], value: Value::Whole(value) }
}
