//! What ends, and comes back; and what does not, since another try would not help.

use std::thread;
use std::time::{Duration, Instant};

use super::machine::{Machine, api};
use super::{SOON, await_state, installed, installed_at, is_ready, workers};
use crate::harness::cluster::Cluster;
use crate::harness::wait::{pause, until_true};
use crate::harness::{Connection, Database, Request, Turn, get};

/// As many as peace.socket has lines: it opens them as root, and nobody else may add one to them.
fn two_workers(machine: &Machine) {
    machine.run("sed -i 's/^workers = .*/workers = 2/' /etc/peace/peace.toml");
}

/// A client that has asked, and waits.
fn come(request: &Request) -> Connection {
    let mut client = Connection::open(api()).expect("nobody is refused");
    client.begin(request).expect("the kernel takes it");
    client
}

/// Kills the supervisor, and whoever connects until another one is there is answered.
fn kill_and_connect(machine: &Machine, what: &str) {
    let kill = Instant::now();
    machine.run("systemctl kill --signal=KILL --kill-whom=main peace");
    until_true("nobody is there", SOON, || machine.processes("peace.service").is_empty());
    let request = get("/users");
    let gap: Vec<Connection> = (0..100).map(|_| come(&request)).collect();
    let connected = kill.elapsed();
    assert!(machine.processes("peace.service").is_empty(), "all came while nobody was there");
    let answers = gap.into_iter().map(|mut connection| {
        thread::spawn({
            let request = request.clone();
            move || connection.finish(&request).map(|reply| reply.status)
        })
    });
    let answers: Vec<_> = answers.collect::<Vec<_>>().into_iter().map(|one| one.join()).collect();
    let good = answers.iter().filter(|one| matches!(one, Ok(Ok(200)))).count();
    eprintln!(
        "{what}: {good} of 100 that connected within {connected:.2?} of the kill were answered \
         within {:.2?} of it",
        kill.elapsed()
    );
    assert_eq!(good, 100, "{answers:?}");
    await_state(machine, "peace", "active");
    assert_eq!(machine.property("peace", "NRestarts"), "1");
    machine.network.check_nothing_lost(what);
}

#[test]
fn who_connects_while_the_supervisor_is_dead_is_answered_by_the_next() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let machine = installed(&database);
    machine.run("systemctl start peace");
    kill_and_connect(&machine, "killed, its sockets kept by the manager");
}

#[test]
fn who_connects_to_a_socket_unit_is_answered_by_the_next() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let machine = installed(&database);
    two_workers(&machine);
    machine.run("systemctl start peace.socket");
    // The first one who comes starts the server.
    assert_eq!(machine.property("peace", "ActiveState"), "inactive");
    let first = Instant::now();
    assert_eq!(get("/health/live").fresh(api()).unwrap().status, 200);
    eprintln!("the first one, who starts the server, waits for {:.2?}", first.elapsed());
    await_state(&machine, "peace", "active");
    assert_eq!(workers(&machine).len(), 2);
    kill_and_connect(&machine, "killed, sockets of peace.socket");
}

#[test]
fn a_server_that_clients_start_is_given_up_when_it_cannot_be() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let machine = installed(&database);
    // More workers than the unit has lines, which are root's.
    machine.run("systemctl start peace.socket");
    let request = get("/health/live");
    let mut client = come(&request);
    let mend = "give their unit a ListenStream= more for each worker, or choose --workers 2";
    until_true(mend, SOON, || machine.journal("peace").contains(mend));
    two_workers(&machine);
    assert_eq!(client.finish(&request).unwrap().status, 200, "the next try serves");
    await_state(&machine, "peace", "active");

    // A wrong setting: clients alone would have it tried for ever.
    machine.append("/etc/peace/peace.toml", "timeout = \"soon\"");
    machine.run("systemctl stop peace && journalctl --rotate && journalctl --vacuum-time=1us");
    let start = Instant::now();
    let mut client = come(&request);
    await_state(&machine, "peace.socket", "failed");
    assert_eq!(machine.property("peace.socket", "Result"), "trigger-limit-hit");
    let journal = machine.journal("peace");
    let tries = journal.matches("Starting peace.service").count();
    eprintln!("peace.socket gives up after {tries} tries, within {:.2?}", start.elapsed());
    assert!((1..=10).contains(&tries), "{journal}");
    assert!(client.finish(&request).is_err(), "nobody waits for ever");
    assert!(Connection::open(api()).is_err(), "and who comes is told");
    machine.run("sed -i '/^timeout/d' /etc/peace/peace.toml");
    // The manager counts for ten seconds.
    until_true("the sockets are open again", SOON, || {
        machine.output("systemctl restart peace.socket").status.success()
            && request.fresh(api()).is_ok_and(|reply| reply.status == 200)
    });
    eprintln!("and serves again {:.2?} after the first of them", start.elapsed());
    assert_eq!(machine.property("peace.socket", "ActiveState"), "active");
}

