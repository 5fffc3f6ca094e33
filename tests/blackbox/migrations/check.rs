//! What `check` finds, and what it does not.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use super::bench::{Bench, ONE_WAY};
use super::spellings::{CHANGES, SAME};
use crate::harness::{Database, Turn};

const CLEAN: &str = "no changes: the revisions give what is declared\n";

/// Every text with a table name of its own in place of `{t}`, as one file.
fn numbered<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let named = texts.enumerate().map(|(number, text)| text.replace("{t}", &named(number)));
    named.map(|text| format!("{text};\n")).collect()
}

fn named(number: usize) -> String {
    format!("t{number:02}")
}

// Cases 24 and 38: all of them in one run, since two would have to be told apart anyway.
#[test]
fn the_same_schema_in_other_words_is_no_difference() {
    let turn = Turn::shared();
    let database = Database::blank(&turn);
    assert!(SAME.len() >= 20);
    let sides = [0, 1].map(|side| numbered(SAME.iter().map(|pair| [pair.0, pair.1][side])));
    let bench = Bench::sides(&turn, &sides[1], &sides[0]);
    assert_eq!(bench.run_on(&database, &["check"]).done(), CLEAN);
}

// Cases 25 to 32, 37 and 40: what is found is exactly this, no line more.
#[test]
fn a_change_of_any_kind_is_named() {
    let turn = Turn::shared();
    let database = Database::blank(&turn);
    let up = numbered(CHANGES.iter().map(|change| change.before));
    let declared = numbered(CHANGES.iter().map(|change| change.after));
    let lines = |number: usize| {
        let lines = CHANGES[number].lines.iter();
        lines.map(move |line| line.replace("{t}", &named(number)))
    };
    let expected: BTreeSet<String> = (0..CHANGES.len()).flat_map(lines).collect();
    let ran = Bench::sides(&turn, &up, &declared).run_on(&database, &["check"]);
    let found: BTreeSet<String> = ran.out.lines().map(str::to_owned).collect();
    let told: Vec<_> = found.symmetric_difference(&expected).collect();
    assert!(told.is_empty(), "{told:#?}\n{}", ran.err);
    ran.failed(
        3,
        "peace-migrate: the code and the revisions differ: `peace-migrate revision --auto",
    );
}

#[test]
fn json_has_the_shape_that_the_readme_shows() {
    let turn = Turn::shared();
    let database = Database::blank(&turn);
    let bench = Bench::sides(&turn, "create table a (b int)", "create table a (b text, c int)");
    fs::write(bench.lock_file(), "").unwrap();
    let ran = bench.run_on(&database, &["check", "--json"]);
    let found: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let expected = serde_json::json!({ "ok": false, "findings": [
        { "kind": "difference", "object": "column a.b", "have": "integer", "want": "text" },
        { "kind": "difference", "object": "column a.c", "have": null, "want": "integer" },
        { "kind": "lock", "what": "schema.lock cannot be read (a merge left a conflict?): run \
            `peace-migrate dump`" },
    ]});
    assert_eq!(found, expected);
    assert_eq!(ran.code, Some(3));

    bench.declare("create table a (b int)");
    bench.run_on(&database, &["dump"]).done();
    let clean = bench.run_on(&database, &["check", "--json"]).done();
    assert_eq!(clean, "{\n  \"ok\": true,\n  \"findings\": []\n}\n");
}

#[test]
fn a_declared_schema_that_is_wrong_is_told_with_its_line() {
    let turn = Turn::shared();
    let database = Database::blank(&turn);
    let bench = Bench::sides(&turn, "select 1", "create table a (\n    b int,\n    c varchr(9)\n)");
    let ran = bench.run_on(&database, &["check"]);
    ran.failed(
        1,
        "the declared schema: type \"varchr\" does not exist [42704]; in `create table a \
        (`, at `c varchr(9)`",
    );
    bench.declare("create view v as select * from nowhere");
    let ran = bench.run_on(&database, &["check"]);
    ran.failed(1, "relation \"nowhere\" does not exist [42P01]; in `create view v as select");
    bench.declare("select 'a");
    bench.run_on(&database, &["check"]).failed(2, "schema.sql:1: unclosed string");
    bench.declare("");
    fs::write(
        bench.versions().join("00000000000001_root.up.sql"),
        format!("-- revision: root\n-- revises: none\n{ONE_WAY}\n\nselect 1;\nselect b;\n",),
    )
    .unwrap();
    let ran = bench.run_on(&database, &["check"]);
    ran.failed(1, "00000000000001_root.up.sql:8:8: column \"b\" does not exist [42703]");
}

