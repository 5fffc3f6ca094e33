//! What the tests of `peace-migrate` work with: revisions and a declared schema of their own, and
//! the real program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use super::MIGRATE;
use crate::harness::folder::Folder;
use crate::harness::{Database, Launch, Turn};

/// A folder of revisions, and what belongs beside it.
pub(super) struct Bench<'a> {
    turn: &'a Turn,
    folder: Folder,
    versions: PathBuf,
}

/// What a run printed and how it ended.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) code: Option<i32>,
    pub(super) out: String,
    pub(super) err: String,
}

impl<'a> Bench<'a> {
    pub(super) fn new(turn: &'a Turn) -> Self {
        let folder = Folder::new();
        let versions = folder.path().join("versions");
        fs::create_dir(&versions).unwrap();
        Self { turn, folder, versions }
    }

    /// With the revisions of another folder.
    pub(super) fn copy_of(turn: &'a Turn, versions: &str) -> Self {
        let bench = Self::new(turn);
        for file in fs::read_dir(versions).unwrap().map(Result::unwrap) {
            fs::copy(file.path(), bench.versions().join(file.file_name())).unwrap();
        }
        bench
    }

    pub(super) fn versions(&self) -> &Path {
        &self.versions
    }

    /// Beside the revisions: what `dump` writes.
    pub(super) fn lock_file(&self) -> PathBuf {
        self.folder.path().join("schema.lock")
    }

    /// Writes a pair of files in a transaction: `date` is counted from the year 0.
    pub(super) fn revision(&self, date: u64, id: &str, revises: &str, up: &str, down: &str) {
        let mode = if up.contains("concurrently") { "none" } else { "yes" };
        let header = format!("-- revises: {revises}\n-- message: {id}\n-- transaction: {mode}");
        self.up(date, id, &format!("{header}\n\n{up}\n"));
        let down = format!("-- revision: {id}\n-- transaction: {mode}\n\n{down}\n");
        self.folder.write(&format!("versions/{date:014}_{id}.down.sql"), &down);
    }

    /// Writes an up file alone, from the line after `revision`.
    pub(super) fn up(&self, date: u64, id: &str, text: &str) {
        let text = format!("-- revision: {id}\n{text}");
        self.folder.write(&format!("versions/{date:014}_{id}.up.sql"), &text);
    }

    /// One revision that cannot be taken back, and what is declared.
    pub(super) fn sides(turn: &'a Turn, up: &str, declared: &str) -> Self {
        let bench = Self::new(turn);
        bench.up(1, "root", &format!("-- revises: none\n{ONE_WAY}\n\n{up}\n"));
        bench.declare(declared);
        bench
    }

    /// Writes the declared schema.
    pub(super) fn declare(&self, sql: &str) {
        self.folder.write("schema.sql", sql);
    }

    /// The names of the files, in order.
    pub(super) fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.versions()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Runs the program on these revisions without a database.
    pub(super) fn run(&self, args: &[&str]) -> Ran {
        Ran::of(&self.launch(args).output())
    }

    /// Runs the program on these revisions and `database`.
    pub(super) fn run_on(&self, database: &Database<'_>, args: &[&str]) -> Ran {
        self.run_at(&database.url(), args)
    }

    /// The same, by any URL.
    pub(super) fn run_at(&self, url: &str, args: &[&str]) -> Ran {
        Ran::of(&self.launch(args).env("DATABASE_URL", url).output())
    }

    /// The program on these revisions, not started yet.
    pub(super) fn launch(&self, args: &[&str]) -> Launch {
        let versions = self.versions().to_str().unwrap();
        let launch = Launch::bare(self.turn).program(MIGRATE);
        let launch = launch.args(args.iter().copied()).args(["--versions", versions]);
        let schema = self.folder.path().join("schema.sql");
        if schema.exists() { launch.args(["--schema", schema.to_str().unwrap()]) } else { launch }
    }
}

/// Header lines of a revision whose way back is of no interest.
pub(super) const ONE_WAY: &str = "-- message: m\n-- transaction: yes\n-- irreversible: test";

impl Ran {
    pub(super) fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// What it printed; it must have succeeded.
    #[track_caller]
    pub(super) fn done(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    /// It must have ended with this code, and said this on either stream.
    #[track_caller]
    pub(super) fn failed(self, code: i32, words: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.out.contains(words) || self.err.contains(words), "{words}: {self:?}");
    }
}
