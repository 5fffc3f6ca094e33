//! What the numbers say, in sentences.
//!
//! Called by the conductor at the end of a run, and by whatever shows a report again. The first
//! sentence answers how many workers; the others compare servers. It calls something a difference
//! only when [`statistics`] does, and leaves no error untold. What makes the numbers doubtful is
//! [`super::warnings`]' affair.

use std::collections::BTreeMap;

use super::ladder::{Ladder, Step, ladders, shared_rate};
use super::model::{Report, Run};
use super::statistics::{self, Difference};
use super::summary::{Load, Metric};
use super::{number, summary::Point};

/// Sentences, the most important first.
pub(crate) fn verdict(report: &Report) -> Vec<String> {
    let ladders = ladders(report);
    let cpus = report.card.machine.cpus;
    let Some((first, others)) = ladders.split_first() else {
        return vec!["Nothing was measured.".to_owned()];
    };
    let mut sentences = vec![of_server(first, cpus)];
    sentences.extend(others.iter().filter_map(|other| against(first, other)));
    sentences.extend(others.iter().map(|other| of_server(other, cpus)));
    sentences.extend(ladders.iter().filter_map(|ladder| kinds_of_errors(ladder, ladders.len())));
    sentences
}

/// How many workers this server should have.
fn of_server(ladder: &Ladder, cpus: usize) -> String {
    let errors = errors(ladder);
    let steps: Vec<&Step> =
        ladder.steps.iter().filter(|step| step.peak_median().is_some()).collect();
    let Some(chosen) = ladder.smallest_near_best() else {
        return without_peak(ladder, &errors);
    };
    match *steps.as_slice() {
        [base, _, ..] if base.workers == chosen.workers => {
            let more = format!("more than {} {}", count(base), limit(&steps, base, cpus));
            format!("{}, {errors}; {more}.", alone(base))
        }
        [base, _, ..] => {
            let gain = gain(base, chosen);
            let end = match steps.last() {
                Some(last) if last.workers != chosen.workers => {
                    format!("more than {} {}", count(chosen), limit(&steps, chosen, cpus))
                }
                _ => "more were not tried".to_owned(),
            };
            format!("{}: {gain}, {errors}; {end}.", chosen.label)
        }
        _ => format!("{}, {errors}.", alone(chosen)),
    }
}

/// A count by itself: its peak and its latency.
fn alone(step: &Step) -> String {
    let peak = number::short(step.peak_median().unwrap_or_default());
    let latency = step.steady().and_then(|point| {
        let p99 = point.spread(Metric::P99)?.median;
        Some(format!(", p99 {} at {}", number::of(Metric::P99, p99), told(point.load)))
    });
    format!("{}: peak {peak} requests/s{}", step.label, latency.unwrap_or_default())
}

/// What a count brings against the smallest one.
fn gain(base: &Step, chosen: &Step) -> String {
    let pair = base.peak().zip(chosen.peak());
    let rate = pair.and_then(|(base, new)| statistics::within_report(Metric::Rate, base, new));
    let rate = match rate {
        Some(rate) if rate.is_real => format!("{} of {}", number::times(rate.change), count(base)),
        Some(rate) => {
            format!("no real difference to {} ({})", count(base), number::interval(&rate))
        }
        None => format!("measured in other rounds than {}", count(base)),
    };
    match p99(base, chosen) {
        Some(p99) => format!("{rate}, {p99}"),
        None => rate,
    }
}

/// `p99 -38 % at 3,000/s`, when both were offered the same rate.
fn p99(base: &Step, new: &Step) -> Option<String> {
    let load = shared_rate(base, new)?;
    let change = statistics::within_report(Metric::P99, base.at(load)?, new.at(load)?)?;
    let told = told(load);
    Some(match change.is_real {
        true => format!("p99 {} at {told}", number::change(&change)),
        false => format!("p99 at {told} without a real difference"),
    })
}

/// What the counts above `chosen` bring; none of them brings as much as a count has to.
fn limit(steps: &[&Step], chosen: &Step, cpus: usize) -> String {
    let above = steps.iter().filter(|step| step.workers > chosen.workers);
    let gains = above
        .filter_map(|step| statistics::within_report(Metric::Rate, chosen.peak()?, step.peak()?));
    let real = gains.filter(|gain| gain.is_real && gain.is_more());
    let most = real.max_by(|a, b| a.change.total_cmp(&b.change));
    let on = format!("on {cpus} {}", if cpus == 1 { "core" } else { "cores" });
    match most {
        Some(gain) => format!("bring no more than {} {on}", number::change(&gain)),
        None => format!("bring nothing {on}"),
    }
}

