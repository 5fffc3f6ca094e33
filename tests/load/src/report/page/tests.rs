//! The page of made-up reports: it is whole, says what it leaves out, and lets nothing escape.

use std::time::Duration;

use super::card::QUICK;
use super::*;
use crate::report::fixture::{Fixture, HOSTILE, USUAL};
use crate::report::latency::Durations;
use crate::report::model::Run;
use crate::report::summary::{Load, Point};
use crate::report::{made, statistics, verdict};

const VERDICT: [&str; 3] = [
    "2 workers: 1.89 × of 1, p99 −38 %, 0 errors.",
    "More than 2 bring no real difference on 2 processors.",
    "The generator used a fifth of a processor and was not the bottleneck.",
];

fn encode(samples: &[f64]) -> String {
    let mut durations = Durations::new().unwrap();
    samples.iter().for_each(|ms| durations.record(Duration::from_secs_f64(ms / 1e3)));
    durations.told().unwrap().histogram
}

fn page(fixture: &Fixture) -> String {
    render(&report(fixture), &VERDICT.map(str::to_owned))
}

/// Quicker: without histograms.
fn report(fixture: &Fixture) -> Report {
    serde_json::from_value(fixture.report(&|_| String::new())).unwrap()
}

/// All kinds of reports, by name.
fn kinds() -> Vec<(&'static str, Fixture)> {
    vec![
        ("usual", USUAL),
        ("four", Fixture { counts: &[Some(1), Some(2), Some(4), Some(8)], rounds: 3, ..USUAL }),
        ("twice", Fixture { series: &["peace", "peace"], counts: &[Some(2)], ..USUAL }),
        ("single", Fixture { counts: &[Some(2)], rounds: 1, is_quick: true, ..USUAL }),
        (
            "two",
            Fixture {
                series: &["peace", "FastAPI + SQLAlchemy + asyncpg"],
                has_events: true,
                failing: 0.002,
                ..USUAL
            },
        ),
        (
            "three",
            Fixture {
                series: &["peace", "other", HOSTILE],
                counts: &[Some(1), Some(2), Some(4), Some(8)],
                rounds: 20,
                ..USUAL
            },
        ),
        ("given", Fixture { counts: &[None], sees_inside: false, ..USUAL }),
        ("failed", Fixture { failing: 2.0, windows: 10, ..USUAL }),
        ("errors", Fixture { failing: 0.4, has_events: true, rounds: 1, ..USUAL }),
        ("blind", Fixture { sees_inside: false, windows: 0, ..USUAL }),
    ]
}

/// How often a text stands in another.
fn times(page: &str, text: &str) -> usize {
    page.matches(text).count()
}

#[test]
fn every_chart_of_the_usual_report_is_drawn_and_has_its_numbers() {
    let page = page(&USUAL);
    // Throughput, percentiles, two knees, errors, three courses, balance, two of processors, memory.
    assert_eq!((times(&page, "<figure"), times(&page, "</figure>")), (12, 12));
    assert_eq!(times(&page, "class=\"left-out\""), 0);
    // Each is drawn for a wide and a narrow place; a course has two pictures.
    assert_eq!(times(&page, "<svg role=\"img\""), 2 * (12 + 3));
    assert_eq!(times(&page, "<summary>Numbers</summary>"), 12);
    for text in VERDICT {
        assert_eq!(times(&page, text), 1, "{text}");
    }
}

#[test]
fn what_cannot_be_drawn_is_left_out_with_a_reason_and_never_empty() {
    let nothing = Fixture { failing: 2.0, windows: 0, sees_inside: false, ..USUAL };
    let page = page(&nothing);
    for reason in [
        "No request was answered in the closed loop.",
        "No request was answered.",
        "Nothing was answered at an offered rate",
        "No phase was recorded window after window.",
        "There was one worker, or the server does not tell which worker answered.",
        "The server&#39;s processes could not be seen.",
    ] {
        assert!(page.contains(reason), "{reason}");
    }
    // How many requests failed, and who used the processors, is known all the same.
    assert_eq!(times(&page, "<figure"), 2);
}

#[test]
fn any_report_becomes_a_page_without_a_number_that_is_none() {
    for (name, fixture) in kinds() {
        let page = page(&fixture);
        for bad in ["NaN", ">inf", "\"inf", "-inf", "None", "Some("] {
            assert!(!page.contains(bad), "{name} has {bad}");
        }
    }
}

#[test]
fn what_comes_from_outside_cannot_become_markup() {
    let mut report = report(&Fixture { series: &[HOSTILE], has_events: true, ..USUAL });
    report.warnings = vec![HOSTILE.to_owned()];
    report.card.scenario.name = HOSTILE.to_owned();
    report.card.machine.cpu = HOSTILE.to_owned();
    for run in &mut report.runs {
        run.traffic.errors = [(HOSTILE.to_owned(), 3)].into();
        run.events.iter_mut().for_each(|event| event.text = HOSTILE.to_owned());
    }
    let page = render(&report, &[HOSTILE.to_owned()]);
    assert!(!page.contains("<img") && !page.contains("onerror=alert(1)>"), "it got through");
    assert!(times(&page, "&lt;img src=x onerror=alert(1)&gt;&amp;&quot;&#39;") > 20);
}

