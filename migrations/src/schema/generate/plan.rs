//! The changes from one schema to another, in the order in which they are made.
//!
//! `generate` calls it; it calls the rooms of each kind of object. Pure.
//! It promises that every difference is a change with its inverse, or is told as something that
//! people have to write or to decide; nothing is left out in silence.

use std::collections::{BTreeMap, BTreeSet};

use super::hands::by_hand;
use super::keys::unique_on;
use super::make::{Made, make};
use super::op::{Op, Phase};
use super::rename::Renamed;
use super::text::changed_options;
use super::{Unwritten, Wishes, text};
use crate::schema::catalog::{Catalog, Column, Constraint, Index, Key, Kind, Object};
use crate::schema::compare::{self, Change};

/// A plan in the making.
pub(super) struct Plan<'a> {
    pub(super) have: &'a Catalog,
    pub(super) want: &'a Catalog,
    wishes: &'a Wishes,
    pub(super) ops: Vec<Op>,
    /// What the rest has to be done for.
    pub(super) last: Vec<Op>,
    /// By table: columns whose check comes after they were filled, and what fills them.
    pub(super) refills: BTreeMap<String, Vec<(String, String)>>,
    /// Comments that come with their objects, by what `comment on` calls these.
    pub(super) handled: BTreeSet<String>,
    /// Unique indexes that go or change, and their tables: foreign keys may hold on to them.
    pub(super) losing: BTreeSet<(&'a str, &'a str)>,
    /// Unique indexes of old tables that are there only when they are built, and their tables.
    pub(super) gaining: BTreeSet<(&'a str, &'a str)>,
    /// What people have to write or to decide, a line each.
    asked: Vec<String>,
    /// The wishes that were of use.
    used: BTreeSet<&'a str>,
}

/// Every change from what there is, under its new names, to `want`.
///
/// **Errors**: what cannot be generated or lacks a word from people; data that would be lost.
pub(super) fn plan(
    Renamed { catalog: have, implied, .. }: &Renamed,
    want: &Catalog,
    wishes: &Wishes,
) -> Result<Vec<Op>, Unwritten> {
    let mut changes = compare::changes(have, want);
    changes.retain(|change| !implied.contains(change.key));
    let mut plan = Plan::new(have, want, wishes, &changes);
    plan.refuse_what_is_written_by_hand(&changes);
    let busy: BTreeSet<&str> = changes
        .iter()
        .filter(|change| is_felt_by_keys(change))
        .map(|change| &*change.key.of)
        .filter(|table| [have, want].iter().all(|side| has_table(side, table)))
        .collect();
    let (made, gone) = (make(want, have, &busy), make(have, want, &busy));
    plan.ops.extend(made.ops);
    let Made { ops: gone, links } = gone;
    plan.ops.extend(links.into_iter().rev().map(|link| link.op.inverse()));
    let kept: Vec<&Change<'_>> = changes.iter().filter(|change| plan.is_kept(change.key)).collect();
    plan.tables(&kept);
    for link in made.links {
        match plan.is_late(link.constraint) {
            true => plan.unvalidated(link.key, link.constraint),
            false => plan.ops.push(link.op),
        }
    }
    plan.others(&kept);
    plan.gone_columns(&kept);
    let phase = plan.parting();
    plan.ops.extend(gone.into_iter().rev().map(|op| Op { phase, ..op.inverse() }));
    plan.finished()
}

