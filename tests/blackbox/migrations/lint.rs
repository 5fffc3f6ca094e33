//! What `lint` says, and where it finds the files.

use std::fs;

use super::MIGRATE;
use super::autogenerate::Walk;
use super::bench::{Bench, Ran};
use crate::harness::{Database, Launch, Turn};

const TABLE: &str = "create table item (a int, b int);";
const INDEX: &str = "create index item_a_idx on item (a);";

/// A table, and a second revision with this header line and statement.
fn bench<'a>(turn: &'a Turn, header: &str, up: &str) -> Bench<'a> {
    let bench = Bench::new(turn);
    bench.revision(1, "root", "none", TABLE, "drop table item;");
    let header = format!("-- revises: root\n-- message: m\n-- irreversible: test\n{header}");
    bench.up(2, "next", &format!("{header}\n\n{up}\n"));
    bench
}

// Case 48.
#[test]
fn a_long_lock_is_an_error_unless_nobody_waits_or_it_is_said() {
    let turn = Turn::shared();
    let yes = "-- transaction: yes";
    let error = "00000000000002_next.up.sql:7:1: error: ";
    let ran = bench(&turn, yes, INDEX).run(&["lint"]);
    assert!(ran.out.starts_with(error), "{ran:?}");
    assert!(ran.out.contains("[require-concurrent-index-creation]; "), "{ran:?}");
    ran.failed(3, "peace-migrate: 1 error, 0 warnings in 1 file");

    let clean = "0 errors, 0 warnings in 1 file\n";
    let created = format!("create table thing (a int);\n{}", INDEX.replace(" item ", " thing "));
    assert_eq!(bench(&turn, yes, &created).run(&["lint"]).done(), clean);
    let ignored = format!("-- squawk-ignore require-concurrent-index-creation\n{INDEX}");
    assert_eq!(bench(&turn, yes, &ignored).run(&["lint"]).done(), clean);
    let none = "-- transaction: none";
    let concurrent = INDEX.replace("index", "index concurrently");
    assert_eq!(bench(&turn, none, &concurrent).run(&["lint"]).done(), clean);
    let lenient = INDEX.replace("index", "index concurrently if not exists");
    bench(&turn, none, &lenient).run(&["lint"]).failed(1, "00000000000002_next.up.sql:7: `if not");
}

// Case 48.
#[test]
fn lost_data_is_an_error_unless_the_header_allows_it() {
    let turn = Turn::shared();
    let drop = "alter table item drop column b;";
    let bare = bench(&turn, "-- transaction: yes", drop);
    bare.run(&["lint"]).failed(3, "[ban-drop-column]; if it is meant: `-- allow-destructive: <");
    let meant = bench(&turn, "-- transaction: yes\n-- allow-destructive: unused", drop);
    assert_eq!(meant.run(&["lint"]).done(), "0 errors, 0 warnings in 1 file\n");
}

