//! `create index concurrently`: many runners, killed runners, rows that are not unique.

use std::thread;

use super::bench::Bench;
use super::stage::{
    SOON, add, await_parted, await_waiting, log, psql_command, server_errors, start,
};
use crate::harness::database::Sql;
use crate::harness::{Database, Peace, Turn};

const STATE: &str =
    "select coalesce((select state from peace_migration where revision = 'bbbb'), '')";
const VALID: &str = "select indisvalid from pg_index where indexrelid = 't_a_idx'::regclass";

/// A table with rows, and an index on it.
fn table_and_index<'a>(turn: &'a Turn, rows: u32, index: &str) -> Bench<'a> {
    let bench = Bench::new(turn);
    let up = format!("create table t as select a from generate_series(1, {rows}) a");
    bench.revision(1, "aaaa", "none", &up, "drop table t");
    bench.revision(2, "bbbb", "aaaa", index, "drop index concurrently t_a_idx");
    bench
}

// Case 6.
#[test]
fn sixteen_runners_build_an_index_concurrently_without_a_deadlock() {
    let turn = Turn::shared();
    let database = Database::blank(&turn);
    let bench = table_and_index(&turn, 100_000, "create index concurrently t_a_idx on t (a)");
    for (number, id, revises) in [(3, "cccc", "bbbb"), (4, "dddd", "cccc")] {
        bench.revision(number, id, revises, &format!("create table {id} ()"), "");
    }
    thread::scope(|scope| {
        let race = || bench.run_on(&database, &["upgrade", "head"]).done();
        let racers: Vec<_> = (0..16).map(|_| scope.spawn(race)).collect();
        racers.into_iter().for_each(|racer| drop(racer.join().unwrap()));
    });
    assert!(database.sql().value::<bool>(VALID, &[]));
    assert_eq!(log(&database), ["aaaa", "bbbb", "cccc", "dddd"].map(|id| format!("upgrade {id}")));
    assert_eq!(server_errors(&database), [""; 0]);
}

// Case 6, the control: why the lock is polled.
#[test]
fn two_runners_that_waited_in_the_lock_would_deadlock() {
    let turn = Turn::shared();
    let database = Database::blank(&turn);
    database.sql().run("create table t (a int)");
    let gate = database.sql();
    gate.run("select pg_advisory_lock(2)");
    let lock = "select pg_advisory_lock(1)";
    let index = "create index concurrently t_a_idx on t (a)";
    let builder = ["-c", lock, "-c", "select pg_advisory_lock(2)", "-c", index];
    thread::scope(|scope| {
        let run = |args: &[&str]| psql_command(&database, args).output().unwrap();
        let builder = scope.spawn(move || run(&builder));
        await_waiting(&database, "%pg_advisory_lock(2)%", 1);
        let waiter = scope.spawn(move || run(&["-c", lock]));
        await_waiting(&database, "%pg_advisory_lock(1)%", 1);
        gate.run("select pg_advisory_unlock(2)");
        let outputs = [builder.join().unwrap(), waiter.join().unwrap()];
        let said = outputs.map(|output| String::from_utf8(output.stderr).unwrap()).concat();
        assert!(said.contains("deadlock detected"), "{said}");
    });
}

/// A build that waits for a transaction which may still write without it; it goes on when that
/// session has committed.
fn begun<'a>(turn: &'a Turn, database: &Database<'_>) -> (Bench<'a>, Sql, Peace) {
    let bench = table_and_index(turn, 10, "create index concurrently t_a_idx on t (a)");
    bench.run_on(database, &["upgrade", "aaaa"]).done();
    let old = database.sql();
    old.run("begin; insert into t values (0)");
    let run = start(&bench, database, &["upgrade"]);
    await_waiting(database, "%create index concurrently t_a_idx%", 1);
    (bench, old, run)
}

// Case 8.
#[test]
fn a_build_that_was_killed_is_cleared_away_and_built_again() {
    let turn = Turn::shared();
    let database = Database::blank(&turn);
    let (bench, old, mut run) = begun(&turn, &database);
    run.kill();
    await_parted(&database);
    assert_eq!(database.sql().value::<String>(STATE, &[]), "running");
    assert!(!database.sql().value::<bool>(VALID, &[]));
    let interrupted = bench.run_on(&database, &["current"]).done();
    assert_eq!(interrupted, "aaaa\nbbbb (interrupted: run `peace-migrate upgrade`)\n");

    old.run("commit");
    let again = bench.run_on(&database, &["upgrade"]);
    assert!(again.err.contains("dropping public.t_a_idx: an interrupted build left"), "{again:?}");
    assert_eq!(again.done(), "aaaa -> bbbb (head)\n");
    assert_eq!(database.sql().value::<String>(STATE, &[]), "applied");
    assert!(database.sql().value::<bool>(VALID, &[]));
}

