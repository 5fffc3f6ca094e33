//! Data that would go: refused on the way up without a reason, on the way down without `--yes`.

use super::bench::Bench;
use super::stage::{add, down, is_there, log};
use crate::harness::{Database, Turn};

/// A table with an old and a new column; the second revision drops what is in `drops`.
fn bench_with<'a>(turn: &'a Turn, header: &str, drops: &str) -> Bench<'a> {
    let bench = Bench::new(turn);
    let up = "create table item (id int, title text, note text)";
    bench.revision(1, "aaaa", "none", up, "drop table item");
    add(&bench, (2, "bbbb", "aaaa"), header, drops);
    bench
}

#[test]
fn a_file_that_destroys_data_without_a_reason_stops_the_upgrade_before_it_begins() {
    let turn = Turn::shared();
    for (drops, place) in [
        (
            "select 1;\nalter table item drop column title",
            ":7: `alter table item drop column title`",
        ),
        ("drop table item", ":6: `drop table item`"),
        ("truncate item", ":6: `truncate item`"),
        ("delete from item", ":6: `delete from item` without `where`"),
        ("update item set title = ''", ":6: `update item` without `where`"),
        ("do $$ begin perform 1; end $$", ":6: a `do` block cannot be looked into"),
    ] {
        let (database, bench) = (Database::blank(&turn), bench_with(&turn, "", drops));
        let ran = bench.run_on(&database, &["upgrade"]);
        assert!(ran.err.contains("`-- allow-destructive: <reason>`"), "{ran:?}");
        ran.failed(7, &format!("00000000000002_bbbb.up.sql{place}"));
        assert!(!is_there(&database, "item"), "not even the file before it ran");
        assert!(!is_there(&database, "peace_migration"));
        bench.run_on(&database, &["upgrade", "--sql"]).failed(7, "bbbb.up.sql");
        bench.run_on(&database, &["upgrade", "--allow-destructive"]).done();
    }
}

#[test]
fn a_reason_in_the_header_lets_it_pass() {
    let turn = Turn::shared();
    let header = "-- allow-destructive: nobody reads titles\n";
    let bench = bench_with(&turn, header, "alter table item drop column title");
    let database = Database::blank(&turn);
    assert_eq!(bench.run_on(&database, &["upgrade"]).done(), "base -> bbbb (head)\n");
}

#[test]
fn a_way_down_says_what_is_lost_and_wants_a_yes() {
    let turn = Turn::shared();
    let (database, bench) = (Database::blank(&turn), bench_with(&turn, "", "select 1"));
    down(&bench, 2, "bbbb", "alter table item drop column if exists note, drop title");
    bench.run_on(&database, &["upgrade"]).done();
    database.sql().run("insert into item values (1, 'a'), (2, null), (3, 'c')");
    let ran = bench.run_on(&database, &["downgrade", "base"]);
    ran.failed(7, "item.title: 2 values; item: 3 rows: that would be lost; give --yes");
    assert_eq!(log(&database).len(), 2, "nothing was changed");

    database.sql().run("insert into item select 1 from generate_series(1, 2000)");
    let ran = bench.run_on(&database, &["downgrade", "base"]);
    ran.failed(7, "item.title: 2 values; item: more than 1000 rows");

    let ran = bench.run_on(&database, &["downgrade", "-1", "--yes"]);
    assert!(ran.err.contains("losing item.title: 2 values\n"), "{ran:?}");
    ran.done();
    let ran = bench.run_on(&database, &["downgrade", "-1"]);
    ran.failed(7, "item: more than 1000 rows");
    database.sql().run("delete from item");
    bench.run_on(&database, &["downgrade", "-1"]).done();
    assert!(!is_there(&database, "item"));
}

