//! What is done to a server while it is measured: workers killed, settings read again, workers added
//! and taken away.
//!
//! The conductor asks what is due and lets it happen; each thing that happened is noted with its
//! instant, for the time line. Other servers than ours are only told to reload: who their workers are,
//! nobody says.

use std::str::FromStr;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::command::{self, RunOptions};
use crate::report::model::{Event, EventKind};
use crate::server::Server;

/// A change of the number of workers, at a moment of a phase.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ScaleAt {
    workers: u32,
    at: Duration,
}

impl FromStr for ScaleAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is no change of workers: write it as 4@1s");
        let (workers, at) = text.split_once('@').ok_or_else(wrong)?;
        let workers = workers.parse().ok().filter(|it| (1..=256).contains(it)).ok_or_else(wrong)?;
        Ok(Self { workers, at: command::time(at)? })
    }
}

/// What is to happen in each phase.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disturbances {
    kill_every: Option<Duration>,
    reload_every: Option<Duration>,
    scale: Vec<ScaleAt>,
}

impl Disturbances {
    pub(crate) fn of(options: &RunOptions) -> Self {
        Self {
            kill_every: options.kill_worker_every,
            reload_every: options.reload_every,
            scale: options.scale.clone(),
        }
    }

    /// What can be done to a server that is none of ours.
    pub(crate) fn known_to_all(self) -> Self {
        Self { kill_every: None, scale: Vec::new(), ..self }
    }

    /// In words, for the report.
    pub(crate) fn words(&self) -> Vec<String> {
        let kill = self.kill_every.map(|every| format!("a worker killed every {every:?}"));
        let reload = self.reload_every.map(|every| format!("a reload every {every:?}"));
        let scale = self.scale.iter().map(|one| format!("{} workers at {:?}", one.workers, one.at));
        kill.into_iter().chain(reload).chain(scale).collect()
    }

    /// Everything of a phase of this length, in order.
    fn schedule(&self, length: Duration) -> Vec<(Duration, Act)> {
        let repeated = |every: Option<Duration>, act: Act| {
            let every = every.unwrap_or(Duration::MAX);
            let times = (1..).map_while(move |count| every.checked_mul(count));
            times.take_while(move |at| *at < length).map(move |at| (at, act))
        };
        let mut acts: Vec<(Duration, Act)> = repeated(self.kill_every, Act::Kill).collect();
        acts.extend(repeated(self.reload_every, Act::Reload));
        let scaled = self.scale.iter().filter(|one| one.at < length);
        acts.extend(scaled.map(|one| (one.at, Act::Scale(one.workers))));
        acts.sort_by_key(|(at, _)| *at);
        acts
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Kill,
    Reload,
    Scale(u32),
}

/// The disturbances of one phase.
pub(crate) struct Course {
    /// What is still to come, the next one last.
    coming: Vec<(Duration, Act)>,
    random: fastrand::Rng,
    pub(crate) happened: Vec<Event>,
}

impl Course {
    /// For a phase of this length. The seed decides who is killed.
    pub(crate) fn new(disturbances: &Disturbances, length: Duration, seed: u64) -> Self {
        let mut coming = disturbances.schedule(length);
        coming.reverse();
        Self { coming, random: fastrand::Rng::with_seed(seed), happened: Vec::new() }
    }

    /// None, ever.
    pub(crate) fn undisturbed() -> Self {
        Self::new(&Disturbances::default(), Duration::ZERO, 0)
    }

    /// Lets happen what is due `elapsed` after the phase's start. `now` tells the time since then.
    pub(crate) fn advance(&mut self, now: impl Fn() -> Duration, server: &Server) {
        while self.coming.last().is_some_and(|(at, _)| *at <= now()) {
            let Some((_, act)) = self.coming.pop() else { return };
            let at_s = now().as_secs_f64();
            let (kind, text) = self.perform(act, server);
            self.happened.push(Event { at_s, kind, text });
        }
    }

    fn perform(&mut self, act: Act, server: &Server) -> (EventKind, String) {
        match act {
            Act::Kill => (EventKind::Kill, self.kill_one(server)),
            Act::Reload => (EventKind::Reload, told("reload", server.reload())),
            Act::Scale(workers) => (
                EventKind::Scale,
                told(&format!("{workers} workers wanted"), server.scale(workers)),
            ),
        }
    }

    fn kill_one(&mut self, server: &Server) -> String {
        let ready = server.ready_workers();
        let Some((slot, pid)) = self.random.choice(ready) else {
            return "no worker was ready to be killed".to_owned();
        };
        match kill(Pid::from_raw(pid), Signal::SIGKILL) {
            Ok(()) => format!("worker of slot {slot} killed"),
            Err(error) => format!("worker of slot {slot} could not be killed: {error}"),
        }
    }
}

/// What was done, or why not.
fn told(what: &str, done: Result<(), String>) -> String {
    match done {
        Ok(()) => what.to_owned(),
        Err(why) => format!("{what}, refused: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_workers_is_a_number_and_a_moment() {
        let scale: ScaleAt = "4@1s".parse().unwrap();
        assert_eq!(scale, ScaleAt { workers: 4, at: Duration::from_secs(1) });
        for bad in ["4", "@1s", "0@1s", "4@", "4@soon", "257@1s"] {
            assert!(bad.parse::<ScaleAt>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_phase_has_every_disturbance_that_falls_into_it_in_order() {
        let seconds = Duration::from_secs;
        let disturbances = Disturbances {
            kill_every: Some(seconds(2)),
            reload_every: Some(seconds(3)),
            scale: vec!["4@1s".parse().unwrap(), "2@9s".parse().unwrap()],
        };
        let schedule = disturbances.schedule(seconds(6));
        let expected = [
            (seconds(1), Act::Scale(4)),
            (seconds(2), Act::Kill),
            (seconds(3), Act::Reload),
            (seconds(4), Act::Kill),
        ];
        assert_eq!(schedule, expected);
        assert!(Disturbances::default().schedule(seconds(100)).is_empty());
    }
}
