//! Is this process alive, may it be sent requests, and what is it?
//!
//! | route | success | its own problems |
//! |---|---|---|
//! | `GET /health/live` | 200 `{"status":"live"}`, whatever the database does | |
//! | `GET /health/ready` | 200 `{"status":"ready"}` | 503, with both revisions when they differ; also while the worker is leaving |
//! | `GET /version` | 200 `{name, version}` | |
//!
//! Live asks nothing: a database that is away is no reason to restart a worker. Ready asks the
//! database once, and whether the revision this version needs is applied. One that a newer release
//! has migrated further is ready: releases overlap while they are rolled out. It asks through the
//! pool of all requests, and so waits its turn behind them: a worker whose pool stays in use for
//! longer than the pool wait is not ready either.

use worker::{Context, Reply, Routes, response};

use super::Resource;
use crate::app::App;
use crate::errors::{ApiError, DATABASE, Result};
use crate::readiness::{self, Revision};

pub(super) const RESOURCE: Resource = Resource {
    chapter: ("health", "Is this process alive, may it be sent requests, and what is it?"),
    routes,
    tables: &[],
    statements: statements![migrations::READINESS_SQL],
};

fn routes(routes: &mut Routes<App>) {
    routes.get("/health/live", "health-live", live).about("Is it alive?");
    routes.get("/health/ready", "health-ready", ready).about("Is it ready?").fails(DATABASE);
    routes.get("/version", "health-version", version).about("Which version is it?");
}

// Responses

response! {
    /// How the process is.
    struct StatusResponse {
        /// `live` or `ready`.
        status: &'static str = "live",
    }

    /// What the process is.
    struct VersionResponse {
        name: &'static str = env!("CARGO_PKG_NAME"),
        version: &'static str = env!("CARGO_PKG_VERSION"),
    }
}

// Handlers

async fn live(_cx: Context<App>) -> Result<Reply<StatusResponse>> {
    Ok(Reply(StatusResponse { status: "live" }))
}

async fn ready(cx: Context<App>) -> Result<Reply<StatusResponse>> {
    if cx.app().leaving.get() {
        return Err(ApiError::Leaving);
    }
    match readiness::ask(&cx.app().database, &cx.app().meters).await? {
        Revision::Applied => Ok(Reply(StatusResponse { status: "ready" })),
        Revision::Behind(newest) => {
            Err(ApiError::SchemaBehind { needed: readiness::needed(), newest })
        }
    }
}

async fn version(_cx: Context<App>) -> Result<Reply<VersionResponse>> {
    Ok(Reply(VersionResponse { name: env!("CARGO_PKG_NAME"), version: env!("CARGO_PKG_VERSION") }))
}
