//! More workers, fewer workers, and every signal at random.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{SOON, launch, short_or_long, start_usual, usual};
use crate::harness::load::{Load, LoadShape};
use crate::harness::wait::{pause, until_true};
use crate::harness::{Database, Network, Peace, Turn, proc};

/// Numbers that look random and are the same every time. Source: Marsaglia, "Xorshift RNGs", 2003.
struct Dice(u64);

impl Dice {
    /// From 0 to `sides - 1`.
    fn throw(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// What the kernel says there is.
#[derive(Debug, PartialEq, Eq)]
struct Counts {
    workers: usize,
    zombies: usize,
    sockets: usize,
}

impl Counts {
    fn of(peace: &Peace) -> Self {
        let workers = proc::child_count(peace.pid());
        let zombies = proc::children(peace.pid()).len() - workers;
        Self { workers, zombies, sockets: proc::listeners(peace.address().port()) }
    }

    fn exactly(workers: usize) -> Self {
        Self { workers, zombies: 0, sockets: workers }
    }
}

/// Wants so many workers; returns when they are there and the others gone.
fn scale(peace: &Peace, workers: usize) {
    let done = peace.ctl(["scale", &workers.to_string(), "--wait"]);
    assert!(done.status.success(), "scale {workers}: {}", String::from_utf8_lossy(&done.stderr));
    let counts = Counts::of(peace);
    assert_eq!(counts, Counts::exactly(workers), "scale {workers}");
}

#[test]
fn scalings_lose_nothing() {
    let network = Network::own();
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let peace = launch(&turn, &database, 4).serve();
    let load = start_usual(&peace);
    let mut dice = Dice(4);
    let mut sizes = vec![8, 1, 5];
    let random = std::iter::repeat_with(|| usize::try_from(dice.throw(8)).unwrap() + 1);
    sizes.extend(random.take(short_or_long(5, 17)));
    let mut times = Vec::new();
    for size in &sizes {
        let start = Instant::now();
        scale(&peace, *size);
        times.push(start.elapsed());
    }
    eprintln!("scalings to {sizes:?} took {times:.2?}");
    load.stop().check_nothing_lost("scalings");
    network.check_nothing_lost("scalings_lose_nothing");
}

#[test]
fn signals_ask_for_one_worker_more_or_fewer() {
    let network = Network::own();
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let peace = launch(&turn, &database, 2).serve();
    let load = start_usual(&peace);
    use Signal::{SIGTTIN, SIGTTOU};
    // The last two find one worker, which stays.
    let steps =
        [(SIGTTIN, 3), (SIGTTIN, 4), (SIGTTOU, 3), (SIGTTOU, 2), (SIGTTOU, 1), (SIGTTOU, 1)];
    for (signal, workers) in steps {
        peace.signal(signal);
        until_true(&format!("{signal}: {workers} workers"), SOON, || {
            Counts::of(&peace) == Counts::exactly(workers)
        });
    }
    load.stop().check_nothing_lost("TTIN and TTOU");
    network.check_nothing_lost("signals_ask_for_one_worker_more_or_fewer");
}

#[test]
fn a_storm_of_signals_loses_nothing() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let peace = launch(&turn, &database, 4).serve();
    // While all workers are away after WINCH, clients wait until the next HUP.
    let shape = LoadShape { patience: Duration::from_secs(30), ..usual(&peace) };
    peace.ctl(["status"]);
    let descriptors = proc::descriptors(peace.pid());
    let load = Load::start(peace.address(), &shape);
    let signals = ["SIGHUP", "SIGTTIN", "SIGTTOU", "SIGUSR1", "SIGWINCH"];
    let mut dice = Dice(300);
    for _ in 0..short_or_long(60, 300) {
        let name = signals[usize::try_from(dice.throw(5)).unwrap()];
        peace.signal(name.parse().unwrap());
        pause(Duration::from_millis(dice.throw(200)));
    }
    let mark = peace.log().len();
    peace.signal(Signal::SIGHUP);
    peace.await_event("the last roll", mark, 3 * SOON, |event| event.is("rolled"));
    scale(&peace, 4);
    load.stop().check_nothing_lost("a storm of signals");
    until_true("the supervisor's descriptors are as many as they were", SOON, || {
        proc::descriptors(peace.pid()) == descriptors
    });
    let port = peace.address().port();
    until_true("every worker has its own socket, and no copy of another one's", SOON, || {
        proc::children(peace.pid()).into_iter().all(|pid| proc::listeners_held(pid, port) == 1)
    });
}
