//! HUP under load.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{Census, SOON, fewest_ready, launch, short_or_long, start_usual};
use crate::harness::load::Tally;
use crate::harness::peace::signal_to;
use crate::harness::wait::pause;
use crate::harness::{Database, Network, Peace, Turn, proc};

/// Rolls, and checks that every worker is another process then.
fn roll(peace: &Peace) -> Duration {
    let (before, mark, start) = (peace.workers(), peace.log().len(), Instant::now());
    peace.signal(Signal::SIGHUP);
    peace.await_event("the roll ends", mark, SOON, |event| event.is("rolled"));
    let after = peace.workers();
    assert!(before.iter().all(|(slot, pid)| after[slot] != *pid), "{before:?} {after:?}");
    start.elapsed()
}

#[test]
fn rolls_lose_nothing() {
    let network = Network::own();
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let peace = launch(&turn, &database, 4).serve();
    let load = start_usual(&peace);
    let census = Census::of(&peace);
    let (pace, whole) = (Duration::from_secs(4), Duration::from_secs(short_or_long(9, 60)));
    let start = Instant::now();
    let mut rolls = Vec::new();
    while start.elapsed() < whole {
        rolls.push(roll(&peace));
        // The long version keeps the pace that others were measured at.
        pause(short_or_long(Duration::ZERO, pace.saturating_sub(*rolls.last().unwrap())));
    }
    let (least, most) = census.end();
    let tally: Tally = load.stop();
    let fewest = fewest_ready(&peace.log().events());
    eprintln!("rolls: {rolls:.2?}; {least} to {most} processes, at least {fewest} ready");
    tally.check_nothing_lost("rolls");
    assert!(rolls.len() >= short_or_long(3, 12), "{rolls:?}");
    assert!(fewest >= 4, "only {fewest} were ready");
    assert!(least >= 4 && most <= 5, "{least} to {most} worker processes");
    network.check_nothing_lost("rolls_lose_nothing");
}

/// Asks for a reload, which has to fail for `reason` and leave the workers that there were.
fn reload_in_vain(peace: &Peace, before: &BTreeMap<i32, i32>, reason: &str) {
    let failed = peace.ctl(["reload", "--wait"]);
    let told = String::from_utf8_lossy(&failed.stderr);
    eprintln!("{}", told.trim_end());
    assert_eq!(failed.status.code(), Some(1), "{told}");
    assert!(told.contains(reason), "{told}");
    let children: BTreeSet<i32> = proc::children(peace.pid()).into_iter().collect();
    assert_eq!(children, before.values().copied().collect(), "{told}");
}

#[test]
fn reloads_that_fail_leave_the_old_workers_alone() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let launch = launch(&turn, &database, 4).args(["--boot-timeout", "2s"]);
    let file = launch.folder().path().join(".env");
    fs::write(&file, "").unwrap();
    let peace = launch.serve();
    let before = peace.workers();
    let load = start_usual(&peace);
    fs::write(&file, "PEACE_TIMEOUT=soon").unwrap();
    reload_in_vain(&peace, &before, "PEACE_TIMEOUT");
    fs::write(&file, "PEACE_FAULTS=boot-exit:0").unwrap();
    reload_in_vain(&peace, &before, "slot 0");
    // A worker that never gets ready: it is stopped as soon as it is there.
    fs::write(&file, "").unwrap();
    let mark = peace.log().len();
    thread::scope(|scope| {
        scope.spawn(|| reload_in_vain(&peace, &before, "slot 0"));
        let spawned =
            peace.await_event("the successor", mark, SOON, |event| event.is_worker("spawned"));
        signal_to(spawned.number_of("pid").unwrap(), Signal::SIGSTOP);
    });
    load.stop().check_nothing_lost("reloads that fail");
}
