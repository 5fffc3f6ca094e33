//! Processor time: what a request costs, and how busy the machine was at the peak.

use super::axis::Axis;
use super::bars::{Bars, Piece, Row};
use super::contestants::{Contestant, Contestants};
use super::figure::{Drawn, Figure, Key, Picture, Table};
use super::number;
use super::tables;
use crate::report::model::Run;
use crate::report::summary::{Metric, Point};

const COST: &str = "Processor time per request";
const BUSY: &str = "How busy the machine was";
/// A generator that is busier than this may be what was measured.
const GENERATOR_MAX: f64 = 0.9;
const COSTS: [(Metric, &str, &str); 3] = [
    (Metric::CpuServer, "server", "server"),
    (Metric::CpuPostgres, "postgres", "PostgreSQL"),
    (Metric::CpuGenerator, "generator", "generator"),
];

/// Server, database and generator on top of each other.
pub(crate) fn cost(contestants: &Contestants<'_>) -> Figure {
    let at = contestants.at(contestants.peak);
    let sum =
        |point: &Point<'_>| COSTS.iter().filter_map(|cost| median(point, cost.0)).sum::<f64>();
    let at: Vec<_> = at.into_iter().filter(|(_, point)| sum(point) > 0.0).collect();
    if at.is_empty() {
        return Figure::LeftOut(COST, "No request was answered.".to_owned());
    }
    let most = at.iter().map(|(_, point)| sum(point)).fold(0.0, f64::max);
    let axis = Axis::from_zero("µs per right answer", most, number::plain);
    let rows = at.iter().map(|(one, point)| cost_row(one, point)).collect();
    Figure::Drawn(Box::new(Drawn {
        title: contestants.at_peak(COST),
        note:
            "Medians over the rounds. The generator's part is the cost of measuring; what was not \
               seen has no bar."
                .to_owned(),
        legend: COSTS.map(|(_, class, name)| Key::Piece(class.into(), name.into())).into(),
        pictures: vec![Picture::Bars(Bars { axis, rows, rule: None })],
        table: cost_table(&at),
        is_open: false,
    }))
}

fn median(point: &Point<'_>, metric: Metric) -> Option<f64> {
    point.spread(metric).map(|spread| spread.median)
}

fn cost_row(one: &Contestant<'_>, point: &Point<'_>) -> Row {
    let piece = |(metric, class, name): (Metric, &str, &str)| {
        let value = median(point, metric)?;
        let title = format!("{}, {name}: {} µs per request", one.label, number::short(value));
        Some(Piece { class: class.to_owned(), value, title })
    };
    let told = |metric| median(point, metric).map_or("not seen".to_owned(), number::short);
    let (server, postgres) = (told(Metric::CpuServer), told(Metric::CpuPostgres));
    Row {
        look: one.look,
        name: one.label.clone(),
        sum: format!("server {server} · PostgreSQL {postgres} µs"),
        pieces: COSTS.into_iter().filter_map(piece).collect(),
        dots: Vec::new(),
    }
}

fn cost_table(at: &[(&Contestant<'_>, &Point<'_>)]) -> Table {
    let head = ["", "server", "PostgreSQL", "generator"];
    let caption = "Processor time in µs per right answer: median (lowest to highest round)";
    let mut table = Table::new(caption, head);
    for (one, point) in at {
        let told = COSTS.map(|(metric, _, _)| tables::told(metric, point));
        table.rows.push([vec![one.label.clone()], told.to_vec()].concat());
    }
    table
}

/// Parts of all processors' time, each a share of 1, in the order in which they are drawn.
struct Busy {
    parts: [(&'static str, &'static str, f64); 6],
    generator_peak: f64,
}

