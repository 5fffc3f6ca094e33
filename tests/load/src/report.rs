//! What was measured, and how it is told.
//!
//! [`model`] is `report.json`; [`summary`] puts its runs together, round over round; the others read
//! these two and nothing else, so that everything that is shown can be shown again from the file.

#[cfg(test)]
mod fixture;
pub(crate) mod latency;
pub(crate) mod model;
pub(crate) mod page;
pub(crate) mod summary;
