//! TERM under load: everything that came before it is answered.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{SOON, await_spinning, launch, usual};
use crate::harness::load::{Class, Kind, Load, LoadShape, Tally};
use crate::harness::wait::until_true;
use crate::harness::{Connection, Database, Peace, Turn, get, proc};

const GRACEFUL: Duration = Duration::from_secs(5);

fn serve(turn: &Turn, database: &Database<'_>) -> Peace {
    let launch = launch(turn, database, 4).env("PEACE_FAULTS", "1");
    launch.args(["--graceful-timeout", "5s"]).serve()
}

/// Many connections at once: a few are in the middle of their handshake when the stop begins.
fn start_dense(peace: &Peace) -> Load {
    Load::start(peace.address(), &LoadShape { fresh_per_s: 2_000, ..usual(peace) })
}

/// Nothing was lost but connections that were begun after `stop`, and refused.
fn check_stop(tally: &Tally, stop: Instant) {
    eprintln!("stop: {tally}");
    let bad: Vec<_> =
        tally.losses().filter(|loss| loss.class != Class::Refused || loss.begun < stop).collect();
    for loss in bad.iter().take(20) {
        let begun = loss.begun.saturating_duration_since(stop);
        eprintln!("lost, begun {begun:?} after the stop or before: {loss:?}");
    }
    assert!(bad.is_empty(), "{} were lost", bad.len());
    assert!(tally.count(Class::Refused) > 0, "the port was closed: {tally}");
}

#[test]
fn a_stop_under_load_answers_what_has_come() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let mut peace = serve(&turn, &database);
    let load = start_dense(&peace);
    let mut slow = Connection::open(peace.address()).unwrap();
    let sleep = get("/debug/sleep?ms=2000");
    slow.begin(&sleep).unwrap();
    // Until the load is at its height.
    until_true("the load runs", SOON, || load.begun() > 1_000);
    let stop = Instant::now();
    let ended = peace.stop(SOON);
    let took = stop.elapsed();
    let tally = load.stop();
    eprintln!("the stop took {took:?}, exit code {:?}", ended.code);
    check_stop(&tally, stop);
    assert_eq!(slow.finish(&sleep).unwrap().status, 200, "it was in flight");
    assert_eq!(ended.code, Some(0));
    assert!(took < GRACEFUL + Duration::from_secs(1), "{took:?}");
    assert!(tally.outcomes.iter().any(|one| one.kind == Kind::Kept), "{tally}");
}

#[test]
fn a_stop_in_the_middle_of_a_roll_answers_what_has_come() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let mut peace = serve(&turn, &database);
    let load = start_dense(&peace);
    until_true("the load runs", SOON, || load.begun() > 1_000);
    let mark = peace.log().len();
    peace.signal(Signal::SIGHUP);
    peace.await_event("half of the roll", mark, SOON, |event| {
        event.is_worker("ready") && event.number_of("slot") == Some(1)
    });
    let stop = Instant::now();
    let ended = peace.stop(SOON);
    let took = stop.elapsed();
    let tally = load.stop();
    eprintln!("the stop took {took:?}, exit code {:?}", ended.code);
    check_stop(&tally, stop);
    assert_eq!(ended.code, Some(0));
    assert!(took < GRACEFUL + Duration::from_secs(1), "{took:?}");
}

#[test]
fn a_stop_answers_who_is_in_the_queue() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let launch = launch(&turn, &database, 1).env("PEACE_FAULTS", "1");
    let mut peace = launch.args(["--graceful-timeout", "5s"]).serve();
    let address = peace.address();
    let mut busy = Connection::open(address).unwrap();
    let spin = get("/debug/spin?ms=2000");
    busy.begin(&spin).unwrap();
    await_spinning(peace.workers()[&0]);
    let live = get("/health/live");
    let mut queued: Vec<Connection> = (0..100)
        .map(|_| {
            let mut client = Connection::open(address).unwrap();
            client.begin(&live).unwrap();
            client
        })
        .collect();
    assert_eq!(proc::queues(address.port()), [100]);
    peace.signal(Signal::SIGTERM);
    assert_eq!(busy.finish(&spin).unwrap().status, 200);
    for client in &mut queued {
        let reply = client.finish(&live).unwrap();
        assert_eq!((reply.status, reply.header("connection")), (200, Some("close")));
    }
    assert_eq!(peace.end(SOON).code, Some(0));
}
