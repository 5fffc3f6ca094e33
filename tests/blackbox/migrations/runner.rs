//! Upgrade and downgrade: what is applied, when, by whom, and what remains after an accident.

use std::thread;

use nix::sys::signal::Signal;

use super::bench::Bench;
use super::stage::{
    SOON, add, await_parted, await_waiting, catalog, down, edit, is_there, log, records, said,
    server_errors, start,
};
use crate::harness::{Database, Turn};

/// A statement that waits until the test lets it go on.
const GATE: &str = "select pg_advisory_xact_lock(7)";

/// Five revisions, aaaa to eeee, each with a table that can be made only once.
fn five(turn: &Turn) -> Bench<'_> {
    let bench = Bench::new(turn);
    let ids = ["none", "aaaa", "bbbb", "cccc", "dddd", "eeee"];
    for (number, pair) in (1..).zip(ids.windows(2)) {
        let (revises, id) = (pair[0], pair[1]);
        bench.revision(
            number,
            id,
            revises,
            &format!("create table {id} ()"),
            &format!("drop table {id}"),
        );
    }
    bench
}

// Case 1.
#[test]
fn at_head_there_is_nothing_to_do_and_nothing_is_logged() {
    let turn = Turn::shared();
    let (database, bench) = (Database::blank(&turn), five(&turn));
    let run = |args: &[&str]| bench.run_on(&database, args).done();
    assert_eq!(run(&["upgrade", "head"]), "base -> eeee (head)\n");
    assert_eq!(run(&["current"]), "eeee (head)\n");
    let before = log(&database);
    assert_eq!(before.len(), 5);
    assert_eq!(run(&["upgrade"]), "already at eeee (head)\n");
    assert_eq!(log(&database), before);
}

// Case 2.
#[test]
fn a_schema_with_an_enum_goes_up_and_down_three_times() {
    let turn = Turn::shared();
    let (database, bench) = (Database::blank(&turn), Bench::new(&turn));
    let up = "create type mood as enum ('sad', 'it''s fine');
              create table person (id int primary key, mood mood not null default 'sad')";
    bench.revision(1, "aaaa", "none", up, "drop table person; drop type mood");
    bench.revision(
        2,
        "bbbb",
        "aaaa",
        "alter table person add column name text",
        "alter table person drop column name",
    );
    let mut seen = Vec::new();
    for _ in 0..3 {
        bench.run_on(&database, &["upgrade"]).done();
        seen.push(catalog(&database));
        bench.run_on(&database, &["downgrade", "base"]).done();
        let tables = "select string_agg(relname, ' ' order by relname) from pg_class \
                      where relnamespace = 'public'::regnamespace and relkind = 'r'";
        let left: String = database.sql().value(tables, &[]);
        assert_eq!(left, "peace_migration peace_migration_log");
    }
    assert!(seen[0].iter().any(|line| line.contains("it's fine")), "{seen:?}");
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{seen:?}");
}

// Case 3.
#[test]
fn every_way_to_name_a_target_leads_there() {
    let turn = Turn::shared();
    let (database, bench) = (Database::blank(&turn), Bench::new(&turn));
    let ids = ["none", "aaaa1111", "aaaa2222", "bbbb3333"];
    for (number, pair) in (1..).zip(ids.windows(2)) {
        bench.revision(number, pair[1], pair[0], "select 1", "select 1");
    }
    let run = |args: &[&str]| bench.run_on(&database, args);
    assert_eq!(run(&["upgrade", "+1"]).done(), "base -> aaaa1111\n");
    assert_eq!(run(&["upgrade", "bbbb"]).done(), "aaaa1111 -> bbbb3333 (head)\n");
    assert_eq!(run(&["downgrade", "-1"]).done(), "bbbb3333 (head) -> aaaa2222\n");
    assert_eq!(run(&["downgrade", "aaaa1"]).done(), "aaaa2222 -> aaaa1111\n");
    run(&["upgrade", "aaaa"]).failed(2, "`aaaa` begins aaaa1111 and aaaa2222");
    run(&["upgrade", "+99"]).failed(2, "+99 leads beyond the chain");
    run(&["downgrade", "bbbb"]).failed(2, "has not reached that revision");
    assert_eq!(run(&["current"]).done(), "aaaa1111\n");
}

// Case 4.
#[test]
fn a_bad_statement_takes_its_own_file_back_and_says_where_it_stands() {
    let turn = Turn::shared();
    let (database, bench) = (Database::blank(&turn), five(&turn));
    let file = "00000000000003_cccc.up.sql";
    let bad = |text: &str| format!("{text};\nselect 'é', nothing;\n");
    edit(&bench, file, bad);
    let failed = bench.run_on(&database, &["upgrade"]);
    failed.failed(1, "00000000000003_cccc.up.sql:8:13: column \"nothing\" does not exist [42703]");
    assert_eq!(bench.run_on(&database, &["current"]).done(), "bbbb\n");
    assert!(!is_there(&database, "cccc"), "its first statement is taken back");

    edit(&bench, file, |text| text.replace(", nothing", ""));
    assert_eq!(bench.run_on(&database, &["upgrade"]).done(), "bbbb -> eeee (head)\n");
}