impl<'a> Plan<'a> {
    fn new(
        have: &'a Catalog,
        want: &'a Catalog,
        wishes: &'a Wishes,
        changes: &[Change<'a>],
    ) -> Self {
        let losing = changes
            .iter()
            .filter(|change| change.key.kind == Kind::Index && change.have.is_some_and(unique_on));
        let gaining = changes.iter().filter(|change| change.want.is_some_and(unique_on));
        let name = |change: &Change<'a>| (&*change.key.of, &*change.key.name);
        let is_old = |(table, _): &(&str, &str)| has_table(have, table);
        Self {
            have,
            want,
            wishes,
            ops: Vec::new(),
            last: Vec::new(),
            refills: BTreeMap::new(),
            handled: BTreeSet::new(),
            losing: losing.map(name).collect(),
            gaining: gaining.filter(|_| !wishes.simple).map(name).filter(is_old).collect(),
            asked: Vec::new(),
            used: BTreeSet::new(),
        }
    }

    /// Whether what the object belongs to is there before and after, or neither.
    fn is_kept(&self, key: &Key) -> bool {
        let stands = |side: &Catalog| {
            let is_there = |kind| side.part_of(&key.of, kind).next().is_some();
            text::owners(key).iter().any(|kind| is_there(*kind))
        };
        stands(self.have) == stands(self.want)
    }

    /// Tables on both sides: what holds on goes first, then the columns, then what holds on anew.
    fn tables(&mut self, kept: &[&Change<'_>]) {
        let mut keys: Vec<_> = kept
            .iter()
            .map(|change| (change.key, constraint(change.have), constraint(change.want)))
            .filter(|(_, from, to)| from.is_some() || to.is_some())
            .collect();
        let is_foreign =
            |constraint: Option<&Constraint>| constraint.is_some_and(|one| one.form == 'f');
        keys.sort_by_key(|(key, from, _)| (!is_foreign(*from), *key));
        for (key, from, to) in &keys {
            if let Some(from) = from {
                self.gone_constraint(key, from, *to);
            }
        }
        self.columns(kept);
        keys.sort_by_key(|(key, _, to)| (is_foreign(*to), *key));
        for (key, from, to) in &keys {
            if let Some(to) = to {
                self.new_constraint(key, *from, to);
            }
        }
    }

    fn columns(&mut self, kept: &[&Change<'_>]) {
        let mut new: Vec<(&Key, &Column)> = Vec::new();
        for change in kept {
            match (column(change.have), column(change.want)) {
                (Some(from), Some(to)) => self.changed_column(change.key, from, to),
                (None, Some(to)) => new.push((change.key, to)),
                _ => {}
            }
        }
        new.sort_by_key(|(key, column)| (&key.of, column.generated.is_some(), column.position));
        for (key, column) in new {
            self.new_column(key, column);
        }
    }

    /// What is no table's column or key.
    fn others(&mut self, kept: &[&Change<'_>]) {
        for Change { key, have, want } in kept {
            match (have, want) {
                (
                    Some(Object::Sequence { options: from }),
                    Some(Object::Sequence { options: to }),
                ) => {
                    let alter = |to| format!("alter sequence {} {}", key.of, changed_options(to));
                    self.ops.push(Op::of(Phase::Main, alter(to), alter(from)));
                }
                (Some(Object::Enum { labels: from }), Some(Object::Enum { labels: to })) => {
                    self.changed_labels(key, from, to);
                }
                _ => self.changed_index(key, index(*have), index(*want)),
            }
        }
        let comments = kept.iter().filter(|change| change.key.kind == Kind::Comment);
        comments.for_each(|change| self.changed_comment(change.key));
    }

    fn gone_columns(&mut self, kept: &[&Change<'_>]) {
        let gone = kept.iter().filter(|change| change.want.is_none());
        let mut gone: Vec<(&Key, &Column)> =
            gone.filter_map(|change| Some((change.key, column(change.have)?))).collect();
        // What is generated from others goes before them.
        gone.sort_by_key(|(key, column)| (&key.of, column.generated.is_none(), -column.position));
        gone.into_iter().for_each(|(key, column)| self.gone_column(key, column));
    }

    fn changed_comment(&mut self, key: &Key) {
        let target = &key.name;
        if self.handled.contains(target) {
            return;
        }
        let stands = |side: &Catalog| {
            let is_it = |(one, object): (&Key, &Object)| text::target(one, object) == *target;
            !target.starts_with("column ") || side.part_of(&key.of, Kind::Column).any(is_it)
        };
        let set = |side: &Catalog, other: &Catalog| match text::comment(side, &key.of, target) {
            Some(comment) => vec![comment],
            // It went with its column.
            None if !stands(side) || !stands(other) => Vec::new(),
            None => vec![text::no_comment(target)],
        };
        let (up, down) = (set(self.want, self.have), set(self.have, self.want));
        self.ops.push(Op::new(Phase::Main, up, down));
    }

    /// Views, functions and whatever else is compared as a text.
    fn refuse_what_is_written_by_hand(&mut self, changes: &[Change<'_>]) {
        for change in changes {
            if let Some(why) = by_hand(self.have, self.want, change) {
                let verb = match (change.have, change.want) {
                    (None, _) => "create",
                    (_, None) => "drop",
                    _ => "change",
                };
                self.ask(format!("{}: {why}: {verb} it by hand", change.key));
            }
        }
    }

    fn finished(mut self) -> Result<Vec<Op>, Unwritten> {
        self.refill();
        if !self.asked.is_empty() {
            return Err(Unwritten::NeedsPeople(self.asked));
        }
        let given = self.wishes.backfill.iter().chain(&self.wishes.using);
        if let Some((column, _)) = given.into_iter().find(|(name, _)| !self.used.contains(&**name))
        {
            return Err(Unwritten::Useless(column.clone()));
        }
        self.ops.append(&mut self.last);
        let lost: Vec<String> = self.ops.iter().filter_map(|op| op.loses.clone()).collect();
        if !lost.is_empty() && self.wishes.allow_destructive.is_none() {
            return Err(Unwritten::Destructive(lost));
        }
        Ok(self.ops)
    }

    pub(super) fn ask(&mut self, what: String) {
        self.asked.push(what);
    }

    pub(super) fn is_simple(&self) -> bool {
        self.wishes.simple
    }

    /// `phase`, or the one file of everything.
    pub(super) fn phase(&self, phase: Phase) -> Phase {
        if self.wishes.simple { Phase::Main } else { phase }
    }

    /// When things go: after the values that may be made from them.
    pub(super) fn parting(&self) -> Phase {
        let is_filling = self.ops.iter().any(|op| op.phase == Phase::Fill);
        if is_filling { Phase::Drop } else { Phase::Main }
    }

    /// The value that old rows get in this column.
    pub(super) fn backfill(&mut self, key: &Key) -> Option<String> {
        let (name, expression) = self.wishes.backfill_of(key)?;
        self.used.insert(name);
        Some(expression.clone())
    }

    /// The expression that makes the new value out of the old one.
    pub(super) fn using(&mut self, key: &Key) -> Option<String> {
        let (name, expression) = self.wishes.using_of(key)?;
        self.used.insert(name);
        Some(expression.clone())
    }
}

/// Whether foreign keys to the table may not do before or after it.
fn is_felt_by_keys(change: &Change<'_>) -> bool {
    let is_retyped = match (column(change.have), column(change.want)) {
        (Some(from), Some(to)) => from.data_type != to.data_type,
        _ => false,
    };
    is_retyped || change.have.is_some_and(unique_on) || change.want.is_some_and(unique_on)
}

fn has_table(side: &Catalog, table: &str) -> bool {
    side.part_of(table, Kind::Table).next().is_some()
}

fn column(object: Option<&Object>) -> Option<&Column> {
    match object {
        Some(Object::Column(column)) => Some(column),
        _ => None,
    }
}

fn index(object: Option<&Object>) -> Option<&Index> {
    match object {
        Some(Object::Index(index)) => Some(index),
        _ => None,
    }
}

fn constraint(object: Option<&Object>) -> Option<&Constraint> {
    match object {
        Some(Object::Constraint(constraint)) => Some(constraint),
        _ => None,
    }
}
