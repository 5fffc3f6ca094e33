//! `peace-supervisor top`: how the workers are, on a screen that follows them.
//!
//! Called by `main`. `look` asks, `figures` makes rates and quantiles of two looks, `screen` holds what is
//! shown and decides what a key means, `frame` draws. All numbers are from one document, the status: the
//! control socket and the admin process's `/status` answer the same, so there is no second source that could
//! disagree, and no metrics to parse; where keys shall change something, it is the same socket that is asked.
//! Promises: whatever ends it (a key, a signal, a panic, a terminal that is gone), the terminal is as it was;
//! nothing is changed before somebody said y; every question has a deadline.

mod figures;
mod frame;
mod look;
mod screen;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use nix::poll::{PollTimeout, poll};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use ratatui::crossterm::terminal;
use supervisor::Request;

use self::figures::Figures;
pub use self::look::Source;
use self::look::{Look, LookError};
use self::screen::{Deed, Screen};
use crate::ctl::{self, Ask};
use crate::programs::{REFUSED, UNAVAILABLE};
use crate::settings::EXIT_USAGE;

/// The longest wait for a key: a signal is noticed after it.
const GLANCE: Duration = Duration::from_millis(100);
/// How wide a frame is that no terminal shows.
const WIDTH: u16 = 132;

/// What to show, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Top {
    /// Who is asked for the numbers.
    pub source: Source,
    /// The control socket that keys ask at; without one they change nothing.
    pub control: Option<PathBuf>,
    /// Between two looks.
    pub interval: Duration,
    /// One frame and no screen.
    pub once: Option<Form>,
}

/// How one frame is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As text.
    Text,
    /// As one JSON object, in a line.
    Json,
}

/// Why it ended.
#[derive(Debug, thiserror::Error)]
pub enum TopError {
    /// Nobody is there, or no status comes.
    #[error(transparent)]
    Look(#[from] LookError),
    /// There is no screen.
    #[error("top needs a terminal; give --once for one frame as text")]
    NoTerminal,
    /// The terminal fails.
    #[error("the terminal fails: {0}")]
    Terminal(#[from] io::Error),
}

impl TopError {
    /// The exit code that says so.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Look(_) => UNAVAILABLE,
            Self::NoTerminal => EXIT_USAGE,
            Self::Terminal(_) => REFUSED,
        }
    }
}

/// Shows how the workers are. The text to print; empty when there was a screen.
///
/// **Blocks** until somebody quits; with `once` for one interval.
///
/// # Errors
/// When nobody is there at the start, or the terminal fails.
pub fn run(top: &Top) -> Result<String, TopError> {
    match top.once {
        Some(form) => once(top, form),
        None => watch(top).map(|()| String::new()),
    }
}

/// Two looks, since one has no rates.
fn once(top: &Top, form: Form) -> Result<String, TopError> {
    let first = top.source.look()?;
    wait_until(first.at + top.interval)?;
    let figures = Figures::between(&first, &top.source.look()?);
    match form {
        Form::Json => Ok(serde_json::to_string(&figures).map_err(io::Error::from)? + "\n"),
        Form::Text => {
            let is_shown = io::stdout().is_terminal();
            let size = is_shown.then(terminal::size).and_then(Result::ok);
            Ok(frame::text(&figures, size.map_or(WIDTH, |(width, _)| width)))
        }
    }
}

fn wait_until(end: Instant) -> io::Result<()> {
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        let timeout = PollTimeout::try_from(left + Duration::from_millis(1));
        match poll(&mut [], timeout.unwrap_or(PollTimeout::MAX)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Looks and draws until somebody quits.
fn watch(top: &Top) -> Result<(), TopError> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Err(TopError::NoTerminal);
    }
    // Before the screen is taken: a failure is one line where it is read.
    let mut last = top.source.look()?;
    let mut screen = Screen::new(Figures::first(&last), top.control.is_some());
    let told_to_end = on_signals()?;
    let mut terminal = Taken::new()?;
    let mut due = last.at + top.interval;
    while !told_to_end.load(Ordering::Relaxed) {
        terminal.0.draw(|frame| frame.render_widget(&screen, frame.area()))?;
        let left = due.saturating_duration_since(Instant::now());
        match pressed(&mut screen, left.min(GLANCE))? {
            Some(Deed::Quit) => break,
            Some(Deed::Ask(request)) => screen.notice(&ask(top, request)),
            None => {}
        }
        if Instant::now() >= due {
            last = follow(&mut screen, last, top.source.look());
            due = Instant::now() + top.interval;
        }
    }
    Ok(())
}

/// What a key asks for, if one is pressed in this time.
fn pressed(screen: &mut Screen, patience: Duration) -> io::Result<Option<Deed>> {
    if !event::poll(patience)? {
        return Ok(None);
    }
    match event::read()? {
        Event::Key(key) if key.kind == KeyEventKind::Press => Ok(screen.press(key)),
        // Another size: the next frame has it.
        _ => Ok(None),
    }
}

/// Shows a look; one that failed leaves the numbers of before, and says so. Answers the last good one.
fn follow(screen: &mut Screen, last: Look, next: Result<Look, LookError>) -> Look {
    match next {
        Ok(next) => {
            screen.show(Figures::between(&last, &next));
            next
        }
        Err(error) => {
            screen.trouble(&error.to_string());
            last
        }
    }
}

/// Asks the supervisor; answers what became of it, in a line.
fn ask(top: &Top, request: Request) -> String {
    let Some(control) = top.control.clone() else { return screen::NO_CONTROL.to_owned() };
    match ctl::run(&Ask { control, request, json: false }) {
        Ok(_) => format!("{request}: begun"),
        Err(error) => format!("{request}: {error}"),
    }
}

/// Becomes true when the process is told to end.
fn on_signals() -> io::Result<Arc<AtomicBool>> {
    let told = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT, SIGHUP, SIGQUIT] {
        signal_hook::flag::register(signal, Arc::clone(&told))?;
    }
    Ok(told)
}

/// The terminal, until this is dropped; a panic gives it back before its message is written.
struct Taken(DefaultTerminal);

impl Taken {
    fn new() -> io::Result<Self> {
        ratatui::try_init().map(Self)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        // There is nobody to tell: the terminal may be gone.
        let _ = ratatui::try_restore();
    }
}
