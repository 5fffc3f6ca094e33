//! All revisions in their one order, from the root to the head.
//!
//! `embedded` and the command line build it; `runner` walks it; `rebase` reads the files of one
//! that is not a line. It calls `script` for each file.
//! It promises one root, one head, no gap, no duplicate and no loop: the order is that of the
//! `revises` lines, never that of the files' dates.
//! It does not know what a database has applied.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::files::script::{Header, Script, normalise};
use crate::files::target::Target;

const UP_KEYS: [&str; 8] = [
    "revision",
    "revises",
    "message",
    "transaction",
    "allow-destructive",
    "irreversible",
    "lock-timeout",
    "statement-timeout",
];
const DOWN_KEYS: [&str; 4] = ["revision", "transaction", "lock-timeout", "statement-timeout"];
/// What `revises` says in the first revision.
pub(crate) const ROOT: &str = "none";
/// A longer id would not fit Alembic's table.
const ID_LEN_MAX: usize = 32;
/// A shorter prefix says too little.
pub(crate) const ID_LEN_MIN: usize = 4;
pub(crate) const SLUG_LEN_MAX: usize = 40;

/// One step of the schema: a pair of files.
#[derive(Debug, Clone)]
pub struct Revision {
    /// Unique id, 4 to 32 of `[0-9a-z]`.
    pub id: String,
    /// The revision before it; `None` for the root.
    pub revises: Option<String>,
    /// What it does, for people.
    pub message: String,
    /// The files' name without `.up.sql`.
    pub name: String,
    /// Why data may go on the way up (`-- allow-destructive: reason`).
    pub allow_destructive: Option<String>,
    /// SHA-256 of the normalised up file, in hexadecimal.
    pub checksum: String,
    /// From `revises` to this revision.
    pub up: Script,
    /// And back.
    pub down: Down,
}

/// The way back from a revision.
#[derive(Debug, Clone)]
pub enum Down {
    /// The down file.
    Script(Script),
    /// There is none, for this reason (`-- irreversible: reason`).
    Irreversible(String),
}

/// The revisions, root first.
#[derive(Debug, Clone)]
pub struct Chain {
    revisions: Vec<Revision>,
}

/// The files do not make a chain; each text names the file and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// One line of one file is wrong.
    #[error("{file}:{line}: {what}")]
    File {
        /// The file's name.
        file: String,
        /// 1-based.
        line: usize,
        /// What is wrong and how to mend it.
        what: String,
    },
    /// The folder cannot be read.
    #[error("cannot read {path}: {reason}")]
    Read {
        /// The folder or file.
        path: String,
        /// The system's words.
        reason: String,
    },
    /// No file at all.
    #[error("there is no migration: write `<YYYYMMDDHHMMSS>_<slug>.up.sql` and its `.down.sql`")]
    Empty,
    /// Two files declare one id.
    #[error("revision {id} is declared by {first} and by {second}: give one of them another id")]
    Duplicate {
        /// The id.
        id: String,
        /// A file's name.
        first: String,
        /// Another file's name.
        second: String,
    },
    /// A parent is missing.
    #[error("{file} revises {parent}, which no file declares: restore that file")]
    Gap {
        /// The child's file.
        file: String,
        /// The missing id.
        parent: String,
    },
    /// Not exactly one revision without a parent.
    #[error("{} roots: {}; exactly one revision revises `none`", .0.len(), .0.join(", "))]
    Roots(
        /// Their ids.
        Vec<String>,
    ),
    /// Two developers revised the same parent.
    #[error("{} heads: {}; run `peace-migrate rebase`", .0.len(), .0.join(", "))]
    Heads(
        /// Their ids.
        Vec<String>,
    ),
    /// Revisions that no path from the root reaches.
    #[error("{} revise one another in a circle", .0.join(", "))]
    Loop(
        /// Their ids.
        Vec<String>,
    ),
}

impl Chain {
    /// Builds the chain from `(file name, text)` pairs in any order.
    pub fn new<'a>(
        files: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, ChainError> {
        Ok(Self { revisions: in_order(parse(files)?)? })
    }

    /// Reads the `.sql` files of a folder. Blocks on the file system.
    pub fn read(folder: &Path) -> Result<Self, ChainError> {
        let files = sql_files(folder)?;
        Self::new(files.iter().map(|(name, text)| (name.as_str(), text.as_str())))
    }

