//! What `drift` finds in a live database, and what it does not.

use std::thread;
use std::time::Duration;

use super::bench::{Bench, ONE_WAY};
use crate::harness::wait::until_true;
use crate::harness::{Database, Turn};

pub(super) const CLEAN: &str = "no drift: the database is as its revision says\n";
const LIMIT: Duration = Duration::from_secs(20);
const TABLE: &str = "create table item (id int primary key, name varchar(255), price int); \
    create index item_name_idx on item (name);";

fn bench(turn: &Turn) -> Bench<'_> {
    let bench = Bench::new(turn);
    bench.revision(1, "root", "none", TABLE, "drop table item");
    bench
}

// Case 45: each change by hand is found; what is no change is not.
#[test]
fn what_was_changed_by_hand_is_found() {
    let turn = Turn::shared();
    let database = Database::blank(&turn);
    let (bench, sql) = (bench(&turn), database.sql());
    bench.run_on(&database, &["upgrade"]).done();
    bench.revision(2, "next", "root", "create table more (id int)", "drop table more");
    assert_eq!(bench.run_on(&database, &["drift"]).done(), CLEAN, "what is pending is no drift");

    sql.run("create table alembic_version (version_num varchar(32) not null)");
    sql.run("alter table item add x int");
    sql.run("alter table item alter name type varchar(254)");
    sql.run("alter table item add constraint positive check (price > 0) not valid");
    sql.run("drop index item_name_idx");
    sql.run("insert into item values (1, 'a', 1), (2, 'b', 1)");
    sql.fails("create unique index concurrently item_price_idx on item (price)");
    let ran = bench.run_on(&database, &["drift"]);
    assert_eq!(
        ran.out.lines().collect::<Vec<_>>(),
        [
            "changed column item.name: is character varying(254), should be character varying(255)",
            "extra column item.x: integer",
            "extra constraint positive on item: CHECK ((price > 0)) NOT VALID",
            "missing index item_name_idx on item: USING btree (name)",
            "extra index item_price_idx on item: unique USING btree (price) INVALID",
        ]
    );
    ran.failed(4, "peace-migrate: the database is not what its revision says");

    // The way back, as a person runs it who has read it; Case 52 ends here too.
    let script = bench.run_on(&database, &["drift", "--sql"]).done();
    assert!(script.starts_with("-- data goes: column item.x\n"), "{script}");
    sql.run("update item set price = null");
    sql.run(&script);
    assert_eq!(bench.run_on(&database, &["drift"]).done(), CLEAN, "{script}");
    assert_eq!(bench.run_on(&database, &["drift", "--sql"]).done(), "");
    assert_eq!(sql.value::<i64>("select count(*) from item", &[]), 2, "rows stay");
}

#[test]
fn json_has_the_shape_that_the_readme_shows() {
    let turn = Turn::shared();
    let database = Database::blank(&turn);
    let bench = bench(&turn);
    bench.run_on(&database, &["upgrade"]).done();
    bench.run_on(&database, &["dump"]).done();
    database.sql().run("create view v as select 1 as \"a: b\"; alter table item drop price");
    let read = |args: &[&str]| {
        let ran = bench.run_on(&database, args);
        assert_eq!(ran.code, Some(4), "{ran:?}");
        serde_json::from_str::<serde_json::Value>(&ran.out).unwrap()
    };
    let found = read(&["drift", "--json"]);
    let view = "view  SELECT 1 AS \"a: b\";";
    let expected = serde_json::json!({ "ok": false, "findings": [
        { "object": "column item.price", "have": null, "want": "integer" },
        { "object": "view v", "have": view, "want": null },
    ]});
    assert_eq!(found, expected);
    std::fs::remove_file(bench.lock_file()).unwrap();
    assert_eq!(read(&["drift", "--json"]), expected, "with and without a lock file");
}

#[test]
fn another_revision_than_its_own_can_be_compared() {
    let turn = Turn::shared();
    let database = Database::blank(&turn);
    let bench = bench(&turn);
    bench.revision(2, "next", "root", "alter table item add x int", "alter table item drop x");
    bench.run_on(&database, &["upgrade", "root"]).done();
    let ran = bench.run_on(&database, &["drift", "--against", "next"]);
    ran.failed(4, "missing column item.x: integer");
    let ran = bench.run_on(&database, &["drift", "--against", "base"]);
    ran.failed(4, "extra table item");
    assert_eq!(bench.run_on(&database, &["drift"]).done(), CLEAN);
}

// Case 17: the lock file stands for the scratch database that this role may not make.
#[test]
fn a_role_that_may_not_create_databases_does_everything_but_check() {
    let turn = Turn::shared();
    let database = Database::blank(&turn);
    let (bench, sql) = (bench(&turn), database.sql());
    bench.run_on(&database, &["dump"]).done();
    bench.declare(TABLE);
    sql.run("create role poor login");
    sql.run("grant create on schema public to poor");
    let poor = |args: &[&str]| bench.run_at(&format!("{} user=poor", database.url()), args);
    poor(&["upgrade"]).done();
    assert_eq!(poor(&["current"]).done(), "root (head)\n");
    poor(&["history", "--indicate-current"]).done();
    assert_eq!(poor(&["drift"]).done(), CLEAN);
    sql.run("alter table item add x int");
    poor(&["drift"]).failed(4, "extra column item.x: integer");
    poor(&["check"]).failed(1, "`alter role … createdb`, or set PEACE_SCRATCH_URL to an empty");
}

