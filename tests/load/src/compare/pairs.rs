//! Which measurements of two reports belong together, and how far they are apart.
//!
//! Called by [`super`]. Points belong together by the server's name, the number of workers and the
//! load. A closed loop is always the same load; a percentage of the server's own peak is matched as
//! such, though the peaks may differ; a fixed rate only with one that is equal within 1 %. Judges with
//! [`statistics`]; knows neither thresholds nor how it is told.

use std::collections::BTreeSet;

use crate::report::model::Report;
use crate::report::number;
use crate::report::statistics::{self, Difference};
use crate::report::summary::{Load, Metric, Point, Spread};
use crate::report::verdict::told;

/// Rates that are nearer than this are the same.
const SAME_RATE: f64 = 0.01;
/// Peaks that differ by more make percentages of them other rates.
const SAME_PEAK: f64 = 0.05;

/// Everything that can be asked for; the order is that of the tables.
pub(crate) const METRICS: [Metric; 11] = [
    Metric::Rate,
    Metric::P50,
    Metric::P90,
    Metric::P99,
    Metric::P99_9,
    Metric::Max,
    Metric::Errors,
    Metric::CpuServer,
    Metric::CpuPostgres,
    Metric::CpuGenerator,
    Metric::Memory,
];
/// What a closed loop tells: latencies follow there from the number of connections.
const TOLD_CLOSED: [Metric; 5] =
    [Metric::Rate, Metric::Errors, Metric::CpuServer, Metric::CpuPostgres, Metric::Memory];
/// What an open loop tells: the rate is given there.
const TOLD_OPEN: [Metric; 6] = [
    Metric::P50,
    Metric::P99,
    Metric::P99_9,
    Metric::Errors,
    Metric::CpuServer,
    Metric::CpuPostgres,
];

/// The same point of both.
pub(crate) type Pair<'a> = (Point<'a>, Point<'a>);

/// A metric of a pair.
#[derive(Debug)]
pub(crate) struct Row {
    /// Which server and load: `2 workers at the peak`.
    pub(crate) place: String,
    pub(crate) load: Load,
    pub(crate) metric: Metric,
    pub(crate) base: Option<Spread>,
    pub(crate) new: Option<Spread>,
    pub(crate) difference: Option<Difference>,
    /// Whether it is shown; the others are there for thresholds.
    pub(crate) is_told: bool,
}

/// Pairs, and sentences about what is left over.
pub(crate) fn pairs<'a>(base: &'a Report, new: &'a Report) -> (Vec<Pair<'a>>, Vec<String>) {
    let mut pairs = Vec::new();
    let mut notes = BTreeSet::new();
    let others = new.points();
    for point in base.points() {
        let is_same_server = |other: &&Point<'_>| {
            other.workers == point.workers && is_same_series(base, &point, new, other)
        };
        let same_server = others.iter().filter(is_same_server);
        match same_server.clone().find(|other| is_same_load(point.load, other.load)) {
            Some(other) => pairs.push((point, other.clone())),
            None => {
                let rate = same_server.filter(|o| matches!(o.load, Load::Rate(_))).map(|o| o.load);
                notes.insert(left_over(base, &point, rate.max()));
            }
        }
    }
    notes.extend(only_new(base, new, &pairs, &others));
    notes.extend(other_peaks(&pairs));
    (pairs, notes.into_iter().collect())
}

/// Every metric of every pair; those that are told are judged together.
pub(crate) fn rows(base: &Report, pairs: &[Pair]) -> Vec<Row> {
    let is_all_closed = pairs.iter().all(|(point, _)| point.load == Load::Closed);
    let mut rows: Vec<Row> = Vec::new();
    for (point, other) in pairs {
        let place = place(base, point);
        let metrics = METRICS.iter().map(|metric| Row {
            place: place.clone(),
            load: point.load,
            metric: *metric,
            base: point.spread(*metric),
            new: other.spread(*metric),
            difference: statistics::between_reports(*metric, point, other),
            is_told: is_told(*metric, point.load, is_all_closed),
        });
        let metrics = metrics.map(without_untold_zeros);
        rows.extend(metrics.filter(|row| row.base.is_some() || row.new.is_some()));
    }
    let told = rows.iter_mut().filter(|row| row.is_told);
    statistics::judge_together(told.filter_map(|row| row.difference.as_mut()).collect());
    rows
}

