//! Logging in: a name and a password for tokens, a refresh token for new ones.
//!
//! | route | success | its own problems |
//! |---|---|---|
//! | `POST /auth/token` (form: `username`, `password`, `grant_type?`) | 200, tokens | 401, 429 |
//! | `POST /auth/refresh` (form: `refresh_token`, `grant_type?`) | 200, tokens | 401 |
//!
//! Tokens are `{access_token, refresh_token, token_type, expires_in}`.
//! Unknown user, no password, wrong password: the same 401, after the same work. Every answer,
//! also an error, is kept out of caches and names the error as OAuth does (`error`).
//! Source: RFC 6749 sections 4.3, 5.1, 5.2 and 6, but for its status: 401 and 422 where it says 400,
//! as the clients of this API expect.

use secrecy::SecretString;
use tracing::{info, warn};
use uuid::Uuid;
use worker::header::{CACHE_CONTROL, PRAGMA};
use worker::{
    Context, Fault, Form, HttpError, Invalid, Place, Problem, Reply, Routes, Rule, Success, Text,
    Value, WithHeaders, payload, response,
};

use super::{Resource, password};
use crate::app::App;
use crate::errors::{
    ApiError, DATABASE, REFRESH_REFUSED, Result, TOO_MANY_TRIES, WRONG_CREDENTIALS,
};
use crate::login_limits::Try;
use crate::security::passwords::{PasswordPlace, REFRESH_TOKEN, Secret, TOKEN, Verdict};
use crate::security::refresh_tokens::RefreshToken;
use crate::security::tokens::{LIFETIME, Tokens};
use crate::sessions::{self, Granted};

pub(super) const RESOURCE: Resource = Resource {
    chapter: (
        "auth",
        "Logging in and out: a name and a password for tokens, a refresh token for new ones.",
    ),
    routes,
    tables: &[],
    statements: &[],
};

fn routes(routes: &mut Routes<App>) {
    routes
        .post("/auth/token", "auth-token", token)
        .about("Log in")
        .fails(DATABASE)
        .fails(&[&WRONG_CREDENTIALS, &TOO_MANY_TRIES]);
    routes
        .post("/auth/refresh", "auth-refresh", refresh)
        .about("Get new tokens")
        .fails(DATABASE)
        .fails(&[&REFRESH_REFUSED]);
}

// Payloads and responses

/// Longest user name looked up, in characters; more than any user has.
const USERNAME_MAX: usize = 256;

payload! {
    struct Login {
        username: String = required(Text::max(USERNAME_MAX).like("ann")),
        password: SecretString = required(Secret::to_compare()),
        grant_type: Option<()> = optional(Grant("password")),
    }

    struct Refresh {
        /// As the last answer with tokens gave it.
        refresh_token: SecretString = required(Secret::refresh_token()),
        grant_type: Option<()> = optional(Grant("refresh_token")),
    }
}

/// The one grant that a route takes.
struct Grant(&'static str);

impl Rule for Grant {
    type Output = ();

    fn check(&self, value: &Value<'_>) -> std::result::Result<(), Fault> {
        let wrong = || format!("String should match pattern '^{}$'", self.0);
        let right = value.text().filter(|text| *text == self.0);
        right.map(|_| ()).ok_or_else(|| Fault::new("string_pattern_mismatch", wrong()))
    }

    fn describe(&self) -> serde_json::Value {
        serde_json::json!({ "type": "string", "pattern": format!("^{}$", self.0), "examples": [self.0] })
    }
}

response! {
    /// What proves who is calling.
    struct TokenResponse {
        /// For the header `Authorization: Bearer …`.
        access_token: String = TOKEN,
        /// For `/auth/refresh`, once; it opens no other route.
        refresh_token: String = REFRESH_TOKEN,
        token_type: &'static str = "bearer",
        /// Seconds from now until the access token expires.
        expires_in: u64 = 900,
    }
}

impl TokenResponse {
    fn new(tokens: &Tokens, granted: &Granted) -> Self {
        Self {
            access_token: tokens.issue(granted.holder),
            refresh_token: granted.refresh_token.text().to_owned(),
            token_type: "bearer",
            expires_in: LIFETIME.as_secs(),
        }
    }
}

/// An error with the member and the header that OAuth wants beside the problem.
struct TokenError(ApiError);

impl TokenError {
    /// OAuth's word for it; the server's own failures have none.
    fn code(&self) -> Option<&'static str> {
        let is_grant = |one: &Invalid| one.loc.contains(&Place::Name("grant_type".into()));
        match &self.0 {
            ApiError::WrongCredentials | ApiError::InvalidRefresh => Some("invalid_grant"),
            ApiError::Request(HttpError::Invalid(errors)) if errors.iter().any(is_grant) => {
                Some("unsupported_grant_type")
            }
            ApiError::Request(_) => Some("invalid_request"),
            _ => None,
        }
    }
}

