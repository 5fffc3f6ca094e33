//! Tables that somebody else has locked: the runner steps aside, and tries again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::bench::Bench;
use super::stage::{SOON, add, is_there, log, said, start};
use crate::harness::{Database, Turn};

/// A table, and a column that needs it for itself.
fn table_and_column(turn: &Turn) -> Bench<'_> {
    let bench = Bench::new(turn);
    bench.revision(1, "aaaa", "none", "create table t (a int)", "drop table t");
    let up = "create table u (); alter table t add column b int";
    add(&bench, (2, "bbbb", "aaaa"), "-- lock-timeout: 200ms\n", up);
    bench
}

// Case 10.
#[test]
fn a_file_that_waits_for_a_table_lets_readers_pass_and_succeeds_in_the_end() {
    let turn = Turn::shared();
    let (database, bench) = (Database::blank(&turn), table_and_column(&turn));
    bench.run_on(&database, &["upgrade", "aaaa"]).done();
    let holder = database.sql();
    holder.run("begin; lock table t in access share mode");
    let mut run = start(&bench, &database, &["upgrade"]);
    let released = AtomicBool::new(false);
    let longest = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let reader = database.sql();
            let mut longest = Duration::ZERO;
            while !released.load(Ordering::Relaxed) {
                let begin = Instant::now();
                reader.rows("select a from t", &[]);
                longest = longest.max(begin.elapsed());
            }
            longest
        });
        for tries in 1..=3 {
            let again =
                |event: &crate::harness::log::Event| event.text.contains("trying again in ");
            let mut from = 0;
            for _ in 0..tries {
                from = run.await_event("another try", from, SOON, again).index + 1;
            }
        }
        released.store(true, Ordering::Relaxed);
        reader.join().unwrap()
    });
    assert!(longest < Duration::from_secs(1), "a reader waited for {longest:?}");
    holder.run("commit");
    assert_eq!(run.end(SOON).code, Some(0));
    assert_eq!(log(&database), ["upgrade aaaa", "upgrade bbbb"]);
}

// Case 10.
#[test]
fn a_table_that_stays_locked_ends_the_run_and_nothing_is_changed() {
    let turn = Turn::shared();
    let (database, bench) = (Database::blank(&turn), table_and_column(&turn));
    bench.run_on(&database, &["upgrade", "aaaa"]).done();
    let holder = database.sql();
    holder.run("begin; lock table t in access share mode");
    let begin = Instant::now();
    let ran = bench.run_on(&database, &["upgrade", "--lock-wait", "1"]);
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    assert!(ran.err.contains("00000000000002_bbbb.up.sql: given up after "), "{ran:?}");
    ran.failed(6, "end the long transactions");
    assert!(!is_there(&database, "u"), "its first statement is taken back");
    assert_eq!(log(&database), ["upgrade aaaa"]);
}

#[test]
fn a_lock_that_another_runner_keeps_ends_the_wait_and_names_it() {
    let turn = Turn::shared();
    let (database, bench) = (Database::blank(&turn), Bench::new(&turn));
    let up = "select pg_advisory_xact_lock(7)";
    add(&bench, (1, "aaaa", "none"), "-- lock-timeout: 60s\n", up);
    let gate = database.sql();
    gate.run("select pg_advisory_lock(7)");
    let mut first = start(&bench, &database, &["upgrade"]);
    said(&first, "running ");
    let ran = bench.run_on(&database, &["upgrade", "--lock-wait", "0"]);
    ran.failed(6, "another migration holds the lock (process ");
    gate.run("select pg_advisory_unlock(7)");
    assert_eq!(first.end(SOON).code, Some(0));
}
