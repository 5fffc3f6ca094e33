//! `schema.lock`: the schema at the head revision, in PostgreSQL's words, as a file in the repository.
//!
//! `dump` writes it, `check` says when it is stale, `drift` compares a live database with it, which then
//! needs no scratch database; reviewers and merges see in it what a revision does. Pure.
//! One line is one object, sorted: two branches that change one table conflict where they do.

use std::collections::BTreeMap;

use crate::catalog::Catalog;
use crate::compare::Difference;

const TITLE: &str = "-- The schema at the head revision. Written by `peace-migrate dump`.";

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LockFile {
    /// The head it was written at.
    pub(crate) revision: String,
    /// The server's major version, whose words these are.
    pub(crate) major: u32,
    /// One per object, as [`Catalog::lines`] gives them.
    pub(crate) lines: Vec<String>,
}

impl LockFile {
    pub(crate) fn new(revision: &str, major: u32, catalog: &Catalog) -> Self {
        Self { revision: revision.to_owned(), major, lines: catalog.lines().collect() }
    }

    /// Reads a file; `None` when it is none of ours, or two branches' conflict.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        lines.next().filter(|title| *title == TITLE)?;
        let revision = lines.next()?.strip_prefix("-- revision: ")?.to_owned();
        let major = lines.next()?.strip_prefix("-- postgresql: ")?.parse().ok()?;
        Some(Self { revision, major, lines: lines.skip(1).map(str::to_owned).collect() })
    }

    /// The whole file.
    pub(crate) fn text(&self) -> String {
        let Self { revision, major, lines } = self;
        let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
        format!("{TITLE}\n-- revision: {revision}\n-- postgresql: {major}\n\n{body}")
    }
}

/// The lines that are not the same, object by object.
pub(crate) fn differences(have: &[String], want: &[String]) -> Vec<Difference> {
    let mut sides: BTreeMap<&str, [Option<&str>; 2]> = BTreeMap::new();
    for (side, lines) in [have, want].into_iter().enumerate() {
        for line in lines {
            let (object, text) = line.split_once(": ").unwrap_or((line, ""));
            sides.entry(object).or_default()[side] = Some(text);
        }
    }
    let differing = sides.into_iter().filter(|(_, [have, want])| have != want);
    let owned = |text: Option<&str>| text.map(str::to_owned);
    let words = differing.map(|(object, [have, want])| Difference {
        object: object.to_owned(),
        have: owned(have),
        want: owned(want),
    });
    words.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_what_it_was_written_from() {
        let lines = vec!["table item".to_owned(), "column item.id: uuid not null".to_owned()];
        let file = LockFile { revision: "aaaa".to_owned(), major: 15, lines };
        assert_eq!(LockFile::parse(&file.text()), Some(file.clone()));
        assert_eq!(LockFile::parse(&format!("<<<<<<< ours\n{}", file.text())), None);
        assert_eq!(LockFile::parse(""), None);
    }

    #[test]
    fn lines_differ_object_by_object() {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let found =
            differences(&lines("table a\ncolumn a.b: int"), &lines("table a\ncolumn a.b: text"));
        let told: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(told, ["changed column a.b: is int, should be text"]);
        assert_eq!(differences(&lines("table a"), &[])[0].to_string(), "extra table a");
        assert_eq!(differences(&[], &lines("table a: x"))[0].to_string(), "missing table a: x");
    }
}
