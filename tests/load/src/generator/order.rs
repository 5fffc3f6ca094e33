//! What the conductor and a generator say to each other: lines of JSON.
//!
//! Down, on standard input: the [`Order`], then an empty line when it is to begin. End of file means
//! that the conductor is gone: the generator leaves. Up, on standard output: [`Line`]s.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::report::model::{Latency, Traffic};
use crate::scenario::{Rows, Scenario};

/// What a generator is to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) server: SocketAddr,
    /// The `Host` header.
    pub(crate) host: String,
    /// In front of every path; empty, or `/api`.
    pub(crate) prefix: String,
    pub(crate) scenario: Scenario,
    pub(crate) rows: Rows,
    pub(crate) connections: usize,
    /// Requests per second, at fixed instants; `None` is a closed loop.
    pub(crate) rate: Option<f64>,
    pub(crate) duration_s: f64,
    /// How long an answer may take, connecting included.
    pub(crate) timeout_s: f64,
    /// Length of a window of the time line.
    pub(crate) window_s: f64,
    /// Makes what is drawn at random the same again; differs between generators.
    pub(crate) seed: u64,
}

/// What a generator says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Line {
    /// It has read its order, opened its connections (those that could be), and waits for the empty line.
    Ready,
    /// A window is over.
    Piece(Piece),
    /// All is over, the last answer has come or was given up. The last line.
    Done(Box<Outcome>),
    /// It cannot go on: why, and how to mend it.
    Failed(String),
}

/// What was seen within a window, by the instants at which answers (or errors) came.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Piece {
    /// From 0.
    pub(crate) index: usize,
    pub(crate) ok: u64,
    pub(crate) errors: u64,
    pub(crate) latency: Latency,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) traffic: Traffic,
    /// The first few errors in words, each once.
    pub(crate) examples: Vec<String>,
}
