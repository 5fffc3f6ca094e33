//! A comparison as a comment on a pull request.
//!
//! Called by [`super`]. What is real stands open, everything else folds away. Names of files and
//! servers come from outside: what would be read as markup is escaped.

use crate::report::number;

use super::rows::Row;
use super::{Comparison, text};

const HEAD: &str = "| where | what | base | new | difference | 99 % interval |\n\
                    | --- | --- | ---: | ---: | ---: | ---: |\n";

/// Ends with a line break.
pub(crate) fn markdown(comparisons: &[Comparison]) -> String {
    comparisons.iter().map(one).collect::<Vec<_>>().join("\n")
}

fn one(comparison: &Comparison) -> String {
    let Comparison { base, new, notes, rows, findings, .. } = comparison;
    let mut text = format!("**{}** {}\n\n", escaped(&comparison.verdict()), text::tell(comparison));
    for finding in findings {
        text += &format!("- {}\n", escaped(&text::head(finding)));
        let failures = finding.failures.iter();
        text.extend(failures.map(|failure| format!("  - {}\n", escaped(failure))));
    }
    let told: Vec<&Row> = rows.iter().filter(|row| row.is_told).collect();
    let (real, other): (Vec<&Row>, Vec<&Row>) = told.iter().partition(|row| row.is_real());
    if !real.is_empty() {
        text += &format!("\n{HEAD}{}", lines(&real));
    }
    let summary = format!("{} against {}: circumstances and what is within the noise", new, base);
    text += &format!("\n<details><summary>{}</summary>\n\n", escaped(&summary));
    for note in notes.iter().chain([&text::basis()]) {
        text += &format!("- {}\n", escaped(note));
    }
    text + &format!("\n{HEAD}{}\n</details>\n", lines(&other))
}

fn lines(rows: &[&Row]) -> String {
    let line = |row: &&Row| {
        let [base, new] = [row.base, row.new].map(|spread| number::spread(row.metric, spread));
        let (place, what) = (escaped(&row.place), row.metric.name());
        format!("| {place} | {what} | {base} | {new} | {} | {} |\n", row.change(), row.interval())
    };
    rows.iter().map(line).collect()
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '&' => escaped += "&amp;",
            '|' | '*' | '_' | '`' | '[' | ']' | '\\' | '#' | '~' | '@' => escaped.extend(['\\', c]),
            '\n' | '\r' => escaped.push(' '),
            _ => escaped.push(c),
        }
    }
    escaped
}
