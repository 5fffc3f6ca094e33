//! Two branches revised one parent.

use super::bench::Bench;
use crate::harness::{Database, Turn};

/// A table, and two branches that each add one; the later branch also adds an index.
fn fork<'a>(turn: &'a Turn) -> Bench<'a> {
    let bench = Bench::new(turn);
    bench.revision(1, "root", "none", "create table root (a int);", "drop table root;");
    left(&bench, "root");
    right(&bench, "root");
    bench
}

fn left(bench: &Bench<'_>, revises: &str) {
    bench.revision(2, "left1", revises, "create table lefty (a int);", "drop table lefty;");
}

fn right(bench: &Bench<'_>, revises: &str) {
    let index = "create index concurrently root_a_idx on root (a);";
    bench.revision(3, "right1", revises, "create table righty (a int);", "drop table righty;");
    bench.revision(4, "right2", "right1", index, "drop index concurrently root_a_idx;");
}

/// The schema that the revisions give, without the id that it is of.
fn schema(bench: &Bench<'_>, database: &Database<'_>) -> Vec<String> {
    let dump = bench.run_on(database, &["dump", "--stdout"]).done();
    dump.lines().filter(|line| !line.starts_with("-- ")).map(str::to_owned).collect()
}

// Case 13.
#[test]
fn two_heads_are_refused_and_rebase_makes_them_one_line() {
    let turn = Turn::shared();
    let bench = fork(&turn);
    let database = Database::blank(&turn);
    for args in [&["upgrade"][..], &["check"], &["lint"], &["dump", "--stdout"]] {
        let told = "2 heads: left1, right2; run `peace-migrate rebase`";
        bench.run_on(&database, args).failed(1, told);
    }
    assert_eq!(bench.run(&["heads"]).done(), "left1 (head)\nright2 (head)\n");
    let json = bench.run(&["heads", "--json"]).done();
    let heads: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!([&heads[0]["revision"], &heads[1]["revision"]], ["left1", "right2"]);
    assert_eq!([&heads[0]["head"], &heads[1]["head"]], [true, true]);
    let tables = "select count(*) from pg_tables where schemaname = 'public'";
    assert_eq!(database.sql().value::<i64>(tables, &[]), 0, "nothing was run");

    let moved = bench.run_on(&database, &["rebase"]).done();
    assert!(moved.starts_with("00000000000003_right1 -> 2"), "{moved}");
    assert_eq!(bench.run(&["heads"]).done().lines().count(), 1);
    let ordered = Bench::new(&turn);
    ordered.revision(1, "root", "none", "create table root (a int);", "drop table root;");
    left(&ordered, "root");
    right(&ordered, "left1");
    assert_eq!(schema(&bench, &database), schema(&ordered, &database));

    bench.run_on(&database, &["upgrade"]).done();
    bench.run_on(&database, &["downgrade", "-3"]).done();
    let again = bench.run_on(&database, &["rebase"]).done();
    assert!(again.starts_with("one head, ") && again.ends_with(": nothing to do\n"), "{again}");
}

#[test]
fn a_branch_that_the_database_has_is_not_moved_and_the_other_one_may_be() {
    let turn = Turn::shared();
    let bench = fork(&turn);
    let database = Database::blank(&turn);
    let own = Bench::new(&turn);
    own.revision(1, "root", "none", "create table root (a int);", "drop table root;");
    right(&own, "root");
    own.run_on(&database, &["upgrade"]).done();

    let files = bench.files();
    let told = "revision right1 of this branch is applied to the database: move the other branch \
                (`peace-migrate rebase left1`), or take this one back first (`peace-migrate \
                downgrade root`";
    bench.run_on(&database, &["rebase"]).failed(5, told);
    assert_eq!(bench.files(), files, "nothing was touched");
    bench.run_on(&database, &["rebase", "left1"]).done();
    let upgraded = bench.run_on(&database, &["upgrade"]).done();
    assert!(upgraded.starts_with("right2 -> 2"), "{upgraded}");
}

#[test]
fn an_unreachable_database_is_no_excuse_to_move_what_it_may_have() {
    let turn = Turn::shared();
    let bench = fork(&turn);
    let files = bench.files();
    let url = "postgres://ann:secret-word@127.0.0.1:1/peace";
    let ran = bench.run(&["rebase", "--database-url", url]);
    assert!(!ran.err.contains("secret-word"), "{ran:?}");
    ran.failed(1, "127.0.0.1");
    assert_eq!(bench.files(), files);
}
