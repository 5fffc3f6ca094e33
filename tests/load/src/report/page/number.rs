//! What numbers need on a page, beside what all texts do: units that fit, labels of axes.
//!
//! Called by the charts and the cards. Like the rest it rounds for the eye only; counts are exact.

use crate::report::number;
pub(super) use crate::report::number::{count, short};

/// Three digits without zeros at the end of a fraction, for axes: `0.5`, `20`, `2,500`.
pub(crate) fn plain(value: f64) -> String {
    let text = short(value);
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// `1.9 ×`: with the digits of the verdict's `1.9 x`.
pub(crate) fn times(ratio: f64) -> String {
    number::times(ratio).replace('x', "×")
}

/// `1 request`, `2 requests`.
pub(crate) fn counted(value: u64, one: &str) -> String {
    format!("{} {one}{}", count(value), if value == 1 { "" } else { "s" })
}

/// A duration that is given in milliseconds: `850 µs`, `1.23 ms`, `1.5 s`.
pub(crate) fn duration(ms: f64) -> String {
    in_unit(ms, short)
}

/// The same for axes.
pub(crate) fn plain_duration(ms: f64) -> String {
    in_unit(ms, plain)
}

/// In mebibytes.
pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", short(bytes as f64 / f64::from(1 << 20)))
}

/// A share of 1.
pub(crate) fn percent(share: f64) -> String {
    format!("{} %", short(share * 100.0))
}

/// The same for axes.
pub(crate) fn plain_percent(share: f64) -> String {
    format!("{} %", plain(share * 100.0))
}

fn in_unit(ms: f64, number: fn(f64) -> String) -> String {
    match ms {
        ms if ms >= 1000.0 => format!("{} s", number(ms / 1e3)),
        ms if ms >= 0.1 || ms == 0.0 => format!("{} ms", number(ms)),
        ms => format!("{} µs", number(ms * 1e3)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_the_unit_that_fits() {
        let told = [
            (0.0, "0 ms"),
            (0.05, "50.0 µs"),
            (0.85, "0.850 ms"),
            (1.2345, "1.23 ms"),
            (1500.0, "1.50 s"),
        ];
        assert_eq!(told.map(|(ms, _)| duration(ms)), told.map(|(_, text)| text.to_owned()));
        assert_eq!((plain_duration(0.5), plain_duration(2000.0)), ("0.5 ms".into(), "2 s".into()));
    }

    #[test]
    fn counts_are_exact_and_agree_with_their_word() {
        assert_eq!(counted(1, "request"), "1 request");
        assert_eq!(counted(1_234_567, "request"), "1,234,567 requests");
        assert_eq!(count(100), "100");
    }
}
