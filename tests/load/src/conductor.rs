//! Follows a plan: starts servers, lets the generators load them, reads the meters, and puts down what
//! was seen.
//!
//! Called by `main`. It decides in which order things happen; how a server is started, a load made or
//! a process measured is the others' affair. Promises: whatever ends it, no process is left; a run that
//! is interrupted keeps the rounds that were whole.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use crate::command::RunOptions;
use crate::database::{Counted, Database};
use crate::events::{Course, Disturbances};
use crate::generator::order::Order;
use crate::generator::process::{Ended, Load as Generators};
use crate::guard::Guard;
use crate::plan::{self, Contestant, Plan, Start, label};
use crate::population::Population;
use crate::progress::Progress;
use crate::report::model::{Life, Run, Traffic};
use crate::report::summary::{Load, Metric};
use crate::scenario::{Rows, Scenario};
use crate::server::{self, Server, Setting};
use crate::watch::cpu::Meter;
use crate::watch::memory;

/// How long a worker may take to tell what it has answered.
const HEARTBEATS: Duration = Duration::from_secs(1);
/// How often the meters are read and the disturbances looked at.
const TURN: Duration = Duration::from_millis(50);
/// Length of a piece of the time line.
const WINDOW: Duration = Duration::from_millis(250);

/// Everything a measurement needs.
pub(crate) struct Conductor<'a> {
    pub(crate) options: &'a RunOptions,
    pub(crate) plan: &'a Plan,
    pub(crate) scenario: &'a Scenario,
    /// Processes that make the load.
    pub(crate) generators: usize,
    /// This program, which is the generator, too.
    pub(crate) ourselves: PathBuf,
    /// `peace-supervisor`.
    pub(crate) program: PathBuf,
    pub(crate) guard: Guard,
    pub(crate) database: Option<Database>,
    pub(crate) population: Population,
    /// Set when somebody wants it to end.
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) progress: Progress,
    /// When the report begins.
    pub(crate) started: Instant,
    /// What each contestant reached in the closed loop of the first round. Parts of it are offered in
    /// all rounds.
    pub(crate) peaks: Vec<(Contestant, f64)>,
}

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) runs: Vec<Run>,
    pub(crate) lives: Vec<Life>,
    /// Rounds that were whole; there is nothing of others.
    pub(crate) rounds: u32,
    /// Somebody wanted it to end before the last round.
    pub(crate) is_interrupted: bool,
}

/// Why a measurement ends early.
#[derive(Debug)]
pub(crate) enum Halt {
    /// Somebody wants it to.
    Interrupted,
    /// Why, and how to mend it.
    Failed(String),
}

impl From<String> for Halt {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

/// One measurement.
#[derive(Debug, Clone, Copy)]
struct Phase {
    load: Load,
    duration: Duration,
}

/// A server in one of its lives.
struct Stage<'a> {
    server: &'a mut Server,
    contestant: Contestant,
    round: u32,
    rows: Rows,
    /// Who it is, and in which round.
    label: String,
}