#[test]
fn rows_in_the_way_are_told_with_where_the_database_stands_and_the_ways_on() {
    let turn = Turn::shared();
    let bench = Bench::new(&turn);
    bench.revision(1, "aaaa", "none", "create table t (a int, b int)", "drop table t");
    bench.revision(2, "bbbb", "aaaa", "create table u ()", "alter table t alter b set not null");
    for (up, code) in [
        ("alter table t alter b set not null", "23502"),
        ("alter table t add check (a > 1)", "23514"),
        ("create unique index on t (a)", "23505"),
        (
            "create table k (a int unique); alter table t add foreign key (a) references k (a)",
            "23503",
        ),
        ("alter table t add exclude (a with =)", "23P01"),
    ] {
        bench.revision(3, "cccc", "bbbb", up, "select 1");
        let database = Database::blank(&turn);
        bench.run_on(&database, &["upgrade", "aaaa"]).done();
        database.sql().run("insert into t values (1, null), (1, null)");
        let ran = bench.run_on(&database, &["upgrade"]);
        assert!(ran.err.contains(&format!("[{code}]; ")), "{ran:?}");
        let words = "the database is at bbbb, and the steps before this one stand: mend the rows \
                     and run this again, or go back with `peace-migrate downgrade aaaa`\n";
        ran.failed(1, words);
        let ran = bench.run_on(&database, &["upgrade"]);
        ran.failed(
            1,
            "the database is at bbbb, and the steps before this one stand: mend the rows \
                       and run this again\n",
        );
    }
    let database = Database::blank(&turn);
    bench.revision(3, "cccc", "bbbb", "create table v ()", "drop table v");
    bench.run_on(&database, &["upgrade"]).done();
    database.sql().run("insert into t values (1, null)");
    let ran = bench.run_on(&database, &["downgrade", "aaaa"]);
    ran.failed(
        1,
        "the database is at bbbb, and the steps before this one stand: mend the rows \
                   and run this again, or go back with `peace-migrate upgrade cccc`\n",
    );
}

#[test]
fn a_statement_that_takes_too_long_names_the_header_that_allows_more() {
    let turn = Turn::shared();
    let (database, bench) = (Database::blank(&turn), Bench::new(&turn));
    add(&bench, (1, "aaaa", "none"), "-- statement-timeout: 50ms\n", "select pg_sleep(60)");
    let words = "[57014]; it may take 50ms: write a longer `-- statement-timeout:` into the header of \
                 00000000000001_aaaa.up.sql";
    bench.run_on(&database, &["upgrade"]).failed(6, words);
}

// Cases 5 and 54.
#[test]
fn sixteen_runners_apply_each_file_once() {
    let turn = Turn::shared();
    let (database, bench) = (Database::blank(&turn), five(&turn));
    thread::scope(|scope| {
        let race = || bench.run_on(&database, &["upgrade", "head"]).done();
        let racers: Vec<_> = (0..16).map(|_| scope.spawn(race)).collect();
        let said = racers.into_iter().map(|racer| racer.join().unwrap());
        assert_eq!(said.filter(|said| said == "base -> eeee (head)\n").count(), 1);
    });
    let applied = ["aaaa", "bbbb", "cccc", "dddd", "eeee"].map(|id| format!("upgrade {id}"));
    assert_eq!(log(&database), applied);
    assert_eq!(server_errors(&database), [""; 0]);
}

// Case 7.
#[test]
fn a_killed_runner_leaves_nothing_and_the_next_one_goes_on() {
    let turn = Turn::shared();
    let (database, bench) = (Database::blank(&turn), Bench::new(&turn));
    let up = format!("create table half ();\n{GATE}");
    add(&bench, (1, "aaaa", "none"), "-- lock-timeout: 60s\n", &up);
    let gate = database.sql();
    gate.run("select pg_advisory_lock(7)");
    let mut first = start(&bench, &database, &["upgrade"]);
    await_waiting(&database, "%create table half%", 1);
    let mut second = start(&bench, &database, &["upgrade"]);
    said(&second, "waiting for another migration (process ");
    first.kill();
    // The second one has the lock when it comes to the gate.
    said(&second, "running <base> -> aaaa");
    assert!(!is_there(&database, "half"), "no half state");
    gate.run("select pg_advisory_unlock(7)");
    assert_eq!(second.end(SOON).code, Some(0));
    assert!(is_there(&database, "half"));
    assert_eq!(log(&database), ["upgrade aaaa"]);
}

