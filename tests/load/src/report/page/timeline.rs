//! The course of a phase: requests per second and p99, window after window, with what was done to
//! the server.

use super::axis::Axis;
use super::contestants::{Contestant, Contestants};
use super::figure::{Drawn, Figure, Picture, Table};
use super::number;
use super::plot::{Layer, Plot};
use crate::report::model::{Event, EventKind, Run, Window};
use crate::report::summary::Point;

/// One for each contestant, on the same axes.
pub(crate) fn figures(contestants: &Contestants<'_>) -> Vec<Figure> {
    let at = contestants.at(contestants.steady.or(contestants.peak));
    let shown: Vec<(&Contestant<'_>, &Run, usize)> = at
        .into_iter()
        .filter_map(|(one, point)| Some((one, slowest_round(point)?, point.runs.len())))
        .collect();
    if shown.is_empty() {
        let why = "No phase was recorded window after window.".to_owned();
        return vec![Figure::LeftOut("Course of a phase", why)];
    }
    let windows = || shown.iter().flat_map(|(_, run, _)| run.windows.iter());
    let most = windows().map(rate).fold(0.0, f64::max);
    let end = shown.iter().map(|(_, run, _)| run.duration_s).fold(0.0, f64::max);
    let axes = Axes {
        time: Axis::from_zero("seconds", end, number::plain),
        rate: Axis::from_zero("requests/s", most, number::plain),
        latency: Axis::log_ms("p99", windows().map(|window| window.p99_ms)),
    };
    shown.iter().map(|(one, run, rounds)| figure(one, run, *rounds, &axes)).collect()
}

/// The same for all.
struct Axes {
    time: Axis,
    rate: Axis,
    /// `None` when nobody answered.
    latency: Option<Axis>,
}

/// The round that shows most: with the highest p99.
fn slowest_round<'a>(point: &Point<'a>) -> Option<&'a Run> {
    let rounds = point.runs.iter().copied().filter(|run| !run.windows.is_empty());
    rounds.max_by(|a, b| a.traffic.latency.p99_ms.total_cmp(&b.traffic.latency.p99_ms))
}

fn rate(window: &Window) -> f64 {
    window.ok as f64 / window.length_s.max(f64::MIN_POSITIVE)
}

fn figure(one: &Contestant<'_>, run: &Run, rounds: usize, axes: &Axes) -> Figure {
    let which = match rounds {
        1 => "The only round".to_owned(),
        rounds => format!("Round {}, the one of {rounds} with the highest p99", run.round + 1),
    };
    let errors = match run.windows.iter().map(|window| window.errors).sum::<u64>() {
        0 => "no errors".to_owned(),
        errors => format!("{} (red)", number::counted(errors, "error")),
    };
    let events = match run.events.len() {
        0 => String::new(),
        count => format!(", {}", number::counted(count as u64, "event")),
    };
    let mut pictures = vec![rates(one, run, axes)];
    pictures.extend(axes.latency.as_ref().map(|axis| latencies(one, run, axes, axis)));
    Figure::Drawn(Box::new(Drawn {
        title: format!("{}: {}", one.label, run.load),
        note: format!("{which}: {errors}{events}."),
        legend: Vec::new(),
        pictures,
        table: table(one, run),
        is_open: false,
    }))
}

fn rates(one: &Contestant<'_>, run: &Run, axes: &Axes) -> Picture {
    let middle = |window: &Window| (window.at_s + window.length_s / 2.0, rate(window));
    let points: Vec<(f64, f64)> = run.windows.iter().map(middle).collect();
    let mut layers = Vec::new();
    let area = points.iter().map(|(x, y)| (*x, 0.0, *y)).collect();
    layers.push(Layer::Band { look: one.look, points: area });
    layers.extend(run.events.iter().map(event));
    layers.push(Layer::Curve { look: one.look, is_faint: false, points });
    for window in &run.windows {
        let (x, y) = middle(window);
        let told = format!("{} requests/s", number::short(y));
        layers.push(Layer::Point { look: one.look, x, y, title: titled(window, &told) });
    }
    layers.extend(run.windows.iter().filter(|window| window.errors > 0).map(stain));
    let (x, y) = (axes.time.clone(), axes.rate.clone());
    Picture::Plot(Plot { x, y, layers, height: 210.0 })
}

fn latencies(one: &Contestant<'_>, run: &Run, axes: &Axes, axis: &Axis) -> Picture {
    let told = |window: &Window| window.ok > 0 && window.p99_ms > 0.0;
    let middle = |window: &Window| window.at_s + window.length_s / 2.0;
    let gap_or = |window: &Window| if told(window) { window.p99_ms } else { f64::NAN };
    let points = run.windows.iter().map(|window| (middle(window), gap_or(window))).collect();
    let mut layers: Vec<Layer> = run.events.iter().map(event).collect();
    layers.push(Layer::Curve { look: one.look, is_faint: false, points });
    for window in run.windows.iter().filter(|window| told(window)) {
        let (p99, max) = (number::duration(window.p99_ms), number::duration(window.max_ms));
        let title = titled(window, &format!("p99 {p99}, max {max}"));
        let (x, y) = (middle(window), window.p99_ms);
        layers.push(Layer::Point { look: one.look, x, y, title });
    }
    Picture::Plot(Plot { x: axes.time.clone(), y: axis.clone(), layers, height: 210.0 })
}

fn event(event: &Event) -> Layer {
    let (class, word) = match event.kind {
        EventKind::Kill => ("kill", "kill"),
        EventKind::Reload => ("reload", "reload"),
        EventKind::Scale => ("scale", "scale"),
    };
    let title = format!("{} s: {}", number::short(event.at_s), event.text);
    Layer::Upright { class, x: event.at_s, text: word.to_owned(), title }
}

fn stain(window: &Window) -> Layer {
    let title = titled(window, &number::counted(window.errors, "error"));
    Layer::Stain { from: window.at_s, to: window.at_s + window.length_s, title }
}

fn titled(window: &Window, told: &str) -> String {
    let end = window.at_s + window.length_s;
    format!("{} to {} s: {told}", number::plain(window.at_s), number::plain(end))
}

fn table(one: &Contestant<'_>, run: &Run) -> Table {
    let head = ["from, s", "requests/s", "errors", "p50", "p99", "max", "event"];
    let mut table = Table::new(&format!("{}, {}, window by window", one.label, run.load), head);
    for window in &run.windows {
        let end = window.at_s + window.length_s;
        let is_in = |event: &&Event| (window.at_s..end).contains(&event.at_s);
        let events: Vec<&str> =
            run.events.iter().filter(is_in).map(|event| event.text.as_str()).collect();
        let [p50, p99, max] = [window.p50_ms, window.p99_ms, window.max_ms].map(number::duration);
        table.rows.push(vec![
            number::plain(window.at_s),
            number::short(rate(window)),
            number::count(window.errors),
            p50,
            p99,
            max,
            events.join("; "),
        ]);
    }
    table
}
