//! Follows a plan: starts servers, lets the generators load them, reads the meters, and puts down what
//! was seen.
//!
//! Called by `main`. It decides in which order things happen; how a server is started, a load made or
//! a process measured is the others' affair. Promises: whatever ends it, no process is left; a run that
//! is interrupted keeps the rounds that were whole.

mod phase;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::command::RunOptions;
use crate::database::{Counted, Database};
use crate::events::{Course, Disturbances};
use crate::generator::process::LoadError;
use crate::guard::Guard;
use crate::plan::{self, Contestant, Plan, Start, label};
use crate::population::Population;
use crate::progress::Progress;
use crate::report::model::{Life, Run};
use crate::report::summary::{Load, Metric};
use crate::scenario::{Rows, Scenario};
use crate::server::{Server, Setting};

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
    /// What must not be shown of a server's own words.
    pub(crate) secrets: Vec<String>,
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
    /// Why there are not as many as the plan has.
    pub(crate) halt: Option<Halt>,
}

/// Why a measurement ends early.
#[derive(Debug)]
pub(crate) enum Halt {
    /// Somebody wants it to.
    Interrupted,
    /// Why, and how to mend it.
    Failed(String),
    /// The command line asks for what cannot be: why.
    Usage(String),
}

impl From<String> for Halt {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

impl From<LoadError> for Halt {
    fn from(error: LoadError) -> Self {
        Self::Failed(error.to_string())
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
    /// Measures everything that the plan has, or as many whole rounds of it as go well.
    ///
    /// # Errors
    /// When not even one round was whole.
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
                Err(halt) if seen.rounds > 0 => {
                    seen.halt = Some(halt);
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
            secrets: &self.secrets,
            stop: &self.stop,
        };
        let before = self.database.as_ref().and_then(Database::counted);
        let server = Server::start(&setting, &mut self.guard);
        let mut server = server.map_err(|why| self.halt(why))?;
        let ready_s = server.ready_s;
        let measured = self.under_load(&mut server, contestant, round, label, phases);
        let retries = server.stop(&mut self.guard);
        let (warm_up, runs) = measured?;
        let after = self.database.as_ref().and_then(Database::counted);
        if let Some(database) = &self.database {
            database.forget_new_rows(self.scenario)?;
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
            self.progress.measured(&phase::in_short(&run));
            self.settle(&stage)?;
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

    /// After disturbances there are to be as many workers as before.
    fn settle(&self, stage: &Stage<'_>) -> Result<(), Halt> {
        let is_scaled = !self.options.scale.is_empty();
        if let (true, Some(workers)) = (is_scaled, stage.contestant.workers) {
            // Refused while a reload goes on, which ends with the number that is wanted.
            let _ = stage.server.scale(workers);
        }
        let settled = stage.server.await_all_ready(&self.stop);
        settled.map_err(|why| self.halt(format!("{}: {why}", stage.label)))
    }

    /// What has failed because it was to end has not failed.
    fn halt(&self, why: String) -> Halt {
        match self.stop.load(Ordering::Relaxed) {
            true => Halt::Interrupted,
            false => Halt::Failed(why),
        }
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
