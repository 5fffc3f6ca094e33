//! The folder of the revisions: where it is, and how new files get into it.
//!
//! The commands that write or judge files call it, and `rebase`; it calls the file system.
//! It promises that a file is there whole or not at all, that none is ever overwritten, and that
//! a new one's header is one that `chain` accepts.
//! It does not know what stands below the header, nor which revision comes after which.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};

use crate::files::chain::{ROOT, SLUG_LEN_MAX};

/// Where a workspace made from this template keeps them.
const VERSIONS: &str = "migrations/versions";
/// For a message that has no letter to make a name of.
const UNTITLED: &str = "revision";

/// A file could not be written or removed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {}: {error}", .path.display())]
pub(crate) struct FolderError {
    doing: &'static str,
    path: PathBuf,
    error: io::Error,
}

/// The folder to work on: the one given, or `migrations/versions` of the workspace around the
/// current folder; `None` when there is neither.
pub(crate) fn find(given: Option<&Path>) -> Option<PathBuf> {
    match given {
        Some(folder) => Some(folder.to_owned()),
        None => around(&std::env::current_dir().ok()?),
    }
}

fn around(start: &Path) -> Option<PathBuf> {
    let mut folders = start.ancestors().filter(|folder| folder.join("Cargo.toml").is_file());
    folders.find_map(|folder| Some(folder.join(VERSIONS)).filter(|versions| versions.is_dir()))
}

/// The dates of new files, in UTC and a second apart; they are the new revisions' ids too.
pub(crate) struct Dates {
    taken: BTreeSet<String>,
    next: Timestamp,
}

impl Dates {
    /// `taken`: what exists, as ids and as names of files.
    pub(crate) fn new<'a>(taken: impl IntoIterator<Item = &'a str>, now: Timestamp) -> Self {
        let date = |name: &str| name.split('_').next().unwrap_or(name).to_owned();
        Self { taken: taken.into_iter().map(date).collect(), next: now }
    }

    /// `YYYYMMDDHHMMSS`, free and later than the one before.
    pub(crate) fn take(&mut self) -> String {
        loop {
            let date = self.next.strftime("%Y%m%d%H%M%S").to_string();
            self.next += SignedDuration::from_secs(1);
            if self.taken.insert(date.clone()) {
                return date;
            }
        }
    }
}

/// The part of a file's name that says what it does, from the message.
pub(crate) fn slug(message: &str) -> String {
    let mut slug = String::new();
    for letter in message.chars().map(|letter| letter.to_ascii_lowercase()) {
        if letter.is_ascii_alphanumeric() {
            slug.push(letter);
        } else if !slug.is_empty() && !slug.ends_with('_') {
            slug.push('_');
        }
    }
    slug.truncate(SLUG_LEN_MAX);
    let slug = slug.trim_end_matches('_');
    if slug.is_empty() { UNTITLED.to_owned() } else { slug.to_owned() }
}

/// What the headers of a new pair say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heading<'a> {
    pub(crate) id: &'a str,
    /// `None` for the root.
    pub(crate) revises: Option<&'a str>,
    pub(crate) message: &'a str,
    /// `false`: one statement, sent alone.
    pub(crate) transaction: bool,
    /// Of the up file, when it is not the usual one.
    pub(crate) statement_timeout: Option<&'a str>,
    /// The reason, when the up file drops data.
    pub(crate) allow_destructive: Option<&'a str>,
    /// The reason why there is no down file.
    pub(crate) irreversible: Option<&'a str>,
}

impl Heading<'_> {
    /// The header of the up file, with the blank line that ends it.
    pub(crate) fn up(&self) -> String {
        let mode = self.mode();
        header(&[
            ("revision", Some(self.id)),
            ("revises", Some(self.revises.unwrap_or(ROOT))),
            ("message", Some(self.message)),
            ("transaction", Some(mode)),
            ("statement-timeout", self.statement_timeout),
            ("allow-destructive", self.allow_destructive),
            ("irreversible", self.irreversible),
        ])
    }

    /// The header of the down file, with the blank line that ends it.
    pub(crate) fn down(&self) -> String {
        header(&[("revision", Some(self.id)), ("transaction", Some(self.mode()))])
    }

    fn mode(&self) -> &'static str {
        if self.transaction { "yes" } else { "none" }
    }
}

