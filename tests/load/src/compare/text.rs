//! A comparison for people at a terminal.
//!
//! Called by [`super`]. First the sentence that answers, then what makes it doubtful, then everything
//! that was compared, then the thresholds.

use crate::report::statistics::ASSUMED_DRIFT;
use crate::report::{number, table};

use super::Comparison;
use super::threshold::{Finding, Status};

/// Ends with a line break.
pub(crate) fn text(comparisons: &[Comparison], width: Option<u16>) -> String {
    let each = comparisons.iter().map(|comparison| one(comparison, width));
    each.collect::<Vec<_>>().join("\n")
}

fn one(comparison: &Comparison, width: Option<u16>) -> String {
    let Comparison { base, new, notes, rows, findings, .. } = comparison;
    let mut text =
        format!("{new} against {base}\n{}\n{}\n", comparison.verdict(), tell(comparison));
    for note in notes {
        text += &format!("  {note}\n");
    }
    let mut table = table::empty(width);
    table.set_header(["where", "what", "base", "new", "difference", "99 % interval"]);
    let mut place = "";
    for row in rows.iter().filter(|row| row.is_told) {
        let [base, new] = [row.base, row.new].map(|spread| match spread {
            Some(spread) => number::of(row.metric, spread.median),
            None => "-".to_owned(),
        });
        let first = if row.place == place { "" } else { row.place.as_str() };
        place = &row.place;
        table.add_row([first, row.metric.name(), &base, &new, &row.change(), &row.interval()]);
    }
    text += &format!("\n{}\n", table.trim_fmt());
    for finding in findings {
        text += &format!("{}\n", head(finding));
        text.extend(finding.failures.iter().map(|failure| format!("  {failure}\n")));
    }
    text + &basis() + "\n"
}

/// Errors of all runs of both, and requests that were never sent; none of them is left out because its
/// phase has no counterpart.
pub(super) fn tell(comparison: &Comparison) -> String {
    let [base, new] = comparison.errors.map(number::count);
    let errors = format!("Errors in all phases: {base}, then {new}");
    if comparison.unsent == [0, 0] {
        return format!("{errors}.");
    }
    let [base, new] = comparison.unsent.map(number::count);
    format!("{errors}; requests never sent: {base}, then {new}.")
}

/// `passed: --fail-if p99>+10%`; where it does not hold follows in lines of their own.
pub(super) fn head(finding: &Finding) -> String {
    let status = finding.status();
    let word = if status == Status::Failed { "FAILED" } else { status.told() };
    let head = format!("{word}: --fail-if {}", finding.threshold);
    match (status, &finding.hidden) {
        (Status::NotShown, Some(hidden)) => format!("{head}: {hidden}"),
        _ => head,
    }
}

/// What the intervals rest on.
pub(super) fn basis() -> String {
    format!(
        "The intervals hold the noise of the rounds and an assumed drift of the machine of {:.0} % \
         for each report; to see less, measure both servers in one run.",
        ASSUMED_DRIFT * 100.0
    )
}
