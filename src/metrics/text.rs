//! The text of `/metrics`, in the two forms that are asked for.
//!
//! `admin` calls [`write()`]. Small on purpose: the numbers stand in shared memory, and a library's registry
//! would be a second place for them. Sources: OpenMetrics 1.0; Prometheus, "Exposition formats", 0.0.4.

use std::fmt::Write as _;
use std::sync::LazyLock;

use worker::meters::BUCKETS_NS;

use super::samples::{Sample, Scrape, Value};
use super::table::{Kind, METRICS, Metric};

/// The form of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// What Prometheus read before, 0.0.4.
    Prometheus,
}

impl Format {
    /// What a client accepts; the older form unless it names the other one.
    #[must_use]
    pub fn of(accept: Option<&str>) -> Self {
        let ranges = accept.unwrap_or_default().split(',');
        let refused = |range: &str| {
            let mut parameters = range.split(';').skip(1).map(str::trim);
            parameters.any(|parameter| matches!(parameter, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
        };
        let names = |range: &str| {
            let media_type = range.split(';').next().unwrap_or_default().trim();
            media_type.eq_ignore_ascii_case("application/openmetrics-text") && !refused(range)
        };
        if ranges.into_iter().any(names) { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// Its media type.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Upper ends of buckets, as the text has them.
static ENDS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let ends = BUCKETS_NS.iter().map(|ns| format!("{:?}", seconds(*ns)));
    ends.chain(["+Inf".to_owned()]).collect()
});

/// What there is to say with some hundred series.
const TEXT_BYTES: usize = 256 * 1024;

/// Every metric, as text.
#[must_use]
pub fn write(scrape: &Scrape<'_>, format: Format) -> String {
    let mut text = String::with_capacity(TEXT_BYTES);
    for metric in METRICS {
        head(&mut text, metric, format);
        for sample in scrape.samples(metric) {
            body(&mut text, metric, &sample);
        }
    }
    if format == Format::OpenMetrics {
        text.push_str("# EOF\n");
    }
    text
}

/// What a family is. Writing to a text cannot fail.
fn head(text: &mut String, metric: &Metric, format: Format) {
    let (name, kind) = match (format, metric.kind()) {
        (Format::OpenMetrics, kind) => (metric.name.to_owned(), kind),
        // It knows no family apart from its samples, and no `info`.
        (Format::Prometheus, Kind::Info) => (metric.full_name(), Kind::Gauge),
        (Format::Prometheus, kind) => (metric.full_name(), kind),
    };
    let _ = writeln!(text, "# TYPE {name} {}", kind.name());
    if let (Format::OpenMetrics, Some(unit)) = (format, metric.unit()) {
        let _ = writeln!(text, "# UNIT {name} {unit}");
    }
    let _ = writeln!(text, "# HELP {name} {}", metric.help);
}

fn body(text: &mut String, metric: &Metric, sample: &Sample<'_>) {
    let labels = labels(metric.labels, &sample.labels);
    let name = metric.full_name();
    let _ = match &sample.value {
        Value::Whole(value) => writeln!(text, "{name}{} {value}", braces(&labels)),
        Value::Fraction(value) => writeln!(text, "{name}{} {value}", braces(&labels)),
        Value::Histogram(words) => return histogram(text, &name, &labels, words),
    };
}

/// Buckets count all that is shorter, too; the count is that of all, so the two always agree.
fn histogram(text: &mut String, name: &str, labels: &str, words: &[u64]) {
    let Some((sum_ns, counts)) = words.split_last() else { return };
    let comma = if labels.is_empty() { "" } else { "," };
    let mut count = 0;
    for (more, end) in counts.iter().zip(&*ENDS) {
        count += more;
        let _ = writeln!(text, "{name}_bucket{{{labels}{comma}le=\"{end}\"}} {count}");
    }
    let _ = writeln!(text, "{name}_count{} {count}", braces(labels));
    let _ = writeln!(text, "{name}_sum{} {}", braces(labels), seconds(*sum_ns));
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

fn labels(names: &[&str], values: &[String]) -> String {
    let pairs = names.iter().zip(values).filter(|(_, value)| !value.is_empty());
    let pair = |(name, value): (&&str, &String)| format!("{name}=\"{}\"", escaped(value));
    pairs.map(pair).collect::<Vec<_>>().join(",")
}

fn braces(labels: &str) -> String {
    if labels.is_empty() { String::new() } else { format!("{{{labels}}}") }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
