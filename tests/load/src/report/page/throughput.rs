//! The first question's picture: right answers per second against the number of workers.

use super::axis::Axis;
use super::contestants::{Contestant, Contestants, Look};
use super::figure::{Drawn, Figure, Picture, Table};
use super::number;
use super::plot::{Layer, Plot};
use crate::report::statistics;
use crate::report::summary::{Load, Metric, Point, Spread};

const TITLE: &str = "Requests per second against workers";
/// Beside one another, where servers have the same number of workers.
const SHIFT: f64 = 70.0;

/// A measured number of workers.
struct Peak<'a> {
    one: &'a Contestant<'a>,
    point: &'a Point<'a>,
    rate: Spread,
}

/// In the closed loop.
pub(crate) fn figure(contestants: &Contestants<'_>) -> Figure {
    let peaks: Vec<Peak<'_>> = contestants
        .at(Some(Load::Closed))
        .into_iter()
        .filter_map(|(one, point)| Some(Peak { one, point, rate: point.spread(Metric::Rate)? }))
        .collect();
    if peaks.is_empty() {
        return Figure::LeftOut(
            TITLE,
            "No closed loop was measured: the peak is not known.".into(),
        );
    }
    if peaks.iter().all(|peak| peak.rate.max == 0.0) {
        return Figure::LeftOut(TITLE, "No request was answered in the closed loop.".into());
    }
    let rounds = peaks.iter().map(|peak| peak.point.runs.len()).max().unwrap_or(1);
    let cpus = contestants.report.card.machine.cpus;
    // One line needs no name, and its marks stand over their numbers of workers.
    let legend = match contestants.report.series.len() {
        1 => Vec::new(),
        _ => contestants.legend(peaks.iter().map(|peak| peak.one)),
    };
    Figure::Drawn(Box::new(Drawn {
        title: TITLE.to_owned(),
        note: note(rounds, peaks.windows(2).any(|two| two[0].one.series == two[1].one.series)),
        legend,
        pictures: vec![Picture::Plot(plot(&peaks, cpus, contestants.report.series.len()))],
        table: table(&peaks),
        is_open: false,
    }))
}

fn note(rounds: usize, has_ideal: bool) -> String {
    let spread = match rounds {
        1 => "One round: how far it spreads is not known.".to_owned(),
        rounds => format!(
            "Marks are medians of {rounds} rounds, bars reach from the lowest to the highest."
        ),
    };
    let ideal = if has_ideal { " Dashed: the same again from each worker." } else { "" };
    format!("Closed loop, every connection always busy. {spread}{ideal}")
}

