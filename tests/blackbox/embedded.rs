//! The embedded PostgreSQL: for whoever starts the program, in whichever folder.

use std::fs;
use std::time::Duration;

use serde_json::json;

use crate::harness::{Launch, Turn, get, post};

const STOP: Duration = Duration::from_secs(15);

/// The tests often run as root, whose embedded database lives elsewhere than everybody else's.
#[test]
fn an_ordinary_user_has_a_database_that_survives_a_restart() {
    let turn = Turn::shared();
    let mut peace = Launch::embedded_of_an_ordinary_user(&turn).workers(1).serve();
    let created = peace.ask(&post("/users").json(&json!({"name": "ann", "password": "pass word"})));
    assert_eq!(created.status, 201);
    let data = peace.folder().join(".peace/postgres/PG_VERSION");
    assert!(data.is_file(), "the data are in the folder of the start");
    let secret = peace.folder().join(".peace/jwt-secret");
    assert_eq!(fs::read_to_string(secret).unwrap().len(), 64);

    assert_eq!(peace.stop(STOP).code, Some(0));
    peace.start_again();
    peace.await_serving();
    let place = created.header("location").expect("201 says where");
    assert_eq!(peace.ask(&get(place)).status, 200);
}

#[test]
fn a_stop_waits_for_the_database_to_end_in_good_order() {
    let turn = Turn::shared();
    let mut peace = Launch::embedded(&turn).workers(2).serve();
    let ended = peace.stop(STOP);
    assert_eq!(ended.code, Some(0), "{:?}", ended.lines);
    let order: Vec<&String> =
        ended.lines.iter().filter(|line| line.contains(r#""message":"exited""#)).collect();
    let last = order.last().expect("children have exited");
    assert!(last.contains(r#""name":"postgres""#), "it is the last to leave: {order:?}");
    let log = fs::read_to_string(&peace.embedded().place().log).unwrap();
    assert!(log.contains("database system is shut down"), "{log}");
}

#[test]
fn a_second_copy_on_the_same_data_is_refused_and_the_first_serves_on() {
    let turn = Turn::shared();
    let first = Launch::embedded(&turn).workers(1).serve();
    let second = first.second_copy(STOP);
    assert_eq!(second.code, Some(69), "{:?}", second.lines);
    assert_eq!(second.lines.len(), 1, "{:?}", second.lines);
    assert!(second.lines[0].contains("another copy"), "{}", second.lines[0]);
    assert_eq!(first.ask(&get("/users")).status, 200);
}
