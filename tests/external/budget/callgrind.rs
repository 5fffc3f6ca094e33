//! A server whose worker's instructions are counted.
//!
//! The budgets' tests start it. callgrind follows the fork; with `--trace-children` each process has a
//! gdbserver of its own, through which vgdb orders a dump: a file with what was counted since the last one.
//! So one start serves any number of measurements, and what the start costs is in none of them.
//! Promises: what time brings and no request is taken off. The heartbeat does, and a timer or an answer in
//! two pieces, which wake the loop once more: the turns of the event loop are in the dump as well, and
//! what one of them costs that has little to do is known from a worker that nobody asked.
//! Does not know: what is measured.
//! Source: Valgrind User Manual, "Callgrind" and "Using and understanding the Valgrind core".

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::harness::wait::pause;
use crate::harness::{Launch, Peace};

/// In which nobody asks.
const IDLE: Duration = Duration::from_secs(2);

/// The server, under callgrind.
pub(super) struct Callgrind {
    pub(super) peace: Peace,
    worker: i32,
    dumps: usize,
    /// The instructions of a turn of the loop that serves no request.
    idle_turn: f64,
}

/// What the worker did for one request.
pub(super) struct Cost {
    pub(super) instructions: f64,
    /// Where callgrind has written what they were spent on.
    pub(super) dump: PathBuf,
}

impl Callgrind {
    /// Starts what `launch` says, one worker, and waits until it serves.
    pub(super) fn start(launch: Launch) -> Self {
        let folder = launch.folder().path().display();
        let fifos = format!("--vgdb-prefix={folder}/vgdb");
        let dumps = format!("--callgrind-out-file={folder}/%p");
        let options = ["--tool=callgrind", "--quiet", "--trace-children=yes"];
        let options = options.into_iter().chain(["--compress-strings=no", &fifos, &dumps]);
        let peace = launch.under("valgrind", options).workers(1).serve();
        let worker = peace.workers()[&0];
        let mut new = Self { peace, worker, dumps: 0, idle_turn: 0.0 };
        new.dump();
        pause(IDLE);
        let idle = Dump::read(&new.dump());
        new.idle_turn = idle.instructions / idle.turns;
        new
    }

    /// What the worker does for each of the `requests` that `ask` sends, one after the other.
    pub(super) fn cost(&mut self, requests: usize, ask: impl FnOnce()) -> Cost {
        ask();
        let path = self.dump();
        let dump = Dump::read(&path);
        let requests = requests as f64;
        // Each request needs the same whole number of turns.
        let surplus = dump.turns % requests;
        let instructions = (dump.instructions - surplus * self.idle_turn) / requests;
        Cost { instructions, dump: path }
    }

    /// Writes what was counted since the last dump.
    fn dump(&mut self) -> PathBuf {
        let folder = self.peace.folder();
        let vgdb = Command::new("vgdb")
            .arg(format!("--vgdb-prefix={}/vgdb", folder.display()))
            .args([&format!("--pid={}", self.worker), "--wait=10", "dump"])
            .output()
            .expect("vgdb is a part of valgrind");
        assert!(vgdb.status.success(), "{}", String::from_utf8_lossy(&vgdb.stderr));
        self.dumps += 1;
        folder.join(format!("{}.{}", self.worker, self.dumps))
    }
}

/// The sums of a dump.
struct Dump {
    instructions: f64,
    /// How often the event loop has waited.
    turns: f64,
}

impl Dump {
    fn read(path: &PathBuf) -> Self {
        let text = fs::read_to_string(path).expect("callgrind has written it");
        let total = text.lines().find_map(|line| line.strip_prefix("totals: ")?.parse().ok());
        let pairs = text.lines().zip(text.lines().skip(1));
        let waits = pairs.filter(|(callee, _)| callee.starts_with("cfn=epoll_wait"));
        let counts = waits.filter_map(|(_, calls)| calls.strip_prefix("calls=")?.split(' ').next());
        let turns = counts.filter_map(|count| count.parse::<f64>().ok()).sum();
        let instructions = total.unwrap_or_else(|| panic!("no totals in {}", path.display()));
        assert!(turns > 0.0, "the event loop waits in epoll_wait");
        Self { instructions, turns }
    }
}
