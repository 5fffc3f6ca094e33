//! Constraints that come, change and go on tables that stay.
//!
//! `plan` calls it; it calls `text`.
//! It promises that nobody waits for a scan or a build: checks and foreign keys are added without
//! looking at old rows and validated in a later file; what is unique gets its index built beside
//! everybody else first. An exclusion has no such way.

use super::names::{joined, lower};
use super::op::{Op, Phase, Statement};
use super::plan::Plan;
use super::text;
use crate::catalog::{Catalog, Constraint, Index, Key, Kind, Object};

/// The linter would ask for `not valid`, which PostgreSQL does not know for these.
const EXCLUDES: &str = "An exclusion is built at once: nobody writes until it is there.\n\
    -- squawk-ignore constraint-missing-not-valid";
const TAKES_BACK: &str = "The old one holds until the new one does.";

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
            Some(target) if self.losing.contains(target.as_str()) => self.phase(Phase::Unlink),
            _ => Phase::Main,
        };
        self.ops.push(drop(phase, self.have, key, from));
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
            'x' => self.ops.push(drop(Phase::Main, self.want, key, to).inverse().note(EXCLUDES)),
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
        let needed = to.references.as_deref().zip(to.needs.as_deref());
        needed.is_some_and(|index| self.gaining.contains(&index))
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
            self.ops.push(drop(Phase::Finish, self.have, key, from).note(TAKES_BACK));
        }
        let add = format!("add constraint {} {form} using index {name}{tail}", key.name);
        let again = Statement::Whole(text::index_as(&index, "", &name, of));
        let mut op = drop(Phase::Finish, self.want, key, to).inverse();
        op.up[0] = Statement::alter(of, add);
        op.down.push(again);
        self.ops.push(op);
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
