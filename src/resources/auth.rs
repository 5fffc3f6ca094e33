//! Logging in: a name and a password for an access token.
//!
//! | route | success | its own problems |
//! |---|---|---|
//! | `POST /auth/token` (form: `username`, `password`, `grant_type?`) | 200, a token | 401 |
//!
//! The answer `{access_token, token_type, expires_in}` has an access token alone, without one to
//! refresh it: when it has expired, one logs in again.
//! Unknown user, no password, wrong password: the same 401, after the same work. Every answer,
//! also an error, is kept out of caches and names the error as OAuth does (`error`).
//! Source: RFC 6749 sections 4.3, 5.1 and 5.2, but for its status: 401 and 422 where it says 400,
//! as the clients of this API expect.

use secrecy::SecretString;
use serde::Serialize;
use tracing::info;
use worker::header::{CACHE_CONTROL, PRAGMA};
use worker::{
    Context, Fault, Fields, Form, HttpError, Invalid, Payload, Place, Problem, Reply, Routes, Rule,
    Success, Text, Value, WithHeaders,
};

use super::{Resource, users};
use crate::app::App;
use crate::errors::{ApiError, BODY, DATABASE, INPUT, WRONG_CREDENTIALS};
use crate::security::tokens::ACCESS_LIFETIME;

pub(super) const RESOURCE: Resource = Resource { routes, statements: &[] };

fn routes(routes: &mut Routes<App>) {
    routes
        .post("/auth/token", "auth-token", token)
        .fails(&[INPUT, BODY, DATABASE].concat())
        .fails(&[&WRONG_CREDENTIALS]);
}

// Payloads and responses

struct Login {
    username: String,
    password: SecretString,
}

impl Payload for Login {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let username = fields.required("username", Text::max(USERNAME_MAX));
        // One that is longer than any password is a wrong one, not a malformed one.
        let password = fields.required("password", Text::unbounded());
        let grant_type = fields.optional(GRANT_TYPE, PasswordGrant);
        let (username, password, _) = fields.all((username, password, grant_type))?;
        Some(Self { username, password: password.into() })
    }
}

/// Longest user name looked up, in characters; more than any user has.
const USERNAME_MAX: usize = 256;

const GRANT_TYPE: &str = "grant_type";

/// The one grant there is.
struct PasswordGrant;

impl Rule for PasswordGrant {
    type Output = ();

    fn check(&self, value: &Value<'_>) -> Result<(), Fault> {
        match value.text() {
            Some("password") => Ok(()),
            _ => Err(Fault::new(
                "string_pattern_mismatch",
                "String should match pattern '^password$'",
            )),
        }
    }

    fn describe(&self) -> serde_json::Value {
        serde_json::json!({ "type": "string", "pattern": "^password$" })
    }
}

#[derive(Serialize)]
struct TokenResponse {
    access_token: String,
    token_type: &'static str,
    /// Seconds from now.
    expires_in: u64,
}

/// An error with the member and the header that OAuth wants beside the problem.
struct TokenError(ApiError);

impl TokenError {
    /// OAuth's word for it; the server's own failures have none.
    fn code(&self) -> Option<&'static str> {
        match &self.0 {
            ApiError::WrongCredentials => Some("invalid_grant"),
            ApiError::Request(HttpError::Invalid(errors)) if errors.iter().any(is_grant) => {
                Some("unsupported_grant_type")
            }
            ApiError::Request(_) => Some("invalid_request"),
            _ => None,
        }
    }
}

fn is_grant(error: &Invalid) -> bool {
    error.loc.contains(&Place::Name(GRANT_TYPE.into()))
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

async fn token(
    cx: Context<App>,
    form: Form<Login>,
) -> Result<WithHeaders<Reply<TokenResponse>>, TokenError> {
    let response = log_in(&cx, form).await.map_err(TokenError)?;
    Ok(Reply(response).with_header(CACHE_CONTROL, "no-store").with_header(PRAGMA, "no-cache"))
}

async fn log_in(cx: &Context<App>, form: Form<Login>) -> Result<TokenResponse, ApiError> {
    let Login { username, password } = form.read().await?;
    let app = cx.app();
    let known = users::select_credentials(&app.database, &username).await?;
    let (user, password_hash) = known.map(|known| (known.id, known.password_hash)).unzip();
    let fits = app.passwords.verify(password, password_hash.flatten()).await?;
    let Some(user) = user.filter(|_| fits) else {
        // Not the name that was given: people type passwords there. No user: there is none.
        info!(user = user.map(display), request_id = cx.request_id(), "a login was refused");
        return Err(ApiError::WrongCredentials);
    };
    Ok(TokenResponse {
        access_token: app.tokens.issue(user),
        token_type: "bearer",
        expires_in: ACCESS_LIFETIME.as_secs(),
    })
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use worker::Source;

    use super::*;

    fn code(error: ApiError) -> Option<&'static str> {
        TokenError(error).code()
    }

    fn invalid(name: &'static str) -> ApiError {
        let fault = PasswordGrant.check(&Value::Text(Cow::Borrowed("x"))).unwrap_err();
        ApiError::Request(HttpError::Invalid(vec![Invalid::at(Source::Body, name, fault)]))
    }

    #[test]
    fn errors_have_the_words_of_oauth() {
        assert_eq!(code(ApiError::WrongCredentials), Some("invalid_grant"));
        assert_eq!(code(invalid("username")), Some("invalid_request"));
        assert_eq!(code(invalid("grant_type")), Some("unsupported_grant_type"));
        assert_eq!(code(ApiError::NameTaken), None);
    }

    #[test]
    fn there_is_one_grant() {
        let check = |text| PasswordGrant.check(&Value::Text(Cow::Borrowed(text)));
        assert!(check("password").is_ok());
        for other in ["", "Password", "password ", "refresh_token", "client_credentials"] {
            assert!(check(other).is_err(), "{other:?}");
        }
    }

    #[test]
    fn the_token_type_is_written_as_clients_know_it() {
        let response =
            TokenResponse { access_token: "t".to_owned(), token_type: "bearer", expires_in: 900 };
        assert_eq!(
            serde_json::to_value(response).unwrap(),
            serde_json::json!({ "access_token": "t", "token_type": "bearer", "expires_in": 900 })
        );
    }
}
