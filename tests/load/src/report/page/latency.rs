//! How long answers took: percentiles at one load, and the knee over the offered rates.

use super::axis::Axis;
use super::contestants::{Contestant, Contestants};
use super::figure::{Drawn, Figure, Picture, Table};
use super::number;
use super::plot::{Layer, Plot};
use crate::report::latency::Durations;
use crate::report::summary::{Load, Metric, Point, Spread};

const PERCENTILES: &str = "Latency percentiles";
const KNEE: &str = "Latency against offered rate";
/// The percentiles that are told, with the share of answers that took longer.
const TOLD: [(Metric, f64); 4] =
    [(Metric::P50, 0.5), (Metric::P90, 0.1), (Metric::P99, 0.01), (Metric::P99_9, 0.001)];
/// Points of a curve between the first and the last of them.
const STEPS: u32 = 36;

/// A place on the percentile scale: each further nine is as far as the one before.
fn nines(slower: f64) -> f64 {
    -slower.log10()
}

/// A line for each contestant at the common load.
pub(crate) fn percentiles(contestants: &Contestants<'_>) -> Figure {
    let load = contestants.steady.or(contestants.peak);
    let answered = |(_, point): &(&Contestant<'_>, &Point<'_>)| point.spread(Metric::P50).is_some();
    let at: Vec<_> = contestants.at(load).into_iter().filter(answered).collect();
    let values = at
        .iter()
        .flat_map(|(_, point)| TOLD.into_iter().flat_map(|(metric, _)| point.samples(metric)));
    let (Some(y), Some(load)) = (Axis::log_ms("latency", values), load) else {
        return Figure::LeftOut(PERCENTILES, "No request was answered.".to_owned());
    };
    let ticks = TOLD.map(|(metric, slower)| (nines(slower), metric.name().to_owned())).to_vec();
    let x = Axis::with_ticks("percentile", nines(0.5) - 0.08, nines(0.001) + 0.08, ticks);
    let layers = at.iter().flat_map(|(one, point)| curve(one, point)).collect();
    Figure::Drawn(Box::new(Drawn {
        title: format!("{PERCENTILES}, {load}"),
        note: percentiles_note(load),
        legend: contestants.legend(at.iter().map(|(one, _)| *one)),
        pictures: vec![Picture::Plot(Plot { x, y, layers, height: 330.0 })],
        table: percentiles_table(load, &at),
        is_open: false,
    }))
}

fn percentiles_note(load: Load) -> String {
    let from = match load {
        Load::Closed => {
            "the instant it was sent; a stall holds the clients back and is hidden here"
        }
        _ => "the instant it was due, so a stall counts for everyone who had to wait",
    };
    format!("Each request is timed from {from}. Medians over the rounds; the shade spans them.")
}