#[test]
fn other_programs_in_the_database_are_no_drift() {
    let turn = Turn::shared();
    let database = Database::blank(&turn);
    let (bench, sql) = (bench(&turn), database.sql());
    bench.revision(
        2,
        "next",
        "root",
        "create schema own; create table own.t ()",
        "drop schema own",
    );
    bench.run_on(&database, &["upgrade"]).done();
    sql.run("create extension pg_stat_statements");
    sql.run("create schema \"an.other\"; comment on schema \"an.other\" is 'its'");
    sql.run("create table \"an.other\".item (id int references public.item)");
    sql.run("create function \"an.other\".f() returns int language sql as 'select 1'");
    sql.run("create type \"an.other\".mood as enum ('a')");
    assert_eq!(bench.run_on(&database, &["drift"]).done(), CLEAN);
    bench.run_on(&database, &["dump"]).done();
    assert_eq!(bench.run_on(&database, &["drift"]).done(), CLEAN);
    sql.run("create table own.x ()");
    bench.run_on(&database, &["drift"]).failed(4, "extra table own.x");
    sql.run("drop schema own cascade");
    bench.run_on(&database, &["drift"]).failed(4, "missing schema own");
}

// Case 46: it runs while an index is built, which is there and INVALID until a transaction ends.
#[test]
fn an_upgrade_that_runs_is_no_drift() {
    let turn = Turn::shared();
    let database = Database::blank(&turn);
    let (bench, sql) = (bench(&turn), database.sql());
    bench.run_on(&database, &["upgrade"]).done();
    let index = "create index concurrently item_price_idx on item (price)";
    bench.revision(2, "next", "root", index, "drop index concurrently item_price_idx");
    thread::scope(|scope| {
        // In here, so that the build can end when this test fails.
        let old = database.sql();
        old.run("begin; insert into item values (1)");
        let upgrade = scope.spawn(|| bench.run_on(&database, &["upgrade"]));
        let invalid = "select exists (select from pg_index where not indisvalid)";
        until_true("the build waits", LIMIT, || sql.value(invalid, &[]));
        let drift = scope.spawn(|| bench.run_on(&database, &["drift"]));
        let looked = "select exists (select from pg_stat_activity where datname = \
            current_database() and application_name = 'peace-migrate' and state = 'idle' and \
            query like '%peace_migration order by%')";
        until_true("drift looks", LIMIT, || sql.value(looked, &[]));
        assert!(!drift.is_finished(), "it waits for the upgrade's end");
        let ran = bench.run_on(&database, &["drift", "--lock-wait", "0"]);
        ran.failed(6, "another migration holds the lock (process ");
        old.run("commit");
        upgrade.join().unwrap().done();
        assert_eq!(drift.join().unwrap().done(), CLEAN);
    });
    // A build that was killed is drift, and told as what it is.
    sql.run("update pg_index set indisvalid = false where indexrelid = 'item_price_idx'::regclass");
    bench
        .run_on(&database, &["drift"])
        .failed(4, "index item_price_idx on item: is USING btree (pr");
}

// A lock file is written on one machine and read on others.
#[test]
fn how_a_session_spells_is_no_drift() {
    let turn = Turn::shared();
    let database = Database::blank(&turn);
    let bench = Bench::new(&turn);
    let table = "create table item (at timestamptz default '2020-01-01 00:00+00', \
        span interval default '1 day 02:00', share float8 default 0.1, seal bytea default \
        '\\x00ff')";
    bench.revision(1, "root", "none", table, "drop table item");
    bench.run_on(&database, &["dump"]).done();
    bench.run_on(&database, &["upgrade"]).done();
    database.sql().run(
        "create role speller superuser login; alter role speller set timezone = 'Asia/Tokyo'; \
         alter role speller set datestyle = 'German'; alter role speller set intervalstyle = \
         'iso_8601'; alter role speller set quote_all_identifiers = on; alter role speller set \
         bytea_output = 'escape'; alter role speller set extra_float_digits = -9",
    );
    let speller = format!("{} user=speller", database.url());
    assert_eq!(bench.run_at(&speller, &["drift"]).done(), CLEAN);
    let lock = std::fs::read_to_string(bench.lock_file()).unwrap();
    assert_eq!(bench.run_at(&speller, &["dump", "--stdout"]).done(), lock);
}

#[test]
fn a_database_that_was_never_migrated_has_nothing_to_be_compared_with() {
    let turn = Turn::shared();
    let database = Database::blank(&turn);
    let bench = Bench::new(&turn);
    bench.up(1, "root", &format!("-- revises: none\n{ONE_WAY}\n\nselect 1\n"));
    assert_eq!(bench.run_on(&database, &["drift"]).done(), CLEAN, "it is empty");
    database.sql().run("create table left_over ()");
    bench.run_on(&database, &["drift"]).failed(4, "extra table left_over");
}
