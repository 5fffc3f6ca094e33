//! What was measured, and how it is told.
//!
//! [`model`] is `report.json`; [`summary`] puts its runs together, round over round; the others read
//! these two and nothing else, so that everything that is shown can be shown again from the file.

pub(crate) mod file;
#[cfg(test)]
mod fixture;
pub(crate) mod ladder;
pub(crate) mod latency;
#[cfg(test)]
pub(crate) mod made;
pub(crate) mod model;
pub(crate) mod number;
pub(crate) mod page;
pub(crate) mod statistics;
pub(crate) mod summary;
pub(crate) mod table;
pub(crate) mod verdict;
pub(crate) mod warnings;
