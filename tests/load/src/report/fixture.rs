//! Reports that nobody measured, for tests: made by a simple queue with seeded chance, in the form of
//! `report.json` and not by the types of the program, so that a test which reads one also guards the
//! form. Used by the tests of the page, here and in a real browser.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// What is to be in the report.
pub(crate) struct Fixture {
    /// Names of the servers, each as fast as the one before, times 0.4.
    pub(crate) series: &'static [&'static str],
    /// Numbers of workers; `None` is a server that was running already.
    pub(crate) counts: &'static [Option<u32>],
    pub(crate) rounds: u32,
    pub(crate) windows: u32,
    /// Share of requests that fail.
    pub(crate) failing: f64,
    pub(crate) has_events: bool,
    /// Whether processes, database and workers could be seen.
    pub(crate) sees_inside: bool,
    pub(crate) is_quick: bool,
}

/// Turns latencies in milliseconds into the text of a histogram.
pub(crate) type Encode<'a> = &'a dyn Fn(&[f64]) -> String;

/// One server with 1, 2 and 4 workers: the usual case.
pub(crate) const USUAL: Fixture = Fixture {
    series: &["peace"],
    counts: &[Some(1), Some(2), Some(4)],
    rounds: 5,
    windows: 40,
    failing: 0.0,
    has_events: false,
    sees_inside: true,
    is_quick: false,
};

const CPUS: u32 = 2;
const DURATION_S: f64 = 10.0;
const COMMON_RATE: u64 = 4000;
/// Requests per second of a processor.
const SPEED: f64 = 8200.0;
/// Names and texts that a page has to escape.
pub(crate) const HOSTILE: &str = "<img src=x onerror=alert(1)>&\"'";

impl Fixture {
    pub(crate) fn report(&self, encode: Encode<'_>) -> Value {
        let (mut chance, mut runs, mut lives) = (Chance(7), Vec::new(), Vec::new());
        for round in 0..self.rounds {
            for series in 0..self.series.len() {
                for workers in self.counts {
                    let one = One { fixture: self, series, workers: *workers, round };
                    runs.extend(one.runs(&mut chance, encode));
                    lives.push(one.life(&mut chance));
                }
            }
        }
        let series = self.series.iter().map(|name| {
            let command = format!("{name}-server --workers N --config '{HOSTILE}'");
            json!({ "name": name, "command": command, "version": "0.1.0" })
        });
        json!({
            "format": 1,
            "card": self.card(),
            "series": series.collect::<Vec<_>>(),
            "runs": runs,
            "lives": lives,
            "warnings": if self.is_quick { vec!["2.4 % of the processors' time was foreign"] } else { vec![] },
        })
    }

    fn card(&self) -> Value {
        let events = ["a worker is killed every 2 s", "reload every 4 s"];
        json!({
            "started": "2026-11-23T03:51:41Z",
            "took_s": 412.0,
            "command": "peace-loadtest run --workers 1,2,4 --scenario reads",
            "is_quick": self.is_quick,
            "scenario": {
                "name": "reads",
                "about": "users and items are read by their ids, nothing is written",
                "text": format!("about = \"reads\"\n\n[[request]]\nname = \"{HOSTILE}\"\npath = \"/users/{{user.pubid}}\"\n"),
            },
            "connections": 64,
            "generators": 1,
            "rounds": self.rounds,
            "warm_up_s": 2.0,
            "duration_s": DURATION_S,
            "timeout_s": 5.0,
            "users": if self.sees_inside { 10_000 } else { 0 },
            "items": if self.sees_inside { 100_000 } else { 0 },
            "database": self.sees_inside.then_some("embedded, on a unix socket"),
            "events": if self.has_events { &events[..] } else { &[] },
            "commit": "4811fa1",
            "version": "0.1.0",
            "machine": {
                "cpu": "Example CPU at 3.10 GHz",
                "cpus": CPUS,
                "memory_bytes": 25_000_000_000_u64,
                "kernel": "Linux 6.18.0",
                "postgres": self.sees_inside.then_some("PostgreSQL 15.14"),
                "postgres_settings": if self.sees_inside {
                    json!({ "fsync": "on", "max_connections": "100", "shared_buffers": "128MB" })
                } else {
                    json!({})
                },
            },
        })
    }
}

