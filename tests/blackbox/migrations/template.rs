//! The schema of this template: declared beside the resources, given by the revisions, needed by the
//! server. Its user's own tables and statements are tested here without a line more.

use std::process::Output;
use std::thread;
use std::time::{Duration, Instant};

use migrations::{Chain, Finding, Table};
use peace::resources::{self, Statement};
use tokio_postgres::Column;

use super::bench::{Bench, Ran};
use super::{MIGRATE, migrate, printed};
use crate::harness::database::{Sql, event_loop};
use crate::harness::wait::until_true;
use crate::harness::{Database, Launch, Turn, get};

const PROJECT: &str = env!("CARGO_MANIFEST_DIR");
/// This release's revisions.
pub(super) const VERSIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/versions");

/// The program in the folder of this project, as its developers run it.
fn in_the_project(database: &Database<'_>, args: &[&str]) -> Ran {
    let mut command = std::process::Command::new(MIGRATE);
    command.args(args).current_dir(PROJECT).env_clear().env("DATABASE_URL", database.url());
    Ran::of(&command.output().expect("the program runs"))
}

#[test]
fn the_declared_schema_is_what_the_revisions_give() {
    let turn = Turn::alone();
    let database = Database::blank(&turn);
    let begin = Instant::now();
    let printed = in_the_project(&database, &["check"]).done();
    let took = begin.elapsed();
    assert_eq!(printed, "no changes: the revisions give what is declared\n");
    eprintln!("check took {} ms", took.as_millis());
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn an_upgrade_at_head_takes_less_than_100_ms() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let mut times: Vec<Duration> = (0..9)
        .map(|_| {
            let begin = Instant::now();
            in_the_project(&database, &["upgrade", "head"]).done();
            begin.elapsed()
        })
        .collect();
    times.sort();
    let median = times[times.len() / 2];
    eprintln!("upgrade at head took {} ms (median of {})", median.as_millis(), times.len());
    assert!(median < Duration::from_millis(100), "{times:?}");
}

/// As in an image: the program alone, and a role that may do no more than it has to.
#[test]
fn drift_needs_no_folder_and_no_right_to_create_databases() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let role = format!("looker_of_{}", database.name());
    database.sql().run(&format!(
        "create role {role} login; grant pg_read_all_data to {role}; \
         alter table item add column extra int"
    ));
    let url = database.url().replace("user=peace", &format!("user={role}"));
    let launch = Launch::bare(&turn).program(MIGRATE).env("DATABASE_URL", &url).args(["drift"]);
    let drift = || Ran::of(&launch.output());
    drift().failed(4, "extra column item.extra");
    database.sql().run("alter table item drop column extra");
    drift().done();
}

mod parcels {
    //! A table whose structs were edited without a thought for the columns.
    #![allow(dead_code, reason = "nobody reads a row of it")]

    migrations::table! {
        pub(super) struct Right: "parcel" {
            id: i64 = "bigint primary key",
            note: Option<String> = "varchar(30)",
            weight_g: i32 = "int not null",
        }
        unread seal: Vec<u8> = "bytea not null";
    }

    migrations::table! {
        pub(super) struct Wrong: "parcel" {
            id: i32 = "bigint primary key",
            note: String = "varchar(30)",
            weight_g: Option<i32> = "int not null",
        }
        unread seal: String = "bytea not null";
    }
}

