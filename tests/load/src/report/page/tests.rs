//! The page of made-up reports: it is whole, says what it leaves out, and lets nothing escape.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::report::fixture::{Fixture, HOSTILE, USUAL};
use crate::report::latency::Durations;

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

fn report(fixture: &Fixture) -> Report {
    serde_json::from_value(fixture.report(&encode)).unwrap()
}

fn page(fixture: &Fixture) -> String {
    render(&report(fixture), &VERDICT.map(str::to_owned))
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

#[test]
fn spit() {
    let out = Path::new("/tmp/page-out");
    fs::create_dir_all(out).unwrap();
    for (name, fixture) in kinds() {
        fs::write(out.join(format!("{name}.html")), page(&fixture)).unwrap();
    }
}
