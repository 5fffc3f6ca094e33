//! What the numbers say, in sentences.
//!
//! Called by the conductor at the end of a run, and by whatever shows a report again. The first
//! sentence answers how many workers; the others compare servers. It calls something a difference
//! only when [`statistics`] does, and leaves no error untold. As `compare` does, it leaves out rounds
//! in which others had the processors, and where none is left it says that nothing can be said. What
//! else makes the numbers doubtful is [`super::warnings`]' affair.

use std::collections::BTreeMap;

use super::ladder::{Ladder, Step, ladders, shared_rate, smallest_near_best};
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
    sentences.extend(left_out(&ladders, report));
    sentences
}

/// Why a sentence does not agree with the medians of all rounds.
fn left_out(ladders: &[Ladder], report: &Report) -> Option<String> {
    let judged = ladders.iter().filter(|ladder| ladder.judged().is_ok());
    let disturbed = judged.flat_map(Ladder::runs).filter(|run| statistics::is_disturbed(run));
    let (count, all) = (disturbed.count() as u64, report.runs.len() as u64);
    let (of, all) = (number::count(count), number::count(all));
    (count > 0).then(|| {
        format!(
            "{of} of {all} phases are left out here: others had over a tenth of the processors."
        )
    })
}

/// How many workers this server should have.
fn of_server(ladder: &Ladder, cpus: usize) -> String {
    let errors = errors(ladder);
    match ladder.judged() {
        Ok(judged) => how_many(&judged, &errors, cpus),
        Err(why) => format!("Cannot be said: {why}; seen was {}", how_many(ladder, &errors, cpus)),
    }
}