#[test]
fn a_signal_rolls_back_gives_the_lock_back_and_exits_130() {
    let turn = Turn::shared();
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let (database, bench) = (Database::blank(&turn), Bench::new(&turn));
        let up = format!("create table half ();\n{GATE}");
        add(&bench, (1, "aaaa", "none"), "-- lock-timeout: 60s\n", &up);
        let gate = database.sql();
        gate.run("select pg_advisory_lock(7)");
        let mut run = start(&bench, &database, &["upgrade"]);
        await_waiting(&database, "%create table half%", 1);
        run.signal(signal);
        let ended = run.end(SOON);
        assert_eq!(ended.code, Some(130), "{ended:?}");
        let last = ended.lines.last().unwrap();
        assert!(last.starts_with("peace-migrate: interrupted: "), "{ended:?}");
        await_parted(&database);
        assert!(!is_there(&database, "half"));
        // It did not wait for the server to find out.
        let cancelled = server_errors(&database);
        assert!(cancelled[0].contains("canceling statement due to user request"), "{cancelled:?}");
        gate.run("select pg_advisory_unlock(7)");
        bench.run_on(&database, &["upgrade"]).done();
    }
}

#[test]
fn a_signal_ends_the_wait_for_another_runner() {
    let turn = Turn::shared();
    let (database, bench) = (Database::blank(&turn), Bench::new(&turn));
    add(&bench, (1, "aaaa", "none"), "-- lock-timeout: 60s\n", GATE);
    let gate = database.sql();
    gate.run("select pg_advisory_lock(7)");
    let mut first = start(&bench, &database, &["upgrade"]);
    await_waiting(&database, "%pg_advisory_xact_lock%", 1);
    let mut second = start(&bench, &database, &["upgrade"]);
    said(&second, "waiting for another migration (process ");
    second.signal(Signal::SIGINT);
    assert_eq!(second.end(SOON).code, Some(130));
    gate.run("select pg_advisory_unlock(7)");
    assert_eq!(first.end(SOON).code, Some(0), "it was not disturbed");
}

// Case 11.
#[test]
fn an_applied_file_that_was_edited_is_refused_until_it_is_restored_or_accepted() {
    let turn = Turn::shared();
    let (database, bench) = (Database::blank(&turn), five(&turn));
    bench.run_on(&database, &["upgrade"]).done();
    let file = "00000000000002_bbbb.up.sql";
    edit(&bench, file, |text| text.replace("table", "tablE"));
    for command in ["upgrade", "verify"] {
        let ran = bench.run_on(&database, &[command]);
        assert!(ran.err.contains("accept it with `peace-migrate repair`"), "{ran:?}");
        ran.failed(5, &format!("{file} was edited"));
    }
    let verdicts = bench.run_on(&database, &["verify"]).out;
    assert!(verdicts.contains("bbbb  edited  00000000000002_bbbb\n"), "{verdicts}");
    assert!(verdicts.contains("aaaa  ok  "), "{verdicts}");

    let before = records(&database);
    let said = bench.run_on(&database, &["repair", "bbbb"]).done();
    assert!(said.starts_with("bbbb: accepted the edited file\n  before  sha256:"), "{said}");
    assert_eq!(log(&database).last().unwrap(), "repair bbbb");
    let changed = records(&database).iter().zip(&before).filter(|(new, old)| new != old).count();
    assert_eq!(changed, 1);
    bench.run_on(&database, &["verify"]).done();
    let again = bench.run_on(&database, &["repair", "bbbb"]).done();
    assert!(again.starts_with("nothing to repair"), "{again}");
    bench.run_on(&database, &["downgrade", "-1"]).done();
    bench.run_on(&database, &["repair", "eeee"]).failed(1, "revision eeee is not applied");
}

// Case 11.
#[test]
fn line_ends_and_ways_back_may_change() {
    let turn = Turn::shared();
    let (database, bench) = (Database::blank(&turn), five(&turn));
    bench.run_on(&database, &["upgrade"]).done();
    for file in bench.files() {
        edit(&bench, &file, |text| format!("\u{feff}{}", text.replace('\n', "\r\n")));
    }
    bench.run_on(&database, &["upgrade"]).done();
    bench.run_on(&database, &["verify"]).done();
    down(&bench, 5, "eeee", "drop table if exists eeee");
    bench.run_on(&database, &["verify"]).done();
    assert_eq!(bench.run_on(&database, &["downgrade", "-1"]).done(), "eeee (head) -> dddd\n");
}