#[test]
fn a_way_down_that_changes_values_says_how_many_and_wants_a_yes() {
    let turn = Turn::shared();
    let (database, bench) = (Database::blank(&turn), Bench::new(&turn));
    let up = "create table item (n numeric, \"T\" text, d timestamptz, j jsonb); \
              create sequence s";
    bench.revision(1, "aaaa", "none", up, "drop table item; drop sequence s");
    bench.revision(2, "bbbb", "aaaa", "select 1", "");
    let values = "insert into item values \
        (1, 'abc', '2026-01-01 12:00:00Z', '1'), (1.5, 'ab', '2026-01-01 12:00:00.25Z', null), \
        (-2.5, null, null, null)";
    bench.run_on(&database, &["upgrade"]).done();
    let go = |change: &str| {
        down(&bench, 2, "bbbb", &format!("alter table item {change}"));
        bench.run_on(&database, &["downgrade", "-1"])
    };
    let all = "alter n type int, alter column \"T\" set data type varchar(2) using \
               left(\"T\", 2) -- two\n, alter d type timestamptz(0), alter j type int using (j)::int";
    database.sql().run(values);
    go(all).failed(
        7,
        "item.n as int: 2 values; item.T as varchar(2): 1 value; \
         item.d as timestamptz(0): 1 value; item.j as int: 1 value, as whether they come back",
    );
    go("alter n type int using nextval('s')").failed(7, "item.n");
    go("alter n type int using n * nextval('s')").failed(7, "item.n as int: 3 values, as whether");
    let calls = "select is_called from s";
    assert!(!database.sql().value::<bool>(calls, &[]), "the look wrote nothing");
    assert_eq!(bench.run_on(&database, &["current"]).done(), "bbbb (head)\n");

    // Through the session's zone every value comes back; of the same moment it need not be.
    go("alter d type timestamp").failed(7, "item.d as timestamp: 2 values, as whether they come");

    // What comes back as it is needs no question.
    assert_eq!(go("alter n type text, alter j type text, alter d type timestamp using d at time zone 'UTC'").done(), "bbbb (head) -> aaaa\n");
    bench.run_on(&database, &["upgrade"]).done();
    database.sql().run("alter table item alter n type numeric using n::numeric");
    down(&bench, 2, "bbbb", "alter table item alter n type int");
    let ran = bench.run_on(&database, &["downgrade", "-1", "--yes"]);
    assert!(ran.err.contains("losing item.n as int: 2 values\n"), "{ran:?}");
    ran.done();
}

#[test]
fn a_name_that_an_earlier_step_brings_back_is_looked_at_before_its_step() {
    let turn = Turn::shared();
    let database = Database::blank(&turn);
    let bench = bench_with(&turn, "", "alter table item rename to thing");
    down(&bench, 2, "bbbb", "alter table thing rename to item");
    bench.run_on(&database, &["upgrade"]).done();
    database.sql().run("insert into thing values (1)");
    bench.run_on(&database, &["downgrade", "base"]).failed(7, "item: 1 row: that would be lost");
    assert_eq!(bench.run_on(&database, &["current"]).done(), "aaaa\n");
    assert!(is_there(&database, "item"), "its rows are there");
    bench.run_on(&database, &["downgrade", "base", "--yes"]).done();
}

#[test]
fn nobody_waits_for_a_look_at_a_locked_table() {
    let turn = Turn::shared();
    let (database, bench) = (Database::blank(&turn), bench_with(&turn, "", "select 1"));
    let text =
        "-- revision: bbbb\n-- transaction: yes\n-- lock-timeout: 100ms\n\ndrop table item\n";
    std::fs::write(bench.versions().join("00000000000002_bbbb.down.sql"), text).unwrap();
    bench.run_on(&database, &["upgrade"]).done();
    let holder = database.sql();
    holder.run("begin; lock table item");
    let ran = bench.run_on(&database, &["downgrade", "-1"]);
    ran.failed(6, "while counting what would be lost: canceling statement due to lock timeout");
    assert_eq!(log(&database).len(), 2, "nothing was changed");
}

#[test]
fn what_cannot_be_looked_into_wants_a_yes() {
    let turn = Turn::shared();
    let (database, bench) = (Database::blank(&turn), bench_with(&turn, "", "select 1"));
    down(&bench, 2, "bbbb", "do $$ begin drop table item; end $$");
    bench.run_on(&database, &["upgrade"]).done();
    let words = "00000000000002_bbbb.down.sql:4: a `do` block cannot be looked into";
    bench.run_on(&database, &["downgrade", "-1"]).failed(7, words);
    bench.run_on(&database, &["downgrade", "-1", "--yes"]).done();
    assert!(!is_there(&database, "item"));
}
