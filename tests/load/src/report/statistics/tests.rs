//! The rule, tried on many reports with known truth: seeded, so that they are the same every time.

use super::*;
use crate::report::made;
use crate::report::model::Run;
use crate::report::summary::Load;

/// Comparisons of whole reports in a simulation.
const REPORTS: u32 = 300;
/// What is compared in each: metrics at the loads of three counts.
const COMPARED: usize = 80;
/// Standard deviation of the rounds of one report.
const NOISE: f64 = 0.05;

struct Source(fastrand::Rng);

impl Source {
    /// Of the standard normal distribution (Box and Muller).
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.0.f64()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.0.f64()).cos()
    }

    /// The rounds of one point: around `level`, as logarithm.
    fn rounds(&mut self, rounds: u32, level: f64) -> Vec<Run> {
        let values = (0..rounds).map(|_| 1000.0 * (level + NOISE * self.normal()).exp());
        let values: Vec<f64> = values.collect();
        values.into_iter().enumerate().map(|(round, value)| answered(round as u32, value)).collect()
    }
}

fn answered(round: u32, rate: f64) -> Run {
    let mut run = made::run(0, 1, round, Load::Closed, 0.0);
    // A rate with a fraction needs more than whole requests in ten seconds.
    run.traffic.ok = (rate * 1000.0) as u64;
    run.duration_s = 1000.0;
    run
}

fn point(runs: &[Run]) -> Point<'_> {
    Point { series: 0, workers: Some(1), load: Load::Closed, runs: runs.iter().collect() }
}

fn rates(rates: &[f64]) -> Vec<Run> {
    rates.iter().enumerate().map(|(round, rate)| answered(round as u32, *rate)).collect()
}

/// Two reports whose `changed` first points differ by this ratio: which of all are called different?
fn compared(source: &mut Source, rounds: u32, drift: f64, changed: usize, ratio: f64) -> Vec<bool> {
    let drifts = [drift * source.normal(), drift * source.normal()];
    let differences = (0..COMPARED).map(|index| {
        let change = if index < changed { ratio.ln() } else { 0.0 };
        let base = source.rounds(rounds, drifts[0]);
        let new = source.rounds(rounds, drifts[1] + change);
        between_reports(Metric::Rate, &point(&base), &point(&new)).unwrap()
    });
    let mut differences: Vec<Difference> = differences.collect();
    judge_together(differences.iter_mut().collect());
    differences.iter().map(|difference| difference.is_real).collect()
}

#[test]
fn two_reports_of_the_same_thing_show_no_real_difference_9_times_of_10() {
    for rounds in [1, 2, 3, 5] {
        let mut source = Source(fastrand::Rng::with_seed(u64::from(rounds)));
        let alarms = (0..REPORTS)
            .filter(|_| compared(&mut source, rounds, ASSUMED_DRIFT, 0, 1.0).contains(&true));
        let alarms = alarms.count();
        assert!(alarms as f64 <= 0.1 * f64::from(REPORTS), "{rounds} rounds: {alarms} alarms");
    }
}

#[test]
fn a_drift_that_is_larger_than_assumed_is_still_borne() {
    let mut source = Source(fastrand::Rng::with_seed(4));
    let alarms = (0..REPORTS).filter(|_| compared(&mut source, 3, 0.04, 0, 1.0).contains(&true));
    let alarms = alarms.count();
    assert!(alarms as f64 <= 0.1 * f64::from(REPORTS), "{alarms} alarms");
}

#[test]
fn a_fifth_more_in_a_tenth_of_everything_is_seen_mostly_after_3_rounds_and_nearly_always_after_5() {
    for (rounds, needed) in [(3, 0.65), (5, 0.8)] {
        let mut source = Source(fastrand::Rng::with_seed(u64::from(rounds)));
        let changed = COMPARED / 10;
        let seen = (0..REPORTS).filter(|_| {
            let real = compared(&mut source, rounds, ASSUMED_DRIFT, changed, 1.2);
            real[..changed].contains(&true)
        });
        let seen = seen.count() as f64 / f64::from(REPORTS);
        assert!(seen >= needed, "{rounds} rounds: seen in {seen}");
    }
}