/// Two servers at their best, and at the same rate.
fn against(first: &Ladder, other: &Ladder) -> Option<String> {
    let (a, b) = (first.best()?, other.best()?);
    let difference = statistics::within_report(Metric::Rate, b.peak()?, a.peak()?)?;
    let peaks = format!(
        "{} against {} requests/s",
        number::short(a.peak_median()?),
        number::short(b.peak_median()?)
    );
    let at_best = at_best(first.name, a, other.name, b, &difference);
    let same_rate = shared_rate(a, b).and_then(|load| {
        let difference = statistics::within_report(Metric::P99, b.at(load)?, a.at(load)?)?;
        let [a, b] = [a, b].map(|step| step.at(load).and_then(p99_median));
        let values = format!("{} against {}", a?, b?);
        let sure = if difference.is_real { "" } else { ", no real difference" };
        Some(format!("; at {} p99 is {values}{sure}", told(load)))
    });
    Some(format!("{at_best}: {peaks}{}.", same_rate.unwrap_or_default()))
}

fn at_best(first: &str, a: &Step, other: &str, b: &Step, difference: &Difference) -> String {
    let [a, b] = [a, b].map(|step| match step.workers {
        Some(_) => format!(" (with {})", count(step)),
        None => String::new(),
    });
    match difference.is_real {
        true => {
            let times = number::times(difference.change);
            format!("At its best {first}{a} answers {times} of {other}{b}")
        }
        false => format!("At their best no real difference between {first}{a} and {other}{b}"),
    }
}

fn p99_median(point: &Point) -> Option<String> {
    Some(number::of(Metric::P99, point.spread(Metric::P99)?.median))
}

/// A server that was not driven to its peak, or answered nothing.
fn without_peak(ladder: &Ladder, errors: &str) -> String {
    let answered: u64 = ladder.runs().map(|run| run.traffic.ok + run.traffic.late).sum();
    if answered == 0 {
        return format!("{}: no right answer at all, {errors}.", ladder.name);
    }
    let steps = ladder.steps.iter().filter_map(|step| {
        let point = step.steady()?;
        Some(format!("{}: p99 {} at {}", step.label, p99_median(point)?, told(point.load)))
    });
    let steps: Vec<String> = steps.collect();
    format!("{}; {errors}; the peak was not measured.", steps.join("; "))
}

/// Of all runs of a server; requests that were never sent are told apart.
fn errors(ladder: &Ladder) -> String {
    let sum = |of: fn(&Run) -> u64| ladder.runs().map(of).sum::<u64>();
    let failed = sum(|run| run.traffic.failed());
    let all = failed + sum(|run| run.traffic.ok + run.traffic.late);
    let mut text = match failed {
        0 => "0 errors".to_owned(),
        1 => format!("1 error in {} requests", number::count(all)),
        _ => format!("{} errors in {} requests", number::count(failed), number::count(all)),
    };
    let unsent = sum(|run| run.traffic.unsent);
    if unsent > 0 {
        let plural = if unsent == 1 { "" } else { "s" };
        text += &format!(", {} request{plural} never sent", number::count(unsent));
    }
    text
}

fn kinds_of_errors(ladder: &Ladder, servers: usize) -> Option<String> {
    let kinds = kinds(ladder.runs());
    let whose = if servers > 1 { format!(" of {}", ladder.name) } else { String::new() };
    (!kinds.is_empty()).then(|| format!("Errors{whose}: {}.", tell_kinds(&kinds)))
}

/// How many errors of each kind these runs had.
pub(super) fn kinds<'a>(runs: impl Iterator<Item = &'a Run>) -> BTreeMap<&'a str, u64> {
    let mut kinds = BTreeMap::new();
    for (kind, count) in runs.flat_map(|run| &run.traffic.errors) {
        *kinds.entry(kind.as_str()).or_default() += count;
    }
    kinds.retain(|_, count| *count > 0);
    kinds
}

/// `12 refused, 3 timeout`.
pub(super) fn tell_kinds(kinds: &BTreeMap<&str, u64>) -> String {
    let kinds = kinds.iter().map(|(kind, count)| format!("{} {kind}", number::count(*count)));
    kinds.collect::<Vec<_>>().join(", ")
}

/// A load, short enough for the end of a clause.
pub(crate) fn told(load: Load) -> String {
    match load {
        Load::Closed => "the peak".to_owned(),
        Load::PercentOfPeak(percent) => format!("{percent} % of its peak"),
        Load::Rate(rate) => format!("{}/s", number::count(rate)),
    }
}