/// A value stands on one line, whatever was typed.
fn header(lines: &[(&str, Option<&str>)]) -> String {
    let line = |(key, value): &(&str, Option<&str>)| {
        let words: Vec<&str> = (*value)?.split_whitespace().collect();
        let value = if words.is_empty() { UNTITLED.to_owned() } else { words.join(" ") };
        Some(format!("-- {key}: {value}\n"))
    };
    lines.iter().filter_map(line).chain(["\n".to_owned()]).collect()
}

/// The files of one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    /// `<date>_<slug>`.
    pub(crate) name: String,
    pub(crate) up: String,
    /// `None` when it is irreversible.
    pub(crate) down: Option<String>,
}

impl Pair {
    /// Names and texts in the order in which they have to be written: without its up file a down
    /// file is nothing yet, while an up file without its down file would be a fault.
    pub(crate) fn files(&self) -> impl Iterator<Item = (String, &str)> {
        let down = self.down.as_deref().map(|text| (format!("{}.down.sql", self.name), text));
        down.into_iter().chain([(format!("{}.up.sql", self.name), self.up.as_str())])
    }
}

/// Writes new pairs in their order, all or none of them. Blocks on the file system.
pub(crate) fn write_pairs(folder: &Path, pairs: &[Pair]) -> Result<(), FolderError> {
    let mut written = Vec::new();
    for (file, text) in pairs.iter().flat_map(Pair::files) {
        if let Err(error) = create(folder, &file, text) {
            // What cannot be removed either is better than an error about that.
            written.iter().rev().for_each(|file: &String| drop(remove(folder, file)));
            return Err(error);
        }
        written.push(file);
    }
    Ok(())
}

/// Writes a new file whole, or fails when the name is taken. Blocks on the file system.
pub(crate) fn create(folder: &Path, file: &str, text: &str) -> Result<(), FolderError> {
    let path = folder.join(file);
    // No `.sql` at the end, so that nobody takes it for a revision.
    let whole = folder.join(format!(".{file}.{}", std::process::id()));
    // A link, unlike a rename, does not replace what is there.
    let result = fs::write(&whole, text).and_then(|()| fs::hard_link(&whole, &path));
    drop(fs::remove_file(&whole));
    result.map_err(|error| FolderError { doing: "write", path, error })
}

/// Writes a file whole, whether it is there or not. Blocks on the file system.
pub(crate) fn replace(path: &Path, text: &str) -> Result<(), FolderError> {
    let whole = path.with_extension(format!("{}.tmp", std::process::id()));
    let result = fs::write(&whole, text).and_then(|()| fs::rename(&whole, path));
    result.map_err(|error| {
        drop(fs::remove_file(&whole));
        FolderError { doing: "write", path: path.to_owned(), error }
    })
}

/// Takes new pairs away again. Blocks on the file system.
pub(crate) fn remove_pairs(folder: &Path, pairs: &[Pair]) -> Result<(), FolderError> {
    // Last first, so that what is left is a chain at any moment; of a pair, the up file goes first.
    let files =
        pairs.iter().rev().flat_map(|pair| pair.files().collect::<Vec<_>>().into_iter().rev());
    files.map(|(file, _)| file).try_for_each(|file| remove(folder, &file))
}

