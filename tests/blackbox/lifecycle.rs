//! Stops, crashes and failed boots of workers.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::harness::peace::signal_to;
use crate::harness::{Connection, Database, Launch, Peace, Turn, get, proc};

/// From a worker's death to its successor's service.
const REPLACED: Duration = Duration::from_millis(500);
const SOON: Duration = Duration::from_secs(5);

#[test]
fn a_killed_worker_is_replaced_within_half_a_second_and_the_others_do_not_notice() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(4).serve();
    for slot in 0..4 {
        kill_one(&peace, slot);
    }
    assert_eq!(proc::listeners(peace.address().port()), 4, "no socket was closed");
    let names = "select count(distinct application_name) from pg_stat_activity \
                 where datname = $1 and application_name like 'peace/%.2'";
    assert_eq!(database.sql_beside().value::<i64>(names, &[&database.name()]), 4);
}

/// Kills the worker of `slot` and checks everything about the moments after.
fn kill_one(peace: &Peace, slot: i32) {
    let before = peace.workers();
    let mut kept = connections_by_worker(peace, &before);
    kept.remove(&before[&slot]);
    let (mark, killed) = (peace.log().len(), Instant::now());
    signal_to(before[&slot], Signal::SIGKILL);

    // Every fresh connection is answered, also those that the kernel gives to the slot meanwhile.
    let mut slowest = Duration::ZERO;
    while killed.elapsed() < REPLACED {
        let start = Instant::now();
        assert_eq!(peace.ask(&get("/health/live")).status, 200);
        slowest = slowest.max(start.elapsed());
    }
    let ready = peace.await_event("the successor is ready", mark, SOON, |event| {
        event.is_worker("ready") && event.number_of("slot") == Some(slot)
    });
    let took = ready.at - killed;
    eprintln!("slot {slot}: ready after {took:?}; the slowest request meanwhile took {slowest:?}");
    assert!(took < REPLACED, "ready after {took:?}");
    assert!(slowest < REPLACED, "a request took {slowest:?}");

    let mut expected = before;
    expected.insert(slot, ready.number_of("pid").expect("the event has it"));
    assert_eq!(peace.workers(), expected, "the others are the same processes");
    for connection in kept.values_mut().flatten() {
        let reply = connection.send(&get("/users")).expect("its worker was not touched");
        assert_eq!(reply.status, 200);
    }
}

/// Open keep-alive connections, some to each worker.
fn connections_by_worker(
    peace: &Peace,
    workers: &BTreeMap<i32, i32>,
) -> BTreeMap<i32, Vec<Connection>> {
    let pids: Vec<i32> = workers.values().copied().collect();
    let mut connections = BTreeMap::<i32, Vec<Connection>>::new();
    for _ in 0..40 {
        let mut connection = Connection::open(peace.address()).unwrap();
        assert_eq!(connection.send(&get("/users")).unwrap().status, 200);
        let holder = proc::holder(peace.address(), connection.local(), &pids);
        connections.entry(holder.expect("a worker holds it")).or_default().push(connection);
    }
    connections
}

/// One worker with a request in flight on the answered connection.
fn in_flight(turn: &Turn, database: &Database<'_>, ms: u32) -> (Peace, Connection) {
    let launch = Launch::on(turn, database).workers(1).env("PEACE_FAULTS", "1");
    let peace = launch.args(["--keepalive-grace", "300ms"]).serve();
    let mut connection = Connection::open(peace.address()).unwrap();
    connection.begin(&get(format!("/debug/sleep?ms={ms}"))).unwrap();
    // A request that came later was answered: the earlier one is in its handler.
    assert_eq!(peace.ask(&get("/health/live")).status, 200);
    (peace, connection)
}

#[test]
fn term_answers_what_is_in_flight() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let (mut peace, mut connection) = in_flight(&turn, &database, 1_000);
    peace.signal(Signal::SIGTERM);
    peace.await_event("the stop has begun", 0, SOON, |event| event.is("stopping"));
    let reply = connection.finish(&get("/debug/sleep")).unwrap();
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("connection"), Some("close"));
    assert_eq!(peace.end(SOON).code, Some(0));
}

