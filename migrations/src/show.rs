//! What the reading commands show, as lines and as JSON.
//!
//! `cli` calls it; it calls `chain` and `records` for what they know. Pure.

use crate::chain::{Chain, Revision};
use crate::records::{self, Record};

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
    head: bool,
    current: bool,
}

impl<'a> Entry<'a> {
    fn new(chain: &Chain, revision: &'a Revision, current: Option<&str>) -> Self {
        Self {
            revision: &revision.id,
            revises: revision.revises.as_deref(),
            message: &revision.message,
            name: &revision.name,
            head: revision.id == chain.head().id,
            current: current == Some(revision.id.as_str()),
        }
    }

    pub(crate) fn line(&self) -> String {
        let head = if self.head { " (head)" } else { "" };
        let current = if self.current { " (current)" } else { "" };
        let parent = self.revises.unwrap_or("<base>");
        format!("{parent} -> {}{head}{current}, {}", self.revision, self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::embedded;

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
}
