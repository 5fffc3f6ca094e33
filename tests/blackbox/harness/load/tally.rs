//! What became of the requests of a load.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

/// On what kind of connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// One of its own.
    Fresh,
    /// One that had, or may have, others before.
    Kept,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// The right reply.
    Ok,
    /// No connection.
    Refused,
    /// The connection was cut.
    Reset,
    /// No whole reply within the client's patience.
    TimedOut,
    /// The connection was closed before the end of the reply, or before its beginning.
    Short,
    /// A whole reply, but not the right one.
    Wrong,
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) kind: Kind,
    pub(crate) begun: Instant,
    pub(crate) took: Duration,
    pub(crate) class: Class,
    /// What was seen of a loss.
    pub(crate) text: String,
}

/// All requests of a load.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) outcomes: Vec<Outcome>,
    begun: Instant,
    took: Duration,
    /// How far the load was behind its schedule, at worst.
    late: Duration,
}

impl Tally {
    pub(super) fn new() -> Self {
        let (begun, zero) = (Instant::now(), Duration::ZERO);
        Self { outcomes: Vec::new(), begun, took: zero, late: zero }
    }

    pub(super) fn add(&mut self, outcome: Outcome) {
        self.outcomes.push(outcome);
    }

    pub(super) fn note_late(&mut self, late: Duration) {
        self.late = self.late.max(late);
    }

    pub(super) fn ended(mut self) -> Self {
        self.took = self.begun.elapsed();
        self
    }

    pub(super) fn and(mut self, other: Self) -> Self {
        self.outcomes.extend(other.outcomes);
        self.begun = self.begun.min(other.begun);
        self.took = self.took.max(other.took);
        self.late = self.late.max(other.late);
        self
    }

    pub(crate) fn total(&self) -> usize {
        self.outcomes.len()
    }

    pub(crate) fn count(&self, class: Class) -> usize {
        self.outcomes.iter().filter(|outcome| outcome.class == class).count()
    }

    /// Every request without the right reply.
    pub(crate) fn losses(&self) -> impl Iterator<Item = &Outcome> {
        self.outcomes.iter().filter(|outcome| outcome.class != Class::Ok)
    }

    /// The longest time to a right reply.
    pub(crate) fn slowest(&self) -> Duration {
        let good = self.outcomes.iter().filter(|outcome| outcome.class == Class::Ok);
        good.map(|outcome| outcome.took).max().unwrap_or_default()
    }

    /// How far behind the schedule a request was begun, at most: as long as the machine let nobody do
    /// anything.
    pub(crate) fn latest(&self) -> Duration {
        self.late
    }

    /// Fails unless every request had its right reply, and prints what was measured.
    pub(crate) fn check_nothing_lost(&self, what: &str) {
        eprintln!("{what}: {self}");
        assert_eq!(self.losses().count(), 0, "{what}: {self}");
    }

    fn quantile(&self, part: f64) -> Duration {
        let mut times: Vec<Duration> = self.outcomes.iter().map(|outcome| outcome.took).collect();
        times.sort_unstable();
        let index = (times.len() as f64 * part) as usize;
        times.get(index.min(times.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut classes = BTreeMap::<(Kind, Class), usize>::new();
        for outcome in &self.outcomes {
            *classes.entry((outcome.kind, outcome.class)).or_default() += 1;
        }
        let per_s = self.total() as f64 / self.took.as_secs_f64();
        let (median, most) = (self.quantile(0.5), self.quantile(0.999));
        write!(f, "{} requests in {:.1?} ({per_s:.0}/s): {classes:?}, ", self.total(), self.took)?;
        write!(f, "half within {median:.1?}, 99.9 % within {most:.1?}, all answered within ")?;
        write!(f, "{:.1?}; at most {:.1?} behind schedule", self.slowest(), self.late)?;
        for loss in self.losses().take(10) {
            let at = loss.begun - self.begun;
            write!(f, "\n  lost: {:?} {:?}, begun at {at:.3?}, ended ", loss.kind, loss.class)?;
            write!(f, "{:.3?} later: {}", loss.took, loss.text)?;
        }
        Ok(())
    }
}
