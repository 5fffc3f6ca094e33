//! `peace-supervisor top` without a terminal: one frame, from either source, and what it refuses.

use std::time::Duration;

use serde_json::Value;

use crate::harness::{Database, Launch, Turn, get};

const PROGRAM: &str = env!("CARGO_BIN_EXE_peace-supervisor");

#[test]
fn one_frame_is_the_same_from_the_supervisor_and_from_the_admin_process() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let launch = Launch::on(&turn, &database).workers(2);
    let peace = launch.args(["--admin-bind", "127.0.0.1:0"]).serve();
    for _ in 0..20 {
        assert_eq!(peace.ask(&get("/health/live")).status, 200);
    }
    let admin = peace.admin_address().to_string();
    for source in [&["--interval", "100ms"][..], &["--interval", "100ms", "--admin", &admin]] {
        let once =
            |form| peace.beside(PROGRAM, ["top", form].into_iter().chain(source.iter().copied()));
        let told = once("--json");
        assert!(told.status.success(), "{told:?}");
        let told: Value = serde_json::from_slice(&told.stdout).unwrap();
        assert_eq!((told["target"].as_u64(), told["ready"].as_u64()), (Some(2), Some(2)), "{told}");
        for worker in told["workers"].as_array().unwrap() {
            assert_eq!(worker["state"], "ready");
            for number in ["requests_per_s", "cpu_percent", "loop_lag_ms", "rss_bytes", "pid"] {
                assert!(worker[number].is_number(), "{number}: {worker}");
            }
        }
        let shown = String::from_utf8(once("--once").stdout).unwrap();
        assert!(shown.contains("2 of 2 ready") && shown.lines().count() == 6, "{shown}");
    }
}

#[test]
fn durations_of_a_worker_are_told_with_its_status() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(1).serve();
    for _ in 0..7 {
        assert_eq!(peace.ask(&get("/health/live")).status, 200);
    }
    let status: Value = serde_json::from_slice(&peace.ctl(["status", "--json"]).stdout).unwrap();
    let worker = &status["workers"][0];
    let durations = worker["durations"].as_array().unwrap();
    // Counts, and behind them the sum in nanoseconds.
    let counts = durations.iter().rev().skip(1).map(|count| count.as_u64().unwrap());
    assert_eq!(counts.sum::<u64>(), worker["requests"].as_u64().unwrap(), "{worker}");
    assert!(worker["requests"].as_u64().unwrap() >= 7 && worker["cpu_s"].is_number(), "{worker}");
}

#[test]
fn what_cannot_be_shown_is_one_line_with_its_exit_code() {
    let turn = Turn::shared();
    for (args, code, line) in [
        (&["top"][..], 64, "top needs a terminal; give --once for one frame as text"),
        (&["top", "--once", "--control", "nobody"], 69, "no supervisor answers at nobody"),
        (&["top", "--once", "--admin", "127.0.0.1:1"], 69, "no status from 127.0.0.1:1"),
        (&["top", "--admin", "here"], 64, "--admin: "),
        (&["top", "--interval", "1ms"], 64, "--interval: "),
    ] {
        let ended = Launch::bare(&turn).args(args.iter().copied()).run(Duration::from_secs(10));
        assert_eq!(ended.code, Some(code), "{args:?}: {ended:?}");
        let expected = format!("peace-supervisor: {line}");
        assert!(ended.lines.len() == 1 && ended.lines[0].starts_with(&expected), "{ended:?}");
    }
}
