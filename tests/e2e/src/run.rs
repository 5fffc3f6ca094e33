//! What a run adds up to: counts, failures, and whether it is to stop.
//!
//! Shared by all clients of a scenario; `report` reads it at the end. After 20 failures it asks
//! everybody to stop, since more of the same would not help the reader. On a terminal it draws one
//! line of progress on standard error.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::app_url::AppUrl;
use crate::failure::Failure;

/// How many failures end a run early.
pub(crate) const FAILURES_MAX: usize = 20;
/// Between two drawings of the progress.
const DRAWING: Duration = Duration::from_millis(100);

/// One run of a scenario.
pub(crate) struct Run {
    app_url: AppUrl,
    began: Instant,
    shows_progress: bool,
    tally: Mutex<Tally>,
}

/// The numbers of a run.
#[derive(Default)]
pub(crate) struct Tally {
    /// How many requests by method, route and status: `POST /users 201`.
    pub(crate) requests: BTreeMap<String, u64>,
    /// How much of each goal was done as it has to be, in the order of the goals.
    pub(crate) done: Vec<(&'static str, u64)>,
    pub(crate) failures: Vec<Failure>,
    /// The request that took longest, by kind.
    pub(crate) slowest: Option<(Duration, String)>,
    drawn: Option<Instant>,
}

impl Run {
    /// Begins now; `goals` are what [`Run::done`] counts.
    pub(crate) fn new(app_url: AppUrl, goals: &[&'static str]) -> Self {
        let done = goals.iter().map(|goal| (*goal, 0)).collect();
        Self {
            app_url,
            began: Instant::now(),
            shows_progress: io::stderr().is_terminal(),
            tally: Mutex::new(Tally { done, ..Tally::default() }),
        }
    }

    pub(crate) fn app_url(&self) -> &AppUrl {
        &self.app_url
    }

    /// Counts a request.
    pub(crate) fn count(&self, kind: String, took: Duration) {
        let mut tally = self.tally();
        if tally.slowest.as_ref().is_none_or(|(slowest, _)| took > *slowest) {
            tally.slowest = Some((took, kind.clone()));
        }
        *tally.requests.entry(kind).or_default() += 1;
        if self.shows_progress && tally.drawn.is_none_or(|drawn| drawn.elapsed() >= DRAWING) {
            tally.drawn = Some(Instant::now());
            draw(&tally.progress());
        }
    }

    /// Counts one step towards a goal.
    pub(crate) fn done(&self, goal: &'static str) {
        for (_, count) in self.tally().done.iter_mut().filter(|(name, _)| *name == goal) {
            *count += 1;
        }
    }

    /// Keeps a failure.
    pub(crate) fn fail(&self, failure: Failure) {
        self.tally().failures.push(failure);
    }

    /// Counts a step that went well, and keeps the failure of one that did not.
    pub(crate) fn note(&self, goal: &'static str, outcome: Result<(), Failure>) {
        match outcome {
            Ok(()) => self.done(goal),
            Err(failure) => self.fail(failure),
        }
    }

    /// Whether there were so many failures that everybody is to stop.
    pub(crate) fn is_stopped(&self) -> bool {
        self.tally().failures.len() >= FAILURES_MAX
    }

    /// Ends it and answers its address, numbers and duration.
    pub(crate) fn end(self) -> (AppUrl, Tally, Duration) {
        if self.tally().drawn.is_some() {
            draw("");
        }
        let tally = self.tally.into_inner().unwrap_or_else(PoisonError::into_inner);
        (self.app_url, tally, self.began.elapsed())
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tally {
    fn progress(&self) -> String {
        let requests: u64 = self.requests.values().sum();
        format!("{requests} requests, {} failures", self.failures.len())
    }
}

/// Replaces the line of progress.
fn draw(line: &str) {
    let mut stderr = io::stderr().lock();
    // Nobody misses it.
    let _ = write!(stderr, "\r\x1b[K{line}").and_then(|()| stderr.flush());
}
