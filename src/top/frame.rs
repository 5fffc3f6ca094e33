//! The frame: what is shown, as cells of a terminal of any size.
//!
//! `top` draws a [`Screen`] with it, or asks for [`text`]. From the top: who it is and how it does, two
//! histories, the workers, the keys. Where the room ends, columns go first that are asked for least.

use std::collections::VecDeque;

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Clear, Paragraph, RenderDirection, Sparkline, Widget};
use supervisor::Request;
use supervisor::status::ChildState;

use super::figures::{Figures, WorkerFigures};
use super::screen::{Mode, Screen};
use crate::ctl::{age, one_line, or_dash};

/// Below this height the histories make room for the workers.
const HEIGHT_WITH_HISTORY: u16 = 14;
const HISTORY_LINES: u16 = 4;
const HELP: [&str; 13] = [
    "q, Esc  quit",
    "r       roll: read the settings again, replace every worker",
    "+ -     one worker more, one less",
    "j k     down, up",
    "",
    "gen     which worker of its slot it is",
    "act     requests that it is answering",
    "conn    connections that it holds",
    "que     connections that wait on its socket",
    "lag     how late its event loop was",
    "rst     workers of the slot that died unasked",
    "",
    "any key: back",
];

/// One column of the table of workers.
struct Column {
    head: &'static str,
    /// The higher, the sooner it goes.
    rank: u8,
    to_the_right: bool,
    text: fn(&WorkerFigures) -> String,
}

const fn number(head: &'static str, rank: u8, text: fn(&WorkerFigures) -> String) -> Column {
    Column { head, rank, to_the_right: true, text }
}

const fn words(head: &'static str, rank: u8, text: fn(&WorkerFigures) -> String) -> Column {
    Column { head, rank, to_the_right: false, text }
}

const COLUMNS: [Column; 15] = [
    number("#", 0, |worker| worker.slot.to_string()),
    words("state", 1, |worker| worker.state.to_string()),
    number("pid", 9, |worker| or_dash(worker.pid)),
    number("gen", 14, |worker| worker.generation.to_string()),
    number("req/s", 2, |worker| rate(worker.requests_per_s)),
    number("p50", 4, |worker| ms(worker.p50_ms)),
    number("p99", 3, |worker| ms(worker.p99_ms)),
    number("act", 5, |worker| worker.in_flight.to_string()),
    number("conn", 12, |worker| worker.connections.to_string()),
    number("que", 6, |worker| worker.queue.to_string()),
    number("lag", 7, |worker| ms(worker.loop_lag_ms)),
    number("cpu", 11, |worker| or_dash(worker.cpu_percent.map(|cpu| format!("{cpu:.0}%")))),
    number("mem", 10, |worker| format!("{}M", worker.rss_bytes.div_ceil(1 << 20))),
    number("rst", 8, |worker| worker.restarts.to_string()),
    words("last exit", 13, |worker| or_dash(worker.last_exit.as_deref().map(exit))),
];

impl Widget for &Screen {
    fn render(self, area: Rect, buffer: &mut Buffer) {
        let history = if area.height < HEIGHT_WITH_HISTORY { 0 } else { HISTORY_LINES };
        let rows = [2, history].map(Constraint::Length);
        let rows = [rows[0], rows[1], Constraint::Min(0), Constraint::Length(1)];
        let [top, histories, middle, bottom] = Layout::vertical(rows).areas(area);
        header(&self.figures, self.trouble.as_deref()).render(top, buffer);
        if history > 0 {
            draw_histories(self, histories, buffer);
        }
        workers(&self.figures.workers, self.first, middle.width).render(middle, buffer);
        footer(self).render(bottom, buffer);
        if self.mode == Mode::Help {
            draw_help(area, buffer);
        }
    }
}

