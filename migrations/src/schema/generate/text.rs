//! Definitions as SQL.
//!
//! The rooms that plan call it; it calls `names`. Pure.
//! It promises lower-case keywords, and the names and expressions as the catalogue has them.

use super::names::{
    NAME_BYTES_MAX, bare, joined, literal, lower, short_type, unquoted, without_double_parentheses,
};
use super::op::Statement;
use crate::schema::catalog::{Catalog, Column, Constraint, Index, Key, Kind, Object};

/// Of smallint, integer and bigint.
const MAXIMA: [i64; 3] = [i16::MAX as i64, i32::MAX as i64, i64::MAX];

pub(super) fn columns<'a>(
    side: &'a Catalog,
    table: &'a str,
) -> impl Iterator<Item = (&'a Key, &'a Column)> {
    side.part_of(table, Kind::Column).filter_map(|(key, object)| match object {
        Object::Column(column) => Some((key, column)),
        _ => None,
    })
}

pub(super) fn constraints<'a>(
    side: &'a Catalog,
    table: &'a str,
) -> impl Iterator<Item = (&'a Key, &'a Constraint)> {
    side.part_of(table, Kind::Constraint).filter_map(|(key, object)| match object {
        Object::Constraint(constraint) => Some((key, constraint)),
        _ => None,
    })
}

/// A column as it stands in `create table` and after `add column`.
pub(super) fn column(key: &Key, column: &Column) -> String {
    format!("{} {}", key.name, column_definition(key, column, column.not_null))
}

/// The same without the name. `not_null`: whether to say so where it is not said by other words.
pub(super) fn column_definition(key: &Key, column: &Column, not_null: bool) -> String {
    let serial = serial(key, column);
    let mut text = serial.map_or_else(|| short_type(&column.data_type), str::to_owned);
    if let Some(collation) = &column.collation {
        text.push_str(&format!(" collate {collation}"));
    }
    if let Some(expression) = &column.generated {
        text.push_str(&format!(" generated always as ({}) stored", lower(expression)));
    }
    if let Some(identity) = &column.identity {
        text.push_str(&format!(" generated {identity} as identity"));
        text.push_str(&identity_options(column.options.as_deref()));
    }
    if let Some(default) = column.default.as_ref().filter(|_| serial.is_none()) {
        text.push_str(&format!(" default {}", lower(default)));
    }
    if not_null && serial.is_none() && column.identity.is_none() {
        text.push_str(" not null");
    }
    text
}

/// `serial` and its like, when the column is what these words make.
fn serial(key: &Key, column: &Column) -> Option<&'static str> {
    let sequence = column.sequence.as_deref()?;
    let usual = joined(&[&key.of, &key.name], "_seq");
    let word = match column.data_type.as_str() {
        "smallint" => "smallserial",
        "integer" => "serial",
        "bigint" => "bigserial",
        _ => return None,
    };
    // PostgreSQL cuts a long name otherwise than we do; the proof sees what comes of it.
    let is_usual = bare(sequence) == usual || unquoted(bare(sequence)).len() == NAME_BYTES_MAX;
    (column.not_null && is_usual).then_some(word)
}

/// What sets a serial column's sequence to its options, when they are not the usual ones.
pub(super) fn serial_options(column: &Column) -> Option<String> {
    let (sequence, options) = (column.sequence.as_ref()?, column.options.as_ref()?);
    Some(format!("alter sequence {sequence} {options}"))
}

/// Options for `create sequence`, with a space before; nothing when they are the usual ones.
pub(super) fn sequence_options(options: &str) -> String {
    let unusual = unusual(options);
    if unusual.is_empty() { unusual } else { format!(" {unusual}") }
}

/// In `create table`: the options without the type, which is the column's, with parentheses and a
/// space before; nothing when they are the usual ones.
pub(super) fn identity_options(options: Option<&str>) -> String {
    let unusual = unusual(options.unwrap_or_default());
    let words = without_type(&unusual);
    if words.is_empty() { String::new() } else { format!(" ({words})") }
}

/// The options that nobody would get without saying so.
fn unusual(options: &str) -> String {
    let mut text = format!("{options} ");
    for (data_type, max) in [("smallint", MAXIMA[0]), ("integer", MAXIMA[1]), ("bigint", MAXIMA[2])]
    {
        if options.starts_with(&format!("as {data_type} ")) {
            text = text.replace(&format!(" maxvalue {max} "), " ");
        }
    }
    for usual in [" increment by 1 ", " minvalue 1 ", " start with 1 ", " cache 1 "] {
        text = text.replace(usual, " ");
    }
    text.strip_prefix("as bigint ").unwrap_or(&text).trim().to_owned()
}

/// The options from what follows `as integer` on.
pub(super) fn without_type(options: &str) -> &str {
    let mut words = options.splitn(3, ' ');
    match (words.next(), words.next()) {
        (Some("as"), Some(_)) => words.next().unwrap_or_default(),
        _ => options,
    }
}

/// What changes a sequence to these options; `cycle` has to be taken back in words.
pub(super) fn changed_options(options: &str) -> String {
    let no_cycle = if options.ends_with(" cycle") { "" } else { " no cycle" };
    format!("{options}{no_cycle}")
}