// Cases 12 and 55.
#[test]
fn a_revision_that_is_unknown_here_is_shown_and_stops_every_change() {
    let turn = Turn::shared();
    let (database, bench) = (Database::blank(&turn), five(&turn));
    bench.run_on(&database, &["upgrade"]).done();
    for side in ["up", "down"] {
        std::fs::remove_file(bench.versions().join(format!("00000000000005_eeee.{side}.sql")))
            .unwrap();
    }
    let words = "does not know the applied revision eeee: a newer release or another branch migrated \
                 this database (use its peace-migrate), or its file was deleted (restore it)";
    for args in [&["upgrade"][..], &["downgrade", "-1"], &["verify"], &["stamp", "head"]] {
        bench.run_on(&database, args).failed(5, words);
    }
    let current = bench.run_on(&database, &["current"]).done();
    assert_eq!(current, "eeee (unknown to this build)\n");
    bench.run_on(&database, &["current", "--check-heads"]).failed(3, "not at the newest revision");
    std::fs::remove_file(bench.versions().join("00000000000003_cccc.up.sql")).unwrap();
    std::fs::remove_file(bench.versions().join("00000000000003_cccc.down.sql")).unwrap();
    let words = "00000000000004_dddd.up.sql revises cccc, which no file declares: restore";
    bench.run_on(&database, &["upgrade"]).failed(5, words);
    assert_eq!(log(&database).len(), 5, "nothing was changed");
}

// Cases 9 and 14.
#[test]
fn what_no_file_may_hold_is_refused_with_its_line_before_anything_is_connected() {
    let turn = Turn::shared();
    let header = "-- revision: aaaa\n-- revises: none\n-- message: m\n";
    for (text, place) in [
        ("-- transaction: yes\n\nselect 1;\nBEGIN;", ":7: `begin`"),
        ("-- transaction: yes\n\ncommit;", ":6: `commit`"),
        ("-- transaction: yes\n\n\\i other.sql", ":6: a psql command"),
        ("-- transaction: yes\n-- lock-timout: 3s\n", ":5: unknown key `lock-timout`"),
        ("-- transaction: none\n\nselect 1;\nselect 2", ":7: `transaction: none` allows one"),
        ("-- transaction: yes\n\ncreate index concurrently a on b (c)", ":6: `concurrently`"),
    ] {
        let bench = Bench::new(&turn);
        bench.revision(1, "aaaa", "none", "", "");
        edit(&bench, "00000000000001_aaaa.up.sql", |_| format!("{header}{text}"));
        let words = format!("00000000000001_aaaa.up.sql{place}");
        bench.run(&["upgrade", "--database-url", "host=/nonexistent"]).failed(1, &words);
    }
    let bench = Bench::new(&turn);
    bench.up(1, "aaaa", "-- revises: none\n-- message: m\n-- transaction: yes\n");
    bench
        .run(&["upgrade", "--database-url", "host=/nonexistent"])
        .failed(1, "00000000000001_aaaa.up.sql:1: 00000000000001_aaaa.down.sql is missing");
}

#[test]
fn a_file_that_gives_the_lock_back_ends_the_run_before_the_next_one() {
    let turn = Turn::shared();
    let (database, bench) = (Database::blank(&turn), Bench::new(&turn));
    add(&bench, (1, "aaaa", "none"), "", "select pg_advisory_unlock_all()");
    add(&bench, (2, "bbbb", "aaaa"), "", "create table t (a int)");
    let ran = bench.run_on(&database, &["upgrade"]);
    ran.failed(6, "the migration lock is not held by this session");
    assert_eq!(log(&database), ["upgrade aaaa"]);

    add(&bench, (2, "bbbb", "aaaa"), "", "create table t (a int); select pg_advisory_unlock_all()");
    add(&bench, (3, "cccc", "bbbb"), "", "create index concurrently t_a_idx on t (a)");
    let ran = bench.run_on(&database, &["upgrade"]);
    ran.failed(6, "the migration lock is not held by this session");
    assert_eq!(log(&database), ["upgrade aaaa", "upgrade bbbb"]);
    assert!(!is_there(&database, "t_a_idx"));
}

// Case 15.
#[test]
fn settings_of_a_file_end_with_it() {
    let turn = Turn::shared();
    let (database, bench) = (Database::blank(&turn), Bench::new(&turn));
    let evil = "create schema evil; set search_path = evil; set lock_timeout = 0; \
                set session_replication_role = replica; create table here ()";
    add(&bench, (1, "aaaa", "none"), "", evil);
    // Anything else than the runner's own setting divides by zero.
    let check = "create table there (); select 1 / (current_setting('lock_timeout') = '3s')::int";
    add(&bench, (2, "bbbb", "aaaa"), "", check);
    bench.run_on(&database, &["upgrade"]).done();
    for table in ["evil.here", "public.there", "public.peace_migration"] {
        assert!(is_there(&database, table), "{table}");
    }
    assert_eq!(log(&database), ["upgrade aaaa", "upgrade bbbb"]);
}
