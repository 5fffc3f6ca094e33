//! `peace-loadtest compare`: what differs between reports, and whether that may be merged.
//!
//! The command line gives [`Options`]; [`run`] reads the reports, matches what both measured
//! ([`pairs`]), judges it ([`rows`]), says where the circumstances differ ([`cards`]), checks the thresholds
//! ([`threshold`]) and tells all of it ([`text`], [`markdown`], [`json`]). Each report is compared
//! with the first. It promises that nothing is called a difference that noise explains, and that a
//! threshold which cannot be checked does not hold.

pub(crate) mod cards;
pub(crate) mod json;
pub(crate) mod markdown;
pub(crate) mod pairs;
pub(crate) mod rows;
pub(crate) mod text;
pub(crate) mod threshold;

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::report::file::{self, FileError};
use crate::report::model::{Report, Run};
use crate::report::table;
use pairs::Matched;
use rows::Row;
use threshold::{Finding, Threshold};

/// Compare reports of the same servers, each with the first; noise is not called a difference.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Two or more report.json; the first is the base.
    #[arg(required = true, num_args = 2.., value_name = "REPORT")]
    reports: Vec<PathBuf>,
    /// Exit 1 when this is so: a metric, < or >, and a value (20ms) or a change (+10%) that is more than
    /// noise; may be given more than once, as 'p99>+10%', 'rps<-5%', 'errors>0.1%', 'p99@70%>20ms'.
    #[arg(long, value_name = "THRESHOLD")]
    fail_if: Vec<Threshold>,
    /// Exit 1 also when the noise may hide a change that --fail-if asks for.
    #[arg(long, requires = "fail_if")]
    strict: bool,
    /// A table for people, Markdown for a pull request, or JSON for programs.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Markdown,
    Json,
}

/// Why nothing could be compared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompareError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(
        "{base} and {new} measured nothing in common; compare runs of the same server, counts and loads"
    )]
    NothingInCommon { base: String, new: String },
    #[error("what was compared cannot be written: {0}")]
    Write(#[from] io::Error),
}

/// A report against the base.
#[derive(Debug)]
pub(crate) struct Comparison {
    /// Names of the files.
    pub(crate) base: String,
    pub(crate) new: String,
    /// Why the numbers may not be comparable, and what was left out; sentences.
    pub(crate) notes: Vec<String>,
    pub(crate) rows: Vec<Row>,
    /// Errors of all runs, whether they could be matched or not.
    pub(crate) errors: [u64; 2],
    /// Requests of all runs that were never sent.
    pub(crate) unsent: [u64; 2],
    /// One for each threshold.
    pub(crate) findings: Vec<Finding>,
}

/// Whether all thresholds hold.
pub(crate) fn run(options: &Options, out: &mut impl Write) -> Result<bool, CompareError> {
    let reports = options.reports.iter().map(|path| file::read(path));
    let reports: Vec<Report> = reports.collect::<Result<_, _>>()?;
    let names = options.reports.iter().map(|path| path.display().to_string());
    let mut reports = names.zip(&reports);
    let mut comparisons = Vec::new();
    if let Some(base) = reports.next() {
        for new in reports {
            comparisons.push(compare((&base.0, base.1), (&new.0, new.1), &options.fail_if)?);
        }
    }
    let told = match options.format {
        Format::Text => text::text(&comparisons, table::terminal_width()),
        Format::Markdown => markdown::markdown(&comparisons),
        Format::Json => json::json(&comparisons),
    };
    out.write_all(told.as_bytes())?;
    out.flush()?;
    let mut findings = comparisons.iter().flat_map(|comparison| &comparison.findings);
    Ok(findings.all(|finding| finding.holds(options.strict)))
}

/// Two reports, each with its name.
fn compare(
    base: (&str, &Report),
    new: (&str, &Report),
    thresholds: &[Threshold],
) -> Result<Comparison, CompareError> {
    let Matched { pairs, lone, notes: unmatched } = pairs::pairs(base.1, new.1);
    let (base_name, new_name) = (base.0.to_owned(), new.0.to_owned());
    if pairs.is_empty() {
        return Err(CompareError::NothingInCommon { base: base_name, new: new_name });
    }
    let rows = rows::rows(&pairs);
    let findings = thresholds.iter().map(|threshold| threshold.check(&rows, &lone)).collect();
    let mut notes = cards::differences(&base.1.card, &new.1.card);
    notes.extend(cards::interrupted("The base", base.1));
    notes.extend(cards::interrupted("The new one", new.1));
    notes.extend(unmatched);
    let sum = |of: fn(&Run) -> u64| [base.1, new.1].map(|report| report.runs.iter().map(of).sum());
    let (errors, unsent) = (sum(|run| run.traffic.failed()), sum(|run| run.traffic.unsent));
    Ok(Comparison { base: base_name, new: new_name, notes, rows, errors, unsent, findings })
}

impl Comparison {
    /// One sentence: what is worse, what is better, or that nothing is.
    pub(crate) fn verdict(&self) -> String {
        let told = self.rows.iter().filter(|row| row.is_told);
        let compared = told.filter(|row| row.difference.is_ok()).count();
        let of = |is_worse: bool| {
            let real = self.rows.iter().filter(|row| row.is_told && row.is_real());
            real.filter(|row| row.is_worse() == is_worse).collect::<Vec<_>>()
        };
        let (worse, better) = (of(true), of(false));
        if compared == 0 {
            return "Nothing can be said: no measurement could be judged.".to_owned();
        }
        if worse.is_empty() && better.is_empty() {
            return format!("No real difference in {compared} comparisons.");
        }
        let part = |rows: &[&Row], word: &str| match rows::largest(rows) {
            None => format!("none {word}"),
            Some(largest) => format!("{} {word}, most of all {largest}", rows.len()),
        };
        format!("Of {compared}, {}; {}.", part(&worse, "worse"), part(&better, "better"))
    }
}

#[cfg(test)]
mod tests;