/// One frame without a screen: as many lines as there is to tell.
pub(super) fn text(figures: &Figures, width: u16) -> String {
    let height = u16::try_from(figures.workers.len()).unwrap_or(u16::MAX).saturating_add(4);
    let area = Rect::new(0, 0, width.max(1), height);
    let mut buffer = Buffer::empty(area);
    let rows = [Constraint::Length(2), Constraint::Length(1), Constraint::Min(0)];
    let [top, _, rest] = Layout::vertical(rows).areas(area);
    header(figures, None).render(top, &mut buffer);
    workers(&figures.workers, 0, area.width).render(rest, &mut buffer);
    as_text(&buffer)
}

/// The symbols of all cells, line by line.
pub(super) fn as_text(buffer: &Buffer) -> String {
    let lines = buffer.content.chunks(usize::from(buffer.area.width).max(1));
    let line = |cells: &[ratatui::buffer::Cell]| {
        let text: String = cells.iter().map(ratatui::buffer::Cell::symbol).collect();
        format!("{}\n", text.trim_end())
    };
    lines.map(line).collect::<String>().trim_end().to_owned() + "\n"
}

fn header<'a>(figures: &Figures, trouble: Option<&str>) -> Paragraph<'a> {
    let Figures { version, pid, generation, target, ready, .. } = figures;
    let up = or_dash(figures.age_s.map(age));
    let who = format!(
        "peace {version}  pid {pid}  up {up}  generation {generation}  {ready} of {target} ready  "
    );
    let reload = match &figures.last_reload.error {
        None => Span::raw("last reload ok"),
        Some(why) => Span::styled(format!("last reload failed: {}", one_line(why)), Color::Red),
    };
    let is_whole = figures.ready == figures.target;
    let who = if is_whole { Span::raw(who) } else { Span::styled(who, Color::Yellow) };
    let how = match trouble {
        Some(why) => Span::styled(one_line(why), Color::Red),
        None => Span::styled(totals(figures), Modifier::BOLD),
    };
    Paragraph::new(vec![Line::from(vec![who, reload]), Line::from(how)])
}

fn totals(figures: &Figures) -> String {
    let Figures { in_flight, connections, queue, .. } = figures;
    let (rate, p50, p99) = (rate(figures.requests_per_s), ms(figures.p50_ms), ms(figures.p99_ms));
    format!(
        "{rate} requests/s  p50 {p50}  p99 {p99}  in flight {in_flight}  \
         connections {connections}  queue {queue}"
    )
}

fn draw_histories(screen: &Screen, area: Rect, buffer: &mut Buffer) {
    let halves = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).spacing(1);
    let [left, right] = halves.areas(area);
    let most = screen.rates.iter().max().copied().unwrap_or_default();
    let title = format!("requests/s, at most {most} ");
    history(&screen.rates, title, Color::Green).render(left, buffer);
    let most_us = screen.lags_us.iter().max().copied().unwrap_or_default();
    let title = format!("lag, at most {} ", ms(Some(most_us as f64 / 1_000.0)));
    history(&screen.lags_us, title, Color::Yellow).render(right, buffer);
}

/// The newest stands at the right.
fn history<'a>(values: &VecDeque<u64>, title: String, color: Color) -> Sparkline<'a> {
    Sparkline::default()
        .block(Block::new().borders(Borders::TOP).title(title))
        .data(values.iter().copied())
        .direction(RenderDirection::RightToLeft)
        .style(color)
}