fn count(step: &Step) -> String {
    step.workers.map_or_else(|| step.label.clone(), |workers| workers.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::made;

    #[test]
    fn the_first_sentence_says_how_many_workers() {
        let report = made::ladder(&[(1, 2500.0), (2, 4750.0), (4, 4800.0)]);
        assert_eq!(
            verdict(&report),
            ["2 workers: 1.9 x of 1, p99 -50 % at 1,000/s, 0 errors; \
              more than 2 bring nothing on 2 cores."]
        );
    }

    #[test]
    fn when_the_largest_count_is_the_best_nothing_is_said_of_more() {
        let report = made::ladder(&[(1, 2500.0), (2, 4750.0)]);
        let said = &verdict(&report)[0];
        assert!(said.ends_with("0 errors; more were not tried."), "{said}");
    }

    #[test]
    fn when_more_bring_nothing_the_smallest_stands_alone() {
        let report = made::ladder(&[(1, 2500.0), (2, 2510.0), (4, 2400.0)]);
        assert_eq!(
            verdict(&report),
            ["1 worker: peak 2,500 requests/s, p99 8.00 ms at 1,000/s, 0 errors; \
              more than 1 bring nothing on 2 cores."]
        );
    }

    #[test]
    fn a_gain_that_may_be_noise_is_not_called_one() {
        let mut report = made::ladder(&[(1, 2500.0), (2, 2700.0)]);
        for run in report.runs.iter_mut().filter(|run| run.workers == Some(2)) {
            run.traffic.ok = run.traffic.ok * [80, 100, 120][run.round as usize] / 100;
        }
        let said = &verdict(&report)[0];
        assert!(said.starts_with("2 workers: no real difference to 1 (-"), "{said}");
    }

    #[test]
    fn one_count_is_told_without_a_comparison() {
        let said = verdict(&made::ladder(&[(2, 4750.0)]));
        assert_eq!(said, ["2 workers: peak 4,750 requests/s, p99 4.00 ms at 1,000/s, 0 errors."]);
    }

    #[test]
    fn no_error_of_any_run_stays_untold() {
        let mut report = made::ladder(&[(1, 2500.0), (2, 4750.0)]);
        report.runs[1].traffic.errors.insert("refused".to_owned(), 3);
        report.runs[6].traffic.errors.insert("timeout".to_owned(), 1234);
        report.runs[7].traffic.unsent = 5;
        let said = verdict(&report);
        assert!(said[0].contains("1,237 errors in "), "{said:?}");
        assert!(said[0].contains(", 5 requests never sent"), "{said:?}");
        assert_eq!(said[1], "Errors: 3 refused, 1,234 timeout.");
    }

    #[test]
    fn servers_are_compared_at_their_best_and_at_the_same_rate() {
        let report = made::report(vec![
            ("Peace", &[(1, 5000.0), (2, 9300.0)]),
            ("Other", &[(2, 2000.0), (4, 3000.0)]),
        ]);
        let said = verdict(&report);
        assert_eq!(
            said[1],
            "At its best Peace (with 2) answers 3.1 x of Other (with 4): 9,300 against 3,000 \
             requests/s; at 1,000/s p99 is 4.00 ms against 2.00 ms."
        );
        assert!(said[2].starts_with("Other, 4 workers: 1.5 x of 2, "), "{said:?}");
    }

    #[test]
    fn the_same_server_twice_has_no_real_difference() {
        let report = made::report(vec![("A", &[(2, 4000.0)][..]), ("B", &[(2, 4040.0)][..])]);
        let said = &verdict(&report)[1];
        assert!(
            said.starts_with("At their best no real difference between A (with 2) and B (with 2)"),
            "{said}"
        );
        assert!(said.ends_with("4.00 ms against 4.00 ms, no real difference."), "{said}");
    }

    #[test]
    fn a_server_without_a_number_of_workers_goes_by_its_name() {
        let mut report = made::ladder(&[(1, 2500.0)]);
        report.runs.iter_mut().for_each(|run| run.workers = None);
        let said = &verdict(&report)[0];
        assert_eq!(said, "peace: peak 2,500 requests/s, p99 8.00 ms at 1,000/s, 0 errors.");
    }

    #[test]
    fn a_server_that_answers_nothing_is_told_so() {
        let mut report = made::ladder(&[(1, 2500.0), (2, 4750.0)]);
        for run in &mut report.runs {
            run.traffic.errors.insert("refused".to_owned(), run.traffic.ok);
            run.traffic.ok = 0;
        }
        let said = verdict(&report);
        assert!(said[0].starts_with("peace: no right answer at all, "), "{said:?}");
        assert!(said[1].starts_with("Errors: "), "{said:?}");
    }

    #[test]
    fn rates_alone_have_no_peak() {
        let mut report = made::ladder(&[(1, 2500.0), (2, 4750.0)]);
        report.runs.retain(|run| matches!(run.load, Load::Rate(_)));
        assert_eq!(
            verdict(&report),
            ["1 worker: p99 8.00 ms at 1,000/s; 2 workers: p99 4.00 ms at 1,000/s; 0 errors; \
              the peak was not measured."]
        );
    }

    #[test]
    fn an_empty_report_is_not_a_panic() {
        assert_eq!(verdict(&made::ladder(&[])), ["Nothing was measured."]);
    }
}
