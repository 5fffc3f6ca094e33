//! Memory of the servers, in all and for each worker.

use super::axis::Axis;
use super::bars::{Bars, Piece, Row};
use super::contestants::{Contestant, Contestants};
use super::figure::{Drawn, Figure, Key, Picture, Table};
use super::number;
use super::tables;
use crate::report::model::Memory;
use crate::report::summary::{Metric, Point};

const TITLE: &str = "Memory";

/// In all, and for each worker.
pub(crate) fn figure(contestants: &Contestants<'_>) -> Figure {
    let at: Vec<(&Contestant<'_>, &Point<'_>, &Memory)> = contestants
        .at(contestants.peak)
        .into_iter()
        .filter_map(|(one, point)| Some((one, point, middle(point)?)))
        .collect();
    let most = at.iter().map(|(_, _, memory)| memory.total_bytes).max().unwrap_or(0);
    if most == 0 {
        let why = "The server's processes could not be seen.".to_owned();
        return Figure::LeftOut(TITLE, why);
    }
    let axis = Axis::from_zero("MiB", mebi(most), number::plain);
    let rows = at.iter().map(|(one, _, memory)| row(one, memory)).collect();
    Figure::Drawn(Box::new(Drawn {
        title: contestants.at_peak(TITLE),
        note: "At the end of the phase, in the round in the middle; shared pages are counted once (PSS)."
            .to_owned(),
        legend: vec![
            Key::Piece("worker".into(), "a worker".into()),
            Key::Piece("other".into(), "the rest of the server".into()),
        ],
        pictures: vec![Picture::Bars(Bars { axis, rows, rule: None })],
        table: table(&at),
        is_open: false,
    }))
}

fn middle<'a>(point: &Point<'a>) -> Option<&'a Memory> {
    let mut all: Vec<&Memory> = point.runs.iter().filter_map(|run| run.memory.as_ref()).collect();
    all.sort_by_key(|memory| memory.total_bytes);
    all.get(all.len() / 2).copied()
}

fn mebi(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn row(one: &Contestant<'_>, memory: &Memory) -> Row {
    let piece = |(slot, bytes): (usize, &u64)| Piece {
        class: "worker".to_owned(),
        value: mebi(*bytes),
        title: format!("{}, worker {slot}: {}", one.label, number::mebibytes(*bytes)),
    };
    let mut pieces: Vec<Piece> = memory.worker_bytes.iter().enumerate().map(piece).collect();
    let workers: u64 = memory.worker_bytes.iter().sum();
    let rest = memory.total_bytes.saturating_sub(workers);
    let title = format!("{}, the rest: {}", one.label, number::mebibytes(rest));
    pieces.push(Piece { class: "other".to_owned(), value: mebi(rest), title });
    let total = number::mebibytes(memory.total_bytes);
    let sum = match memory.worker_bytes.len() as u64 {
        0 => total,
        count => format!("{total} · {} a worker", number::mebibytes(workers / count)),
    };
    Row { look: one.look, name: one.label.clone(), sum, pieces, dots: Vec::new() }
}

fn table(at: &[(&Contestant<'_>, &Point<'_>, &Memory)]) -> Table {
    let head = ["", "whole server, MiB: median (lowest to highest round)", "each worker, MiB"];
    let mut table = Table::new("Memory (PSS)", head);
    for (one, point, memory) in at {
        let workers: Vec<String> =
            memory.worker_bytes.iter().map(|bytes| number::short(mebi(*bytes))).collect();
        let total = tables::told(Metric::Memory, point);
        table.rows.push(vec![one.label.clone(), total, workers.join("  ")]);
    }
    table
}
