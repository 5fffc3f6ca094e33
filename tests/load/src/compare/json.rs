//! A comparison for programs.
//!
//! Called by [`super`]. Values are medians over the rounds, in the unit that stands beside them; a
//! change is a ratio, or percentage points where `scale` says so. What was not seen is `null`.

use serde_json::{Value, json};

use crate::report::statistics::{Difference, Scale};

use super::Comparison;
use super::rows::Row;

/// One array, one object for each report but the first; ends with a line break.
pub(crate) fn json(comparisons: &[Comparison]) -> String {
    let all: Vec<Value> = comparisons.iter().map(one).collect();
    format!("{}\n", Value::from(all))
}

fn one(comparison: &Comparison) -> Value {
    let Comparison { base, new, notes, rows, errors, unsent, findings } = comparison;
    let findings = findings.iter().map(|finding| {
        json!({
            "fail_if": finding.threshold, "status": finding.status().told(),
            "failures": finding.failures, "hidden": finding.hidden,
        })
    });
    json!({
        "base": base,
        "new": new,
        "verdict": comparison.verdict(),
        "notes": notes,
        "errors": { "base": errors[0], "new": errors[1] },
        "unsent": { "base": unsent[0], "new": unsent[1] },
        "thresholds": findings.collect::<Vec<_>>(),
        "rows": rows.iter().filter(|row| row.is_told).map(row).collect::<Vec<_>>(),
    })
}

fn row(row: &Row) -> Value {
    json!({
        "where": row.place,
        "metric": row.metric.name(),
        "unit": row.metric.unit(),
        "base": row.base.map(|spread| spread.median),
        "new": row.new.map(|spread| spread.median),
        "difference": row.difference.as_ref().ok().map(difference),
        "told": row.change(),
        "is_worse": row.is_real() && row.is_worse(),
    })
}

fn difference(difference: &Difference) -> Value {
    json!({
        "scale": match difference.scale { Scale::Ratio => "ratio", Scale::Points => "points" },
        "change": difference.change,
        "low": difference.low,
        "high": difference.high,
        "chance": difference.chance,
        "is_real": difference.is_real,
    })
}