fn workers<'a>(workers: &[WorkerFigures], first: usize, width: u16) -> Paragraph<'a> {
    let rows: Vec<[String; COLUMNS.len()]> =
        workers.iter().map(|worker| COLUMNS.each_ref().map(|it| (it.text)(worker))).collect();
    let widths: [usize; COLUMNS.len()] = std::array::from_fn(|place| {
        let lengths = rows.iter().map(|row| row[place].len());
        lengths.chain([COLUMNS[place].head.len()]).max().unwrap_or_default()
    });
    let shown = that_fit(&widths, width.into());
    let gap = gap(&widths, &shown, width.into());
    let line = |row: &[String; COLUMNS.len()]| {
        let cells = shown.iter().map(|place| {
            let (cell, width) = (&row[*place], widths[*place]);
            if COLUMNS[*place].to_the_right {
                format!("{cell:>width$}")
            } else {
                format!("{cell:width$}")
            }
        });
        cells.collect::<Vec<_>>().join(&" ".repeat(gap))
    };
    let head =
        Line::styled(line(&COLUMNS.each_ref().map(|it| it.head.to_owned())), Modifier::REVERSED);
    let rows = rows.iter().zip(workers).skip(first);
    let rows = rows.map(|(row, worker)| Line::styled(line(row), style(worker.state)));
    Paragraph::new([head].into_iter().chain(rows).collect::<Vec<Line<'a>>>())
}

/// The places of the columns that have room side by side.
fn that_fit(widths: &[usize], width: usize) -> Vec<usize> {
    let mut shown: Vec<usize> = (0..widths.len()).collect();
    while shown.len() > 1 && taken(widths, &shown, 1) > width {
        let least = shown.iter().copied().max_by_key(|place| COLUMNS[*place].rank);
        shown.retain(|place| Some(*place) != least);
    }
    shown
}

/// Blanks between two columns: two where there is room.
fn gap(widths: &[usize], shown: &[usize], width: usize) -> usize {
    if taken(widths, shown, 2) > width { 1 } else { 2 }
}

fn taken(widths: &[usize], shown: &[usize], gap: usize) -> usize {
    let cells: usize = shown.iter().map(|place| widths[*place]).sum();
    cells + gap * shown.len().saturating_sub(1)
}

fn style(state: ChildState) -> Style {
    match state {
        ChildState::Ready => Style::new(),
        ChildState::Booting | ChildState::Draining => Color::Yellow.into(),
        ChildState::Backoff | ChildState::Hung => Color::Red.into(),
    }
}

fn footer<'a>(screen: &Screen) -> Paragraph<'a> {
    let text = match (screen.mode, &screen.notice) {
        (Mode::Asking(request), _) => question(request, screen.figures.target),
        (_, Some(notice)) => one_line(notice),
        _ if screen.can_ask => "q quit  r roll  + - scale  ? help".to_owned(),
        _ => "q quit  ? help  (no control socket: r + - change nothing)".to_owned(),
    };
    let asks = matches!(screen.mode, Mode::Asking(_));
    let modifier = if asks { Modifier::REVERSED } else { Modifier::DIM };
    Paragraph::new(Line::styled(text, modifier))
}

fn question(request: Request, target: usize) -> String {
    match request {
        Request::Scale { workers, .. } => format!("scale from {target} to {workers} workers? y/n"),
        Request::Reload { .. } => format!("replace all {target} workers? y/n"),
        other => format!("{other}? y/n"),
    }
}

fn draw_help(area: Rect, buffer: &mut Buffer) {
    let [area] = Layout::vertical([Constraint::Max(HELP.len() as u16 + 2)]).areas(area);
    let [area] = Layout::horizontal([Constraint::Max(64)]).areas(area);
    Clear.render(area, buffer);
    let lines: Vec<Line<'_>> = HELP.into_iter().map(Line::from).collect();
    Paragraph::new(lines).block(Block::bordered().title("help")).render(area, buffer);
}

/// As short as a column.
fn exit(text: &str) -> String {
    one_line(text).replace("exit code ", "exit ")
}

fn rate(per_s: Option<f64>) -> String {
    or_dash(
        per_s.map(|rate| if rate < 100.0 { format!("{rate:.1}") } else { format!("{rate:.0}") }),
    )
}

/// At most five characters wide up to a day.
fn ms(ms: Option<f64>) -> String {
    or_dash(ms.map(|ms| match ms {
        _ if ms < 9.95 => format!("{ms:.1}ms"),
        _ if ms < 999.5 => format!("{ms:.0}ms"),
        _ => format!("{:.1}s", ms / 1_000.0),
    }))
}
