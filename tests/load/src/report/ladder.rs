//! The numbers of workers of one server, from the smallest to the largest: what was reached on each.
//!
//! Made of the points of a report; read by the verdict, the table and `recommend`, which so agree on
//! what "the smallest within 5 % of the best" is. It compares medians; whether a step means something
//! is [`super::statistics`]' affair.

use super::model::{Report, Run};
use super::statistics::undisturbed;
use super::summary::{Load, Metric, Point, Spread};

/// A peak of so much of the best one is as good as the best.
pub(crate) const NEAR_BEST: f64 = 0.95;

/// One server.
pub(crate) struct Ladder<'a> {
    /// Place in [`Report::series`].
    pub(crate) series: usize,
    pub(crate) name: &'a str,
    /// By number of workers.
    pub(crate) steps: Vec<Step<'a>>,
}

/// One number of workers.
pub(crate) struct Step<'a> {
    /// As [`Report::label`] tells it.
    pub(crate) label: String,
    pub(crate) workers: Option<u32>,
    /// One for each load.
    pub(crate) points: Vec<Point<'a>>,
}

/// One for each server that was measured.
pub(crate) fn ladders(report: &Report) -> Vec<Ladder<'_>> {
    let mut ladders: Vec<Ladder<'_>> = Vec::new();
    for point in report.points() {
        let (series, workers) = (point.series, point.workers);
        if ladders.last().is_none_or(|last| last.series != series) {
            let name = report.series.get(series).map_or("?", |series| series.name.as_str());
            ladders.push(Ladder { series, name, steps: Vec::new() });
        }
        let Some(ladder) = ladders.last_mut() else { continue };
        match ladder.steps.last_mut().filter(|step| step.workers == workers) {
            Some(step) => step.points.push(point),
            None => {
                let label = report.label(series, workers);
                ladder.steps.push(Step { label, workers, points: vec![point] });
            }
        }
    }
    ladders
}

/// The highest of the rates that both were offered.
pub(crate) fn shared_rate(a: &Step, b: &Step) -> Option<Load> {
    let rates = a.points.iter().map(|point| point.load);
    rates.filter(|load| matches!(load, Load::Rate(_)) && b.at(*load).is_some()).max()
}

impl<'a> Ladder<'a> {
    /// The step with the highest peak; `None` when nothing was answered in a closed loop.
    pub(crate) fn best(&self) -> Option<&Step<'a>> {
        best_of(self.steps.iter())
    }

    /// Without disturbed rounds; where that leaves nothing of a count, why nothing can be said.
    pub(crate) fn judged(&self) -> Result<Self, String> {
        let lost: Vec<&str> = self
            .steps
            .iter()
            .filter(|step| step.is_lost())
            .map(|step| step.label.as_str())
            .collect();
        if !lost.is_empty() {
            let all = lost.len() == self.steps.len();
            let whose = if all { String::new() } else { format!(" of {}", lost.join(", ")) };
            return Err(format!("others used the processors in every round{whose}"));
        }
        let steps = self.steps.iter().map(|step| Step {
            label: step.label.clone(),
            workers: step.workers,
            points: step.points.iter().filter_map(undisturbed).collect(),
        });
        Ok(Self { series: self.series, name: self.name, steps: steps.collect() })
    }

    pub(crate) fn runs(&self) -> impl Iterator<Item = &Run> {
        self.steps.iter().flat_map(Step::runs)
    }
}

/// Of some steps that stand in order.
pub(crate) fn smallest_near_best<'a, 'b>(steps: &[&'a Step<'b>]) -> Option<&'a Step<'b>> {
    let best = best_of(steps.iter().copied())?.peak_median()?;
    steps.iter().copied().find(|step| step.peak_median() >= Some(best * NEAR_BEST))
}

fn best_of<'a, 'b: 'a>(steps: impl Iterator<Item = &'a Step<'b>>) -> Option<&'a Step<'b>> {
    let answering = steps.filter_map(|step| Some((step, step.peak_median()?)));
    answering.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(step, _)| step)
}

impl<'a> Step<'a> {
    pub(crate) fn at(&self, load: Load) -> Option<&Point<'a>> {
        self.points.iter().find(|point| point.load == load)
    }

    pub(crate) fn peak(&self) -> Option<&Point<'a>> {
        self.at(Load::Closed)
    }

    /// Whether the load it is judged by was disturbed in every round.
    fn is_lost(&self) -> bool {
        let judged_by = self.peak().or_else(|| self.steady());
        judged_by.is_some_and(|point| undisturbed(point).is_none())
    }

    /// Right answers per second in a closed loop; `None` when there were none.
    pub(crate) fn peak_median(&self) -> Option<f64> {
        Some(self.peak()?.spread(Metric::Rate)?.median).filter(|rate| *rate > 0.0)
    }

    /// Where its latency is to be read: at the highest fixed rate, else nearest to 70 % of its peak.
    pub(crate) fn steady(&self) -> Option<&Point<'a>> {
        let rates = self.points.iter().filter(|point| matches!(point.load, Load::Rate(_)));
        rates.max_by_key(|point| point.load).or_else(|| {
            let distance = |point: &&Point<'_>| match point.load {
                Load::PercentOfPeak(percent) => Some(percent.abs_diff(70)),
                _ => None,
            };
            let percents = self.points.iter().filter(|point| distance(point).is_some());
            percents.min_by_key(|point| distance(point))
        })
    }

    pub(crate) fn spread(&self, load: Load, metric: Metric) -> Option<Spread> {
        self.at(load)?.spread(metric)
    }

    pub(crate) fn runs(&self) -> impl Iterator<Item = &Run> {
        self.points.iter().flat_map(|point| point.runs.iter().copied())
    }
}
