//! What is dangerous in a revision's up file, found by reading it.
//!
//! The commands `lint` and `check` call it; with the feature `lint` it calls the crate
//! squawk-linter, without it there is no linter and it says so.
//! It promises that an error is something that holds a long lock, loses data or breaks a
//! transaction; everything else, and whatever the linter cannot read, is a warning.
//! It does not know a database: how big a table is, it cannot tell.

#[cfg(feature = "lint")]
mod rules;
#[cfg(feature = "lint")]
mod squawk;

use std::fmt;

use crate::files::chain::{Chain, Revision};

/// One place in one file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Finding {
    pub(crate) file: String,
    /// 1-based.
    pub(crate) line: usize,
    /// 1-based, in characters.
    pub(crate) column: usize,
    /// The name that `-- squawk-ignore` takes.
    pub(crate) rule: String,
    pub(crate) severity: Severity,
    pub(crate) message: String,
    /// What to do instead.
    pub(crate) help: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    Error,
    Warning,
}

/// This build cannot lint.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("this build has no linter: use one with the cargo feature `lint`, which is on by default")]
pub(crate) struct NoLinter;

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, rule, severity, message, help } = self;
        let severity = match severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{file}:{line}:{column}: {severity}: {message} [{rule}]")?;
        help.iter().try_for_each(|help| write!(f, "; {help}"))
    }
}

/// Reads the up files of `revisions`, each of which is one of `chain`, in the given order.
#[cfg(feature = "lint")]
pub(crate) fn lint<'a>(
    chain: &Chain,
    revisions: impl IntoIterator<Item = &'a Revision>,
) -> Result<Vec<Finding>, NoLinter> {
    Ok(revisions.into_iter().flat_map(|revision| squawk::lint(chain.all(), revision)).collect())
}

/// There is no linter in this build.
#[cfg(not(feature = "lint"))]
pub(crate) fn lint<'a>(
    _: &Chain,
    _: impl IntoIterator<Item = &'a Revision>,
) -> Result<Vec<Finding>, NoLinter> {
    Err(NoLinter)
}
