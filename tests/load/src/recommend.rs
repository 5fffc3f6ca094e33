//! `peace-loadtest recommend`: how many workers, from a report.
//!
//! The command line gives [`Options`]. Of the counts whose p99 is within the limit and that lose next to
//! no request, it names the smallest whose peak is within 5 % of the best, and why; and what the next
//! larger one would bring and cost. Disturbed rounds are left out, as in the verdict; the report's own
//! warnings follow the answer. It measures nothing and knows no machine but that of the report.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;

use crate::report::file::{self, FileError};
use crate::report::ladder::{self, Ladder, NEAR_BEST, Step};
use crate::report::model::Report;
use crate::report::number;
use crate::report::statistics;
use crate::report::summary::{ERRORS_MAX_PERCENT, Load, Metric};
use crate::report::verdict::told;

/// Name the smallest number of workers that is as good as the best, and say why.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The report.json of a run with several --workers.
    #[arg(value_name = "REPORT")]
    report: PathBuf,
    /// The longest p99 that is acceptable at the rate all counts were offered: 20ms, 1.5s.
    #[arg(long, value_name = "TIME", value_parser = milliseconds)]
    p99: Option<f64>,
    /// Which server of the report; the first, unless told.
    #[arg(long, value_name = "NAME")]
    series: Option<String>,
}

/// Why nothing could be said.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecommendError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("the report has no server {asked:?}; it has {present}")]
    NoSeries { asked: String, present: String },
    #[error("the report says nothing of a number of workers: {0}")]
    NoCounts(&'static str),
    #[error("the recommendation cannot be written: {0}")]
    Write(#[from] io::Error),
}

/// Whether there is a count to recommend.
pub(crate) fn run(options: &Options, out: &mut impl Write) -> Result<bool, RecommendError> {
    let report = file::read(&options.report)?;
    let (is_found, mut lines) = recommend(&report, options.series.as_deref(), options.p99)?;
    lines.extend(report.warnings);
    out.write_all(format!("{}\n", lines.join("\n")).as_bytes())?;
    out.flush()?;
    Ok(is_found)
}

/// Sentences, and whether they recommend.
fn recommend(
    report: &Report,
    series: Option<&str>,
    limit_ms: Option<f64>,
) -> Result<(bool, Vec<String>), RecommendError> {
    let ladders = ladder::ladders(report);
    let ladder = choose(&ladders, series)?;
    if ladder.steps.iter().any(|step| step.workers.is_none()) {
        let why = "its server was running already; let the run start it, with --workers";
        return Err(RecommendError::NoCounts(why));
    }
    if ladder.best().is_none() {
        let why = "there is no peak; run it with a closed loop";
        return Err(RecommendError::NoCounts(why));
    }
    match ladder.judged() {
        Ok(judged) => Ok(answer(&judged, limit_ms, report)),
        Err(why) => {
            let mut lines = answer(ladder, limit_ms, report).1;
            lines.insert(0, format!("Cannot be said: {why}; seen was:"));
            Ok((false, lines))
        }
    }
}

fn answer(ladder: &Ladder, limit_ms: Option<f64>, report: &Report) -> (bool, Vec<String>) {
    let load = common_load(ladder);
    let fits = |step: &&Step| obstacle(step, load, limit_ms).is_none();
    let fitting: Vec<&Step> = ladder.steps.iter().filter(fits).collect();
    let obstacles = ladder.steps.iter().filter_map(|step| {
        Some(format!("Not {}: {}.", step.label, obstacle(step, load, limit_ms)?))
    });
    let mut lines: Vec<String> = obstacles.collect();
    let Some(chosen) = ladder::smallest_near_best(&fitting) else {
        lines.insert(0, "No number of workers that was measured fits.".to_owned());
        return (false, lines);
    };
    lines.splice(0..0, reasons(chosen, &fitting, load, report));
    (true, lines)
}

fn choose<'a, 'b>(
    ladders: &'a [Ladder<'b>],
    asked: Option<&str>,
) -> Result<&'a Ladder<'b>, RecommendError> {
    let Some(asked) = asked else {
        return ladders.first().ok_or(RecommendError::NoCounts("it has no run"));
    };
    ladders.iter().find(|ladder| ladder.name == asked).ok_or_else(|| {
        let names = ladders.iter().map(|ladder| ladder.name);
        let present = names.collect::<Vec<_>>().join(", ");
        RecommendError::NoSeries { asked: asked.to_owned(), present }
    })
}

/// Where latencies are read: the highest rate all counts were offered, else 70 % of each one's peak.
fn common_load(ladder: &Ladder) -> Option<Load> {
    let load = ladder.steps.first()?.steady()?.load;
    let has_all = |load| ladder.steps.iter().all(|step| step.at(load).is_some());
    [load, Load::PercentOfPeak(70)].into_iter().find(|load| has_all(*load))
}

