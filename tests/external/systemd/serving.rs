//! Starts, reloads, upgrades, restarts and stops, under load where there can be any.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::machine::api;
use super::{SOON, await_state, installed, is_ready, load, more, programs, status, workers};
use crate::harness::load::Class;
use crate::harness::wait::{until, until_true};
use crate::harness::{Connection, Database, Turn, get};

#[test]
fn it_is_active_when_every_worker_accepts() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let machine = installed(&database);
    // A worker prepares its statements before it is ready, and has to wait for the table.
    let sql = database.sql();
    sql.run(r#"begin; lock table "user" in access exclusive mode"#);
    let asked = Instant::now();
    machine.run("systemctl start --no-block peace");
    let between = until("workers that boot", SOON, || {
        let asked = "peace-supervisor ctl --control /run/peace/control.sock status --json";
        let status: Value = serde_json::from_slice(&machine.output(asked).stdout).ok()?;
        (status["workers"].as_array()?.len() == 3).then_some(status)
    });
    assert_eq!(machine.property("peace", "ActiveState"), "activating");
    assert_eq!(between["ready"], 0, "{between}");
    let was_there = Instant::now();
    let start = Instant::now();
    sql.run("commit");
    await_state(&machine, "peace", "active");
    eprintln!("active {:.2?} after the workers could go on", start.elapsed());
    let least = was_there.elapsed();
    let now = status(&machine);
    assert_eq!(now["ready"], 3);
    // By a clock that a machine may have for itself.
    let (age, most) = (now["age_s"].as_f64().expect("a number"), asked.elapsed());
    eprintln!("{age:.2} s old, between {least:.2?} and {most:.2?}");
    let tick = 0.02;
    assert!(age >= least.as_secs_f64() - tick && age <= most.as_secs_f64() + tick, "{now}");
    assert!(is_ready());
    assert_eq!(machine.property("peace", "StatusText"), "3 workers serve");
}

#[test]
fn a_reload_under_load_loses_nothing_and_one_that_fails_says_so() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let machine = installed(&database);
    // Only in development a worker can be made to fail.
    let drop_in = "/etc/systemd/system/peace.service.d/faults.conf";
    machine.write(drop_in, "[Service]\nEnvironment=PEACE_ENV=development\n");
    machine.run("systemctl daemon-reload && systemctl start peace");
    let (first, main) = (workers(&machine), machine.property("peace", "MainPID"));
    let load = load();
    let start = Instant::now();
    machine.run("systemctl reload peace");
    let (took, second) = (start.elapsed(), workers(&machine));
    eprintln!("systemctl reload took {took:.2?}");
    assert!(first.iter().all(|pid| !second.contains(pid)), "{first:?} {second:?}");
    more(&load);

    // A wrong setting, and a worker that cannot boot.
    machine.append("/etc/peace/peace.toml", "timeout = \"soon\"");
    let refused = |reason: &str| {
        let output = machine.output("systemctl reload peace");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let journal = machine.journal("peace");
        assert!(journal.contains(reason), "{reason}: {journal}");
        assert_eq!(workers(&machine).len(), 3, "all slots are served");
        assert_eq!(machine.property("peace", "ActiveState"), "active");
    };
    refused("timeout");
    machine.run("sed -i '/^timeout/d' /etc/peace/peace.toml");
    machine.append("/etc/peace/peace.toml", "faults = \"boot-exit:1\"");
    refused("slot 1");
    machine.run("sed -i '/^faults/d' /etc/peace/peace.toml");
    machine.run("systemctl reload peace");
    assert_eq!(machine.property("peace", "MainPID"), main);
    more(&load);
    load.stop().check_nothing_lost("a reload, two that fail, and another");
    machine.network.check_nothing_lost("reloads");
}

/// How long the manager waits for one that is silent.
const LIMIT: Duration = Duration::from_secs(2);
/// How long a worker waits for clients that say nothing. Three of them take longer than one extension lasts.
const GRACE: Duration = Duration::from_secs(6);
const ONE_EXTENSION: Duration = Duration::from_secs(15);

/// Clients that have asked once, and stay, so many that each worker has some.
fn idle() -> Vec<Connection> {
    let client = |_| {
        let mut connection = Connection::open(api()).expect("nobody is refused");
        assert_eq!(connection.send(&get("/health/live")).unwrap().status, 200);
        connection
    };
    (0..48).map(client).collect()
}

