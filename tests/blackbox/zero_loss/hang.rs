//! Workers that hang, and those that only seem to.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{SOON, await_spinning, launch, short_or_long, start_usual, usual};
use crate::harness::load::{Load, LoadShape, Tally};
use crate::harness::peace::signal_to;
use crate::harness::wait::{pause, until_true};
use crate::harness::{Connection, Database, Network, Peace, Turn, get, proc};

/// When a silent worker gets no new connections any more.
const STEERED: Duration = Duration::from_millis(1_500);

/// 500 fresh connections.
fn five_hundred(peace: &Peace) -> LoadShape {
    let seconds = short_or_long(5, 10);
    let limit = Duration::from_secs(seconds.into());
    LoadShape { fresh_per_s: 500 / seconds, kept_clients: 0, limit, ..usual(peace) }
}

/// What has to be true of the load that began when `slot` hung at `since`, and of the slot.
fn check_hang(peace: &Peace, slot: i32, since: Instant, mark: usize, tally: &Tally) {
    let silent = peace.await_event("it is seen to be silent", mark, SOON, |event| {
        event.is_worker("silent") && event.number_of("slot") == Some(slot)
    });
    let hung = peace.await_event("it is given up", mark, SOON, |event| {
        event.is_worker("hung") && event.number_of("slot") == Some(slot)
    });
    let ready = peace.await_event("the successor", hung.index, SOON, |event| {
        event.is_worker("ready") && event.number_of("slot") == Some(slot)
    });
    let after = tally.outcomes.iter().filter(|one| one.begun >= since + STEERED);
    let slowest_after = after.map(|one| one.took).max().unwrap_or_default();
    let [silent, hung, ready] = [silent, hung, ready].map(|event| event.at - since);
    eprintln!(
        "slot {slot}: silent at {silent:.2?}, hung at {hung:.2?}, replaced at {ready:.2?}; \
         the slowest request after {STEERED:?} took {slowest_after:.2?}"
    );
    tally.check_nothing_lost("a hung worker");
    assert!(tally.total() >= 490, "{tally}");
    assert!(silent <= STEERED, "{silent:?}");
    assert!(slowest_after < Duration::from_millis(500), "{slowest_after:?}");
    assert!(tally.slowest() < Duration::from_secs(2), "{tally}");
    assert!(hung < Duration::from_secs(4), "{hung:?}");
    assert!(ready < Duration::from_secs(6), "{ready:?}");
    let last = peace.ask(&get("/health/live"));
    assert_eq!(last.status, 200);
}

#[test]
fn a_stopped_worker_is_steered_around_and_replaced() {
    let network = Network::own();
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let peace = launch(&turn, &database, 2).args(["--timeout", "3s"]).serve();
    let shape = five_hundred(&peace);
    let worker = peace.workers()[&1];
    let (mark, since) = (peace.log().len(), Instant::now());
    signal_to(worker, Signal::SIGSTOP);
    let tally = Load::start(peace.address(), &shape).run_out();
    check_hang(&peace, 1, since, mark, &tally);
    network.check_nothing_lost("a stopped worker");
}

#[test]
fn a_spinning_worker_is_steered_around_and_replaced() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let launch = launch(&turn, &database, 2).env("PEACE_FAULTS", "1");
    let peace = launch.args(["--timeout", "3s"]).serve();
    let shape = five_hundred(&peace);
    let workers = peace.workers();
    let pids: Vec<i32> = workers.values().copied().collect();
    let mut spinning = Connection::open(peace.address()).unwrap();
    let mark = peace.log().len();
    spinning.begin(&get("/debug/spin?ms=30000")).unwrap();
    let mut worker = None;
    until_true("a worker has the request", SOON, || {
        worker = proc::holder(peace.address(), spinning.local(), &pids);
        worker.is_some()
    });
    let worker = worker.unwrap();
    await_spinning(worker);
    let since = Instant::now();
    let tally = Load::start(peace.address(), &shape).run_out();
    let (slot, _) = workers.iter().find(|(_, pid)| **pid == worker).unwrap();
    check_hang(&peace, *slot, since, mark, &tally);
}

/// Checks that all workers are those that there were, and nobody was suspected to the end.
fn check_nobody_was_killed(peace: &Peace, mark: usize) {
    let events = peace.log().events();
    let is_bad = |name: &str| ["hung", "exited", "killed: over its deadline"].contains(&name);
    let bad: Vec<&str> = events[mark..]
        .iter()
        .filter(|event| event.text_of("message").is_some_and(is_bad))
        .map(|event| event.text.as_str())
        .collect();
    assert!(bad.is_empty(), "{bad:?}");
}

#[test]
fn a_busy_machine_is_no_reason_to_kill() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let peace = launch(&turn, &database, 4).args(["--timeout", "2s"]).serve();
    let load = Load::start(peace.address(), &LoadShape { fresh_per_s: 200, ..usual(&peace) });
    let (mark, over) = (peace.log().len(), AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    spin_loop();
                }
            });
        }
        pause(Duration::from_secs(short_or_long(6, 60)));
        over.store(true, Ordering::Relaxed);
    });
    load.stop().check_nothing_lost("beside four busy loops");
    check_nobody_was_killed(&peace, mark);
}

#[test]
fn a_supervisor_that_was_stopped_kills_nobody() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let peace = launch(&turn, &database, 4).args(["--timeout", "1s"]).serve();
    let load = start_usual(&peace);
    let mark = peace.log().len();
    peace.signal(Signal::SIGSTOP);
    pause(Duration::from_secs(short_or_long(3, 20)));
    peace.signal(Signal::SIGCONT);
    // It works again, and had the time to see whom it would.
    pause(Duration::from_secs(2));
    peace.signal(Signal::SIGHUP);
    check_nobody_was_killed(&peace, mark);
    peace.await_event("a roll", mark, SOON, |event| event.is("rolled"));
    load.stop().check_nothing_lost("a supervisor that was stopped");
}
