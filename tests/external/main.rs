//! Tests that need more than Rust and PostgreSQL: the real Alembic and FastAPI, a real pgbouncer, a real
//! Prometheus, wrk, valgrind, strace and slowhttptest, tmux, a real Chromium, a real HAProxy, a real Docker Engine, a
//! real systemd, tools that judge an API by its document, the schemas of Kubernetes, and copies of the project that are
//! edited and built.
//!
//! `tests/run --all` and `--machines` provide them and run this target; `cargo test` alone does not, so that nobody
//! takes a test that was left out for one that passed. They work with the harness of the black-box
//! tests. What is missing is a failure.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

/// The harness of the black-box tests.
#[allow(dead_code, unused_imports, reason = "it serves two targets; this one needs a part of it")]
#[path = "../blackbox/harness/mod.rs"]
mod harness;

/// Reports that nobody measured.
#[path = "../load/src/report/fixture.rs"]
mod fixture;

/// The real Alembic, on the revisions of the Python template.
mod alembic;
/// What a request costs in instructions and calls.
mod budget;
/// A real browser.
mod chromium;
/// Clients that generators make of the API document.
mod clients;
/// The contract under abuse.
mod contract;
/// A copy of this project, and what is built of it.
mod copied;
/// A Debian system as a folder.
mod debian;
/// A real Docker Engine and docker-compose: our images, built and run.
mod docker;
/// /docs in a real browser.
mod docs;
/// Two hosts behind a balancer, and a database with a standby.
mod hosts;
/// The Kubernetes files, against the API's schemas and the program's settings.
mod kubernetes;
/// What others say of the API document, and of the API by it.
mod openapi;
/// The page of a load report, in a real browser.
mod page;
/// The server that ours is measured against.
mod peer;
/// A real pgbouncer: what migrations say to it, and what the server does behind it.
mod pgbouncer;
/// A real Prometheus, its tool for rules, and a parser of what it reads.
mod prometheus;
/// Somebody gives the project another name.
mod rename;
/// Somebody adds a resource as RESOURCE.md has it.
mod resource;
/// Clients that take their time, and large bodies, on the release build.
mod slow;
/// slowhttptest's four modes, on the release build.
mod slowhttptest;
/// The units under a real systemd, in a machine of Debian.
mod systemd;
/// `adopt-alembic` on what the real Alembic left.
mod takeover;
/// `peace-supervisor top` on a real terminal.
mod top;
/// A developer edits this project, and builds it.
mod walk;
/// `peace-loadtest` and wrk on the same server.
mod wrk;
