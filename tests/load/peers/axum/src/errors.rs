//! What goes wrong in a handler, and the answer that comes of it.

use axum::http::StatusCode;
use axum::http::header::WWW_AUTHENTICATE;
use axum::response::{IntoResponse, Response};
use deadpool_postgres::PoolError;
use tokio_postgres::error::SqlState;

pub(crate) type Result<T> = std::result::Result<T, ApiError>;

/// Why a request is not answered as its sender would like.
#[derive(Debug)]
pub(crate) enum ApiError {
    /// No token, or not one of ours.
    NoToken,
    /// Wrong name or password.
    WrongCredentials,
    /// Somebody else's.
    Forbidden,
    /// There is no such row.
    NotFound,
    /// The request is wrong in this.
    Invalid(&'static str),
    /// The server's own affair.
    Failed,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        match self {
            Self::NoToken => {
                let challenge = [(WWW_AUTHENTICATE, "Bearer")];
                (StatusCode::UNAUTHORIZED, challenge, "the token is not valid").into_response()
            }
            Self::WrongCredentials => {
                (StatusCode::UNAUTHORIZED, "wrong name or password").into_response()
            }
            Self::Forbidden => (StatusCode::FORBIDDEN, "not yours").into_response(),
            Self::NotFound => (StatusCode::NOT_FOUND, "there is none").into_response(),
            Self::Invalid(why) => (StatusCode::UNPROCESSABLE_ENTITY, why).into_response(),
            Self::Failed => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    }
}

impl From<PoolError> for ApiError {
    fn from(_: PoolError) -> Self {
        Self::Failed
    }
}

impl From<tokio_postgres::Error> for ApiError {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.code() {
            // The only one that a request here can violate: the owner of an item is gone.
            Some(&SqlState::FOREIGN_KEY_VIOLATION) => Self::Forbidden,
            _ => Self::Failed,
        }
    }
}
