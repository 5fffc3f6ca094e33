//! Constraints that come, change and go on tables that stay.
//!
//! `plan` calls it; it calls `text`.
//! It promises that nobody waits for a scan or a build: checks and foreign keys are added without
//! looking at old rows and validated in a later file; what is unique gets its index built beside
//! everybody else first. An exclusion has no such way.

use std::collections::BTreeSet;

use super::names::{joined, lower};
use super::op::{Op, Phase, Statement};
use super::plan::Plan;
use super::text;
use crate::schema::catalog::{Catalog, Constraint, Index, Key, Kind, Object};

/// The linter would ask for `not valid`, which PostgreSQL does not know for these.
const EXCLUDES: &str = "An exclusion is built at once: nobody writes until it is there.\n\
    -- squawk-ignore constraint-missing-not-valid";
const TAKES_BACK: &str = "The old one holds until the new one does.";
const BUILDS_BACK: &str =
    "The index is built again, for the file before: nobody writes until it is there.";

impl Plan<'_> {
    /// What goes, and the old side of what changes.
    pub(super) fn gone_constraint(
        &mut self,
        key: &Key,
        from: &Constraint,
        to: Option<&Constraint>,
    ) {
        if to.is_some_and(|to| differs_in_validity(from, to) && to.valid) {
            return;
        }
        self.handled.insert(key.to_string());
        if to.is_some_and(|to| self.is_swapped(key, from, to)) {
            return;
        }
        let phase = match &from.references {
            Some(_) if is_needed(&self.losing, from) => self.phase(Phase::Unlink),
            Some(target) if self.is_followed(key, from, target) => Phase::Finish,
            None if to.is_none() && self.has_successor(key, from) => Phase::Finish,
            _ => Phase::Main,
        };
        let op = drop(phase, self.have, key, from);
        self.ops.push(if phase == Phase::Finish { op.note([TAKES_BACK]) } else { op });
    }

    /// Whether another foreign key between these tables comes only when its index is built.
    fn is_followed(&self, key: &Key, from: &Constraint, target: &str) -> bool {
        let mut comes = text::constraints(self.want, &key.of).filter(|(key, to)| {
            let has =
                text::constraints(self.have, &key.of).any(|(one, from)| one == *key && from == *to);
            !has && to.references.as_deref() == Some(target)
        });
        // On the way back an index might be taken for the old key.
        let is_key = |to: &Constraint| {
            let mut keys = text::constraints(self.want, target).map(|(key, _)| &key.name);
            to.needs.as_ref().is_some_and(|needed| keys.any(|name| name == needed))
        };
        comes.any(|(_, to)| self.is_late(to) && is_key(to))
            && [&key.of, target].iter().all(|table| self.keeps_columns(table, &from.text))
    }

    /// Whether something else is unique on the table, once it is built.
    fn has_successor(&self, key: &Key, from: &Constraint) -> bool {
        let is_free = !self.gaining.contains(&(&*key.of, &*key.name));
        matches!(from.form, 'p' | 'u')
            && is_free
            && self.gaining.iter().any(|(table, _)| *table == key.of)
            && self.keeps_columns(&key.of, &from.text)
    }

    /// Whether the columns that are spoken of stay as they are, so that a key on them can.
    fn keeps_columns(&self, table: &str, text: &str) -> bool {
        let mut columns =
            text::columns(self.have, table).filter(|(key, _)| text::mentions(text, &key.name));
        columns.all(|(key, from)| match self.want.objects.get(key) {
            Some(Object::Column(to)) => {
                from.data_type == to.data_type && (to.not_null || !from.not_null)
            }
            _ => false,
        })
    }

    /// What comes, and the new side of what changes.
    pub(super) fn new_constraint(&mut self, key: &Key, from: Option<&Constraint>, to: &Constraint) {
        if from.is_some_and(|from| differs_in_validity(from, to) && to.valid) {
            self.validate(Phase::Validate, &key.of, &key.name);
            return;
        }
        self.handled.insert(key.to_string());
        match to.form {
            'p' | 'u' if !self.is_simple() => self.unique(key, from, to),
            'f' | 'c' if !self.is_simple() => self.unvalidated(key, to),
            'x' => self.ops.push(drop(Phase::Main, self.want, key, to).inverse().note([EXCLUDES])),
            _ => self.ops.push(drop(Phase::Main, self.want, key, to).inverse()),
        }
    }

    /// Checks and foreign keys.
    pub(super) fn unvalidated(&mut self, key: &Key, to: &Constraint) {
        let (phase, then) = match self.is_late(to) {
            true => (Phase::Finish, Phase::Verify),
            false => (Phase::Main, Phase::Validate),
        };
        let added = Constraint { valid: false, ..to.clone() };
        self.ops.push(drop(phase, self.want, key, &added).inverse());
        if to.valid {
            self.validate(then, &key.of, &key.name);
        }
    }

    /// Whether a foreign key needs an index that is built after the main file.
    pub(super) fn is_late(&self, to: &Constraint) -> bool {
        is_needed(&self.gaining, to)
    }

    /// Primary keys and unique constraints.
    fn unique(&mut self, key: &Key, from: Option<&Constraint>, to: &Constraint) {
        let swapped = from.filter(|from| self.is_swapped(key, from, to));
        let name = match swapped {
            Some(_) => joined(&[&key.name], "_new"),
            None => key.name.clone(),
        };
        let (index, form, tail) = index_of(to);
        let of = &key.of;
        let build = text::index_as(&index, "concurrently ", &name, of);
        let gone = format!("drop index concurrently if exists {}{name}", super::names::prefix(of));
        self.ops.push(Op::of(Phase::Build, build, gone).about(&name));
        if let Some(from) = swapped {
            self.ops.push(drop(Phase::Finish, self.have, key, from).note([TAKES_BACK]));
        }
        let add = format!("add constraint {} {form} using index {name}{tail}", key.name);
        let again = Statement::Whole(text::index_as(&index, "", &name, of));
        let mut op = drop(Phase::Finish, self.want, key, to).inverse();
        op.up[0] = Statement::alter(of, add);
        self.ops.push(op);
        // Last on the way back: a foreign key would take it for the one that it points to.
        let again = Op::new(Phase::Finish, Vec::new(), vec![again]).back_note([BUILDS_BACK]);
        self.ops.insert(0, again);
    }

    /// Looks at old rows, under a lock that lets others read and write.
    pub(super) fn validate(&mut self, phase: Phase, table: &str, name: &str) {
        let validate = Statement::alter(table, format!("validate constraint {name}"));
        self.ops.push(Op::new(phase, vec![validate], Vec::new()));
    }

    /// Whether the old one can hold until the new one is ready.
    fn is_swapped(&self, key: &Key, from: &Constraint, to: &Constraint) -> bool {
        let is_unique = |form: char| matches!(form, 'p' | 'u');
        is_unique(from.form)
            && is_unique(to.form)
            && !self.is_simple()
            && !self.loses_a_column(&key.of, &from.text)
    }

    /// Whether something speaks of a column that goes before it would.
    pub(super) fn loses_a_column(&self, table: &str, text: &str) -> bool {
        let columns = self.have.part_of(table, Kind::Column).map(|(key, _)| key);
        let gone = columns.filter(|key| !self.want.objects.contains_key(key));
        gone.into_iter().any(|key| text::mentions(text, &key.name))
    }
}