// Case 47.
#[test]
fn a_stale_lock_file_is_found_and_dump_mends_it() {
    let turn = Turn::shared();
    let database = Database::blank(&turn);
    let bench = Bench::sides(&turn, "create table a (b int)", "create table a (b int)");
    assert_eq!(bench.run_on(&database, &["check"]).done(), CLEAN, "there need not be one");
    let printed = bench.run_on(&database, &["dump", "--stdout"]).done();
    assert!(!bench.lock_file().exists());
    bench.run_on(&database, &["dump"]).done();
    assert_eq!(fs::read_to_string(bench.lock_file()).unwrap(), printed);
    let lines: Vec<&str> = printed.lines().filter(|line| !line.starts_with("--")).collect();
    assert_eq!(lines, ["", "table a", "column a.b: integer"]);

    bench.revision(2, "next", "root", "alter table a add c int", "alter table a drop c");
    bench.declare("create table a (b int, c int)");
    let ran = bench.run_on(&database, &["check"]);
    ran.failed(3, "schema.lock is of revision root, the head is next: run `peace-migrate dump`");
    bench.run_on(&database, &["dump"]).done();
    assert_eq!(bench.run_on(&database, &["check"]).done(), CLEAN);
    let edited = fs::read_to_string(bench.lock_file()).unwrap().replace("a.c: int", "a.c: text");
    fs::write(bench.lock_file(), edited).unwrap();
    bench.run_on(&database, &["check"]).failed(3, "schema.lock is not what the revisions give");
}

#[test]
fn a_lock_file_with_a_conflict_is_told_in_one_line() {
    let turn = Turn::shared();
    let database = Database::blank(&turn);
    let bench = Bench::sides(&turn, "create table a (b int)", "create table a (b int)");
    bench.run_on(&database, &["upgrade"]).done();
    bench.run_on(&database, &["dump"]).done();
    let text = fs::read_to_string(bench.lock_file()).unwrap();
    let conflict = "<<<<<<< HEAD\ncolumn a.b: integer\n=======\n>>>>>>> other\n";
    fs::write(bench.lock_file(), text + conflict).unwrap();
    let told = "schema.lock cannot be read (a merge left a conflict?)";
    let ran = bench.run_on(&database, &["check"]);
    assert_eq!(ran.out, format!("{told}: run `peace-migrate dump`\n"));
    ran.failed(3, "the revisions are what is declared, schema.lock is not");
    let ran = bench.run_on(&database, &["drift"]);
    assert_eq!(ran.err, format!("{told}: not compared with it\n"));
    assert_eq!(ran.done(), "no drift: the database is as its revision says\n");
}

// Case 47.
#[test]
fn two_branches_that_change_the_schema_conflict_in_the_lock_file() {
    let turn = Turn::shared();
    let database = Database::blank(&turn);
    let bench = Bench::sides(&turn, "create table a (b int)", "create table a (b int)");
    let git = |args: &[&str]| {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false"]);
        git.args(args).current_dir(bench.versions().parent().unwrap()).output().unwrap()
    };
    let commit = |date: u64, table: &str| {
        let up = format!("create table {table} (id int)");
        bench.revision(date, table, "root", &up, &format!("drop table {table}"));
        bench.run_on(&database, &["dump"]).done();
        assert!(git(&["add", "-A"]).status.success());
        assert!(git(&["commit", "-qm", table]).status.success());
    };
    bench.run_on(&database, &["dump"]).done();
    assert!(git(&["init", "-q", "-b", "main"]).status.success());
    assert!(git(&["add", "-A"]).status.success());
    assert!(git(&["commit", "-qm", "root"]).status.success());
    assert!(git(&["checkout", "-qb", "other"]).status.success());
    commit(2, "bbbb");
    assert!(git(&["checkout", "-q", "main"]).status.success());
    commit(3, "cccc");

    let merge = git(&["merge", "other"]);
    let told = String::from_utf8(merge.stdout).unwrap();
    assert_eq!(merge.status.code(), Some(1), "{told}");
    assert!(told.contains("Merge conflict in schema.lock"), "{told}");
    bench.run_on(&database, &["check"]).failed(1, "2 heads");
}

