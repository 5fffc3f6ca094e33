//! What is written or tried instead of being done: `--sql`, `--dry-run=live`; and `stamp`.

use std::process::Output;

use super::bench::Bench;
use super::stage::{add, catalog, down, is_there, log, psql, records};
use crate::harness::{Database, Turn};

/// Revisions that show what a script has to get right.
fn bench(turn: &Turn) -> Bench<'_> {
    let bench = Bench::new(turn);
    let up = "create table t (a int, \"b;c\" text default 'x;''y' -- no end;\n)";
    bench.revision(1, "aaaa", "none", up, "drop table t");
    let index = "create index concurrently t_a_idx on t (a)";
    bench.revision(2, "bbbb", "aaaa", index, "drop index concurrently t_a_idx");
    let function = "create function f() returns int language sql begin atomic select 1; end;\n\
                    set search_path = pg_temp; set lock_timeout = 0; -- the end";
    add(&bench, (3, "cccc", "bbbb"), "", function);
    down(&bench, 3, "cccc", "drop function f");
    bench
}

fn run_script(database: &Database<'_>, bench: &Bench<'_>, script: &str) -> Output {
    let file = bench.versions().join("script");
    std::fs::write(&file, script).unwrap();
    psql(database, &["-q", "-f", file.to_str().unwrap()])
}

#[track_caller]
fn succeeds(output: &Output) {
    assert!(output.status.success(), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
}

#[track_caller]
fn refuses(output: &Output, words: &str) {
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains(words), "{said}");
}

// Cases 18 and 19.
#[test]
fn a_script_for_psql_does_what_a_run_does_and_only_once() {
    let turn = Turn::shared();
    let (online, offline, bench) = (Database::blank(&turn), Database::blank(&turn), bench(&turn));
    bench.run_on(&online, &["upgrade"]).done();
    let script = bench.run(&["upgrade", "--sql"]).done();
    assert_eq!(script, bench.run(&["upgrade", "base:head", "--sql"]).done());
    succeeds(&run_script(&offline, &bench, &script));
    assert_eq!(catalog(&offline), catalog(&online));
    assert_eq!(records(&offline), records(&online));
    assert_eq!(log(&offline), log(&online));

    let before = (catalog(&offline), log(&offline));
    let words = "the database is at cccc, and this is the way from base";
    refuses(&run_script(&offline, &bench, &script), words);
    assert_eq!((catalog(&offline), log(&offline)), before);

    let script = bench.run(&["downgrade", "head:base", "--sql"]).done();
    succeeds(&run_script(&offline, &bench, &script));
    bench.run_on(&online, &["downgrade", "base"]).done();
    assert_eq!(catalog(&offline), catalog(&online));
    assert_eq!((records(&offline), log(&offline)), (vec![], log(&online)));
}

// Case 19.
#[test]
fn a_script_begins_where_it_says() {
    let turn = Turn::shared();
    let (database, bench) = (Database::blank(&turn), bench(&turn));
    let script = bench.run(&["upgrade", "aaaa:bbbb", "--sql"]).done();
    let words = "the database is at base, and this is the way from aaaa";
    refuses(&run_script(&database, &bench, &script), words);
    assert!(!is_there(&database, "peace_migration"));
    bench.run_on(&database, &["upgrade", "aaaa"]).done();
    succeeds(&run_script(&database, &bench, &script));
    // With a database it begins where that stands.
    let script = bench.run_on(&database, &["upgrade", "--sql"]).done();
    assert!(script.starts_with("-- peace-migrate: from bbbb to cccc."), "{script}");
    succeeds(&run_script(&database, &bench, &script));
    assert_eq!(bench.run_on(&database, &["upgrade", "--sql"]).done(), "-- Nothing to do.\n");

    bench.run(&["downgrade", "base", "--sql"]).failed(2, "FROM:TO");
    bench.run(&["downgrade", "-1", "--sql"]).failed(2, "FROM:TO");
    bench.run(&["downgrade", "--sql"]).failed(2, "<TARGET>");
    bench.run(&["upgrade", "+1:head", "--sql"]).failed(2, "FROM:TO");
    bench.run(&["upgrade", "base:head"]).failed(2, "FROM:TO is for --sql");
    let alembic = Database::blank(&turn);
    alembic.sql().run("create table alembic_version as select '586f9c3cd40c' version_num");
    bench.run_on(&alembic, &["upgrade", "--sql"]).failed(5, "Alembic manages this database");
    bench.run(&["upgrade", "cccc:aaaa", "--sql"]).failed(2, "peace-migrate downgrade");
}

