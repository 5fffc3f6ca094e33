//! What a reader has to know before believing a number.
//!
//! Called by the conductor, which puts the sentences into the report. Each is about phases in which
//! something other than the server decided: the load generator, other programs, the host, too few
//! samples. It does not say what the numbers mean.

use super::model::{Report, Run};
use super::statistics::taken;
use super::summary::Metric;
use super::{number, verdict};

/// A generator that was busy for a larger share of the time may not have sent what it should.
const GENERATOR_BUSY_MAX: f64 = 0.9;
/// Requests that were sent this late, one of a hundred, make a latency the generator's own.
const LATENESS_MAX_MS: f64 = 1.0;
/// Lateness beyond this share of p99 does too.
const LATENESS_MAX_SHARE: f64 = 0.1;
/// A larger share of the processors that others had changes the numbers.
const TAKEN_MAX: f64 = 0.05;
/// With fewer answers the hundredth slowest is the slowest.
const FOR_P99_MIN: u64 = 100;
/// What has to be answered of what is offered.
const REACHED_MIN: f64 = 0.97;
/// The busiest worker answers at most so much more than the idlest.
const IMBALANCE_MAX: f64 = 1.5;
/// Fewer answers for each worker than that say nothing about balance.
const ANSWERS_MIN: u64 = 100;
/// How many counts are named; the others are counted.
const NAMED_MAX: usize = 4;

/// Each a sentence.
pub(crate) fn warnings(report: &Report) -> Vec<String> {
    let connections = report.card.connections;
    let mut warnings = of_plan(report);
    let mut warn = |is_so: &dyn Fn(&Run) -> bool, text: &str| {
        warnings.extend(named(report, is_so).map(|phases| format!("{text}: {phases}.")));
    };
    warn(
        &|run| run.cpu.generator_peak > GENERATOR_BUSY_MAX,
        "The load generator was at its limit, so the server may be capable of more",
    );
    warn(&is_sent_late, "The load generator sent requests late, so part of the latency is its own");
    warn(
        &|run| taken(run) > TAKEN_MAX,
        "Other programs or the host had processors of this machine",
    );
    warn(
        &|run| misses_rate(run, connections),
        "Less was answered than was offered, so the latency grows with the duration",
    );
    warn(&is_uneven, "The busiest worker answered more than 1.5 x of what the idlest did");
    warn(&has_few_answers, "Fewer than 100 answers, so p99 is the slowest of them");
    warn(&|run| run.traffic.answered() == 0, "Nothing was answered as it should be");
    warnings
}

/// Too little was asked for.
fn of_plan(report: &Report) -> Vec<String> {
    let mut warnings = Vec::new();
    if report.card.is_quick {
        warnings.push("This was a shortened run (--quick): a first look.".to_owned());
    }
    if report.card.rounds == 1 {
        let text = "There was one round, so the noise of these numbers is assumed, not measured.";
        warnings.push(text.to_owned());
    }
    warnings
}

fn is_sent_late(run: &Run) -> bool {
    let Some(late_ms) = run.traffic.lateness.as_ref().map(|lateness| lateness.p99_ms) else {
        return false;
    };
    late_ms > LATENESS_MAX_MS && late_ms > run.traffic.latency.p99_ms * LATENESS_MAX_SHARE
}

/// Whether requests failed, or piled up: those that are under way at the end of a phase are answered
/// after it, and a slow server has more of them, but no more than are due while one takes its time, and
/// one on each connection. The time is that of the server alone, twice the p99: latency contains the
/// queue that is looked for.
fn misses_rate(run: &Run, connections: usize) -> bool {
    let Some(offered) = run.offered else { return false };
    let answered = Metric::Rate.of(run).unwrap_or_default();
    let under_way = offered * 2.0 * run.traffic.service.p99_ms / 1e3 + connections as f64;
    answered < offered * REACHED_MIN || run.traffic.late as f64 > under_way
}

fn has_few_answers(run: &Run) -> bool {
    (1..FOR_P99_MIN).contains(&run.traffic.answered())
}

/// Where nothing was done to the workers meanwhile.
fn is_uneven(run: &Run) -> bool {
    let Some(share) = run.share.as_ref().filter(|share| share.len() > 1) else {
        return false;
    };
    let (most, least) = (share.iter().max(), share.iter().min());
    let all: u64 = share.iter().sum();
    let is_uneven =
        most.zip(least).is_some_and(|(most, least)| *most as f64 > *least as f64 * IMBALANCE_MAX);
    is_uneven && run.events.is_empty() && all >= ANSWERS_MIN * share.len() as u64
}

