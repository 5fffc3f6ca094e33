//! What the reading commands show, as lines and as JSON.
//!
//! `cli` calls it; it calls `chain` and `records` for what they know. Pure.

use crate::database::records::{self, Record};
use crate::files::chain::{Chain, Down, Revision};
use crate::files::script::Script;

/// A revision and its mark.
pub(crate) fn named(chain: &Chain, id: Option<&str>) -> String {
    match id {
        None => "base".to_owned(),
        Some(id) if id == chain.head().id => format!("{id} (head)"),
        Some(id) if chain.index_of(id).is_none() => format!("{id} (unknown to this build)"),
        Some(id) => id.to_owned(),
    }
}

/// What `current` shows.
#[derive(serde::Serialize)]
pub(crate) struct Current<'a> {
    revision: Option<&'a str>,
    head: &'a str,
    /// The revision with its mark, for people.
    #[serde(skip)]
    marked: Option<String>,
    /// Whether this build's chain has the revision.
    known: bool,
    /// The revision in which an earlier run was interrupted.
    interrupted: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    records: Option<&'a [Record]>,
}

impl<'a> Current<'a> {
    pub(crate) fn new(chain: &'a Chain, records: &'a [Record], verbose: bool) -> Self {
        let revision = records::newest(records).map(|record| record.revision.as_str());
        Self {
            revision,
            head: &chain.head().id,
            marked: revision.map(|id| named(chain, Some(id))),
            known: revision.is_none_or(|id| chain.index_of(id).is_some()),
            interrupted: records
                .iter()
                .find(|record| record.state == "running")
                .map(|record| record.revision.as_str()),
            records: verbose.then_some(records),
        }
    }

    /// Whether the newest revision is applied.
    pub(crate) fn is_head(&self) -> bool {
        self.revision == Some(self.head)
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.marked.iter().cloned().collect();
        if let Some(revision) = self.interrupted {
            lines.push(format!("{revision} (interrupted: run `peace-migrate upgrade`)"));
        }
        for Record { name, state, applied_at, checksum, .. } in self.records.unwrap_or_default() {
            lines.push(format!("  {applied_at}  {state}  {name}  sha256:{checksum}"));
        }
        lines
    }
}

/// Every revision, newest first.
pub(crate) fn history<'a>(chain: &'a Chain, records: &[Record]) -> Vec<Entry<'a>> {
    let current = records::newest(records).map(|record| record.revision.as_str());
    chain.all().iter().rev().map(|revision| Entry::new(chain, revision, current)).collect()
}

/// What `history` shows of a revision.
#[derive(serde::Serialize)]
pub(crate) struct Entry<'a> {
    revision: &'a str,
    revises: Option<&'a str>,
    message: &'a str,
    name: &'a str,
    checksum: &'a str,
    head: bool,
    current: bool,
}

impl<'a> Entry<'a> {
    pub(crate) fn new(chain: &Chain, revision: &'a Revision, current: Option<&str>) -> Self {
        Self {
            head: revision.id == chain.head().id,
            current: current == Some(revision.id.as_str()),
            ..Self::head(revision)
        }
    }

    /// One that no other revises.
    pub(crate) fn head(revision: &'a Revision) -> Self {
        Self {
            revision: &revision.id,
            revises: revision.revises.as_deref(),
            message: &revision.message,
            name: &revision.name,
            checksum: &revision.checksum,
            head: true,
            current: false,
        }
    }

    pub(crate) fn line(&self) -> String {
        let head = if self.head { " (head)" } else { "" };
        let current = if self.current { " (current)" } else { "" };
        let parent = self.revises.unwrap_or("<base>");
        format!("{parent} -> {}{head}{current}, {}", self.revision, self.message)
    }

    /// The same with what only some want to know, and a blank line after it.
    pub(crate) fn paragraph(&self) -> Vec<String> {
        let files = format!("    files     {}", self.name);
        let checksum = format!("    checksum  sha256:{}", self.checksum);
        vec![self.line(), files, checksum, String::new()]
    }
}

/// What `show` tells of a revision: what `history` does, and its files.
#[derive(serde::Serialize)]
pub(crate) struct Page<'a> {
    #[serde(flatten)]
    entry: Entry<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allow_destructive: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    irreversible: Option<&'a str>,
    up: File<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    down: Option<File<'a>>,
}

/// One of the two files.
#[derive(serde::Serialize)]
struct File<'a> {
    file: &'a str,
    sql: &'a str,
}

