//! What will be measured, in which order: a pure function of the command line.
//!
//! Rounds are interleaved: each of them measures every contestant once, every other round in the
//! opposite order, so that a machine that slows down slows down all of them. The conductor follows the
//! plan; it finds out what a plan cannot know, the peaks.

use std::time::Duration;

use crate::command::RunOptions;
use crate::report::summary::Load;

/// How long every measurement is, and how many there are.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    /// Every server with each of its numbers of workers.
    pub(crate) contestants: Vec<Contestant>,
    pub(crate) series: Vec<Program>,
    pub(crate) rounds: u32,
    pub(crate) warm_up: Duration,
    pub(crate) duration: Duration,
    pub(crate) loads: Loads,
}

/// One server with one number of workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Contestant {
    pub(crate) series: usize,
    pub(crate) workers: Option<u32>,
}

/// A server as a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) name: String,
    pub(crate) start: Start,
}

/// How it is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Start {
    /// `peace-supervisor`.
    Peace,
    /// A shell command with `{port}` and `{workers}`.
    Command(String),
    /// It runs already, here.
    Running(String),
}

/// What is offered in each round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Loads {
    /// A closed loop, then these percentages of the peak that it found, then one rate for all.
    FindPeak(Vec<u8>),
    /// These rates.
    Given(Vec<u64>),
}

/// How long a measurement is, and with `--quick`.
const USUAL: Duration = Duration::from_secs(4);
const QUICK: Duration = Duration::from_millis(1500);
/// Fewer requests are no measurement.
const REQUESTS_MIN: f64 = 10.0;
/// Settings that are ours to choose.
const OURS: [&str; 5] = ["--workers", "--bind", "--control", "--log-format", "--database-url"];
/// What everybody is offered, in percent of the smallest of all peaks.
pub(crate) const COMMON_PERCENT: u8 = 70;

impl Plan {
    /// `cpus`: processors this process may use.
    ///
    /// # Errors
    /// When the options contradict each other.
    pub(crate) fn new(options: &RunOptions, cpus: usize) -> Result<Self, String> {
        let cpus = u32::try_from(cpus).unwrap_or(u32::MAX);
        refuse_ours(&options.settings)?;
        let counts = match options.workers.as_slice() {
            [] => usual_counts(cpus, options.quick),
            given => given.to_vec(),
        };
        let shortest = options.rate.iter().min().map(|rate| *rate as f64);
        let duration = options.duration.unwrap_or(if options.quick { QUICK } else { USUAL });
        if shortest.is_some_and(|rate| rate * duration.as_secs_f64() < REQUESTS_MIN) {
            return Err(format!(
                "--rate for {duration:?} is less than {REQUESTS_MIN} requests: give a longer --duration"
            ));
        }
        let (series, contestants) = match &options.url {
            Some(url) => running(url),
            None => compared(options, &counts)?,
        };
        let pick = |given: Option<Duration>, usual: f64, quick: f64| {
            given.unwrap_or(Duration::from_secs_f64(if options.quick { quick } else { usual }))
        };
        let percents = if options.quick { vec![] } else { vec![50, 70, 90] };
        Ok(Self {
            contestants,
            series,
            rounds: options.rounds.unwrap_or(if options.quick { 3 } else { 5 }),
            warm_up: pick(options.warm_up, 2.0, 0.5),
            duration,
            loads: match options.rate.as_slice() {
                [] => Loads::FindPeak(percents),
                rates => Loads::Given(rates.to_vec()),
            },
        })
    }

    /// The contestants of a round, in its order.
    pub(crate) fn order(&self, round: u32) -> Vec<Contestant> {
        let mut order = self.contestants.clone();
        if round % 2 == 1 {
            order.reverse();
        }
        order
    }

    /// What everybody is offered in each round, given the smallest of all peaks, in requests per second.
    pub(crate) fn offers(&self, smallest_peak: f64) -> Vec<Load> {
        match &self.loads {
            Loads::Given(rates) => rates.iter().copied().map(Load::Rate).collect(),
            Loads::FindPeak(percents) => {
                let of_own = percents.iter().copied().map(Load::PercentOfPeak);
                let common = Load::Rate(part(smallest_peak, COMMON_PERCENT));
                [Load::Closed].into_iter().chain(of_own).chain([common]).collect()
            }
        }
    }

    /// How many measurements a round has.
    pub(crate) fn phases_of_a_round(&self) -> usize {
        self.contestants.len() * self.offers(1.0).len()
    }

