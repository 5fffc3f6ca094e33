//! Two transactions that each wait for the other: PostgreSQL ends one, and no client hears of it.

use std::thread;
use std::time::{Duration, Instant};

use crate::harness::api::{add_item, sign_up};
use crate::harness::wait::until_true;
use crate::harness::{Connection, Database, Launch, Turn, get, request};

const PAIRS: usize = 200;
/// How many of them have to stand in each other's way, at least.
const DEADLOCKS_MIN: i64 = 50;
const STOP: Duration = Duration::from_secs(10);
const SOON: Duration = Duration::from_secs(5);

#[test]
fn two_hundred_crossing_pairs_over_four_workers_and_every_request_is_answered() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    // A cycle is found after this long; by default it is a second.
    let name = database.name();
    database.sql_beside().run(&format!("alter database {name} set deadlock_timeout = '5ms'"));
    let mut peace = Launch::on(&turn, &database).workers(4).env("PEACE_FAULTS", "1").serve();
    let (ann, bob) = (sign_up(&peace, "ann").pubid, sign_up(&peace, "bob").pubid);
    let address = peace.address();
    let cross = |first: &str, second: &str| {
        get(format!("/debug/cross?first={first}&second={second}&ms=5")).fresh(address)
    };
    let start = Instant::now();
    for pair in 0..PAIRS {
        let replies = thread::scope(|scope| {
            let one = scope.spawn(|| cross(&ann, &bob));
            let other = scope.spawn(|| cross(&bob, &ann));
            [one.join().unwrap(), other.join().unwrap()]
        });
        for reply in replies {
            assert_eq!(reply.unwrap().status, 200, "pair {pair}");
        }
    }
    let took = start.elapsed();
    // The server counts when a session goes idle, at most a second later; by its end at the latest.
    assert_eq!(peace.stop(STOP).code, Some(0));
    let events = peace.log().events();
    let left: Vec<_> = events.iter().filter(|event| event.is("left")).collect();
    assert_eq!(left.len(), 4, "every worker says what it did");
    let retries: i32 = left.iter().filter_map(|event| event.number_of("retries")).sum();
    let deadlocks: i64 = database
        .sql_beside()
        .value("select deadlocks from pg_stat_database where datname = $1", &[&name]);
    eprintln!(
        "{PAIRS} pairs in {:.1} s: {deadlocks} deadlocks, {retries} retries, 0 failures",
        took.as_secs_f64()
    );
    assert!(deadlocks >= DEADLOCKS_MIN, "{deadlocks}: too few met for the test to show much");
    assert!(i64::from(retries) >= deadlocks, "each loser was run again");
}

/// The deletion of a user takes their items along, one by one. Here one item keeps it waiting until
/// somebody waits for the user, and the other item is theirs.
#[test]
fn a_single_statement_that_loses_a_deadlock_is_run_again() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let name = database.name();
    database.sql_beside().run(&format!("alter database {name} set deadlock_timeout = '5ms'"));
    let mut peace = Launch::on(&turn, &database).workers(1).serve();
    let ann = sign_up(&peace, "ann");
    let items = [add_item(&peace, &ann, "first"), add_item(&peace, &ann, "second")];
    let lock = |table: &str, place: &str| {
        let id = place.rsplit('/').next().unwrap();
        format!("select 1 from {table} where id = '{id}' for update")
    };
    let await_waiting = |who: &str| {
        let sql = "select count(*) from pg_stat_activity where datname = $1
                   and wait_event_type = 'Lock' and starts_with(application_name, $2)";
        let beside = database.sql_beside();
        until_true(who, SOON, || beside.value::<i64>(sql, &[&name, &who]) == 1);
    };
    let (first, second) = (database.sql(), database.sql());
    first.run(&format!("begin; {}", lock("item", &items[0])));
    // It finds no deadlock itself, so the other one loses.
    second.run("set deadlock_timeout = '1min'; set application_name = 'the test'");
    second.run(&format!("begin; {}", lock("item", &items[1])));

    let mut client = Connection::open(peace.address()).unwrap();
    let delete = request("DELETE", &ann.place).bearer(&ann.token);
    client.begin(&delete).unwrap();
    await_waiting("peace/");
    thread::scope(|scope| {
        let user = format!("{}; commit", lock(r#""user""#, &ann.place));
        let waiting = scope.spawn(move || second.run(&user));
        await_waiting("the test");
        first.run("rollback");
        waiting.join().unwrap();
    });
    assert_eq!(client.finish(&delete).unwrap().status, 200, "no client hears of it");
    let left: i64 = database.sql().value(r#"select count(*) from "user""#, &[]);
    assert_eq!(left, 0, "and it is done");
    assert_eq!(peace.stop(STOP).code, Some(0));
    let events = peace.log().events();
    let retries: Vec<_> = events.iter().filter_map(|event| event.number_of("retries")).collect();
    assert_eq!(retries, [1], "it did lose once");
}