    /// Every revision, root first. Never empty.
    pub fn all(&self) -> &[Revision] {
        &self.revisions
    }

    /// The newest revision.
    pub fn head(&self) -> &Revision {
        &self.revisions[self.revisions.len() - 1]
    }

    /// The target that so many applied revisions make.
    pub(crate) fn at(&self, count: usize) -> Target {
        let index = count.checked_sub(1);
        index.map_or(Target::Base, |index| Target::Revision(self.revisions[index].id.clone()))
    }

    /// The place of an id, 0 for the root.
    pub(crate) fn index_of(&self, id: &str) -> Option<usize> {
        self.revisions.iter().position(|revision| revision.id == id)
    }
}

/// The name and text of every `.sql` file of a folder. Blocks on the file system.
pub(crate) fn sql_files(folder: &Path) -> Result<Vec<(String, String)>, ChainError> {
    let unreadable = |path: &Path, error: std::io::Error| ChainError::Read {
        path: path.display().to_string(),
        reason: error.to_string(),
    };
    let mut files = Vec::new();
    for entry in folder.read_dir().map_err(|error| unreadable(folder, error))? {
        let path = entry.map_err(|error| unreadable(folder, error))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if name.ends_with(".sql") {
            let text = std::fs::read_to_string(&path);
            files.push((name.to_owned(), text.map_err(|error| unreadable(&path, error))?));
        }
    }
    Ok(files)
}

/// Every pair of files, in the order of their names. Whether they are one line is not looked at.
pub(crate) fn parse<'a>(
    files: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Vec<Revision>, ChainError> {
    let mut pairs: BTreeMap<&str, Pair<'_>> = BTreeMap::new();
    for (file, text) in files {
        let (name, side) = split_name(file)?;
        let pair = pairs.entry(name).or_default();
        match side {
            Side::Up => pair.up = Some(text),
            Side::Down => pair.down = Some(text),
        }
    }
    pairs.iter().map(|(name, pair)| revision(name, pair)).collect()
}

/// The texts of one revision.
#[derive(Default)]
struct Pair<'a> {
    up: Option<&'a str>,
    down: Option<&'a str>,
}

enum Side {
    Up,
    Down,
}

/// `20261122180000_slug.up.sql` -> (`20261122180000_slug`, up).
fn split_name(file: &str) -> Result<(&str, Side), ChainError> {
    let split = match (file.strip_suffix(".up.sql"), file.strip_suffix(".down.sql")) {
        (Some(name), _) => Some((name, Side::Up)),
        (_, Some(name)) => Some((name, Side::Down)),
        _ => None,
    };
    split.filter(|(name, _)| is_name(name)).ok_or_else(|| {
        let what =
            "name it `<YYYYMMDDHHMMSS>_<slug>.up.sql` or `.down.sql`, slug `[a-z0-9_]{1,40}`";
        file_fault(file, what.to_owned())
    })
}

fn is_name(name: &str) -> bool {
    let Some((date, slug)) = name.split_once('_') else { return false };
    date.len() == 14
        && date.bytes().all(|byte| byte.is_ascii_digit())
        && (1..=SLUG_LEN_MAX).contains(&slug.len())
        && slug.bytes().all(|byte| is_id_byte(byte) || byte == b'_')
}

fn is_id_byte(byte: u8) -> bool {
    byte.is_ascii_digit() || byte.is_ascii_lowercase()
}

fn file_fault(file: &str, what: String) -> ChainError {
    ChainError::File { file: file.to_owned(), line: 1, what }
}

fn revision(name: &str, pair: &Pair<'_>) -> Result<Revision, ChainError> {
    let (up_file, down_file) = (format!("{name}.up.sql"), format!("{name}.down.sql"));
    let Some(up) = pair.up else {
        return Err(file_fault(&down_file, format!("its pair {up_file} is missing: restore it")));
    };
    let text = normalise(up);
    let header = Header::parse(&up_file, &text, &UP_KEYS)?;
    let id = id_of(&header, "revision")?;
    let revises = match header.require("revises")? {
        ROOT => None,
        _ => Some(id_of(&header, "revises")?),
    };
    Ok(Revision {
        revises,
        message: header.require("message")?.to_owned(),
        name: name.to_owned(),
        allow_destructive: header.get("allow-destructive").map(str::to_owned),
        checksum: checksum(&text),
        up: Script::parse(&header, text.clone())?,
        down: down(&down_file, pair.down, &header, &id)?,
        id,
    })
}

