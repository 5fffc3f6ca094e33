//! What is said of each pair: every metric, on both sides, and how far it is apart.
//!
//! Called by [`super`] with [`pairs`](super::pairs). Judges with [`statistics`]; knows neither
//! thresholds nor how it is told.

use crate::report::number;
use crate::report::statistics::{self, Difference};
use crate::report::summary::{Load, Metric, Spread};

use super::pairs::Pair;

/// Everything that can be asked for; the order is that of the tables.
pub(crate) const METRICS: [Metric; 12] = [
    Metric::Rate,
    Metric::P50,
    Metric::P90,
    Metric::P99,
    Metric::P99_9,
    Metric::Max,
    Metric::Errors,
    Metric::Unsent,
    Metric::CpuServer,
    Metric::CpuPostgres,
    Metric::CpuGenerator,
    Metric::Memory,
];
/// What a closed loop tells: latencies follow there from the number of connections.
const TOLD_CLOSED: [Metric; 5] =
    [Metric::Rate, Metric::Errors, Metric::CpuServer, Metric::CpuPostgres, Metric::Memory];
/// What an open loop tells: the rate is given there.
const TOLD_OPEN: [Metric; 7] = [
    Metric::P50,
    Metric::P99,
    Metric::P99_9,
    Metric::Errors,
    Metric::Unsent,
    Metric::CpuServer,
    Metric::CpuPostgres,
];

/// A metric of a pair.
#[derive(Debug)]
pub(crate) struct Row {
    /// Which server and load: `2 workers at the peak`.
    pub(crate) place: String,
    pub(crate) load: Load,
    pub(crate) metric: Metric,
    pub(crate) base: Option<Spread>,
    pub(crate) new: Option<Spread>,
    pub(crate) difference: Result<Difference, Gap>,
    /// Whether it is shown; the others are there for thresholds.
    pub(crate) is_told: bool,
}

/// Why two measurements are not compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gap {
    /// One side has none.
    Unseen,
    /// In every round of one side others had too much of the machine.
    Disturbed,
}

/// Every metric of every pair; those that are told are judged together.
pub(crate) fn rows(pairs: &[Pair]) -> Vec<Row> {
    let is_all_closed = pairs.iter().all(|pair| pair.base.load == Load::Closed);
    let mut rows: Vec<Row> = Vec::new();
    for pair in pairs {
        let metrics = METRICS.iter().map(|metric| Row {
            place: pair.place.clone(),
            load: pair.base.load,
            metric: *metric,
            base: pair.base.spread(*metric),
            new: pair.new.spread(*metric),
            difference: difference(*metric, pair),
            is_told: is_told(*metric, pair.base.load, is_all_closed),
        });
        let metrics = metrics.map(without_untold_zeros);
        rows.extend(metrics.filter(|row| row.base.is_some() || row.new.is_some()));
    }
    let told = rows.iter_mut().filter(|row| row.is_told);
    statistics::judge_together(told.filter_map(|row| row.difference.as_mut().ok()).collect());
    rows
}

/// The largest of some differences, in words: `p99 of 2 workers at 1,000/s (+35 %)`.
pub(crate) fn largest(rows: &[&Row]) -> Option<String> {
    let differences = rows.iter().filter_map(|row| Some((row, row.difference.as_ref().ok()?)));
    let (row, difference) = differences.max_by(|a, b| a.1.size().total_cmp(&b.1.size()))?;
    let change = number::change(difference);
    Some(format!("{} of {} ({change})", row.metric.name(), row.place))
}

impl Row {
    pub(crate) fn is_real(&self) -> bool {
        self.difference.is_ok_and(|difference| difference.is_real)
    }

    pub(crate) fn is_worse(&self) -> bool {
        self.difference.is_ok_and(|d| d.is_more() != self.metric.is_better_high())
    }

    /// `+35 %`, or why not.
    pub(crate) fn change(&self) -> String {
        match &self.difference {
            Err(gap) => gap.told().to_owned(),
            Ok(difference) if difference.is_real => number::change(difference),
            Ok(_) => "no real difference".to_owned(),
        }
    }

    /// `+20 to +51 %`.
    pub(crate) fn interval(&self) -> String {
        self.difference.as_ref().map(number::interval).unwrap_or_default()
    }
}

impl Gap {
    fn told(self) -> &'static str {
        match self {
            Self::Unseen => "not seen in both",
            Self::Disturbed => "not judged: disturbed",
        }
    }
}

fn difference(metric: Metric, pair: &Pair) -> Result<Difference, Gap> {
    if pair.is_disturbed {
        return Err(Gap::Disturbed);
    }
    statistics::between_reports(metric, &pair.base, &pair.new).ok_or(Gap::Unseen)
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
