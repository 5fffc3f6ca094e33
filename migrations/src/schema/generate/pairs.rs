//! Drafts with names, dates and headers: the files as they will stand in the folder.
//!
//! `generate` and the command line call it; it calls `folder` and, for what
//! locks on purpose, `lint`.
//! It promises that the files are chained on the head, in order, and that their names are free.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::op::{Draft, body, is_part};
use crate::files::chain::{Chain, ChainError, Down, SLUG_LEN_MAX};
use crate::files::folder::{Dates, Heading, Pair, slug};
use crate::files::lint::{self, Severity};
use crate::files::script::FILL_IN;

/// So that the message is still told from others.
const PART_LEN_MAX: usize = 20;
const NOTHING_BACK: &str =
    "-- Nothing to take back: what was validated goes with its constraint.\n";
const VALUES_STAY: &str = "-- Nothing to take back: the values stay.\n";
/// For a statement that takes as long as there are rows, while others work.
const PATIENCE: &str = "1h";

/// A revision's message without what it is among those that were generated with it.
pub(crate) fn title(message: &str) -> &str {
    message.rsplit_once(": ").filter(|(_, last)| is_part(last)).map_or(message, |(title, _)| title)
}

/// The files of drafts. `reason`: why data may go.
pub(crate) fn pairs(
    drafts: &[Draft],
    chain: Option<&Chain>,
    message: &str,
    reason: Option<&str>,
) -> Vec<Pair> {
    let mut dates = dates(chain);
    let mut revises = chain.map(|chain| chain.head().id.clone());
    let mut pairs = Vec::new();
    for draft in drafts {
        let id = dates.take();
        let message = match draft.part.as_str() {
            "" => message.to_owned(),
            _ if drafts.len() == 1 => message.to_owned(),
            part => format!("{message}: {part}"),
        };
        let heading = Heading {
            id: &id,
            revises: revises.as_deref(),
            message: &message,
            transaction: draft.transaction,
            statement_timeout: draft.patient.then_some(PATIENCE),
            allow_destructive: reason.filter(|_| draft.destructive),
            irreversible: None,
        };
        let down = body(&draft.down);
        let down = match (&*down, &*draft.part) {
            ("", "fill" | "refill") => VALUES_STAY,
            ("", _) => NOTHING_BACK,
            (down, _) => down,
        };
        pairs.push(pair(&heading, &name(&id, &message, &draft.part), &body(&draft.up), down));
        revises = Some(id);
    }
    pairs
}

/// Tells the linter, and readers, what is done on purpose, for what it would call an error.
pub(super) fn excused(pairs: &mut [Pair], chain: Option<&Chain>) -> Result<(), ChainError> {
    for index in 0..pairs.len() {
        let (plain, mut rules) = (pairs[index].up.clone(), BTreeSet::new());
        // A rule may speak only when another one is silent.
        loop {
            let found = errors(&extended(chain, pairs)?, &pairs[index].name);
            if found.is_subset(&rules) {
                break;
            }
            rules.extend(found);
            let names = rules.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            let what: BTreeSet<&str> = rules.iter().map(|rule| deed(rule)).collect();
            let what: String = what.iter().map(|what| format!("-- {what}\n")).collect();
            let lines = format!("\n\n{what}-- squawk-ignore-file {names}\n\n");
            pairs[index].up = plain.replacen("\n\n", &lines, 1);
        }
    }
    Ok(())
}

/// What a file does that breaks this rule.
fn deed(rule: &str) -> &'static str {
    match rule {
        "adding-field-with-default" => {
            "Writes the table anew under a lock: everybody waits for it."
        }
        "adding-serial-primary-key-field"
        | "disallowed-unique-constraint"
        | "require-concurrent-index-creation" => {
            "Builds an index under a lock: whoever writes to the table waits for it."
        }
        "constraint-missing-not-valid"
        | "adding-foreign-key-constraint"
        | "adding-not-nullable-field" => "Reads the table under a lock: everybody waits for it.",
        _ if rule.starts_with("ban-drop-") => "Drops what holds no data of its own.",
        _ => "Takes a lock that others wait behind.",
    }
}

