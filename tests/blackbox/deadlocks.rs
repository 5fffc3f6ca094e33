//! Two transactions that each wait for the other: PostgreSQL ends one, and no client hears of it.

use std::thread;
use std::time::{Duration, Instant};

use crate::harness::api::sign_up;
use crate::harness::{Database, Launch, Turn, get};

const PAIRS: usize = 200;
const STOP: Duration = Duration::from_secs(10);

#[test]
fn two_hundred_deadlocks_over_four_workers_and_every_request_is_answered() {
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
    assert!(deadlocks > 0, "nothing stood in the way of anything: the test shows nothing");
    assert!(i64::from(retries) >= deadlocks, "each loser was run again");
}