#[test]
fn what_others_had_of_the_machine_widens_the_interval() {
    let (base, mut new) = (rates(&[1000.0; 3]), rates(&[1000.0; 3]));
    let width = |new: &[Run]| {
        let difference = between_reports(Metric::Rate, &point(&base), &point(new)).unwrap();
        difference.high - difference.low
    };
    let quiet = width(&new);
    new.iter_mut().for_each(|run| run.cpu.foreign = Some(0.08));
    assert!(width(&new) > 1.5 * quiet && !new.iter().any(is_disturbed));
    new.iter_mut().for_each(|run| run.cpu.stolen = 0.03);
    assert!(new.iter().all(is_disturbed));
}

#[test]
fn within_a_report_what_disturbs_both_disturbs_nothing() {
    // Rounds differ by a factor of two, the counts in each of them by a tenth.
    let (base, new) = (rates(&[1000.0, 2000.0, 1500.0]), rates(&[1100.0, 2200.0, 1650.0]));
    let difference = within_report(Metric::Rate, &point(&base), &point(&new)).unwrap();
    assert!((difference.change - 1.1).abs() < 0.001, "{difference:?}");
    assert!(difference.low < 1.1 && difference.high > 1.1);
    let apart = between_reports(Metric::Rate, &point(&base), &point(&new)).unwrap();
    assert!(!apart.is_real && apart.high - apart.low > difference.high - difference.low);
}

#[test]
fn within_a_report_the_interval_misses_the_truth_once_in_a_hundred() {
    for rounds in [2, 3, 5] {
        let mut source = Source(fastrand::Rng::with_seed(9));
        let wrong = (0..3000).filter(|_| {
            let (base, new) = (source.rounds(rounds, 0.0), source.rounds(rounds, 0.0));
            within_report(Metric::Rate, &point(&base), &point(&new)).unwrap().is_real
        });
        let wrong = wrong.count();
        assert!(wrong <= 45, "{rounds} rounds: {wrong} of 3000");
    }
}

#[test]
fn one_round_is_enough_for_what_nobody_would_doubt_and_for_nothing_else() {
    let base = rates(&[1000.0]);
    let real = |rate: f64| {
        within_report(Metric::Rate, &point(&base), &point(&rates(&[rate]))).unwrap().is_real
    };
    assert!(real(1900.0) && real(500.0));
    assert!(!real(1200.0) && !real(850.0));
}

#[test]
fn what_is_smaller_than_the_floor_is_no_difference_however_sure() {
    let (base, new) = (vec![1000.0; 20], vec![1029.0; 20]);
    let (base, new) = (rates(&base), rates(&new));
    let difference = within_report(Metric::Rate, &point(&base), &point(&new)).unwrap();
    assert!(difference.low > 1.0 && difference.change < 1.03 && !difference.is_real);
}

#[test]
fn errors_are_compared_in_points_and_a_single_bad_round_is_no_difference() {
    let with_errors = |errors: [u64; 3]| {
        let mut runs = rates(&[1000.0, 1000.0, 1000.0]);
        for (run, errors) in runs.iter_mut().zip(errors) {
            run.traffic.errors.insert("timeout".to_owned(), errors);
        }
        runs
    };
    let (clean, one_bad) = (with_errors([0, 0, 0]), with_errors([0, 40_000, 0]));
    let all_bad = with_errors([40_000, 45_000, 42_000]);
    let difference =
        |new: &[Run]| between_reports(Metric::Errors, &point(&clean), &point(new)).unwrap();
    assert!(!difference(&clean).is_real && difference(&clean).change == 0.0);
    assert!(!difference(&one_bad).is_real);
    assert!(difference(&all_bad).is_real && difference(&all_bad).is_more());
    assert_eq!(difference(&all_bad).scale, Scale::Points);
}

#[test]
fn a_server_that_answers_nothing_any_more_differs() {
    let (base, new) = (rates(&[1000.0, 1010.0, 990.0]), rates(&[0.0, 0.0, 0.0]));
    let difference = between_reports(Metric::Rate, &point(&base), &point(&new)).unwrap();
    assert!(difference.is_real && difference.change < 0.01 && !difference.is_more());
    assert_eq!(between_reports(Metric::P99, &point(&base), &point(&new)), None);
}

#[test]
fn rounds_that_only_one_of_them_has_do_not_pair_up() {
    let base = rates(&[1000.0, 1000.0]);
    let mut new = rates(&[1000.0]);
    new[0].round = 7;
    assert_eq!(within_report(Metric::Rate, &point(&base), &point(&new)), None);
}
