//! Workers that die, with connections in their queue.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{SOON, launch, short_or_long, usual};
use crate::harness::load::{Load, LoadShape};
use crate::harness::log::Event;
use crate::harness::peace::signal_to;
use crate::harness::wait::{pause, until_true};
use crate::harness::{Connection, Database, Network, Peace, Turn, get, proc};

/// A queue this long is a try.
const QUEUED_MIN: usize = 10;
/// Tries for each slot: a machine that stands still for a second lets a sibling empty the queue before.
const TRIES_MAX: usize = 5;

#[test]
fn the_queue_of_a_killed_worker_is_answered() {
    let network = Network::own();
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let peace = launch(&turn, &database, 4).serve();
    for slot in 0..4 {
        let was_tried = (0..TRIES_MAX).any(|_| kill_with_a_queue(&peace, slot) >= QUEUED_MIN);
        assert!(was_tried, "slot {slot}: never {QUEUED_MIN} in the queue: nothing was tried");
    }
    network.check_nothing_lost("the_queue_of_a_killed_worker_is_answered");
}

/// Stops the worker of `slot`, lets 200 clients come, and kills it: all are answered. Gives how many were in
/// its queue then.
fn kill_with_a_queue(peace: &Peace, slot: i32) -> usize {
    let (address, live) = (peace.address(), get("/health/live").header("connection", "close"));
    let worker = peace.workers()[&slot];
    signal_to(worker, Signal::SIGSTOP);
    let mut clients: Vec<Connection> = (0..200)
        .map(|_| {
            let mut client = Connection::open(address).unwrap();
            client.begin(&live).unwrap();
            client
        })
        .collect();
    // The others have accepted theirs; what is left waits for the one that is stopped, unless
    // a sibling takes it over meanwhile.
    let mut queued = 0;
    until_true("the others have emptied their queues", SOON, || {
        let queues = proc::queues(address.port());
        queued = queues.iter().sum();
        queues.iter().filter(|queue| **queue > 0).count() <= 1
    });
    let (mark, start) = (peace.log().len(), Instant::now());
    signal_to(worker, Signal::SIGKILL);
    let answers: Vec<_> = clients.iter_mut().map(|client| client.finish(&live)).collect();
    let good = answers.iter().filter(|one| one.as_ref().is_ok_and(|one| one.status == 200)).count();
    eprintln!(
        "slot {slot}: {queued} in the queue, {good} of 200 answered in {:?}",
        start.elapsed()
    );
    assert_eq!(good, 200, "{:?}", answers.iter().find(|answer| answer.is_err()));
    peace.await_event("the successor", mark, SOON, |event| {
        event.is_worker("ready") && event.number_of("slot") == Some(slot)
    });
    queued
}

/// Long enough for many, if they came without pauses.
fn duration() -> Duration {
    Duration::from_secs(short_or_long(8, 60))
}

#[test]
fn a_slot_whose_worker_cannot_boot_does_not_disturb_the_others() {
    let network = Network::own();
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let peace = launch(&turn, &database, 4).serve();
    let before = peace.workers();
    // No kept clients: those of the worker that dies first would be cut.
    let shape = LoadShape { kept_clients: 0, ..usual(&peace) };
    let (mark, start) = (peace.log().len(), Instant::now());
    signal_to(before[&2], Signal::SIGSTOP);
    let load = Load::start(peace.address(), &shape);
    signal_to(before[&2], Signal::SIGKILL);
    let mut seen = mark;
    while let Some(spawned) = next_spawned(&peace, seen, 2, start + duration()) {
        signal_to(spawned.number_of("pid").unwrap(), Signal::SIGKILL);
        seen = spawned.index + 1;
    }
    let tally = load.stop();
    let events = peace.log().events();
    let lines = events[mark..].iter().filter(|event| event.number_of("slot") == Some(2)).count();
    let spawned = events[mark..].iter().filter(|event| event.is_worker("spawned")).count();
    eprintln!("{spawned} respawns and {lines} lines in {:?}", start.elapsed());
    tally.check_nothing_lost("a slot that cannot boot");
    assert!((4..=8).contains(&spawned), "{spawned} respawns");
    assert!(lines <= 20, "{lines} lines");
    let after = peace.workers();
    assert!([0, 1, 3].iter().all(|slot| before[slot] == after[slot]), "{before:?} {after:?}");
    network.check_nothing_lost("a_slot_whose_worker_cannot_boot_does_not_disturb_the_others");
}

/// The next worker that is forked for `slot`, until then.
fn next_spawned(peace: &Peace, from: usize, slot: i32, until: Instant) -> Option<Event> {
    let is_it =
        |event: &&Event| event.is_worker("spawned") && event.number_of("slot") == Some(slot);
    while Instant::now() < until {
        if let Some(event) = peace.log().events()[from..].iter().find(is_it) {
            return Some(event.clone());
        }
        pause(Duration::from_millis(1));
    }
    None
}