#[test]
fn a_reload_and_a_stop_may_take_longer_than_the_manager_waits_for_one_that_is_silent() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let machine = installed(&database);
    let seconds = LIMIT.as_secs();
    let limits = format!("[Service]\nTimeoutStartSec={seconds}\nTimeoutStopSec={seconds}\n");
    machine.write("/etc/systemd/system/peace.service.d/limits.conf", &limits);
    let grace = format!("s/^keepalive-grace.*/keepalive-grace = \"{}s\"/", GRACE.as_secs());
    machine.run(&format!("sed -i '{grace}' /etc/peace/peace.toml && systemctl daemon-reload"));
    machine.run("systemctl start peace");
    let first = workers(&machine);
    let clients = idle();
    let load = load();
    let start = Instant::now();
    machine.run("systemctl reload peace");
    let took = start.elapsed();
    eprintln!("limits of {LIMIT:?}: a reload took {took:.2?}");
    assert!(took > ONE_EXTENSION, "{took:?}");
    let second = workers(&machine);
    assert!(first.iter().all(|pid| !second.contains(pid)), "{first:?} {second:?}");
    more(&load);
    load.stop().check_nothing_lost("a long reload");
    drop(clients);

    let clients = idle();
    let start = Instant::now();
    machine.run("systemctl stop peace");
    let took = start.elapsed();
    eprintln!("limits of {LIMIT:?}: a stop took {took:.2?}");
    assert!(took > LIMIT * 2, "{took:?}");
    assert_eq!(machine.property("peace", "Result"), "success");
    drop(clients);
}

#[test]
fn another_release_takes_over_in_the_same_process() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let machine = installed(&database);
    machine.run("systemctl start peace");
    let (first, main) = (workers(&machine), machine.property("peace", "MainPID"));
    let next = env!("CARGO_PKG_VERSION").replace(|c: char| c.is_ascii_digit(), "8");
    machine.run("mkdir /srv/next");
    for program in ["peace-supervisor", "peace-migrate"] {
        let to = machine.path(&format!("/srv/next/{program}"));
        let script = format!("s/{}/{next}/g", env!("CARGO_PKG_VERSION").replace('.', r"\."));
        let mut sed = Command::new("sed");
        sed.env("LC_ALL", "C").arg(script).arg(programs().join(program));
        assert!(sed.stdout(std::fs::File::create(to).unwrap()).status().unwrap().success());
    }
    machine.run("chmod 755 /srv/next/*");
    let load = load();
    let told = machine.run("deploy/systemd/install --from /srv/next");
    assert!(told.contains("ctl upgrade --wait"), "{told}");
    let start = Instant::now();
    machine.run("peace-supervisor ctl --control /run/peace/control.sock upgrade --wait");
    eprintln!("the upgrade took {:.2?}", start.elapsed());
    more(&load);
    load.stop().check_nothing_lost("an upgrade");
    machine.network.check_nothing_lost("an upgrade");
    let status = status(&machine);
    assert_eq!(status["version"], next.as_str(), "{status}");
    assert!(workers(&machine).iter().all(|pid| !first.contains(pid)));
    assert_eq!(machine.property("peace", "MainPID"), main);
    assert_eq!(machine.property("peace", "NRestarts"), "0");
    // The manager goes on with it as before.
    machine.run("systemctl reload peace");
    machine.run("systemctl stop peace");
    assert_eq!(machine.property("peace", "Result"), "success");
}

#[test]
fn a_restart_refuses_nobody_since_the_manager_keeps_the_sockets() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let machine = installed(&database);
    machine.run("systemctl start peace");
    let main = machine.property("peace", "MainPID");
    let load = load();
    let start = Instant::now();
    machine.run("systemctl restart peace");
    eprintln!("systemctl restart took {:.2?}", start.elapsed());
    assert_ne!(machine.property("peace", "MainPID"), main);
    more(&load);
    let tally = load.stop();
    tally.check_nothing_lost("a restart");
}

#[test]
fn a_stop_under_load_answers_what_has_come_and_leaves_nothing() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let machine = installed(&database);
    machine.run("systemctl start peace");
    assert!(machine.processes("peace.service").len() >= 4);
    let load = load();
    let stop = Instant::now();
    machine.run("systemctl stop peace");
    let took = stop.elapsed();
    let tally = load.stop();
    eprintln!("systemctl stop took {took:.2?}: {tally}");
    let before: Vec<_> = tally.losses().filter(|loss| loss.begun < stop).collect();
    assert!(before.is_empty(), "they had come before: {before:?}");
    // The manager's copies of the sockets are closed last: what waits there by then is reset, one for each worker
    // where the kernel lets only root filter.
    assert!(tally.count(Class::Reset) <= 3, "{tally}");
    assert_eq!(tally.count(Class::Wrong) + tally.count(Class::TimedOut), 0, "{tally}");
    assert!(tally.count(Class::Ok) > 100 && tally.count(Class::Refused) > 0, "{tally}");
    assert_eq!(machine.processes("peace.service"), [0; 0]);
    assert_eq!(machine.property("peace", "ActiveState"), "inactive");
    assert_eq!(machine.property("peace", "Result"), "success");
    assert!(took < Duration::from_secs(10), "{took:?}");
    until_true("nobody is at the database", SOON, || {
        let count = "select count(*) from pg_stat_activity where datname = $1";
        database.sql_beside().value::<i64>(count, &[&database.name()]) == 0
    });
}
