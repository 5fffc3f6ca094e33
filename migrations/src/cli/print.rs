//! Where lines go: results to stdout, everything else to stderr.
//!
//! Every command calls it.

use std::fmt::Display;
use std::io::{self, Write};

use super::Failure;

/// A closed stderr must not end a migration.
pub(super) fn say(line: &dyn Display) {
    drop(writeln!(io::stderr(), "{line}"));
}

/// Results, a line each.
pub(super) fn lines(lines: &[impl AsRef<str>]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    for line in lines {
        match writeln!(out, "{}", line.as_ref()) {
            // Whoever read it has read enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            result => result?,
        }
    }
    Ok(())
}

/// A result for programs.
pub(super) fn json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(io::Error::from)?;
    lines(&[text])
}
