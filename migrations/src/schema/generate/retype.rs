//! What follows by itself when columns get other types.
//!
//! `rename` calls it, in its transaction; it calls `column` for the statements, and `session`.
//! It promises that a check or an index which PostgreSQL rewrites as it is wanted, there and back,
//! is not dropped and made anew.

use std::collections::BTreeSet;

use super::Wishes;
use super::column::{back, is_retyped, sequence_steps, steps};
use super::op::{Op, Phase, Statement};
use crate::database::session::{ANSWER_TIMEOUT, Session};
use crate::error::Error;
use crate::schema::catalog::{Catalog, Column, Key, Kind, Object};
use crate::schema::compare;

/// What changes only because the types of its columns do, as PostgreSQL itself rewrites it, there
/// and back.
pub(super) async fn implied(
    session: &Session,
    have: &Catalog,
    want: &Catalog,
    wishes: &Wishes,
) -> Result<BTreeSet<Key>, Error> {
    let ops = retyped(have, want, wishes);
    let is_bound = |key: &Key| matches!(key.kind, Kind::Constraint | Kind::Index);
    let changes = compare::changes(have, want);
    if ops.is_empty() || !changes.iter().any(|change| is_bound(change.key)) {
        return Ok(BTreeSet::new());
    }
    let Some(there) = after(session, ops.iter().flat_map(|op| &op.up)).await? else {
        return Ok(BTreeSet::new());
    };
    let Some(back) = after(session, ops.iter().rev().flat_map(|op| &op.down)).await? else {
        return Ok(BTreeSet::new());
    };
    let keys = changes.iter().filter(|change| {
        is_bound(change.key)
            && there.objects.get(change.key) == change.want
            && back.objects.get(change.key) == change.have
    });
    Ok(keys.map(|change| change.key.clone()).collect())
}

/// The schema after these statements; `None`: they need others before them.
async fn after(
    session: &Session,
    statements: impl Iterator<Item = &Statement>,
) -> Result<Option<Catalog>, Error> {
    let sql: String = statements.map(|statement| format!("{statement};\n")).collect();
    match session.send(ANSWER_TIMEOUT, "trying other types", &sql).await? {
        Ok(()) => Catalog::read_within(session).await.map(Some),
        Err(_) => Ok(None),
    }
}

/// The changes of type alone, to see what they bring along.
fn retyped(have: &Catalog, want: &Catalog, wishes: &Wishes) -> Vec<Op> {
    let changes = compare::changes(have, want).into_iter();
    let ops = changes.filter_map(|change| match (change.have, change.want) {
        (Some(Object::Column(from)), Some(Object::Column(to))) => {
            let then =
                Column { not_null: from.not_null, identity: from.identity.clone(), ..to.clone() };
            let then =
                Column { options: from.options.clone(), sequence: from.sequence.clone(), ..then };
            let using = wishes.using_of(change.key).map(|(_, expression)| &**expression);
            let back = back(change.key, from, to);
            let up = [steps(change.key, from, &then, using), sequence_steps(from, &then)];
            let down = steps(change.key, &then, from, back.as_deref());
            let down = [down, sequence_steps(&then, from)];
            is_retyped(from, to).then(|| Op::new(Phase::Main, up.concat(), down.concat()))
        }
        _ => None,
    });
    ops.collect()
}
