//! A server whose worker's instructions are counted.
//!
//! The budgets' tests start it. callgrind follows the fork; with `--trace-children` each process has a
//! gdbserver of its own, through which vgdb orders a dump: a file with what was counted since the last one.
//! So one start serves any number of measurements, and what the start costs is in none of them.
//! Promises: the worker's heartbeat, which time brings and no request, is taken off.
//! Does not know: what is measured.
//! Source: Valgrind User Manual, "Callgrind" and "Using and understanding the Valgrind core".

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::wait::pause;
use crate::harness::{Launch, Peace};

/// In which the worker only beats, to know what that costs.
const IDLE: Duration = Duration::from_secs(2);

/// The server, under callgrind.
pub(super) struct Callgrind {
    pub(super) peace: Peace,
    worker: i32,
    dumps: usize,
    /// When the last dump was made.
    since: Instant,
    idle_per_s: f64,
}

/// What the worker did between two dumps.
pub(super) struct Counted {
    pub(super) instructions: f64,
    /// Where callgrind has written what they were spent on.
    pub(super) dump: PathBuf,
}

impl Callgrind {
    /// Starts what `launch` says, one worker, and waits until it serves.
    pub(super) fn start(launch: Launch) -> Self {
        let folder = launch.folder().path().display();
        let (fifos, dumps) =
            (format!("--vgdb-prefix={folder}/vgdb"), format!("--callgrind-out-file={folder}/%p"));
        let options = ["--tool=callgrind", "--quiet", "--trace-children=yes", &fifos, &dumps];
        let peace = launch.under("valgrind", options).workers(1).serve();
        let worker = peace.workers()[&0];
        let mut new = Self { peace, worker, dumps: 0, since: Instant::now(), idle_per_s: 0.0 };
        new.dump();
        let idle = new.counted(|| pause(IDLE));
        new.idle_per_s = idle.instructions / IDLE.as_secs_f64();
        new
    }

    /// What the worker does for `work`.
    pub(super) fn counted(&mut self, work: impl FnOnce()) -> Counted {
        work();
        let begun = self.since;
        let dump = self.dump();
        let idle = self.idle_per_s * (self.since - begun).as_secs_f64();
        Counted { instructions: total(&dump) - idle, dump }
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
        self.since = Instant::now();
        self.dumps += 1;
        folder.join(format!("{}.{}", self.worker, self.dumps))
    }
}

/// The instructions of one dump.
fn total(dump: &PathBuf) -> f64 {
    let text = fs::read_to_string(dump).expect("callgrind has written it");
    let total = text.lines().find_map(|line| line.strip_prefix("totals: ")?.parse().ok());
    total.unwrap_or_else(|| panic!("no totals in {}", dump.display()))
}
