//! Every number, for those who want all of them: the points, and the servers' lives.

use std::collections::BTreeMap;

use super::contestants::{Contestant, Contestants};
use super::figure::Table;
use super::markup::Tag;
use super::number;
use crate::report::model::{Life, Report};
use crate::report::summary::{Load, Metric, Point, Spread};

const METRICS: [Metric; 11] = [
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

/// Every metric of every point: a part for each load, so that what is compared stands together.
pub(crate) fn points(contestants: &Contestants<'_>) -> Tag {
    let head = |metric: Metric| {
        // The name of the first says it already.
        let unit = if metric == Metric::Rate { "\u{a0}" } else { metric.unit() };
        let unit = Tag::of("span", "unit").text(unit);
        Tag::new("th").set("scope", "col").text(&format!("{} ", metric.name())).put(unit)
    };
    let corner = Tag::new("td");
    let row = Tag::new("tr").put(corner).put_all(METRICS.map(head));
    let caption = "Medians over the rounds; below them the lowest and the highest round";
    let table =
        Tag::new("table").put(Tag::new("caption").text(caption)).put(Tag::new("thead").put(row));
    let loads = contestants.loads().into_iter();
    let table = table.put_all(loads.map(|load| group(load, &contestants.at(Some(load)))));
    let frame = Tag::of("div", "scroll all").set("tabindex", 0).set("role", "region");
    frame.set("aria-label", "All points").put(table)
}

fn group(load: Load, at: &[(&Contestant<'_>, &Point<'_>)]) -> Tag {
    let columns = METRICS.len() + 1;
    let name = Tag::new("th").set("scope", "rowgroup").set("colspan", columns);
    let name = Tag::of("tr", "group").put(name.text(&sentence(&load.to_string())));
    Tag::new("tbody").put(name).put_all(at.iter().map(|(one, point)| {
        let cells = METRICS.map(|metric| cell(point.spread(metric)));
        Tag::new("tr").put(Tag::new("th").set("scope", "row").text(&one.label)).put_all(cells)
    }))
}

fn cell(spread: Option<Spread>) -> Tag {
    let Some(Spread { median, min, max }) = spread else { return Tag::new("td").text("-") };
    let told = Tag::new("td").text(&number::short(median));
    match min == max {
        true => told,
        false => {
            let ends = format!("{} … {}", number::short(min), number::short(max));
            told.put(Tag::new("small").text(&ends))
        }
    }
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}

/// `1,230 (1,200 to 1,250)`, or a dash for what was not seen.
pub(crate) fn told(metric: Metric, point: &Point<'_>) -> String {
    let Some(Spread { median, min, max }) = point.spread(metric) else { return "-".to_owned() };
    let [median, low, high] = [median, min, max].map(number::short);
    if min == max { median } else { format!("{median} ({low} to {high})") }
}

/// Starts, and what the database counted.
pub(crate) fn lives(report: &Report) -> Table {
    let head = [
        "",
        "starts",
        "ready after, s",
        "requests",
        "transactions per request",
        "deadlocks",
        "repeated by the server",
    ];
    let mut table = Table::new("Servers' lives, warm-up included", head);
    let mut lives: BTreeMap<(usize, Option<u32>), Vec<&Life>> = BTreeMap::new();
    for life in &report.lives {
        lives.entry((life.series, life.workers)).or_default().push(life);
    }
    for ((series, workers), lives) in lives {
        let ready: Vec<f64> = lives.iter().filter_map(|life| life.ready_s).collect();
        let requests: u64 = lives.iter().map(|life| life.requests).sum();
        table.rows.push(vec![
            report.label(series, workers),
            lives.len().to_string(),
            Spread::of(&ready).map_or("-".to_owned(), spread),
            number::count(requests),
            transactions_per_request(&lives),
            sum(&lives, |life| life.deadlocks),
            sum(&lives, |life| life.retries),
        ]);
    }
    table
}

fn spread(Spread { median, min, max }: Spread) -> String {
    let [middle, low, high] = [median, min, max].map(number::short);
    if min == max { middle } else { format!("{middle} ({low} to {high})") }
}

fn transactions_per_request(lives: &[&Life]) -> String {
    let seen = lives.iter().filter_map(|life| Some((life.transactions?, life.requests)));
    let (transactions, requests) = seen.fold((0, 0), |(t, r), (more, of)| (t + more, r + of));
    match requests {
        0 => "-".to_owned(),
        requests => number::short(transactions as f64 / requests as f64),
    }
}

/// A dash where nobody could tell.
fn sum(lives: &[&Life], of: fn(&Life) -> Option<u64>) -> String {
    let seen: Option<Vec<u64>> = lives.iter().map(|life| of(life)).collect();
    seen.map_or("-".to_owned(), |seen| number::count(seen.iter().sum()))
}
