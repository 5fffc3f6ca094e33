//! `peace-loadtest`: how many workers? Measured, compared, and shown as a page.
#![allow(dead_code, reason = "wip")]

mod generator;
mod report;
mod scenario;
mod watch;

fn main() {}
