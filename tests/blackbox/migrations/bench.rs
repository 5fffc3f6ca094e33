//! What the tests of `peace-migrate` work with: revisions of their own, and the real program.

use std::fs;
use std::path::Path;
use std::process::Output;

use super::MIGRATE;
use crate::harness::folder::Folder;
use crate::harness::{Database, Launch, Turn};

/// A folder of revisions.
pub(super) struct Bench<'a> {
    turn: &'a Turn,
    versions: Folder,
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
        Self { turn, versions: Folder::new() }
    }

    pub(super) fn versions(&self) -> &Path {
        self.versions.path()
    }

    /// Writes a pair of files in a transaction: `date` is counted from the year 0.
    pub(super) fn revision(&self, date: u64, id: &str, revises: &str, up: &str, down: &str) {
        let mode = if up.contains("concurrently") { "none" } else { "yes" };
        let header = format!("-- revises: {revises}\n-- message: {id}\n-- transaction: {mode}");
        self.up(date, id, &format!("{header}\n\n{up}\n"));
        let down = format!("-- revision: {id}\n-- transaction: {mode}\n\n{down}\n");
        self.versions.write(&format!("{date:014}_{id}.down.sql"), &down);
    }

    /// Writes an up file alone, from the line after `revision`.
    pub(super) fn up(&self, date: u64, id: &str, text: &str) {
        let text = format!("-- revision: {id}\n{text}");
        self.versions.write(&format!("{date:014}_{id}.up.sql"), &text);
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
        Ran::of(&self.launch(args).env("DATABASE_URL", &database.url()).output())
    }

    fn launch(&self, args: &[&str]) -> Launch {
        let versions = self.versions().to_str().unwrap();
        let launch = Launch::bare(self.turn).program(MIGRATE);
        launch.args(args.iter().copied()).args(["--versions", versions])
    }
}

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