#[test]
fn the_files_read_are_those_that_are_not_applied_or_that_are_named() {
    let turn = Turn::shared();
    let database = Database::blank(&turn);
    let bench = bench(&turn, "-- transaction: yes", INDEX);
    let files = |ran: Ran| ran.done().trim_end().rsplit(' ').nth(1).unwrap().to_owned();
    assert_eq!(files(bench.run(&["lint", "root"])), "1");
    bench.run_on(&database, &["lint"]).failed(3, "1 error, 0 warnings in 2 files");
    bench.run(&["lint", "--all"]).failed(3, "1 error, 0 warnings in 2 files");
    bench.run_on(&database, &["upgrade", "next"]).done();
    assert_eq!(files(bench.run_on(&database, &["lint"])), "0");
    bench.run(&["lint", "roox"]).failed(2, "no revision begins with `roox`");

    let ran = bench.run(&["lint", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!([&report["files"], &report["errors"], &report["warnings"]], [1, 1, 0]);
    let finding = &report["findings"][0];
    assert_eq!(finding["severity"], "error");
    assert_eq!(finding["rule"], "require-concurrent-index-creation");
    assert_eq!([&finding["line"], &finding["column"]], [7, 1]);
    ran.failed(3, "");
}

#[test]
fn a_check_fails_on_an_error_in_the_newest_revision() {
    let turn = Turn::shared();
    let database = Database::blank(&turn);
    let bench = bench(&turn, "-- transaction: yes", INDEX);
    let schema = bench.versions().join("schema.txt");
    fs::write(&schema, format!("{TABLE}\n{INDEX}")).unwrap();
    let check = ["check", "--schema", schema.to_str().unwrap()];
    let ran = bench.run_on(&database, &check);
    assert!(ran.out.contains("[require-concurrent-index-creation]"), "{ran:?}");
    assert_eq!(ran.out.lines().count(), 1, "{ran:?}");
    ran.failed(3, "the newest revision is dangerous");
}

#[test]
fn a_check_reads_every_file_of_the_newest_set_and_none_before_it() {
    let turn = Turn::shared();
    let database = Database::blank(&turn);
    let bench = Bench::new(&turn);
    let revision = |date: u64, id: &str, revises: &str, message: &str, up: &str| {
        let header = format!("-- revises: {revises}\n-- message: {message}");
        let rest = "-- transaction: yes\n-- irreversible: test";
        bench.up(date, id, &format!("{header}\n{rest}\n\n{up}\n"));
    };
    let index = |name: &str| INDEX.replace("item_a_idx", name);
    revision(1, "root", "none", "items", TABLE);
    revision(2, "older", "root", "older", &index("older"));
    revision(3, "first", "older", "Items: faster", &index("first"));
    revision(4, "second", "first", "Items: faster: validate", "select 1;");
    revision(5, "third", "second", "Items: faster: finish", &index("third"));
    bench.declare(&format!("{TABLE}\n{}{}{}", index("older"), index("first"), index("third")));
    let ran = bench.run_on(&database, &["check"]);
    let places: Vec<&str> = ran.out.lines().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(places, ["00000000000003_first.up.sql", "00000000000005_third.up.sql"], "{ran:?}");
    ran.failed(3, "the newest revision is dangerous: see `peace-migrate lint --all`");
}

// What takes a long lock in any case is written, and says so.
#[test]
fn a_generated_file_says_what_it_does_that_lint_calls_an_error() {
    let turn = Turn::shared();
    let before = "create table item (a int);";
    let cases = [
        ("b uuid not null default gen_random_uuid()", "Writes the table anew under a lock"),
        ("b timestamptz not null default clock_timestamp()", "Writes the table anew under a lock"),
        ("b int generated always as (a + 1) stored", "Writes the table anew under a lock"),
        ("b int generated always as identity", "Writes the table anew under a lock"),
        ("b serial", ""),
    ];
    for (column, deed) in cases {
        let walk = Walk::begin(&turn, before);
        walk.revise(&before.replace(")", &format!(", {column})")), &[]).done();
        let texts = walk.written(".up.sql").concat();
        assert!(texts.contains(deed), "{column}: {texts}");
        walk.run(&["lint", "--all"]).done();
        walk.run(&["check"]).done();
        walk.there_and_back();
    }
}

#[test]
fn the_folder_of_the_workspace_around_is_found() {
    let turn = Turn::shared();
    let launch = || Launch::bare(&turn).program(MIGRATE);
    let none = launch().args(["rebase"]);
    Ran::of(&none.output()).failed(2, "no folder of revisions: run this inside a workspace");
    let compiled_in = migrations::all().len();
    let all = Ran::of(&launch().args(["lint", "--all"]).output()).done();
    assert!(all.ends_with(&format!(" in {compiled_in} files\n")), "{all}");

    let lint = launch().args(["lint", "--all"]);
    let versions = lint.folder().path().join("migrations/versions");
    fs::create_dir_all(&versions).unwrap();
    lint.folder().write("Cargo.toml", "");
    let up = "-- revision: root\n-- revises: none\n-- message: m\n-- transaction: yes\n\
              -- irreversible: test\n";
    fs::write(versions.join("00000000000001_root.up.sql"), up).unwrap();
    assert_eq!(Ran::of(&lint.output()).done(), "0 errors, 0 warnings in 1 file\n");
}
