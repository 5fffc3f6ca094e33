//! What a generator has seen: counts, durations, and the windows of the time line.
//!
//! `load` records every request here once it has ended. Which requests count in the latencies:
//!
//! - every right answer, those that came after the end of the phase included;
//! - requests that were given up after the timeout, and in an open loop those that were due and never
//!   sent, with the time that they had waited until then. That is less than they would have waited,
//!   but to leave them out would hide the worst: the longer a server stalls, the better it would look
//!   (coordinated omission, which wrk2 and HdrHistogram were written against). The unsent ones have no
//!   service time;
//! - no other error: being refused is quick, and would make a server look quick.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::fault::{Fault, Kind};
use super::order::{Outcome, Piece};
use crate::report::latency::Durations;
use crate::report::model::Traffic;

/// Errors that are told in words.
const EXAMPLES_MAX: usize = 8;

/// When the phase is, and what its windows are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) start: Instant,
    pub(crate) end: Instant,
    pub(crate) window: Duration,
    /// Whether requests are due at fixed instants.
    pub(crate) is_open: bool,
}

/// A request's instants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// When it was to be sent; in a closed loop when it was.
    pub(crate) due: Instant,
    pub(crate) sent: Instant,
    pub(crate) ended: Instant,
    /// Open loop: whether a connection was free when it was due.
    pub(crate) was_free: bool,
}

#[derive(Debug)]
pub(crate) struct Tally {
    span: Span,
    ok: u64,
    late: u64,
    unsent: u64,
    errors: BTreeMap<Kind, u64>,
    /// Of the windows that are over.
    latency: Durations,
    /// Open loop only: in a closed one it is the latency.
    service: Durations,
    lateness: Durations,
    current: Window,
    over: Vec<Window>,
    empty: Durations,
    examples: Vec<String>,
    exemplified: BTreeSet<(Kind, String)>,
}

#[derive(Debug)]
struct Window {
    index: usize,
    ok: u64,
    errors: u64,
    latency: Durations,
}

impl Span {
    pub(crate) fn windows(&self) -> usize {
        self.end.duration_since(self.start).div_duration_f64(self.window).ceil() as usize
    }

    pub(crate) fn end_of(&self, window: usize) -> Instant {
        let since = self.window.mul_f64((window + 1) as f64);
        self.end.min(self.start + since)
    }
}

impl Tally {
    pub(crate) fn new(span: Span) -> Result<Self, String> {
        let empty = Durations::new()?;
        Ok(Self {
            span,
            ok: 0,
            late: 0,
            unsent: 0,
            errors: BTreeMap::new(),
            latency: empty.clone(),
            service: empty.clone(),
            lateness: empty.clone(),
            current: Window { index: 0, ok: 0, errors: 0, latency: empty.clone() },
            over: Vec::new(),
            empty,
            examples: Vec::new(),
            exemplified: BTreeSet::new(),
        })
    }

    /// A request that got its right answer.
    pub(crate) fn right(&mut self, times: Times) {
        self.close_windows(times.ended);
        match times.ended < self.span.end {
            true => {
                self.ok += 1;
                self.current.ok += 1;
            }
            false => self.late += 1,
        }
        self.wait(times);
    }

    /// A request of this name that got none.
    pub(crate) fn wrong(&mut self, times: Times, name: &str, fault: &Fault) {
        self.close_windows(times.ended);
        *self.errors.entry(fault.kind).or_default() += 1;
        self.current.errors += 1;
        if fault.kind == Kind::Timeout {
            self.wait(times);
        }
        let is_full = self.examples.len() == EXAMPLES_MAX;
        if !is_full && self.exemplified.insert((fault.kind, name.to_owned())) {
            self.examples.push(format!("{}: request `{name}`: {}", fault.kind, fault.text));
        }
    }

    /// Requests that were due then, and are given up now.
    pub(crate) fn unsent(&mut self, due: impl Iterator<Item = Instant>, now: Instant) {
        self.close_windows(self.span.end);
        for due in due {
            self.unsent += 1;
            self.current.latency.record(now.saturating_duration_since(due));
        }
    }

    /// The windows that ended by now and were not taken before.
    pub(crate) fn take_windows(&mut self, now: Instant) -> Result<Vec<Piece>, String> {
        self.close_windows(now);
        self.over.drain(..).map(Window::told).collect()
    }

    /// Everything; `traffic` brings what the connections have counted.
    pub(crate) fn told(
        mut self,
        sent: u64,
        received: u64,
        connects: u64,
    ) -> Result<Outcome, String> {
        self.latency += &self.current.latency;
        let latency = self.latency.told()?;
        let service = if self.span.is_open { self.service.told()? } else { latency.clone() };
        let lateness = self.span.is_open.then(|| self.lateness.told()).transpose()?;
        let errors = self.errors.iter().map(|(kind, count)| (kind.to_string(), *count)).collect();
        let traffic = Traffic {
            ok: self.ok,
            late: self.late,
            errors,
            unsent: self.unsent,
            latency,
            service,
            lateness,
            sent_bytes: sent,
            received_bytes: received,
            connects,
        };
        Ok(Outcome { traffic, examples: self.examples })
    }