#[test]
fn the_page_asks_for_nothing_and_runs_nothing() {
    let page = page(&USUAL);
    assert!(page.contains(&POLICY.replace('\'', "&#39;")));
    for bad in ["<script", "http://", "https://", "url(", "@import", "src=\"", " on"] {
        let tags = page.split('<').filter_map(|tag| tag.split('>').next());
        let found: Vec<&str> = tags.filter(|tag| tag.contains(bad)).collect();
        assert!(found.is_empty(), "{bad}: {found:?}");
    }
    assert!(!STYLE.contains("url(") && !STYLE.contains("@import") && !STYLE.contains('<'));
}

#[test]
fn a_short_measurement_says_so_on_top() {
    let quick = page(&Fixture { is_quick: true, ..USUAL });
    let place = |text| quick.find(text);
    assert!(place(QUICK).is_some() && place(QUICK) < place(VERDICT[0]));
    assert!(!page(&USUAL).contains(QUICK));
}

#[test]
fn two_servers_of_the_same_name_stay_two() {
    let page = page(&Fixture { series: &["peace", "peace"], counts: &[Some(2)], ..USUAL });
    let (_, table) = page.split_once("Requests per second in the closed loop</caption>").unwrap();
    let (table, _) = table.split_once("</table>").unwrap();
    assert_eq!(times(table, "<th scope=\"row\">peace, 2 workers</th>"), 2, "{table}");
}

#[test]
fn the_line_of_percentiles_follows_the_histograms_and_needs_none() {
    let path = |page: &str| {
        let (_, chart) = page.split_once("Latency percentiles").unwrap();
        let (_, path) = chart.split_once("class=\"look curve\" d=\"").unwrap();
        times(path.split_once('"').unwrap().0, "L")
    };
    assert_eq!(path(&page(&USUAL)), 3, "from p50 over p90 and p99 to p99.9");
    let whole: Report = serde_json::from_value(USUAL.report(&encode)).unwrap();
    assert_eq!(path(&render(&whole, &[])), 36);
}

#[test]
fn the_factor_of_the_picture_is_that_of_the_verdict() {
    let mut report = made::ladder(&[(1, 2500.0), (2, 4000.0)]);
    // Medians 2,500 and 4,000; round by round the second is 1.6, 3.2 and 1.6 times the first.
    let slow = |run: &&mut Run| run.round == 1 && run.workers == Some(1);
    report.runs.iter_mut().filter(slow).for_each(|run| run.traffic.ok /= 2);
    let verdict = verdict::verdict(&report);
    let page = render(&report, &verdict);
    let change = {
        let points = report.points();
        let peak = |workers| {
            let is_peak = |p: &&Point<'_>| p.workers == Some(workers) && p.load == Load::Closed;
            points.iter().find(is_peak).unwrap()
        };
        statistics::peaks(peak(1), peak(2)).unwrap().change
    };
    assert!((change - 2.016).abs() < 0.01, "{change}");
    assert!(page.contains(">2.0 ×<") && !page.contains("1.60 ×") && !page.contains("1.6 ×"));
}

#[test]
fn requests_that_were_never_sent_are_no_errors_and_not_hidden() {
    let mut report = made::ladder(&[(1, 2500.0)]);
    report.runs[4].traffic.unsent = 6469;
    let page = render(&report, &[]);
    assert!(page.contains("<h3>No errors, 6,469 requests never sent</h3>"));
    assert!(page.contains(" · 6,469 never sent<") && page.contains("class=\"piece unsent\""));
    assert!(!page.contains("class=\"piece e0\""));
}

#[test]
fn why_there_is_no_balance_is_told_truly() {
    let mut report = made::ladder(&[(2, 2500.0)]);
    let closed = |run: &&mut Run| run.load == Load::Closed;
    report.runs.iter_mut().filter(closed).for_each(|run| run.share = None);
    assert!(render(&report, &[]).contains("Workers were replaced meanwhile"));
    report.runs.iter_mut().for_each(|run| run.share = None);
    assert!(render(&report, &[]).contains("the server does not tell which worker answered"));
}

#[test]
fn one_offered_rate_is_no_curve_and_what_is_left_out_stands_in_one_place() {
    let mut report = made::ladder(&[(1, 2500.0), (2, 4000.0)]);
    report.runs.retain(|run| matches!(run.load, Load::Rate(_)));
    let page = render(&report, &[]);
    assert!(page.contains("One rate was offered") && !page.contains("offered rate, p50"));
    let (_, speed) = page.split_once("<h2>Speed</h2>").unwrap();
    let (speed, _) = speed.split_once("<h2>").unwrap();
    assert_eq!((times(speed, "<figure"), times(speed, "class=\"left-out\"")), (1, 1));
    assert_eq!(times(speed, "<h3>"), 3, "{speed}");
}