/// The options of a column's own sequence, also when they are the usual ones.
pub(super) fn own_options(column: &Column) -> String {
    let max = match column.data_type.as_str() {
        "smallint" => MAXIMA[0],
        "integer" => MAXIMA[1],
        _ => MAXIMA[2],
    };
    let usual = || {
        format!(
            "as {} increment by 1 minvalue 1 maxvalue {max} start with 1 cache 1",
            column.data_type
        )
    };
    column.options.clone().unwrap_or_else(usual)
}

/// In `create table`: primary key, unique, checks, exclusions, foreign keys.
pub(super) fn rank(constraint: &Constraint) -> Option<usize> {
    "pucxf".find(constraint.form)
}

pub(super) fn constraint(key: &Key, constraint: &Constraint) -> String {
    let mut text = without_double_parentheses(&lower(&constraint.text));
    if let Some(target) = &constraint.references {
        text = text.replace(&format!("references {target}("), &format!("references {target} ("));
    }
    format!("constraint {} {text}", key.name)
}

pub(super) fn add_constraint(key: &Key, added: &Constraint, valid: bool) -> String {
    let not_valid = if valid { "" } else { " not valid" };
    format!("add {}{not_valid}", constraint(key, added))
}

pub(super) fn drop_constraint(key: &Key) -> String {
    format!("drop constraint {}", key.name)
}

pub(super) fn create_index(key: &Key, object: &Object) -> Option<Statement> {
    let Object::Index(index) = object else { return None };
    Some(Statement::Whole(index_as(index, "", &key.name, &key.of)))
}

/// `create index` under a name; `how` is `concurrently ` or nothing.
pub(super) fn index_as(index: &Index, how: &str, name: &str, table: &str) -> String {
    let unique = if index.unique { "unique " } else { "" };
    let text = lower(&index.text);
    let text = text.strip_prefix("using btree ").unwrap_or(&text);
    format!("create {unique}index {how}{name} on {table} {text}")
}

pub(super) fn drop_index(object: &Object) -> Option<Statement> {
    let Object::Index(index) = object else { return None };
    Some(Statement::Whole(format!("drop index {}", index.qualified)))
}

/// What `comment on` calls an object.
pub(super) fn target(key: &Key, object: &Object) -> String {
    match object {
        Object::Index(index) => format!("index {}", index.qualified),
        _ => key.to_string(),
    }
}

/// The comment that a side has on `target`.
pub(super) fn comment(side: &Catalog, of: &str, target: &str) -> Option<Statement> {
    let key = Key { of: of.to_owned(), kind: Kind::Comment, name: target.to_owned() };
    match side.objects.get(&key) {
        Some(Object::Comment { text }) => {
            Some(Statement::Whole(format!("comment on {target} is {}", literal(text))))
        }
        _ => None,
    }
}

/// Takes a comment away.
pub(super) fn no_comment(target: &str) -> Statement {
    Statement::Whole(format!("comment on {target} is null"))
}

/// Whether an expression in PostgreSQL's words speaks of a column.
pub(super) fn mentions(text: &str, column: &str) -> bool {
    let words = crate::files::sql::statements(text).unwrap_or_default();
    words.iter().flatten().any(|word| unquoted(word.text) == unquoted(column))
}

/// The kinds of objects that this one may be a part of, or is.
pub(super) fn owners(key: &Key) -> &[Kind] {
    let first = key.name.split(' ').next().unwrap_or_default();
    match (key.kind, first) {
        (Kind::Schema, _) | (Kind::Comment, "schema") => &[Kind::Schema],
        (Kind::Type, _) | (Kind::Comment, "type" | "domain") => &[Kind::Type],
        (Kind::Sequence, _) | (Kind::Comment, "sequence") => &[Kind::Sequence],
        (Kind::Routine, _) | (Kind::Comment, "routine") => &[Kind::Routine],
        (Kind::Extension, _) => &[Kind::Extension],
        _ => &[Kind::Table, Kind::View],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unusual_options_are_written() {
        let usual = |data_type: &str, max: i64| {
            format!("as {data_type} increment by 1 minvalue 1 maxvalue {max} start with 1 cache 1")
        };
        assert_eq!(sequence_options(&usual("bigint", i64::MAX)), "");
        assert_eq!(sequence_options(&usual("integer", MAXIMA[1])), " as integer");
        let five = usual("bigint", 9).replace("by 1", "by 5") + " cycle";
        assert_eq!(sequence_options(&five), " increment by 5 maxvalue 9 cycle");
        assert_eq!(identity_options(None), "");
        let ten = usual("integer", MAXIMA[1]).replace("with 1", "with 10");
        assert_eq!(identity_options(Some(&ten)), " (start with 10)");
    }

    #[test]
    fn a_column_is_mentioned_by_its_whole_name() {
        assert!(mentions("using btree (\"Name\", b)", "\"Name\""));
        assert!(mentions("CHECK (price > 0)", "price"));
        assert!(!mentions("CHECK (prices > 'price'::text)", "price"));
    }
}
