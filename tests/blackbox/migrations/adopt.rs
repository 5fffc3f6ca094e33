//! `adopt-alembic` on tables made by hand; what the real Alembic leaves is taken over in
//! `tests/external`.

use std::process::Output;

use super::{migrate, printed};
use crate::harness::{Database, Launch, Turn};

const FIRST: &str = "586f9c3cd40c";
const LAST: &str = "1246b5faa711";

/// A database with the schema of `revision`, and with these rows in Alembic's table.
fn alembic_at(turn: &Turn, revision: &str, rows: &[&str]) -> Database<'static> {
    let database = Database::blank(turn);
    if revision != "base" {
        assert!(migrate(turn, &database, &["upgrade", revision]).status.success());
        database.sql().run("drop table peace_migration, peace_migration_log");
    }
    database.sql().run(
        "create table alembic_version (version_num varchar(32) not null, \
         constraint alembic_version_pkc primary key (version_num))",
    );
    for row in rows {
        database.sql().run(&format!("insert into alembic_version values ('{row}')"));
    }
    database
}

fn adopt(turn: &Turn, database: &Database<'_>, more: &[&str]) -> Output {
    migrate(turn, database, &[&["adopt-alembic"], more].concat())
}

/// Checks that it was refused, and that nothing is different from before.
#[track_caller]
fn check_refused(output: &Output, database: &Database<'_>, code: i32, parts: &[&str]) {
    let told = String::from_utf8([&output.stdout[..], &output.stderr].concat()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{told}");
    for part in parts {
        assert!(told.contains(part), "{part} is missing: {told}");
    }
    assert!(!is_there(database, "peace_migration"), "nothing was changed");
    assert!(!is_there(database, "alembic_version_retired"), "nothing was changed");
}

fn is_there(database: &Database<'_>, table: &str) -> bool {
    database.sql().value("select to_regclass($1) is not null", &[&table])
}

/// Every row of the bookkeeping and of its log.
fn records(database: &Database<'_>) -> [Vec<String>; 2] {
    let rows = |sql: &str| database.sql().rows(sql, &[]).iter().map(|row| row.get(0)).collect();
    [
        rows("select concat_ws(' ', revision, state) from peace_migration order by applied_at"),
        rows("select concat_ws(' ', action, revision) from peace_migration_log order by id"),
    ]
}

// Case 51.
#[test]
fn a_history_that_is_not_ours_is_refused_and_shown() {
    let turn = Turn::shared();
    let two = alembic_at(&turn, LAST, &[FIRST, LAST]);
    let told = ["2 revisions, 1246b5faa711 and 586f9c3cd40c", "alembic merge heads"];
    check_refused(&adopt(&turn, &two, &["--accept-drift"]), &two, 5, &told);

    let unknown = alembic_at(&turn, LAST, &["0123456789ab"]);
    let told = ["revision 0123456789ab, which is none of `peace-migrate history`"];
    check_refused(&adopt(&turn, &unknown, &["--accept-drift"]), &unknown, 5, &told);

    let none = Database::blank(&turn);
    check_refused(&adopt(&turn, &none, &[]), &none, 5, &["there is no table alembic_version"]);
}

#[test]
fn until_it_is_taken_over_nothing_else_touches_a_database_of_alembic() {
    let turn = Turn::shared();
    let database = alembic_at(&turn, LAST, &[LAST]);
    let told = ["Alembic manages this database (revision 1246b5faa711)", "adopt-alembic"];
    check_refused(&migrate(&turn, &database, &["upgrade"]), &database, 5, &told);
}

// Case 51.
#[test]
fn an_empty_table_of_alembic_is_base() {
    let turn = Turn::shared();
    let database = alembic_at(&turn, "base", &[]);
    let output = adopt(&turn, &database, &[]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(printed(&output), "already at base\n");
    assert!(migrate(&turn, &database, &["upgrade", LAST]).status.success());

    let full = alembic_at(&turn, FIRST, &[]);
    check_refused(&adopt(&turn, &full, &[]), &full, 4, &["extra table item", "files up to base"]);
}

#[test]
fn what_alembic_applied_is_recorded_once_and_its_table_stays() {
    let turn = Turn::shared();
    let database = alembic_at(&turn, LAST, &[LAST]);
    let output = adopt(&turn, &database, &[]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(printed(&output), "adopted at 1246b5faa711\n");
    let stamped = [FIRST, LAST].map(|id| format!("{id} stamped")).to_vec();
    let adopted = [FIRST, LAST].map(|id| format!("adopt {id}")).to_vec();
    assert_eq!(records(&database), [stamped.clone(), adopted.clone()]);
    assert!(is_there(&database, "alembic_version"));

    assert_eq!(printed(&adopt(&turn, &database, &[])), "already at 1246b5faa711\n");
    assert_eq!(records(&database), [stamped, adopted], "the second time changed nothing");
    assert!(migrate(&turn, &database, &["upgrade"]).status.success());
    let head = migrations::head().id.as_str();
    assert_eq!(printed(&adopt(&turn, &database, &[])), format!("already at {head} (head)\n"));
}

#[test]
fn what_alembic_applies_after_the_takeover_is_recorded_by_another_one() {
    let turn = Turn::shared();
    let database = alembic_at(&turn, FIRST, &[FIRST]);
    assert_eq!(printed(&adopt(&turn, &database, &[])), "adopted at 586f9c3cd40c\n");
    database.sql().run(
        "alter table \"user\" add column password_hash varchar, add unique (name); \
         update alembic_version set version_num = '1246b5faa711'",
    );
    assert_eq!(printed(&adopt(&turn, &database, &[])), "adopted at 1246b5faa711\n");
    let [rows, _] = records(&database);
    assert_eq!(rows, [FIRST, LAST].map(|id| format!("{id} stamped")));
    assert_eq!(migrate(&turn, &database, &["drift"]).status.code(), Some(0));
}

// Case 52.
#[test]
fn a_schema_that_is_not_what_its_revision_says_is_shown_and_adopted_on_demand() {
    let turn = Turn::shared();
    let database = alembic_at(&turn, LAST, &[LAST]);
    database.sql().run("alter table item alter column name type varchar(40)");
    let told = [
        "changed column item.name: is character varying(40) not null, \
         should be character varying(30) not null\n",
        "--accept-drift",
    ];
    check_refused(&adopt(&turn, &database, &["--retire-alembic"]), &database, 4, &told);

    let output = adopt(&turn, &database, &["--accept-drift"]);
    assert!(output.status.success(), "{output:?}");
    assert!(printed(&output).ends_with("\nadopted at 1246b5faa711\n"), "{output:?}");
    let drift = || migrate(&turn, &database, &["drift"]);
    let found = drift();
    assert_eq!(found.status.code(), Some(4));
    assert!(printed(&found).starts_with("changed column item.name: "), "{found:?}");
    let script = migrate(&turn, &database, &["drift", "--sql"]);
    assert!(script.status.success(), "{script:?}");
    database.sql().run(&printed(&script));
    assert_eq!(drift().status.code(), Some(0));
}

#[test]
fn a_retired_table_keeps_its_row_under_another_name() {
    let turn = Turn::shared();
    let database = alembic_at(&turn, LAST, &[LAST]);
    assert!(adopt(&turn, &database, &[]).status.success());
    let output = adopt(&turn, &database, &["--retire-alembic"]);
    let said = "already at 1246b5faa711\nalembic_version is alembic_version_retired now\n";
    assert_eq!(printed(&output), said);
    assert!(!is_there(&database, "alembic_version"));
    let row: String = database.sql().value("select version_num from alembic_version_retired", &[]);
    assert_eq!(row, LAST);
    let again = adopt(&turn, &database, &["--retire-alembic"]);
    assert_eq!(printed(&again), "already at 1246b5faa711\n", "there is nothing left to rename");
    assert_eq!(migrate(&turn, &database, &["drift"]).status.code(), Some(0));
}

// Case 17.
#[test]
fn without_a_place_for_the_proof_nothing_is_adopted() {
    let turn = Turn::shared();
    let database = alembic_at(&turn, LAST, &[LAST]);
    let role = format!("adopter_of_{}", database.name());
    database.sql().run(&format!(
        "create role {role} login; grant create, usage on schema public to {role}; \
         grant select on alembic_version to {role}"
    ));
    let url = format!("{} user={role}", database.url());
    let launch = Launch::bare(&turn).program(super::MIGRATE).env("DATABASE_URL", &url);
    let output = launch.args(["adopt-alembic"]).output();
    check_refused(&output, &database, 1, &["PEACE_SCRATCH_URL"]);
    database.sql().run(&format!("drop owned by {role}; drop role {role}"));
}
