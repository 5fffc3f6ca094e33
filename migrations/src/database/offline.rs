//! A run as a script for psql, for databases that only somebody else may change.
//!
//! The command line calls it; it calls `records` for the rows' SQL. Pure: the same input gives the
//! same bytes.
//! It promises what a run promises: one migration at a time, each revision once and whole, and
//! nothing on a database that stands elsewhere. The script asks the lock and, before each step, the
//! rows, and stops at the first error.
//! It does not know what the database holds, so that lock timeouts end it: it is to be run again.
//! Source: PostgreSQL manual, psql (`\gset`, `\gexec`, interpolation of variables).

use std::fmt::{self, Write};

use crate::database::apply::{Direction, RESET_ROLE_SQL, RESET_SQL, Step};
use crate::database::records::{self, DOWNGRADE, STAMP, UNSTAMP, UPGRADE};
use crate::database::session::LOCK_CLASS;
use crate::files::chain::{Chain, Revision};
use crate::files::script::{IndexBuild, Mode};
use crate::files::sql;

/// The schema of the bookkeeping, a variable of psql.
const SCHEMA: &str = ":peace_schema";

/// The script that goes `steps`. Empty steps make a script that changes nothing.
pub(crate) fn steps(steps: &[Step<'_>]) -> String {
    let mut text = String::new();
    compose(&mut text, steps).expect("a String takes every text");
    text
}

fn compose(text: &mut String, steps: &[Step<'_>]) -> fmt::Result {
    let ([first, ..], [.., last]) = (steps, steps) else {
        return writeln!(text, "-- Nothing to do.");
    };
    begin(text, first.from().as_deref(), last.to().as_deref())?;
    for (index, step) in steps.iter().enumerate() {
        writeln!(text, "\n-- {}: {step}\n{RESET_SQL};", step.script.file)?;
        match &step.script.mode {
            Mode::Transaction => in_transaction(text, step, index == 0)?,
            Mode::Alone { builds } => alone(text, step, builds.as_ref(), index == 0)?,
        }
    }
    end(text)
}

/// The script that makes the rows say what is applied, and changes nothing else.
pub(crate) fn stamp(chain: &Chain, from: usize, to: usize) -> String {
    let mut text = String::new();
    compose_stamp(&mut text, chain, from, to).expect("a String takes every text");
    text
}

fn compose_stamp(text: &mut String, chain: &Chain, from: usize, to: usize) -> fmt::Result {
    let all = chain.all();
    let id = |count: usize| Some(all[count.checked_sub(1)?].id.as_str());
    begin(text, id(from), id(to))?;
    writeln!(text, "\nbegin;")?;
    tables(text)?;
    guard(text, id(from))?;
    for revision in all.get(to..from).unwrap_or_default().iter().rev() {
        writeln!(text, "{};", records::remove_sql(SCHEMA, UNSTAMP, &literal(&revision.id)))?;
    }
    for revision in all.get(from..to).unwrap_or_default() {
        row(text, revision, "stamped", STAMP)?;
    }
    writeln!(text, "commit;")?;
    end(text)
}

/// Where the script leads, the lock, and the schema of the bookkeeping.
fn begin(text: &mut String, from: Option<&str>, to: Option<&str>) -> fmt::Result {
    let [from, to] = [from, to].map(|id| id.unwrap_or("base"));
    writeln!(
        text,
        "-- peace-migrate: from {from} to {to}. Run it with psql.\n\
         \\set ON_ERROR_STOP on\n\n\
         -- One migration at a time: the lock is held to the end.\n\
         do $peace$ begin\n    \
             if current_schema() is null then\n        \
                 raise exception 'no schema of search_path exists: create one, or set search_path';\n    \
             end if;\n    \
             if not pg_try_advisory_lock({LOCK_CLASS}, hashtext(quote_ident(current_schema()))) then\n        \
                 raise exception 'another migration holds the lock: run this when it has ended';\n    \
             end if;\n\
         end $peace$;\n\
         select quote_ident(current_schema()) as peace_schema \\gset"
    )
}

fn end(text: &mut String) -> fmt::Result {
    writeln!(text, "\ndo $peace$ begin perform pg_advisory_unlock_all(); end $peace$;")
}

fn in_transaction(text: &mut String, step: &Step<'_>, is_first: bool) -> fmt::Result {
    writeln!(
        text,
        "begin;\nset local lock_timeout = {};\nset local statement_timeout = {};",
        step.script.lock_timeout.as_millis(),
        step.script.statement_timeout.as_millis(),
    )?;
    if is_first {
        tables(text)?;
    }
    guard(text, step.from().as_deref())?;
    file(text, step)?;
    writeln!(text, "{RESET_ROLE_SQL};")?;
    done(text, step)?;
    writeln!(text, "commit;")
}

fn alone(
    text: &mut String,
    step: &Step<'_>,
    builds: Option<&IndexBuild>,
    is_first: bool,
) -> fmt::Result {
    writeln!(
        text,
        "set lock_timeout = {};\nset statement_timeout = {};",
        step.script.lock_timeout.as_millis(),
        step.script.statement_timeout.as_millis(),
    )?;
    writeln!(text, "begin;")?;
    if is_first {
        tables(text)?;
    }
    guard(text, step.from().as_deref())?;
    row(text, step.revision, "running", UPGRADE)?;
    writeln!(text, "commit;")?;
    if let Some(build) = builds {
        drop_invalid(text, build)?;
    }
    file(text, step)?;
    if let Some(build) = builds {
        assert_valid(text, build)?;
    }
    done(text, step)
}

/// The whole file; psql needs a `;` after its last statement.
fn file(text: &mut String, step: &Step<'_>) -> fmt::Result {
    let sql = step.script.sql.trim_end();
    writeln!(text, "\n{sql}{}\n", if sql::is_terminated(sql) { "" } else { "\n;" })
}

fn done(text: &mut String, step: &Step<'_>) -> fmt::Result {
    let id = literal(&step.revision.id);
    match step.direction {
        Direction::Up => row(text, step.revision, "applied", UPGRADE),
        Direction::Down => writeln!(text, "{};", records::remove_sql(SCHEMA, DOWNGRADE, &id)),
    }
}

fn row(text: &mut String, revision: &Revision, state: &str, action: &str) -> fmt::Result {
    let [id, revises, name, checksum, tool] = records::columns(revision).map(literal);
    let values = [&id, &revises, &name, &checksum, &literal(state), &tool, "null"];
    writeln!(text, "{};", records::write_sql(SCHEMA, action, &values))
}

fn tables(text: &mut String) -> fmt::Result {
    // Its source stands deeper than here.
    writeln!(text, "{};", records::tables_sql(SCHEMA).replace("\n         ", "\n"))
}

/// Stops the script unless the database stands at `expected`.
fn guard(text: &mut String, expected: Option<&str>) -> fmt::Result {
    let (found, name) = (expected.map_or("null".to_owned(), literal), expected.unwrap_or("base"));
    writeln!(
        text,
        "do $peace$ declare found text; begin\n    \
             execute format('select revision from %1$I.peace_migration newest '\n        \
                 'where state <> ''running'' and not exists (select from %1$I.peace_migration '\n        \
                 'next where next.revises = newest.revision and next.state <> ''running'')',\n        \
                 current_schema()) into found;\n    \
             if found is distinct from {found} then\n        \
                 raise exception 'the database is at %, and this is the way from %',\n            \
                     coalesce(found, 'base'), {};\n    \
             end if;\n\
         end $peace$;",
        literal(name),
    )
}

/// What an interrupted build has left is in the way of this one.
fn drop_invalid(text: &mut String, build: &IndexBuild) -> fmt::Result {
    writeln!(
        text,
        "select format('drop index concurrently %I.%I', nspname, relname) {}\n    \
             and not indisvalid \\gexec",
        found(build)
    )
}

fn assert_valid(text: &mut String, build: &IndexBuild) -> fmt::Result {
    writeln!(
        text,
        "do $peace$ begin\n    \
             if not exists (select {}\n    and indisvalid) then\n        \
                 raise exception 'index % is missing or INVALID after its build', {};\n    \
             end if;\n\
         end $peace$;",
        found(build),
        literal(&build.name),
    )
}

fn found(build: &IndexBuild) -> String {
    format!(
        "from pg_class join pg_index on indexrelid = pg_class.oid\n    \
             join pg_namespace on pg_namespace.oid = relnamespace where relname = {}\n    \
             and relnamespace = (select relnamespace from pg_class where oid = to_regclass({}))",
        literal(&build.name),
        literal(&build.table),
    )
}

/// A string for SQL, whatever `standard_conforming_strings` says.
fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    match text.contains('\\') {
        true => format!("E'{}'", quoted.replace('\\', "\\\\")),
        false => format!("'{quoted}'"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::chain::Down;
    use crate::files::embedded::embedded;

    fn up(count: usize) -> Vec<Step<'static>> {
        let all = embedded().unwrap().all().iter().take(count);
        all.map(|revision| Step { revision, direction: Direction::Up, script: &revision.up })
            .collect()
    }

    #[track_caller]
    fn in_order(text: &str, parts: &[&str]) {
        let mut rest = text;
        for part in parts {
            let at = rest.find(part).unwrap_or_else(|| panic!("no `{part}` in\n{rest}"));
            rest = &rest[at + part.len()..];
        }
    }

    #[test]
    fn each_step_is_guarded_and_recorded() {
        let text = steps(&up(3));
        in_order(
            &text,
            &[
                "from base to 20261122180000",
                "ON_ERROR_STOP",
                "pg_try_advisory_lock(1346715971,",
                "begin;\nset local lock_timeout = 3000;",
                "create table if not exists :peace_schema.peace_migration (",
                "found is distinct from null",
                "create table item (",
                "'586f9c3cd40c', 'none',",
                "commit;",
                "found is distinct from '586f9c3cd40c'",
                "commit;",
                "set lock_timeout = 0;",
                "found is distinct from '1246b5faa711'",
                "'running'",
                "\\gexec",
                "create index concurrently",
                "and indisvalid",
                "'applied'",
                "pg_advisory_unlock_all",
            ],
        );
        assert_eq!(text.matches("create table if not exists").count(), 2);
        assert_eq!(text, steps(&up(3)));
    }

    #[test]
    fn the_way_down_forgets() {
        let revision = &embedded().unwrap().all()[0];
        let Down::Script(script) = &revision.down else { unreachable!("it has a way back") };
        let text = steps(&[Step { revision, direction: Direction::Down, script }]);
        in_order(
            &text,
            &[
                "from 586f9c3cd40c to base",
                "found is distinct from '586f9c3cd40c'",
                "drop table item",
                "delete from :peace_schema.peace_migration where revision = '586f9c3cd40c'",
            ],
        );
    }

    #[test]
    fn a_stamp_touches_only_rows() {
        let chain = embedded().unwrap();
        let text = stamp(chain, 0, 2);
        in_order(&text, &["distinct from null", "'586f9c3cd40c'", "'1246b5faa711'", "commit;"]);
        assert!(!text.contains("create table item"));
        let text = stamp(chain, 2, 1);
        in_order(&text, &["distinct from '1246b5faa711'", "delete from", "commit;"]);
        assert_eq!(text.matches("delete from").count(), 1);
    }

    #[test]
    fn nothing_to_do_is_a_script_too() {
        assert_eq!(steps(&[]), "-- Nothing to do.\n");
    }

    #[test]
    fn literals_stay_literals() {
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal(r"a\'b"), r"E'a\\''b'");
    }
}