fn id_of(header: &Header<'_>, key: &str) -> Result<String, ChainError> {
    let id = header.require(key)?;
    let well_formed =
        (ID_LEN_MIN..=ID_LEN_MAX).contains(&id.len()) && id.bytes().all(is_id_byte) && id != ROOT;
    if !well_formed {
        return Err(header.fault(key, format!("`{id}` is no id: write 4 to 32 of `[0-9a-z]`")));
    }
    Ok(id.to_owned())
}

fn down(file: &str, text: Option<&str>, up: &Header<'_>, id: &str) -> Result<Down, ChainError> {
    match (text, up.get("irreversible")) {
        (None, Some(reason)) => Ok(Down::Irreversible(reason.to_owned())),
        (None, None) => Err(up.fault(
            "revision",
            format!("{file} is missing: write it, or `-- irreversible: <reason>` here"),
        )),
        (Some(_), Some(_)) => {
            Err(up.fault("irreversible", format!("and yet there is {file}: remove one of them")))
        }
        (Some(text), None) => {
            let text = normalise(text);
            let header = Header::parse(file, &text, &DOWN_KEYS)?;
            if header.require("revision")? != id {
                return Err(header.fault("revision", format!("its pair says `{id}`")));
            }
            Ok(Down::Script(Script::parse(&header, text.clone())?))
        }
    }
}

