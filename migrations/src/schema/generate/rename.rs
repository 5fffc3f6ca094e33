//! What has another name, and is the same all the same.
//!
//! `generate` calls it; it calls `session`.
//! It promises that PostgreSQL does the renaming, in a transaction that is rolled back: every text
//! that speaks of the old name is then read as it will be; and that nothing is taken for dropped
//! and made anew without somebody having said so.

use std::collections::BTreeSet;

use super::names::{bare, literal, prefix, unquoted};
use super::op::{Op, Phase};
use super::retype::implied;
use super::{Unwritten, Wishes};
use crate::database::session::Session;
use crate::error::Error;
use crate::schema::catalog::{Catalog, Column, Key, Kind, Object};

/// One name that became another, as the flag `--rename` says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rename {
    /// `item.name`, or `item`.
    pub old: String,
    /// `item.title`, or `thing`.
    pub new: String,
}

/// The schema under its new names, and what leads there.
pub(super) struct Renamed {
    pub(super) ops: Vec<Op>,
    pub(super) catalog: Catalog,
    /// Constraints and indexes that follow by themselves when their columns get other types.
    pub(super) implied: BTreeSet<Key>,
}

/// Renames in the database of `session` whatever is called otherwise in `want`, and reads it.
pub(super) async fn rename(
    session: &Session,
    want: &Catalog,
    wishes: &Wishes,
    declared: &[Rename],
) -> Result<Renamed, Unwritten> {
    session.execute("opening a transaction", "begin").await?;
    let renamed = in_transaction(session, want, wishes, declared).await;
    session.execute("rolling back", "rollback").await?;
    renamed
}

async fn in_transaction(
    session: &Session,
    want: &Catalog,
    wishes: &Wishes,
    declared: &[Rename],
) -> Result<Renamed, Unwritten> {
    let catalog = Catalog::read_within(session).await?;
    let mut renamed = Renamed { ops: Vec::new(), catalog, implied: BTreeSet::new() };
    let hints: Vec<&Rename> = wishes.renames.iter().chain(declared).collect();
    let mut used = BTreeSet::new();
    let mut former: Vec<(String, String)> = Vec::new();
    for stage in [wholes, parts] {
        let found = stage(&renamed.catalog, want, &hints, &former);
        used.extend(found.iter().map(|(hint, ..)| *hint));
        former.extend(found.iter().filter_map(|(_, _, names)| names.clone()));
        let ops = found.into_iter().map(|(_, op, _)| op).collect();
        renamed.run(session, ops).await?;
    }
    if let Some(hint) = (0..wishes.renames.len()).find(|index| !used.contains(index)) {
        return Err(Unwritten::UselessRename(wishes.renames[hint].clone()));
    }
    let suspects = suspects(&renamed.catalog, want, wishes);
    if !suspects.is_empty() {
        return Err(Unwritten::Renames(suspects));
    }
    for stage in [sequences, same] {
        let ops = stage(&renamed.catalog, want);
        renamed.run(session, ops).await?;
    }
    renamed.implied = implied(session, &renamed.catalog, want, wishes).await?;
    Ok(renamed)
}

impl Renamed {
    async fn run(&mut self, session: &Session, ops: Vec<Op>) -> Result<(), Error> {
        if ops.is_empty() {
            return Ok(());
        }
        for statement in ops.iter().flat_map(|op| &op.up) {
            session.execute(&format!("trying `{statement}`"), &statement.to_string()).await?;
        }
        self.catalog = Catalog::read_within(session).await?;
        self.ops.extend(ops);
        Ok(())
    }
}

/// The hint's place among all, the change, and for a table its old and new name.
type Found = (usize, Op, Option<(String, String)>);

/// Whether a flag's word means this column; quotes may be left out.
pub(super) fn is_called(word: &str, key: &Key) -> bool {
    let Key { of, name, .. } = key;
    word == format!("{of}.{name}") || word == format!("{}.{}", unquoted(of), unquoted(name))
}

fn is_named(word: &str, name: &str) -> bool {
    word == name || word == unquoted(name)
}

fn op(up: String, down: String) -> Op {
    Op::of(Phase::Rename, up, down)
}

/// Tables, types and sequences.
fn wholes(have: &Catalog, want: &Catalog, hints: &[&Rename], _: &[(String, String)]) -> Vec<Found> {
    let mut found = Vec::new();
    for (index, Rename { old, new }) in hints.iter().enumerate() {
        let gone =
            only_in(have, want).find(|(key, _)| word_of(key).is_some() && is_named(old, &key.of));
        let Some((key, _)) = gone else { continue };
        let is_it = |(one, _): &(&Key, &Object)| {
            one.kind == key.kind && is_named(new, &one.of) && prefix(&one.of) == prefix(&key.of)
        };
        let Some((to, _)) = only_in(want, have).find(is_it) else { continue };
        let word = word_of(key).unwrap_or_default();
        let rename = |from: &str, to: &str| format!("alter {word} {from} rename to {}", bare(to));
        let op = op(rename(&key.of, &to.of), rename(&to.of, &key.of));
        found.push((index, op, Some((to.of.clone(), key.of.clone()))));
    }
    found
}

fn word_of(key: &Key) -> Option<&'static str> {
    match key.kind {
        Kind::Table => Some("table"),
        Kind::Type => Some("type"),
        Kind::Sequence => Some("sequence"),
        _ => None,
    }
}

fn only_in<'a>(
    side: &'a Catalog,
    other: &'a Catalog,
) -> impl Iterator<Item = (&'a Key, &'a Object)> {
    side.objects.iter().filter(|(key, _)| !other.objects.contains_key(key))
}

