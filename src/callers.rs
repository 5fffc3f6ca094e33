//! Who is calling, and may they?
//!
//! A handler of a protected route asks before anything else: `callers::caller(&cx)?` answers 401,
//! then `.must_be(pubid)?` answers 403. Both are calls one can see in the handler; no
//! middleware runs unseen. Asks no database: a deleted user's token is good, and finds no row.
//! Source: RFC 6750 (bearer tokens).

use uuid::Uuid;
use worker::header::AUTHORIZATION;
use worker::{Context, DbError};

use crate::app::App;
use crate::errors::ApiError;
use crate::security::tokens::TokenKind;

/// The user whose access token came with the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// Their id; the row may be gone by now.
    pub user: Uuid,
}

impl Caller {
    /// Refuses everyone but this user; gives them back.
    pub fn must_be(self, user: Uuid) -> Result<Uuid, ApiError> {
        if self.user == user { Ok(user) } else { Err(ApiError::Forbidden) }
    }
}

/// Who is calling, by the access token of the request.
pub fn caller(cx: &Context<App>) -> Result<Caller, ApiError> {
    let token = token(cx).ok_or(ApiError::NoToken)?;
    let user = cx.app().tokens.user_of(TokenKind::Access, token)?;
    Ok(Caller { user })
}

/// What it means that a new row's user is not there, of whom `constraint` wants to know: an owner who
/// is gone has no right to anything; anyone else, where nobody has to be the owner, gave a wrong id.
pub fn no_such_user(error: DbError, constraint: &str, owner: Option<Uuid>) -> ApiError {
    match error {
        DbError::Constraint { name, .. } if name == constraint => match owner {
            Some(_) => ApiError::Forbidden,
            None => ApiError::invalid("user_pubid", "there is no such user"),
        },
        other => other.into(),
    }
}

/// Of two `Authorization` headers none counts: a proxy may have looked at the other one.
fn token(cx: &Context<App>) -> Option<&str> {
    let several = cx.headers().get_all(AUTHORIZATION).iter().nth(1).is_some();
    cx.bearer().filter(|_| !several)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_nobody_else() {
        let caller = Caller { user: Uuid::from_u128(1) };
        assert!(caller.must_be(Uuid::from_u128(1)).is_ok());
        assert!(matches!(caller.must_be(Uuid::from_u128(2)), Err(ApiError::Forbidden)));
    }
}