/// One start of one server.
struct One<'a> {
    fixture: &'a Fixture,
    series: usize,
    workers: Option<u32>,
    round: u32,
}

impl One<'_> {
    /// More workers than processors bring little.
    fn peak(&self) -> f64 {
        let workers = f64::from(self.workers.unwrap_or(2));
        let cpus = f64::from(CPUS);
        let speedup = workers.min(cpus) * (1.0 - 0.06 * (workers.min(cpus) - 1.0));
        let more = 1.0 + 0.04 * (workers - cpus).clamp(-1.0, 2.0) - 0.05 * (workers - 4.0).max(0.0);
        SPEED * speedup * more.max(0.5) * 0.4_f64.powi(i32::try_from(self.series).unwrap_or(0))
    }

    fn runs(&self, chance: &mut Chance, encode: Encode<'_>) -> Vec<Value> {
        let peak = self.peak();
        let mut runs = vec![self.run(&json!("closed"), None, peak, chance, encode)];
        for percent in [50, 70, 90] {
            let offered = peak * f64::from(percent) / 100.0;
            let load = json!({ "percent_of_peak": percent });
            runs.push(self.run(&load, Some(offered), offered, chance, encode));
        }
        let load = json!({ "rate": COMMON_RATE });
        let offered = COMMON_RATE as f64;
        runs.push(self.run(&load, Some(offered), offered.min(peak), chance, encode));
        runs
    }

    fn run(
        &self,
        load: &Value,
        offered: Option<f64>,
        rate: f64,
        chance: &mut Chance,
        encode: Encode<'_>,
    ) -> Value {
        let fixture = self.fixture;
        let rate = rate * (1.0 + 0.03 * chance.signed());
        let all = rate * DURATION_S;
        let failed = (all * fixture.failing * (0.8 + 0.4 * chance.next())) as u64;
        let ok = (all as u64).saturating_sub(failed);
        let busy = offered.map_or(0.97, |offered| (offered / self.peak()).min(0.985));
        let latency = latency(ok, busy, chance, encode);
        let cpu = ok as f64 * 1e-6;
        let seen = |value: f64| fixture.sees_inside.then_some(value);
        let workers = self.workers.unwrap_or(0);
        let share = |chance: &mut Chance| -> Vec<u64> {
            let mean = ok as f64 / f64::from(workers.max(1));
            (0..workers).map(|_| (mean * (1.0 + 0.22 * chance.signed())) as u64).collect()
        };
        let of_worker = |chance: &mut Chance| 9_400_000 + (chance.next() * 9e5) as u64;
        let memory: Vec<u64> = (0..workers).map(|_| of_worker(chance)).collect();
        json!({
            "series": self.series,
            "workers": self.workers,
            "round": self.round,
            "load": load,
            "offered": offered,
            "at_s": f64::from(self.round) * 60.0,
            "duration_s": DURATION_S,
            "traffic": {
                "ok": ok,
                "late": 3.min(ok),
                "errors": errors(failed),
                "unsent": if failed > 0 && offered.is_some() { failed / 9 } else { 0 },
                "service": latency,
                "lateness": Value::Null,
                "latency": latency,
                "sent_bytes": ok * 180,
                "received_bytes": ok * 420,
                "connects": 64,
            },
            "cpu": {
                "server_s": seen(cpu * (62.0 + 3.0 * chance.signed())),
                "postgres_s": seen(cpu * (41.0 + 2.0 * chance.signed())),
                "generator_s": cpu * (19.0 + chance.signed()),
                "generator_peak": (cpu * 1.9).min(0.97),
                "busy": (cpu * 6.4).clamp(0.05, 0.99),
                "stolen": 0.002,
                "foreign": 0.011,
            },
            "memory": fixture.sees_inside.then(|| json!({
                "total_bytes": memory.iter().sum::<u64>() + 5_300_000,
                "worker_bytes": memory,
            })),
            "share": (fixture.sees_inside && workers > 0).then(|| share(chance)),
            "database_connections": fixture.sees_inside.then_some(workers * 4),
            "windows": self.windows(rate, failed, &latency, chance),
            "events": self.events(),
        })
    }

    fn windows(&self, rate: f64, failed: u64, latency: &Value, chance: &mut Chance) -> Vec<Value> {
        let count = self.fixture.windows;
        let length = DURATION_S / f64::from(count.max(1));
        let p99 = latency["p99_ms"].as_f64().unwrap_or(0.0);
        let window = |index: u32| {
            let at = f64::from(index) * length;
            let is_hit = self.fixture.has_events && index % (count / 5).max(1) == 1;
            let drop = if is_hit { 0.55 } else { 1.0 };
            let ok = (rate * length * drop * (1.0 + 0.04 * chance.signed())) as u64;
            let p99 = p99 * (1.0 + 0.25 * chance.signed()) * if is_hit { 9.0 } else { 1.0 };
            json!({
                "at_s": at,
                "length_s": length,
                "ok": if p99 > 0.0 { ok } else { 0 },
                "errors": if is_hit { 7 } else { failed / u64::from(count) },
                "p50_ms": p99 / 4.0,
                "p99_ms": p99,
                "max_ms": p99 * 1.7,
            })
        };
        (0..count).map(window).collect()
    }

    fn events(&self) -> Vec<Value> {
        if !self.fixture.has_events {
            return Vec::new();
        }
        let kill =
            |at_s: f64| json!({ "at_s": at_s, "kind": "kill", "text": "worker of slot 0 killed" });
        let reload =
            |at_s: f64| json!({ "at_s": at_s, "kind": "reload", "text": "reload asked for" });
        let mut events = vec![kill(2.0), kill(4.0), reload(4.1), kill(6.0), kill(8.0), reload(8.1)];
        events.push(json!({ "at_s": 9.5, "kind": "scale", "text": "scaled to 3 workers" }));
        events
    }

    fn life(&self, chance: &mut Chance) -> Value {
        let requests = (self.peak() * 5.0 * DURATION_S) as u64;
        json!({
            "series": self.series,
            "workers": self.workers,
            "round": self.round,
            "ready_s": self.workers.map(|_| 0.11 + 0.02 * chance.next()),
            "requests": requests,
            "transactions": self.fixture.sees_inside.then_some(requests + 40),
            "deadlocks": self.fixture.sees_inside.then_some(0),
            "retries": Value::Null,
        })
    }
}

