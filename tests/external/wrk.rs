//! Our load and wrk's, on the same server and in turns: both see the same.
//!
//! wrk has closed loops only, so for a given rate `wrk.lua` makes its threads wait: each has one
//! connection and sends at fixed instants, evenly apart over all of them, which is what our open loop
//! does with as many connections. wrk counts from the real sending, so its median is compared with
//! that of our `service`; what it cannot see, from the due instant on, is shown beside it. All programs
//! are release builds: of others only the tools would be measured.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::folder::Folder;
use crate::harness::{Database, Launch, Turn, api};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/external/wrk.lua");
const ROUNDS: usize = 5;
const PEAK_ROUNDS: usize = 3;
/// Few, since to wrk each is a thread; they are never all in use.
const CONNECTIONS: usize = 8;
/// What wrk can keep up, a thread and a clock for each connection, beside the server on two processors.
const WRK_PACED_MAX: f64 = 12_000.0;
/// Enough that the server is never idle.
const PEAK_CONNECTIONS: usize = 64;

/// What one tool saw in one round.
#[derive(Debug, Clone, Copy)]
struct Seen {
    /// Answers per second.
    rate: f64,
    /// From the real sending on.
    p50_ms: f64,
    p99_ms: f64,
    /// The tool's own processor time for each request.
    cpu_us: f64,
    /// The median from the due instant on; wrk does not tell.
    due_p50_ms: Option<f64>,
}

/// Where both find the same row of the same server.
struct Place {
    url: String,
    path: String,
    folder: Folder,
}

#[test]
fn at_a_given_rate_wrk_sees_the_same_rate_and_the_same_median() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let launch = Launch::on(&turn, &database).program(release("peace-supervisor"));
    let peace = launch.workers(1).args(["--access-log", "off"]).serve();
    let user = api::sign_up(&peace, "wrk");
    let place = Place {
        url: format!("http://{}", peace.address()),
        path: api::add_item(&peace, &user, "measured"),
        folder: Folder::new(),
    };
    place.folder.write("item.toml", &scenario(&place.path));

    let [ours, wrks] = in_turns(PEAK_ROUNDS, || place.peak(), || place.wrk(0, PEAK_CONNECTIONS));
    show("at the peak", [least_disturbed(&ours), least_disturbed(&wrks)]);
    // Of what the machine gave both each time.
    let peak = ours.iter().chain(&wrks).map(|seen| seen.rate).fold(f64::INFINITY, f64::min);
    let rate = (peak / 2.0).min(WRK_PACED_MAX) as u64;
    let [ours, wrks] = in_turns(ROUNDS, || place.offer(rate), || place.wrk(rate, CONNECTIONS));
    let [ours, wrks] = [least_disturbed(&ours), least_disturbed(&wrks)];
    show(&format!("at {rate}/s"), [ours, wrks]);

    let rates = ours.rate / wrks.rate;
    assert!((rates - 1.0).abs() <= 0.02, "{} and {} requests/s", ours.rate, wrks.rate);
    let apart_ms = (ours.p50_ms - wrks.p50_ms).abs();
    let allowed_ms = f64::max(0.1 * wrks.p50_ms, 0.1);
    assert!(apart_ms <= allowed_ms, "medians of {} and {} ms", ours.p50_ms, wrks.p50_ms);
}

impl Place {
    /// Our closed loop.
    fn peak(&self) -> Seen {
        self.ours(PEAK_CONNECTIONS, "1500ms", &[])
    }

    /// Our open loop.
    fn offer(&self, rate: u64) -> Seen {
        self.ours(CONNECTIONS, "3s", &["--rate", &rate.to_string()])
    }

