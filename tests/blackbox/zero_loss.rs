//! Fresh connections and kept ones, all the time, while workers are rolled, killed, hung, scaled and
//! stopped: no request is lost.
//!
//! Each test takes seconds. `PEACE_TEST_LONG=1` makes them as long as a measurement asks for.

/// Workers that die with connections in their queue.
mod crash;
/// Workers that hang.
mod hang;
/// The client itself: that it sees what it is to see.
mod honest;
/// Reloads.
mod roll;
/// More workers, fewer workers, and every signal at random.
mod scale;
/// Graceful stops.
mod stop;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::harness::load::{Call, Load, LoadShape};
use crate::harness::log::Event;
use crate::harness::wait::{pause, until_true};
use crate::harness::{Database, Launch, Peace, Turn, api, proc};

const SOON: Duration = Duration::from_secs(10);

/// Whether the tests are to take their time.
fn is_long() -> bool {
    std::env::var_os("PEACE_TEST_LONG").is_some_and(|value| value == "1")
}

/// A quantity that depends on that.
pub(crate) fn short_or_long<T>(short: T, long: T) -> T {
    if is_long() { long } else { short }
}

/// A server that draws quick ends to connections nobody uses, and logs no requests.
pub(crate) fn launch(turn: &Turn, database: &Database<'_>, workers: usize) -> Launch {
    let launch = Launch::on(turn, database).workers(workers);
    launch.args(["--access-log", "off", "--keepalive-grace", "500ms"])
}

/// The usual load: a third of the fresh requests asks PostgreSQL, the kept ones are POSTs.
fn usual(peace: &Peace) -> LoadShape {
    let user = api::sign_up(peace, "ann");
    let live = Call::get("/health/live", 200);
    LoadShape {
        fresh: vec![Call::get(&user.place, 200), live.clone(), live],
        fresh_per_s: short_or_long(600, 1_000),
        kept: Call::post("/auth/refresh", "refresh_token=bad", 401),
        kept_clients: 32,
        kept_per_s: 8,
        patience: Duration::from_secs(5),
        limit: Duration::from_secs(300),
    }
}

pub(crate) fn start_usual(peace: &Peace) -> Load {
    Load::start(peace.address(), &usual(peace))
}

/// Waits until a worker does nothing but compute.
fn await_spinning(worker: i32) {
    let before = proc::cpu_ticks(worker);
    until_true("it spins", SOON, || proc::cpu_ticks(worker) >= before + 5);
}

/// The fewest workers that were ready and not leaving at one time, once all were.
pub(crate) fn fewest_ready(events: &[Event]) -> i32 {
    let serving = events.iter().position(|event| event.is("serving")).expect("it serves");
    let (mut ready, mut fewest) = (0, i32::MAX);
    for event in events {
        if event.is_worker("ready") {
            ready += 1;
        } else if event.is("leaving") {
            ready -= 1;
        }
        if event.index >= serving {
            fewest = fewest.min(ready);
        }
    }
    fewest
}

/// Counts the supervisor's children all the time.
pub(crate) struct Census {
    most: Arc<AtomicUsize>,
    least: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    counting: Option<JoinHandle<()>>,
}

impl Census {
    pub(crate) fn of(peace: &Peace) -> Self {
        let (most, least) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(usize::MAX)));
        let over = Arc::new(AtomicBool::new(false));
        let counting = {
            let (pid, most, least) = (peace.pid(), Arc::clone(&most), Arc::clone(&least));
            let over = Arc::clone(&over);
            thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let count = proc::child_count(pid);
                    most.fetch_max(count, Ordering::Relaxed);
                    least.fetch_min(count, Ordering::Relaxed);
                    pause(Duration::from_millis(5));
                }
            })
        };
        Self { most, least, over, counting: Some(counting) }
    }

    /// The fewest and the most that there were.
    pub(crate) fn end(mut self) -> (usize, usize) {
        self.over.store(true, Ordering::Relaxed);
        self.counting.take().expect("it counts").join().expect("the census");
        (self.least.load(Ordering::Relaxed), self.most.load(Ordering::Relaxed))
    }
}

impl Drop for Census {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}