#[test]
fn term_waits_no_longer_than_the_graceful_timeout() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let launch = Launch::on(&turn, &database).workers(1).env("PEACE_FAULTS", "1");
    let mut peace = launch.args(["--graceful-timeout", "1s", "--keepalive-grace", "100ms"]).serve();
    let mut connection = Connection::open(peace.address()).unwrap();
    connection.begin(&get("/debug/sleep?ms=60000")).unwrap();
    assert_eq!(peace.ask(&get("/health/live")).status, 200);
    let start = Instant::now();
    let ended = peace.stop(SOON);
    let took = start.elapsed();
    eprintln!("cut after {took:?}");
    assert_eq!(ended.code, Some(75), "a request was cut short");
    assert!(took >= Duration::from_millis(900) && took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn int_is_quick_although_connections_are_kept_alive() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let mut peace = Launch::on(&turn, &database).workers(2).serve();
    let mut idle = Connection::open(peace.address()).unwrap();
    assert_eq!(idle.send(&get("/health/live")).unwrap().status, 200);
    let start = Instant::now();
    peace.signal(Signal::SIGINT);
    let ended = peace.end(SOON);
    eprintln!("idle, INT: {:?}", start.elapsed());
    assert_eq!(ended.code, Some(0), "nothing was in flight");
    assert!(start.elapsed() < Duration::from_millis(2_500), "{:?}", start.elapsed());
}

#[test]
fn int_gives_requests_in_flight_two_seconds() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let (mut peace, mut answered) = in_flight(&turn, &database, 1_000);
    let mut cut = Connection::open(peace.address()).unwrap();
    cut.begin(&get("/debug/sleep?ms=60000")).unwrap();
    assert_eq!(peace.ask(&get("/health/live")).status, 200);
    let start = Instant::now();
    peace.signal(Signal::SIGINT);
    assert_eq!(answered.finish(&get("/debug/sleep")).unwrap().status, 200);
    let ended = peace.end(SOON);
    eprintln!("busy, INT: {:?}", start.elapsed());
    assert_eq!(ended.code, Some(75));
    assert!(start.elapsed() >= Duration::from_millis(1_800), "{:?}", start.elapsed());
    assert!(cut.finish(&get("/debug/sleep")).is_err(), "it was cut, not answered");
}

#[test]
fn a_second_int_means_now() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let (mut peace, _connection) = in_flight(&turn, &database, 60_000);
    peace.signal(Signal::SIGINT);
    peace.await_event("the stop has begun", 0, SOON, |event| event.is("stopping"));
    let start = Instant::now();
    peace.signal(Signal::SIGINT);
    let ended = peace.end(SOON);
    eprintln!("second INT: {:?}", start.elapsed());
    assert_eq!(ended.code, Some(75));
    assert!(start.elapsed() < Duration::from_millis(1_000), "{:?}", start.elapsed());
}

#[test]
fn a_worker_that_cannot_boot_at_the_first_start_ends_everything_with_one_line() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let launch = Launch::on(&turn, &database).workers(4).env("PEACE_FAULTS", "boot-exit:2");
    let ended = launch.run(SOON);
    assert_eq!(ended.code, Some(71), "{:?}", ended.lines);
    let told: Vec<&String> = ended.lines.iter().filter(|line| !line.starts_with('{')).collect();
    assert_eq!(told.len(), 1, "{:?}", ended.lines);
    assert!(told[0].contains("slot 2"), "{}", told[0]);
    assert!(ended.lines.len() <= 20, "{} lines", ended.lines.len());
}

#[test]
fn a_worker_that_dies_again_and_again_is_replaced_with_growing_pauses() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(2).serve();
    let neighbour = peace.workers()[&1];
    let mut pauses = Vec::new();
    for _ in 0..4 {
        let mark = peace.log().len();
        signal_to(peace.workers()[&0], Signal::SIGKILL);
        let exited = peace.await_event("its death", mark, SOON, |event| event.is_worker("exited"));
        pauses.push(exited.number_of("restart_in_ms").expect("it will be replaced"));
        peace.await_event("the successor", mark, SOON, |event| event.is_worker("ready"));
    }
    eprintln!("pauses: {pauses:?} ms");
    assert_eq!(pauses[0], 0, "the first time at once");
    assert!(pauses.is_sorted_by(|a, b| a < b), "{pauses:?}");
    assert_eq!(peace.workers()[&1], neighbour);
}

#[test]
fn hup_replaces_the_workers_one_by_one_and_requests_go_on() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let launch = Launch::on(&turn, &database).workers(2);
    let peace = launch.args(["--keepalive-grace", "100ms"]).serve();
    let before = peace.workers();
    let address = peace.address();
    thread::scope(|scope| {
        let client = scope.spawn(|| {
            let start = Instant::now();
            let mut answered = 0;
            while start.elapsed() < Duration::from_secs(2) {
                assert_eq!(get("/users").fresh(address).unwrap().status, 200);
                answered += 1;
            }
            answered
        });
        peace.signal(Signal::SIGHUP);
        peace.await_event("the roll ends", 0, SOON, |event| event.is("rolled"));
        eprintln!("{} requests were answered during the roll", client.join().unwrap());
    });
    let after = peace.workers();
    assert!(before.iter().all(|(slot, pid)| after[slot] != *pid), "{before:?} {after:?}");
}
