//! Metrics: what the scoreboard's words are called outside.
//!
//! One table (`table`) declares every metric: its name, kind, labels, meaning and where its number is.
//! Of it are made the layout of a scoreboard cell ([`layout`]), what `/metrics` answers (`text`, through
//! `samples`) and METRICS.md. `serving` hands the layout to the supervisor before the first fork and the
//! words to the worker; `admin` reads. Nothing here is counted twice, and nothing is computed while a
//! request is answered: sums are made when they are asked for.
//! Sources: OpenMetrics 1.0; Prometheus, "Exposition formats"; OpenTelemetry, "Semantic conventions for
//! HTTP metrics" and "for database client metrics".

mod own;
mod samples;
mod table;
#[cfg(test)]
pub(crate) mod tests;
mod text;

use std::sync::LazyLock;

use sha2::{Digest, Sha256};
use supervisor::{CellLayout, Told};
use worker::Durations;
use worker::meters::{BUCKETS_NS, DURATIONS_AT, GAUGES, HISTOGRAM_WORDS, RETRY_CAUSES, SQLSTATES};

pub use self::own::{AppMeters, OwnCounter, OwnGauge, PasswordMeters, Queued, SchemaState};
use self::own::{OWN_COUNTERS, OWN_GAUGES};
pub use self::samples::Scrape;
pub use self::table::{METRICS, Metric, listing};
pub use self::text::{Format, write};
use crate::{docs, resources};

/// The series of the durations of requests: those of every route there may be, whatever the settings
/// leave out, so that a reload changes no place.
pub fn durations() -> &'static Durations {
    static DURATIONS: LazyLock<Durations> = LazyLock::new(|| {
        let mut routes = resources::routes(true);
        docs::routes(&mut routes, true);
        Durations::of(routes.operations())
    });
    &DURATIONS
}

/// Where the application's own counters begin: after the worker's.
fn own_counters_at() -> usize {
    DURATIONS_AT + durations().words()
}

/// What a cell of the scoreboard holds.
#[must_use]
pub fn layout() -> CellLayout {
    let (counters, gauges) = (own_counters_at() + OWN_COUNTERS, GAUGES + OWN_GAUGES);
    let rows = durations().words() / HISTOGRAM_WORDS;
    let told = Told { at: DURATIONS_AT, rows, words: HISTOGRAM_WORDS };
    CellLayout { id: id(durations()), counters, gauges, told }
}

/// What the words mean, as a number: another table, another number.
fn id(durations: &Durations) -> u64 {
    let mut hash = Sha256::new();
    for metric in METRICS {
        let Metric { name, labels, source, .. } = metric;
        hash.update(format!("{name}{labels:?}{source:?}{}\n", source.place()));
    }
    hash.update(format!("{SQLSTATES:?}{RETRY_CAUSES:?}{BUCKETS_NS:?}"));
    for series in durations.series() {
        hash.update(format!("{series:?}\n"));
    }
    let digest = hash.finalize();
    u64::from_be_bytes(digest[..8].try_into().expect("a digest has 32 bytes"))
}