// Case 41.
#[test]
fn a_field_that_cannot_read_its_column_is_named() {
    let turn = Turn::shared();
    let database = Database::blank(&turn);
    let bench = Bench::new(&turn);
    bench.revision(1, "root", "none", &parcels::Right::TABLE.create(), "drop table parcel");
    let chain = Chain::read(bench.versions()).unwrap();
    let access = database.access();
    let check = |table: Table| {
        let tables = [table];
        let work = async { migrations::check_tables(&access, &chain, &tables).await };
        let findings: Vec<Finding> = event_loop().block_on(work).unwrap();
        findings.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(check(parcels::Right::TABLE), Vec::<String>::new());
    let told = check(parcels::Wrong::TABLE);
    let told: Vec<&str> = told.iter().filter_map(|line| Some(line.split_once(':')?.0)).collect();
    let fields = ["id", "note", "weight_g", "seal"];
    assert_eq!(told, fields.map(|field| format!("Wrong.{field} (column parcel.{field})")));
}

/// The statements that do not fit the schema: by the name of the constant, and why.
fn unfit(database: &Database<'_>) -> Vec<String> {
    let session = database.sql();
    let judge = |Statement { name, sql }: Statement| match session.prepare(sql) {
        Err(error) => Some(format!("{name}: {}", error.as_db_error().unwrap().message())),
        Ok(prepared) => {
            let why = prepared.columns().iter().find_map(|column| unread(&session, column))?;
            Some(format!("{name}: {why}"))
        }
    };
    resources::statements().into_iter().filter_map(judge).collect()
}

/// Why the field that declares the column cannot read it; what is computed is nobody's.
fn unread(session: &Sql, column: &Column) -> Option<String> {
    let (relation, number) = (column.table_oid()?, column.column_id()?);
    let sql = "select array[relname, nspname || '.' || relname]::text[], attname::text, attnotnull \
        from pg_attribute join pg_class c on c.oid = attrelid \
        join pg_namespace n on n.oid = relnamespace where attrelid = $1 and attnum = $2";
    let row = &session.rows(sql, &[&relation, &number])[0];
    let (names, name): (Vec<String>, String) = (row.get(0), row.get(1));
    let tables = resources::tables();
    let table = tables.iter().find(|table| names.iter().any(|name| *name == table.name))?;
    match table.columns.iter().find(|field| field.name() == name) {
        Some(field) if !(field.accepts)(column.type_()) => {
            Some(format!("{name} is of type {}", column.type_()))
        }
        Some(field) if !(field.is_nullable)() && !row.get::<_, bool>(2) => {
            Some(format!("{name} may be null"))
        }
        Some(_) => None,
        None => Some(format!("{name} is not declared")),
    }
}

// Case 42.
#[test]
fn every_statement_of_a_request_fits_the_schema_at_head() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    assert!(!resources::statements().is_empty());
    assert_eq!(unfit(&database), Vec::<String>::new());
}

// Case 42.
#[test]
fn a_statement_that_does_not_fit_is_named() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    database.sql().run("alter table item alter column added type timestamptz");
    let told = unfit(&database);
    let select = "peace::resources::items::SELECT: added is of type timestamptz";
    assert!(told.iter().any(|line| line == select), "{told:?}");

    let nullable = "alter table item alter added type timestamp, alter added drop not null";
    database.sql().run(nullable);
    let told = unfit(&database);
    let select = "peace::resources::items::SELECT: added may be null";
    assert!(told.iter().any(|line| line == select), "{told:?}");

    // A field of another table bears the name of this column.
    database.sql().run(
        "alter table item alter added set not null, \
        alter id type text, drop constraint item_pkey",
    );
    let told = unfit(&database);
    let select = "peace::resources::items::SELECT: id is of type text";
    assert!(told.iter().any(|line| line == select), "{told:?}");

    let back = "alter table item alter id type uuid using id::uuid, drop column added";
    database.sql().run(back);
    let told = unfit(&database);
    let select = "peace::resources::items::SELECT: column \"added\" does not exist";
    assert!(told.iter().any(|line| line == select), "{told:?}");
    let names: Vec<&str> = told.iter().filter_map(|line| Some(line.split_once(": ")?.0)).collect();
    let touching = resources::statements().into_iter().filter(|one| one.sql.contains("added"));
    assert_eq!(names, touching.map(|one| one.name).collect::<Vec<_>>());
}

