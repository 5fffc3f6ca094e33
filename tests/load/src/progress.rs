//! How far it is: one line that moves on a terminal, one line per measurement elsewhere.
//!
//! Written to standard error; what is measured goes to standard output and to the report.

use std::io::{IsTerminal, Write, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// The line.
pub(crate) struct Progress {
    bar: ProgressBar,
    is_terminal: bool,
    what: String,
}

impl Progress {
    /// Of so many measurements, that take about so long together.
    pub(crate) fn new(measurements: usize, about: Duration) -> Self {
        let is_terminal = stderr().is_terminal();
        let bar =
            if is_terminal { ProgressBar::new(measurements as u64) } else { ProgressBar::hidden() };
        // A template that is wrong would be seen in the first run.
        if let Ok(style) =
            ProgressStyle::with_template("{wide_bar} {pos}/{len} {elapsed}\n{wide_msg}")
        {
            bar.set_style(style);
        }
        let progress = Self { bar, is_terminal, what: String::new() };
        let plural = if measurements == 1 { "" } else { "s" };
        progress.say(&format!("{measurements} measurement{plural}, about {}", in_minutes(about)));
        progress
    }

    /// Something that takes a moment begins.
    pub(crate) fn begin(&mut self, what: String) {
        self.bar.set_message(what.clone());
        self.what = what;
    }

    /// What was seen in the last moment: right answers per second, and errors.
    pub(crate) fn see(&self, rate: f64, errors: u64) {
        let wrong = if errors > 0 { format!(", {errors} errors") } else { String::new() };
        self.bar.set_message(format!("{}: {rate:.0}/s{wrong}", self.what));
    }

    /// A measurement is over.
    pub(crate) fn measured(&self, result: &str) {
        self.bar.inc(1);
        if !self.is_terminal {
            self.say(&format!("{}: {result}", self.what));
        }
    }

    /// A line that stays.
    pub(crate) fn say(&self, line: &str) {
        // Without a reader there is nobody to tell.
        let write = || drop(writeln!(stderr(), "{line}"));
        if self.is_terminal { self.bar.suspend(write) } else { write() }
    }

    /// Takes the line away.
    pub(crate) fn end(self) {
        self.bar.finish_and_clear();
    }
}

fn in_minutes(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..100 => format!("{seconds} s"),
        seconds => format!("{:.0} min", seconds as f64 / 60.0),
    }
}
