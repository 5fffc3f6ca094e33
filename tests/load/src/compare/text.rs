//! A comparison for people at a terminal.
//!
//! Called by [`super`]. First the sentence that answers, then what makes it doubtful, then everything
//! that was compared, then the thresholds.

use crate::report::{number, table};

use super::Comparison;
use super::threshold::Finding;

/// Ends with a line break.
pub(crate) fn text(comparisons: &[Comparison], width: Option<u16>) -> String {
    let each = comparisons.iter().map(|comparison| one(comparison, width));
    each.collect::<Vec<_>>().join("\n")
}

fn one(comparison: &Comparison, width: Option<u16>) -> String {
    let Comparison { base, new, notes, rows, errors, findings } = comparison;
    let mut text = format!("{new} against {base}\n{}\n{}\n", comparison.verdict(), tell(*errors));
    for note in notes {
        text += &format!("  {note}\n");
    }
    let mut table = table::empty(width);
    table.set_header(["where", "what", "base", "new", "difference (99 % interval)"]);
    let mut place = "";
    for row in rows.iter().filter(|row| row.is_told) {
        let [base, new] = [row.base, row.new].map(|spread| match spread {
            Some(spread) => number::of(row.metric, spread.median),
            None => "-".to_owned(),
        });
        let first = if row.place == place { "" } else { row.place.as_str() };
        place = &row.place;
        table.add_row([first, row.metric.name(), &base, &new, &row.told()]);
    }
    text += &format!("\n{}\n", table.trim_fmt());
    for finding in findings {
        text += &format!("{}\n", tell_finding(finding));
    }
    text
}

/// Errors of all runs of both; none of them is left out because its phase has no counterpart.
pub(super) fn tell(errors: [u64; 2]) -> String {
    let [base, new] = errors.map(number::count);
    format!("Errors in all phases: {base}, then {new}.")
}

/// `holds: not p99>+10%`, or where it does not.
pub(super) fn tell_finding(finding: &Finding) -> String {
    match finding.holds() {
        true => format!("holds: not {}", finding.threshold),
        false => format!("FAILED: {}: {}", finding.threshold, finding.failures.join("; ")),
    }
}
