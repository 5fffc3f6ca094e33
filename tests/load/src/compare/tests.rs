//! Comparisons of small reports that are made by hand.

use std::path::Path;

use super::*;
use crate::report::made;
use crate::report::summary::{Load, Metric};

fn threshold(text: &str) -> Threshold {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn compared(base: &Report, new: &Report, thresholds: &[&str]) -> Comparison {
    let thresholds: Vec<Threshold> = thresholds.iter().map(|text| threshold(text)).collect();
    compare(("a.json", base), ("b.json", new), &thresholds).unwrap()
}

fn slower() -> Report {
    let mut report = made::ladder(&[(1, 2500.0), (2, 4750.0)]);
    for run in report.runs.iter_mut().filter(|run| run.load != Load::Closed) {
        run.traffic.latency.p99_ms *= 1.6;
    }
    report
}

fn base() -> Report {
    made::ladder(&[(1, 2500.0), (2, 4750.0)])
}

fn files(reports: &[&Report]) -> (tempfile::TempDir, Vec<PathBuf>) {
    let folder = tempfile::tempdir().unwrap();
    let paths = reports.iter().enumerate().map(|(index, report)| {
        let path = folder.path().join(format!("{index}.json"));
        file::write(&path, report).unwrap();
        path
    });
    let paths = paths.collect();
    (folder, paths)
}

fn told(reports: Vec<PathBuf>, fail_if: &[&str], format: Format) -> (bool, String) {
    let fail_if = fail_if.iter().map(|text| threshold(text)).collect();
    let mut out = Vec::new();
    let holds = run(&Options { reports, fail_if, strict: false, format }, &mut out).unwrap();
    (holds, String::from_utf8(out).unwrap())
}

#[test]
fn the_same_thing_shows_no_real_difference_in_any_metric() {
    let comparison = compared(&base(), &base(), &["p99>+10%", "rps<-5%", "errors>0%"]);
    assert_eq!(comparison.verdict(), "No real difference in 48 comparisons.");
    assert_eq!(comparison.notes, [""; 0]);
    assert!(comparison.findings.iter().all(|finding| finding.holds(false)));
}

#[test]
fn what_is_worse_is_named_and_fails_its_threshold_only() {
    let comparison = compared(&base(), &slower(), &["p99>+10%", "rps<-5%", "p50>+10%"]);
    let verdict = comparison.verdict();
    assert!(verdict.starts_with("Of 48, 8 worse, most of all p99 of "), "{verdict}");
    assert!(verdict.ends_with(" (+60 %); none better."), "{verdict}");
    let holds: Vec<bool> = comparison.findings.iter().map(|finding| finding.holds(false)).collect();
    assert_eq!(holds, [false, true, true]);
    assert_eq!(comparison.findings[0].failures.len(), 8);
}

#[test]
fn a_change_that_is_noise_fails_no_threshold() {
    let mut new = base();
    for run in new.runs.iter_mut() {
        run.traffic.latency.p99_ms *= [0.7, 1.2, 2.2][run.round as usize];
    }
    let comparison = compared(&base(), &new, &["p99>+10%"]);
    assert!(comparison.findings[0].holds(false), "{:?}", comparison.findings);
}

#[test]
fn a_value_is_the_new_ones_alone_and_a_load_can_be_chosen() {
    let comparison = compared(
        &base(),
        &slower(),
        &["p99>12ms", "p99@closed>12ms", "p99@70%>0.01s", "p99@rate<1ms", "rps<5000", "max<1"],
    );
    let holds: Vec<bool> = comparison.findings.iter().map(|finding| finding.holds(false)).collect();
    assert_eq!(holds, [false, true, false, true, false, true]);
}

#[test]
fn a_threshold_that_cannot_be_checked_does_not_hold() {
    let mut new = base();
    for run in &mut new.runs {
        run.traffic.errors.insert("refused".to_owned(), run.traffic.ok);
        (run.traffic.ok, run.memory) = (0, None);
    }
    let texts = ["p99<1ms", "p99>+10%", "rps<-5%", "memory>+5%", "errors>+1%", "p99@60%>1ms"];
    let comparison = compared(&base(), &new, &texts);
    for finding in &comparison.findings {
        assert!(!finding.holds(false), "{finding:?}");
    }
    assert!(
        comparison.verdict().contains(" worse, most of all requests/s of "),
        "{}",
        comparison.verdict()
    );
    assert!(comparison.errors[1] > 0 && comparison.errors[0] == 0);
}

#[test]
fn rates_that_differ_are_not_compared_and_the_way_out_is_told() {
    let mut new = base();
    for run in new.runs.iter_mut().filter(|run| matches!(run.load, Load::Rate(_))) {
        (run.load, run.offered) = (Load::Rate(1200), Some(1200.0));
    }
    let comparison = compared(&base(), &new, &[]);
    assert_eq!(
        comparison.notes,
        ["2 loads were not compared, because the rates differ (1 worker at 1,000/s: 1,000/s, \
          then 1,200/s); give both runs the same --rate."]
    );
    assert!(!comparison.rows.iter().any(|row| matches!(row.load, Load::Rate(_))));
    for run in new.runs.iter_mut().filter(|run| matches!(run.load, Load::Rate(_))) {
        (run.load, run.offered) = (Load::Rate(1009), Some(1009.0));
    }
    assert_eq!(compared(&base(), &new, &[]).notes, [""; 0]);
}

#[test]
fn peaks_that_differ_make_their_percentages_other_rates() {
    let new = made::ladder(&[(1, 3000.0), (2, 4750.0)]);
    let comparison = compared(&base(), &new, &["p99@70%>+10%"]);
    assert_eq!(
        comparison.notes,
        ["3 loads were not compared, because the rates differ (1 worker at 50 % of its peak: \
          1,250/s, then 1,500/s); give both runs the same --rate."]
    );
    assert!(comparison.findings[0].holds(false));
    let near = made::ladder(&[(1, 2600.0), (2, 4750.0)]);
    assert_eq!(compared(&base(), &near, &[]).notes, [""; 0]);
}

#[test]
fn rounds_in_which_others_had_the_machine_are_left_out() {
    let mut new = base();
    for run in new.runs.iter_mut().filter(|run| run.round == 1) {
        run.cpu.foreign = Some(0.4);
        run.traffic.ok /= 2;
    }
    let comparison = compared(&base(), &new, &["rps<-5%"]);
    assert_eq!(comparison.verdict(), "No real difference in 48 comparisons.");
    assert!(comparison.notes[0].starts_with("10 of 60 phases were left out, because "));
    assert!(comparison.findings[0].holds(false));
}

#[test]
fn where_others_always_had_the_machine_nothing_is_said_and_no_change_passes() {
    let mut new = slower();
    new.runs.iter_mut().for_each(|run| run.cpu.stolen = 0.2);
    let comparison = compared(&base(), &new, &["p99>+10%", "p99>1s"]);
    let verdict = comparison.verdict();
    assert_eq!(verdict, "Nothing can be said: no measurement could be judged.");
    assert!(comparison.rows.iter().all(|row| row.change() == "not judged: disturbed"));
    let holds: Vec<bool> = comparison.findings.iter().map(|finding| finding.holds(false)).collect();
    assert_eq!(holds, [false, true]);
}

#[test]
fn what_only_one_of_them_measured_is_told() {
    let new = made::ladder(&[(2, 4750.0), (4, 4800.0)]);
    let comparison = compared(&base(), &new, &[]);
    assert_eq!(comparison.notes.len(), 5 + 5, "{:?}", comparison.notes);
    assert!(comparison.notes.contains(&"Only the base has: 1 worker at the peak.".to_owned()));
    let other = made::ladder(&[(8, 4750.0)]);
    let error = compare(("a.json", &base()), ("b.json", &other), &[]).unwrap_err().to_string();
    assert!(error.starts_with("a.json and b.json measured nothing in common; "), "{error}");
}

#[test]
fn circumstances_that_differ_are_told() {
    let mut new = base();
    new.card.connections = 128;
    new.card.commit = None;
    new.card.scenario.text.push('#');
    new.card.machine.cpu = "Another processor".to_owned();
    new.card.machine.postgres_settings.clear();
    assert_eq!(
        compared(&base(), &new, &[]).notes,
        [
            "Connections differ: 64, then 128.",
            "Commit: 0123abc, then unknown.",
            "The processor differs: A processor, then Another processor.",
            "PostgreSQL's shared_buffers differs: 128MB, then unknown.",
            "The file of the scenario reads has changed.",
        ]
    );
}

#[test]
fn servers_are_matched_by_name_and_a_single_one_whatever_its_name() {
    let (a, b): (made::Peaks, made::Peaks) = (&[(2, 4000.0)], &[(2, 1000.0)]);
    let base = made::report(vec![("a", a), ("b", b)]);
    let turned = made::report(vec![("b", b), ("a", a)]);
    assert!(compared(&base, &turned, &[]).verdict().starts_with("No real difference in 48 "));
    let (old, new) = (made::report(vec![("old", a)]), made::report(vec![("new", a)]));
    assert!(compared(&old, &new, &[]).verdict().starts_with("No real difference in 24 "));
}

#[test]
fn every_format_tells_the_verdict_and_the_exit_is_the_same() {
    let (_folder, paths) = files(&[&base(), &slower()]);
    for format in [Format::Text, Format::Markdown, Format::Json] {
        let (holds, text) = told(paths.clone(), &["p99>+10%"], format);
        assert!(!holds && text.contains("Of 48, 8 worse, most of all p99 of "), "{text}");
        assert!(told(paths.clone(), &["p99>+90%"], format).0);
    }
}

#[test]
fn each_report_is_compared_with_the_first() {
    let (_folder, paths) = files(&[&base(), &base(), &slower()]);
    let (holds, text) = told(paths, &["p99>+10%"], Format::Json);
    let all: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(!holds);
    assert_eq!(all[0]["thresholds"][0]["status"], "not shown");
    assert_eq!(all[1]["thresholds"][0]["status"], "failed");
    assert!(all[1]["base"].as_str().unwrap().ends_with("/0.json"));
    let p99 = all[1]["rows"].as_array().unwrap().iter().find(|row| row["metric"] == "p99").unwrap();
    assert_eq!((&p99["unit"], &p99["is_worse"]), (&"ms".into(), &true.into()));
}

#[test]
fn markdown_shows_what_is_real_and_folds_the_rest() {
    let (_folder, paths) = files(&[&base(), &slower()]);
    let (_, text) = told(paths, &[], Format::Markdown);
    let (open, folded) = text.split_once("<details>").unwrap();
    assert_eq!(open.matches("| p99 |").count(), 8, "{text}");
    assert_eq!(open.matches("| p50 |").count(), 0, "{text}");
    assert_eq!(folded.matches("| p50 |").count(), 8, "{text}");
    assert!(folded.trim_end().ends_with("</details>"));
}

#[test]
fn markdown_of_a_hostile_name_is_no_markup() {
    let name = "<img src=x>|@everyone `";
    let base = made::report(vec![(name, &[(2, 4000.0)][..]), ("b", &[(2, 4000.0)][..])]);
    let comparison = compare((name, &base), (name, &base), &[]).unwrap();
    let text = markdown::markdown(&[comparison]);
    assert!(!text.contains("<img") && !text.contains(" |@") && text.contains("\\|\\@everyone"));
}

#[test]
fn thresholds_are_read_as_people_write_them() {
    for text in [
        "p99>+10%",
        "P99 > +10%",
        "p99.9>50ms",
        "p999>50 ms",
        "max>1.5s",
        "p50>500us",
        "requests/s<5000",
        "requests/s<5000/s",
        "rps<-5%",
        "throughput<-5%",
        "server CPU>+10%",
        "cpu>150µs",
        "PostgreSQL CPU>+10%",
        "pg-cpu>+10%",
        "memory>200MiB",
        "errors>0.5%",
        "errors>0",
        "errors>+0.5%",
        "p99@closed>+10%",
        "p99@rate>+10%",
        "p99@70%>+10%",
    ] {
        threshold(text);
    }
    assert_eq!(threshold(" p99 > +10% ").to_string(), " p99 > +10% ");
}

#[test]
fn a_bad_threshold_is_told_in_one_line_with_an_example() {
    for (text, why) in [
        ("", "there is no < or >"),
        ("p99", "there is no < or >"),
        ("p99=5ms", "there is no < or >"),
        (
            "p98>5ms",
            "the metric \"p98\" is none of requests/s, p50, p90, p99, p99.9, max, errors, unsent",
        ),
        (">5ms", "the metric \"\" is none of"),
        ("p99>", "the value \"\" does not begin with a number"),
        ("p99>=5ms", "the value \"=5ms\" does not begin with a number"),
        ("p99>NaN", "the value \"NaN\" does not begin with a number"),
        ("p99>inf", "the value \"inf\" does not begin with a number"),
        ("p99>10%", "\"10%\" needs a sign: +10% or -10%"),
        ("p99>+10ms", "the change \"+10ms\" is not in percent"),
        ("p99>5MiB", "p99 is not counted in \"MiB\""),
        ("p99>-5%", "a change is > with + or < with -, not >-5%"),
        ("rps<+5%", "a change is > with + or < with -, not <+5%"),
        ("p99@peak>5ms", "the load \"peak\" is none of closed, rate, 50%, 70%, 90%"),
    ] {
        let error = text.parse::<Threshold>().unwrap_err();
        assert!(error.starts_with(why), "{text}: {error}");
        assert!(
            error.ends_with("; write it as 'p99>+10%', 'rps<-5%', 'errors>0.1%' or 'p99@70%>20ms'")
        );
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn a_file_that_is_no_report_ends_the_comparison() {
    let (_folder, mut paths) = files(&[&base()]);
    paths.push(Path::new("/nowhere/b.json").to_owned());
    let options =
        Options { reports: paths, fail_if: Vec::new(), strict: false, format: Format::Text };
    let error = run(&options, &mut Vec::new()).unwrap_err().to_string();
    assert!(error.starts_with("/nowhere/b.json: cannot be read: "), "{error}");
}

#[test]
fn a_report_of_closed_loops_alone_tells_their_latencies() {
    let mut report = base();
    report.runs.retain(|run| run.load == Load::Closed);
    let comparison = compared(&report, &report, &["p99>+10%"]);
    assert!(comparison.rows.iter().any(|row| row.metric == Metric::P99 && row.is_told));
    assert!(comparison.findings[0].holds(false));
}

#[test]
fn what_the_noise_may_hide_is_not_passed_and_strictly_does_not_hold() {
    let mut new = base();
    for run in new.runs.iter_mut() {
        run.traffic.latency.p99_ms *= [0.7, 1.2, 1.6][run.round as usize];
    }
    let comparison = compared(&base(), &new, &["p99>+25%", "p99>+900%", "p99>1s", "rps<-90%"]);
    let statuses: Vec<&str> = comparison.findings.iter().map(|f| f.status().told()).collect();
    assert_eq!(statuses, ["not shown", "passed", "passed", "passed"]);
    let finding = &comparison.findings[0];
    assert!(finding.holds(false) && !finding.holds(true));
    let hidden = finding.hidden.as_deref().unwrap();
    assert!(hidden.starts_with("the noise hides up to +"), "{hidden}");
    let said = format!("not shown: --fail-if p99>+25%: {hidden}");
    let (_folder, paths) = files(&[&base(), &new]);
    assert!(told(paths.clone(), &["p99>+25%"], Format::Text).1.contains(&said));
    let escaped = said.replace('>', "&gt;");
    assert!(told(paths.clone(), &["p99>+25%"], Format::Markdown).1.contains(&escaped));
    let json = told(paths.clone(), &["p99>+25%"], Format::Json).1;
    assert!(json.contains("\"status\":\"not shown\"") && json.contains(hidden), "{json}");
    let fail_if = vec![threshold("p99>+25%")];
    let options = Options { reports: paths, fail_if, strict: true, format: Format::Text };
    assert!(!run(&options, &mut Vec::new()).unwrap());
}

#[test]
fn a_lower_limit_is_hidden_by_the_lower_end() {
    let comparison = compared(&base(), &base(), &["rps<-5%", "rps<-60%"]);
    let hidden: Vec<Option<&str>> =
        comparison.findings.iter().map(|finding| finding.hidden.as_deref()).collect();
    assert!(hidden[0].is_some_and(|hidden| hidden.contains("up to -")), "{hidden:?}");
    assert_eq!(hidden[1], None);
}

#[test]
fn a_threshold_that_a_missing_count_keeps_from_being_checked_is_not_passed() {
    let mut new = base();
    let gone = new.runs.iter().filter_map(|run| run.workers).max();
    new.runs.retain(|run| run.workers != gone);
    let comparison = compared(&base(), &new, &["p99>+900%", "rps<-90%", "p99@closed>+900%"]);
    for finding in &comparison.findings {
        let hidden = finding.hidden.as_deref().unwrap();
        assert!(hidden.starts_with("the new report has nothing to compare with"), "{hidden}");
        assert!(finding.holds(false) && !finding.holds(true));
    }
}

#[test]
fn requests_that_were_never_sent_are_told_and_can_fail() {
    let mut new = base();
    for run in new.runs.iter_mut().filter(|run| matches!(run.load, Load::Rate(_))) {
        run.traffic.unsent = run.traffic.ok / 4;
    }
    let thresholds = ["unsent>0", "unsent>30%", "unsent>+5%", "unsent@closed>0"];
    let comparison = compared(&base(), &new, &thresholds);
    let holds: Vec<bool> = comparison.findings.iter().map(|finding| finding.holds(false)).collect();
    // Without a schedule nothing is due, so that cannot be checked.
    assert_eq!(holds, [false, true, false, false]);
    let said = text::tell(&comparison);
    assert_eq!(said, "Errors in all phases: 0, then 0; requests never sent: 0, then 15,000.");
    let quiet = compared(&base(), &base(), &["unsent>0"]);
    assert!(quiet.findings[0].holds(true));
    assert_eq!(text::tell(&quiet), "Errors in all phases: 0, then 0.");
}

#[test]
fn a_report_of_an_interrupted_run_is_told() {
    let mut new = base();
    new.runs.retain(|run| run.round == 0 || run.round == 1 && run.workers == Some(1));
    let notes = compared(&base(), &new, &[]).notes;
    let all = "The new one was interrupted: all loads have fewer than its 3 rounds.";
    assert_eq!(notes, [all]);
    new.card.rounds = 2;
    let notes = compared(&base(), &new, &[]).notes;
    let some = "The new one was interrupted: 5 of 10 loads have fewer than its 2 rounds.";
    assert_eq!(notes, ["Rounds differ: 3, then 2.", some]);
}
