//! What the screen shows, and what a key means.
//!
//! `top` feeds it figures and keys and does what it answers; `frame` draws it. It knows neither terminal nor
//! socket.

use std::collections::VecDeque;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use supervisor::{Request, SLOTS_MAX};

use super::figures::Figures;

/// What keys say that cannot change anything.
pub(super) const NO_CONTROL: &str = "no control socket to ask at: give --control PATH";
/// As many as the widest terminal shows.
const HISTORY_MAX: usize = 512;

/// Everything that is shown.
#[derive(Debug, Clone)]
pub(super) struct Screen {
    pub(super) figures: Figures,
    /// Requests per second, the newest first.
    pub(super) rates: VecDeque<u64>,
    /// The largest lag of any worker's loop, in microseconds, the newest first.
    pub(super) lags_us: VecDeque<u64>,
    pub(super) mode: Mode,
    /// What became of the last question.
    pub(super) notice: Option<String>,
    /// Why the numbers are old, if they are.
    pub(super) trouble: Option<String>,
    /// The first worker that is shown.
    pub(super) first: usize,
    pub(super) can_ask: bool,
}

/// What the next key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Watching,
    /// Shall it be asked? y or n.
    Asking(Request),
    Help,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    Quit,
    Ask(Request),
}

impl Screen {
    pub(super) fn new(figures: Figures, can_ask: bool) -> Self {
        Self {
            figures,
            rates: VecDeque::new(),
            lags_us: VecDeque::new(),
            mode: Mode::Watching,
            notice: None,
            trouble: None,
            first: 0,
            can_ask,
        }
    }

    /// The next figures.
    pub(super) fn show(&mut self, figures: Figures) {
        remember(&mut self.rates, figures.requests_per_s.unwrap_or_default());
        remember(&mut self.lags_us, figures.loop_lag_ms * 1_000.0);
        self.first = self.first.min(figures.workers.len().saturating_sub(1));
        self.figures = figures;
        self.trouble = None;
    }

    /// There are no next figures.
    pub(super) fn trouble(&mut self, why: &str) {
        self.trouble = Some(why.to_owned());
    }

    /// Something to read, until the next key.
    pub(super) fn notice(&mut self, text: &str) {
        self.notice = Some(text.to_owned());
    }

    /// A key; what it asks for, if anything.
    pub(super) fn press(&mut self, key: KeyEvent) -> Option<Deed> {
        self.notice = None;
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return (key.code == KeyCode::Char('c')).then_some(Deed::Quit);
        }
        match (std::mem::replace(&mut self.mode, Mode::Watching), key.code) {
            (Mode::Asking(request), KeyCode::Char('y' | 'Y')) => return Some(Deed::Ask(request)),
            (Mode::Asking(_) | Mode::Help, _) => {}
            (Mode::Watching, KeyCode::Char('q') | KeyCode::Esc) => return Some(Deed::Quit),
            (Mode::Watching, KeyCode::Char('?')) => self.mode = Mode::Help,
            (Mode::Watching, KeyCode::Char('r')) => self.propose(Request::Reload { wait: false }),
            (Mode::Watching, KeyCode::Char('+')) => self.scale(self.figures.target + 1),
            (Mode::Watching, KeyCode::Char('-')) => {
                self.scale(self.figures.target.saturating_sub(1))
            }
            (Mode::Watching, KeyCode::Down | KeyCode::Char('j')) => self.scroll(self.first + 1),
            (Mode::Watching, KeyCode::Up | KeyCode::Char('k')) => {
                self.scroll(self.first.saturating_sub(1));
            }
            (Mode::Watching, _) => {}
        }
        None
    }

    fn propose(&mut self, request: Request) {
        if self.can_ask {
            self.mode = Mode::Asking(request);
        } else {
            self.notice(NO_CONTROL);
        }
    }

    fn scale(&mut self, workers: usize) {
        if (1..=SLOTS_MAX).contains(&workers) {
            self.propose(Request::Scale { workers, wait: false });
        } else {
            self.notice(&format!("there are 1 to {SLOTS_MAX} workers"));
        }
    }

    fn scroll(&mut self, first: usize) {
        self.first = first.min(self.figures.workers.len().saturating_sub(1));
    }
}

fn remember(history: &mut VecDeque<u64>, value: f64) {
    history.push_front(value.round() as u64);
    history.truncate(HISTORY_MAX);
}
