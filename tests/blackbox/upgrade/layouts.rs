//! Upgrades to a program that counts other things: every new resource makes one. Its scoreboard is another one,
//! and yet nobody is ever told that no worker serves.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use serde_json::Value;

use super::{SOON, altered, counted, install, launch, status, upgrade};
use crate::harness::wait::{until, until_true};
use crate::harness::{Database, Launch, Peace, Turn, get};

/// A copy of the program in which one metric has another name: so its layout has another number.
pub(super) fn other_layout(peace: &Peace) -> PathBuf {
    altered(peace, "other-layout", "s/peace_shed_connections/peace_shut_connections/g")
}

/// Asks the admin process all the time whether requests may come.
struct Readiness {
    over: Arc<AtomicBool>,
    looks: Arc<AtomicUsize>,
    asking: JoinHandle<Vec<String>>,
}

impl Readiness {
    fn watch(admin: SocketAddr) -> Self {
        let (over, looks) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (seen_over, counted) = (Arc::clone(&over), Arc::clone(&looks));
        let asking = thread::spawn(move || {
            let mut refused = Vec::new();
            let begun = Instant::now();
            while !seen_over.load(Ordering::Relaxed) && begun.elapsed() < 6 * SOON {
                // One admin process follows the other: a connection that is just open may be closed.
                if let Ok(reply) = get("/health/ready").fresh(admin)
                    && reply.status != 200
                {
                    refused.push(format!("{reply:?}"));
                }
                counted.fetch_add(1, Ordering::Relaxed);
            }
            refused
        });
        Self { over, looks, asking }
    }

    /// It was never told that they may not.
    fn check(self) {
        let looks = self.looks.load(Ordering::Relaxed);
        until_true("another look", SOON, || self.looks.load(Ordering::Relaxed) > looks + 1);
        self.over.store(true, Ordering::Relaxed);
        let refused = self.asking.join().expect("the thread ends");
        assert_eq!(refused, [""; 0]);
    }
}

/// Slot, process, state and number of every worker.
fn workers(status: &Value) -> Vec<(i64, i64, String, i64)> {
    let worker = |worker: &Value| {
        let number = |field: &str| worker[field].as_i64().unwrap_or_default();
        let state = worker["state"].as_str().unwrap_or_default().to_owned();
        (number("slot"), number("pid"), state, number("generation"))
    };
    status["workers"].as_array().expect("a list").iter().map(worker).collect()
}

fn admin_status(peace: &Peace) -> Value {
    // One admin process follows the other: a connection that is just open may be closed.
    let ask = || get("/status").fresh(peace.admin_address()).ok();
    until("a status", SOON, ask).json()
}

fn live(peace: &Peace, count: usize) {
    for _ in 0..count {
        assert_eq!(peace.ask(&get("/health/live")).status, 200);
    }
}

const LIVE: &str =
    r#"http_server_request_duration_seconds_count{method="GET",route="/health/live",status="200"}"#;
const BEGUN: &str = "peace_requests_begun_total";

fn with_admin(launch: Launch) -> Launch {
    launch.args(["--admin-bind", "127.0.0.1:0"])
}

#[test]
fn a_program_that_counts_other_things_begins_at_zero_and_is_ready_all_the_time() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let mut peace = with_admin(launch(&turn, &database, 2)).serve();
    live(&peace, 20);
    until_true("all are counted", SOON, || counted(&peace, LIVE) == 20);
    let begun = counted(&peace, BEGUN);
    let readiness = Readiness::watch(peace.admin_address());
    install(&peace, &other_layout(&peace));
    let mark = peace.log().len();
    upgrade(&peace);
    let zero = |event: &crate::harness::log::Event| {
        event.text_of("message").is_some_and(|text| text.starts_with("counts begin at zero"))
    };
    peace.await_event("it is told", mark, SOON, zero);
    readiness.check();
    until_true("the admin process is its own", SOON, || {
        counted(&peace, "peace_shut_connections_total") == 0 && counted(&peace, LIVE) == 0
    });
    live(&peace, 3);
    until_true("it counts", SOON, || counted(&peace, LIVE) == 3);
    // What the supervisor itself counts goes on.
    assert_eq!(counted(&peace, BEGUN), begun + 3);
    let rolled = || counted(&peace, r#"peace_rolls_total{result="ok"}"#);
    until_true("the roll is told", SOON, || rolled() == 1);
    let now = workers(&status(&peace));
    assert!(now.iter().all(|(_, _, state, number)| state == "ready" && *number == 2), "{now:?}");
    assert_eq!(peace.stop(SOON).code, Some(0));
}

#[test]
fn one_whose_workers_cannot_start_leaves_the_old_one_and_its_counts_as_they_were() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let launch = with_admin(launch(&turn, &database, 2));
    let file = launch.folder().path().join(".env");
    fs::write(&file, "").unwrap();
    let mut peace = launch.serve();
    live(&peace, 20);
    until_true("all are counted", SOON, || counted(&peace, LIVE) == 20);
    let (begun, before) = (counted(&peace, BEGUN), workers(&status(&peace)));
    let readiness = Readiness::watch(peace.admin_address());
    install(&peace, &other_layout(&peace));
    fs::write(&file, "PEACE_FAULTS=boot-exit:0").unwrap();
    let mark = peace.log().len();
    let output = peace.ctl(["upgrade", "--wait"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("PEACE_FAULTS lets the worker of slot 0 exit at boot"), "{told}");
    fs::write(&file, "").unwrap();
    readiness.check();

    let after = status(&peace);
    assert_eq!(workers(&after), before, "nobody was replaced");
    assert_eq!(after["last_reload"]["ok"], false, "{after}");
    until_true("the admin process is the old program's", SOON, || {
        workers(&admin_status(&peace)) == before
    });
    live(&peace, 5);
    until_true("all are counted", SOON, || counted(&peace, LIVE) == 25);
    assert_eq!(counted(&peace, BEGUN), begun + 5);
    let rolls = |result: &str| counted(&peace, &format!("peace_rolls_total{{result={result:?}}}"));
    assert_eq!((rolls("ok"), rolls("failed")), (0, 1));
    assert_eq!(counted(&peace, r#"peace_workers{state="ready"}"#), 2);
    let rolled = |event: &crate::harness::log::Event| event.is("rolled");
    assert!(!peace.log().events()[mark..].iter().any(rolled), "what failed is not told as done");

    // Both ways, as often as wanted.
    upgrade(&peace);
    until_true("the admin process is the new one's", SOON, || rolls("ok") == 1);
    assert_eq!(workers(&status(&peace)).len(), 2);
    assert_eq!(peace.stop(SOON).code, Some(0));
}
