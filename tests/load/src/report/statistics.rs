//! Whether two sets of measurements differ, or only their noise does.
//!
//! Called by the verdict, `compare` and `recommend` with two [`Point`]s; calls [`student`]. A round
//! gives one sample. It promises that two measurements of the same thing are called different at
//! most once in ten comparisons of whole reports, so long as the assumptions below hold. It does not
//! know what is better.
//!
//! - Samples are compared as logarithms, so that a difference is a ratio. Shares of errors are often
//!   0 and have no logarithm: they are compared as they are, in percentage points.
//! - *Within a report* the counts take turns, so that what disturbs a round disturbs all of them:
//!   samples of the same round pair up (paired t interval). *Between two reports* nothing pairs up
//!   (Welch's t interval, Biometrika 34, 1947; Satterthwaite's degrees of freedom).
//! - Two rounds say next to nothing about their own noise, one round nothing. So the noise of a set is
//!   not only what was seen: an assumed noise ([`assumed_noise`]) counts as if it had been seen in
//!   [`ASSUMED_FREEDOM`] further rounds (moderated t: Smyth, Statistical Applications in Genetics and
//!   Molecular Biology 3, 2004). One round against one thus needs a third more to be called different.
//! - Between two reports the machine itself drifts: another neighbour, another clock, another
//!   placement of memory. Two reports cannot tell drift from a difference, and more rounds do not
//!   reduce it (Kalibera and Jones, Rigorous Benchmarking in Reasonable Time, ISMM 2013). It is
//!   assumed: [`ASSUMED_DRIFT`] for each report and, on top, the share of the processors that others
//!   were seen to have; part of every interval. Who has to see less measures both in one report, as
//!   two series. Where others had much, no assumption holds: such runs ([`is_disturbed`]) are not
//!   to be compared with another report's.
//! - Many things compared at once make some of them differ by chance: [`judge_together`] asks the more
//!   of each (Benjamini and Hochberg, Journal of the Royal Statistical Society B 57, 1995).
//! - A difference below [`FLOOR`] is none, however sure: nobody would act on it.

mod student;

use super::model::Run;
use super::summary::{Metric, Point};

/// The chance of an interval that misses the truth.
const CHANCE: f64 = 0.01;
/// The share of false ones among what is called real, over everything that is compared at once.
const FALSE_SHARE: f64 = 0.05;
/// The assumed noise counts as much as that of so many further rounds, for each of the two sets.
const ASSUMED_FREEDOM: f64 = 2.0;
/// Standard deviation, as a share, of what a whole report is off because of when it was made.
pub(crate) const ASSUMED_DRIFT: f64 = 0.03;
/// A run in which others had a larger share of the processors measures them too.
const TAKEN_MAX: f64 = 0.1;
/// The least share that is called a difference.
const FLOOR: f64 = 0.03;
/// The same of shares of errors, in percentage points.
const FLOOR_POINTS: f64 = 0.1;
/// A server that answered nothing has a rate of 0, and no logarithm: it counts as so much a second.
const RATE_MIN: f64 = 0.001;

/// What a difference is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// The new one, divided by the base; 1 is no difference.
    Ratio,
    /// The new one, less the base, in percentage points; 0 is no difference.
    Points,
}

/// How far a new set of samples is from a base.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Difference {
    pub(crate) scale: Scale,
    pub(crate) change: f64,
    /// Where the truth is between, 99 times of 100.
    pub(crate) low: f64,
    pub(crate) high: f64,
    /// How likely as much is without a difference.
    pub(crate) chance: f64,
    /// Whether it is more than noise.
    pub(crate) is_real: bool,
}

/// An estimate on the scale on which noise adds up.
struct Estimate {
    value: f64,
    error: f64,
    freedom: f64,
}

/// Two points of one report, round by round; `None` without a round that both have.
pub(crate) fn within_report(metric: Metric, base: &Point, new: &Point) -> Option<Difference> {
    let pairs = base.runs.iter().filter_map(|run| {
        let other = new.runs.iter().find(|other| other.round == run.round)?;
        Some(sample(metric, metric.of(other)?)? - sample(metric, metric.of(run)?)?)
    });
    let changes: Vec<f64> = pairs.collect();
    // The noise of both sides is in each change.
    let assumed = 2.0 * assumed_noise(metric).powi(2);
    let Moments { mean, variance, freedom, count } =
        Moments::of(&changes, assumed, 2.0 * ASSUMED_FREEDOM)?;
    let error = (variance / count).sqrt();
    Some(Difference::new(metric, &Estimate { value: mean, error, freedom }))
}

/// The same point of two reports; `None` when one of them has no sample.
pub(crate) fn between_reports(metric: Metric, base: &Point, new: &Point) -> Option<Difference> {
    let assumed = assumed_noise(metric).powi(2);
    let moments = |point: &Point| {
        let samples = point.samples(metric).into_iter();
        let samples: Vec<f64> = samples.filter_map(|value| sample(metric, value)).collect();
        Moments::of(&samples, assumed, ASSUMED_FREEDOM)
    };
    // The drift of both; errors have none.
    let drift: f64 = match scale(metric) {
        Scale::Ratio => [base, new].map(|point| assumed_drift(point).powi(2)).iter().sum(),
        Scale::Points => 0.0,
    };
    let (base, new) = (moments(base)?, moments(new)?);
    let parts = [&base, &new].map(|side| (side.variance / side.count, side.freedom));
    let variance = drift + parts[0].0 + parts[1].0;
    let uncertain: f64 = parts.iter().map(|(part, freedom)| part * part / freedom).sum();
    let freedom = variance * variance / uncertain;
    let value = new.mean - base.mean;
    Some(Difference::new(metric, &Estimate { value, error: variance.sqrt(), freedom }))
}

