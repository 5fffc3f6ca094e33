//! The table at the end of a run.
//!
//! Called by the conductor. A table for each server, a column for each number of workers; the width is
//! that of the terminal, or whatever it takes where there is none. It shows medians over the rounds
//! and judges nothing.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::ladder::{Ladder, Step, ladders};
use super::model::Report;
use super::summary::{Load, Metric, Spread};
use super::{number, verdict};

/// Loads whose p99 gets a line of its own, where they were measured.
const PERCENTS: [u8; 2] = [70, 90];
/// What the names of the lines and one count take of the width.
const NAMES_WIDTH: u16 = 38;
const COUNT_WIDTH: u16 = 15;

/// Of the terminal that standard output is; `None` of a file or a pipe.
pub(crate) fn terminal_width() -> Option<u16> {
    Table::new().width()
}

/// A table for each server and, below them, errors by kind. Ends with a line break.
pub(crate) fn table(report: &Report, width: Option<u16>) -> String {
    let ladders = ladders(report);
    let mut text = String::new();
    for ladder in &ladders {
        for steps in ladder.steps.chunks(counts_beside(width)) {
            text += &of_counts(ladder, steps, width);
        }
    }
    for step in ladders.iter().flat_map(|ladder| &ladder.steps) {
        let kinds = verdict::kinds(step.runs());
        if !kinds.is_empty() {
            text += &format!("errors of {}: {}\n", step.label, verdict::tell_kinds(&kinds));
        }
    }
    text
}

/// With lines on a terminal, without any elsewhere.
pub(crate) fn empty(width: Option<u16>) -> Table {
    let mut table = Table::new();
    table.force_no_tty().set_content_arrangement(ContentArrangement::Dynamic);
    match width {
        Some(width) => table.load_style(presets::UTF8_FULL_CONDENSED).set_width(width),
        None => table.load_style(presets::NOTHING),
    };
    table
}

fn counts_beside(width: Option<u16>) -> usize {
    let free = width.unwrap_or(u16::MAX).saturating_sub(NAMES_WIDTH);
    usize::from(free / COUNT_WIDTH).max(1)
}

