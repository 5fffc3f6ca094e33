//! Numbers as people read them: three significant digits, thousands apart, a unit that fits.
//!
//! Everything on the page that is a number comes from here, axes included, so that the same value
//! looks the same everywhere. Counts of things are exact.

/// Three significant digits: `15,100`, `1.84`, `0.0123`.
pub(crate) fn rounded(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return if value == 0.0 { "0".to_owned() } else { "?".to_owned() };
    }
    let magnitude = value.abs().log10().floor() as i32;
    // 999.6 rounds up into the next magnitude.
    let step = 10_f64.powi(magnitude - 2);
    let rounded = (value / step).round() * step;
    let decimals = usize::try_from(2 - rounded.abs().log10().floor() as i32).unwrap_or(0);
    let text = format!("{rounded:.decimals$}");
    match text.split_once('.') {
        Some((whole, part)) => format!("{}.{part}", apart(whole)),
        None => apart(&text),
    }
}

/// The same without zeros at the end of a fraction, for axes: `0.5`, `20`, `2,500`.
pub(crate) fn plain(value: f64) -> String {
    let text = rounded(value);
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// Of things: `1,234,567`.
pub(crate) fn count(value: u64) -> String {
    apart(&value.to_string())
}

/// `1 request`, `2 requests`.
pub(crate) fn counted(value: u64, one: &str) -> String {
    format!("{} {one}{}", count(value), if value == 1 { "" } else { "s" })
}

/// A duration that is given in milliseconds: `850 µs`, `1.23 ms`, `1.5 s`.
pub(crate) fn duration(ms: f64) -> String {
    in_unit(ms, rounded)
}

/// The same for axes.
pub(crate) fn plain_duration(ms: f64) -> String {
    in_unit(ms, plain)
}

/// In mebibytes.
pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", rounded(bytes as f64 / f64::from(1 << 20)))
}

/// A share of 1.
pub(crate) fn percent(share: f64) -> String {
    format!("{} %", rounded(share * 100.0))
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

/// Commas between thousands.
fn apart(digits: &str) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |rest| ("-", rest));
    let mut text = sign.to_owned();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
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
    fn three_digits_are_told() {
        let told = [
            (0.0, "0"),
            (15_123.4, "15,100"),
            (999.6, "1,000"),
            (99.96, "100"),
            (1.8449, "1.84"),
            (0.012_34, "0.0123"),
            (-1234.0, "-1,230"),
            (1_234_567.0, "1,230,000"),
            (f64::NAN, "?"),
        ];
        assert_eq!(told.map(|(value, _)| rounded(value)), told.map(|(_, text)| text.to_owned()));
    }

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
