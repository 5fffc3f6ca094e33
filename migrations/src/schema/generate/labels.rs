//! Enum types that get more labels.
//!
//! `plan` calls it; it calls `text`.
//! It promises that labels come into their places, and that the way back builds the type anew; what
//! no statement of PostgreSQL does is refused with the statements that do it.
//! Source: PostgreSQL manual, "ALTER TYPE".

use super::names::{bare, joined, literal, lower, prefix};
use super::op::{Op, Phase, Statement};
use super::plan::Plan;
use super::text;
use crate::schema::catalog::{Key, Kind, Object};

impl Plan<'_> {
    pub(super) fn changed_labels(&mut self, key: &Key, have: &[String], want: &[String]) {
        let kept: Vec<&String> = want.iter().filter(|label| have.contains(label)).collect();
        if !kept.iter().copied().eq(have) {
            self.ask(refusal(key, have, want, &lines(&self.rebuilt(key, want))));
            return;
        }
        let mut up = Vec::new();
        for (index, label) in want.iter().enumerate().filter(|(_, label)| !have.contains(label)) {
            let next = want[index..].iter().find(|next| have.contains(next));
            let place = next.map(|next| format!(" before {}", literal(next))).unwrap_or_default();
            let add = format!("alter type {} add value {}{place}", key.of, literal(label));
            up.push(Statement::Whole(add));
        }
        let down = self.rebuilt(key, have);
        self.ops.push(Op::new(Phase::Label, up, down));
    }

    /// The type made anew with these labels under every column that has it. A value that is none of
    /// them is refused by PostgreSQL.
    fn rebuilt(&self, key: &Key, labels: &[String]) -> Vec<Statement> {
        let old = joined(&[&key.of], "_old");
        let schema = prefix(&key.of);
        let type_of = Object::Enum { labels: labels.to_vec() }.text();
        let mut statements = vec![
            Statement::Whole(format!("alter type {} rename to {old}", key.of)),
            Statement::Whole(format!("create type {} as {type_of}", key.of)),
        ];
        let (gone, back) = self.that_speak_of(key);
        statements.extend(gone);
        for (column_key, object) in &self.have.objects {
            let Object::Column(column) = object else { continue };
            if column.enumeration.as_deref() != Some(&key.of) {
                continue;
            }
            let name = &column_key.name;
            let array = column.data_type.strip_prefix(key.of.as_str()).unwrap_or_default();
            let mut alter = |action: String| {
                statements.push(Statement::alter(
                    &column_key.of,
                    format!("alter column {name} {action}"),
                ));
            };
            let default = column.default.as_ref();
            if default.is_some() {
                alter("drop default".to_owned());
            }
            alter(format!("type {0}{array} using {name}::text{array}::{0}{array}", key.of));
            if let Some(default) = default {
                alter(format!("set default {}", lower(default)));
            }
        }
        statements.extend(back);
        statements.push(Statement::Whole(format!("drop type {schema}{old}")));
        statements.extend(text::comment(self.have, &key.of, &key.to_string()));
        statements
    }

    /// Checks and indexes whose expressions hold values of the type: off, and on again.
    fn that_speak_of(&self, key: &Key) -> (Vec<Statement>, Vec<Statement>) {
        let cast = format!("::{}", key.of);
        let (mut gone, mut back) = (Vec::new(), Vec::new());
        for (part, object) in &self.have.objects {
            let comment = || text::comment(self.have, &part.of, &text::target(part, object));
            match object {
                Object::Constraint(constraint) if constraint.text.contains(&cast) => {
                    gone.push(Statement::alter(&part.of, text::drop_constraint(part)));
                    let add = text::add_constraint(part, constraint, constraint.valid);
                    back.push(Statement::alter(&part.of, add));
                    back.extend(comment());
                }
                Object::Index(index) if index.text.contains(&cast) && part.kind == Kind::Index => {
                    gone.extend(text::drop_index(object));
                    back.extend(text::create_index(part, object));
                    back.extend(comment());
                }
                _ => {}
            }
        }
        (gone, back)
    }
}

fn lines(statements: &[Statement]) -> String {
    let op = Op::new(Phase::Main, statements.to_vec(), Vec::new());
    let drafts = super::op::drafts(vec![op]);
    drafts.iter().map(|draft| super::op::body(&draft.up)).collect()
}

/// What to do about labels that go or move.
fn refusal(key: &Key, have: &[String], want: &[String], recipe: &str) -> String {
    let missing = |a: &[String], b: &[String]| {
        a.iter().filter(|label| !b.contains(label)).cloned().collect::<Vec<_>>()
    };
    let (gone, new) = (missing(have, want), missing(want, have));
    let what = match (&gone[..], &new[..]) {
        ([], _) => "its labels change places".to_owned(),
        ([old], [new]) if have.len() == want.len() => format!(
            "label {} goes and {} comes: if it is the same one, give --rename {}.{old}:{}.{new}; if \
             not",
            literal(old),
            literal(new),
            key.of,
            bare(&key.of)
        ),
        (gone, _) => {
            let gone: Vec<String> = gone.iter().map(|label| literal(label)).collect();
            format!("label {} goes, which no statement of PostgreSQL does", gone.join(", "))
        }
    };
    let recipe: String = recipe
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| format!("\n    {line}"))
        .collect();
    format!(
        "{key}: {what}: write in a revision of your own (`revision --empty`), after an update of \
             the rows that have it:{recipe}"
    )
}
