//! `peace-migrate`, as an operator runs it.

/// Databases that Alembic made.
mod adopt;
/// What `revision --autogenerate` writes.
mod autogenerate;
/// The same on tables that are in use.
mod autogenerate_online;
/// Revisions of a test's own.
mod bench;
/// What `check` finds.
mod check;
/// Indexes that are built beside the work of others.
mod concurrently;
/// Tables that others keep.
mod contention;
/// What `drift` finds.
mod drift;
/// Upgrades that are only tried.
mod dry_run;
/// What row structs can read.
mod fields;
/// Data that would go.
mod guards;
/// What a reader of the files finds.
mod lint;
/// What the looking commands say.
mod look;
/// Connections that break while the server commits.
mod lost;
/// Scripts, rehearsals and stamps.
mod offline;
/// Two heads.
mod rebase;
/// Rights and addresses.
mod roles;
/// Upgrade and downgrade.
mod runner;
/// Where schemas are made real.
mod scratch;
/// Schemas in two spellings, and schemas that differ.
mod spellings;
/// What the runner's tests add to a bench.
mod stage;
/// This template's own schema.
mod template;
/// Revisions that do not come to be.
mod unwritten;
/// A developer changes the schema.
mod walk;

use std::process::Output;
use std::thread;

use crate::harness::{Database, Launch, Turn, get};

const MIGRATE: &str = env!("CARGO_BIN_EXE_peace-migrate");

fn migrate(turn: &Turn, database: &Database<'_>, args: &[&str]) -> Output {
    let launch = Launch::bare(turn).program(MIGRATE).env("DATABASE_URL", &database.url());
    launch.args(args.iter().copied()).output()
}

fn printed(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn an_empty_database_comes_to_head() {
    let turn = Turn::shared();
    let database = Database::blank(&turn);
    let head = migrations::head().id.as_str();
    assert_eq!(printed(&migrate(&turn, &database, &["current"])), "", "nothing is applied");

    let upgrade = migrate(&turn, &database, &["upgrade", "head"]);
    assert!(upgrade.status.success(), "{upgrade:?}");
    assert_eq!(printed(&upgrade), format!("base -> {head} (head)\n"));
    assert_eq!(printed(&migrate(&turn, &database, &["current"])), format!("{head} (head)\n"));

    let again = migrate(&turn, &database, &["upgrade", "head"]);
    assert_eq!(printed(&again), format!("already at {head} (head)\n"));
}

#[test]
fn the_two_revisions_of_the_python_template_keep_their_ids() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let rows = database.sql().rows("select revision from peace_migration order by applied_at", &[]);
    let revisions: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(revisions[..2], ["586f9c3cd40c", "1246b5faa711"]);
    let index = "select count(*) from pg_indexes where tablename = 'item' \
                 and indexdef like '%(user_id, id)'";
    assert_eq!(database.sql().value::<i64>(index, &[]), 1);
}

#[test]
fn racing_upgrades_apply_each_revision_once() {
    let turn = Turn::shared();
    let database = Database::blank(&turn);
    let outputs: Vec<Output> = thread::scope(|scope| {
        let race = || migrate(&turn, &database, &["upgrade", "head"]);
        let racers: Vec<_> = (0..4).map(|_| scope.spawn(race)).collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).collect()
    });
    for output in &outputs {
        assert!(output.status.success(), "{output:?}");
    }
    let did_it = outputs.iter().filter(|output| printed(output).starts_with("base -> "));
    assert_eq!(did_it.count(), 1, "one of them did the work: {outputs:?}");
    let applied: i64 = database.sql().value("select count(*) from peace_migration", &[]);
    assert_eq!(usize::try_from(applied), Ok(migrations::embedded().unwrap().all().len()));
}

#[test]
fn a_schema_that_is_behind_is_a_503_until_it_is_right() {
    let turn = Turn::shared();
    let database = Database::blank(&turn);
    let peace = Launch::on(&turn, &database).workers(1).serve();
    assert_eq!(peace.ask(&get("/health/live")).status, 200);
    for route in ["/health/ready", "/users"] {
        let reply = peace.ask(&get(route));
        assert_eq!(reply.status, 503, "{route}");
        assert_eq!(reply.json()["type"], "/problems/schema-behind", "{route}");
    }
    let told = format!("needs revision {}, the database is at base", migrations::head().id);
    let reply = peace.ask(&get("/health/ready"));
    assert!(reply.json()["detail"].as_str().unwrap().ends_with(&told), "{}", reply.json());
    let workers = peace.workers();
    assert!(migrate(&turn, &database, &["upgrade", "head"]).status.success());
    assert_eq!(peace.ask(&get("/health/ready")).status, 200);
    assert_eq!(peace.ask(&get("/users")).status, 200);
    assert_eq!(peace.workers(), workers, "no restart was needed");
}

#[test]
fn an_unreachable_database_is_an_error_and_its_password_is_not_shown() {
    let turn = Turn::shared();
    let url = "postgres://ann:secret-word@127.0.0.1:1/peace";
    let launch = Launch::bare(&turn).program(MIGRATE).env("DATABASE_URL", url);
    let output = launch.args(["upgrade", "head"]).output();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("127.0.0.1") && !told.contains("secret-word"), "{told}");
}
