//! Balance: which part of the requests each worker answered.

use super::axis::Axis;
use super::bars::{Bars, Dot, Row};
use super::contestants::{Contestant, Contestants};
use super::figure::{Drawn, Figure, Picture, Table};
use super::number;
use crate::report::model::Run;
use crate::report::summary::Point;

const TITLE: &str = "Balance between workers";

/// Each worker of each round against its fair share.
pub(crate) fn figure(contestants: &Contestants<'_>) -> Figure {
    let at = contestants.at(contestants.peak);
    let rows: Vec<Row> = at.iter().filter_map(|(one, point)| row(one, point)).collect();
    if rows.is_empty() {
        return Figure::LeftOut(TITLE, why_not(contestants).to_owned());
    }
    let dots = rows.iter().flat_map(|row| &row.dots);
    let most = dots.map(|dot| dot.value).fold(1.5, f64::max);
    let axis = Axis::from_zero("requests, as a multiple of the fair share", most, number::plain);
    let rule = Some((1.0, "fair share".to_owned()));
    Figure::Drawn(Box::new(Drawn {
        title: contestants.at_peak(TITLE),
        note:
            "Each mark is a worker in one round; the kernel gives connections to workers by chance."
                .to_owned(),
        legend: Vec::new(),
        pictures: vec![Picture::Bars(Bars { axis, rows, rule })],
        table: table(&at),
        is_open: false,
    }))
}

/// A server that tells who answered is silent only where workers came and went: what those that are
/// gone had counted is gone with them.
fn why_not(contestants: &Contestants<'_>) -> &'static str {
    let several = contestants.all.iter().filter(|one| one.workers.is_none_or(|count| count > 1));
    let mut runs = several.flat_map(Contestant::runs);
    let tells = runs.any(|run| run.share.is_some() || !run.events.is_empty());
    match tells {
        true => "Workers were replaced meanwhile, and took what they had counted with them.",
        false => "There was one worker, or the server does not tell which worker answered.",
    }
}

fn row(one: &Contestant<'_>, point: &Point<'_>) -> Option<Row> {
    let mut dots = Vec::new();
    for run in &point.runs {
        let Some((share, mean)) = shares(run) else { continue };
        let rounds = point.runs.len().max(2) - 1;
        let aside = f64::from(run.round) / rounds as f64 * 2.0 - 1.0;
        for (slot, requests) in share.iter().enumerate() {
            let told = number::counted(*requests, "request");
            let title = format!("{}, round {}, worker {slot}: {told}", one.label, run.round + 1);
            dots.push(Dot { value: *requests as f64 / mean, aside: aside.clamp(-1.0, 1.0), title });
        }
    }
    let most = dots.iter().map(|dot| dot.value).fold(0.0, f64::max);
    let least = dots.iter().map(|dot| dot.value).fold(f64::INFINITY, f64::min);
    let sum = format!("{least:.2} to {most:.2} ×");
    let (look, name) = (one.look, one.label.clone());
    (!dots.is_empty()).then_some(Row { look, name, sum, pieces: Vec::new(), dots })
}

/// Where there is something to share.
fn shares(run: &Run) -> Option<(&[u64], f64)> {
    let share = run.share.as_deref().filter(|share| share.len() > 1)?;
    let mean = share.iter().sum::<u64>() as f64 / share.len() as f64;
    (mean > 0.0).then_some((share, mean))
}

fn table(at: &[(&Contestant<'_>, &Point<'_>)]) -> Table {
    let mut table = Table::new(
        "Requests by worker",
        ["", "round", "busiest, of fair share", "requests by slot"],
    );
    for (one, point) in at {
        for (run, (share, mean)) in point.runs.iter().filter_map(|run| Some((run, shares(run)?))) {
            let most = share.iter().copied().max().unwrap_or(0) as f64 / mean;
            let all: Vec<String> = share.iter().copied().map(number::count).collect();
            let round = (run.round + 1).to_string();
            table.rows.push(vec![one.label.clone(), round, format!("{most:.2} ×"), all.join("  ")]);
        }
    }
    table
}