// Case 8.
#[test]
fn rows_that_are_not_unique_are_named_and_may_be_mended() {
    let turn = Turn::shared();
    let database = Database::blank(&turn);
    let bench = table_and_index(&turn, 10, "create unique index concurrently t_a_idx on t (a)");
    bench.run_on(&database, &["upgrade", "aaaa"]).done();
    database.sql().run("insert into t values (7)");
    bench.run_on(&database, &["upgrade"]).failed(1, "Key (a)=(7) is duplicated.");
    assert_eq!(database.sql().value::<String>(STATE, &[]), "running");
    database.sql().run("delete from t where ctid = (select max(ctid) from t)");
    bench.run_on(&database, &["upgrade"]).done();
    assert!(database.sql().value::<bool>(VALID, &[]));
    assert_eq!(database.sql().value::<String>(STATE, &[]), "applied");
}

#[test]
fn a_build_counts_only_when_its_index_is_valid() {
    let turn = Turn::shared();
    let database = Database::blank(&turn);
    let bench = table_and_index(&turn, 10, "create index concurrently t_a_idx on t (a)");
    bench.run_on(&database, &["upgrade", "aaaa"]).done();
    database.sql().run(
        "create function spoil() returns event_trigger language plpgsql as $$ begin \
         update pg_index set indisvalid = false where indexrelid = to_regclass('t_a_idx'); end $$; \
         create event trigger spoil on ddl_command_end when tag in ('CREATE INDEX') \
         execute function spoil()",
    );
    let ran = bench.run_on(&database, &["upgrade"]);
    ran.failed(1, "index t_a_idx is missing or INVALID after its build: run this again");
    assert_eq!(database.sql().value::<String>(STATE, &[]), "running");
    database.sql().run("drop event trigger spoil");
    bench.run_on(&database, &["upgrade"]).done();
    assert!(database.sql().value::<bool>(VALID, &[]));
}

#[test]
fn an_index_that_no_run_of_ours_began_stays() {
    let turn = Turn::shared();
    let database = Database::blank(&turn);
    let bench = table_and_index(&turn, 10, "create index concurrently t_a_idx on t (a)");
    bench.run_on(&database, &["upgrade", "aaaa"]).done();
    let make = "create index t_a_idx on t (a)";
    let spoil = "update pg_index set indisvalid = false where indexrelid = 't_a_idx'::regclass";
    for sql in [make, spoil] {
        database.sql().run(sql);
        bench.run_on(&database, &["upgrade"]).failed(1, "index t_a_idx exists already: drop it");
        database.sql().value::<bool>(VALID, &[]);
    }
}

#[test]
fn a_run_that_was_killed_after_a_drop_is_finished_by_the_next_one() {
    let turn = Turn::shared();
    let database = Database::blank(&turn);
    let bench = table_and_index(&turn, 10, "create index concurrently t_a_idx on t (a)");
    bench.run_on(&database, &["upgrade"]).done();
    // What such a run leaves behind.
    database.sql().run(
        "drop index t_a_idx; update peace_migration set state = 'running' \
                        where revision = 'bbbb'",
    );
    assert_eq!(bench.run_on(&database, &["downgrade", "-1"]).done(), "bbbb (head) -> aaaa\n");
    // Nobody of ours has dropped this one.
    bench.run_on(&database, &["upgrade"]).done();
    database.sql().run("drop index t_a_idx");
    bench.run_on(&database, &["downgrade", "-1"]).failed(1, "\"t_a_idx\" does not exist");
}

#[test]
fn a_signal_in_the_middle_of_a_build_is_mended_by_the_next_run() {
    let turn = Turn::shared();
    let database = Database::blank(&turn);
    let (bench, old, mut run) = begun(&turn, &database);
    run.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(run.end(SOON).code, Some(130));
    await_parted(&database);
    old.run("commit");
    assert_eq!(bench.run_on(&database, &["upgrade"]).done(), "aaaa -> bbbb (head)\n");
    assert!(database.sql().value::<bool>(VALID, &[]));

    // And the way back, without and with the index.
    bench.run_on(&database, &["downgrade", "-1"]).done();
    add(&bench, (3, "cccc", "bbbb"), "", "select 1");
    assert_eq!(bench.run_on(&database, &["current"]).done(), "aaaa\n");
}
