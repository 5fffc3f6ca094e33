//! Student's t distribution for whole degrees of freedom.
//!
//! Called by [`super`]. Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3
//! and 26.7.4. Degrees of freedom that are not whole are rounded down, which widens intervals and
//! never narrows them.

use std::f64::consts::FRAC_2_PI;

/// Nobody can tell more degrees of freedom from so many.
const FREEDOM_MAX: f64 = 500.0;
/// No quantile that is asked for lies beyond it.
const QUANTILE_MAX: f64 = 1000.0;

/// How likely a value at least so far from 0, on either side, is by chance.
pub(super) fn chance_beyond(t: f64, freedom: f64) -> f64 {
    if !t.is_finite() {
        return 0.0;
    }
    let freedom = freedom.clamp(1.0, FREEDOM_MAX).floor();
    let angle = (t.abs() / freedom.sqrt()).atan();
    let (sine, cosine) = angle.sin_cos();
    let is_odd = freedom % 2.0 == 1.0;
    // The last factor of the series is that of `freedom - 2`.
    let (mut term, mut factor) = if is_odd { (cosine, 3.0) } else { (1.0, 2.0) };
    let mut sum = if freedom == 1.0 { 0.0 } else { term };
    while factor <= freedom - 2.0 {
        term *= cosine * cosine * (factor - 1.0) / factor;
        sum += term;
        factor += 2.0;
    }
    let within = if is_odd { FRAC_2_PI * (angle + sine * sum) } else { sine * sum };
    (1.0 - within).clamp(0.0, 1.0)
}

/// The distance from 0 beyond which, on either side, a value lies with this chance.
pub(super) fn quantile(chance: f64, freedom: f64) -> f64 {
    let (mut near, mut far) = (0.0, QUANTILE_MAX);
    for _ in 0..60 {
        let middle = f64::midpoint(near, far);
        if chance_beyond(middle, freedom) > chance { near = middle } else { far = middle }
    }
    far
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the tables that every textbook has: 99 % and 95 %, two-sided.
    #[test]
    fn quantiles_are_those_of_the_printed_tables() {
        let printed = [
            (0.01, 1.0, 63.657),
            (0.01, 2.0, 9.925),
            (0.01, 3.0, 5.841),
            (0.01, 4.0, 4.604),
            (0.01, 7.0, 3.499),
            (0.01, 30.0, 2.750),
            (0.05, 1.0, 12.706),
            (0.05, 2.0, 4.303),
            (0.05, 9.0, 2.262),
            (0.05, 10.0, 2.228),
        ];
        for (chance, freedom, expected) in printed {
            let quantile = quantile(chance, freedom);
            assert!((quantile - expected).abs() < 0.001, "{chance} {freedom}: {quantile}");
        }
    }

    #[test]
    fn degrees_of_freedom_are_rounded_to_the_wider_side() {
        assert_eq!(chance_beyond(2.0, 4.9), chance_beyond(2.0, 4.0));
        assert_eq!(chance_beyond(2.0, 0.3), chance_beyond(2.0, 1.0));
        assert_eq!(chance_beyond(f64::INFINITY, 3.0), 0.0);
        assert_eq!(chance_beyond(0.0, 3.0), 1.0);
    }
}
