//! Clients that others' generators make of the API document: they pass the type checkers of their
//! languages, and what a real server answers is what they say it is.
//!
//! The document is the one that the server serves. What is asked stands in `clients/`, the same for
//! each language: users, tokens, items, pages, and a problem of each sort. The generators and
//! checkers are pinned in `requirements.txt` and `clients/typescript/package-lock.json`; npm keeps
//! what it has fetched once.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::harness::folder::Folder;
use crate::harness::{Database, Launch, Peace, Turn, get};
use crate::openapi::{told, tool};

const CLIENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/external/clients");
const STOP: Duration = Duration::from_secs(15);
/// So many requests each language makes at least, the one for the document apart.
const CALLS_MIN: usize = 20;

#[test]
fn a_generated_python_client_passes_mypy_and_makes_twenty_calls() {
    try_client("python", |folder, url| {
        let mut generate = tool("openapi-python-client", folder);
        generate.args(["generate", "--path", "openapi.json", "--config", "generator.yaml"]);
        generate.args(["--meta", "none", "--output-path", "generated", "--fail-on-warning"]);
        run(&mut generate);
        run(tool("mypy", folder).args(["--strict", "calls.py"]));
        run(tool("python", folder).args(["calls.py", url]));
    });
}

#[test]
fn a_generated_typescript_client_passes_tsc_and_makes_twenty_calls() {
    try_client("typescript", |folder, url| {
        run(tool("npm", folder).args(["ci", "--ignore-scripts", "--prefer-offline", "--no-audit"]));
        let npx = ["exec", "--offline", "--"];
        let types = ["openapi-typescript", "openapi.json", "--output", "schema.d.ts"];
        run(tool("npm", folder).args(npx).args(types));
        run(tool("npm", folder).args(npx).args(["tsc", "--project", "."]));
        run(tool("node", folder).args(["calls.ts", url]));
    });
}

/// Lets `steps` work in a folder that has the language's files and the document of a server, whose
/// URL they are told, and counts what that server was asked.
fn try_client(language: &str, steps: impl Fn(&Folder, &str)) {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let mut peace = Launch::on(&turn, &database).workers(2).serve();
    let folder = Folder::new();
    copy(&Path::new(CLIENTS).join(language), &folder);
    folder.write("openapi.json", &document(&peace));
    steps(&folder, &format!("http://{}", peace.address()));
    let ended = peace.stop(STOP);
    let asked = ended.lines.iter().filter(|line| line.contains(r#""target":"access""#)).count() - 1;
    assert!(asked >= CALLS_MIN, "{asked} requests");
    eprintln!("{language}: {asked} requests");
}

fn document(peace: &Peace) -> String {
    String::from_utf8(peace.ask(&get("/openapi.json")).body).unwrap()
}

fn copy(from: &Path, to: &Folder) {
    for file in fs::read_dir(from).unwrap().map(Result::unwrap) {
        if file.path().is_file() {
            fs::copy(file.path(), to.path().join(file.file_name())).unwrap();
        }
    }
}

#[track_caller]
fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", told(&output));
}