/// Takes back what, among so many differences, may well be chance.
pub(crate) fn judge_together(mut differences: Vec<&mut Difference>) {
    differences.sort_by(|a, b| a.chance.total_cmp(&b.chance));
    let all = differences.len() as f64;
    let limit = |index: usize| FALSE_SHARE * (index + 1) as f64 / all;
    let last = differences.iter().enumerate().rposition(|(i, one)| one.chance <= limit(i));
    let passed = last.map_or(0, |last| last + 1);
    for difference in &mut differences[passed..] {
        difference.is_real = false;
    }
}

impl Difference {
    fn new(metric: Metric, estimate: &Estimate) -> Self {
        let Estimate { value, error, freedom } = *estimate;
        let reach = error * student::quantile(CHANCE, freedom);
        let scale = scale(metric);
        let told = |value: f64| if scale == Scale::Ratio { value.exp() } else { value };
        let change = told(value);
        let is_large = match scale {
            Scale::Ratio => (change - 1.0).abs() >= FLOOR,
            Scale::Points => change.abs() >= FLOOR_POINTS,
        };
        Self {
            scale,
            change,
            low: told(value - reach),
            high: told(value + reach),
            chance: student::chance_beyond(value / error, freedom),
            is_real: is_large && value.abs() > reach,
        }
    }

    /// Whether the new one has more.
    pub(crate) fn is_more(&self) -> bool {
        match self.scale {
            Scale::Ratio => self.change > 1.0,
            Scale::Points => self.change > 0.0,
        }
    }

    /// How large it is, whichever way; for an order among differences.
    pub(crate) fn size(&self) -> f64 {
        match self.scale {
            Scale::Ratio => self.change.ln().abs(),
            // Two points of errors are about as bad as everything else by a fifth.
            Scale::Points => self.change.abs() / 10.0,
        }
    }
}

/// Of a set of samples, the assumed ones included in variance and freedom.
struct Moments {
    mean: f64,
    variance: f64,
    freedom: f64,
    count: f64,
}

impl Moments {
    fn of(samples: &[f64], assumed: f64, assumed_freedom: f64) -> Option<Self> {
        if samples.is_empty() {
            return None;
        }
        let count = samples.len() as f64;
        let mean = samples.iter().sum::<f64>() / count;
        let squares: f64 = samples.iter().map(|sample| (sample - mean).powi(2)).sum();
        let freedom = assumed_freedom + count - 1.0;
        let variance = (assumed_freedom * assumed + squares) / freedom;
        Some(Self { mean, variance, freedom, count })
    }
}

fn scale(metric: Metric) -> Scale {
    match metric {
        Metric::Errors | Metric::Unsent => Scale::Points,
        _ => Scale::Ratio,
    }
}

/// What rounds of the same thing differ by, as a standard deviation: a share, of errors percentage
/// points. The rarer a slow request, the more of it is chance.
fn assumed_noise(metric: Metric) -> f64 {
    match metric {
        Metric::P99 => 0.10,
        Metric::P99_9 => 0.20,
        Metric::Max => 0.30,
        Metric::Errors | Metric::Unsent => 0.1,
        _ => 0.05,
    }
}

/// Whether others had so much of the machine that a run says little of the server.
pub(crate) fn is_disturbed(run: &Run) -> bool {
    taken(run) > TAKEN_MAX
}

/// Without the rounds that were disturbed; `None` when no round is left.
pub(crate) fn undisturbed<'a>(point: &Point<'a>) -> Option<Point<'a>> {
    let mut point = point.clone();
    point.runs.retain(|run| !is_disturbed(run));
    (!point.runs.is_empty()).then_some(point)
}

/// How many times as much is answered at the new peak as at the base: the one factor that sentences and
/// pictures tell. Disturbed rounds count only where a side has no others; `None` where a peak lost
/// requests ([`Point::lost_percent`]) or the two have no round in common.
pub(crate) fn peaks(base: &Point, new: &Point) -> Option<Difference> {
    let (clean, cleaned) = (undisturbed(base), undisturbed(new));
    let (base, new) = clean.as_ref().zip(cleaned.as_ref()).unwrap_or((base, new));
    let has_lost = base.lost_percent().is_some() || new.lost_percent().is_some();
    if has_lost { None } else { within_report(Metric::Rate, base, new) }
}

/// The share of the processors that other programs and the host had.
pub(crate) fn taken(run: &Run) -> f64 {
    run.cpu.stolen + run.cpu.foreign.unwrap_or_default()
}

fn assumed_drift(point: &Point) -> f64 {
    let taken: f64 = point.runs.iter().map(|run| taken(run)).sum();
    ASSUMED_DRIFT + taken / point.runs.len().max(1) as f64
}

/// On the scale on which noise adds up; `None` of what was too small to be seen.
fn sample(metric: Metric, value: f64) -> Option<f64> {
    match metric {
        Metric::Errors | Metric::Unsent => Some(value),
        Metric::Rate => Some(value.max(RATE_MIN).ln()),
        _ => (value > 0.0).then(|| value.ln()),
    }
    .filter(|value| value.is_finite())
}

#[cfg(test)]
mod tests;
