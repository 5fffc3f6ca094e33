//! Axes: from a value to its place between 0 and 1, and where the ticks are.
//!
//! Made by the charts, drawn by [`super::plot`] and [`super::bars`]. Knows no pixels: the same axis is
//! drawn at every width.

use super::number;

/// Ticks that an axis should have, about.
const TICKS: f64 = 5.0;

/// An axis with its ticks.
#[derive(Debug, Clone)]
pub(crate) struct Axis {
    pub(crate) title: String,
    is_log: bool,
    from: f64,
    to: f64,
    /// Value and label, in order.
    pub(crate) ticks: Vec<(f64, String)>,
}

impl Axis {
    /// From 0 to a round number not below `max`; labels by `label`.
    pub(crate) fn from_zero(title: &str, max: f64, label: fn(f64) -> String) -> Self {
        let max = if max > 0.0 && max.is_finite() { max } else { 1.0 };
        let step = round_step(max / TICKS);
        let steps = (max / step - 1e-9).ceil();
        let ticks = (0..=steps as u32).map(|n| f64::from(n) * step);
        let ticks = ticks.map(|value| (value, label(value))).collect();
        Self { title: title.to_owned(), is_log: false, from: 0.0, to: steps * step, ticks }
    }

    /// Between two values, with these ticks.
    pub(crate) fn with_ticks(title: &str, from: f64, to: f64, ticks: Vec<(f64, String)>) -> Self {
        Self { title: title.to_owned(), is_log: false, from, to, ticks }
    }

    /// Logarithmic, over all the values above 0; durations in milliseconds. `None` without any.
    pub(crate) fn log_ms(title: &str, values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let values = values.into_iter().filter(|value| *value > 0.0 && value.is_finite());
        let (min, max) = values
            .fold((f64::INFINITY, 0.0_f64), |(min, max), value| (min.min(value), max.max(value)));
        if max == 0.0 {
            return None;
        }
        let mut steps = one_two_five(min, max);
        // One step alone is no axis.
        while steps.len() < 3 {
            steps = one_two_five(steps[0] * 0.9, steps[steps.len() - 1] * 1.1);
        }
        let (from, to) = (steps[0], steps[steps.len() - 1]);
        if steps.len() > 8 {
            steps.retain(|step| is_power_of_ten(*step));
        }
        let ticks = steps.into_iter().map(|step| (step, number::plain_duration(step))).collect();
        Some(Self { title: title.to_owned(), is_log: true, from, to, ticks })
    }

    /// Its place: 0 at the start, 1 at the end, outside when it is outside.
    pub(crate) fn place(&self, value: f64) -> f64 {
        match self.is_log {
            true => (value.max(f64::MIN_POSITIVE) / self.from).ln() / (self.to / self.from).ln(),
            false => (value - self.from) / (self.to - self.from),
        }
    }

    pub(crate) fn end(&self) -> f64 {
        self.to
    }
}

/// The next of 1, 2, 5, 10 times a power of ten that is not below.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    let factors = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter();
    factors.map(|factor| factor * power).find(|step| *step >= least * 0.999).unwrap_or(least)
}

/// All of 1, 2, 5 times a power of ten from the last one not above `min` to the first not below `max`.
fn one_two_five(min: f64, max: f64) -> Vec<f64> {
    let first = min.log10().floor() as i32;
    let last = max.log10().ceil() as i32;
    let all = (first..=last).flat_map(|power| [1.0, 2.0, 5.0].map(|f| f * 10_f64.powi(power)));
    let all: Vec<f64> = all.collect();
    let from = all.iter().rposition(|step| *step <= min * 1.001).unwrap_or(0);
    let to = all.iter().position(|step| *step >= max * 0.999).unwrap_or(all.len() - 1);
    all[from..=to.max(from)].to_vec()
}

fn is_power_of_ten(value: f64) -> bool {
    (value.log10() - value.log10().round()).abs() < 1e-6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn an_axis_from_zero_ends_on_a_round_number_above_its_values() {
        let axis = Axis::from_zero("requests/s", 16_800.0, number::plain);
        assert_eq!(labels(&axis), ["0", "5,000", "10,000", "15,000", "20,000"]);
        assert_eq!((axis.place(0.0), axis.place(10_000.0), axis.end()), (0.0, 0.5, 20_000.0));
        assert_eq!(labels(&Axis::from_zero("", 0.0, number::plain)).last(), Some(&"1"));
    }

    #[test]
    fn a_log_axis_holds_all_values_and_gives_each_factor_the_same_length() {
        let axis = Axis::log_ms("", [0.7, 45.0, 0.0, f64::NAN]).unwrap();
        assert_eq!(labels(&axis), ["0.5 ms", "1 ms", "2 ms", "5 ms", "10 ms", "20 ms", "50 ms"]);
        assert!((axis.place(5.0) - 0.5).abs() < 1e-9, "{}", axis.place(5.0));
        let one = Axis::log_ms("", [1.0]).unwrap();
        assert_eq!(labels(&one), ["0.5 ms", "1 ms", "2 ms"]);
        let wide = Axis::log_ms("", [0.02, 9000.0]).unwrap();
        assert_eq!(labels(&wide), ["0.1 ms", "1 ms", "10 ms", "100 ms", "1 s", "10 s"]);
        assert!(Axis::log_ms("", [0.0]).is_none());
    }
}