fn of_counts(ladder: &Ladder, steps: &[Step], width: Option<u16>) -> String {
    let mut table = empty(width);
    let heads = steps.iter().map(|step| match step.workers {
        None => String::new(),
        Some(1) => "1 worker".to_owned(),
        Some(count) => format!("{count} workers"),
    });
    table.set_header([ladder.name.to_owned()].into_iter().chain(heads));
    for line in lines(&ladder.steps) {
        let cells: Vec<Option<String>> = steps.iter().map(|step| (line.cell)(step)).collect();
        // What was seen nowhere needs no line.
        if cells.iter().any(Option::is_some) {
            let cells = cells.into_iter().map(|cell| cell.unwrap_or_else(|| "-".to_owned()));
            table.add_row([line.name].into_iter().chain(cells));
        }
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("{}\n", table.trim_fmt())
}

/// What is told of each count.
struct Line {
    name: String,
    cell: Cell,
}

/// `None` where it was not seen.
type Cell = Box<dyn Fn(&Step) -> Option<String>>;

fn lines(steps: &[Step]) -> Vec<Line> {
    let mut lines = vec![Line::new("requests/s at the peak", |step| {
        peak(step.spread(Load::Closed, Metric::Rate)?)
    })];
    if let Some(load) = common_rate(steps) {
        for metric in [Metric::P50, Metric::P99] {
            let name = format!("{} at {}, ms", metric.name(), verdict::told(load));
            lines.push(Line::of(&name, load, metric));
        }
    }
    for percent in PERCENTS {
        let name = format!("p99 at {percent} % of its peak, ms");
        lines.push(Line::of(&name, Load::PercentOfPeak(percent), Metric::P99));
    }
    lines.extend([
        Line::new("errors, all phases", |step| {
            Some(number::count(step.runs().map(|run| run.traffic.failed()).sum()))
        }),
        Line::new("requests never sent, all phases", |step| {
            let unsent: u64 = step.runs().map(|run| run.traffic.unsent).sum();
            (unsent > 0).then(|| number::count(unsent))
        }),
        Line::of("CPU µs/request, server", Load::Closed, Metric::CpuServer),
        Line::of("CPU µs/request, PostgreSQL", Load::Closed, Metric::CpuPostgres),
        Line::of("CPU µs/request, load generator", Load::Closed, Metric::CpuGenerator),
        Line::of("memory (PSS), MiB", Load::Closed, Metric::Memory),
        Line::new("balance, idlest/busiest worker", balance),
    ]);
    lines
}

impl Line {
    fn new(name: &str, cell: impl Fn(&Step) -> Option<String> + 'static) -> Self {
        Self { name: name.to_owned(), cell: Box::new(cell) }
    }

    /// The median of a metric under a load.
    fn of(name: &str, load: Load, metric: Metric) -> Self {
        Self::new(name, move |step| Some(number::short(step.spread(load, metric)?.median)))
    }
}

/// The highest rate that every count was offered.
fn common_rate(steps: &[Step]) -> Option<Load> {
    let (first, others) = steps.split_first()?;
    let rates = first.points.iter().map(|point| point.load);
    let rates = rates.filter(|load| matches!(load, Load::Rate(_)));
    rates.filter(|load| others.iter().all(|step| step.at(*load).is_some())).max()
}

/// The median, and how far the rounds are from it.
fn peak(spread: Spread) -> Option<String> {
    let Spread { median, min, max } = spread;
    let text = number::short(median);
    if min == max || median <= 0.0 {
        return Some(text);
    }
    Some(format!("{text} ±{:.0} %", (max - min) / median * 50.0))
}

/// Of all its phases, the idlest worker's requests as a share of the busiest one's.
fn balance(step: &Step) -> Option<String> {
    let mut workers: Vec<u64> = Vec::new();
    for share in step.runs().filter_map(|run| run.share.as_ref()) {
        workers.resize(workers.len().max(share.len()), 0);
        workers.iter_mut().zip(share).for_each(|(sum, requests)| *sum += requests);
    }
    let (most, least) = (*workers.iter().max()?, *workers.iter().min()?);
    (workers.len() > 1 && most > 0).then(|| format!("{:.2}", least as f64 / most as f64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::made;

    fn both() -> Report {
        let peace: made::Peaks = &[(1, 5000.0), (2, 9300.0), (4, 9400.0)];
        made::report(vec![("peace", peace), ("other", &[(1, 1000.0), (2, 1900.0)])])
    }

    fn line<'a>(text: &'a str, start: &str) -> Vec<&'a str> {
        let mut lines = text.lines().map(str::trim_start);
        let line =
            lines.find_map(|line| line.strip_prefix(start)).unwrap_or_else(|| panic!("{text}"));
        line.split_whitespace().collect()
    }

    #[test]
    fn every_server_has_a_table_and_every_count_a_column() {
        let text = table(&both(), None);
        assert_eq!(line(&text, "peace"), ["1", "worker", "2", "workers", "4", "workers"]);
        assert_eq!(line(&text, "other"), ["1", "worker", "2", "workers"]);
        assert_eq!(line(&text, "requests/s at the peak"), ["5,000", "9,300", "9,400"]);
        assert_eq!(line(&text, "p50 at 1,000/s, ms"), ["2.00", "1.00", "0.500"]);
        assert_eq!(line(&text, "p99 at 90 % of its peak, ms"), ["8.00", "4.00", "2.00"]);
        assert_eq!(line(&text, "errors, all phases"), ["0", "0", "0"]);
        assert_eq!(line(&text, "CPU µs/request, PostgreSQL"), ["40.0", "40.0", "40.0"]);
        assert_eq!(line(&text, "memory (PSS), MiB"), ["14.0", "20.0", "32.0"]);
        assert_eq!(line(&text, "balance, idlest/busiest worker"), ["-", "1.00", "1.00"]);
        assert!(!text.contains('│'), "{text}");
    }

    #[test]
    fn rounds_that_differ_show_by_how_much() {
        let mut report = made::ladder(&[(2, 5000.0)]);
        report.runs[0].traffic.ok = 45_000;
        assert_eq!(line(&table(&report, None), "requests/s at the peak"), ["5,000", "±5", "%"]);
    }

    #[test]
    fn it_fits_the_terminal() {
        for width in [60, 80, 120] {
            let text = table(&both(), Some(width));
            let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(widest <= usize::from(width), "{widest} of {width}:\n{text}");
        }
    }

    #[test]
    fn errors_stand_below_by_kind() {
        let mut report = made::ladder(&[(1, 5000.0), (2, 9300.0)]);
        report.runs[0].traffic.errors.insert("refused".to_owned(), 1200);
        let text = table(&report, None);
        assert!(text.ends_with("errors of 1 worker: 1,200 refused\n"), "{text}");
    }

    #[test]
    fn what_was_not_seen_has_no_column() {
        let mut report = made::ladder(&[(1, 5000.0), (2, 9300.0)]);
        report.runs.retain(|run| run.load == Load::Closed);
        for run in &mut report.runs {
            (run.cpu.server_s, run.cpu.postgres_s, run.memory, run.share) =
                (None, None, None, None);
        }
        let text = table(&report, None);
        for name in ["p99", "CPU µs/request, server", "PSS", "balance"] {
            assert!(!text.contains(name), "{name} in {text}");
        }
    }
}
