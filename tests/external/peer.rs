//! README's comparison in short: our server and the one of FastAPI, SQLAlchemy and asyncpg, measured in
//! turns on one database, and the page that comes of it.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::chromium::Chromium;
use crate::harness::built::program;
use crate::harness::folder::Folder;
use crate::harness::{Database, Turn};
use crate::page;

const PEER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/load/peers/fastapi");
/// For numbers that nobody reads.
const SHORT: &str =
    "--workers 1,2 --rounds 1 --duration 500ms --warm-up 200ms --users 40 --items 160";

#[test]
fn the_peer_answers_what_ours_does_and_the_page_shows_both() {
    let turn = Turn::alone();
    let database = Database::blank(&turn);
    let folder = Folder::open_to_all();
    let python = std::env::var("PEACE_TEST_PYTHON").expect("`tests/run --all` sets this");
    let serve = format!(
        "{python}/bin/python -m uvicorn --app-dir {PEER} app:app --port {{port}} \
         --workers {{workers}} --no-access-log"
    );
    let measured = Command::new(program("peace-loadtest"))
        .args(["run", "--scenario", "mixed", "--out", "report", "--name", "FastAPI"])
        .args(["--command", &serve, "--database-url", &database.url()])
        .args(SHORT.split(' '))
        .current_dir(folder.path())
        .env("TMPDIR", folder.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&measured.stderr);
    assert!(measured.status.success(), "{told}");
    eprintln!("{}", String::from_utf8_lossy(&measured.stdout));
    let report = folder.path().join("report");
    check_all_is_right(&report.join("report.json"));
    page::check(&mut Chromium::start(), &report.join("report.html"), 1200, "a real report");
}

/// Every answer of both, at every load.
fn check_all_is_right(report: &Path) {
    let report: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    let names: Vec<&str> = report["series"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["Peace", "FastAPI"]);
    let runs = report["runs"].as_array().unwrap();
    // Two servers with two numbers of workers, at a peak, three parts of it, and the common rate.
    assert_eq!(runs.len(), 20);
    for run in runs {
        assert_eq!(run["traffic"]["errors"], serde_json::json!({}), "{run}");
        assert!(run["traffic"]["ok"].as_u64() > Some(10), "{run}");
    }
}
