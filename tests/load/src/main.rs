//! `peace-loadtest`: how many workers? Measured, compared, and shown as a page.
#![allow(dead_code, reason = "wip")]

mod compare;
mod generator;
mod recommend;
mod report;
mod scenario;

fn main() {}
