//! Two schemas side by side.
//!
//! `check`, `drift`, `generate` and the proofs call it; it calls nothing. Pure.
//! It promises that what it does not name is equal on both sides.

use std::collections::BTreeMap;
use std::fmt;

use crate::schema::catalog::{Catalog, Key, Object, one_line};

/// One object that is not the same on both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change<'a> {
    pub(crate) key: &'a Key,
    /// On the side that is there.
    pub(crate) have: Option<&'a Object>,
    /// On the side that is wanted.
    pub(crate) want: Option<&'a Object>,
}

/// Every object that differs, in the order of the keys.
pub(crate) fn changes<'a>(have: &'a Catalog, want: &'a Catalog) -> Vec<Change<'a>> {
    let mut sides: BTreeMap<&Key, (Option<&Object>, Option<&Object>)> = BTreeMap::new();
    for (key, object) in &have.objects {
        sides.entry(key).or_default().0 = Some(object);
    }
    for (key, object) in &want.objects {
        sides.entry(key).or_default().1 = Some(object);
    }
    let differing = sides.into_iter().filter(|(_, (have, want))| have != want);
    differing.map(|(key, (have, want))| Change { key, have, want }).collect()
}

/// One difference, for people and as JSON.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Difference {
    /// `column item.name`, `index item_name_idx on item`, …
    pub object: String,
    /// Its definition where it is, `None` where it is not.
    pub have: Option<String>,
    /// Its definition where it should be.
    pub want: Option<String>,
}

/// The changes in words.
pub(crate) fn differences(have: &Catalog, want: &Catalog) -> Vec<Difference> {
    let text = |object: Option<&Object>| object.map(Object::text);
    let words = changes(have, want).into_iter().map(|change| Difference {
        object: change.key.to_string(),
        have: text(change.have),
        want: text(change.want),
    });
    words.collect()
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { object, have, want } = self;
        let told = |text: &str| if text.is_empty() { String::new() } else { format!(": {text}") };
        let line = match (have, want) {
            (None, Some(want)) => format!("missing {object}{}", told(want)),
            (Some(have), None) => format!("extra {object}{}", told(have)),
            (have, want) => {
                let plain = |text: &Option<String>| match text.as_deref() {
                    None | Some("") => "plain".to_owned(),
                    Some(text) => text.to_owned(),
                };
                format!("changed {object}: is {}, should be {}", plain(have), plain(want))
            }
        };
        f.write_str(&one_line(&line))
    }
}
