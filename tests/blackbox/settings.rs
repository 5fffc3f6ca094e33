//! The command line, beside serving: what it shows, and that it needs no database for that.

use std::process::Output;

use crate::harness::{Launch, Turn};

fn run(launch: Launch, args: &[&str]) -> (Output, String, String) {
    let output = launch.args(args.iter().copied()).output();
    let stdout = String::from_utf8(output.stdout.clone()).unwrap();
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    (output, stdout, stderr)
}

/// The row of a setting in `config show`, its columns joined by one space.
fn row(shown: &str, name: &str) -> String {
    let row = shown.lines().find(|line| line.split_whitespace().next() == Some(name));
    let columns: Vec<&str> = row.unwrap_or_default().split_whitespace().collect();
    columns.join(" ")
}

#[test]
fn sources_rank_from_the_flag_to_the_default_and_each_is_named() {
    let turn = Turn::shared();
    let launch = Launch::bare(&turn)
        .env("PEACE_WORKERS", "2")
        .env("PEACE_BACKLOG", "100")
        .env("PEACE_TIMEOUT", "11s");
    launch.folder().write(".env", "PEACE_BACKLOG=200\nPEACE_POOL_SIZE=7\nPEACE_TIMEOUT=12s\n");
    launch
        .folder()
        .write("peace.toml", "pool-size = 8\nboot-timeout = \"20s\"\ntimeout = \"13s\"\n");
    let args = ["config", "show", "--config", "peace.toml", "--workers", "3"];
    let (output, shown, _) = run(launch, &args);
    assert!(output.status.success());
    for wanted in [
        "workers 3 flag",
        "backlog 100 environment PEACE_BACKLOG",
        "pool-size 7 .env",
        "boot-timeout 20s file peace.toml",
        "graceful-timeout 30s default",
        "timeout 11s environment PEACE_TIMEOUT",
    ] {
        let name = wanted.split(' ').next().unwrap();
        assert_eq!(row(&shown, name), wanted);
    }
}

#[test]
fn secrets_are_hidden_wherever_they_come_from() {
    let turn = Turn::shared();
    let launch = Launch::bare(&turn)
        .env("DATABASE_URL", "postgres://ann:secret-word@db.example/peace?sslmode=disable")
        .env("JWT_SECRET_KEY_FILE", "key");
    launch.folder().write("key", "another-secret-word-of-32-bytes-or-more\n");
    let (output, shown, told) = run(launch, &["config", "show"]);
    assert!(output.status.success());
    assert!(!shown.contains("secret-word") && !told.contains("secret-word"), "{shown}{told}");
    assert!(shown.contains("db.example"), "the rest of the URL is no secret: {shown}");
    assert!(row(&shown, "jwt-secret-key").contains("(hidden)"), "{shown}");
}

#[test]
fn check_reports_every_problem_at_once() {
    let turn = Turn::shared();
    let launch = Launch::bare(&turn).env("PEACE_WORKERS", "many").env("PEACE_BIND", "nowhere");
    launch.folder().write(".env", "PEACE_TIMEOUT=soon\n");
    let (output, _, told) = run(launch, &["config", "check", "--pool-size", "0"]);
    assert_eq!(output.status.code(), Some(64), "{told}");
    assert_eq!(told.lines().count(), 4, "{told}");
    for name in ["PEACE_WORKERS", "PEACE_BIND", "PEACE_TIMEOUT", "--pool-size"] {
        assert!(told.lines().any(|line| line.contains(name)), "{name} is missing in:\n{told}");
    }
}

#[test]
fn check_passes_what_is_good() {
    let turn = Turn::shared();
    let (output, said, told) = run(Launch::bare(&turn), &["config", "check", "--workers", "2"]);
    assert!(output.status.success(), "{told}");
    assert!(said.contains("good"), "{said}");
}

#[test]
fn completions_know_the_flags() {
    let turn = Turn::shared();
    for shell in ["bash", "zsh", "fish"] {
        let (output, script, told) = run(Launch::bare(&turn), &["completions", shell]);
        assert!(output.status.success(), "{shell}: {told}");
        for flag in ["graceful-timeout", "pool-size", "admin-bind"] {
            assert!(script.contains(flag), "{shell} does not know {flag}");
        }
    }
}

#[test]
fn routes_are_listed() {
    let turn = Turn::shared();
    let (output, routes, _) = run(Launch::bare(&turn), &["routes"]);
    assert!(output.status.success());
    assert!(routes.contains("/users/{pubid}") && routes.contains("/auth/token"), "{routes}");
}

#[test]
fn help_and_version_are_no_errors() {
    let turn = Turn::shared();
    let (help, text, _) = run(Launch::bare(&turn), &["--help"]);
    assert!(help.status.success() && text.contains("--workers"), "{text}");
    let (version, text, _) = run(Launch::bare(&turn), &["--version"]);
    assert!(version.status.success());
    assert_eq!(text.trim(), concat!("peace-supervisor ", env!("CARGO_PKG_VERSION")));
}
