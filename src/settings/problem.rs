//! What is wrong with the settings, one line each, and the refusal that holds them all.
//!
//! Every other file of this module makes problems; `main` prints the refusal and exits. A line says
//! which setting, where it came from, what is wrong and how to mend it. It promises to be one line,
//! and to hold no secret.

use std::fmt;

use super::NAME;
use super::value::Wrong;

/// The exit code of every refusal (`EX_USAGE` of sysexits.h).
pub const EXIT_USAGE: u8 = 64;

/// One thing that is wrong, or worth a warning, as the line that people read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem(String);

impl Problem {
    /// `subject: what; mend`.
    pub(super) fn new(subject: impl fmt::Display, wrong: &Wrong) -> Self {
        Self::line(&format!("{subject}: {wrong}"))
    }

    /// A line as it is, with control characters made visible: they may come from outside.
    pub(super) fn line(text: &str) -> Self {
        Self(text.replace(char::is_control, "?"))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// The settings were refused: every problem, in a line of its own that starts with our name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    problems: Vec<Problem>,
}

impl Refusal {
    /// All problems in one line, for a log or an answer that says by itself who speaks.
    #[must_use]
    pub fn in_one_line(&self) -> String {
        let problems: Vec<String> = self.problems.iter().map(ToString::to_string).collect();
        problems.join("; ")
    }

    /// `Ok` when there is no problem.
    pub(super) fn unless_empty(problems: Vec<Problem>) -> Result<(), Self> {
        if problems.is_empty() { Ok(()) } else { Err(Self { problems }) }
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self { problems: vec![problem] }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            write!(out, "{newline}{NAME}: {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}