/// Columns and labels, of what has its new name by now.
fn parts(
    have: &Catalog,
    want: &Catalog,
    hints: &[&Rename],
    former: &[(String, String)],
) -> Vec<Found> {
    let mut found = Vec::new();
    for (index, Rename { old, new }) in hints.iter().enumerate() {
        let of_old = |key: &Key| {
            let before = former.iter().find(|(now, _)| *now == key.of).map(|(_, before)| before);
            let before = before.map(|of| Key { of: of.clone(), ..key.clone() });
            is_called(old, key) || before.is_some_and(|key| is_called(old, &key))
        };
        let is_new = |key: &Key| is_called(new, key) || is_named(new, &key.name);
        let column = only_in(have, want).find(|(key, _)| key.kind == Kind::Column && of_old(key));
        if let Some((key, _)) = column {
            let mut news =
                only_in(want, have).filter(|(to, _)| to.kind == Kind::Column && to.of == key.of);
            if let Some((to, _)) = news.find(|(to, _)| is_new(to)) {
                let rename = |from: &Key, to: &Key| {
                    format!("alter table {} rename column {} to {}", key.of, from.name, to.name)
                };
                found.push((index, op(rename(key, to), rename(to, key)), None));
            }
            continue;
        }
        found.extend(label(have, want, &of_old, &is_new).map(|op| (index, op, None)));
    }
    found
}

fn label(
    have: &Catalog,
    want: &Catalog,
    is_old: &dyn Fn(&Key) -> bool,
    is_new: &dyn Fn(&Key) -> bool,
) -> Option<Op> {
    have.objects.iter().find_map(|(key, object)| {
        let (Object::Enum { labels }, Some(Object::Enum { labels: wanted })) =
            (object, want.objects.get(key))
        else {
            return None;
        };
        let named = |label: &str| Key { name: label.to_owned(), ..key.clone() };
        let old = labels.iter().find(|label| !wanted.contains(label) && is_old(&named(label)))?;
        let new = wanted.iter().find(|label| !labels.contains(label) && is_new(&named(label)))?;
        let rename = |from: &str, to: &str| {
            format!("alter type {} rename value {} to {}", key.of, literal(from), literal(to))
        };
        Some(op(rename(old, new), rename(new, old)))
    })
}

/// Sequences of serial columns keep their names when a table or column gets another one.
fn sequences(have: &Catalog, want: &Catalog) -> Vec<Op> {
    let own = |object: Option<&Object>| match object {
        Some(Object::Column(Column { sequence, .. })) => sequence.clone(),
        _ => None,
    };
    let pairs = have.objects.iter().filter_map(|(key, object)| {
        let (old, new) = (own(Some(object))?, own(want.objects.get(key))?);
        let rename = |from: &str, to: &str| format!("alter sequence {from} rename to {}", bare(to));
        (old != new).then(|| op(rename(&old, &new), rename(&new, &old)))
    });
    pairs.collect()
}

/// Constraints and indexes of one definition under two names.
fn same(have: &Catalog, want: &Catalog) -> Vec<Op> {
    let mut taken: BTreeSet<&Key> = BTreeSet::new();
    let mut ops = Vec::new();
    for (key, object) in only_in(have, want) {
        if !matches!(object, Object::Constraint(_) | Object::Index(_)) {
            continue;
        }
        let is_it = |(to, wanted): &(&Key, &Object)| {
            to.of == key.of && *wanted == object && !taken.contains(to)
        };
        let Some((to, wanted)) = only_in(want, have).find(is_it) else { continue };
        taken.insert(to);
        ops.push(match (object, wanted) {
            (Object::Index(from), Object::Index(into)) => op(
                format!("alter index {} rename to {}", from.qualified, to.name),
                format!("alter index {} rename to {}", into.qualified, key.name),
            ),
            _ => {
                let rename = |from: &Key, to: &Key| {
                    format!("alter table {} rename constraint {} to {}", key.of, from.name, to.name)
                };
                op(rename(key, to), rename(to, key))
            }
        });
    }
    ops
}

/// What went and came and may be one and the same.
fn suspects(have: &Catalog, want: &Catalog, wishes: &Wishes) -> Vec<Rename> {
    let mut found = Vec::new();
    for (key, object) in only_in(have, want).filter(|_| !wishes.no_rename) {
        for (to, wanted) in only_in(want, have).filter(|(to, _)| to.kind == key.kind) {
            let is_one = match (object, wanted) {
                (Object::Column(from), Object::Column(into)) => {
                    to.of == key.of && from.data_type == into.data_type
                }
                (Object::Table(_), Object::Table(_)) => are_alike(have, &key.of, want, &to.of),
                (Object::Enum { labels }, Object::Enum { labels: wanted }) => labels == wanted,
                _ => false,
            };
            let name = |key: &Key| match key.kind {
                Kind::Column => format!("{}.{}", key.of, key.name),
                _ => key.of.clone(),
            };
            let rename = Rename { old: name(key), new: name(to) };
            if is_one && !wishes.not_renamed.contains(&rename) {
                found.push(rename);
            }
        }
    }
    found
}

/// Whether two tables have the same columns.
fn are_alike(have: &Catalog, table: &str, want: &Catalog, other: &str) -> bool {
    let types = |side: &Catalog, table: &str| -> Vec<(String, String)> {
        let columns = super::text::columns(side, table);
        columns.map(|(key, column)| (key.name.clone(), column.data_type.clone())).collect()
    };
    let columns = types(have, table);
    !columns.is_empty() && columns == types(want, other)
}