#[test]
fn workers_that_all_hang_are_the_watchdogs_case() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let machine = installed(&database);
    let drop_in = "/etc/systemd/system/peace.service.d/soon.conf";
    machine.write(drop_in, "[Service]\nWatchdogSec=3s\n");
    machine.run("systemctl daemon-reload && systemctl start peace");
    let main = machine.property("peace", "MainPID");
    let hung = workers(&machine);
    let pids: Vec<String> = hung.iter().map(i64::to_string).collect();
    let start = Instant::now();
    machine.run(&format!("kill -STOP {}", pids.join(" ")));
    // Who comes meanwhile waits.
    let request = get("/users");
    let mut client = come(&request);
    until_true("another one", SOON, || machine.property("peace", "MainPID") != main);
    await_state(&machine, "peace", "active");
    eprintln!("WatchdogSec=3s: all workers hang, and {:.2?} later others serve", start.elapsed());
    assert!(is_ready());
    assert_eq!(client.finish(&request).unwrap().status, 200);
    let journal = machine.journal("peace");
    assert!(journal.contains("Watchdog timeout"), "{journal}");
    let now = workers(&machine);
    assert!(now.len() == 3 && now.iter().all(|pid| !hung.contains(pid)), "{hung:?} {now:?}");
    assert_eq!(machine.property("peace", "NRestarts"), "1");
}

#[test]
fn a_database_that_comes_up_late_is_waited_for() {
    let turn = Turn::alone();
    let cluster = Cluster::start(&[("unix_socket_permissions", "0777")]);
    let database = Database::migrated_in(&cluster);
    let machine = installed_at(&cluster.socket_folder(), &database);
    cluster.stop();
    let late = Duration::from_secs(60);
    machine.run("systemctl start --no-block peace");
    let start = Instant::now();
    pause(late);
    assert!(!is_ready());
    let tries = machine.property("peace", "NRestarts");
    cluster.resume();
    let up = Instant::now();
    until_true("it serves", SOON, is_ready);
    await_state(&machine, "peace", "active");
    eprintln!(
        "the database came {:.1?} late, after {tries} restarts; {:.2?} later the API is ready",
        start.elapsed() - up.elapsed(),
        up.elapsed()
    );
    let journal = machine.journal("peace");
    assert!(journal.contains("status=69/UNAVAILABLE"), "{journal}");
    drop((machine, database, turn));
}

/// Longer than the time in which the manager counts how often clients start the server.
#[test]
fn who_waits_at_a_socket_unit_for_a_late_database_is_answered() {
    let turn = Turn::alone();
    let cluster = Cluster::start(&[("unix_socket_permissions", "0777")]);
    let database = Database::migrated_in(&cluster);
    let machine = installed_at(&cluster.socket_folder(), &database);
    cluster.stop();
    two_workers(&machine);
    machine.run("systemctl start peace.socket");
    let request = get("/users");
    let mut client = come(&request);
    pause(Duration::from_secs(15));
    assert_eq!(machine.property("peace.socket", "SubState"), "running", "it waits with the client");
    let tries = machine.property("peace", "NRestarts");
    cluster.resume();
    assert_eq!(client.finish(&request).unwrap().status, 200);
    eprintln!("a client waited for the database while the server was tried {tries} times more");
    assert!(tries.parse::<u32>().unwrap() >= 3, "{tries}");
    drop((machine, database, turn));
}

#[test]
fn what_is_wrong_or_missing_is_said_in_one_line_and_not_tried_again() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let machine = installed(&database);
    let refused = |reason: &str| {
        let output = machine.output("systemctl start peace");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert_eq!(machine.property("peace", "ActiveState"), "failed");
        assert_eq!(machine.property("peace", "ExecMainStatus"), "64");
        assert_eq!(machine.property("peace", "NRestarts"), "0");
        let journal =
            machine.run("journalctl --no-pager --output=cat --identifier=peace-supervisor");
        let told: Vec<&str> = journal.lines().collect();
        eprintln!("{}", told.join("\n"));
        assert!(told.len() == 1 && told[0].contains(reason), "{told:?}");
        machine.run("journalctl --rotate && journalctl --vacuum-time=1us 2>/dev/null");
    };
    machine.run("cp /etc/peace/jwt-secret-key /srv/kept && : > /etc/peace/jwt-secret-key");
    refused("jwt-secret-key (credential): an empty file; write the secret into it");
    machine.run("rm /etc/peace/jwt-secret-key");
    refused("jwt-secret-key (credential): an empty file; write the secret into it");
    machine.run("cp /srv/kept /etc/peace/jwt-secret-key");
    machine.append("/etc/peace/peace.toml", "timeout = \"soon\"");
    refused("timeout");
    machine.run("sed -i '/^timeout/d' /etc/peace/peace.toml");
    machine.run("systemctl start peace");
    assert!(is_ready());
}
