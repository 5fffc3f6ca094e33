//! Logging out: the end of a session, or of all of a user's.
//!
//! | route | success | its own problems |
//! |---|---|---|
//! | `POST /auth/logout` | 204, the session of the token is over | 401 |
//! | `POST /auth/logout-all` | 204, all sessions of its user are over | 401 |
//!
//! From then on nothing is written with their tokens. What a session is, `sessions` knows.

use worker::{Context, Empty, Routes};

use super::Resource;
use crate::app::App;
use crate::callers;
use crate::errors::{ApiError, DATABASE, Result, UNAUTHENTICATED};
use crate::sessions;

pub(super) const RESOURCE: Resource =
    Resource { chapter: ("auth", ""), routes, tables: &[], statements: &[] };

fn routes(routes: &mut Routes<App>) {
    routes
        .post("/auth/logout", "auth-logout", logout)
        .about("Log out")
        .fails(DATABASE)
        .fails(&[&UNAUTHENTICATED]);
    routes
        .post("/auth/logout-all", "auth-logout-all", logout_all)
        .about("Log out everywhere")
        .fails(DATABASE)
        .fails(&[&UNAUTHENTICATED]);
}

// Handlers

async fn logout(cx: Context<App>) -> Result<Empty> {
    let caller = callers::caller(&cx)?;
    let was_there = sessions::end(&cx.app().database, caller.session).await?;
    if was_there { Ok(Empty) } else { Err(ApiError::LoggedOut) }
}

async fn logout_all(cx: Context<App>) -> Result<Empty> {
    let caller = callers::caller(&cx)?;
    let was_there = sessions::end_all(&cx.app().database, caller.session).await?;
    if was_there { Ok(Empty) } else { Err(ApiError::LoggedOut) }
}
