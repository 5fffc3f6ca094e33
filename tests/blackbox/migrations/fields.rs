//! Whether row structs can read their columns, whatever these are called and made of.

use std::error::Error;

use migrations::{Chain, Finding, FromSql, Table, Type};
use tokio_postgres::types::Kind;

use super::bench::Bench;
use crate::harness::database::event_loop;
use crate::harness::{Database, Turn};

/// A value of an enum of the test's own, and of no other.
struct Mood;

impl<'a> FromSql<'a> for Mood {
    fn from_sql(_: &Type, _: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self)
    }

    fn accepts(found: &Type) -> bool {
        matches!(found.kind(), Kind::Enum(_)) && found.name() == "Mood"
    }
}

mod rows {
    #![allow(
        dead_code,
        non_snake_case,
        reason = "nobody reads a row of it; the names are the test"
    )]

    use super::Mood;

    migrations::table! {
        pub(super) struct Right: "Odd \"name\" %s" {
            order: i64 = "bigint primary key",
            Mixed: Mood = r#""Mood" not null"#,
            r#type: Vec<Mood> = r#""Mood"[] not null"#,
            words: Vec<Option<String>> = "text[] not null",
            short: String = "short not null",
            always: i32 = "always",
            maybe: Option<i32> = "int",
            größe: f64 = "float8 not null",
            same: i64 = "bigint generated always as identity",
        }
        also r#"create type "Mood" as enum ('a')"#;
        also "create domain short as varchar(3)";
        also "create domain always as int not null";
    }

    migrations::table! {
        pub(super) struct Elsewhere: "shop.order" {
            id: i64 = "bigint primary key",
            of: Option<i64> = r#"bigint references "Odd ""name"" %s""#,
        }
        also "create schema shop";
    }

    migrations::table! {
        pub(super) struct Wrong: "shop.order" {
            id: Option<i64> = "bigint primary key",
            mood: String = "shop.mood not null",
            moods: Vec<Option<i32>> = "shop.mood[] not null",
            short: i32 = "shop.short not null",
            always: Option<i32> = "shop.always",
            words: String = "text[] not null",
        }
        also "create schema shop";
        also "create type shop.mood as enum ('a')";
        also "create domain shop.short as varchar(3)";
        also "create domain shop.always as int not null";
    }
}

fn findings(database: &Database<'_>, chain: &Chain, tables: &[Table]) -> Vec<Finding> {
    let access = database.access();
    let work = async { migrations::check_tables(&access, chain, tables).await };
    event_loop().block_on(work).unwrap()
}

/// Revisions that give `tables`.
fn bench<'a>(turn: &'a Turn, tables: &[Table]) -> Bench<'a> {
    let also = tables.iter().flat_map(|table| table.also);
    let sql = also.map(|sql| format!("{sql};\n")).collect::<String>();
    let creates = tables.iter().map(|table| format!("{};\n", table.create()));
    Bench::sides(turn, &(sql + &creates.collect::<String>()), "")
}

#[test]
fn enums_arrays_domains_and_hard_names_are_read() {
    let turn = Turn::shared();
    let database = Database::blank(&turn);
    let tables = [rows::Right::TABLE, rows::Elsewhere::TABLE];
    let chain = Chain::read(bench(&turn, &tables).versions()).unwrap();
    assert_eq!(findings(&database, &chain, &tables), []);
}

#[test]
fn fields_that_cannot_read_their_columns_are_named() {
    let turn = Turn::shared();
    let database = Database::blank(&turn);
    let tables = [rows::Wrong::TABLE];
    let chain = Chain::read(bench(&turn, &tables).versions()).unwrap();
    let found = findings(&database, &chain, &tables);
    let told: Vec<String> = found.iter().map(ToString::to_string).collect();
    let change = "change either";
    let never = "the column is never null: take the Option away, or the `not null`";
    assert_eq!(
        told,
        [
            format!("Wrong.id (column shop.order.id): Option<i64> reads null and {never}"),
            format!(
                "Wrong.mood (column shop.order.mood): String does not read a column of type \
                shop.mood: {change}"
            ),
            format!(
                "Wrong.moods (column shop.order.moods): Vec<Option<i32>> does not read a column \
                of type shop.mood[]: {change}"
            ),
            format!(
                "Wrong.short (column shop.order.short): i32 does not read a column of type \
                varchar: {change}"
            ),
            format!("Wrong.always (column shop.order.always): Option<i32> reads null and {never}"),
            format!(
                "Wrong.words (column shop.order.words): String does not read a column of type \
                text[]: {change}"
            ),
        ]
    );
}
