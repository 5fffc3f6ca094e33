//! The same, measured twice, is no difference.

use serde_json::Value;

use super::{Bench, empty};
use crate::harness::Turn;

/// `PEACE_TEST_LONG=1` measures as often as it takes to know how often `compare` is wrong.
fn is_long() -> bool {
    std::env::var_os("PEACE_TEST_LONG").is_some_and(|value| value == "1")
}

#[test]
fn a_peak_that_is_measured_twice_has_no_difference_nine_times_of_ten() {
    check(&[]);
}

#[test]
fn an_offered_rate_that_is_measured_twice_has_no_difference_nine_times_of_ten() {
    check(&["--rate", "1500"]);
}

/// Measures the same again and again, and compares each with the one before.
fn check(load: &[&str]) {
    let turn = Turn::alone();
    let database = empty(&turn);
    let bench = Bench::new();
    let (measurements, rounds, duration) =
        if is_long() { (11, "3", "1500ms") } else { (2, "2", "300ms") };
    let url = database.url();
    let words = ["run", "--quick", "--workers", "2", "--database-url", &url, "--rounds", rounds];
    for number in 0..measurements {
        let out = number.to_string();
        let more = ["--duration", duration, "--out", &out];
        let output = bench.run(words.into_iter().chain(more).chain(load.iter().copied()));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let pairs: Vec<(u32, u32)> = (1..measurements).map(|number| (number - 1, number)).collect();
    let verdicts = pairs.iter().map(|(base, new)| verdict(&bench, *base, *new));
    let verdicts: Vec<String> = verdicts.inspect(|verdict| eprintln!("{verdict}")).collect();
    let alike = verdicts.iter().filter(|verdict| verdict.starts_with("No real difference"));
    let alike = alike.count();
    // Two short ones prove no more than that they can be compared.
    assert!(!is_long() || alike >= 9, "{alike} of {} pairs", pairs.len());
}

fn verdict(bench: &Bench, base: u32, new: u32) -> String {
    let [base, new] = [base, new].map(|number| format!("{number}/report.json"));
    let output = bench.run(["compare", &base, &new, "--format", "json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let compared: Value = serde_json::from_slice(&output.stdout).unwrap();
    compared[0]["verdict"].as_str().unwrap().to_owned()
}
