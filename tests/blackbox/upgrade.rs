//! USR2 and `ctl upgrade`: another program takes the place of the running one, in the same process, and
//! nobody notices; or it cannot, and nobody notices either.
//!
//! The programs are copies of the real one that call themselves by other versions, under one name that is
//! moved from one to the other, as a deployment does it.

/// Programs that count other things.
mod layouts;
/// Programs that cannot take over.
mod refused;
/// Signals in the middle of it.
mod signals;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::load::Class;
use crate::harness::wait::until_true;
use crate::harness::{Database, Launch, Network, Peace, Turn, get, proc};
use crate::zero_loss::start_usual;

const SOON: Duration = Duration::from_secs(20);
const PROGRAM: &str = env!("CARGO_BIN_EXE_peace-supervisor");
/// What the server is started as.
const NAME: &str = "peace-supervisor";

/// A server that is started by a name in its folder, which can be another program's soon.
fn launch(turn: &Turn, database: &Database<'_>, workers: usize) -> Launch {
    let launch = crate::zero_loss::launch(turn, database, workers);
    let name = launch.folder().path().join(NAME);
    symlink(PROGRAM, &name).expect("a link to the program");
    launch.program(name)
}

/// Gives the name to another program.
fn install(peace: &Peace, program: &Path) {
    let name = peace.folder().join(NAME);
    let next = peace.folder().join("next");
    symlink(program, &next).expect("a link to the program");
    fs::rename(next, name).expect("a link can be replaced");
}

/// A copy of the program that calls itself by another version.
fn copy_of_version(peace: &Peace, version: &str) -> PathBuf {
    let ours = env!("CARGO_PKG_VERSION").replace('.', r"\.");
    altered(peace, version, &format!("s/{ours}/{version}/g"))
}

/// A copy of the program in which texts are replaced by others of the same length.
fn altered(peace: &Peace, name: &str, script: &str) -> PathBuf {
    let copy = peace.folder().join(format!("release-{name}"));
    let file = fs::File::create(&copy).expect("the copy can be written");
    let mut sed = Command::new("sed");
    sed.env("LC_ALL", "C").arg(script).arg(PROGRAM).stdout(file);
    assert!(sed.status().expect("sed runs").success());
    let mode = fs::metadata(PROGRAM).expect("the program is there").permissions();
    fs::set_permissions(&copy, mode).expect("it is ours");
    copy
}

/// What `ctl status` says.
pub(crate) fn status(peace: &Peace) -> Value {
    let output = peace.ctl(["status", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Upgrades, waits for the end, and says how long it took.
fn upgrade(peace: &Peace) -> Duration {
    let start = Instant::now();
    let output = peace.ctl(["upgrade", "--wait"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}\n{}", peace.log().tail());
    start.elapsed()
}

/// The sum of all samples of the admin process whose name and labels begin so.
fn counted(peace: &Peace, name: &str) -> usize {
    let reply = get("/metrics").fresh(peace.admin_address()).expect("it answers");
    assert_eq!(reply.status, 200, "{reply:?}");
    let text = String::from_utf8(reply.body).expect("metrics are text");
    let samples = text.lines().filter(|line| line.starts_with(name));
    let values = samples.map(|line| line.rsplit_once(' ').expect("a value").1);
    values.map(|value| value.parse::<f64>().expect("a number")).sum::<f64>() as usize
}

/// Requests of the usual load that have a duration.
fn counted_load(peace: &Peace) -> usize {
    let route = |labels: &str| {
        counted(peace, &format!("http_server_request_duration_seconds_count{{{labels}"))
    };
    route(r#"method="GET",route="/users/{pubid}",status="200"#)
        + route(r#"method="GET",route="/health/live",status="200"#)
        + route(r#"method="POST",route="/auth/refresh",status="401"#)
}

/// The processes of the supervisor's children.
fn children(peace: &Peace) -> BTreeSet<i32> {
    proc::children(peace.pid()).into_iter().collect()
}

#[test]
fn upgrades_lose_nothing_and_keep_the_process_and_its_sockets() {
    let network = Network::own();
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let settings = ["--pid-file", "pid", "--admin-bind", "127.0.0.1:0"];
    let mut peace = launch(&turn, &database, 2).args(settings).serve();
    let releases = [copy_of_version(&peace, "9.9.1"), copy_of_version(&peace, "9.9.2")];
    let (pid, port) = (peace.pid(), peace.address().port());
    let sockets = proc::listening_inodes(port);
    let descriptors = proc::descriptors(pid);
    let counted_before = counted_load(&peace);
    let load = start_usual(&peace);
    let (mut took, mut last) = (Vec::new(), 0);
    for round in 0..20 {
        let before = children(&peace);
        install(&peace, &releases[round % 2]);
        took.push(upgrade(&peace));
        let status = status(&peace);
        assert_eq!(status["version"], format!("9.9.{}", round % 2 + 1));
        assert_eq!((&status["pid"], &status["ready"]), (&pid.into(), &2.into()));
        until_true("every child is of the new program", SOON, || {
            let now = children(&peace);
            now.len() == 3 && now.is_disjoint(&before)
        });
        assert_eq!(proc::listening_inodes(port), sockets, "the sockets are the same");
        until_true("no descriptor was left open or lost", SOON, || {
            proc::descriptors(pid) == descriptors
        });
        let now = counted_load(&peace);
        assert!(now >= last, "{last} requests, then {now}");
        last = now;
    }
    eprintln!("upgrades: {took:.2?}");
    let tally = load.stop();
    tally.check_nothing_lost("upgrades");
    // What the application has counted is carried from program to program, and nothing twice.
    let answered = tally.count(Class::Ok);
    until_true("all are counted", SOON, || counted_load(&peace) - counted_before >= answered);
    assert_eq!(counted_load(&peace) - counted_before, answered);
    let rolled = || counted(&peace, r#"peace_rolls_total{result="ok"}"#);
    until_true("and so are rolls", SOON, || rolled() == 20);
    network.check_nothing_lost("upgrades_lose_nothing_and_keep_the_process_and_its_sockets");
    let written = fs::read_to_string(peace.folder().join("pid")).unwrap();
    assert_eq!(written.trim(), pid.to_string());
    assert_eq!(peace.second_copy(SOON).code, Some(71), "the pid file still keeps others out");
    assert_eq!(peace.stop(SOON).code, Some(0));
    assert!(!peace.folder().join("pid").exists(), "a clean end leaves none");
}

#[test]
fn an_embedded_database_serves_on_under_the_new_program() {
    let turn = Turn::shared();
    let launch = Launch::embedded(&turn).workers(1);
    let name = launch.folder().path().join(NAME);
    symlink(PROGRAM, &name).unwrap();
    let mut peace = launch.program(name).serve();
    let postgres = |peace: &Peace| {
        let status = status(peace);
        (status["children"][0]["name"].clone(), status["children"][0]["pid"].clone())
    };
    let before = postgres(&peace);
    let next = copy_of_version(&peace, "9.9.1");
    install(&peace, &next);
    upgrade(&peace);
    upgrade(&peace);
    assert_eq!(postgres(&peace), before, "it was not touched");
    install(&peace, &layouts::other_layout(&peace));
    upgrade(&peace);
    upgrade(&peace);
    assert_eq!(postgres(&peace), before, "nor forgotten by a program that counts other things");
    assert_eq!(peace.ask(&get("/users")).status, 200);
    assert_eq!(peace.stop(SOON).code, Some(0), "and it ends with the supervisor");
}
