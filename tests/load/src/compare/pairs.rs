//! Which measurements of two reports belong together.
//!
//! Called by [`super`]. Points belong together by the server's name, the number of workers and the
//! load: a closed loop is always the same load, an open one is when the rates are about equal. Rounds
//! in which others had too much of the machine are left out. It compares no numbers.

use crate::report::model::Report;
use crate::report::number;
use crate::report::statistics::{is_disturbed, undisturbed};
use crate::report::summary::{Load, Point, Spread};
use crate::report::verdict::told;

/// Fixed rates that are nearer than this are the same.
const SAME_RATE: f64 = 0.01;
/// Percentages of a peak follow from a measurement, which has its own noise.
const SAME_PERCENT: f64 = 0.05;

/// The same point of both, without disturbed rounds.
#[derive(Debug)]
pub(crate) struct Pair<'a> {
    /// Which server and load, as the base calls it.
    pub(crate) place: String,
    pub(crate) base: Point<'a>,
    pub(crate) new: Point<'a>,
    /// Whether one side has disturbed rounds only; they are still there, to be shown.
    pub(crate) is_disturbed: bool,
}

/// What two reports have in common, and what not.
#[derive(Debug)]
pub(crate) struct Matched<'a> {
    pub(crate) pairs: Vec<Pair<'a>>,
    /// Of the base only: its place, and its load.
    pub(crate) lone: Vec<(String, Load)>,
    /// Sentences about what is left over.
    pub(crate) notes: Vec<String>,
}

pub(crate) fn pairs<'a>(base: &'a Report, new: &'a Report) -> Matched<'a> {
    let (points, others) = (base.points(), new.points());
    let is_same_server =
        |a: &Point, b: &Point| a.workers == b.workers && is_same_series(base, a, new, b);
    let has_kind =
        |point: &Point, of: &Point| is_same_server(point, of) && is_same_kind(point.load, of.load);
    let (mut pairs, mut notes, mut other_rates) = (Vec::new(), Vec::new(), Vec::new());
    let mut lone = Vec::new();
    for point in &points {
        let place = place(base, point);
        let kin: Vec<&Point> = others.iter().filter(|other| has_kind(point, other)).collect();
        let partner = kin.iter().find(|other| is_same_rate(point, other));
        if partner.is_none() {
            lone.push((place.clone(), point.load));
        }
        match (partner, kin.first()) {
            (Some(other), _) => pairs.push(pair(place, point, other)),
            (None, Some(other)) => other_rates.push(rates(&place, point, other)),
            (None, None) => notes.push(format!("Only the base has: {place}.")),
        }
    }
    let added = others.iter().filter(|other| !points.iter().any(|point| has_kind(point, other)));
    notes.extend(added.map(|other| format!("Only the new one has: {}.", place(new, other))));
    notes.extend(at_other_rates(&other_rates));
    notes.extend(disturbed(base, new));
    Matched { pairs, lone, notes }
}

fn pair<'a>(place: String, base: &Point<'a>, new: &Point<'a>) -> Pair<'a> {
    match (undisturbed(base), undisturbed(new)) {
        (Some(base), Some(new)) => Pair { place, base, new, is_disturbed: false },
        _ => Pair { place, base: base.clone(), new: new.clone(), is_disturbed: true },
    }
}

fn place(report: &Report, point: &Point) -> String {
    format!("{} at {}", report.label(point.series, point.workers), told(point.load))
}

/// By name; where there is one server only, whatever it is called.
fn is_same_series(base: &Report, point: &Point, new: &Report, other: &Point) -> bool {
    let is_only = base.series.len() == 1 && new.series.len() == 1;
    is_only || base.series[point.series].name == new.series[other.series].name
}

fn is_same_kind(base: Load, new: Load) -> bool {
    base == new || matches!((base, new), (Load::Rate(_), Load::Rate(_)))
}

fn is_same_rate(base: &Point, new: &Point) -> bool {
    let tolerance = match base.load {
        Load::Closed => return true,
        Load::PercentOfPeak(_) => SAME_PERCENT,
        Load::Rate(_) => SAME_RATE,
    };
    let rates = offered(base).zip(offered(new));
    rates.is_some_and(|(base, new)| (base - new).abs() <= base * tolerance)
}

fn offered(point: &Point) -> Option<f64> {
    let offered: Vec<f64> = point.runs.iter().filter_map(|run| run.offered).collect();
    Some(Spread::of(&offered)?.median)
}

fn rates(place: &str, base: &Point, new: &Point) -> String {
    let [base, new] = [base, new].map(|point| offered(point).map_or("?".to_owned(), number::short));
    format!("{place}: {base}/s, then {new}/s")
}

/// One sentence for all of them.
fn at_other_rates(rates: &[String]) -> Option<String> {
    let first = rates.first()?;
    let count = match rates.len() {
        1 => "One load was".to_owned(),
        count => format!("{count} loads were"),
    };
    Some(format!(
        "{count} not compared, because the rates differ ({first}); give both runs the same --rate."
    ))
}

fn disturbed(base: &Report, new: &Report) -> Option<String> {
    let all = || base.runs.iter().chain(&new.runs);
    let count = all().filter(|run| is_disturbed(run)).count();
    (count > 0).then(|| {
        format!(
            "{count} of {} phases were left out, because other programs or the host had more than \
             a tenth of the processors; measure on a quiet machine.",
            all().count()
        )
    })
}