#[test]
fn a_script_clears_an_interrupted_build_away_and_waits_for_no_other_migration() {
    let turn = Turn::shared();
    let (database, bench) = (Database::blank(&turn), bench(&turn));
    bench.run_on(&database, &["upgrade", "aaaa"]).done();
    database.sql().run(
        "create index t_a_idx on t (a); \
         update pg_index set indisvalid = false where indexrelid = 't_a_idx'::regclass",
    );
    let script = bench.run(&["upgrade", "aaaa:bbbb", "--sql"]).done();
    let other = database.sql();
    let key = "1346715971, hashtext('public')";
    other.run(&format!("select pg_advisory_lock({key})"));
    refuses(&run_script(&database, &bench, &script), "another migration holds the lock");
    other.run(&format!("select pg_advisory_unlock({key})"));
    succeeds(&run_script(&database, &bench, &script));
    assert!(catalog(&database).iter().any(|line| line.contains("t_a_idx") && line.ends_with(" t")));
}

#[test]
fn a_script_without_a_schema_to_work_in_says_so() {
    let turn = Turn::shared();
    let (database, bench) = (Database::blank(&turn), bench(&turn));
    let script = bench.run(&["upgrade", "--sql"]).done();
    let name = database.name();
    database.sql().run(&format!("alter database {name} set search_path = nowhere"));
    refuses(&run_script(&database, &bench, &script), "no schema of search_path exists: create one");
}

#[test]
fn a_file_that_sets_the_role_is_recorded_all_the_same() {
    let turn = Turn::shared();
    let bench = Bench::new(&turn);
    let role = "grant create on schema public to pg_monitor; set role pg_monitor; \
                create table mine ()";
    bench.revision(1, "aaaa", "none", role, "set role pg_monitor; drop table mine");
    bench.revision(2, "bbbb", "aaaa", "create table ours ()", "drop table ours");
    let (online, offline) = (Database::blank(&turn), Database::blank(&turn));
    bench.run_on(&online, &["upgrade"]).done();
    succeeds(&run_script(&offline, &bench, &bench.run(&["upgrade", "--sql"]).done()));
    for database in [&online, &offline] {
        assert_eq!(log(database), ["upgrade aaaa", "upgrade bbbb"]);
        let owner = "select relowner::regrole::text from pg_class where oid = to_regclass($1)";
        assert_eq!(database.sql().value::<String>(owner, &[&"mine"]), "pg_monitor");
        assert_ne!(database.sql().value::<String>(owner, &[&"ours"]), "pg_monitor");
    }
    bench.run_on(&online, &["downgrade", "base"]).done();
    succeeds(&run_script(
        &offline,
        &bench,
        &bench.run(&["downgrade", "head:base", "--sql"]).done(),
    ));
    for database in [&online, &offline] {
        assert_eq!(records(database), [""; 0]);
    }
}

#[test]
fn a_script_that_fails_leaves_its_step_undone() {
    let turn = Turn::shared();
    let (database, bench) = (Database::blank(&turn), bench(&turn));
    add(&bench, (4, "dddd", "cccc"), "", "create table half (); select nothing");
    let script = bench.run(&["upgrade", "--sql"]).done();
    refuses(&run_script(&database, &bench, &script), "column \"nothing\" does not exist");
    assert!(!is_there(&database, "half"));
    assert_eq!(bench.run_on(&database, &["current"]).done(), "cccc\n");
}