/// Between the told percentiles the line follows the histograms, where they are there.
fn curve(one: &Contestant<'_>, point: &Point<'_>) -> Vec<Layer> {
    let look = one.look;
    let told: Vec<(f64, &'static str, Spread)> = TOLD
        .into_iter()
        .filter_map(|(metric, slower)| Some((nines(slower), metric.name(), point.spread(metric)?)))
        .collect();
    let mut line = between(point);
    if line.is_empty() {
        line = told.iter().map(|(x, _, spread)| (*x, *spread)).collect();
    }
    let band = line.iter().map(|(x, spread)| (*x, spread.min, spread.max)).collect();
    let middle = line.iter().map(|(x, spread)| (*x, spread.median)).collect();
    let mut layers = vec![
        Layer::Band { look, points: band },
        Layer::Curve { look, is_faint: false, points: middle },
    ];
    for (x, name, spread) in &told {
        let title = format!("{}, {name}: {}", one.label, told_spread(*spread));
        layers.push(Layer::Mark { look, x: *x, y: spread.median, shift: 0.0, title });
    }
    if let Some((x, _, last)) = told.last() {
        layers.push(Layer::End { look, x: *x, y: last.median, text: one.label.clone() });
    }
    layers
}

/// By the histograms of all rounds; nothing when one cannot be read.
fn between(point: &Point<'_>) -> Vec<(f64, Spread)> {
    let rounds = point.runs.iter().filter(|run| run.traffic.latency.count > 0);
    let rounds: Vec<Option<Durations>> =
        rounds.map(|run| run.traffic.latency.durations().ok()).collect();
    let Some(rounds) = rounds.into_iter().collect::<Option<Vec<Durations>>>() else {
        return Vec::new();
    };
    let (from, to) = (nines(0.5), nines(0.001));
    let at = |step: u32| {
        let x = from + (to - from) * f64::from(step) / f64::from(STEPS);
        let percent = 100.0 * (1.0 - 10_f64.powf(-x));
        let values: Vec<f64> = rounds.iter().map(|round| round.percentile_ms(percent)).collect();
        Spread::of(&values).filter(|spread| spread.min > 0.0).map(|spread| (x, spread))
    };
    (0..=STEPS).map(at).collect::<Option<Vec<_>>>().unwrap_or_default()
}

fn percentiles_table(load: Load, at: &[(&Contestant<'_>, &Point<'_>)]) -> Table {
    let head = ["", "p50", "p90", "p99", "p99.9"];
    let mut table = Table::new(&format!("Latency, {load}: median (lowest to highest round)"), head);
    for (one, point) in at {
        let cells = TOLD.map(|(metric, _)| point.spread(metric).map_or("-".into(), told_spread));
        table.rows.push([vec![one.label.clone()], cells.to_vec()].concat());
    }
    table
}

/// p50 and p99 over what was offered, on the same axes.
pub(crate) fn knee(contestants: &Contestants<'_>) -> Vec<Figure> {
    let curves: Vec<(&Contestant<'_>, Vec<&Point<'_>>)> = contestants
        .all
        .iter()
        .map(|one| (one, offered_in_order(one)))
        .filter(|(_, points)| !points.is_empty())
        .collect();
    let all = || curves.iter().flat_map(|(_, points)| points);
    let values = all().flat_map(|point| {
        [Metric::P50, Metric::P99].into_iter().flat_map(|metric| point.samples(metric))
    });
    let Some(y) = Axis::log_ms("latency", values) else {
        let why =
            "Nothing was answered at an offered rate: every phase was a closed loop, or failed.";
        return vec![Figure::LeftOut(KNEE, why.to_owned())];
    };
    if curves.iter().all(|(_, points)| points.len() == 1) {
        let why = "One rate was offered: where latency rises is seen with several.";
        return vec![Figure::LeftOut(KNEE, why.to_owned())];
    }
    let most = all().filter_map(|point| offered(point)).fold(0.0, f64::max);
    let x = Axis::from_zero("offered requests/s", most, number::plain);
    let figure = |metric: Metric| {
        let layers = curves.iter().flat_map(|(one, points)| knee_line(one, points, metric));
        let plot = Plot { x: x.clone(), y: y.clone(), layers: layers.collect(), height: 330.0 };
        Figure::Drawn(Box::new(Drawn {
            title: format!("{KNEE}, {}", metric.name()),
            note: knee_note(metric),
            legend: contestants.legend(curves.iter().map(|(one, _)| *one)),
            pictures: vec![Picture::Plot(plot)],
            table: knee_table(&curves, metric),
            is_open: false,
        }))
    };
    [Metric::P50, Metric::P99].map(figure).into()
}

fn knee_note(metric: Metric) -> String {
    let part =
        if metric == Metric::P50 { "Half of the requests" } else { "One request in a hundred" };
    let turn = "where a line turns up, the server is near its end.";
    format!(
        "{part} took longer. Open loop, sent at fixed instants whether or not answers come: {turn}"
    )
}

fn offered(point: &Point<'_>) -> Option<f64> {
    let samples: Vec<f64> = point.runs.iter().filter_map(|run| run.offered).collect();
    Spread::of(&samples).map(|spread| spread.median)
}

fn offered_in_order<'a>(one: &'a Contestant<'a>) -> Vec<&'a Point<'a>> {
    let is_told =
        |point: &&Point<'_>| offered(point).is_some() && point.spread(Metric::P50).is_some();
    let mut points: Vec<&Point<'_>> = one.points.iter().filter(is_told).collect();
    points.sort_by(|a, b| offered(a).unwrap_or(0.0).total_cmp(&offered(b).unwrap_or(0.0)));
    points
}

fn knee_line(one: &Contestant<'_>, points: &[&Point<'_>], metric: Metric) -> Vec<Layer> {
    let look = one.look;
    let told: Vec<(f64, Spread, Load)> = points
        .iter()
        .filter_map(|point| Some((offered(point)?, point.spread(metric)?, point.load)))
        .collect();
    let middle = told.iter().map(|(x, spread, _)| (*x, spread.median)).collect();
    let mut layers = vec![Layer::Curve { look, is_faint: false, points: middle }];
    for (x, spread, load) in &told {
        let name = metric.name();
        let told = format!("{name} {}", told_spread(*spread));
        let rate = number::short(*x);
        let title = format!("{}, {load}, {rate} requests/s offered: {told}", one.label);
        let (low, high) = (spread.min, spread.max);
        layers.push(Layer::Whisker { look, x: *x, low, high, shift: 0.0 });
        layers.push(Layer::Mark { look, x: *x, y: spread.median, shift: 0.0, title });
    }
    if let Some((x, last, _)) = told.last() {
        layers.push(Layer::End { look, x: *x, y: last.median, text: one.label.clone() });
    }
    layers
}

fn knee_table(curves: &[(&Contestant<'_>, Vec<&Point<'_>>)], metric: Metric) -> Table {
    let head = ["", "load", "offered, requests/s", "answered, requests/s", metric.name()];
    let mut table = Table::new("Latency by offered rate: median (lowest to highest round)", head);
    for (one, points) in curves {
        for point in points {
            let rate = point.spread(Metric::Rate).map_or(0.0, |spread| spread.median);
            table.rows.push(vec![
                one.label.clone(),
                point.load.to_string(),
                number::short(offered(point).unwrap_or(0.0)),
                number::short(rate),
                point.spread(metric).map_or("-".to_owned(), told_spread),
            ]);
        }
    }
    table
}

/// `1.23 ms (1.1 ms to 1.4 ms)`.
fn told_spread(spread: Spread) -> String {
    let [median, min, max] = [spread.median, spread.min, spread.max].map(number::duration);
    if spread.min == spread.max { median } else { format!("{median} ({min} to {max})") }
}