fn errors(failed: u64) -> Value {
    let mut errors = BTreeMap::new();
    for (kind, part) in [("refused", 2), ("reset", 4), ("timeout", 8), ("status 503", 8)] {
        if failed / part > 0 {
            errors.insert(kind, failed / part);
        }
    }
    json!(errors)
}

/// Of a queue that is so busy, with a long tail.
fn latency(ok: u64, busy: f64, chance: &mut Chance, encode: Encode<'_>) -> Value {
    let scale = 0.35 / (1.0 - busy).powf(0.8);
    let sample = |chance: &mut Chance| {
        let tail = -(1.0 - chance.next()).ln();
        0.25 + scale * (0.35 + tail + 0.05 * tail.powi(3))
    };
    let count = if ok == 0 { 0 } else { 1000 };
    let mut samples: Vec<f64> = (0..count).map(|_| sample(chance)).collect();
    samples.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let place = (share * samples.len() as f64) as usize;
        samples.get(place.min(samples.len().saturating_sub(1))).copied().unwrap_or(0.0)
    };
    json!({
        "count": ok,
        "mean_ms": samples.iter().sum::<f64>() / samples.len().max(1) as f64,
        "p50_ms": at(0.5),
        "p90_ms": at(0.9),
        "p99_ms": at(0.99),
        "p99_9_ms": at(0.999),
        "max_ms": at(1.0),
        "histogram": encode(&samples),
    })
}

/// Numbers that look random and are the same each time. Source: Knuth's 64-bit generator (MMIX).
struct Chance(u64);

impl Chance {
    /// From 0 to 1.
    fn next(&mut self) -> f64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// From -1 to 1.
    fn signed(&mut self) -> f64 {
        self.next() * 2.0 - 1.0
    }
}