/// `3 of 24 phases (2 workers, closed loop; …)`; `None` when it is so nowhere.
fn named(report: &Report, is_so: &dyn Fn(&Run) -> bool) -> Option<String> {
    let mut names: Vec<String> = Vec::new();
    let mut phases = 0;
    for run in report.runs.iter().filter(|run| is_so(run)) {
        phases += 1;
        let name =
            format!("{} at {}", report.label(run.series, run.workers), verdict::told(run.load));
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if phases == 0 {
        return None;
    }
    let rest = names.len().saturating_sub(NAMED_MAX);
    names.truncate(NAMED_MAX);
    if rest > 0 {
        names.push(format!("{rest} more"));
    }
    let all = number::count(report.runs.len() as u64);
    if phases == report.runs.len() {
        return Some("all phases".to_owned());
    }
    Some(format!("{phases} of {all} phases ({})", names.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::made;
    use crate::report::model::{Event, EventKind, Latency};
    use crate::report::summary::Load;

    type Disturb = fn(&mut Run);

    #[test]
    fn a_quiet_report_has_no_warning() {
        assert_eq!(warnings(&made::ladder(&[(1, 2500.0), (2, 4750.0)])), [""; 0]);
        assert_eq!(warnings(&made::ladder(&[])), [""; 0]);
    }

    #[test]
    fn what_disturbs_a_phase_is_told_with_where_it_was() {
        let late = Latency { p99_ms: 2.0, ..Latency::default() };
        let disturbances: [(Disturb, &str); 5] = [
            (|run| run.cpu.generator_peak = 0.95, "The load generator was at its limit"),
            (|run| run.cpu.stolen = 0.06, "Other programs or the host had processors"),
            (|run| run.cpu.foreign = Some(0.06), "Other programs or the host had processors"),
            (|run| run.share = Some(vec![3000, 1000]), "The busiest worker answered more"),
            (|run| run.traffic.ok = 0, "Nothing was answered as it should be"),
        ];
        for (disturb, expected) in disturbances {
            let mut report = made::ladder(&[(2, 4750.0)]);
            disturb(&mut report.runs[0]);
            let found = warnings(&report);
            let end = ": 1 of 15 phases (2 workers at the peak).";
            assert!(found[0].starts_with(expected) && found[0].ends_with(end), "{found:?}");
            assert_eq!(found.len(), 1, "{found:?}");
        }
        let mut report = made::ladder(&[(2, 4750.0)]);
        report.runs[4].traffic.lateness = Some(late);
        let found = warnings(&report);
        assert!(found[0].ends_with("1 of 15 phases (2 workers at 1,000/s)."), "{found:?}");
    }

    #[test]
    fn a_rate_that_was_not_reached_is_told() {
        let mut report = made::ladder(&[(2, 4750.0)]);
        for run in report.runs.iter_mut().filter(|run| run.load != Load::Closed) {
            run.traffic.ok = run.traffic.ok * 9 / 10;
        }
        let found = warnings(&report);
        assert!(found[0].contains(": 12 of 15 phases (2 workers at 50 % of its peak; "));
    }

    /// Of 50/s for 10 s, or whatever rate, so many came after the end.
    fn late(rate: u64, late: u64, service_p99_ms: f64) -> Vec<String> {
        let mut run = made::run(0, 2, 0, Load::Rate(rate), rate as f64);
        run.traffic.ok -= late;
        run.traffic.late = late;
        run.traffic.service.p99_ms = service_p99_ms;
        let mut report = made::ladder(&[(2, 4750.0)]);
        report.runs = vec![run];
        warnings(&report)
    }

    #[test]
    fn a_slow_server_that_answers_everything_reaches_its_rate() {
        // 600 ms for each: 30 of 500 are under way at the end.
        assert_eq!(late(50, 30, 601.0), [""; 0]);
        assert_eq!(late(2000, 1200, 601.0), [""; 0]);
    }

    #[test]
    fn a_server_that_answers_everything_after_the_end_does_not_reach_its_rate() {
        // 1,400/s of 1,500/s, on 64 connections: 46 ms each, and a second's worth is left over.
        let found = late(1500, 1000, 46.0);
        assert!(found[0].starts_with("Less was answered than was offered"), "{found:?}");
    }

    #[test]
    fn fewer_than_100_answers_have_no_p99() {
        let few = |rate: u64| {
            let mut report = made::ladder(&[(2, 4750.0)]);
            report.runs[0] = made::run(0, 2, 0, Load::Rate(rate), rate as f64);
            warnings(&report)
        };
        let start = "Fewer than 100 answers, so p99 is the slowest of them: 1 of 15 phases (";
        assert!(few(9)[0].starts_with(start), "{:?}", few(9));
        assert_eq!(few(10), [""; 0]);
    }

    #[test]
    fn balance_is_not_asked_for_where_workers_were_killed() {
        let mut report = made::ladder(&[(2, 4750.0)]);
        let text = "worker of slot 1 killed".to_owned();
        report.runs[0].share = Some(vec![3000, 1000]);
        report.runs[0].events.push(Event { at_s: 1.0, kind: EventKind::Kill, text });
        assert_eq!(warnings(&report), [""; 0]);
    }

    #[test]
    fn a_short_run_says_so() {
        let mut report = made::ladder(&[(2, 4750.0)]);
        (report.card.is_quick, report.card.rounds) = (true, 1);
        assert_eq!(warnings(&report).len(), 2);
    }
}
