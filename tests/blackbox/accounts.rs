//! `--user`: who the workers are, and that they still belong to the supervisor.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use nix::unistd::{Uid, User, geteuid};

use crate::harness::wait::until_true;
use crate::harness::{Connection, Database, Launch, Peace, Turn, get, proc};

const SOON: Duration = Duration::from_secs(20);

/// The user whom the test's database lets in by its socket, if that is not root.
pub(crate) fn somebody(database: &Database<'_>) -> String {
    let config: tokio_postgres::Config = database.url().parse().unwrap();
    let [tokio_postgres::config::Host::Unix(folder), ..] = config.get_hosts() else {
        panic!("the test's database is at a socket")
    };
    let uid = fs::metadata(folder).unwrap().uid();
    User::from_uid(Uid::from_raw(uid)).unwrap().expect("a user with a name").name
}

/// Lines of a process's status, by name.
fn status(pid: i32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

fn check_powerless(peace: &Peace, uid: u32) {
    for (slot, worker) in peace.workers() {
        assert_eq!(status(worker, "Uid"), format!("{uid}\t{uid}\t{uid}\t{uid}"), "slot {slot}");
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(status(worker, set), "0000000000000000", "{set} of slot {slot}");
        }
        assert_eq!(status(worker, "NoNewPrivs"), "1", "slot {slot}");
        let groups = status(worker, "Groups");
        assert_eq!(groups.split_whitespace().count(), 1, "slot {slot}: {groups}");
    }
}

#[test]
fn workers_are_the_user_with_no_right_of_root_and_end_with_the_supervisor() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let launch = |user: &str| {
        let launch = Launch::on(&turn, &database).workers(2);
        launch.args(["--user", user]).env("PEACE_FAULTS", "1")
    };
    if !geteuid().is_root() {
        let ended = launch("root").run(SOON);
        assert_eq!(ended.code, Some(64), "{:?}", ended.lines);
        assert!(ended.lines.last().unwrap().contains("only root"), "{:?}", ended.lines);
        return;
    }
    let name = somebody(&database);
    let uid = User::from_name(&name).unwrap().unwrap().uid.as_raw();
    let mut peace = launch(&name).serve();
    check_powerless(&peace, uid);
    assert_eq!(status(peace.pid(), "Uid").split('\t').next(), Some("0"));
    // Sockets of one port have to be one user's.
    assert!(peace.ctl(["scale", "4", "--wait"]).status.success());
    assert!(peace.ctl(["reload", "--wait"]).status.success());
    assert_eq!(proc::listeners(peace.address().port()), 4);
    check_powerless(&peace, uid);
    assert_eq!(peace.ask(&get("/users")).status, 200);
    assert_eq!(peace.ask(&get("/health/ready")).status, 200);

    // One that cannot read that the supervisor is dead is told by the kernel.
    let mut spinning = Connection::open(peace.address()).unwrap();
    let workers: Vec<i32> = peace.workers().into_values().collect();
    let before: Vec<u64> = workers.iter().map(|worker| proc::cpu_ticks(*worker)).collect();
    spinning.begin(&get("/debug/spin?ms=60000")).unwrap();
    until_true("one spins", SOON, || {
        workers.iter().zip(&before).any(|(worker, ticks)| proc::cpu_ticks(*worker) >= ticks + 20)
    });
    peace.kill();
    peace.await_nothing_left(Duration::from_secs(5));
}

#[test]
fn an_account_that_cannot_be_had_is_refused_in_one_line() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    for (args, why) in [
        (&["--user", "no-such-user"][..], "user: there is no \"no-such-user\""),
        (&["--group", "root"], "group: without --user"),
        (&["--user", "root", "--group", "no-such-group"], "group: there is no \"no-such-group\""),
    ] {
        let launch = Launch::on(&turn, &database).args(args.iter().copied());
        let ended = launch.run(SOON);
        assert_eq!(ended.code, Some(64), "{:?}", ended.lines);
        assert!(ended.lines.len() == 1 && ended.lines[0].contains(why), "{:?}", ended.lines);
    }
}

#[test]
fn a_healthcheck_says_by_its_exit_code_whether_the_server_is_ready() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(1).serve();
    let bind = peace.address().to_string();
    let ask = |args: &[&str]| {
        let program = env!("CARGO_BIN_EXE_peace-supervisor");
        let output = peace.beside(program, ["healthcheck"].into_iter().chain(args.iter().copied()));
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(ask(&["--bind", &bind]), (Some(0), String::new()));
    assert_eq!(ask(&["--bind", &bind, "--live"]), (Some(0), String::new()));
    let (code, text) = ask(&["--bind", "127.0.0.1:1"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("no answer from 127.0.0.1:1"), "{text}");
    // A setting that is wrong is no answer of the server's.
    let (code, text) = ask(&["--bind", "nonsense"]);
    assert_eq!(code, Some(64), "{text}");
}
