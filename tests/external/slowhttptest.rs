//! slowhttptest in its four modes at once, on the release build with one worker: every one of its
//! connections is cut at its deadline, and a normal client is answered all the while.
//!
//! What the tool says is read from its report (a row for each second) and from its last words. A client
//! that does not read cannot see that it was cut before it has read what the kernel keeps for it, so the
//! end of those is looked for in the worker.
//! Source: slowhttptest(1).

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::folder::Folder;
use crate::harness::wait::{pause, until_true};
use crate::harness::{Database, Launch, Peace, Turn, get};
use crate::wrk::release;

/// Of each mode, all within a second.
const CONNECTIONS: u64 = 200;
/// Until all have connected.
const BEGIN: Duration = Duration::from_secs(2);
/// What README publishes for a head, a body that stops, and an answer that nobody takes.
const LIMIT: Duration = Duration::from_secs(10);
/// How late a cut may come.
const LATE_MAX: Duration = Duration::from_secs(2);
/// For how long the tool goes on with those that are not cut, and the normal client at most.
const END: Duration = Duration::from_secs(20);
/// Between two requests of the normal client.
const PACE: Duration = Duration::from_millis(20);

/// A way to be slow: its options, and what the tool asks for with them.
struct Mode {
    name: &'static str,
    options: &'static str,
    target: &'static str,
    /// Whether the tool sees its connections end, and then ends itself.
    sees_end: bool,
    /// How soon, at the earliest, the first of them is cut.
    earliest: Duration,
}

const MODES: [Mode; 4] = [
    Mode { name: "headers", options: "-H -i 4", target: "/users", sees_end: true, earliest: LIMIT },
    Mode {
        name: "body",
        options: "-B -i 4 -s 8192 -x 10 -t POST -f application/json",
        target: "/users",
        sees_end: true,
        earliest: LIMIT,
    },
    // A range of a resource is not served, so each is answered at once.
    Mode {
        name: "range",
        options: "-R -t HEAD",
        target: "/users",
        sees_end: true,
        earliest: Duration::ZERO,
    },
    // Ten answers of 1.5 MB on each connection: more than the kernel takes over.
    Mode {
        name: "read",
        options: "-X -k 10 -n 2 -w 512 -y 1024 -z 32",
        target: "/docs/swagger-ui.js",
        sees_end: false,
        earliest: LIMIT,
    },
];

#[test]
fn four_kinds_of_slowhttptest_are_cut_in_time_beside_a_normal_client() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let launch = Launch::on(&turn, &database).program(release("peace-supervisor"));
    let peace = launch.workers(1).serve();
    let folder = Folder::new();
    let over = AtomicBool::new(false);
    let outputs = thread::scope(|scope| {
        let normal = scope.spawn(|| normal(&peace, &over));
        let attacks = MODES.each_ref().map(|mode| scope.spawn(|| attack(mode, &peace, &folder)));
        until_true("three of them have connected", BEGIN * 2, || {
            connections(&peace) >= 3 * CONNECTIONS
        });
        // The normal client has one, too.
        until_true("all are cut", BEGIN + LIMIT + LATE_MAX, || connections(&peace) <= 1);
        over.store(true, Ordering::Relaxed);
        let (answers, longest) = normal.join().unwrap();
        eprintln!("a normal client beside them: {answers} answers, none later than {longest:?}");
        attacks.map(|attack| attack.join().unwrap())
    });
    for (mode, output) in MODES.iter().zip(outputs) {
        check(mode, &output, &fs::read_to_string(report(&folder, mode, "csv")).unwrap());
    }
}

/// How many the worker has.
fn connections(peace: &Peace) -> u64 {
    let status = peace.ctl(["status", "--json"]);
    let status: Value = serde_json::from_slice(&status.stdout).expect("a status");
    status["workers"][0]["connections"].as_u64().expect("a number")
}

/// Everything that is asked on a connection of its own is answered; gives how many that were, and the
/// longest time that one took.
fn normal(peace: &Peace, over: &AtomicBool) -> (usize, Duration) {
    let (begin, mut answers, mut longest) = (Instant::now(), 0, Duration::ZERO);
    while !over.load(Ordering::Relaxed) && begin.elapsed() < END {
        let start = Instant::now();
        assert_eq!(peace.ask(&get("/users")).status, 200);
        (answers, longest) = (answers + 1, longest.max(start.elapsed()));
        pause(PACE);
    }
    (answers, longest)
}

fn attack(mode: &Mode, peace: &Peace, folder: &Folder) -> Output {
    Command::new("slowhttptest")
        .args(mode.options.split(' '))
        .args(["-c", &CONNECTIONS.to_string(), "-r", &CONNECTIONS.to_string()])
        .args(["-l", &END.as_secs().to_string(), "-p", "3", "-g", "-o"])
        .arg(report(folder, mode, ""))
        .args(["-u", &format!("http://{}{}", peace.address(), mode.target)])
        .output()
        .expect("slowhttptest is installed: tests/run --all sees to it")
}

/// The tool adds the extension.
fn report(folder: &Folder, mode: &Mode, extension: &str) -> PathBuf {
    folder.path().join(mode.name).with_extension(extension)
}

/// Its report has a row for each second: the second, how many are closed, pending and connected, and
/// whether its own probe was answered (0 where it was not).
fn check(mode: &Mode, output: &Output, report: &str) {
    let name = mode.name;
    let said = String::from_utf8_lossy(&output.stdout).replace('\u{1b}', "");
    let rows: Vec<Vec<u64>> = report.lines().skip(1).map(numbers).collect();
    let last_s = rows.last().expect("a row for each second")[0];
    eprintln!("{name}: ended after {last_s} s: {:?}", rows.last());
    assert!(output.status.success(), "{name}: {output:?}");
    assert!(rows.iter().all(|row| row[4] > 0), "{name}: the probe was not answered\n{report}");
    let first_cut_s = rows.iter().find(|row| row[1] > 0).map_or(last_s, |row| row[0]);
    assert!(first_cut_s >= mode.earliest.as_secs(), "{name}: cut early\n{report}");
    if mode.sees_end {
        assert!(said.contains("No open connections left"), "{name}: {said}");
        let latest = BEGIN + LIMIT + LATE_MAX;
        assert!(last_s <= latest.as_secs(), "{name}: cut late\n{report}");
    }
}

fn numbers(row: &str) -> Vec<u64> {
    row.split(',').map(|field| field.parse().expect("a number")).collect()
}
