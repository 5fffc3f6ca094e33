//! `upgrade --dry-run`, on an empty copy.

use super::bench::Bench;
use crate::harness::{Database, Turn};

const INDEX: &str = "create index concurrently item_price_idx on item (price)";

fn bench(turn: &Turn) -> Bench<'_> {
    let bench = Bench::new(turn);
    bench.revision(1, "root", "none", "create table item (price int)", "drop table item");
    bench
}

/// What an upgrade would change.
fn state(database: &Database<'_>) -> String {
    let catalog = "select string_agg(x::text, ',' order by x::text) from (select oid, xmin, \
        relname from pg_class where relnamespace = 'public'::regnamespace) x";
    let rows = "select string_agg(x::text, ',' order by x::text) from peace_migration x";
    let sql = format!("select coalesce(({catalog}), '') || coalesce(({rows}), '')");
    database.sql().value(&sql, &[])
}

// Case 20: tried is what would be run, a build outside of a transaction too, and nothing changes.
#[test]
fn an_empty_copy_is_upgraded_and_the_database_is_not() {
    let turn = Turn::shared();
    let database = Database::blank(&turn);
    let bench = bench(&turn);
    bench.run_on(&database, &["upgrade"]).done();
    let before = state(&database);
    let ran = bench.run_on(&database, &["upgrade", "--dry-run"]);
    assert_eq!(ran.done(), "already at root (head); nothing was changed\n");

    bench.revision(2, "more", "root", "create table more ()", "drop table more");
    bench.revision(3, "built", "more", INDEX, "drop index concurrently item_price_idx");
    let ran = bench.run_on(&database, &["upgrade", "--dry-run"]);
    for step in ["running root -> more, more", "running more -> built, built", "on an empty copy"] {
        assert!(ran.err.contains(step), "{ran:?}");
    }
    assert!(!ran.err.contains("<base>"), "what is applied is not told again: {ran:?}");
    assert_eq!(ran.done(), "root -> built (head); nothing was changed\n");
    let ran = bench.run_on(&database, &["upgrade", "+1", "--dry-run=scratch"]);
    assert_eq!(ran.done(), "root -> more; nothing was changed\n");
    assert_eq!(state(&database), before);
    assert_eq!(bench.run_on(&database, &["upgrade"]).done(), "root -> built (head)\n");
}

// Case 20: what would stop the upgrade stops this, with the same words and exit code.
#[test]
fn what_would_stop_the_upgrade_is_told() {
    let turn = Turn::shared();
    let database = Database::blank(&turn);
    let bench = bench(&turn);
    bench.run_on(&database, &["upgrade"]).done();
    let before = state(&database);
    bench.revision(2, "next", "root", "alter table item drop column price", "select 1");
    let dry = |args: &[&str]| bench.run_on(&database, &[&["upgrade", "--dry-run"], args].concat());
    dry(&[]).failed(7, "00000000000002_next.up.sql:6: ");
    assert_eq!(dry(&["--allow-destructive"]).done(), "root -> next (head); nothing was changed\n");
    bench.revision(2, "next", "root", "select 1;\nselect nonsense", "select 1");
    dry(&[]).failed(1, "00000000000002_next.up.sql:7:8: column \"nonsense\" does not exist");
    dry(&["+2"]).failed(2, "+2 leads beyond the chain");
    bench.revision(1, "root", "none", "create table other ()", "drop table other");
    dry(&[]).failed(5, "00000000000001_root.up.sql was edited");
    assert_eq!(state(&database), before);
}

// Case 21: only a schema that is the revision's may be said to be at it.
#[test]
fn a_stamp_compares_the_schema_first() {
    let turn = Turn::shared();
    let database = Database::blank(&turn);
    let bench = bench(&turn);
    let stamp = |args: &[&str]| bench.run_on(&database, &[&["stamp"], args].concat());
    stamp(&["head"]).failed(4, "missing table item");
    assert_eq!(bench.run_on(&database, &["current"]).done(), "", "nothing was written");
    database.sql().run("create table item (price integer)");
    assert_eq!(stamp(&["head"]).done(), "base -> root (head)\n");
    assert_eq!(bench.run_on(&database, &["drift"]).done(), super::drift::CLEAN);
    stamp(&["base"]).failed(4, "extra table item");
    assert_eq!(stamp(&["base", "--force"]).done(), "root (head) -> base\n");
    database.sql().run("alter table item add x int");
    stamp(&["head"]).failed(4, "extra column item.x: integer");
    assert_eq!(stamp(&["head", "--force"]).done(), "base -> root (head)\n");
}