/// Whether a foreign key relies on one of these.
fn is_needed(indexes: &BTreeSet<(&str, &str)>, foreign: &Constraint) -> bool {
    let needed = foreign.references.as_deref().zip(foreign.needs.as_deref());
    needed.is_some_and(|index| indexes.contains(&index))
}

fn differs_in_validity(from: &Constraint, to: &Constraint) -> bool {
    from.valid != to.valid && Constraint { valid: to.valid, ..from.clone() } == *to
}

/// Takes a constraint away; back comes what `side` has, with its comment.
fn drop(phase: Phase, side: &Catalog, key: &Key, constraint: &Constraint) -> Op {
    let add = Statement::alter(&key.of, text::add_constraint(key, constraint, constraint.valid));
    let comment = text::comment(side, &key.of, &key.to_string());
    let down = std::iter::once(add).chain(comment).collect();
    Op::new(phase, vec![Statement::alter(&key.of, text::drop_constraint(key))], down)
}

/// The index that a unique constraint has, what it is called in SQL, and what stands behind.
fn index_of(constraint: &Constraint) -> (Index, &'static str, String) {
    let text = lower(&constraint.text);
    let open = text.find('(').unwrap_or(text.len());
    let close = text.rfind(')').map_or(text.len(), |at| at + 1);
    let nulls =
        if text[..open].contains("nulls not distinct") { " nulls not distinct" } else { "" };
    let form = if constraint.form == 'p' { "primary key" } else { "unique" };
    let text_of_index = format!("using btree {}{nulls}", &text[open..close]);
    let index = Index { qualified: String::new(), unique: true, valid: true, text: text_of_index };
    (index, form, text[close..].to_owned())
}

/// The tables whose uniqueness others may rely on, before or after.
pub(super) fn unique_on(object: &Object) -> bool {
    match object {
        Object::Index(index) => index.unique,
        Object::Constraint(constraint) => matches!(constraint.form, 'p' | 'u'),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unique_constraint_tells_its_index() {
        let constraint = |form, text: &str| Constraint {
            form,
            text: text.to_owned(),
            valid: true,
            references: None,
            needs: None,
        };
        let (index, form, tail) = index_of(&constraint('p', "PRIMARY KEY (id, \"A)\")"));
        assert_eq!(
            (index.text.as_str(), form, tail.as_str()),
            ("using btree (id, \"A)\")", "primary key", "")
        );
        let text = "UNIQUE NULLS NOT DISTINCT (a) INCLUDE (b) DEFERRABLE INITIALLY DEFERRED";
        let (index, form, tail) = index_of(&constraint('u', text));
        assert_eq!(index.text, "using btree (a) include (b) nulls not distinct");
        assert_eq!((form, tail.as_str()), ("unique", " deferrable initially deferred"));
    }
}