/// The rules that a revision breaks. A build without a linter finds none.
fn errors(chain: &Chain, name: &str) -> BTreeSet<String> {
    let revision = chain.all().iter().filter(|revision| revision.name == name);
    let found = lint::lint(chain, revision).unwrap_or_default();
    let errors = found.into_iter().filter(|one| one.severity == Severity::Error);
    errors.map(|one| one.rule).collect()
}

/// The revisions there are, and the new ones.
pub(super) fn extended(chain: Option<&Chain>, pairs: &[Pair]) -> Result<Chain, ChainError> {
    let mut files: Vec<(String, &str)> = pairs.iter().flat_map(Pair::files).collect();
    for revision in chain.map(Chain::all).unwrap_or_default() {
        files.push((revision.up.file.clone(), &revision.up.sql));
        if let Down::Script(down) = &revision.down {
            files.push((down.file.clone(), &down.sql));
        }
    }
    Chain::new(files.iter().map(|(name, text)| (name.as_str(), *text)))
}

/// A pair to be filled in.
pub(crate) fn blank(chain: Option<&Chain>, message: &str) -> Pair {
    let id = dates(chain).take();
    let heading = Heading {
        id: &id,
        revises: chain.map(|chain| chain.head().id.as_str()),
        message,
        transaction: true,
        statement_timeout: None,
        allow_destructive: None,
        irreversible: None,
    };
    pair(&heading, &name(&id, message, ""), FILL_IN, FILL_IN)
}

fn pair(heading: &Heading<'_>, name: &str, up: &str, down: &str) -> Pair {
    Pair { name: name.to_owned(), up: heading.up() + up, down: Some(heading.down() + down) }
}

/// The end of the message says which of several files it is, so the beginning gives way.
fn name(id: &str, message: &str, part: &str) -> String {
    let whole = message.strip_suffix(part).unwrap_or(message);
    let mut words = slug(whole);
    if !part.is_empty() && whole.len() < message.len() {
        let mut part = slug(part);
        part.truncate(PART_LEN_MAX);
        words.truncate(SLUG_LEN_MAX - part.len() - 1);
        words = format!("{}_{part}", words.trim_end_matches('_'));
    }
    format!("{id}_{words}")
}

/// The dates that are free: neither an id nor a file's name has them.
fn dates(chain: Option<&Chain>) -> Dates {
    let revisions = chain.map(Chain::all).unwrap_or_default();
    let taken = revisions.iter().flat_map(|one| [one.id.as_str(), one.name.as_str()]);
    Dates::new(taken, Timestamp::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_chained_and_named_after_what_they_do() {
        let draft = |part: &str, transaction| Draft {
            part: part.to_owned(),
            transaction,
            destructive: part.is_empty(),
            patient: false,
            up: vec!["select 1;".to_owned()],
            down: if part.is_empty() { Vec::new() } else { vec!["select 1;".to_owned()] },
        };
        let part = format!("build {}", "x".repeat(40));
        let drafts = [draft("", true), draft(&part, false)];
        let [first, last] = &pairs(&drafts, None, "Add a slug", Some("old"))[..] else { panic!() };
        let date = &first.name[..14];
        let header = format!("-- revision: {date}\n-- revises: none\n-- message: Add a slug\n");
        let rest = "-- transaction: yes\n-- allow-destructive: old\n\nselect 1;\n";
        assert_eq!(first.up, header + rest);
        assert_eq!(first.name[14..], *"_add_a_slug");
        assert!(first.down.as_ref().unwrap().ends_with(NOTHING_BACK));
        assert!(last.up.contains(&format!("-- revises: {date}\n-- message: Add a slug: build x")));
        assert!(!last.up.contains("destructive"));
        assert_eq!(last.name[14..], format!("_add_a_slug_build_{}", "x".repeat(14)));
        let files = [first, last].map(|pair| pair.files().collect::<Vec<_>>()).concat();
        let texts = files.iter().map(|(name, text)| (name.as_str(), *text));
        assert_eq!(Chain::new(texts).unwrap().all().len(), 2);
    }
}
