//! What goes wrong in one request stays in that request.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::wait::until_true;
use crate::harness::{Connection, Database, Launch, Peace, Turn, get, post};

const SOON: Duration = Duration::from_secs(5);

fn one_worker(turn: &Turn, database: &Database<'_>) -> Peace {
    Launch::on(turn, database).workers(1).env("PEACE_FAULTS", "1").serve()
}

#[test]
fn a_panic_is_a_500_for_that_request_alone() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = one_worker(&turn, &database);
    let workers = peace.workers();
    // One connection: even the next request on it is answered.
    let mut connection = Connection::open(peace.address()).unwrap();
    let mut other = Connection::open(peace.address()).unwrap();
    let sleep = get("/debug/sleep?ms=300");
    other.begin(&sleep).unwrap();

    let reply = connection.send(&get("/debug/panic")).unwrap();
    assert_eq!(reply.status, 500);
    assert_eq!(reply.header("content-type"), Some("application/problem+json"));
    let text = String::from_utf8(reply.body.clone()).unwrap();
    assert!(!text.contains("was asked for"), "the panic's text is private: {text}");

    assert_eq!(connection.send(&get("/health/live")).unwrap().status, 200);
    assert_eq!(other.finish(&sleep).unwrap().status, 200, "its neighbour is answered");
    assert_eq!(peace.workers(), workers, "the worker lives on");
    let id = reply.json()["request_id"].as_str().unwrap().to_owned();
    peace.await_event("the log tells of the panic", 0, SOON, |event| {
        event.text.contains(&id) && event.text.contains("was asked for")
    });
}

#[test]
fn a_worker_that_spins_holds_up_nobody_elses_requests_for_good() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = one_worker(&turn, &database);
    let workers = peace.workers();
    let start = Instant::now();
    let mut spinning = Connection::open(peace.address()).unwrap();
    let spin = get("/debug/spin?ms=500");
    spinning.begin(&spin).unwrap();
    assert_eq!(peace.ask(&get("/users")).status, 200);
    assert_eq!(spinning.finish(&spin).unwrap().status, 200);
    assert!(start.elapsed() >= Duration::from_millis(500), "it did spin");
    assert_eq!(peace.workers(), workers, "half a second is no reason to replace it");
}

#[test]
fn a_transaction_ends_although_its_client_has_left() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = one_worker(&turn, &database);
    let (sql, beside) = (database.sql(), database.sql_beside());
    let sessions = |state: &str| {
        let count = "select count(*) from pg_stat_activity \
                     where datname = $1 and application_name like 'peace/%' and ";
        beside.value::<i64>(&format!("{count}{state}"), &[&database.name()])
    };
    // Both of the pool and the lane: one that still prepares its statements would wait for the lock, too.
    until_true("the pool is warm", SOON, || sessions("state = 'idle'") == 3);
    // Whoever writes to the table waits: the client leaves in the middle of its transaction.
    sql.run(r#"begin; lock table "user" in share row exclusive mode"#);
    let mut client = Connection::open(peace.address()).unwrap();
    let create = post("/users").json(&json!({"name": "ann", "password": "pass word"}));
    client.begin(&create).unwrap();
    until_true("the transaction waits for the lock", SOON, || {
        sessions("wait_event_type = 'Lock'") == 1
    });
    drop(client);
    // The worker has noticed that the client is gone when it has answered somebody else since.
    assert_eq!(peace.ask(&get("/health/live")).status, 200);
    sql.run("commit");
    until_true("the row is there", SOON, || {
        sql.value::<i64>(r#"select count(*) from "user""#, &[]) == 1
    });
    until_true("no transaction is left open", SOON, || sessions("state <> 'idle'") == 0);
}

#[test]
fn clients_that_leave_do_not_use_the_pool_up() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = one_worker(&turn, &database);
    let sql = database.sql();
    sql.run(r#"begin; lock table "user" in access exclusive mode"#);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = Connection::open(peace.address()).unwrap();
                client.begin(&get("/users")).unwrap();
            });
        }
    });
    sql.run("commit");
    until_true("the pool serves again", SOON, || peace.ask(&get("/users")).status == 200);
    for _ in 0..8 {
        assert_eq!(peace.ask(&get("/users")).status, 200);
    }
}

#[test]
fn without_faults_there_are_no_debug_routes() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(1).serve();
    for route in ["/debug/panic", "/debug/spin?ms=1", "/debug/sleep?ms=1"] {
        assert_eq!(peace.ask(&get(route)).status, 404, "{route}");
    }
}
