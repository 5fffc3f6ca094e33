//! The supervisor is killed: nothing is left of its family, and nothing is lost that was promised.
//!
//! Fifty times, with the embedded PostgreSQL, whose server has to go too and whose data has to be
//! whole: half of the kills right after the start, at every step of it, half under load.

use std::net::TcpListener;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::wait::{pause, until_true};
use crate::harness::{Launch, Peace, Turn, get, post};

/// How long anything may outlive the supervisor.
const GONE: Duration = Duration::from_secs(1);
const START: Duration = Duration::from_secs(30);
const KILLS_AT_START: usize = 25;
const KILLS_UNDER_LOAD: usize = 25;

#[test]
fn nothing_outlives_a_killed_supervisor_and_no_acknowledged_row_is_lost() {
    let turn = Turn::alone();
    let mut peace = Launch::embedded(&turn).workers(2).start();
    let slowest = kill_at_start(&mut peace);
    eprintln!("{KILLS_AT_START} kills at start: all gone after at most {slowest:?}");

    let mut rows = Vec::new();
    let mut slowest = Duration::ZERO;
    for round in 0..KILLS_UNDER_LOAD {
        peace.await_serving();
        rows.extend(kill_under_load(&mut peace, round));
        slowest = slowest.max(gone_after(&mut peace));
        await_port(&peace);
        peace.start_again();
    }
    eprintln!(
        "{KILLS_UNDER_LOAD} kills under load: all gone after at most {slowest:?}, \
         {} rows acknowledged",
        rows.len()
    );

    peace.await_serving();
    for row in &rows {
        assert_eq!(peace.ask(&get(row)).status, 200, "{row} was acknowledged");
    }
    assert_eq!(peace.stop(START).code, Some(0));
}

/// A script's background job ignores QUIT and INT, and hands that on to whatever it starts. The server
/// has to hear the QUIT of its supervisor's death all the same, also before it has handlers.
#[test]
fn a_server_started_by_a_background_job_goes_too() {
    let turn = Turn::alone();
    let mut peace = Launch::embedded(&turn).workers(1).ignoring_quit_and_int().serve();
    for _ in 0..20 {
        peace.kill();
        gone_after(&mut peace);
        peace.start_again();
        peace.await_event("the server is about to start", 0, START, |event| {
            event.is("spawned") && event.text_of("name") == Some("postgres")
        });
    }
}

/// Kills it at its first log line, at its second, and so on; and between the lines.
///
/// The first rounds meet initdb at work, the later ones PostgreSQL in recovery.
fn kill_at_start(peace: &mut Peace) -> Duration {
    let mut slowest = Duration::ZERO;
    for round in 0..KILLS_AT_START {
        if round % 5 == 4 {
            pause(Duration::from_millis(4 * round as u64));
        } else {
            // One line further with each round, as far as there are lines.
            let line = round - round / 5;
            let reached = peace.await_event("a start's log line", 0, START, |event| {
                event.index == line || event.is("serving")
            });
            assert!(reached.text.starts_with('{'), "the start was refused: {}", reached.text);
        }
        peace.kill();
        slowest = slowest.max(gone_after(peace));
        peace.start_again();
    }
    slowest
}

/// Kills it while four clients create users. Answers where those are that it said it had created.
fn kill_under_load(peace: &mut Peace, round: usize) -> Vec<String> {
    let address = peace.address();
    let (rows, count) = (Mutex::new(Vec::new()), AtomicUsize::new(0));
    let killed = AtomicBool::new(false);
    thread::scope(|scope| {
        for client in 0..4 {
            let (rows, count, killed) = (&rows, &count, &killed);
            scope.spawn(move || {
                for number in 0.. {
                    let name = format!("r{round}-c{client}-{number}");
                    let user = json!({"name": name, "password": "pass word"});
                    match post("/users").json(&user).fresh(address) {
                        Ok(reply) if reply.status == 201 => {
                            let place = reply.header("location").expect("201 says where");
                            rows.lock().unwrap().push(place.to_owned());
                            count.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok(reply) => assert_eq!(reply.status, 503, "only the end may refuse"),
                        Err(_) if killed.load(Ordering::Relaxed) => return,
                        Err(error) => panic!("before the kill: {error}"),
                    }
                }
            });
        }
        until_true("some rows were acknowledged", START, || {
            count.load(Ordering::Relaxed) > round % 7
        });
        killed.store(true, Ordering::Relaxed);
        peace.kill();
    });
    rows.into_inner().unwrap()
}

/// How long it took until nothing was left, not even a hold on the database.
fn gone_after(peace: &mut Peace) -> Duration {
    let start = Instant::now();
    peace.await_nothing_left(GONE);
    drop(peace.embedded().lock().expect("the next copy may use the database"));
    let took = start.elapsed();
    assert!(took < GONE, "the database was held for {took:?}");
    took
}

/// The port can be bound again, by anybody.
fn await_port(peace: &Peace) {
    let address = peace.address();
    drop(TcpListener::bind(address).unwrap_or_else(|error| panic!("{address}: {error}")));
}