fn how_many(ladder: &Ladder, errors: &str, cpus: usize) -> String {
    let steps: Vec<&Step> =
        ladder.steps.iter().filter(|step| step.peak_median().is_some()).collect();
    let is_whole = |step: &&Step| lost(step).is_none();
    let whole: Vec<&Step> = steps.iter().copied().filter(is_whole).collect();
    let Some(chosen) = smallest_near_best(&whole).or_else(|| smallest_near_best(&steps)) else {
        return without_peak(ladder, errors);
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
    let rate = pair.and_then(|(base, new)| statistics::peaks(base, new));
    let lossy = lossy(&[base, chosen]);
    let rate = match rate {
        _ if !lossy.is_empty() => {
            let peak = number::short(chosen.peak_median().unwrap_or_default());
            format!("peak {peak} requests/s (no factor: {lossy})")
        }
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
    let above = steps.iter().copied().filter(|step| step.workers > chosen.workers);
    let above: Vec<&Step> = above.collect();
    let gains = above.iter().filter_map(|step| statistics::peaks(chosen.peak()?, step.peak()?));
    let gains: Vec<Difference> = gains.collect();
    let real = gains.iter().filter(|gain| gain.is_real && gain.is_more());
    let most = real.max_by(|a, b| a.change.total_cmp(&b.change));
    let on = format!("on {cpus} {}", if cpus == 1 { "core" } else { "cores" });
    let lossy = lossy(&above);
    let aside = if lossy.is_empty() { lossy } else { format!(" ({lossy})") };
    match most {
        Some(gain) => format!("bring no more than {} {on}{aside}", number::change(gain)),
        None if gains.is_empty() => format!("cannot be judged{aside}"),
        None => format!("bring nothing {on}{aside}"),
    }
}

/// What a count lost at its peak, where it is too much for a comparison.
fn lost(step: &Step) -> Option<f64> {
    step.peak()?.lost_percent()
}

/// `1 had 12.3 % errors at the peak, 2 had 4.00 % errors at the peak`; empty where none lost anything.
fn lossy(steps: &[&Step]) -> String {
    let told = |step: &&Step| {
        let errors = number::of(Metric::Errors, lost(step)?);
        Some(format!("{} had {errors} errors at the peak", count(step)))
    };
    steps.iter().filter_map(told).collect::<Vec<_>>().join(", ")
}

/// Two servers at their best, and at the same rate.
fn against(first: &Ladder, other: &Ladder) -> Option<String> {
    let (Ok(one), Ok(two)) = (first.judged(), other.judged()) else {
        let (a, b) = (first.name, other.name);
        return Some(format!("Which of {a} and {b} answers more cannot be said."));
    };
    let (a, b) = (one.best()?, two.best()?);
    let difference = statistics::peaks(b.peak()?, a.peak()?);
    let peaks = format!(
        "{} against {} requests/s",
        number::short(a.peak_median()?),
        number::short(b.peak_median()?)
    );
    let at_best = at_best(first.name, a, other.name, b, difference.as_ref());
    let same_rate = shared_rate(a, b).and_then(|load| {
        let difference = statistics::within_report(Metric::P99, b.at(load)?, a.at(load)?)?;
        let [a, b] = [a, b].map(|step| step.at(load).and_then(p99_median));
        let values = format!("{} against {}", a?, b?);
        let sure = if difference.is_real { "" } else { ", no real difference" };
        Some(format!("; at {} p99 is {values}{sure}", told(load)))
    });
    Some(format!("{at_best}: {peaks}{}.", same_rate.unwrap_or_default()))
}

fn at_best(
    first: &str,
    a: &Step,
    other: &str,
    b: &Step,
    difference: Option<&Difference>,
) -> String {
    let lost = [(first, a), (other, b)].into_iter().filter_map(|(name, step)| {
        Some(format!("{name} had {} errors", number::of(Metric::Errors, lost(step)?)))
    });
    let lost = lost.collect::<Vec<_>>().join(", ");
    let [a, b] = [a, b].map(|step| match step.workers {
        Some(_) => format!(" (with {})", count(step)),
        None => String::new(),
    });
    match difference {
        None if lost.is_empty() => {
            format!("{first}{a} and {other}{b} were measured in other rounds")
        }
        None => format!("At their best {first}{a} and {other}{b} cannot be compared ({lost})"),
        Some(difference) if difference.is_real => {
            let times = number::times(difference.change);
            format!("At its best {first}{a} answers {times} of {other}{b}")
        }
        Some(_) => format!("At their best no real difference between {first}{a} and {other}{b}"),
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

    /// Others have the processors in this round of all counts, or of those with so many workers.
    fn disturb(report: &mut Report, rounds: &[u32], workers: Option<u32>) {
        let here = |run: &&mut Run| workers.is_none() || run.workers == workers;
        for run in report.runs.iter_mut().filter(here) {
            if rounds.contains(&run.round) {
                run.cpu.foreign = Some(0.4);
                run.traffic.ok /= 2;
            }
        }
    }

    #[test]
    fn where_others_had_the_processors_in_every_round_nothing_is_claimed() {
        let mut report = made::ladder(&[(1, 2500.0), (2, 4750.0)]);
        disturb(&mut report, &[0, 1, 2], None);
        let said = &verdict(&report)[0];
        let start =
            "Cannot be said: others used the processors in every round; seen was 2 workers: ";
        assert!(said.starts_with(start), "{said}");
        let mut report = made::ladder(&[(1, 2500.0), (2, 4750.0)]);
        disturb(&mut report, &[0, 1, 2], Some(1));
        let said = &verdict(&report)[0];
        let start =
            "Cannot be said: others used the processors in every round of 1 worker; seen was ";
        assert!(said.starts_with(start), "{said}");
    }

    #[test]
    fn disturbed_rounds_are_left_out_and_counted() {
        let mut report = made::ladder(&[(1, 2500.0), (2, 4750.0)]);
        disturb(&mut report, &[1, 2], Some(1));
        let said = verdict(&report);
        assert!(said[0].starts_with("2 workers: 1.9 x of 1, "), "{said:?}");
        let last = "10 of 30 phases are left out here: others had over a tenth of the processors.";
        assert_eq!(said[1], last);
    }

    #[test]
    fn servers_that_were_disturbed_are_not_compared() {
        let (a, b): (made::Peaks, made::Peaks) = (&[(2, 4000.0)], &[(2, 1000.0)]);
        let mut report = made::report(vec![("A", a), ("B", b)]);
        report.runs.iter_mut().filter(|run| run.series == 1).for_each(|run| run.cpu.stolen = 0.2);
        assert_eq!(verdict(&report)[1], "Which of A and B answers more cannot be said.");
    }

    #[test]
    fn there_is_no_factor_of_a_count_that_loses_requests() {
        let lose = |workers: u32| {
            let mut report = made::ladder(&[(1, 2500.0), (2, 4750.0), (4, 4800.0)]);
            for run in report.runs.iter_mut().filter(|run| run.workers == Some(workers)) {
                run.traffic.errors.insert("status 503".to_owned(), run.traffic.ok / 4);
            }
            verdict(&report).remove(0)
        };
        let of_base = lose(1);
        let start =
            "2 workers: peak 4,750 requests/s (no factor: 1 had 20.0 % errors at the peak), ";
        assert!(of_base.starts_with(start), "{of_base}");
        let of_larger = lose(4);
        let end = "more than 2 cannot be judged (4 had 20.0 % errors at the peak).";
        assert!(of_larger.ends_with(end), "{of_larger}");
        assert!(lose(2).starts_with("4 workers: 1.9 x of 1, "), "{}", lose(2));
    }

    #[test]
    fn an_empty_report_is_not_a_panic() {
        assert_eq!(verdict(&made::ladder(&[])), ["Nothing was measured."]);
    }
}
