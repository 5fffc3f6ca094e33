//! `--workers 4`: four processes, four sockets on one port, four pools, and all of them are used.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::harness::wait::until_true;
use crate::harness::{Connection, Database, Launch, Peace, Turn, get, proc};

/// Four workers on a database of their own.
fn four_workers(turn: &Turn, database: &Database<'_>) -> Peace {
    Launch::on(turn, database).workers(4).serve()
}

#[test]
fn four_workers_are_four_processes() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = four_workers(&turn, &database);
    let mut workers: Vec<i32> = peace.workers().into_values().collect();
    workers.sort_unstable();
    workers.dedup();
    assert_eq!(workers.len(), 4);
    assert_eq!(proc::children(peace.pid()), workers, "the supervisor has no other child");
}

#[test]
fn four_sockets_listen_on_one_port() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = four_workers(&turn, &database);
    assert_eq!(proc::listeners(peace.address().port()), 4);
}

#[test]
fn each_worker_names_its_sessions_after_its_slot_and_generation() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let _peace = four_workers(&turn, &database);
    let rows = database.sql_beside().rows(
        "select application_name, count(*) from pg_stat_activity \
         where datname = $1 group by 1 order by 1",
        &[&database.name()],
    );
    let names: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(names, ["peace/0.1", "peace/1.1", "peace/2.1", "peace/3.1"]);
    for row in &rows {
        let (name, sessions): (String, i64) = (row.get(0), row.get(1));
        assert!((1..=3).contains(&sessions), "{name} has {sessions}: a pool of 2 and a lane");
    }
}

#[test]
fn fresh_connections_are_spread_over_all_workers() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = four_workers(&turn, &database);
    let (address, workers) = (peace.address(), peace.workers());
    let pids: Vec<i32> = workers.values().copied().collect();

    let mut answered = BTreeMap::<i32, u32>::new();
    for _ in 0..400 {
        // Kept open until the kernel has been asked whose it is.
        let mut connection = Connection::open(address).unwrap();
        assert_eq!(connection.send(&get("/health/live")).unwrap().status, 200);
        let holder = proc::holder(address, connection.local(), &pids);
        *answered.entry(holder.expect("a worker holds it")).or_default() += 1;
    }
    eprintln!("400 connections over 4 workers: {:?}", answered.values());
    // 100 each on average; 50 would be six standard deviations away.
    assert_eq!(answered.len(), 4);
    assert!(answered.values().all(|count| *count >= 50), "{answered:?}");
}

#[test]
fn a_worker_has_one_thread_for_requests_and_one_for_passwords() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = four_workers(&turn, &database);
    assert_eq!(proc::threads(peace.pid()).len(), 1, "the supervisor has one thread");
    for (slot, pid) in peace.workers() {
        // A thread gives itself its name, when it first runs.
        let mut names = ["passwords".to_owned(), format!("{:.13}/{slot}", "peace")];
        names.sort();
        until_true("the threads of a worker", Duration::from_secs(10), || {
            proc::threads(pid) == names
        });
    }
}
