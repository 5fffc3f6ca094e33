//! One load on one server: the generators and the meters, from the first request to the last answer.
//!
//! The conductor calls it for every load of every life of a server. What it answers is what was seen;
//! a phase without a single right answer is an error, since there is nothing to measure.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use super::{Conductor, Halt, Phase, Stage};
use crate::database::Database;
use crate::events::Course;
use crate::generator::order::Order;
use crate::generator::process::{Ended, Load as Generators};
use crate::plan::Start;
use crate::report::model::{Cpu, Memory, Run, Traffic};
use crate::server::Server;
use crate::wait::pause;
use crate::watch::cpu::Meter;
use crate::watch::memory;

/// How long a worker may take to tell what it has answered.
const HEARTBEATS: Duration = Duration::from_secs(1);
/// How often the meters are read and the disturbances looked at.
const TURN: Duration = Duration::from_millis(50);
/// Length of a piece of the time line.
const WINDOW: Duration = Duration::from_millis(250);

impl Conductor<'_> {
    /// One load on one server.
    pub(super) fn phase(
        &mut self,
        stage: &mut Stage<'_>,
        phase: Phase,
        mut course: Course,
    ) -> Result<Run, Halt> {
        let rate = self.rate(stage.contestant, phase.load);
        let order = self.order(stage, &phase, rate);
        let mut generators = Generators::start(&self.ourselves, &order, self.generators)?;
        let before = requests_by_slot(stage.server);
        let at_s = self.started.elapsed().as_secs_f64();
        let cpu = self.drive(stage, phase.duration, &mut generators, &mut course)?;
        let memory = self.memory(stage);
        let database_connections = self.database.as_ref().and_then(Database::connections);
        let Ended { traffic, windows, examples } = generators.end()?;
        let share = before.and_then(|before| share(stage.server, &before, &traffic));
        if traffic.answered() == 0 {
            return Err(nothing_right(&stage.label, &traffic, &examples).into());
        }
        Ok(Run {
            series: stage.contestant.series,
            workers: stage.contestant.workers,
            round: stage.round,
            load: phase.load,
            offered: rate,
            at_s,
            duration_s: phase.duration.as_secs_f64(),
            traffic,
            cpu,
            memory,
            share,
            database_connections,
            windows,
            events: course.happened,
        })
    }

    /// From the first request to the end of the phase: who used the processors.
    fn drive(
        &mut self,
        stage: &mut Stage<'_>,
        duration: Duration,
        generators: &mut Generators,
        course: &mut Course,
    ) -> Result<Cpu, Halt> {
        let postmaster = self.database.as_ref().and_then(|database| database.postmaster);
        let pids = generators.pids().into_iter().map(|pid| Pid::from_raw(pid.cast_signed()));
        let pids: Vec<Pid> = pids.collect();
        let mut meter = Meter::start(stage.server.pid(), postmaster, &pids);
        generators.begin()?;
        let begun = Instant::now();
        while let Some(left) = duration.checked_sub(begun.elapsed()) {
            if let Some(window) = generators.next(left.min(TURN))? {
                self.progress.see(window.ok as f64 / window.length_s, window.errors);
            }
            course.advance(|| begun.elapsed(), stage.server);
            meter.sample();
            if let Some(ended) = stage.server.ended() {
                let words = stage.server.last_words();
                return Err(format!("{}: the server ended ({ended}){words}", stage.label).into());
            }
            if self.stop.load(Ordering::Relaxed) {
                return Err(Halt::Interrupted);
            }
        }
        Ok(meter.end())
    }

    /// Of the whole server; of ours each worker by itself, too.
    fn memory(&self, stage: &Stage<'_>) -> Option<Memory> {
        let is_ours = self.plan.series[stage.contestant.series].start == Start::Peace;
        let workers = stage.server.ready_workers();
        let workers: Vec<Pid> = workers.iter().map(|(_, pid)| Pid::from_raw(*pid)).collect();
        memory::measure(stage.server.pid()?, is_ours.then_some(&*workers))
    }

    fn order(&self, stage: &Stage<'_>, phase: &Phase, rate: Option<f64>) -> Order {
        let target = &stage.server.target;
        Order {
            server: target.address,
            host: target.host.clone(),
            prefix: target.prefix.clone(),
            scenario: self.scenario.clone(),
            rows: stage.rows.clone(),
            connections: self.scenario.connections(self.options.connections),
            rate,
            duration_s: phase.duration.as_secs_f64(),
            timeout_s: self.options.timeout.as_secs_f64(),
            window_s: WINDOW.as_secs_f64(),
            // Every server of a round is asked the same, each round something else.
            seed: u64::from(stage.round),
        }
    }
}

/// What a slot's worker has answered since its start.
struct Answered {
    slot: usize,
    pid: Option<i32>,
    requests: u64,
}

/// By slot, of those that tell.
fn requests_by_slot(server: &Server) -> Option<Vec<Answered>> {
    let workers = server.status()?.workers;
    let answered = workers.iter().map(|worker| Answered {
        slot: worker.slot,
        pid: worker.pid,
        requests: worker.requests,
    });
    Some(answered.collect())
}

/// What each slot has answered since; `None` when a worker was replaced, who began to count anew. A
/// worker tells it with its next heartbeat: until all answers are told, or a second is over, it is
/// asked again.
fn share(server: &Server, before: &[Answered], traffic: &Traffic) -> Option<Vec<u64>> {
    let started = Instant::now();
    loop {
        let after = requests_by_slot(server)?;
        let now = |slot: usize| after.iter().find(|one| one.slot == slot);
        if before.iter().any(|old| now(old.slot).is_none_or(|new| new.pid != old.pid)) {
            return None;
        }
        let earlier = |slot: usize| before.iter().find(|one| one.slot == slot);
        let since = |new: &Answered| {
            new.requests.saturating_sub(earlier(new.slot).map_or(0, |old| old.requests))
        };
        let share: Vec<u64> = after.iter().map(since).collect();
        if share.iter().sum::<u64>() >= traffic.answered() || started.elapsed() > HEARTBEATS {
            return Some(share);
        }
        pause();
    }
}

/// For the progress.
pub(super) fn in_short(run: &Run) -> String {
    let traffic = &run.traffic;
    let rate = traffic.ok as f64 / run.duration_s;
    let unsent = match traffic.unsent {
        0 => String::new(),
        unsent => format!(", {unsent} never sent"),
    };
    let (p99_ms, failed) = (traffic.latency.p99_ms, traffic.failed());
    format!("{rate:.0}/s, p99 {p99_ms:.2} ms, {failed} errors{unsent}")
}

fn nothing_right(label: &str, traffic: &Traffic, examples: &[String]) -> String {
    let kinds: Vec<String> =
        traffic.errors.iter().map(|(kind, count)| format!("{count} x {kind}")).collect();
    let example = examples.first().map_or_else(String::new, |one| format!("; the first: {one}"));
    match kinds.as_slice() {
        [] => format!("{label}: no answer at all came"),
        kinds => format!("{label}: no right answer came, but {}{example}", kinds.join(", ")),
    }
}
