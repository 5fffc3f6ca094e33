//! Databases that the real Alembic made and the ORM filled are taken over, with every row.

use std::fs;
use std::process::Output;

use serde_json::json;

use crate::alembic::{Alembic, FIRST, LAST};
use crate::harness::folder::Folder;
use crate::harness::{Database, Launch, Turn, api, get, post};

const MIGRATE: &str = env!("CARGO_BIN_EXE_peace-migrate");
const VERSIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/versions");

/// The head of our own revisions.
fn head() -> &'static str {
    migrations::head().id.as_str()
}

/// A database that Alembic brought to `revision`, with rows in it.
fn database_of_alembic(turn: &Turn, revision: &str) -> Database<'static> {
    let database = Database::blank(turn);
    let alembic = Alembic::on(turn, &database);
    alembic.upgrade(revision);
    alembic.write_rows(revision);
    database
}

fn migrate(turn: &Turn, database: &Database<'_>, args: &[&str]) -> Output {
    let launch = Launch::bare(turn).program(MIGRATE).env("DATABASE_URL", &database.url());
    launch.args(args.iter().copied()).output()
}

/// Runs it to a good end; gives what it printed.
#[track_caller]
fn migrated(turn: &Turn, database: &Database<'_>, args: &[&str]) -> String {
    let output = migrate(turn, database, args);
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Number and digest of the rows of both tables, of the columns that every revision has.
fn data(database: &Database<'_>) -> Vec<(i64, String)> {
    let tables = [("\"user\"", "id, name, fullname"), ("item", "id, user_id, name, added")];
    let digest = |(table, columns): (&str, &str)| {
        let sql = format!(
            "select count(*), md5(string_agg(row::text, E'\\n' order by row.id)) \
             from (select {columns} from {table}) row"
        );
        let rows = database.sql().rows(&sql, &[]);
        (rows[0].get(0), rows[0].get(1))
    };
    tables.map(digest).to_vec()
}

fn passwords(database: &Database<'_>) -> String {
    let sql = "select md5(string_agg(id || coalesce(password_hash, '-'), E'\\n' order by id)) \
               from \"user\"";
    database.sql().value(sql, &[])
}

/// The server shows what Python wrote, and lets its users in.
fn check_served(turn: &Turn, database: &Database<'_>) {
    let peace = Launch::on(turn, database).workers(1).serve();
    assert_eq!(peace.ask(&get("/health/ready")).status, 200);
    let third = "/users/00000000-0000-0000-0000-000000000004?incl_items=true";
    let shown = peace.ask(&get(third)).json();
    let item = |index: u64, added: &str| {
        json!({
            "pubid": format!("00000000-0000-0004-0000-{index:012x}"),
            "name": format!("item-{index}"),
            "added": added,
            "user_pubid": "00000000-0000-0000-0000-000000000004",
        })
    };
    assert_eq!(shown["name"], "user-3");
    assert_eq!(shown["fullname"], "O'Brien \\ \"Bob\"");
    assert_eq!(
        shown["items"],
        json!([
            item(0, "9999-12-31T23:59:59.999999"),
            item(1, "2024-12-12T13:25:00"),
            item(2, "2026-11-22T21:56:32.308474"),
        ])
    );
    let login = api::log_in(&peace, &[("username", "user-3"), ("password", "MyPass123!U1")]);
    let token = login.json()["access_token"].as_str().expect("a token").to_owned();
    let item = json!({"name": "ours", "user_pubid": "00000000-0000-0000-0000-000000000004"});
    assert_eq!(peace.ask(&post("/items").bearer(&token).json(&item)).status, 201);
}

/// A folder with the revisions that Alembic knows, and no other.
fn revisions_of_alembic() -> Folder {
    let folder = Folder::new();
    for entry in fs::read_dir(VERSIONS).unwrap().map(Result::unwrap) {
        let text = fs::read_to_string(entry.path()).unwrap();
        let is_it = |id: &&str| text.contains(&format!("-- revision: {id}\n"));
        if [FIRST, LAST].iter().any(is_it) {
            folder.write(entry.file_name().to_str().unwrap(), &text);
        }
    }
    folder
}

// Case 50.
#[test]
fn a_database_at_alembics_head_is_taken_over_with_its_rows_and_goes_on() {
    let turn = Turn::shared();
    let database = database_of_alembic(&turn, LAST);
    let (before, hashes) = (data(&database), passwords(&database));
    assert_eq!([before[0].0, before[1].0], [40, 60], "the ORM wrote rows");

    let folder = revisions_of_alembic();
    let versions = ["--versions", folder.path().to_str().unwrap()];
    let of_alembic = |args: &[&str]| migrated(&turn, &database, &[args, &versions[..]].concat());
    assert_eq!(of_alembic(&["adopt-alembic"]), "adopted at 1246b5faa711 (head)\n");
    assert_eq!(of_alembic(&["current"]), "1246b5faa711 (head)\n");
    of_alembic(&["drift"]);
    assert_eq!(of_alembic(&["upgrade"]), "already at 1246b5faa711 (head)\n");
    assert_eq!((data(&database), passwords(&database)), (before.clone(), hashes.clone()));

    assert_eq!(migrated(&turn, &database, &["current"]), "1246b5faa711\n");
    let went = migrated(&turn, &database, &["upgrade", "head"]);
    assert_eq!(went, format!("1246b5faa711 -> {} (head)\n", head()), "a revision of ours applies");
    migrated(&turn, &database, &["check"]);
    migrated(&turn, &database, &["drift"]);
    assert_eq!((data(&database), passwords(&database)), (before, hashes));
    check_served(&turn, &database);
}

// Case 51.
#[test]
fn a_database_at_alembics_first_revision_is_taken_over_there_and_upgraded_by_us() {
    let turn = Turn::shared();
    let database = database_of_alembic(&turn, FIRST);
    let before = data(&database);
    assert_eq!(migrated(&turn, &database, &["adopt-alembic"]), "adopted at 586f9c3cd40c\n");
    assert_eq!(migrated(&turn, &database, &["current"]), "586f9c3cd40c\n");
    migrated(&turn, &database, &["drift"]);
    migrated(&turn, &database, &["upgrade", "head"]);
    migrated(&turn, &database, &["drift"]);
    assert_eq!(data(&database), before);
    let rows: i64 = database.sql().value("select count(*) from peace_migration", &[]);
    assert_eq!(usize::try_from(rows), Ok(migrations::embedded().unwrap().all().len()));
    // Its own table says what it did, not what we did.
    let version: String = database.sql().value("select version_num from alembic_version", &[]);
    assert_eq!(version, FIRST);
}

// Case 52.
#[test]
fn a_column_that_somebody_altered_is_shown_and_a_revision_reconciles_it() {
    let turn = Turn::shared();
    let database = database_of_alembic(&turn, LAST);
    database.sql().run("alter table item alter column name type varchar(60)");
    let before = data(&database);
    let refused = migrate(&turn, &database, &["adopt-alembic"]);
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    let line = "changed column item.name: is character varying(60) not null, should be character \
                varying(30) not null\n";
    assert_eq!(String::from_utf8(refused.stdout).unwrap(), line);

    let adopted = migrated(&turn, &database, &["adopt-alembic", "--accept-drift"]);
    assert_eq!(adopted, format!("{line}adopted at 1246b5faa711\n"));
    assert_eq!(migrate(&turn, &database, &["drift"]).status.code(), Some(4));

    // What was altered is what is wanted: the revision that says so makes them equal.
    let folder = revisions_of_alembic();
    folder.write(
        "20261123000000_longer_names.up.sql",
        "-- revision: 20261123000000\n-- revises: 1246b5faa711\n-- message: longer names\n\
         -- transaction: yes\n\nalter table item alter column name type varchar(60);\n",
    );
    folder.write(
        "20261123000000_longer_names.down.sql",
        "-- revision: 20261123000000\n-- transaction: yes\n\n\
         alter table item alter column name type varchar(30);\n",
    );
    let versions = folder.path().to_str().unwrap();
    migrated(&turn, &database, &["upgrade", "--versions", versions]);
    migrated(&turn, &database, &["drift", "--versions", versions]);
    assert_eq!(data(&database), before);
}

// Case 53.
#[test]
fn alembic_fails_on_a_database_that_was_taken_from_it_instead_of_finding_nothing_to_do() {
    let turn = Turn::shared();
    let database = database_of_alembic(&turn, LAST);
    let alembic = Alembic::on(&turn, &database);
    migrated(&turn, &database, &["adopt-alembic"]);
    migrated(&turn, &database, &["upgrade", "head"]);
    alembic.upgrade("head");
    let before = data(&database);

    migrated(&turn, &database, &["adopt-alembic", "--retire-alembic"]);
    let output = alembic.run(&["upgrade", "head"]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{told}");
    // At its first step, the making of its table, whose key's name is taken.
    let why = "psycopg.errors.DuplicateTable) relation \"alembic_version_pkc\" already exists";
    assert!(told.contains(why), "{told}");
    assert_eq!(data(&database), before);
    migrated(&turn, &database, &["drift"]);
    let left: bool = database.sql().value("select to_regclass('alembic_version') is not null", &[]);
    assert!(!left, "what Alembic began was rolled back");
    check_served(&turn, &database);
}
