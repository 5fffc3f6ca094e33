//! `--fail-if 'p99>+10%'`: a sentence that must not be true.
//!
//! Read from the command line, checked by [`super`] on the rows of a comparison. A change (`+10%`) is
//! relative to the base and counts only when it is more than noise; a value (`20ms`) is the new
//! report's median alone. Without a load (`p99@70%`, `p99@rate`, `p99@closed`) it is about every row
//! that is told, or, of metrics that are not, about all. What cannot be checked fails: a server that
//! answers nothing has no latency that could be too long. Where nothing fails, but the interval of a
//! change reaches beyond the limit, it is not shown that nothing did: the noise is larger than what was
//! asked for.

use std::fmt;
use std::str::FromStr;

use super::rows::{Gap, METRICS, Row};
use crate::report::number;
use crate::report::summary::{Load, Metric};

const EXAMPLES: &str = "as 'p99>+10%', 'rps<-5%', 'errors>0.1%' or 'p99@70%>20ms'";
/// Shorter names than those of the tables, without what [`plain`] takes away.
const ALIASES: [(&str, Metric); 15] = [
    ("rps", Metric::Rate),
    ("rate", Metric::Rate),
    ("requests", Metric::Rate),
    ("throughput", Metric::Rate),
    ("median", Metric::P50),
    ("p999", Metric::P99_9),
    ("error", Metric::Errors),
    ("neversent", Metric::Unsent),
    ("cpu", Metric::CpuServer),
    ("servercpu", Metric::CpuServer),
    ("postgrescpu", Metric::CpuPostgres),
    ("pgcpu", Metric::CpuPostgres),
    ("mem", Metric::Memory),
    ("pss", Metric::Memory),
    ("rss", Metric::Memory),
];

/// What must not be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Threshold {
    /// As it was given.
    text: String,
    metric: Metric,
    load: Option<Where>,
    fails_above: bool,
    limit: Limit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Where {
    Closed,
    Percent(u8),
    Rate,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Limit {
    /// As [`crate::report::statistics::Difference::change`]: a ratio, or points.
    Change(f64),
    /// In the metric's own unit.
    Value(f64),
}

/// What came of a threshold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) threshold: String,
    /// Where it does not hold and why; empty when it holds.
    pub(crate) failures: Vec<String>,
    /// Why nobody can say that it holds: `the noise hides up to +94 %; more rounds show more`.
    pub(crate) hidden: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Passed,
    Failed,
    /// It may hold, or not.
    NotShown,
}

impl Finding {
    pub(crate) fn status(&self) -> Status {
        match (self.failures.is_empty(), &self.hidden) {
            (false, _) => Status::Failed,
            (true, Some(_)) => Status::NotShown,
            (true, None) => Status::Passed,
        }
    }

    /// Strictly, only what was shown.
    pub(crate) fn holds(&self, is_strict: bool) -> bool {
        match self.status() {
            Status::Passed => true,
            Status::Failed => false,
            Status::NotShown => !is_strict,
        }
    }
}

impl Status {
    pub(crate) fn told(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::NotShown => "not shown",
        }
    }
}

impl Threshold {
    /// `lone`: loads of the base that the new report lacks, each with its place.
    pub(crate) fn check(&self, rows: &[Row], lone: &[(String, Load)]) -> Finding {
        let of_metric = rows.iter().filter(|row| row.metric == self.metric);
        let here = of_metric.filter(|row| self.load.is_none_or(|place| place.has(row.load)));
        let mut rows: Vec<&Row> = here.collect();
        if self.load.is_none() && rows.iter().any(|row| row.is_told) {
            rows.retain(|row| row.is_told);
        }
        let mut failures: Vec<String> = rows.iter().filter_map(|row| self.failure(row)).collect();
        if rows.is_empty() {
            failures.push("no such measurement is in both reports".to_owned());
        }
        let hidden = self.unmatched(lone).or_else(|| self.hidden(&rows));
        Finding { threshold: self.text.clone(), failures, hidden }
    }

