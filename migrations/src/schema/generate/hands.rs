//! What the generator leaves to people.
//!
//! `plan` asks. Pure.
//! It promises that whatever is compared as a text, and whatever would lose values without anybody
//! having said how to keep them, is told and not guessed.

use crate::schema::catalog::{Catalog, Kind, Object};
use crate::schema::compare::Change;

/// Why a change is not generated.
pub(super) fn by_hand(have: &Catalog, want: &Catalog, change: &Change<'_>) -> Option<&'static str> {
    let sides = [change.have, change.want];
    if sides.iter().flatten().any(|object| matches!(object, Object::Opaque { .. })) {
        return Some("its text is compared, not understood");
    }
    let is_partitioned = |side: &Catalog| {
        side.part_of(&change.key.of, Kind::Table).any(|(_, object)| {
            object.text().contains("partition by") || object.text().contains("inherits")
        })
    };
    if is_partitioned(have) || is_partitioned(want) {
        return Some("the table is partitioned or inherits");
    }
    match (change.have, change.want) {
        (Some(Object::Table(_)), Some(Object::Table(_))) => {
            Some("what kind of table it is changes")
        }
        (Some(Object::Table(table)), None) | (None, Some(Object::Table(table))) => {
            table.special.as_ref().map(|_| "it is more than a plain table")
        }
        (Some(Object::Column(from)), Some(Object::Column(to))) => {
            if from.generated != to.generated {
                Some("its expression changes, which takes dropping and adding it")
            } else if from.sequence.is_some() != to.sequence.is_some() {
                Some("it becomes serial or ends to be; the sequence needs a place to go on from")
            } else {
                None
            }
        }
        _ => None,
    }
}
