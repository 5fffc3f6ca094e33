//! Who is compared: each server with each number of workers, and how it looks all over the page.
//!
//! Made once by [`super::render`]; every chart and table goes through it. A contestant has one colour
//! and one shape wherever it appears: the hue tells the server, the depth the number of workers, and
//! the shape both, for those who see no colour and for paper.

use super::figure::Key;
use super::markup::Tag;
use crate::report::model::{Report, Run};
use crate::report::summary::{Load, Point};

/// All of them, and the loads at which they are compared.
pub(crate) struct Contestants<'a> {
    pub(crate) report: &'a Report,
    pub(crate) all: Vec<Contestant<'a>>,
    /// The load that was the same for all, else the one nearest to 70 % of each one's peak.
    pub(crate) steady: Option<Load>,
    /// The closed loop, else the steady load.
    pub(crate) peak: Option<Load>,
}

/// One server with one number of workers.
pub(crate) struct Contestant<'a> {
    pub(crate) series: usize,
    pub(crate) workers: Option<u32>,
    pub(crate) label: String,
    pub(crate) look: Look,
    /// What was measured of it, by load.
    pub(crate) points: Vec<Point<'a>>,
}

/// Colour and shape.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Look {
    hue: f64,
    /// From 0, few workers, to 1, many.
    depth: f64,
    shape: usize,
}

/// Where a server's hues begin and end. Blue and orange stay apart for all kinds of colour blindness.
const HUES: [(f64, f64); 5] =
    [(215.0, 280.0), (80.0, 40.0), (165.0, 150.0), (345.0, 325.0), (115.0, 105.0)];
/// So many shapes are told apart.
const SHAPES: usize = 8;

impl<'a> Contestants<'a> {
    pub(crate) fn of(report: &'a Report) -> Self {
        let mut all: Vec<Contestant<'a>> = Vec::new();
        for point in report.points() {
            match all.last_mut() {
                Some(last) if (last.series, last.workers) == (point.series, point.workers) => {
                    last.points.push(point);
                }
                _ => all.push(Contestant {
                    series: point.series,
                    workers: point.workers,
                    label: report.label(point.series, point.workers),
                    look: Look::of(point.series, 0.5, all.len()),
                    points: vec![point],
                }),
            }
        }
        give_depth(&mut all);
        let loads = all.iter().flat_map(|one| one.points.iter().map(|point| point.load));
        let loads: Vec<Load> = loads.collect();
        let steady = steady(&loads);
        let peak = loads.contains(&Load::Closed).then_some(Load::Closed).or(steady);
        Self { report, all, steady, peak }
    }

    /// Those that were measured under this load.
    pub(crate) fn at(&self, load: Option<Load>) -> Vec<(&Contestant<'a>, &Point<'a>)> {
        let find = |one: &'_ &Contestant<'a>| one.points.iter().position(|p| Some(p.load) == load);
        let with = |one| find(&one).map(|place| (one, &one.points[place]));
        self.all.iter().filter_map(with).collect()
    }

    /// What their marks stand for: an entry for each server.
    pub(crate) fn legend<'b>(&self, shown: impl Iterator<Item = &'b Contestant<'b>>) -> Vec<Key> {
        let shown: Vec<&Contestant<'_>> = shown.collect();
        let of_series = |same: &[&Contestant<'_>]| {
            let name = &self.report.series[same[0].series].name;
            let count = |one: &&Contestant<'_>| match one.workers {
                Some(1) => (one.look, "1 worker".to_owned()),
                Some(count) => (one.look, format!("{count} workers")),
                None => (one.look, "as it is".to_owned()),
            };
            Key::Lines(name.clone(), same.iter().map(count).collect())
        };
        shown.chunk_by(|a, b| a.series == b.series).map(of_series).collect()
    }

    /// A heading with the peak load in it.
    pub(crate) fn at_peak(&self, title: &str) -> String {
        self.peak.map_or(title.to_owned(), |load| format!("{title}, {load}"))
    }

    /// All loads of anybody, in order.
    pub(crate) fn loads(&self) -> Vec<Load> {
        let loads = self.all.iter().flat_map(|one| one.points.iter().map(|point| point.load));
        let mut loads: Vec<Load> = loads.collect();
        loads.sort_unstable();
        loads.dedup();
        loads
    }
}

