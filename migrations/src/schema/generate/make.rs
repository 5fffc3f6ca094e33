//! Objects made out of nothing: schemas, types, sequences, tables with all that is theirs.
//!
//! `plan` calls it, for what is only wanted and, inverted, for what is only there; it calls `text`.
//! It promises an order in which everything that is needed is there before, and that the inverse in
//! reverse order takes it all away again. Cycles of foreign keys are closed afterwards.

use std::collections::BTreeSet;

use super::op::{Op, Phase, Statement};
use super::text;
use crate::schema::catalog::{Catalog, Constraint, Key, Kind, Object};

/// The changes that make what one side has and the other has not.
#[derive(Default)]
pub(super) struct Made<'a> {
    pub(super) ops: Vec<Op>,
    /// Foreign keys that have to wait for something beyond `ops`.
    pub(super) links: Vec<Link<'a>>,
}

/// A foreign key of a new table.
pub(super) struct Link<'a> {
    pub(super) key: &'a Key,
    pub(super) constraint: &'a Constraint,
    pub(super) op: Op,
}

/// What `side` has and `other` has not. `busy`: tables on both sides whose keys may change
/// meanwhile.
pub(super) fn make<'a>(side: &'a Catalog, other: &'a Catalog, busy: &BTreeSet<&str>) -> Made<'a> {
    let mut made = Made::default();
    for kind in [Kind::Schema, Kind::Extension, Kind::Type, Kind::Sequence] {
        made.ops
            .extend(new(side, other, kind).filter_map(|(key, object)| whole(side, key, object)));
    }
    let mut tables: Vec<&str> = new(side, other, Kind::Table).map(|(key, _)| &*key.of).collect();
    let mut waiting: BTreeSet<&str> = tables.iter().copied().collect();
    while !tables.is_empty() {
        let next = tables.iter().position(|table| is_free(side, table, &waiting)).unwrap_or(0);
        let table = tables.remove(next);
        waiting.remove(table);
        let waits = |constraint: &Constraint| match constraint.references.as_deref() {
            _ if !constraint.valid => true,
            Some(target) => busy.contains(target) || waiting.contains(target),
            None => false,
        };
        let (op, links) = new_table(side, table, waits);
        made.ops.push(op);
        let indexes = side.part_of(table, Kind::Index);
        let indexes = indexes.filter_map(|(key, object)| text::create_index(key, object));
        // They go with their table.
        made.ops.extend(indexes.map(|index| Op::new(Phase::Main, vec![index], Vec::new())));
        made.ops.extend(comments_of_table(side, table, &links));
        made.links.extend(links);
    }
    made
}

/// The objects of a kind that only `side` has.
fn new<'a>(
    side: &'a Catalog,
    other: &'a Catalog,
    kind: Kind,
) -> impl Iterator<Item = (&'a Key, &'a Object)> {
    side.objects.iter().filter(move |(key, _)| key.kind == kind && !other.objects.contains_key(key))
}

/// What stands for itself.
fn whole(side: &Catalog, key: &Key, object: &Object) -> Option<Op> {
    let of = &key.of;
    let (kind, definition) = match object {
        Object::Schema => ("schema", String::new()),
        Object::Extension => ("extension", String::new()),
        Object::Enum { .. } => ("type", format!(" as {}", object.text())),
        Object::Sequence { options } => ("sequence", text::sequence_options(options)),
        _ => return None,
    };
    let create = Statement::Whole(format!("create {kind} {of}{definition}"));
    let up = std::iter::once(create).chain(text::comment(side, of, &key.to_string())).collect();
    let op = Op::new(Phase::Main, up, vec![format!("drop {kind} {of}").into()]);
    Some(op.brings(key.to_string()))
}

/// Whether every table that it points to is there.
fn is_free(side: &Catalog, table: &str, waiting: &BTreeSet<&str>) -> bool {
    side.part_of(table, Kind::Constraint).all(|(_, object)| match object {
        Object::Constraint(Constraint { references: Some(target), .. }) => {
            target == table || !waiting.contains(target.as_str())
        }
        _ => true,
    })
}

/// `create table` with its constraints, except for those that have to wait.
fn new_table<'a>(
    side: &'a Catalog,
    table: &'a str,
    waits: impl Fn(&Constraint) -> bool,
) -> (Op, Vec<Link<'a>>) {
    let mut columns: Vec<_> = text::columns(side, table).collect();
    columns.sort_by_key(|(_, column)| column.position);
    let mut lines: Vec<String> =
        columns.iter().map(|(key, column)| text::column(key, column)).collect();
    let (mut links, mut constraints) = (Vec::new(), Vec::new());
    for (key, constraint) in text::constraints(side, table) {
        if waits(constraint) {
            let add =
                Statement::alter(table, text::add_constraint(key, constraint, constraint.valid));
            let drop = Statement::alter(table, text::drop_constraint(key));
            let up =
                std::iter::once(add).chain(text::comment(side, table, &key.to_string())).collect();
            links.push(Link { key, constraint, op: Op::new(Phase::Main, up, vec![drop]) });
        } else {
            constraints.push((text::rank(constraint), text::constraint(key, constraint)));
        }
    }
    constraints.sort();
    lines.extend(constraints.into_iter().map(|(_, line)| line));
    let body =
        if lines.is_empty() { String::new() } else { format!("\n    {}\n", lines.join(",\n    ")) };
    let create = Statement::Whole(format!("create table {table} ({body})"));
    let options = columns.iter().filter_map(|(_, column)| text::serial_options(column));
    let up = std::iter::once(create).chain(options.map(Statement::Whole)).collect();
    let op = Op::new(Phase::Main, up, vec![format!("drop table {table}").into()]);
    (op.brings(format!("table {table}")), links)
}

/// Every comment on a table and its parts, except for those that are made later; they go with it.
fn comments_of_table(side: &Catalog, table: &str, links: &[Link<'_>]) -> Vec<Op> {
    let keys = side.part_of(table, Kind::Comment).map(|(key, _)| key);
    let keys = keys.filter(|key| text::owners(key).contains(&Kind::Table));
    let now = keys.filter(|key| links.iter().all(|link| link.key.to_string() != key.name));
    now.filter_map(|key| text::comment(side, table, &key.name))
        .map(|comment| Op::new(Phase::Main, vec![comment], Vec::new()))
        .collect()
}