/// The largest of some differences, in words: `p99 of 2 workers at 1,000/s (+35 %)`.
pub(crate) fn largest(rows: &[&Row]) -> Option<String> {
    let differences = rows.iter().filter_map(|row| Some((row, row.difference.as_ref()?)));
    let (row, difference) = differences.max_by(|a, b| a.1.size().total_cmp(&b.1.size()))?;
    let change = number::change(difference);
    Some(format!("{} of {} ({change})", row.metric.name(), row.place))
}

impl Row {
    pub(crate) fn is_real(&self) -> bool {
        self.difference.is_some_and(|difference| difference.is_real)
    }

    pub(crate) fn is_worse(&self) -> bool {
        self.difference.is_some_and(|d| d.is_more() != self.metric.is_better_high())
    }

    /// `+35 %`, or that it is none.
    pub(crate) fn change(&self) -> String {
        match &self.difference {
            None => "not seen in both".to_owned(),
            Some(difference) if difference.is_real => number::change(difference),
            Some(_) => "no real difference".to_owned(),
        }
    }

    /// `+20 to +51 %`.
    pub(crate) fn interval(&self) -> String {
        self.difference.as_ref().map(number::interval).unwrap_or_default()
    }
}

fn place(report: &Report, point: &Point) -> String {
    format!("{} at {}", report.label(point.series, point.workers), told(point.load))
}

/// That there was no error is told once, not in every phase.
fn without_untold_zeros(row: Row) -> Row {
    let had_some = [row.base, row.new].iter().flatten().any(|spread| spread.max > 0.0);
    Row { is_told: row.is_told && had_some, ..row }
}

fn is_told(metric: Metric, load: Load, is_all_closed: bool) -> bool {
    match load {
        Load::Closed if is_all_closed => {
            TOLD_CLOSED.contains(&metric) || TOLD_OPEN.contains(&metric)
        }
        Load::Closed => TOLD_CLOSED.contains(&metric),
        _ => TOLD_OPEN.contains(&metric),
    }
}

/// By name; where there is one server only, whatever it is called.
fn is_same_series(base: &Report, point: &Point, new: &Report, other: &Point) -> bool {
    let is_only = base.series.len() == 1 && new.series.len() == 1;
    is_only || base.series[point.series].name == new.series[other.series].name
}

fn is_same_load(base: Load, new: Load) -> bool {
    match (base, new) {
        (Load::Rate(base), Load::Rate(new)) => {
            (base as f64 - new as f64).abs() <= base as f64 * SAME_RATE
        }
        _ => base == new,
    }
}

/// A percentage of a peak is as much as that peak.
fn other_peaks(pairs: &[Pair]) -> Option<String> {
    let offered = |point: &Point| {
        Spread::of(&point.runs.iter().filter_map(|r| r.offered).collect::<Vec<_>>())
    };
    let of_peak = pairs.iter().filter(|(point, _)| matches!(point.load, Load::PercentOfPeak(_)));
    let apart = of_peak.filter_map(|(point, other)| {
        Some((offered(other)?.median / offered(point)?.median - 1.0).abs())
    });
    let most = apart.fold(0.0, f64::max);
    (most > SAME_PEAK).then(|| {
        format!(
            "Percentages are of each one's own peak: the rates behind them differ by up to \
             {:.0} %.",
            most * 100.0
        )
    })
}

fn left_over(report: &Report, point: &Point, other_rate: Option<Load>) -> String {
    match (point.load, other_rate) {
        (Load::Rate(base), Some(Load::Rate(new))) => format!(
            "The fixed rates differ ({}/s, then {}/s) and were not compared; repeat the run with \
             --rate {base}.",
            number::count(base),
            number::count(new)
        ),
        _ => format!("Only the base has: {}.", place(report, point)),
    }
}

/// What the new report has beyond the base; its fixed rates are told of by the base's.
fn only_new(base: &Report, new: &Report, pairs: &[Pair], others: &[Point]) -> Vec<String> {
    let has_rate = base.runs.iter().any(|run| matches!(run.load, Load::Rate(_)));
    let left = others.iter().filter(|other| {
        let is_paired = pairs.iter().any(|(_, paired)| {
            (paired.series, paired.workers, paired.load)
                == (other.series, other.workers, other.load)
        });
        let is_told_of = has_rate && matches!(other.load, Load::Rate(_));
        !(is_paired || is_told_of)
    });
    left.map(|other| format!("Only the new one has: {}.", place(new, other))).collect()
}
