//! Distributions of durations: histograms while they are counted, [`Latency`] when they are told.
//!
//! The generator records, the conductor merges what its generators saw, the page draws. Microseconds
//! from 1 to an hour with three significant digits; what is longer counts as an hour. Nothing is lost
//! by merging: histograms add up, percentiles are computed afterwards. Source: HdrHistogram's V2
//! encoding.

use std::ops::AddAssign;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer as _, V2Serializer};

use super::model::Latency;

const MAX_US: u64 = 3_600_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;

/// Durations that are being counted.
#[derive(Debug, Clone)]
pub(crate) struct Durations(Histogram<u64>);

impl Durations {
    /// None yet.
    ///
    /// # Errors
    /// Never with these bounds; it is the library that does not know.
    pub(crate) fn new() -> Result<Self, String> {
        let histogram = Histogram::new_with_bounds(1, MAX_US, SIGNIFICANT_DIGITS);
        Ok(Self(histogram.map_err(|error| error.to_string())?))
    }

    pub(crate) fn record(&mut self, duration: Duration) {
        let rounded_us = (duration.as_nanos() + 500) / 1000;
        self.0.saturating_record(u64::try_from(rounded_us).unwrap_or(MAX_US));
    }

    /// Milliseconds that so many percent of the durations do not exceed; 0 when there are none.
    pub(crate) fn percentile_ms(&self, percent: f64) -> f64 {
        to_ms(self.0.value_at_percentile(percent))
    }

    /// As it is written down.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub(crate) fn told(&self) -> Result<Latency, String> {
        let mut bytes = Vec::new();
        let encoded = V2Serializer::new().serialize(&self.0, &mut bytes);
        encoded.map_err(|error| format!("a histogram cannot be encoded: {error:?}"))?;
        Ok(Latency {
            count: self.0.len(),
            mean_ms: self.0.mean() / 1e3,
            p50_ms: self.percentile_ms(50.0),
            p90_ms: self.percentile_ms(90.0),
            p99_ms: self.percentile_ms(99.0),
            p99_9_ms: self.percentile_ms(99.9),
            max_ms: to_ms(self.0.max()),
            histogram: STANDARD.encode(bytes),
        })
    }
}

/// All have the same bounds, so that this cannot fail.
impl AddAssign<&Self> for Durations {
    fn add_assign(&mut self, other: &Self) {
        self.0 += &other.0;
    }
}

impl Latency {
    /// What was counted; a `Latency` that nobody wrote (no text) counts nothing.
    ///
    /// # Errors
    /// When the text is no histogram.
    pub(crate) fn durations(&self) -> Result<Durations, String> {
        let mut durations = Durations::new()?;
        if !self.histogram.is_empty() {
            let bytes = STANDARD.decode(&self.histogram).map_err(|error| broken(&error))?;
            let histogram = Deserializer::new().deserialize::<u64, _>(&mut bytes.as_slice());
            let histogram = histogram.map_err(|error| broken(&error))?;
            durations.0.add(histogram).map_err(|error| broken(&error))?;
        }
        Ok(durations)
    }

    /// One distribution of all that were counted.
    ///
    /// # Errors
    /// As [`Latency::durations`].
    pub(crate) fn merged<'a>(all: impl IntoIterator<Item = &'a Self>) -> Result<Self, String> {
        let mut merged = Durations::new()?;
        for latency in all {
            merged += &latency.durations()?;
        }
        merged.told()
    }
}

fn to_ms(us: u64) -> f64 {
    us as f64 / 1e3
}

fn broken(error: &dyn std::fmt::Debug) -> String {
    format!("a histogram cannot be read ({error:?}): was the file changed by hand?")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(durations_ms: impl IntoIterator<Item = u64>) -> Latency {
        let mut durations = Durations::new().unwrap();
        durations_ms.into_iter().for_each(|ms| durations.record(Duration::from_millis(ms)));
        durations.told().unwrap()
    }

    fn is_near(value: f64, expected: f64) -> bool {
        (value - expected).abs() <= expected * 0.002
    }

    #[test]
    fn percentiles_are_right_to_three_digits() {
        let latency = of(1..=1000);
        assert_eq!(latency.count, 1000);
        assert!(is_near(latency.mean_ms, 500.5), "{}", latency.mean_ms);
        assert!(is_near(latency.p50_ms, 500.0), "{}", latency.p50_ms);
        assert!(is_near(latency.p90_ms, 900.0), "{}", latency.p90_ms);
        assert!(is_near(latency.p99_ms, 990.0), "{}", latency.p99_ms);
        assert!(is_near(latency.p99_9_ms, 999.0), "{}", latency.p99_9_ms);
        assert!(is_near(latency.max_ms, 1000.0), "{}", latency.max_ms);
    }

    #[test]
    fn merging_the_parts_gives_the_whole() {
        let (odd, even) = (of((1..1000).step_by(2)), of((2..=1000).step_by(2)));
        assert_eq!(Latency::merged([&odd, &even]).unwrap(), of(1..=1000));
    }

    #[test]
    fn what_was_told_is_read_again() {
        let latency = of([3, 3, 70_000]);
        assert_eq!(latency.durations().unwrap().told().unwrap(), latency);
    }

    #[test]
    fn nothing_counted_is_all_zeros() {
        let none = of([]);
        assert_eq!((none.count, none.mean_ms, none.p99_ms, none.max_ms), (0, 0.0, 0.0, 0.0));
        assert_eq!(Latency::merged([&Latency::default()]).unwrap(), none);
    }

    #[test]
    fn more_than_an_hour_counts_as_an_hour() {
        assert!(is_near(of([7_200_000]).max_ms, 3_600_000.0));
    }

    #[test]
    fn a_text_that_is_no_histogram_is_an_error() {
        let broken = |text: &str| {
            let latency = Latency { histogram: text.to_owned(), ..Latency::default() };
            latency.durations().unwrap_err()
        };
        assert!(broken("%").contains("cannot be read"));
        assert!(broken("AAAA").contains("cannot be read"));
    }
}
