//! The commands that only look, as people and as programs read them.

use serde_json::{Value, json};

use super::bench::Bench;
use super::stage::add;
use crate::harness::{Database, Turn};

fn three(turn: &Turn) -> Bench<'_> {
    let bench = Bench::new(turn);
    bench.revision(1, "aaaa", "none", "select 1", "select 2");
    bench.revision(2, "bbbb", "aaaa", "select 1", "select 2");
    add(&bench, (3, "cccc", "bbbb"), "-- allow-destructive: a test\n", "truncate pg_temp.t");
    bench
}

#[test]
fn what_people_read() {
    let turn = Turn::shared();
    let (database, bench) = (Database::blank(&turn), three(&turn));
    let run = |args: &[&str]| bench.run_on(&database, args).done();
    assert_eq!(run(&["current"]), "");
    run(&["upgrade", "bbbb"]);
    let lines = ["bbbb -> cccc (head), cccc\n", "aaaa -> bbbb, bbbb\n", "<base> -> aaaa, aaaa\n"];
    assert_eq!(run(&["history"]), lines.concat());
    assert_eq!(run(&["history", "-r", "aaaa:bbbb"]), lines[1..].concat());
    assert_eq!(run(&["history", "-r", "bbbb:"]), lines[..2].concat());
    assert_eq!(run(&["history", "-r", ":aaaa"]), lines[2]);
    assert_eq!(run(&["history", "-r", "-1:current"]), lines[1..].concat());
    assert_eq!(run(&["history", "-r", "bbbb"]), lines[1]);
    let marked = run(&["history", "-i", "-r", "bbbb:bbbb"]);
    assert_eq!(marked, "aaaa -> bbbb (current), bbbb\n");
    let verbose = run(&["history", "-v", "-r", "bbbb"]);
    let files = "    files     00000000000002_bbbb\n    checksum  sha256:";
    assert!(verbose.starts_with(&format!("{}{files}", lines[1])), "{verbose}");
    bench.run(&["history", "-r", "cccc:aaaa"]).failed(2, "FROM is after TO");
    assert_eq!(run(&["heads"]), "cccc (head)\n");

    let shown = bench.run(&["show", "bbbb"]).done();
    assert!(shown.starts_with("aaaa -> bbbb, bbbb\n"), "{shown}");
    for text in
        ["00000000000002_bbbb.up.sql:\n-- revision: bbbb\n", "\n\nselect 1\n", "\n\nselect 2\n"]
    {
        assert!(shown.contains(text), "{text}: {shown}");
    }
    assert_eq!(run(&["show", "current"]), shown);
    bench.run(&["show", "base"]).failed(2, "base is no revision");
    bench.run(&["show", "dddd"]).failed(2, "no revision begins with `dddd`");
}

#[test]
fn behind_the_head_a_check_of_heads_exits_3() {
    let turn = Turn::shared();
    let (database, bench) = (Database::blank(&turn), three(&turn));
    let current = || bench.run_on(&database, &["current", "--check-heads"]);
    current().failed(3, "not at the newest revision cccc");
    bench.run_on(&database, &["upgrade", "bbbb"]).done();
    let ran = current();
    assert_eq!(ran.out, "bbbb\n");
    ran.failed(3, "run `peace-migrate upgrade`");
    bench.run_on(&database, &["stamp", "head", "--force"]).done();
    assert_eq!(current().done(), "cccc (head)\n");
}

#[test]
fn what_programs_read() {
    let turn = Turn::shared();
    let (database, bench) = (Database::blank(&turn), three(&turn));
    bench.run_on(&database, &["upgrade", "bbbb"]).done();
    let read = |args: &[&str]| -> Value {
        let out = bench.run_on(&database, &[args, &["--json"]].concat()).out;
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    };
    let current = read(&["current", "--check-heads"]);
    assert_eq!(current["revision"], "bbbb");
    assert_eq!((&current["head"], &current["known"]), (&json!("cccc"), &json!(true)));
    assert_eq!(read(&["current", "-v"])["records"][0]["state"], "applied");
    let history = read(&["history", "-i", "-r", "bbbb:cccc"]);
    assert_eq!(history.as_array().unwrap().len(), 2);
    assert_eq!((&history[0]["head"], &history[1]["current"]), (&json!(true), &json!(true)));
    assert_eq!(read(&["heads"])[0]["revision"], "cccc");
    let shown = read(&["show", "head"]);
    assert_eq!(
        (&shown["revises"], &shown["allow_destructive"]),
        (&json!("bbbb"), &json!("a test"))
    );
    assert!(shown["up"]["sql"].as_str().unwrap().ends_with("truncate pg_temp.t\n"), "{shown}");
    let verdicts = read(&["verify"]);
    assert_eq!(verdicts[1]["verdict"], "ok");
    assert_eq!(verdicts[1]["recorded"], verdicts[1]["file"]);
    assert_eq!(read(&["repair", "aaaa"]), Value::Null);
}
