//! A worker: one process, one thread, one event loop, one pool of database connections.
//!
//! Bytes come in and bytes go out. On the way a request passes through rooms, each with its own limit
//! and its own named failures; every room hands on to the next and none calls back:
//!
//! | room | takes | gives | refuses with |
//! |---|---|---|---|
//! | `accept` | a queued connection | a socket and a seat | 503 when all seats stay taken |
//! | `connection` | a socket | heads, parsed by hyper | closes what is silent, slow or idle; 400, 431 |
//! | `answer` | a head | one response, whatever happens | 400, 414, 417, 501, 500 (panic), 503 (deadline) |
//! | `router` | method and path | an endpoint | 404, 405 |
//! | `request` | path, query, body | typed inputs | 408, 413, 415, 422 |
//! | the handler | inputs | a success or a problem | what the application says |
//! | [`Database`] | statements | rows | [`DbError`] |
//! | `response`, `problem` | success, problem | bytes | nothing |
//!
//! Beside the rooms: [`run`] is a worker's life from start to end (`runtime`), `signals` is what tells it
//! what to do, `foster` accepts for a sibling, `drain` is how it leaves, `meters` and `durations` are what is counted, `stats` beats, `fields` and `rules` are the payloads, `schema` says what answers are,
//! `conditions` are what a request depends on, `repeats` what is done once, `cors` whose pages may ask,
//! [`CpuThread`] is where work goes that would hold the loop.
//!
//! The application gives [`run`] its [`Inputs`], a [`Config`] and a function that makes the [`Router`];
//! [`Routes`] is the table it fills with handlers. Everything on the thread is `Rc` and `Cell`: there is
//! nobody to lock against, and a handler's future need not be `Send`.
//!
//! This crate forks nothing, opens no socket, reads no file and no environment, and knows no resource.
//!
//! What hyper answers itself, before a request exists (400 for a head that is no HTTP, 431 for one that is
//! too long or has more than 100 headers), is replaced on its way out by an answer as all others are.

mod accept;
mod answer;
mod answered;
mod body;
mod conditions;
mod config;
mod connection;
mod cors;
mod cpu_thread;
mod database;
mod drain;
mod durations;
mod error;
mod fields;
mod first_look;
mod foster;
mod given;
mod json;
pub mod kinds;
mod listen;
mod media;
mod metered;
pub mod meters;
mod payload;
mod problem;
mod record;
mod refuse;
mod repeats;
mod request;
mod request_id;
mod response;
mod route;
mod router;
mod rules;
mod runtime;
mod schema;
mod security_headers;
mod shared;
mod signals;
mod socket;
mod stats;
#[cfg(test)]
mod tests;
mod trace;
mod traces;
mod watch;

pub use hyper::header;
pub use hyper::{Method, StatusCode};

pub use crate::answered::{Answered, OnAnswered};
pub use crate::conditions::{Conditions, EntityTag, Preconditions, Tag, Tagged, Tags};
pub use crate::config::{Config, Limits};
pub use crate::cors::Cors;
pub use crate::cpu_thread::{CpuPlace, CpuThread, JobError};
pub use crate::database::{
    By, ConstraintKind, Database, DatabaseConfig, DatabaseStats, DbError, Params, Refusal, Row,
    Rows, Transaction, Values, connect,
};
pub use crate::drain::Outcome;
pub use crate::durations::{DurationSeries, Durations};
pub use crate::error::HttpError;
pub use crate::fields::{
    Change, Field, FieldSpec, Fields, Invalid, Payload, PayloadSpec, Place, Source,
};
pub use crate::meters::Meters;
pub use crate::problem::{Kind, Problem};
pub use crate::repeats::{IdempotencyKey, Kept, Repeatable};
pub use crate::request::{
    Call, Context, Form, Input, InputSpec, Json, MergePatch, Path, Query, both,
};
pub use crate::response::{
    Created, Empty, Linked, Plain, Reply, Representation, Response, Success, SuccessSpec,
    WithHeaders,
};
pub use crate::route::{Handler, Operation, Routes};
pub use crate::router::{RouteConflict, Router};
pub use crate::rules::{Boolean, Fault, Integer, Rule, Text, Uuid, Value};
pub use crate::runtime::{BuildError, Error, Inputs, run, run_alone};
pub use crate::schema::{Describe, MemberSpec, ObjectSpec, Schema};
pub use crate::signals::{Order, Orders};
pub use crate::stats::{BEAT, Load};
pub use crate::traces::{Collector, NotACollector, TraceExport};
