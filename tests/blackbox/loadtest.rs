//! `peace-loadtest` with real servers, a real database and real generators: what it measures is what
//! was there, and it leaves nothing.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;

use crate::harness::folder::Folder;
use crate::harness::proc::{self, Process};
use crate::harness::wait::until_true;
use crate::harness::{Database, Turn, built};

/// Measured twice: noise is not taken for a difference.
mod alike;
/// What its events say is what happened, and what its clients lost is counted.
mod disturbed;
/// Signals: a report of what was whole, or nothing, but never a process.
mod ended;
/// Bad input: one line, an exit code, nothing left.
mod refused;
/// What is measured, on our server, on others, with rows of one's own.
mod seen;

/// So short that its numbers mean nothing, and long enough that there are some.
const SHORT: [&str; 6] = ["--warm-up", "200ms", "--users", "40", "--items", "160"];
/// How long what is left of it may take to leave.
const LEAVE: Duration = Duration::from_secs(10);

/// The program.
pub(crate) fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| built::program("peace-loadtest"))
}

/// Somebody who measures, in a folder that is their own.
struct Bench {
    folder: Folder,
}

impl Bench {
    fn new() -> Self {
        // The embedded database's user has to get into what is below it.
        Self { folder: Folder::open_to_all() }
    }

    fn command<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new(program());
        command.args(args).env_clear().current_dir(self.folder.path());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("TMPDIR", self.folder.path()).env("XDG_RUNTIME_DIR", self.folder.path());
        command.stdin(Stdio::null());
        command
    }

    /// Runs it to its end; nothing may be left of it then.
    fn run<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Output {
        let output = self.command(args).output().unwrap();
        self.check_nothing_is_left();
        output
    }

    fn start<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Child {
        let mut command = self.command(args);
        command.process_group(0).stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    /// Measures on `database`, each load for so long, and answers the report.
    fn report<'a>(
        &self,
        database: &Database<'_>,
        duration: &'a str,
        args: impl IntoIterator<Item = &'a str>,
    ) -> Value {
        let url = database.url();
        let words = ["run", "--out", "report", "--duration", duration, "--database-url", &url];
        let args: Vec<&str> = args.into_iter().collect();
        let output = self.run(words.into_iter().chain(SHORT).chain(args.iter().copied()));
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{args:?}: {told}");
        eprintln!("{args:?}:\n{}", String::from_utf8_lossy(&output.stdout));
        self.read_report()
    }

    fn read_report(&self) -> Value {
        let text = fs::read_to_string(self.folder.path().join("report/report.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// Everything that was started in its folder, or below it.
    fn processes(&self) -> Vec<Process> {
        proc::working_in(self.folder.path()).collect()
    }

    fn check_nothing_is_left(&self) {
        until_true("no process is left", LEAVE, || self.processes().is_empty());
        until_true("no scratch folder is left", LEAVE, || {
            let entries = fs::read_dir(self.folder.path()).unwrap().flatten();
            !entries
                .into_iter()
                .any(|entry| entry.file_name().to_string_lossy().starts_with("peace-loadtest-"))
        });
    }
}

/// An empty database for it.
fn empty<'a>(turn: &'a Turn) -> Database<'a> {
    Database::blank(turn)
}

/// The runs of a report under a load, as its JSON has it.
fn runs<'a>(report: &'a Value, load: &Value) -> Vec<&'a Value> {
    let runs = report["runs"].as_array().unwrap();
    runs.iter().filter(|run| run["load"] == *load).collect()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("a number: {value}"))
}

/// Answers of a run, those after its end included.
fn answered(run: &Value) -> u64 {
    run["traffic"]["ok"].as_u64().unwrap() + run["traffic"]["late"].as_u64().unwrap()
}

fn errors(run: &Value) -> u64 {
    run["traffic"]["errors"].as_object().unwrap().values().filter_map(Value::as_u64).sum()
}