    /// Of what it would have to be checked on, and cannot.
    fn unmatched(&self, lone: &[(String, Load)]) -> Option<String> {
        let is_meant = |load: Load| match self.load {
            Some(place) => place.has(load),
            // Latencies are about offered rates.
            None => load != Load::Closed || self.metric == Metric::Rate,
        };
        let meant: Vec<_> = lone.iter().filter(|(_, load)| is_meant(*load)).collect();
        let (place, _) = meant.first()?;
        let others = match meant.len() {
            1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        Some(format!("the new report has nothing to compare with {place}{others}"))
    }

    /// The end of an interval that is farthest beyond the limit.
    fn hidden(&self, rows: &[&Row]) -> Option<String> {
        let Limit::Change(limit) = self.limit else { return None };
        let differences = rows.iter().filter_map(|row| row.difference.ok());
        let ends = differences.map(|difference| {
            let end = if self.fails_above { difference.high } else { difference.low };
            (difference.scale, end)
        });
        let beyond = ends.filter(|(_, end)| self.is_beyond(*end, limit));
        let farthest =
            beyond.max_by(|(_, a), (_, b)| (a - limit).abs().total_cmp(&(b - limit).abs()));
        let end = farthest.map(|(scale, end)| number::change_by(scale, end));
        end.map(|end| format!("the noise hides up to {end}; more rounds show more"))
    }

    /// Why it does not hold there.
    fn failure(&self, row: &Row) -> Option<String> {
        let told = |value: Option<_>| number::spread(self.metric, value);
        let values = format!("{}: {}, then {}", row.place, told(row.base), told(row.new));
        let Some(new) = row.new else {
            return Some(format!("{}: not seen in the new report", row.place));
        };
        match (self.limit, row.difference) {
            (Limit::Value(limit), _) => self.is_beyond(new.median, limit).then_some(values),
            (Limit::Change(_), Err(Gap::Unseen)) => {
                Some(format!("{}: not seen in the base", row.place))
            }
            (Limit::Change(_), Err(Gap::Disturbed)) => {
                Some(format!("{values}: others had too much of the machine"))
            }
            (Limit::Change(limit), Ok(difference)) => {
                let fails = difference.is_real && self.is_beyond(difference.change, limit);
                fails.then(|| format!("{values}: {} ({})", row.change(), row.interval()))
            }
        }
    }

    fn is_beyond(&self, value: f64, limit: f64) -> bool {
        if self.fails_above { value > limit } else { value < limit }
    }
}

impl Where {
    fn has(self, load: Load) -> bool {
        match (self, load) {
            (Self::Closed, Load::Closed) | (Self::Rate, Load::Rate(_)) => true,
            (Self::Percent(asked), Load::PercentOfPeak(percent)) => asked == percent,
            _ => false,
        }
    }
}

impl FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: String| format!("{why}; write it {EXAMPLES}");
        let at = text.find(['<', '>']).ok_or_else(|| wrong("there is no < or >".to_owned()))?;
        let (left, right) = (&text[..at], text[at + 1..].trim());
        let fails_above = text[at..].starts_with('>');
        let (name, load) = match left.split_once('@') {
            Some((name, load)) => (name, Some(place(load).map_err(wrong)?)),
            None => (left, None),
        };
        let metric = metric(name).map_err(wrong)?;
        let limit = limit(metric, right).map_err(wrong)?;
        let is_change = matches!(limit, Limit::Change(_));
        if is_change && right.starts_with('+') != fails_above {
            return Err(wrong(format!("a change is > with + or < with -, not {}", &text[at..])));
        }
        Ok(Self { text: text.to_owned(), metric, load, fails_above, limit })
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn place(text: &str) -> Result<Where, String> {
    let text = text.trim();
    let percent = || text.strip_suffix('%')?.trim().parse().ok();
    match text {
        "closed" => Ok(Where::Closed),
        "rate" => Ok(Where::Rate),
        _ => percent()
            .map(Where::Percent)
            .ok_or_else(|| format!("the load {text:?} is none of closed, rate, 50%, 70%, 90%")),
    }
}

fn metric(name: &str) -> Result<Metric, String> {
    let asked = plain(name);
    let by_name = METRICS.into_iter().find(|metric| plain(metric.name()) == asked);
    let alias = || ALIASES.iter().find(|(alias, _)| *alias == asked).map(|(_, metric)| *metric);
    by_name.or_else(alias).ok_or_else(|| {
        let names = METRICS.map(Metric::name).join(", ");
        format!("the metric {:?} is none of {names}", name.trim())
    })
}

/// Letters and digits, small.
fn plain(name: &str) -> String {
    let letters = name.chars().filter(|c| c.is_alphanumeric());
    letters.flat_map(char::to_lowercase).collect()
}

fn limit(metric: Metric, text: &str) -> Result<Limit, String> {
    let is_change = text.starts_with(['+', '-']);
    let end = text.find(|c: char| !c.is_ascii_digit() && !"+-.".contains(c)).unwrap_or(text.len());
    let (digits, unit) = (&text[..end], text[end..].trim());
    let number: f64 =
        digits.parse().map_err(|_| format!("the value {text:?} does not begin with a number"))?;
    match (is_change, metric, unit) {
        (true, Metric::Errors | Metric::Unsent, "%" | "") => Ok(Limit::Change(number)),
        (true, _, "%") => Ok(Limit::Change(1.0 + number / 100.0)),
        (true, _, _) => Err(format!("the change {text:?} is not in percent")),
        (false, _, unit) => match factor(metric, unit) {
            Some(factor) => Ok(Limit::Value(number * factor)),
            None if unit == "%" => Err(format!("{text:?} needs a sign: +{text} or -{text}")),
            None => Err(format!("{} is not counted in {unit:?}", metric.name())),
        },
    }
}

/// What one of this unit is in the metric's own; no unit is its own.
fn factor(metric: Metric, unit: &str) -> Option<f64> {
    let units: &[(&str, f64)] = match metric {
        Metric::Rate => &[("/s", 1.0), ("rps", 1.0)],
        Metric::P50 | Metric::P90 | Metric::P99 | Metric::P99_9 | Metric::Max => {
            &[("ms", 1.0), ("s", 1e3), ("us", 1e-3), ("µs", 1e-3)]
        }
        Metric::Errors | Metric::Unsent => &[("%", 1.0)],
        Metric::CpuServer | Metric::CpuPostgres | Metric::CpuGenerator => {
            &[("us", 1.0), ("µs", 1.0), ("ms", 1e3)]
        }
        Metric::Memory => &[("MiB", 1.0), ("GiB", 1024.0)],
    };
    let known = units.iter().find(|(known, _)| *known == unit).map(|(_, factor)| *factor);
    if unit.is_empty() { Some(1.0) } else { known }
}