    fn wait(&mut self, times: Times) {
        self.current.latency.record(times.ended.saturating_duration_since(times.due));
        if self.span.is_open {
            self.service.record(times.ended.saturating_duration_since(times.sent));
            if times.was_free {
                self.lateness.record(times.sent.saturating_duration_since(times.due));
            }
        }
    }

    /// What comes after the last window belongs to none, and counts in the whole.
    fn close_windows(&mut self, now: Instant) {
        while self.current.index < self.span.windows()
            && now >= self.span.end_of(self.current.index)
        {
            self.latency += &self.current.latency;
            let next = self.current.index + 1;
            let fresh = Window { index: next, ok: 0, errors: 0, latency: self.empty.clone() };
            self.over.push(std::mem::replace(&mut self.current, fresh));
        }
    }
}

impl Window {
    fn told(self) -> Result<Piece, String> {
        let latency = self.latency.told()?;
        Ok(Piece { index: self.index, ok: self.ok, errors: self.errors, latency })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A second, in windows of 400 ms.
    fn tally(is_open: bool) -> (Tally, Instant) {
        let start = Instant::now();
        let (end, window) = (start + 1000 * MS, 400 * MS);
        (Tally::new(Span { start, end, window, is_open }).unwrap(), start)
    }

    /// Due, sent and ended so many milliseconds after the start.
    fn times(start: Instant, due: u32, sent: u32, ended: u32) -> Times {
        let at = |ms| start + ms * MS;
        Times { due: at(due), sent: at(sent), ended: at(ended), was_free: true }
    }

    #[test]
    fn answers_belong_to_the_window_in_which_they_came() {
        let (mut tally, start) = tally(false);
        for ended in [10, 399, 400, 900, 999, 1000, 1500] {
            tally.right(times(start, ended - 10, ended - 10, ended));
        }
        let pieces = tally.take_windows(start + 2000 * MS).unwrap();
        let seen = |piece: &Piece| (piece.index, piece.ok, piece.latency.count);
        assert_eq!(pieces.iter().map(seen).collect::<Vec<_>>(), [(0, 2, 2), (1, 1, 1), (2, 2, 2)]);
        assert!(tally.take_windows(start + 3000 * MS).unwrap().is_empty());
        let traffic = tally.told(1, 2, 3).unwrap().traffic;
        assert_eq!((traffic.ok, traffic.late, traffic.latency.count), (5, 2, 7));
        assert_eq!((traffic.sent_bytes, traffic.received_bytes, traffic.connects), (1, 2, 3));
    }

    #[test]
    fn a_window_is_told_although_nothing_came_in_it() {
        let (mut tally, start) = tally(false);
        assert!(tally.take_windows(start + 399 * MS).unwrap().is_empty());
        let pieces = tally.take_windows(start + 400 * MS).unwrap();
        assert_eq!((pieces.len(), pieces[0].ok, pieces[0].latency.count), (1, 0, 0));
    }

    #[test]
    fn latency_counts_from_the_due_instant_and_lateness_only_where_a_connection_was_free() {
        let (mut tally, start) = tally(true);
        tally.right(times(start, 0, 5, 15));
        tally.right(Times { was_free: false, ..times(start, 0, 200, 210) });
        let traffic = tally.told(0, 0, 0).unwrap().traffic;
        let near = |value: f64, expected: f64| (value - expected).abs() < expected * 0.001;
        assert!(near(traffic.latency.max_ms, 210.0), "{:?}", traffic.latency);
        assert!(near(traffic.service.max_ms, 10.0), "{:?}", traffic.service);
        let lateness = traffic.lateness.unwrap();
        assert!(lateness.count == 1 && near(lateness.max_ms, 5.0), "{lateness:?}");
    }

    #[test]
    fn errors_count_and_only_a_timeout_counts_as_waiting() {
        let (mut tally, start) = tally(false);
        let fault = |kind| Fault::new(kind, "oh");
        for kind in [Kind::Refused, Kind::Reset, Kind::Reset, Kind::Timeout, Kind::Status(503)] {
            tally.wrong(times(start, 0, 0, 100), "get", &fault(kind));
        }
        tally.wrong(times(start, 0, 0, 100), "put", &fault(Kind::Reset));
        let outcome = tally.told(0, 0, 0).unwrap();
        let errors: Vec<(&str, u64)> =
            outcome.traffic.errors.iter().map(|(kind, count)| (kind.as_str(), *count)).collect();
        assert_eq!(errors, [("refused", 1), ("reset", 3), ("status 503", 1), ("timeout", 1)]);
        assert_eq!(outcome.traffic.latency.count, 1);
        assert_eq!(outcome.examples.len(), 5, "each kind of each request once");
    }
}