    /// All of them, first looks for a peak included.
    pub(crate) fn measurements(&self) -> usize {
        let looks = if self.looks_for_peaks() { self.contestants.len() } else { 0 };
        looks + self.phases_of_a_round() * self.rounds as usize
    }

    /// Whether the peaks have to be looked for before the first round.
    pub(crate) fn looks_for_peaks(&self) -> bool {
        matches!(self.loads, Loads::FindPeak(_))
    }

    /// How long a first look for a peak takes.
    pub(crate) fn look(&self) -> Duration {
        self.duration / 2
    }
}

/// What a contestant is called while it is measured.
pub(crate) fn label(series: &[Program], contestant: Contestant) -> String {
    let name = series.get(contestant.series).map_or("?", |program| program.name.as_str());
    match contestant.workers {
        None => name.to_owned(),
        Some(1) => format!("{name} with 1 worker"),
        Some(count) => format!("{name} with {count} workers"),
    }
}

/// So many requests per second; at least one.
pub(crate) fn part(peak: f64, percent: u8) -> u64 {
    (peak * f64::from(percent) / 100.0).round().max(1.0) as u64
}

/// What `peace-supervisor` is told here, and cannot be told otherwise.
fn refuse_ours(settings: &[String]) -> Result<(), String> {
    let is_ours = |word: &&String| {
        let name = word.split('=').next().unwrap_or_default();
        OURS.contains(&name) || word.starts_with("-w")
    };
    match settings.iter().find(is_ours) {
        Some(word) => Err(format!("behind -- no {word}: that is what is measured, or how")),
        None => Ok(()),
    }
}

fn usual_counts(cpus: u32, is_quick: bool) -> Vec<u32> {
    let mut counts = if is_quick {
        vec![1, cpus.max(2)]
    } else {
        vec![1, cpus / 2, cpus, cpus.saturating_mul(2)]
    };
    counts.retain(|count| (1..=256).contains(count));
    counts.sort_unstable();
    counts.dedup();
    counts
}

fn running(url: &str) -> (Vec<Program>, Vec<Contestant>) {
    let program = Program { name: url.to_owned(), start: Start::Running(url.to_owned()) };
    (vec![program], vec![Contestant { series: 0, workers: None }])
}

/// Peace, Peace again for numbers that are named again, then the others.
fn compared(
    options: &RunOptions,
    counts: &[u32],
) -> Result<(Vec<Program>, Vec<Contestant>), String> {
    let mut series: Vec<(Program, Vec<Option<u32>>)> = Vec::new();
    if !options.without_peace {
        let mut left = counts.to_vec();
        let mut name = "Peace".to_owned();
        while !left.is_empty() {
            let (first, again) = without_repetition(&left);
            let program = Program { name: name.clone(), start: Start::Peace };
            series.push((program, first.into_iter().map(Some).collect()));
            name.push_str(" again");
            left = again;
        }
    }
    if options.name.len() > options.command.len() {
        return Err("more --name than --command: give each command at most one".to_owned());
    }
    for (index, command) in options.command.iter().enumerate() {
        series.push(other(command, options.name.get(index), options.port, counts)?);
    }
    for (index, (program, _)) in series.iter().enumerate() {
        if series[..index].iter().any(|(other, _)| other.name == program.name) {
            return Err(format!("two servers are called '{}': give each a --name", program.name));
        }
    }
    let contestants = series.iter().enumerate().flat_map(|(series, (_, counts))| {
        counts.iter().map(move |workers| Contestant { series, workers: *workers })
    });
    let contestants = contestants.collect();
    Ok((series.into_iter().map(|(program, _)| program).collect(), contestants))
}

/// Another server, with every number of workers if its command can tell it how many.
fn other(
    command: &str,
    name: Option<&String>,
    port: Option<u16>,
    counts: &[u32],
) -> Result<(Program, Vec<Option<u32>>), String> {
    if !command.contains("{port}") && port.is_none() {
        return Err(format!("'{command}' has no {{port}}: put it in, or give --port"));
    }
    let first = first_word(command)?;
    let name = name.cloned().unwrap_or(first);
    let counts = match command.contains("{workers}") {
        true => without_repetition(counts).0.into_iter().map(Some).collect(),
        false => vec![None],
    };
    Ok((Program { name, start: Start::Command(command.to_owned()) }, counts))
}