// Case 54.
#[test]
fn a_waiting_server_is_ready_soon_after_one_of_eight_upgrades() {
    let turn = Turn::shared();
    let database = Database::blank(&turn);
    assert!(migrate(&turn, &database, &["upgrade", "1246b5faa711"]).status.success());
    let peace = Launch::on(&turn, &database).workers(2).serve();
    let reply = peace.ask(&get("/health/ready"));
    assert_eq!(reply.status, 503);
    let head = migrations::head().id.as_str();
    let told = format!("this server needs revision {head}, the database is at 1246b5faa711");
    assert_eq!(reply.json()["detail"], told);

    let workers = peace.workers();
    let outputs: Vec<Output> = thread::scope(|scope| {
        let upgrade = || migrate(&turn, &database, &["upgrade", "head"]);
        let replicas: Vec<_> = (0..8).map(|_| scope.spawn(upgrade)).collect();
        replicas.into_iter().map(|replica| replica.join().unwrap()).collect()
    });
    let done = Instant::now();
    let is_ready = || peace.ask(&get("/health/ready")).status == 200;
    until_true("the server is ready", Duration::from_secs(2), is_ready);
    eprintln!("ready {} ms after the last upgrade", done.elapsed().as_millis());
    assert!(outputs.iter().all(|output| output.status.success()), "{outputs:?}");
    let worked = outputs.iter().filter(|output| printed(output).starts_with("1246b5faa711 -> "));
    assert_eq!(worked.count(), 1, "{outputs:?}");
    assert_eq!(peace.workers(), workers, "no restart was needed");
}

#[test]
fn a_missing_right_to_read_the_revisions_is_named_in_the_log_alone() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let role = format!("server_of_{}", database.name());
    database.sql().run(&format!("create role {role} login"));
    let url = database.url().replace("user=peace", &format!("user={role}"));
    let mut peace = Launch::on(&turn, &database).env("DATABASE_URL", &url).workers(1).serve();
    let reply = peace.ask(&get("/health/ready"));
    assert_eq!(
        (reply.status, reply.json()["type"].as_str()),
        (503, Some("/problems/schema-behind"))
    );
    assert_eq!(reply.json()["detail"], "the database is not at the revision this server needs");

    database.sql().run(&format!("grant select on peace_migration to {role}"));
    assert_eq!(peace.ask(&get("/health/ready")).status, 200);
    let lines = peace.stop(Duration::from_secs(10)).lines;
    let named = "lacks a right, grant it: permission denied for table peace_migration";
    assert_eq!(lines.iter().filter(|line| line.contains(named)).count(), 2, "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("the database is behind")), "{lines:?}");
}

// Case 55.
#[test]
fn an_old_server_serves_on_a_database_that_a_newer_release_has_migrated() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let newer = newer_release(&turn);
    newer.run_on(&database, &["upgrade", "head"]).done();

    let mut peace = Launch::on(&turn, &database).workers(2).serve();
    assert_eq!(peace.ask(&get("/health/ready")).status, 200);
    assert_eq!(peace.ask(&get("/users")).status, 200);
    let ended = peace.stop(Duration::from_secs(10));
    let ahead = ended.lines.iter().filter(|line| line.contains("ahead of this program"));
    let ahead: Vec<&String> = ahead.collect();
    assert_eq!(ahead.len(), 1, "{:?}", ended.lines);
    assert!(ahead[0].contains("\"found\":\"20990101000000\""), "{}", ahead[0]);

    let upgrade = Ran::of(&migrate(&turn, &database, &["upgrade", "head"]));
    upgrade.failed(5, "20990101000000");
    let current = printed(&migrate(&turn, &database, &["current"]));
    assert!(current.starts_with("20990101000000 "), "{current}");
}

/// This release's revisions and one more.
fn newer_release(turn: &Turn) -> Bench<'_> {
    let bench = Bench::copy_of(turn, VERSIONS);
    let head = migrations::head().id.as_str();
    let date = 20_990_101_000_000;
    let up = "alter table item add column later int";
    bench.revision(date, &date.to_string(), head, up, "alter table item drop column later");
    bench
}
