//! Logins, and who is calling. Passwords are argon2id, off the event loop.

use std::sync::{Arc, LazyLock};
use std::thread::available_parallelism;

use argon2::{Argon2, PasswordHash, PasswordVerifier};
use axum::extract::FromRequestParts;
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL};
use axum::http::request::Parts;
use axum::response::IntoResponse;
use axum::{Form, Json};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use uuid::Uuid;

use crate::errors::{ApiError, Result};
use crate::tokens::Kind;
use crate::{App, State, database};

/// Nobody's hash: made as Peace makes them, but its digest was made up, so no password fits.
const NOBODY: &str = concat!(
    "$argon2id$v=19$m=19456,t=2,p=1",
    "$cGVhY2Utbm9ib2R5LTAx$MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"
);

/// More hashes at once than processors would only take memory.
static HASHING: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(available_parallelism().map_or(1, usize::from)));

/// The user whose access token came with a request.
pub(crate) struct Caller(pub(crate) Uuid);

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self> {
        let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = header.and_then(|text| text.strip_prefix("Bearer "));
        let user = token.and_then(|token| app.tokens.user_of(Kind::Access, token));
        user.map(Self).ok_or(ApiError::NoToken)
    }
}

#[derive(Deserialize)]
pub(crate) struct Login {
    username: String,
    password: String,
}

#[derive(Serialize)]
struct TokenResponse {
    access_token: String,
    refresh_token: String,
    token_type: &'static str,
    expires_in: u64,
}

const SELECT_CREDENTIALS: &str = r#"select id, password_hash from "user" where name = $1"#;

pub(crate) async fn log_in(
    state: State,
    Form(Login { username, password }): Form<Login>,
) -> Result<impl IntoResponse> {
    let row = database::row(&state.pool, SELECT_CREDENTIALS, &[&username]).await?;
    // The same work whether there is such a user or not.
    let stored = row.as_ref().and_then(|row| row.get(1)).unwrap_or_else(|| NOBODY.to_owned());
    let fits = verify(stored, password).await?;
    let user = row.filter(|_| fits).ok_or(ApiError::WrongCredentials)?.get(0);
    let tokens = TokenResponse {
        access_token: state.tokens.issue(Kind::Access, user),
        refresh_token: state.tokens.issue(Kind::Refresh, user),
        token_type: "bearer",
        expires_in: Kind::Access.lifetime_s(),
    };
    Ok(([(CACHE_CONTROL, "no-store")], Json(tokens)))
}

/// Whether the password is the one that was stored.
async fn verify(stored: String, password: String) -> Result<bool> {
    let _seat = HASHING.acquire().await.map_err(|_| ApiError::Failed)?;
    let fits = move || {
        PasswordHash::new(&stored)
            .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
    };
    #[expect(clippy::disallowed_methods, reason = "the semaphore bounds its threads")]
    let fits = spawn_blocking(fits).await;
    fits.map_err(|_| ApiError::Failed)
}
