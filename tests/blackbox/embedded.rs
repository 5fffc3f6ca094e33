//! The embedded PostgreSQL: for whoever starts the program, in whichever folder.

use std::fs;
use std::time::Duration;

use serde_json::json;

use crate::harness::{Launch, Turn, get, post};

const MIGRATE: &str = env!("CARGO_BIN_EXE_peace-migrate");
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

/// As root and as an ordinary user: their sockets are in different places.
#[test]
fn peace_migrate_finds_the_database_of_the_folder_while_it_runs() {
    let turn = Turn::shared();
    for launch in [Launch::embedded(&turn), Launch::embedded_of_an_ordinary_user(&turn)] {
        let mut peace = launch.workers(1).serve();
        let output = peace.beside(MIGRATE, ["current"]);
        let head = format!("{} (head)\n", migrations::head().id);
        assert_eq!(String::from_utf8_lossy(&output.stdout), head, "{output:?}");
        let check = peace.beside(MIGRATE, ["check"]);
        assert!(check.status.success(), "it may make scratch databases there: {check:?}");

        assert_eq!(peace.stop(STOP).code, Some(0));
        let output = peace.beside(MIGRATE, ["current"]);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains("./deploy/up") && told.contains("DATABASE_URL"), "{told}");
    }
}

#[test]
fn peace_migrate_in_production_takes_no_embedded_database() {
    let turn = Turn::shared();
    let peace = Launch::embedded(&turn).workers(1).serve();
    fs::write(peace.folder().join(".env"), "PEACE_ENV=production\n").unwrap();
    let output = peace.beside(MIGRATE, ["current"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn peace_migrate_makes_nothing_where_it_finds_no_database() {
    let turn = Turn::shared();
    let launch = Launch::bare(&turn).program(MIGRATE).args(["current"]);
    assert_eq!(launch.output().status.code(), Some(2));
    assert_eq!(fs::read_dir(launch.folder().path()).unwrap().count(), 0);
}
