//! `schema.lock`: the schema at the head revision, in PostgreSQL's words, as a file in the
//! repository.
//!
//! `dump` writes it, `check` says when it is stale, `drift` compares a live database with it, which
//! then needs no scratch database; reviewers and merges see in it what a revision does. Pure.
//! One line is one object, sorted: two branches that change one table conflict where they do.

use std::collections::BTreeMap;

use crate::schema::catalog::Catalog;
use crate::schema::compare::Difference;

const TITLE: &str = "-- The schema at the head revision. Written by `peace-migrate dump`.";

/// What is told of a file that [`LockFile::parse`] cannot read.
pub(crate) const UNREADABLE: &str = "schema.lock cannot be read (a merge left a conflict?)";

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
        let is_conflict = |line: &str| line.starts_with("<<<<<<<") || line.starts_with(">>>>>>>");
        if text.lines().any(is_conflict) {
            return None;
        }
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
            let (object, text) = split(line);
            sides.entry(object).or_default()[side] = Some(text);
        }
    }
    let differing = sides.into_iter().filter(|(_, [have, want])| have != want);
    let words = differing.map(|(object, [have, want])| Difference {
        object: many_lines(object),
        have: have.map(many_lines),
        want: want.map(many_lines),
    });
    words.collect()
}

/// The object and its definition. A quoted name may hold a colon.
fn split(line: &str) -> (&str, &str) {
    let mut quoted = false;
    let colon = line.match_indices(['"', ':']).find(|(at, sign)| {
        quoted ^= *sign == "\"";
        !quoted && line[*at..].starts_with(": ")
    });
    colon.map_or((line, ""), |(at, _)| (&line[..at], &line[at + 2..]))
}

/// What [`one_line`](crate::schema::catalog::one_line) was made of.
fn many_lines(line: &str) -> String {
    let mut letters = line.chars();
    let mut text = String::new();
    while let Some(letter) = letters.next() {
        text.push(match letter {
            '\\' if letters.next() == Some('n') => '\n',
            other => other,
        });
    }
    text
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
        let conflict = file.text() + "<<<<<<< HEAD\ntable a\n=======\ntable b\n>>>>>>> other\n";
        assert_eq!(LockFile::parse(&conflict), None);
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
        let colon = differences(&lines("column \"a: b\".c: int"), &[]);
        assert_eq!(colon[0].object, "column \"a: b\".c");
        assert_eq!(differences(&[], &lines("table a: x"))[0].to_string(), "missing table a: x");
    }

    #[test]
    fn a_definition_of_many_lines_is_one_line_in_the_file() {
        let text = "a\n\\n\\";
        assert_eq!(many_lines(&crate::schema::catalog::one_line(text)), text);
        assert_eq!(
            differences(&["view v: a\\nb".to_owned()], &[])[0].have.as_deref(),
            Some("a\nb")
        );
    }
}
