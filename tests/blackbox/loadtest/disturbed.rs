//! Workers killed and settings read again under load: the report says when, and what it cost.

use serde_json::{Value, json};

use super::{Bench, answered, empty, errors, runs};
use crate::harness::Turn;

fn events<'a>(run: &'a Value, kind: &str) -> Vec<&'a Value> {
    let events = run["events"].as_array().unwrap();
    events.iter().filter(|event| event["kind"] == kind).collect()
}

#[test]
fn kills_and_reloads_are_on_the_time_line_and_their_losses_counted() {
    let turn = Turn::shared();
    let database = empty(&turn);
    let words = ["--workers", "2", "--rounds", "1", "--rate", "300", "--connections", "16"];
    let more = ["--kill-worker-every", "1s", "--reload-every", "1500ms"];
    let report = Bench::new().report(&database, "3s", words.into_iter().chain(more));
    let [run] = runs(&report, &json!({ "rate": 300 }))[..] else { panic!("{report}") };
    let (kills, reloads) = (events(run, "kill"), events(run, "reload"));
    assert_eq!((kills.len(), reloads.len()), (2, 1), "{}", run["events"]);
    for (event, at_s) in kills.iter().zip([1.0, 2.0]).chain(reloads.iter().zip([1.5])) {
        assert!((event["at_s"].as_f64().unwrap() - at_s).abs() < 0.5, "{event}");
    }
    // Whatever was offered was answered, failed, or was never sent; nothing is missing.
    let unsent = run["traffic"]["unsent"].as_u64().unwrap();
    assert_eq!(answered(run) + errors(run) + unsent, 900, "{}", run["traffic"]["errors"]);
    // A killed worker takes with it what it was answering, at most one request of each connection.
    assert!(errors(run) <= 2 * 16, "{}", run["traffic"]["errors"]);
    let kinds = run["traffic"]["errors"].as_object().unwrap().keys();
    assert!(kinds.clone().all(|kind| kind == "closed" || kind == "reset"), "{kinds:?}");
    assert_eq!(report["card"]["events"].as_array().unwrap().len(), 2);
    assert!(run["share"].is_null(), "who answered what is not known of workers that are gone");
}

/// Who has answered what is known, until a worker is replaced: so this shows that one was.
#[test]
fn a_kill_is_a_kill_and_a_reload_a_reload() {
    let turn = Turn::shared();
    let database = empty(&turn);
    for event in [None, Some("--kill-worker-every"), Some("--reload-every")] {
        let words = ["--workers", "2", "--rounds", "1", "--rate", "50"].into_iter();
        let words = words.chain(event.into_iter().flat_map(|event| [event, "400ms"]));
        let report = Bench::new().report(&database, "1s", words);
        let share = &report["runs"][0]["share"];
        assert_eq!(share.is_null(), event.is_some(), "{event:?}: {share}");
    }
}

#[test]
fn workers_come_and_go_when_they_are_told_to() {
    let turn = Turn::shared();
    let database = empty(&turn);
    let words = ["--workers", "1", "--rounds", "1", "--rate", "100"];
    let report =
        Bench::new().report(&database, "2s", words.into_iter().chain(["--scale", "3@500ms"]));
    let [run] = runs(&report, &json!({ "rate": 100 }))[..] else { panic!("{report}") };
    assert_eq!(events(run, "scale").len(), 1);
    assert_eq!(errors(run), 0, "{}", run["traffic"]["errors"]);
    assert_eq!(run["share"].as_array().unwrap().len(), 3, "{}", run["share"]);
}

/// The other server is ours, too: what it says of its reload is in no report, but its answers are.
#[test]
fn another_server_is_told_to_reload_as_well_and_its_workers_are_left_alone() {
    let turn = Turn::shared();
    let database = empty(&turn);
    let program = env!("CARGO_BIN_EXE_peace-supervisor");
    let command = format!("A=b {program} --bind 127.0.0.1:{{port}} --workers {{workers}}");
    let words = ["--workers", "2", "--rounds", "1", "--rate", "100", "--without-peace"];
    let events = ["--reload-every", "500ms", "--kill-worker-every", "300ms"];
    let words = words.into_iter().chain(events).chain(["--command", &command]);
    let report = Bench::new().report(&database, "1s", words);
    let [run] = runs(&report, &json!({ "rate": 100 }))[..] else { panic!("{report}") };
    let kinds: Vec<&str> = run["events"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|event| event["kind"].as_str())
        .collect();
    assert_eq!(kinds, ["reload"], "{}", run["events"]);
    assert_eq!((errors(run), answered(run)), (0, 100), "{}", run["traffic"]["errors"]);
}