fn plot(peaks: &[Peak<'_>], cpus: usize, series: usize) -> Plot {
    let counts: Vec<u32> = peaks.iter().filter_map(|peak| peak.one.workers).collect();
    let last = counts.iter().copied().max().unwrap_or(1);
    let top = peaks.iter().map(|peak| peak.rate.max).fold(0.0, f64::max);
    let y = Axis::from_zero("requests/s", top * 1.12, number::plain);
    let mut layers = Vec::new();
    if cpus as f64 <= f64::from(last) && !counts.is_empty() {
        layers.push(processors(cpus));
    }
    for series in 0..series {
        let of_series: Vec<&Peak<'_>> =
            peaks.iter().filter(|peak| peak.one.series == series).collect();
        layers.extend(line(&of_series, y.end()));
    }
    Plot { x: workers_axis(&counts, last), y, layers, height: 330.0 }
}

/// Each measured number is a tick.
fn workers_axis(counts: &[u32], last: u32) -> Axis {
    let mut counts = counts.to_vec();
    counts.sort_unstable();
    counts.dedup();
    let ticks = counts.iter().map(|count| (f64::from(*count), number::count(u64::from(*count))));
    let title = if counts.is_empty() { "" } else { "workers" };
    let end = f64::from(last);
    // One number alone stands in the middle.
    let end = if counts.len() == 1 { end * 2.0 } else { end + (end * 0.13).max(0.4) };
    Axis::with_ticks(title, 0.0, end, ticks.collect())
}

fn processors(cpus: usize) -> Layer {
    let text = number::counted(cpus as u64, "processor");
    let title = format!("{text}: from here on workers share them");
    Layer::Limit { x: cpus as f64, text, title }
}

/// One server: its line, its ideal, its rounds; without a number of workers a level over all of them.
fn line(peaks: &[&Peak<'_>], top: f64) -> Vec<Layer> {
    let Some(first) = peaks.first() else { return Vec::new() };
    let look = Look::of_series(first.one.series);
    let Some(least) = first.one.workers.map(f64::from) else {
        let told = number::short(first.rate.median);
        let text = format!("{}: {told}/s", first.one.label);
        return vec![Layer::Level { look, y: first.rate.median, title: title(first), text }];
    };
    let x = |peak: &Peak<'_>| peak.one.workers.map_or(0.0, f64::from);
    // Without lines, those with the same number of workers would hide one another.
    let shift = if peaks.len() > 1 { 0.0 } else { first.one.series as f64 * SHIFT };
    let mut layers = Vec::new();
    if peaks.len() > 1 {
        let each = first.rate.median / least;
        let end = x(peaks[peaks.len() - 1]).min(top / each.max(f64::MIN_POSITIVE));
        let ideal = vec![(least, first.rate.median), (end, each * end)];
        layers.push(Layer::Curve { look, is_faint: true, points: ideal });
        let (text, aside) = ("ideal".to_owned(), (7.0, 10.0));
        layers.push(Layer::Words { x: end, y: each * end, aside, text });
        let points = peaks.iter().map(|peak| (x(peak), peak.rate.median)).collect();
        layers.push(Layer::Curve { look, is_faint: false, points });
    }
    for peak in peaks {
        layers.extend(marks(peak, (x(peak), shift), first));
    }
    layers
}

fn marks(peak: &Peak<'_>, (x, shift): (f64, f64), first: &Peak<'_>) -> Vec<Layer> {
    let (look, rate) = (peak.one.look, peak.rate);
    let rounds = peak.point.samples(Metric::Rate);
    let mut layers = Vec::new();
    if rounds.len() > 1 {
        layers.push(Layer::Whisker { look, x, low: rate.min, high: rate.max, shift });
        layers.extend(rounds.into_iter().map(|y| Layer::Dot { look, x, y, shift }));
    }
    layers.push(Layer::Mark { look, x, y: rate.median, shift, title: title(peak) });
    let is_first = peak.one.workers == first.one.workers;
    let factor = if is_first { None } else { factor(first, peak) };
    let text = factor.unwrap_or_else(|| format!("{}/s", number::short(rate.median)));
    // Below and to the right: there, a line that rises less and less leaves room.
    layers.push(Layer::Words { x, y: rate.min, aside: (shift + 6.0, 17.0), text });
    layers
}

/// That of the verdict: the rounds' own factors put together, which is not the medians' factor.
fn factor(first: &Peak<'_>, peak: &Peak<'_>) -> Option<String> {
    if first.rate.median == 0.0 {
        return None;
    }
    Some(number::times(statistics::peaks(first.point, peak.point)?.change))
}

fn title(peak: &Peak<'_>) -> String {
    let Spread { median, min, max } = peak.rate;
    let [median, min, max] = [median, min, max].map(number::short);
    format!("{}: {median} requests/s, rounds from {min} to {max}", peak.one.label)
}

fn table(peaks: &[Peak<'_>]) -> Table {
    let head = ["", "median, requests/s", "lowest", "highest", "against the first", "rounds"];
    let mut table = Table::new("Requests per second in the closed loop", head);
    for peak in peaks {
        let same = |other: &&Peak<'_>| other.one.series == peak.one.series;
        let ratio = peaks.iter().find(same).and_then(|first| factor(first, peak));
        let ratio = ratio.unwrap_or_else(|| "-".to_owned());
        let Spread { median, min, max } = peak.rate;
        let [median, min, max] = [median, min, max].map(number::short);
        let rounds = peak.point.runs.len().to_string();
        table.rows.push(vec![peak.one.label.clone(), median, min, max, ratio, rounds]);
    }
    table
}