impl From<TokenError> for Problem {
    fn from(error: TokenError) -> Self {
        let code = error.code();
        // Every problem says `Cache-Control: no-store` already.
        let problem = Self::from(error.0).header(PRAGMA, "no-cache");
        match code {
            Some(code) => problem.member("error", code),
            None => problem,
        }
    }
}

// Handlers

type Answer = std::result::Result<WithHeaders<Reply<TokenResponse>>, TokenError>;

async fn token(cx: Context<App>, form: Form<Login>) -> Answer {
    answer(log_in(cx, form).await)
}

async fn refresh(cx: Context<App>, form: Form<Refresh>) -> Answer {
    answer(refreshed(&cx, form).await)
}

/// What was granted, in no cache.
fn answer(granted: Result<TokenResponse>) -> Answer {
    let response = granted.map_err(TokenError)?;
    Ok(Reply(response).with_header(CACHE_CONTROL, "no-store").with_header(PRAGMA, "no-cache"))
}

/// Goes on when the client has left: a try that has begun is told how it ended.
async fn log_in(cx: Context<App>, form: Form<Login>) -> Result<TokenResponse> {
    let Login { username, password, .. } = form.read().await?;
    let database = cx.app().database.clone();
    let to_its_end = async move {
        let mut guess = Try::begin(&cx, &username).await?;
        let granted = begin_session(&cx, &mut guess.place, &username, &password).await;
        guess.ended(&cx, &granted).await;
        granted.map(|granted| TokenResponse::new(&cx.app().tokens, &granted))
    };
    database.to_its_end(to_its_end).await
}

async fn begin_session(
    cx: &Context<App>,
    place: &mut PasswordPlace,
    username: &str,
    password: &SecretString,
) -> Result<Granted> {
    // The hash may be another one by the time it was compared: so once more.
    for _ in 0..2 {
        let (user, stored, new_hash) = check(cx, place, username, password).await?;
        let database = &cx.app().database;
        if let Some(granted) = sessions::begin(database, user, stored.clone()).await? {
            if let Some(new_hash) = new_hash {
                upgrade(cx, user, stored, new_hash).await;
            }
            return Ok(granted);
        }
    }
    Err(ApiError::WrongCredentials)
}

/// Whose name and password these are; also the hash that it fitted, and the one to store instead.
async fn check(
    cx: &Context<App>,
    place: &mut PasswordPlace,
    username: &str,
    password: &SecretString,
) -> Result<(Uuid, String, Option<String>)> {
    let database = &cx.app().database;
    let (user, stored) = password::select_credentials(database, username).await?.unzip();
    let stored = stored.flatten();
    let verdict = place.verify(password.clone(), stored.clone()).await?;
    match (user, stored, verdict) {
        (Some(user), Some(stored), Verdict::Right) => Ok((user, stored, None)),
        (Some(user), Some(stored), Verdict::Outdated { new_hash }) => {
            Ok((user, stored, Some(new_hash)))
        }
        _ => {
            // Not the name that was given: people type passwords there. No user: there is none.
            info!(user = user.map(display), request_id = cx.request_id(), "a login was refused");
            Err(ApiError::WrongCredentials)
        }
    }
}

/// The login is right, whether its hash can be stored anew or not: the next one tries again.
async fn upgrade(cx: &Context<App>, user: Uuid, old: String, new: String) {
    let done = password::upgrade_hash(&cx.app().database, user, old, new).await;
    match done {
        Ok(true) => info!(%user, "a password was hashed anew at login"),
        Ok(false) => info!(%user, "a password was not hashed anew at login: its user is changing"),
        Err(error) => warn!(%user, %error, "a password could not be hashed anew at login"),
    }
}

async fn refreshed(cx: &Context<App>, form: Form<Refresh>) -> Result<TokenResponse> {
    let Refresh { refresh_token, .. } = form.read().await?;
    let token = RefreshToken::read(refresh_token).ok_or(ApiError::InvalidRefresh)?;
    let granted = sessions::refresh(cx, &token).await?.ok_or(ApiError::InvalidRefresh)?;
    Ok(TokenResponse::new(&cx.app().tokens, &granted))
}