impl Conductor<'_> {
    /// Measures everything that the plan has.
    ///
    /// # Errors
    /// When something fails, or no round was whole at an interruption.
    pub(crate) fn perform(&mut self) -> Result<Seen, Halt> {
        let smallest = self.look_for_peaks()?;
        let mut seen = Seen::default();
        for round in 0..self.plan.rounds {
            match self.round(round, smallest) {
                Ok(lives) => {
                    for (life, runs) in lives {
                        seen.lives.push(life);
                        seen.runs.extend(runs);
                    }
                    seen.rounds += 1;
                }
                Err(Halt::Interrupted) if seen.rounds > 0 => {
                    seen.is_interrupted = true;
                    break;
                }
                Err(halt) => return Err(halt),
            }
        }
        Ok(seen)
    }

    /// The smallest of all peaks, by a short closed loop for everybody that stands in no report. It warms
    /// up the database, too. Not looked for where the rates are given.
    fn look_for_peaks(&mut self) -> Result<f64, Halt> {
        let mut smallest = f64::INFINITY;
        if !self.plan.looks_for_peaks() {
            return Ok(smallest);
        }
        let look = [Phase { load: Load::Closed, duration: self.plan.look() }];
        for contestant in self.plan.order(0) {
            let label = format!("{}: looking for the peak", self.name(contestant));
            let (_, runs) = self.life(contestant, 0, label, &look)?;
            smallest = runs.iter().filter_map(|run| Metric::Rate.of(run)).fold(smallest, f64::min);
        }
        // What a first look has found is for this only.
        self.peaks.clear();
        Ok(smallest)
    }

    /// Every contestant once.
    fn round(&mut self, round: u32, smallest: f64) -> Result<Vec<(Life, Vec<Run>)>, Halt> {
        let duration = self.plan.duration;
        let offers = self.plan.offers(smallest).into_iter();
        let phases: Vec<Phase> = offers.map(|load| Phase { load, duration }).collect();
        let mut lives = Vec::new();
        for contestant in self.plan.order(round) {
            let name = self.name(contestant);
            let label = format!("round {} of {}, {name}", round + 1, self.plan.rounds);
            lives.push(self.life(contestant, round, label, &phases)?);
        }
        Ok(lives)
    }

    /// Starts a server, offers it one load after the other, and stops it.
    fn life(
        &mut self,
        contestant: Contestant,
        round: u32,
        label: String,
        phases: &[Phase],
    ) -> Result<(Life, Vec<Run>), Halt> {
        self.progress.begin(format!("{label}: starting"));
        let setting = Setting {
            start: &self.plan.series[contestant.series].start,
            workers: contestant.workers,
            program: &self.program,
            settings: &self.options.settings,
            port: self.options.port,
            database_url: self.database.as_ref().map(|database| database.url.as_str()),
        };
        let before = self.database.as_ref().and_then(Database::counted);
        let mut server = Server::start(&setting, &mut self.guard)?;
        let ready_s = server.ready_s;
        let measured = self.under_load(&mut server, contestant, round, label, phases);
        let retries = server.stop(&mut self.guard);
        let (warm_up, runs) = measured?;
        let after = self.database.as_ref().and_then(Database::counted);
        if let Some(database) = &self.database {
            database.forget_new_rows()?;
        }
        let since = |count: fn(Counted) -> u64| {
            before.zip(after).map(|(before, after)| count(after).saturating_sub(count(before)))
        };
        let life = Life {
            series: contestant.series,
            workers: contestant.workers,
            round,
            ready_s,
            requests: warm_up + runs.iter().map(|run| run.traffic.answered()).sum::<u64>(),
            transactions: since(|counted| counted.transactions),
            deadlocks: since(|counted| counted.deadlocks),
            retries,
        };
        Ok((life, runs))
    }

    /// Warms up, and measures. Answers of the warm-up, and what was seen.
    fn under_load(
        &mut self,
        server: &mut Server,
        contestant: Contestant,
        round: u32,
        label: String,
        phases: &[Phase],
    ) -> Result<(u64, Vec<Run>), Halt> {
        let needed = self.scenario.names_used();
        let own = &self.scenario.rows;
        let rows = self.population.rows(&needed, own, &server.target, self.database.as_ref())?;
        self.scenario.check(&rows)?;
        let mut stage = Stage { server, contestant, round, rows, label };
        self.progress.begin(format!("{}: warming up", stage.label));
        let warm_up = Phase { load: Load::Closed, duration: self.plan.warm_up };
        let warm_up = self.phase(&mut stage, warm_up, Course::undisturbed())?.traffic.answered();
        let mut runs = Vec::new();
        for (number, phase) in phases.iter().enumerate() {
            self.progress.begin(format!("{}, {}", stage.label, phase.load));
            let course = self.course(&stage, number, phase);
            let run = self.phase(&mut stage, *phase, course)?;
            self.progress.measured(&in_short(&run));
            self.settle(stage.server, contestant);
            self.note_peak(contestant, &run);
            runs.push(run);
        }
        Ok((warm_up, runs))
    }

    /// What is done to the server meanwhile, while rates are offered. A peak is looked for in peace.
    fn course(&self, stage: &Stage<'_>, number: usize, phase: &Phase) -> Course {
        let disturbances = match self.plan.series[stage.contestant.series].start {
            _ if phase.load == Load::Closed => return Course::undisturbed(),
            Start::Peace => Disturbances::of(self.options),
            Start::Command(_) => Disturbances::of(self.options).known_to_all(),
            Start::Running(_) => return Course::undisturbed(),
        };
        let seed = u64::from(stage.round) * 100 + number as u64;
        Course::new(&disturbances, phase.duration, seed)
    }

    /// One load on one server.
    fn phase(
        &mut self,
        stage: &mut Stage<'_>,
        phase: Phase,
        mut course: Course,
    ) -> Result<Run, Halt> {
        let rate = self.rate(stage.contestant, phase.load);
        let order = self.order(stage, &phase, rate);
        let generators = Generators::start(&self.ourselves, &order, self.generators);
        let mut generators = generators.map_err(|error| error.to_string())?;
        let postmaster = self.database.as_ref().and_then(|database| database.postmaster);
        let before = requests_by_slot(stage.server);
        let at_s = self.started.elapsed().as_secs_f64();
        let pids: Vec<Pid> =
            generators.pids().into_iter().map(|pid| Pid::from_raw(pid.cast_signed())).collect();
        let mut meter = Meter::start(stage.server.pid(), postmaster, &pids);
        generators.begin().map_err(|error| error.to_string())?;
        let begun = Instant::now();
        while let Some(left) = phase.duration.checked_sub(begun.elapsed()) {
            let seen = generators.next(left.min(TURN)).map_err(|error| error.to_string())?;
            if let Some(window) = seen {
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
        let cpu = meter.end();
        let workers = stage.server.ready_workers();
        let workers: Vec<Pid> = workers.iter().map(|(_, pid)| Pid::from_raw(*pid)).collect();
        let is_ours = self.plan.series[stage.contestant.series].start == Start::Peace;
        let memory = stage.server.pid();
        let memory = memory.and_then(|pid| memory::measure(pid, is_ours.then_some(&*workers)));
        let database_connections = self.database.as_ref().and_then(Database::connections);
        let Ended { traffic, windows, examples } =
            generators.end().map_err(|error| error.to_string())?;
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

    fn order(&self, stage: &Stage<'_>, phase: &Phase, rate: Option<f64>) -> Order {
        let target = &stage.server.target;
        Order {
            server: target.address,
            host: target.host.clone(),
            prefix: target.prefix.clone(),
            scenario: self.scenario.clone(),
            rows: stage.rows.clone(),
            connections: self.options.connections as usize,
            rate,
            duration_s: phase.duration.as_secs_f64(),
            timeout_s: self.options.timeout.as_secs_f64(),
            window_s: WINDOW.as_secs_f64(),
            // Every server of a round is asked the same, each round something else.
            seed: u64::from(stage.round),
        }
    }

    /// After disturbances there are to be as many workers as before.
    fn settle(&self, server: &Server, contestant: Contestant) {
        let is_scaled = !self.options.scale.is_empty();
        if let (true, Some(workers)) = (is_scaled, contestant.workers) {
            // Refused while a reload goes on, which ends with the number that is wanted.
            let _ = server.scale(workers);
        }
        server.await_all_ready();
    }

    /// Requests per second that a load is for this contestant; `None` in a closed loop.
    fn rate(&self, contestant: Contestant, load: Load) -> Option<f64> {
        match load {
            Load::Closed => None,
            Load::Rate(rate) => Some(rate as f64),
            Load::PercentOfPeak(percent) => {
                let own = self.peaks.iter().find(|(one, _)| *one == contestant);
                own.map(|(_, peak)| plan::part(*peak, percent) as f64)
            }
        }
    }

    /// Remembers the first peak of a contestant.
    fn note_peak(&mut self, contestant: Contestant, run: &Run) {
        let is_known = self.peaks.iter().any(|(one, _)| *one == contestant);
        if let (Load::Closed, false, Some(peak)) = (run.load, is_known, Metric::Rate.of(run)) {
            self.peaks.push((contestant, peak));
        }
    }

    fn name(&self, contestant: Contestant) -> String {
        label(&self.plan.series, contestant)
    }
}

/// Requests answered by slot, by those that tell.
fn requests_by_slot(server: &Server) -> Option<Vec<(usize, u64)>> {
    let workers = server.status()?.workers;
    Some(workers.iter().map(|worker| (worker.slot, worker.requests)).collect())
}

/// What each slot has answered since. A worker tells it with its next heartbeat: until all answers are
/// told, or a second is over, it is asked again.
fn share(server: &Server, before: &[(usize, u64)], traffic: &Traffic) -> Option<Vec<u64>> {
    let earlier = |slot: usize| before.iter().find(|(one, _)| *one == slot).map_or(0, |(_, n)| *n);
    let started = Instant::now();
    loop {
        let after = requests_by_slot(server)?;
        let since = after.iter().map(|(slot, count)| count.saturating_sub(earlier(*slot)));
        let share: Vec<u64> = since.collect();
        if share.iter().sum::<u64>() >= traffic.answered() || started.elapsed() > HEARTBEATS {
            return Some(share);
        }
        server::pause();
    }
}

fn in_short(run: &Run) -> String {
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
