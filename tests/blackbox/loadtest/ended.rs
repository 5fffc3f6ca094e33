//! What a signal leaves: whole rounds, or nothing; never a process.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::process::Child;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Bench, LEAVE, SHORT, empty};
use crate::harness::Turn;
use crate::harness::wait::until_true;

/// More rounds than anybody waits for.
const LONG: [&str; 8] =
    ["--workers", "1,2", "--rounds", "100", "--rate", "100", "--duration", "500ms"];

/// Reads what it says until a line has this in it.
fn await_line(child: &mut Child, what: &str) {
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut seen = Vec::new();
    for line in lines.map_while(Result::ok) {
        if line.contains(what) {
            return;
        }
        seen.push(line);
    }
    panic!("it never said '{what}', but: {seen:?}");
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
}

#[test]
fn an_interruption_keeps_the_rounds_that_were_whole() {
    let turn = Turn::shared();
    let database = empty(&turn);
    let bench = Bench::new();
    let url = database.url();
    let words = ["run", "--out", "report", "--database-url", &url];
    let mut child = bench.start(words.into_iter().chain(SHORT).chain(LONG));
    await_line(&mut child, "round 2 of 100");
    signal(&child, Signal::SIGINT);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    bench.check_nothing_is_left();
    let report = bench.read_report();
    let rounds: Vec<_> =
        report["runs"].as_array().unwrap().iter().map(|run| &run["round"]).collect();
    assert_eq!(rounds, [0, 0], "two counts, one whole round");
    let warning = report["warnings"][0].as_str().unwrap();
    assert!(warning.contains("1 of 100 rounds"), "{warning}");
}

#[test]
fn killed_it_takes_everything_with_it() {
    let _turn = Turn::shared();
    let bench = Bench::new();
    let words = ["run", "--out", "report"];
    let mut child = bench.start(words.into_iter().chain(SHORT).chain(LONG));
    await_line(&mut child, "round 1 of 100");
    let processes = bench.processes().len();
    // The supervisor, its workers, PostgreSQL and its own, a generator.
    assert!(processes > 5, "{processes}");
    signal(&child, Signal::SIGKILL);
    child.wait().unwrap();
    bench.check_nothing_is_left();
}

#[test]
fn an_interruption_is_obeyed_while_a_server_starts_too() {
    let turn = Turn::shared();
    let database = empty(&turn);
    let bench = Bench::new();
    let url = database.url();
    let words = ["run", "--without-peace", "--rate", "100", "--database-url", &url, "--command"];
    // It says that it is there when it is there, and never answers.
    let mut child = bench.start(words.into_iter().chain(["echo {port} > port; exec sleep 300"]));
    until_true("the server starts", LEAVE, || bench.folder.path().join("port").exists());
    signal(&child, Signal::SIGINT);
    until_true("it ends", LEAVE, || child.try_wait().unwrap().is_some());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    bench.check_nothing_is_left();
}

/// The first one cannot be obeyed: a database that says nothing is being waited for.
#[test]
fn a_second_signal_is_obeyed_at_once() {
    let bench = Bench::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://a@{}/b", silent.local_addr().unwrap());
    let mut child = bench.start(["run", "--database-url", &url]);
    let connection = silent.accept().unwrap();
    for _ in 0..2 {
        signal(&child, Signal::SIGTERM);
        let status = format!("/proc/{}/status", child.id());
        until_true("the signal is taken", LEAVE, || {
            let status = fs::read_to_string(&status).unwrap_or_default();
            !status.lines().any(|line| line.starts_with("ShdPnd") && !line.ends_with("0000"))
        });
    }
    until_true("it ends", LEAVE, || child.try_wait().unwrap().is_some());
    assert_eq!(child.wait().unwrap().signal(), Some(Signal::SIGTERM as i32));
    drop(connection);
    bench.check_nothing_is_left();
}

/// The server does not come back for its third round.
#[test]
fn a_failure_keeps_the_rounds_that_were_whole() {
    let turn = Turn::shared();
    let database = empty(&turn);
    let bench = Bench::new();
    let command = format!(
        "n=$(cat starts || echo 0); echo $((n + 1)) > starts; [ $n -lt 2 ] || exit 7; \
         exec {} --bind 127.0.0.1:{{port}}",
        env!("CARGO_BIN_EXE_peace-supervisor")
    );
    let url = database.url();
    let words = ["run", "--out", "report", "--without-peace", "--rounds", "3", "--rate", "50"];
    let more = ["--duration", "300ms", "--database-url", &url, "--command", &command];
    let output = bench.run(words.into_iter().chain(more).chain(SHORT));
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("exit status: 7"), "{told}");
    let report = bench.read_report();
    let rounds: Vec<_> =
        report["runs"].as_array().unwrap().iter().map(|run| &run["round"]).collect();
    assert_eq!((rounds, &report["card"]["rounds"]), (vec![&0.into(), &1.into()], &2.into()));
    let warning = report["warnings"][0].as_str().unwrap();
    assert!(warning.contains("2 of 3 rounds"), "{warning}");
}