/// A number of workers is as deep as its place among those of its server.
fn give_depth(all: &mut [Contestant<'_>]) {
    for same in all.chunk_by_mut(|a, b| a.series == b.series) {
        let last = same.len() - 1;
        for (place, one) in same.iter_mut().enumerate().filter(|_| last > 0) {
            one.look = Look::of(one.series, place as f64 / last as f64, one.look.shape);
        }
    }
}

fn steady(loads: &[Load]) -> Option<Load> {
    let distance = |load: &Load| match load {
        Load::Closed => None,
        Load::Rate(_) => Some(0),
        Load::PercentOfPeak(percent) => Some(1 + percent.abs_diff(70)),
    };
    let distances = loads.iter().filter_map(|load| Some((distance(load)?, *load)));
    distances.min().map(|(_, load)| load)
}

impl Contestant<'_> {
    /// Every run under any load.
    pub(crate) fn runs(&self) -> impl Iterator<Item = &Run> {
        self.points.iter().flat_map(|point| point.runs.iter().copied())
    }
}

impl Look {
    /// Of a server as a whole, with a shape of its own.
    pub(crate) fn of_series(series: usize) -> Self {
        Self::of(series, 0.5, series)
    }

    fn of(series: usize, depth: f64, shape: usize) -> Self {
        let (first, last) = HUES[series % HUES.len()];
        Self { hue: first + (last - first) * depth, depth, shape }
    }

    /// Gives an element and what is in it the colour.
    pub(crate) fn paint(self, tag: Tag) -> Tag {
        let lightness = 0.66 - 0.26 * self.depth;
        tag.set("style", format_args!("--l:{lightness:.2};--h:{:.0}", self.hue))
    }

    /// The shape around a place, in the colour of what it is put in.
    pub(crate) fn mark(self, x: f64, y: f64, radius: f64) -> Tag {
        let corners: &[(f64, f64)] = match self.shape % SHAPES {
            0 => return circle(x, y, radius),
            1 => &[(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)],
            2 => &[(0.0, -1.15), (1.1, 0.8), (-1.1, 0.8)],
            3 => &[(0.0, -1.25), (1.25, 0.0), (0.0, 1.25), (-1.25, 0.0)],
            4 => &[(0.0, 1.15), (1.1, -0.8), (-1.1, -0.8)],
            5 => &PLUS,
            6 => &[(0.55, -1.0), (1.1, 0.0), (0.55, 1.0), (-0.55, 1.0), (-1.1, 0.0), (-0.55, -1.0)],
            _ => &CROSS,
        };
        let place =
            |(dx, dy): &(f64, f64)| format!("{:.1},{:.1}", x + dx * radius, y + dy * radius);
        let points: Vec<String> = corners.iter().map(place).collect();
        Tag::of("polygon", "mark").set("points", points.join(" "))
    }
}

const PLUS: [(f64, f64); 12] = [
    (-0.4, -1.2),
    (0.4, -1.2),
    (0.4, -0.4),
    (1.2, -0.4),
    (1.2, 0.4),
    (0.4, 0.4),
    (0.4, 1.2),
    (-0.4, 1.2),
    (-0.4, 0.4),
    (-1.2, 0.4),
    (-1.2, -0.4),
    (-0.4, -0.4),
];

const CROSS: [(f64, f64); 12] = [
    (0.0, -0.55),
    (0.55, -1.1),
    (1.1, -0.55),
    (0.55, 0.0),
    (1.1, 0.55),
    (0.55, 1.1),
    (0.0, 0.55),
    (-0.55, 1.1),
    (-1.1, 0.55),
    (-0.55, 0.0),
    (-1.1, -0.55),
    (-0.55, -1.1),
];

fn circle(x: f64, y: f64, radius: f64) -> Tag {
    Tag::of("circle", "mark").px("cx", x).px("cy", y).px("r", radius)
}
