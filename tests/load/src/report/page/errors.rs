//! What went wrong, by kind. No error at all is told as loudly as many.

use std::collections::{BTreeMap, BTreeSet};

use super::axis::Axis;
use super::bars::{Bars, Piece, Row};
use super::contestants::{Contestant, Contestants};
use super::figure::{Drawn, Figure, Key, Picture, Table};
use super::number;
use crate::report::model::Run;

/// Colours that the style sheet has for kinds, `e0` and so on; after them they repeat.
const COLOURS: usize = 8;
/// In an open loop: due, and never sent. Beside the errors, not one of them.
const UNSENT: &str = "never sent";

/// Of one contestant.
struct Sum {
    by_kind: BTreeMap<String, u64>,
    all: u64,
}

/// Over all loads and rounds.
pub(crate) fn figure(contestants: &Contestants<'_>) -> Figure {
    let sums: Vec<(&Contestant<'_>, Sum)> =
        contestants.all.iter().map(|one| (one, Sum::of(one.runs()))).collect();
    let kinds: BTreeSet<&String> = sums.iter().flat_map(|(_, sum)| sum.by_kind.keys()).collect();
    let kinds: Vec<&str> = kinds.into_iter().map(String::as_str).collect();
    let most = sums.iter().map(|(_, sum)| sum.share(sum.bad())).fold(0.0, f64::max);
    let axis = Axis::from_zero("share of all requests", most, number::plain_percent);
    let rows = sums.iter().map(|(one, sum)| row(one, sum, &kinds)).collect();
    let legend = kinds.iter().enumerate().map(|(place, kind)| key(place, kind)).collect();
    let (failed, all) =
        sums.iter().fold((0, 0), |(failed, all), (_, sum)| (failed + sum.failed(), all + sum.all));
    Figure::Drawn(Box::new(Drawn {
        title: title(failed, sums.iter().map(|(_, sum)| sum.unsent()).sum()),
        note: format!(
            "Of {} under all loads, in all rounds. Never sent: no connection became free for them.",
            number::counted(all, "request")
        ),
        legend,
        pictures: vec![Picture::Bars(Bars { axis, rows, rule: None })],
        table: table(&sums, &kinds),
        is_open: true,
    }))
}

impl Sum {
    fn of<'a>(runs: impl Iterator<Item = &'a Run>) -> Self {
        let mut sum = Self { by_kind: BTreeMap::new(), all: 0 };
        for run in runs {
            let traffic = &run.traffic;
            let unsent = (UNSENT.to_owned(), traffic.unsent);
            let kinds = traffic.errors.iter().map(|(kind, count)| (kind.clone(), *count));
            for (kind, count) in kinds.chain([unsent]).filter(|(_, count)| *count > 0) {
                *sum.by_kind.entry(kind).or_default() += count;
            }
            sum.all += traffic.ok + traffic.late + traffic.failed() + traffic.unsent;
        }
        sum
    }

    fn failed(&self) -> u64 {
        self.by_kind.iter().filter(|(kind, _)| *kind != UNSENT).map(|(_, count)| count).sum()
    }

    fn unsent(&self) -> u64 {
        self.by_kind.get(UNSENT).copied().unwrap_or(0)
    }

    /// What did not go well, errors and requests that were never sent.
    fn bad(&self) -> u64 {
        self.by_kind.values().sum()
    }

    fn share(&self, count: u64) -> f64 {
        if self.all == 0 { 0.0 } else { count as f64 / self.all as f64 }
    }
}

fn title(failed: u64, unsent: u64) -> String {
    let errors = match failed {
        0 => "No errors".to_owned(),
        failed => number::counted(failed, "error"),
    };
    match unsent {
        0 => errors,
        unsent => format!("{errors}, {} {UNSENT}", number::counted(unsent, "request")),
    }
}

/// What is no error has no error's colour.
fn class(place: usize, kind: &str) -> String {
    if kind == UNSENT { "unsent".to_owned() } else { format!("e{}", place % COLOURS) }
}

fn key(place: usize, kind: &str) -> Key {
    Key::Piece(class(place, kind), kind.to_owned())
}

fn row(one: &Contestant<'_>, sum: &Sum, kinds: &[&str]) -> Row {
    let piece = |(place, kind): (usize, &&str)| {
        let count = sum.by_kind.get(*kind).copied().unwrap_or(0);
        let share = sum.share(count);
        let told = format!("{} ({})", number::count(count), number::percent(share));
        Piece {
            class: class(place, kind),
            value: share,
            title: format!("{}, {kind}: {told}", one.label),
        }
    };
    let failed = sum.failed();
    let told = match failed {
        0 => format!("0 of {}", number::count(sum.all)),
        failed => {
            let share = number::percent(sum.share(failed));
            format!("{} of {} · {share}", number::count(failed), number::count(sum.all))
        }
    };
    let told = match sum.unsent() {
        0 => told,
        unsent => format!("{told} · {} {UNSENT}", number::count(unsent)),
    };
    Row {
        look: one.look,
        name: one.label.clone(),
        sum: told,
        pieces: kinds.iter().enumerate().map(piece).collect(),
        dots: Vec::new(),
    }
}

fn table(sums: &[(&Contestant<'_>, Sum)], kinds: &[&str]) -> Table {
    let mut table = Table::new("Errors by kind", ["", "requests", "errors"]);
    table.head.extend(kinds.iter().map(|kind| (*kind).to_owned()));
    for (one, sum) in sums {
        let mut row = vec![one.label.clone(), number::count(sum.all), number::count(sum.failed())];
        let of_kind = |kind: &&str| sum.by_kind.get(*kind).copied().unwrap_or(0);
        row.extend(kinds.iter().map(|kind| number::count(of_kind(kind))));
        table.rows.push(row);
    }
    table
}