fn checksum(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Walks from the root to the head, and refuses whatever is not one line.
fn in_order(revisions: Vec<Revision>) -> Result<Vec<Revision>, ChainError> {
    let mut by_parent: BTreeMap<String, Vec<Revision>> = BTreeMap::new();
    let heads = heads(&revisions)?;
    if heads.len() > 1 {
        return Err(ChainError::Heads(heads.iter().map(|head| head.id.clone()).collect()));
    }
    for revision in revisions {
        by_parent.entry(parent(&revision).to_owned()).or_default().push(revision);
    }
    let mut ordered: Vec<Revision> = Vec::new();
    while let Some(mut children) =
        by_parent.remove(ordered.last().map_or(ROOT, |revision| revision.id.as_str()))
    {
        ordered.append(&mut children);
    }
    let unreached: Vec<String> =
        by_parent.into_values().flatten().map(|revision| revision.id).collect();
    if unreached.is_empty() { Ok(ordered) } else { Err(ChainError::Loop(unreached)) }
}

fn parent(revision: &Revision) -> &str {
    revision.revises.as_deref().unwrap_or(ROOT)
}

/// The revisions that no other one revises.
///
/// **Errors**: a duplicate, a missing parent, not exactly one root.
pub(crate) fn heads(revisions: &[Revision]) -> Result<Vec<&Revision>, ChainError> {
    if revisions.is_empty() {
        return Err(ChainError::Empty);
    }
    let mut names: BTreeMap<&str, &str> = BTreeMap::new();
    for revision in revisions {
        if let Some(first) = names.insert(&revision.id, &revision.name) {
            let (id, first) = (revision.id.clone(), first.to_owned());
            return Err(ChainError::Duplicate { id, first, second: revision.name.clone() });
        }
    }
    if let Some((file, parent)) = revisions
        .iter()
        .filter_map(|revision| Some((&revision.up.file, revision.revises.as_ref()?)))
        .find(|(_, parent)| !names.contains_key(parent.as_str()))
    {
        return Err(ChainError::Gap { file: file.clone(), parent: parent.clone() });
    }
    let roots = revisions.iter().filter(|one| one.revises.is_none()).map(|one| one.id.clone());
    let roots: Vec<String> = roots.collect();
    if roots.len() > 1 {
        return Err(ChainError::Roots(roots));
    }
    let revised: BTreeSet<&str> = revisions.iter().map(parent).collect();
    Ok(revisions.iter().filter(|one| !revised.contains(one.id.as_str())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn up(id: &str, revises: &str) -> String {
        format!(
            "-- revision: {id}\n-- revises: {revises}\n-- message: m\n-- transaction: yes\n\nselect 1"
        )
    }

    fn down(id: &str) -> String {
        format!("-- revision: {id}\n-- transaction: yes\n\nselect 1")
    }

    /// A chain of `(id, revises)`, named so that the files' dates run backwards.
    fn chain(links: &[(&str, &str)]) -> Result<Chain, ChainError> {
        let mut files = Vec::new();
        for (index, (id, revises)) in links.iter().enumerate() {
            let name = format!("{:014}_m", 100 - index);
            files.push((format!("{name}.up.sql"), up(id, revises)));
            files.push((format!("{name}.down.sql"), down(id)));
        }
        Chain::new(files.iter().map(|(name, text)| (name.as_str(), text.as_str())))
    }

    #[track_caller]
    fn refused(files: &[(&str, &str)], expected: &str) {
        let error = Chain::new(files.iter().copied()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn the_order_is_that_of_revises_not_of_dates() {
        let chain = chain(&[("aaaa", "none"), ("bbbb", "aaaa"), ("cccc", "bbbb")]).unwrap();
        let ids: Vec<_> = chain.all().iter().map(|revision| revision.id.as_str()).collect();
        assert_eq!(ids, ["aaaa", "bbbb", "cccc"]);
        assert_eq!(chain.head().id, "cccc");
        assert_eq!(chain.index_of("bbbb"), Some(1));
    }

    #[test]
    fn what_is_no_chain_is_refused() {
        let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        assert_eq!(chain(&[]).unwrap_err(), ChainError::Empty);
        assert_eq!(
            chain(&[("aaaa", "none"), ("bbbb", "none")]).unwrap_err(),
            ChainError::Roots(ids(&["bbbb", "aaaa"]))
        );
        assert_eq!(
            chain(&[("aaaa", "none"), ("bbbb", "aaaa"), ("cccc", "aaaa")]).unwrap_err(),
            ChainError::Heads(ids(&["cccc", "bbbb"]))
        );
        assert_eq!(
            chain(&[("aaaa", "none"), ("bbbb", "cccc"), ("cccc", "bbbb")]).unwrap_err(),
            ChainError::Loop(ids(&["cccc", "bbbb"]))
        );
        assert!(matches!(
            chain(&[("aaaa", "none"), ("bbbb", "xxxx")]).unwrap_err(),
            ChainError::Gap { parent, .. } if parent == "xxxx"
        ));
        assert!(matches!(
            chain(&[("aaaa", "none"), ("aaaa", "none")]).unwrap_err(),
            ChainError::Duplicate { id, .. } if id == "aaaa"
        ));
    }

    #[test]
    fn a_pair_belongs_together() {
        let (up, down) = (up("aaaa", "none"), down("aaaa"));
        let (up_file, down_file) = ("00000000000001_m.up.sql", "00000000000001_m.down.sql");
        refused(&[(down_file, &down)], "its pair 00000000000001_m.up.sql is missing");
        refused(&[(up_file, &up)], "00000000000001_m.down.sql is missing: write it");
        refused(&[(up_file, &up), (down_file, &self::down("bbbb"))], "its pair says `aaaa`");
        let irreversible = up.replace("-- message", "-- irreversible: data\n-- message");
        refused(&[(up_file, &irreversible), (down_file, &down)], "and yet there is");
        let chain = Chain::new([(up_file, irreversible.as_str())]).unwrap();
        assert!(matches!(&chain.head().down, Down::Irreversible(reason) if reason == "data"));
    }

    #[test]
    fn names_and_ids_are_checked() {
        let text = up("aaaa", "none");
        for name in ["init.up.sql", "2024_a.up.sql", "00000000000001_A.up.sql", "a.sql"] {
            refused(&[(name, &text)], "name it");
        }
        for id in ["abc", "AAAA", "none", &"a".repeat(33)] {
            refused(&[("00000000000001_m.up.sql", &up(id, "none"))], "is no id");
        }
    }

    #[test]
    fn a_checkout_on_another_system_has_the_same_checksum() {
        let (up, down) = (up("aaaa", "none"), down("aaaa"));
        let checksum = |up: &str| {
            let files =
                [("00000000000001_m.up.sql", up), ("00000000000001_m.down.sql", down.as_str())];
            Chain::new(files).unwrap().head().checksum.clone()
        };
        let other = format!("\u{feff}{}", up.replace('\n', "\r\n"));
        assert_eq!(checksum(&up), checksum(&other));
        assert_ne!(checksum(&up), checksum(&format!("{up} ")));
        assert_eq!(
            super::checksum("abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
