//! Numbers as people read them: three digits that mean something, thousands set apart, a unit.
//!
//! Called by everything that tells a report as text. It rounds for the eye only.

use super::statistics::{Difference, Scale};
use super::summary::{Metric, Spread};

/// Three significant digits, all of them before the point where there are more.
pub(crate) fn short(value: f64) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    let digits = 2 - value.abs().log10().floor().clamp(-12.0, 8.0) as i32;
    let step = 10_f64.powi(digits);
    let rounded = (value * step).round() / step;
    match digits {
        ..=0 => whole(rounded as i64),
        _ => format!("{rounded:.*}", digits as usize),
    }
}

/// Exact.
pub(crate) fn count(value: u64) -> String {
    whole(i64::try_from(value).unwrap_or(i64::MAX))
}

/// With its unit: `3.12 ms`, `5,120/s`.
pub(crate) fn of(metric: Metric, value: f64) -> String {
    let gap = if metric == Metric::Rate { "" } else { " " };
    format!("{}{gap}{}", short(value), metric.unit())
}

/// The median, and the ends where there are any.
pub(crate) fn spread(metric: Metric, spread: Option<Spread>) -> String {
    match spread {
        None => "-".to_owned(),
        Some(Spread { median, min, max }) if min == max => of(metric, median),
        Some(Spread { median, min, max }) => {
            format!("{} ({} to {})", of(metric, median), short(min), short(max))
        }
    }
}

/// How many times as much: `1.9 x`.
pub(crate) fn times(ratio: f64) -> String {
    if ratio < 9.95 { format!("{ratio:.1} x") } else { format!("{} x", short(ratio)) }
}

/// `+35 %`, `-4.2 %`, `+0.5 points`, `12 x`.
pub(crate) fn change(difference: &Difference) -> String {
    change_by(difference.scale, difference.change)
}

/// The interval: `-4.2 to +8.1 %`.
pub(crate) fn interval(difference: &Difference) -> String {
    let Difference { scale, low, high, .. } = *difference;
    let (low, high) = (change_by(scale, low), change_by(scale, high));
    // One unit is enough where both have the same.
    let unit = high.rsplit_once(' ').map_or("", |(_, unit)| unit);
    let low = low.strip_suffix(unit).unwrap_or(&low).trim_end();
    format!("{low} to {high}")
}

/// The same of a change alone.
pub(crate) fn change_by(scale: Scale, change: f64) -> String {
    match scale {
        Scale::Points => format!("{change:+.2} points"),
        Scale::Ratio if change >= 10.0 => times(change),
        Scale::Ratio => {
            let percent = (change - 1.0) * 100.0;
            let digits = usize::from(percent.abs() < 9.95);
            format!("{percent:+.digits$} %")
        }
    }
}

fn whole(value: i64) -> String {
    let digits = value.unsigned_abs().to_string();
    let mut text = if value < 0 { "-".to_owned() } else { String::new() };
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_are_enough() {
        let cases = [
            (0.0, "0"),
            (0.001_234, "0.00123"),
            (0.0999, "0.0999"),
            (3.125, "3.13"),
            (31.25, "31.3"),
            (312.5, "313"),
            (5123.4, "5,120"),
            (999_999.0, "1,000,000"),
            (-1234.0, "-1,230"),
            (f64::NAN, "-"),
            (f64::INFINITY, "-"),
        ];
        for (value, text) in cases {
            assert_eq!(short(value), text);
        }
        assert_eq!(count(1_204_332), "1,204,332");
        assert_eq!(count(7), "7");
    }

    #[test]
    fn values_carry_their_units() {
        assert_eq!(of(Metric::Rate, 5123.4), "5,120/s");
        assert_eq!(of(Metric::P99, 3.125), "3.13 ms");
        let both = Spread::of(&[4.0, 2.0, 3.0]);
        assert_eq!(spread(Metric::P50, both), "3.00 ms (2.00 to 4.00)");
        assert_eq!(spread(Metric::P50, None), "-");
    }

    #[test]
    fn a_change_is_told_as_percent_until_it_is_many_times() {
        assert_eq!(change_by(Scale::Ratio, 1.345), "+34 %");
        assert_eq!(change_by(Scale::Ratio, 0.958), "-4.2 %");
        assert_eq!(change_by(Scale::Ratio, 12.0), "12.0 x");
        assert_eq!(change_by(Scale::Points, 0.5), "+0.50 points");
    }
}
