//! The server as a unit of a real systemd: what the manager and the server promise one another, with the units and
//! the installer that are shipped.
//!
//! Each test boots a machine of its own, installs as README says, and looks from outside. Tests are alone on the
//! real machine: most of them offer load, and count what is lost.

/// What ends, and comes back.
mod failing;
/// Units, installer and README, as they are.
mod installed;
/// Log files, and who rotates them.
mod logs;
/// A machine with a real systemd.
mod machine;
/// Secrets that are changed.
mod rotation;
/// Starts, reloads, upgrades and stops that lose nothing.
mod serving;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;

use self::machine::{Machine, api};
use crate::harness::cluster::Cluster;
use crate::harness::load::{Call, Load, LoadShape};
use crate::harness::wait::until_true;
use crate::harness::{Database, get};

const SOON: Duration = Duration::from_secs(30);
/// They must stand nowhere else than in their files.
const JWT_SECRET: &str = "an-ordinary-secret-of-forty-two-characters";
const PASSWORD: &str = "an-ordinary-password";
/// Few, so that a kept connection is not waited for longer than the load takes to come again.
const SETTINGS: &str = "workers = 3\nkeepalive-grace = \"500ms\"\naccess-log = \"off\"\n";

/// A machine on which the server is installed, and may be started.
fn installed(database: &Database<'_>) -> Machine {
    installed_at(&Cluster::shared().socket_folder(), database)
}

/// The same with the database that is reached in this folder.
fn installed_at(socket_folder: &str, database: &Database<'_>) -> Machine {
    let machine = Machine::boot(programs(), socket_folder);
    machine.run("deploy/systemd/install");
    let url = format!("postgres://peace:{PASSWORD}@%2Frun%2Fpostgresql/{}", database.name());
    for file in ["database-url", "migrate-database-url"] {
        machine.append(&format!("/etc/peace/{file}"), &url);
    }
    machine.append("/etc/peace/jwt-secret-key", JWT_SECRET);
    machine.append("/etc/peace/peace.toml", SETTINGS);
    machine
}

/// What cargo has built for these tests, without what only debuggers read: a machine keeps them in memory.
fn programs() -> &'static Path {
    static PROGRAMS: OnceLock<PathBuf> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        let built = Path::new(env!("CARGO_BIN_EXE_peace-supervisor")).parent().unwrap();
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("systemd");
        fs::create_dir_all(&folder).unwrap();
        for program in ["peace-supervisor", "peace-migrate"] {
            let mut strip = Command::new("strip");
            strip.arg("-o").arg(folder.join(program)).arg(built.join(program));
            assert!(strip.status().expect("it comes with the linker").success());
        }
        folder
    })
}

/// What `ctl` answers in a machine.
fn status(machine: &Machine) -> Value {
    let told = machine.run("peace-supervisor ctl --control /run/peace/control.sock status --json");
    serde_json::from_str(&told).expect("JSON")
}

/// The processes of its workers, in the order of their slots, as the machine numbers them.
fn workers(machine: &Machine) -> Vec<i64> {
    let status = status(machine);
    let workers = status["workers"].as_array().expect("a list").iter();
    workers.map(|worker| worker["pid"].as_i64().expect("a number")).collect()
}

/// Many connections that come and go, half of them to the database, and a few that stay.
fn load() -> Load {
    let shape = LoadShape {
        fresh: vec![Call::get("/users", 200), Call::get("/health/live", 200)],
        fresh_per_s: 300,
        kept: Call::post("/auth/refresh", "refresh_token=bad", 401),
        kept_clients: 16,
        kept_per_s: 8,
        patience: Duration::from_secs(10),
        limit: Duration::from_secs(120),
    };
    let load = Load::start(api(), &shape);
    more(&load);
    load
}

/// Waits until it has gone on for a while.
fn more(load: &Load) {
    let begun = load.begun();
    until_true("the load is at work", SOON, || load.begun() > begun + 200);
}

fn is_ready() -> bool {
    get("/health/ready").fresh(api()).is_ok_and(|reply| reply.status == 200)
}

fn await_state(machine: &Machine, unit: &str, state: &str) {
    until_true(state, SOON, || machine.property(unit, "ActiveState") == state);
}