// Case 20.
#[test]
fn a_rehearsal_changes_nothing_and_says_what_it_did_not_try() {
    let turn = Turn::shared();
    let (database, bench) = (Database::blank(&turn), bench(&turn));
    let rehearse = || bench.run_on(&database, &["upgrade", "--dry-run=live"]);
    let ran = rehearse();
    assert!(ran.err.contains("real locks are taken until the rollback"), "{ran:?}");
    let lines = "ok         00000000000001_aaaa.up.sql\n\
                 not tried  00000000000002_bbbb.up.sql (outside of a transaction)\n\
                 not tried  00000000000003_cccc.up.sql (may depend on the one before)\n";
    assert_eq!(ran.done(), lines);
    assert_eq!(catalog(&database), [""; 0], "not even our own tables are there");

    bench.run_on(&database, &["upgrade"]).done();
    assert_eq!(rehearse().done(), "nothing to try: no revision is pending\n");
    add(&bench, (4, "dddd", "cccc"), "", "create table half ();\nselect nothing");
    let before = (catalog(&database), records(&database), log(&database));
    add(&bench, (5, "eeee", "dddd"), "", "create table whole ()");
    let ran = rehearse();
    let lines = "fails      00000000000004_dddd.up.sql\n\
                 not tried  00000000000005_eeee.up.sql (may depend on the one before)\n";
    assert_eq!(ran.out, lines);
    ran.failed(1, "00000000000004_dddd.up.sql:7:8: column \"nothing\"");
    assert_eq!((catalog(&database), records(&database), log(&database)), before);

    let holder = database.sql();
    add(&bench, (4, "dddd", "cccc"), "", "alter table t add column d int");
    holder.run("begin; lock table t in access share mode");
    rehearse().failed(6, "canceling statement due to lock timeout");
}

// Case 21.
#[test]
fn a_stamp_changes_only_the_bookkeeping() {
    let turn = Turn::shared();
    let (database, bench) = (Database::blank(&turn), bench(&turn));
    bench.run_on(&database, &["stamp", "head"]).failed(4, "the schema is not the one");
    assert!(!is_there(&database, "peace_migration"));
    let stamp = |args: &[&str]| bench.run_on(&database, &[&["stamp"], args].concat()).done();
    assert_eq!(stamp(&["head", "--force"]), "base -> cccc (head)\n");
    assert!(!is_there(&database, "t"));
    let states = "select string_agg(revision || ' ' || state, ', ' order by revision) \
                  from peace_migration";
    let states = || database.sql().value::<Option<String>>(states, &[]);
    assert_eq!(states().unwrap(), "aaaa stamped, bbbb stamped, cccc stamped");
    assert_eq!(log(&database), ["stamp aaaa", "stamp bbbb", "stamp cccc"]);
    assert_eq!(stamp(&["head", "--force"]), "already at cccc (head)\n");
    assert_eq!(stamp(&["aaaa", "--force"]), "cccc (head) -> aaaa\n");
    assert_eq!(states().unwrap(), "aaaa stamped");
    assert_eq!(stamp(&["base", "--purge"]), "aaaa -> base\n");
    assert_eq!(states(), None);
    assert_eq!(log(&database)[3..], ["unstamp cccc", "unstamp bbbb", "unstamp aaaa"]);

    bench.run_on(&database, &["upgrade"]).done();
    database.sql().run("delete from peace_migration");
    assert_eq!(stamp(&["head"]), "base -> cccc (head)\n", "the schema is that of the head");
}

#[test]
fn a_stamp_can_be_a_script_too() {
    let turn = Turn::shared();
    let (online, offline, bench) = (Database::blank(&turn), Database::blank(&turn), bench(&turn));
    bench.run_on(&online, &["stamp", "bbbb", "--force"]).done();
    let script = bench.run(&["stamp", "bbbb", "--sql"]).done();
    succeeds(&run_script(&offline, &bench, &script));
    assert_eq!((records(&offline), log(&offline)), (records(&online), log(&online)));
    bench.run_on(&online, &["stamp", "aaaa", "--force"]).done();
    let script = bench.run(&["stamp", "bbbb:aaaa", "--sql"]).done();
    succeeds(&run_script(&offline, &bench, &script));
    assert_eq!((records(&offline), log(&offline)), (records(&online), log(&online)));
}