/// Removes a file. Blocks on the file system.
pub(crate) fn remove(folder: &Path, file: &str) -> Result<(), FolderError> {
    let path = folder.join(file);
    fs::remove_file(&path).map_err(|error| FolderError { doing: "remove", path, error })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::chain::Chain;

    #[test]
    fn the_folder_is_that_of_the_workspace_around() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path();
        let inner = root.join("migrations/versions/deep");
        fs::create_dir_all(&inner).unwrap();
        assert_eq!(around(&inner), None, "without a Cargo.toml it is somebody else's");
        fs::write(root.join("migrations/Cargo.toml"), "").unwrap();
        assert_eq!(around(&inner), None, "that one is beside versions");
        fs::write(root.join("Cargo.toml"), "").unwrap();
        assert_eq!(around(&inner), Some(root.join("migrations/versions")));
        assert_eq!(around(root), Some(root.join("migrations/versions")));
        assert_eq!(find(Some(Path::new("x"))), Some(PathBuf::from("x")), "given is given");
    }

    #[test]
    fn a_taken_second_is_left_out() {
        let now: Timestamp = "2026-12-31T23:59:58.9Z".parse().unwrap();
        let taken = ["20261231235959", "20270101000000_x.up.sql", "aaaa"];
        let mut dates = Dates::new(taken, now);
        let found = [dates.take(), dates.take(), dates.take()];
        assert_eq!(found, ["20261231235958", "20270101000001", "20270101000002"]);
    }

    #[test]
    fn any_message_gives_a_name() {
        let long = "a".repeat(39) + " b";
        let cases = [
            ("Add user.password", "add_user_password"),
            ("  --x--  ", "x"),
            ("Größe", "gr_e"),
            ("größe in m²", "gr_e_in_m"),
            ("…", UNTITLED),
            ("", UNTITLED),
            (&long, &"a".repeat(39)),
        ];
        for (message, expected) in cases {
            assert_eq!(slug(message), expected, "{message}");
        }
    }

    #[test]
    fn a_new_pair_is_one_that_the_chain_accepts() {
        let place = tempfile::tempdir().unwrap();
        let heading = Heading {
            id: "20260101000000",
            revises: None,
            message: "two\nlines -- of: it",
            transaction: true,
            statement_timeout: None,
            allow_destructive: Some(" \n"),
            irreversible: None,
        };
        let pair = |name: &str, heading: Heading<'_>| Pair {
            name: name.to_owned(),
            up: heading.up(),
            down: heading.irreversible.is_none().then(|| heading.down()),
        };
        let next = Heading { id: "bbbb", revises: Some(heading.id), ..heading };
        let next = Heading { irreversible: Some("gone"), ..next };
        let pairs = [pair("20260101000000_a", heading), pair("20260101000001_b", next)];
        write_pairs(place.path(), &pairs).unwrap();

        let chain = Chain::read(place.path()).unwrap();
        let [first, last] = chain.all() else { panic!("{chain:?}") };
        assert_eq!(first.message, "two lines -- of: it");
        assert_eq!(first.allow_destructive.as_deref(), Some(UNTITLED));
        assert_eq!(last.revises.as_deref(), Some("20260101000000"));
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 3, "no temporary file is left");
    }

    #[test]
    fn a_file_is_replaced_whole_or_stays_as_it_was() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("schema.lock");
        fs::write(&path, "old").unwrap();
        replace(&path, "new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "no temporary file is left");
        let path = place.path().join("folder");
        fs::create_dir_all(path.join("full")).unwrap();
        let error = replace(&path, "new").unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot write {}: ", path.display())), "{error}");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 2, "nor then");
    }

    #[test]
    fn nothing_is_overwritten_and_of_several_pairs_none_stays() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("b.up.sql"), "mine").unwrap();
        let pair = |name: &str| Pair {
            name: name.to_owned(),
            up: "yours".to_owned(),
            down: Some("yours".to_owned()),
        };
        let error = write_pairs(place.path(), &[pair("a"), pair("b")]).unwrap_err().to_string();
        assert!(error.starts_with("cannot write ") && error.contains("b.up.sql: "), "{error}");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
        assert_eq!(fs::read_to_string(place.path().join("b.up.sql")).unwrap(), "mine");
    }
}