/// Why this count is out of the question.
fn obstacle(step: &Step, load: Option<Load>, limit_ms: Option<f64>) -> Option<String> {
    if step.peak_median().is_none() {
        return Some("it answered nothing at its peak".to_owned());
    }
    let errors = [Some(Load::Closed), load].into_iter().flatten().filter_map(|load| {
        let errors = step.spread(load, Metric::Errors)?.median;
        let told = || format!("{} errors at {}", number::of(Metric::Errors, errors), told(load));
        (errors > ERRORS_MAX_PERCENT).then(told)
    });
    errors.into_iter().next().or_else(|| too_slow(step, load, limit_ms?))
}

fn too_slow(step: &Step, load: Option<Load>, limit_ms: f64) -> Option<String> {
    let Some((load, p99)) = load.and_then(|load| Some((load, step.spread(load, Metric::P99)?)))
    else {
        return Some("its p99 was not measured at a given rate".to_owned());
    };
    let (p99, limit) = (p99.median, number::of(Metric::P99, limit_ms));
    (p99 > limit_ms).then(|| {
        let p99 = number::of(Metric::P99, p99);
        format!("p99 {p99} at {}, more than {limit}", told(load))
    })
}

/// What it reaches, against the best, and what the next one would bring and cost.
fn reasons(chosen: &Step, fitting: &[&Step], load: Option<Load>, report: &Report) -> Vec<String> {
    let peak = |step: &Step| step.peak_median().unwrap_or_default();
    let best = fitting.iter().map(|step| peak(step)).fold(0.0, f64::max);
    let latency = load.and_then(|load| {
        let p99 = chosen.spread(load, Metric::P99)?.median;
        Some(format!(", p99 {} at {}", number::of(Metric::P99, p99), told(load)))
    });
    let mut lines = vec![format!(
        "{}: {} requests/s, {:.0} % of the best{}.",
        chosen.label,
        number::short(peak(chosen)),
        peak(chosen) / best * 100.0,
        latency.unwrap_or_default()
    )];
    let smaller = fitting.iter().rev().find(|step| step.workers < chosen.workers);
    lines.extend(smaller.map(|step| {
        let (share, near) = (peak(step) / best * 100.0, NEAR_BEST * 100.0);
        format!("{} reaches {share:.0} % of the best, less than {near:.0} %.", step.label)
    }));
    let next = fitting.iter().find(|step| step.workers > chosen.workers);
    lines.push(match next {
        Some(next) => costs(chosen, next),
        None => {
            let cpus = report.card.machine.cpus;
            format!("More was not measured, or does not fit; the machine has {cpus} processors.")
        }
    });
    lines
}

fn costs(chosen: &Step, next: &Step) -> String {
    let gain = chosen
        .peak()
        .zip(next.peak())
        .and_then(|(base, new)| statistics::peaks(base, new).filter(|gain| gain.is_real));
    let brings = match gain {
        Some(gain) => format!("{} requests/s", number::change(&gain)),
        None => "no real difference in requests/s".to_owned(),
    };
    let memory = |step: &Step| Some(step.spread(Load::Closed, Metric::Memory)?.median);
    let memory = memory(chosen).zip(memory(next)).map(|(base, new)| {
        format!("{} instead of {}", number::of(Metric::Memory, new), number::short(base))
    });
    let connections = |step: &Step| step.runs().filter_map(|run| run.database_connections).max();
    let connections = connections(chosen)
        .zip(connections(next))
        .map(|(base, new)| format!("{new} database connections instead of {base}"));
    let costs: Vec<String> = [memory, connections].into_iter().flatten().collect();
    let costs =
        if costs.is_empty() { String::new() } else { format!(", for {}", costs.join(", ")) };
    format!("{} would bring {brings}{costs}.", next.label)
}