/// Who used the processors, and whether the generator was the bottleneck.
pub(crate) fn busy(contestants: &Contestants<'_>) -> Figure {
    let cpus = contestants.report.card.machine.cpus;
    let at: Vec<(&Contestant<'_>, Busy)> = contestants
        .at(contestants.peak)
        .into_iter()
        .map(|(one, point)| (one, Busy::of(point, cpus)))
        .collect();
    let Some((_, first)) = at.first() else {
        return Figure::LeftOut(BUSY, "Nothing was measured.".to_owned());
    };
    let legend = first.parts.map(|(class, name, _)| Key::Piece(class.into(), name.into())).into();
    let axis = Axis::from_zero(
        &format!("share of {}", number::counted(cpus as u64, "processor")),
        1.0,
        number::plain_percent,
    );
    let rows = at.iter().map(|(one, busy)| busy.row(one)).collect();
    Figure::Drawn(Box::new(Drawn {
        title: contestants.at_peak(BUSY),
        note: format!(
            "Means over the rounds. A generator above {} of its processor may be the bottleneck; stolen \
             and foreign time disturb the measurement.",
            number::plain_percent(GENERATOR_MAX)
        ),
        legend,
        pictures: vec![Picture::Bars(Bars { axis, rows, rule: None })],
        table: busy_table(&at),
        is_open: false,
    }))
}

impl Busy {
    fn of(point: &Point<'_>, cpus: usize) -> Self {
        let mean = |of: &dyn Fn(&Run) -> f64| {
            point.runs.iter().map(|run| of(run)).sum::<f64>() / point.runs.len().max(1) as f64
        };
        let share = |cpu_s: f64, run: &Run| cpu_s / (run.duration_s * cpus.max(1) as f64);
        let server = mean(&|run| share(run.cpu.server_s.unwrap_or(0.0), run));
        let postgres = mean(&|run| share(run.cpu.postgres_s.unwrap_or(0.0), run));
        let generator = mean(&|run| share(run.cpu.generator_s, run));
        let foreign = mean(&|run| run.cpu.foreign.unwrap_or_default());
        let stolen = mean(&|run| run.cpu.stolen);
        let told = server + postgres + generator + foreign;
        // What the kernel did for nobody in particular, interrupts for one.
        let other = (mean(&|run| run.cpu.busy) - told).max(0.0);
        let knows_others = point.runs.iter().all(|run| run.cpu.foreign.is_some());
        let parts = [
            ("server", "server", server),
            ("postgres", "PostgreSQL", postgres),
            ("generator", "generator", generator),
            ("foreign", "other programs", foreign),
            ("other", if knows_others { "kernel" } else { "all others" }, other),
            ("stolen", "stolen by the host", stolen),
        ];
        let peak = point.runs.iter().map(|run| run.cpu.generator_peak).fold(0.0, f64::max);
        Self { parts, generator_peak: peak }
    }

    fn row(&self, one: &Contestant<'_>) -> Row {
        let piece = |(class, name, value): (&str, &str, f64)| {
            let title = format!("{}, {name}: {}", one.label, number::percent(value));
            Piece { class: class.to_owned(), value, title }
        };
        let peak = number::percent(self.generator_peak);
        let sum = match self.generator_peak > GENERATOR_MAX {
            true => format!("⚠ generator {peak} of a processor"),
            false => format!("generator {peak} of a processor"),
        };
        let (look, name) = (one.look, one.label.clone());
        Row { look, name, sum, pieces: self.parts.map(piece).into(), dots: Vec::new() }
    }
}

fn busy_table(at: &[(&Contestant<'_>, Busy)]) -> Table {
    let mut table = Table::new("Share of all processors, mean over the rounds", [""]);
    if let Some((_, first)) = at.first() {
        table.head.extend(first.parts.map(|(_, name, _)| name.to_owned()));
        table.head.push("busiest generator, of one processor".to_owned());
    }
    for (one, busy) in at {
        let parts = busy.parts.map(|(_, _, value)| number::percent(value));
        let peak = number::percent(busy.generator_peak);
        table.rows.push([vec![one.label.clone()], parts.to_vec(), vec![peak]].concat());
    }
    table
}
