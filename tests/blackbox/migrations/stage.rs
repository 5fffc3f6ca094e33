//! What the tests of the runner add to a bench: short revisions, a run in the background, psql, and
//! a database's schema and bookkeeping as text.

use std::fs;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use super::bench::Bench;
use crate::harness::wait::until_true;
use crate::harness::{Database, Peace};

/// How long anything may take before a test has failed.
pub(super) const SOON: Duration = Duration::from_secs(30);

/// A revision after `revises`; the header lines between `message` and `transaction` are `more`.
pub(super) fn add(bench: &Bench<'_>, (date, id, revises): (u64, &str, &str), more: &str, up: &str) {
    let mode = if up.contains("concurrently") { "none" } else { "yes" };
    let head = format!("-- revises: {revises}\n-- message: {id}\n{more}");
    bench.up(date, id, &format!("{head}-- transaction: {mode}\n\n{up}\n"));
    down(bench, date, id, "");
}

/// The way back of the revision `id`, anew.
pub(super) fn down(bench: &Bench<'_>, date: u64, id: &str, sql: &str) {
    let mode = if sql.contains("concurrently") { "none" } else { "yes" };
    let text = format!("-- revision: {id}\n-- transaction: {mode}\n\n{sql}\n");
    fs::write(bench.versions().join(format!("{date:014}_{id}.down.sql")), text).unwrap();
}

/// Rewrites a file of the bench.
pub(super) fn edit(bench: &Bench<'_>, file: &str, change: impl Fn(&str) -> String) {
    let path = bench.versions().join(file);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(path, change(&text)).unwrap();
}

/// Starts the program on the bench's revisions; its standard error is a log.
pub(super) fn start(bench: &Bench<'_>, database: &Database<'_>, args: &[&str]) -> Peace {
    bench.launch(args).env("DATABASE_URL", &database.url()).start()
}

/// Waits until the program says something.
pub(super) fn said(run: &Peace, words: &str) {
    run.await_event(words, 0, SOON, |event| event.text.contains(words));
}

/// Waits until `count` other sessions in the database wait for a lock while they run something like
/// `pattern`.
pub(super) fn await_waiting(database: &Database<'_>, pattern: &str, count: i64) {
    let sql = database.sql();
    until_true(&format!("{count} sessions wait in {pattern}"), SOON, || {
        let waiting: i64 = sql.value(
            "select count(*) from pg_stat_activity where datname = current_database() \
             and pid <> pg_backend_pid() and wait_event_type = 'Lock' and query ilike $1",
            &[&pattern],
        );
        waiting == count
    });
}

/// Waits until no run has a session in the database any more.
pub(super) fn await_parted(database: &Database<'_>) {
    let sql = database.sql();
    until_true("the server has noticed", SOON, || {
        sql.value::<i64>(
            "select count(*) from pg_stat_activity where datname = current_database() \
             and application_name = 'peace-migrate'",
            &[],
        ) == 0
    });
}

/// Runs psql as an operator does.
pub(super) fn psql(database: &Database<'_>, args: &[&str]) -> Output {
    psql_command(database, args).output().expect("psql is installed with the server")
}

pub(super) fn psql_command(database: &Database<'_>, args: &[&str]) -> Command {
    let mut command = Command::new("psql");
    command.args(["-X", "-d", &database.url()]).args(args).stdin(Stdio::null());
    command
}

/// Columns, constraints, indexes and types of the schema `public`, as the server spells them.
pub(super) fn catalog(database: &Database<'_>) -> Vec<String> {
    let sql = "select * from (\
        select format('column %s.%s %s %s %s', attrelid::regclass, attname, \
            format_type(atttypid, atttypmod), attnotnull, pg_get_expr(adbin, adrelid)) as line \
            from pg_attribute join pg_class c on c.oid = attrelid \
            left join pg_attrdef on adrelid = attrelid and adnum = attnum \
            where relnamespace = 'public'::regnamespace and attnum > 0 and not attisdropped \
        union all select format('constraint %s %s', conname, pg_get_constraintdef(oid)) \
            from pg_constraint where connamespace = 'public'::regnamespace \
        union all select format('index %s %s', pg_get_indexdef(indexrelid), indisvalid) \
            from pg_index join pg_class c on c.oid = indexrelid \
            where relnamespace = 'public'::regnamespace \
        union all select format('enum %s %s', enumtypid::regtype, enumlabel) from pg_enum) all_of_it \
        order by line";
    database.sql().rows(sql, &[]).iter().map(|row| row.get(0)).collect()
}

/// The bookkeeping, apart from times.
pub(super) fn records(database: &Database<'_>) -> Vec<String> {
    let sql = "select concat_ws(' ', revision, revises, name, checksum, state, tool, applied_by) \
        from peace_migration order by applied_at";
    database.sql().rows(sql, &[]).iter().map(|row| row.get(0)).collect()
}

/// `action revision`, oldest first.
pub(super) fn log(database: &Database<'_>) -> Vec<String> {
    let sql = "select concat_ws(' ', action, revision) from peace_migration_log order by id";
    database.sql().rows(sql, &[]).iter().map(|row| row.get(0)).collect()
}

pub(super) fn is_there(database: &Database<'_>, table: &str) -> bool {
    database.sql().value("select to_regclass($1) is not null", &[&table])
}

/// What the shared server has logged as an error in this database.
pub(super) fn server_errors(database: &Database<'_>) -> Vec<String> {
    let prefix = format!("{}|", database.name());
    let log = crate::harness::cluster::Cluster::shared().log();
    let lines = log.lines().filter(|line| line.starts_with(&prefix) && line.contains("ERROR:"));
    lines.map(str::to_owned).collect()
}