/// Each number once, and what is left.
fn without_repetition(counts: &[u32]) -> (Vec<u32>, Vec<u32>) {
    let (mut first, mut again) = (Vec::new(), Vec::new());
    for count in counts {
        if first.contains(count) { again.push(*count) } else { first.push(*count) }
    }
    (first, again)
}

fn first_word(command: &str) -> Result<String, String> {
    let words = shell_words::split(command)
        .map_err(|_| format!("'{command}' is no shell command: a quote is missing"))?;
    let word = words.first().ok_or("an empty --command: write how the server is started")?;
    Ok(word.rsplit('/').next().unwrap_or(word).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Asked, Verb, parse};

    fn options(line: &str) -> RunOptions {
        let words = ["peace-loadtest", "run"].into_iter().map(str::to_owned);
        let more = shell_words::split(line).unwrap();
        match parse(words.chain(more).map(Into::into)) {
            Ok(Asked::Verb(Verb::Run(options))) => *options,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn plan(line: &str) -> Plan {
        Plan::new(&options(line), 4).unwrap()
    }

    fn contestants(line: &str) -> Vec<(String, Option<u32>)> {
        let plan = plan(line);
        let name = |one: &Contestant| plan.series[one.series].name.clone();
        plan.contestants.iter().map(|one| (name(one), one.workers)).collect()
    }

    #[test]
    fn without_a_wish_the_numbers_that_people_ask_about_are_compared() {
        let counts = |line| contestants(line).into_iter().filter_map(|(_, workers)| workers);
        assert_eq!(counts("").collect::<Vec<_>>(), [1, 2, 4, 8]);
        assert_eq!(counts("--quick").collect::<Vec<_>>(), [1, 4]);
        assert_eq!(usual_counts(1, false), [1, 2]);
        assert_eq!(usual_counts(1, true), [1, 2]);
    }

    #[test]
    fn every_second_round_goes_the_other_way() {
        let plan = plan("--workers 1,2,4");
        let mut there = plan.order(0);
        assert_eq!(there, plan.order(2));
        there.reverse();
        assert_eq!(there, plan.order(1));
    }

    #[test]
    fn a_number_that_is_named_again_is_a_contestant_of_its_own() {
        let names = |name: &str| name.to_owned();
        assert_eq!(
            contestants("--workers 2,1,2"),
            [(names("Peace"), Some(2)), (names("Peace"), Some(1)), (names("Peace again"), Some(2))]
        );
    }

    #[test]
    fn another_server_is_compared_at_every_number_it_can_be_told() {
        let line = "--workers 1,2 --command 'x/uvicorn --port {port} --workers {workers}' \
                    --command 'one {port}' --name Fast";
        let names = |name: &str| name.to_owned();
        assert_eq!(
            contestants(line),
            [
                (names("Peace"), Some(1)),
                (names("Peace"), Some(2)),
                (names("Fast"), Some(1)),
                (names("Fast"), Some(2)),
                (names("one"), None),
            ]
        );
        assert_eq!(contestants("--workers 2 --without-peace --command 'x/y {port}'").len(), 1);
    }

    #[test]
    fn what_contradicts_itself_is_refused_in_one_line() {
        for (line, why) in [
            ("--command uvicorn", "{port}"),
            ("--command 'a {port}' --name b --name c", "--name"),
            ("--command 'a {port}' --command 'a x {port}'", "'a'"),
            ("--command 'a {port}' --name Peace", "'Peace'"),
            ("--rate 1,100", "--duration"),
            ("-- --bind 127.0.0.1:1", "--bind"),
            ("-- -w 2", "-w"),
            ("--command '' --port 1", "empty"),
            ("--command 'a \"{port}' --port 1", "quote"),
        ] {
            let refused = Plan::new(&options(line), 2).unwrap_err();
            assert!(refused.contains(why) && !refused.contains('\n'), "{line}: {refused}");
        }
    }

    #[test]
    fn everybody_is_offered_parts_of_his_own_peak_and_one_rate_for_all() {
        let [half, most, nearly_all] = [50, 70, 90].map(Load::PercentOfPeak);
        let offers = plan("").offers(1000.0);
        assert_eq!(offers, [Load::Closed, half, most, nearly_all, Load::Rate(700)]);
        assert_eq!((part(2000.0, 90), part(0.1, 50)), (1800, 1));
        let given = plan("--rate 100,200").offers(0.0);
        assert_eq!(given, [Load::Rate(100), Load::Rate(200)]);
    }
}