/// `20ms`, `1.5s`, or a number of milliseconds.
fn milliseconds(text: &str) -> Result<f64, String> {
    let text = text.trim();
    let (digits, factor) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(digits), _) => (digits, 1.0),
        (None, Some(digits)) => (digits, 1000.0),
        (None, None) => (text, 1.0),
    };
    let number: Option<f64> = digits.trim().parse().ok();
    let positive = number.filter(|number| number.is_finite() && *number > 0.0);
    positive.map(|number| number * factor).ok_or_else(|| "write it as 20ms or 1.5s".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::made;

    fn four() -> Report {
        made::ladder(&[(1, 2500.0), (2, 4700.0), (4, 4800.0), (8, 4500.0)])
    }

    fn said(report: &Report, p99: Option<f64>) -> (bool, Vec<String>) {
        recommend(report, None, p99).unwrap()
    }

    #[test]
    fn the_smallest_count_near_the_best_is_recommended_with_reasons() {
        assert_eq!(
            said(&four(), None),
            (
                true,
                vec![
                    "2 workers: 4,700 requests/s, 98 % of the best, p99 4.00 ms at 1,000/s."
                        .to_owned(),
                    "1 worker reaches 52 % of the best, less than 95 %.".to_owned(),
                    "4 workers would bring no real difference in requests/s, for 32.0 MiB instead \
                     of 20.0, 20 database connections instead of 10."
                        .to_owned(),
                ]
            )
        );
    }

    #[test]
    fn counts_whose_p99_is_too_long_are_out_and_said_to_be() {
        let (is_found, lines) = said(&four(), Some(3.0));
        assert!(is_found && lines[0].starts_with("4 workers: 4,800 requests/s, 100 % of the best"));
        assert_eq!(lines[2], "Not 1 worker: p99 8.00 ms at 1,000/s, more than 3.00 ms.");
    }

    #[test]
    fn when_none_fits_that_is_the_answer() {
        let (is_found, lines) = said(&four(), Some(0.5));
        assert!(!is_found);
        assert_eq!(lines[0], "No number of workers that was measured fits.");
        assert_eq!(lines.len(), 5);
    }

    #[test]
    fn where_others_had_the_processors_nothing_is_recommended() {
        let mut report = four();
        report.runs.iter_mut().for_each(|run| run.cpu.foreign = Some(0.4));
        let (is_found, lines) = said(&report, None);
        assert!(!is_found);
        let first = "Cannot be said: others used the processors in every round; seen was:";
        assert_eq!(lines[0], first);
        assert!(lines[1].starts_with("2 workers: 4,700 requests/s"), "{lines:?}");
    }

    #[test]
    fn warnings_of_the_report_follow_the_answer() {
        let mut report = four();
        report.warnings = vec!["Something was wrong.".to_owned()];
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        file::write(&path, &report).unwrap();
        let mut out = Vec::new();
        let options = Options { report: path, p99: None, series: None };
        assert!(run(&options, &mut out).unwrap());
        assert!(String::from_utf8(out).unwrap().ends_with("\nSomething was wrong.\n"));
    }

    #[test]
    fn a_count_that_loses_requests_is_not_recommended() {
        let mut report = four();
        for run in report.runs.iter_mut().filter(|run| run.workers == Some(2)) {
            run.traffic.errors.insert("reset".to_owned(), run.traffic.ok / 50);
        }
        let (_, lines) = said(&report, None);
        assert!(lines[0].starts_with("4 workers: "), "{lines:?}");
        assert!(lines.iter().any(|line| line == "Not 2 workers: 1.96 % errors at the peak."));
    }

    #[test]
    fn without_a_common_rate_the_latency_at_70_percent_counts() {
        let mut report = four();
        report.runs.retain(|run| !matches!(run.load, Load::Rate(_)));
        let (_, lines) = said(&report, Some(100.0));
        assert!(lines[0].ends_with("p99 4.00 ms at 70 % of its peak."), "{lines:?}");
        report.runs.retain(|run| run.load == Load::Closed);
        assert!(said(&report, None).0);
        assert!(!said(&report, Some(100.0)).0);
    }

    #[test]
    fn a_server_is_chosen_by_name() {
        let (a, b): (made::Peaks, made::Peaks) = (&[(1, 900.0), (2, 1800.0)], &[(4, 700.0)]);
        let report = made::report(vec![("a", a), ("b", b)]);
        let (_, lines) = recommend(&report, Some("b"), None).unwrap();
        assert!(lines[0].starts_with("b, 4 workers: 700 requests/s"), "{lines:?}");
        let error = recommend(&report, Some("c"), None).unwrap_err().to_string();
        assert_eq!(error, "the report has no server \"c\"; it has a, b");
    }

    #[test]
    fn a_report_without_counts_or_peaks_is_refused() {
        let mut report = four();
        report.runs.iter_mut().for_each(|run| run.workers = None);
        let error = recommend(&report, None, None).unwrap_err().to_string();
        assert!(error.contains("was running already"), "{error}");
        let mut report = four();
        report.runs.retain(|run| run.load != Load::Closed);
        assert!(recommend(&report, None, None).unwrap_err().to_string().contains("no peak"));
        assert!(recommend(&made::ladder(&[]), None, None).is_err());
    }

    #[test]
    fn limits_are_read_with_their_unit() {
        assert_eq!(milliseconds("20ms"), Ok(20.0));
        assert_eq!(milliseconds("1.5 s"), Ok(1500.0));
        assert_eq!(milliseconds("20"), Ok(20.0));
        for text in ["", "ms", "-1ms", "0", "NaN", "inf", "20m", "20 minutes"] {
            assert!(milliseconds(text).is_err(), "{text}");
        }
    }
}
