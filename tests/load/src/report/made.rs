//! Reports made by hand, for tests: even, without noise, changed by each test as it needs.

use std::collections::BTreeMap;

use super::model::{
    Card, Cpu, FORMAT, Latency, Machine, Memory, Report, Run, ScenarioCard, Series, Traffic,
};
use super::summary::Load;

/// Length of every phase.
pub(crate) const DURATION_S: f64 = 10.0;
/// Rounds of what [`ladder`] and [`server`] make.
pub(crate) const ROUNDS: u32 = 3;

/// Numbers of workers, each with its peak.
pub(crate) type Peaks<'a> = &'a [(u32, f64)];

/// One server with these numbers of workers, each with its peak: measured in a closed loop, at 50, 70
/// and 90 % of that peak, and at 1,000/s.
pub(crate) fn ladder(peaks: Peaks) -> Report {
    report(vec![("peace", peaks)])
}

/// As [`ladder`], of several servers.
pub(crate) fn report(servers: Vec<(&str, Peaks)>) -> Report {
    let (mut series, mut runs) = (Vec::new(), Vec::new());
    for (index, (name, peaks)) in servers.into_iter().enumerate() {
        let command = format!("{name} --workers {{workers}}");
        series.push(Series { name: name.to_owned(), command, version: None });
        for round in 0..ROUNDS {
            for (workers, peak) in peaks {
                runs.extend(step(index, *workers, round, *peak));
            }
        }
    }
    let (lives, warnings) = (Vec::new(), Vec::new());
    Report { format: FORMAT, card: card(), series, runs, lives, warnings }
}

fn step(series: usize, workers: u32, round: u32, peak: f64) -> Vec<Run> {
    let percent = |percent: u8| {
        let rate = peak * f64::from(percent) / 100.0;
        run(series, workers, round, Load::PercentOfPeak(percent), rate)
    };
    vec![
        run(series, workers, round, Load::Closed, peak),
        percent(50),
        percent(70),
        percent(90),
        run(series, workers, round, Load::Rate(1000), 1000.0),
    ]
}

/// A run that reached this rate without an error; its p99 is 8 ms divided by the number of workers.
pub(crate) fn run(series: usize, workers: u32, round: u32, load: Load, rate: f64) -> Run {
    let ok = (rate * DURATION_S) as u64;
    let share = ok / u64::from(workers);
    Run {
        series,
        workers: Some(workers),
        round,
        load,
        offered: (load != Load::Closed).then_some(rate),
        at_s: f64::from(round) * 100.0,
        duration_s: DURATION_S,
        traffic: traffic(ok, 8.0 / f64::from(workers)),
        cpu: cpu(ok),
        memory: Some(Memory {
            total_bytes: (8 + 6 * u64::from(workers)) << 20,
            worker_bytes: vec![6 << 20; workers as usize],
        }),
        share: Some(vec![share; workers as usize]),
        database_connections: Some(5 * u64::from(workers)),
        windows: Vec::new(),
        events: Vec::new(),
    }
}

fn traffic(ok: u64, p99_ms: f64) -> Traffic {
    let latency = Latency {
        count: ok,
        mean_ms: p99_ms / 3.0,
        p50_ms: p99_ms / 4.0,
        p90_ms: p99_ms / 2.0,
        p99_ms,
        p99_9_ms: p99_ms * 2.0,
        max_ms: p99_ms * 4.0,
        histogram: String::new(),
    };
    Traffic {
        ok,
        late: 0,
        errors: BTreeMap::new(),
        unsent: 0,
        service: latency.clone(),
        latency,
        lateness: None,
        sent_bytes: ok * 100,
        received_bytes: ok * 300,
        connects: 64,
    }
}

fn cpu(ok: u64) -> Cpu {
    Cpu {
        server_s: Some(ok as f64 * 80e-6),
        postgres_s: Some(ok as f64 * 40e-6),
        generator_s: ok as f64 * 30e-6,
        generator_peak: 0.4,
        busy: 0.9,
        stolen: 0.0,
        foreign: Some(0.0),
    }
}

fn card() -> Card {
    Card {
        started: "2026-01-01T00:00:00Z".to_owned(),
        took_s: 100.0,
        command: "peace-loadtest run --workers 1,2".to_owned(),
        is_quick: false,
        scenario: ScenarioCard {
            name: "reads".to_owned(),
            about: "Reads single rows.".to_owned(),
            text: "about = \"Reads single rows.\"\n".to_owned(),
        },
        connections: 64,
        generators: 1,
        rounds: ROUNDS,
        warm_up_s: 3.0,
        duration_s: DURATION_S,
        timeout_s: 10.0,
        users: 1000,
        items: 10_000,
        database: Some("embedded".to_owned()),
        events: Vec::new(),
        commit: Some("0123abc".to_owned()),
        version: "0.1.0".to_owned(),
        machine: Machine {
            cpu: "A processor".to_owned(),
            cpus: 2,
            memory_bytes: 8 << 30,
            kernel: "6.18".to_owned(),
            postgres: Some("15.14".to_owned()),
            postgres_settings: BTreeMap::from([("shared_buffers".to_owned(), "128MB".to_owned())]),
        },
    }
}