impl<'a> Page<'a> {
    pub(crate) fn new(chain: &Chain, revision: &'a Revision) -> Self {
        let file = |script: &'a Script| File { file: &script.file, sql: &script.sql };
        let (down, irreversible) = match &revision.down {
            Down::Script(script) => (Some(file(script)), None),
            Down::Irreversible(reason) => (None, Some(reason.as_str())),
        };
        Self {
            entry: Entry::new(chain, revision, None),
            allow_destructive: revision.allow_destructive.as_deref(),
            irreversible,
            up: file(&revision.up),
            down,
        }
    }

    /// The texts hold the headers.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = self.entry.paragraph();
        for File { file, sql } in [Some(&self.up), self.down.as_ref()].into_iter().flatten() {
            lines.push(format!("{file}:"));
            lines.extend(sql.lines().map(str::to_owned));
            lines.push(String::new());
        }
        lines.pop();
        lines
    }
}

/// What `verify` says of a revision that is applied, or ought to be.
#[derive(serde::Serialize)]
pub(crate) struct Verdict<'a> {
    revision: &'a str,
    name: &'a str,
    verdict: &'static str,
    /// In the database.
    recorded: Option<&'a str>,
    /// Of the file.
    file: Option<&'a str>,
}

/// Compares each row with its file, in the order of the files.
pub(crate) fn verify<'a>(chain: &'a Chain, records: &'a [Record]) -> Vec<Verdict<'a>> {
    let row = |revision: &Revision| records.iter().find(|row| row.revision == revision.id);
    let end = chain.all().iter().rposition(|revision| row(revision).is_some());
    let known = chain.all()[..end.map_or(0, |last| last + 1)].iter().map(|revision| Verdict {
        revision: &revision.id,
        name: &revision.name,
        verdict: match row(revision) {
            None => "not applied",
            Some(row) if row.state == "running" => "interrupted",
            Some(row) if row.checksum != revision.checksum => "edited",
            Some(_) => "ok",
        },
        recorded: row(revision).map(|row| row.checksum.as_str()),
        file: Some(&revision.checksum),
    });
    let unknown = records.iter().filter(|row| chain.index_of(&row.revision).is_none());
    let unknown = unknown.map(|row| Verdict {
        revision: &row.revision,
        name: &row.name,
        verdict: "unknown to this build",
        recorded: Some(&row.checksum),
        file: None,
    });
    known.chain(unknown).collect()
}

impl Verdict<'_> {
    pub(crate) fn line(&self) -> String {
        format!("{}  {}  {}", self.revision, self.verdict, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::embedded::embedded;

    #[test]
    fn current_marks_what_it_found() {
        let chain = embedded().unwrap();
        let record = |revision: &str, revises: &str, state: &str| Record {
            revision: revision.into(),
            revises: revises.into(),
            name: "n".into(),
            checksum: "c".into(),
            state: state.into(),
            applied_at: "2026-01-01T00:00:00Z".into(),
        };
        let first = record("586f9c3cd40c", "none", "stamped");
        let second = record("1246b5faa711", "586f9c3cd40c", "applied");
        let running = record("1246b5faa711", "586f9c3cd40c", "running");
        let foreign = record("ffffffffffff", "586f9c3cd40c", "applied");
        let lines = |records: &[Record]| Current::new(chain, records, false).lines();
        assert!(lines(&[]).is_empty());
        assert_eq!(lines(&[second, first.clone()]), ["1246b5faa711"]);
        assert_eq!(lines(&[first.clone(), foreign]), ["ffffffffffff (unknown to this build)"]);
        assert_eq!(
            lines(&[first, running]),
            ["586f9c3cd40c", "1246b5faa711 (interrupted: run `peace-migrate upgrade`)"]
        );
        let head = record(&chain.head().id, "586f9c3cd40c", "applied");
        assert_eq!(lines(&[head]), [format!("{} (head)", chain.head().id)]);
    }

    #[test]
    fn every_row_gets_a_verdict() {
        let chain = embedded().unwrap();
        let record = |index: usize, state: &str| {
            let revision = &chain.all()[index];
            Record {
                revision: revision.id.clone(),
                revises: String::new(),
                name: revision.name.clone(),
                checksum: revision.checksum.clone(),
                state: state.into(),
                applied_at: String::new(),
            }
        };
        let check = |records: &[Record], expected: &[&str]| {
            let found: Vec<_> = verify(chain, records).iter().map(|row| row.verdict).collect();
            assert_eq!(found, expected);
        };
        check(&[], &[]);
        check(&[record(0, "stamped"), record(1, "applied")], &["ok", "ok"]);
        check(&[record(1, "applied")], &["not applied", "ok"]);
        let edited = Record { checksum: "c".into(), ..record(0, "applied") };
        check(&[edited, record(1, "running")], &["edited", "interrupted"]);
        let foreign = Record { revision: "ffff".into(), ..record(1, "applied") };
        check(&[record(0, "applied"), foreign], &["ok", "unknown to this build"]);
    }
}