// Case 43, and what an application's role is used to.
#[test]
fn it_needs_neither_the_database_of_the_url_nor_the_roles_own_settings() {
    let turn = Turn::shared();
    let database = Database::blank(&turn);
    let sql = database.sql();
    sql.run(
        "create role hasty createdb login; alter role hasty set statement_timeout = 1; \
        alter role hasty set default_transaction_read_only = on",
    );
    let url = database.url().replace(database.name(), "not_there_yet") + " user=hasty";
    let bench = Bench::sides(&turn, "create table a (b int)", "create table a (b int)");
    assert_eq!(bench.run_at(&url, &["check"]).done(), CLEAN);
    let left = "select count(*) from pg_database where datdba = 'hasty'::regrole";
    assert_eq!(sql.value::<i64>(left, &[]), 0);
    let refused = "host=/nonexistent user=hasty";
    bench.run_at(refused, &["check"]).failed(1, "cannot connect to the database at /nonexistent");
}

// Home is called otherwise: by the URL, by the role, and with another schema beside it.
#[test]
fn the_home_schema_may_have_any_name() {
    let turn = Turn::shared();
    let database = Database::blank(&turn);
    let sql = database.sql();
    let body = "create table item (id serial primary key, kind mood);
        create schema other; create table other.item (id int references item);
        create function f() returns trigger language plpgsql as 'begin return new; end';
        create trigger t before insert on item for each row execute function f();
        create rule r as on delete to item do instead nothing;
        create view v as select id from item";
    let up = format!("create type mood as enum ('a'); {body}");
    let declared = format!("{body}; create type mood as enum ('a')");
    let bench = Bench::sides(&turn, &up, &declared);
    let plain = bench.run_on(&database, &["dump", "--stdout"]).done();
    assert!(plain.contains("table item\n") && plain.contains("table other.item\n"), "{plain}");

    let app = format!("{} options='-c search_path=\"My\\\\ app\",public'", database.url());
    assert_eq!(bench.run_at(&app, &["check"]).done(), CLEAN, "it is not there yet");
    sql.run("create schema \"My app\"; create role tenant login createdb");
    sql.run("create schema tenant authorization tenant");
    sql.run(&format!("grant create on database {} to tenant", database.name()));
    let tenant = format!("{} user=tenant", database.url());
    for url in [app, tenant] {
        assert_eq!(bench.run_at(&url, &["check"]).done(), CLEAN);
        assert_eq!(bench.run_at(&url, &["dump", "--stdout"]).done(), plain);
        bench.run_at(&url, &["upgrade"]).done();
        bench.run_at(&url, &["drift"]).done();
        sql.run("drop schema other cascade");
    }
}

#[test]
fn two_hundred_tables_take_seconds() {
    let turn = Turn::shared();
    let database = Database::blank(&turn);
    let table = "create table {t} (id bigint primary key, name varchar(30) not null unique, \
        note text default '', at timestamptz not null default now(), check (name <> ''))";
    let up = numbered([table; 200].into_iter());
    let bench = Bench::sides(&turn, &up, &up);
    let begin = Instant::now();
    assert_eq!(bench.run_on(&database, &["check"]).done(), CLEAN);
    let took = begin.elapsed();
    eprintln!("check of 200 tables: {took:?}");
    assert!(took < Duration::from_secs(20), "{took:?}");
}