    /// The first thing that `peace-loadtest run` measures with these options.
    fn ours(&self, connections: usize, duration: &str, options: &[&str]) -> Seen {
        let folder = self.folder.path();
        let run = Command::new(release("peace-loadtest"))
            .args(["run", "--url", &self.url, "--scenario", "item.toml", "--rounds", "1"])
            .args(["--warm-up", "500ms", "--duration", duration, "--generators", "1"])
            .args(["--connections", &connections.to_string(), "--out", "report"])
            .args(options)
            .current_dir(folder)
            .output()
            .unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        let report = fs::read(folder.join("report/report.json")).unwrap();
        let report: Value = serde_json::from_slice(&report).unwrap();
        let run = &report["runs"][0];
        let traffic = &run["traffic"];
        assert_eq!(traffic["errors"], serde_json::json!({}), "{traffic}");
        let answers = number(&traffic["ok"]);
        Seen {
            rate: answers / number(&run["duration_s"]),
            p50_ms: number(&traffic["service"]["p50_ms"]),
            p99_ms: number(&traffic["service"]["p99_ms"]),
            cpu_us: number(&run["cpu"]["generator_s"]) / answers * 1e6,
            due_p50_ms: Some(number(&traffic["latency"]["p50_ms"])),
        }
    }

    /// wrk's closed loop, or with a rate a thread for each connection, which sends at fixed instants.
    fn wrk(&self, rate: u64, connections: usize) -> Seen {
        let threads = if rate == 0 { 1 } else { connections };
        let wrk = Command::new("wrk")
            .args(["--duration", "3s", "--threads", &threads.to_string()])
            .args(["--connections", &connections.to_string(), "--script", SCRIPT])
            .arg(format!("{}{}", self.url, self.path))
            .args(["--", &rate.to_string(), &connections.to_string()])
            .output()
            .expect("wrk is installed: tests/run --all sees to it");
        let told = String::from_utf8_lossy(&wrk.stderr);
        let seen: Value = serde_json::from_str(&told).unwrap_or_else(|_| panic!("{wrk:?}"));
        assert_eq!(seen["errors"], 0, "{seen}");
        Seen {
            rate: number(&seen["rate"]),
            p50_ms: number(&seen["p50_ms"]),
            p99_ms: number(&seen["p99_ms"]),
            cpu_us: number(&seen["cpu_us"]),
            due_p50_ms: None,
        }
    }
}

/// The one request, as a file.
fn scenario(path: &str) -> String {
    format!("about = \"One row.\"\n[[request]]\nname = \"item\"\npath = \"{path}\"\n")
}

/// The program of a release build, which `tests/run --all` makes.
pub(crate) fn release(program: &str) -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_peace-supervisor"));
    let target = beside.parent().and_then(Path::parent).expect("below the target folder");
    let path = target.join("release").join(program);
    assert!(path.exists(), "no {}: run `cargo build --release --bins`", path.display());
    path
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("a number: {value}"))
}

/// Runs both so many times, one after the other.
fn in_turns(rounds: usize, ours: impl Fn() -> Seen, wrks: impl Fn() -> Seen) -> [Vec<Seen>; 2] {
    let (ours, wrks) = (0..rounds).map(|_| (ours(), wrks())).unzip();
    [ours, wrks]
}

/// The round in which least else happened on the machine. What a tool does wrong is in all of them.
fn least_disturbed(rounds: &[Seen]) -> Seen {
    let least = rounds.iter().min_by(|one, other| one.p50_ms.total_cmp(&other.p50_ms));
    *least.expect("there was a round")
}

fn show(when: &str, [ours, wrks]: [Seen; 2]) {
    eprintln!("{when}:");
    for (name, seen) in [("peace-loadtest", ours), ("wrk", wrks)] {
        let Seen { rate, p50_ms, p99_ms, cpu_us, due_p50_ms } = seen;
        let due = due_p50_ms.map(|due_ms| format!(", p50 from the due instant {due_ms:.3} ms"));
        eprintln!(
            "{name:>16}: {rate:8.1} requests/s, p50 {p50_ms:.3} ms, p99 {p99_ms:.3} ms, own CPU \
             {cpu_us:.1} us/request{}",
            due.unwrap_or_default()
        );
    }
}
