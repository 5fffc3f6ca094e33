//! Who is calling, and may they?
//!
//! A handler of a protected route asks before anything else: `callers::caller(&cx)?` answers 401,
//! then `.must_be(pubid)?` answers 403. Both are calls one can see in the handler; no
//! middleware runs unseen. Neither asks a database: of a session that is over the token may be good
//! still. So what writes has the session in its WHERE, and where nothing was written
//! `.must_be_logged_in(database)` comes before all other reasons (401).
//! Source: RFC 6750 (bearer tokens).

use uuid::Uuid;
use worker::header::AUTHORIZATION;
use worker::{Context, Database, DbError, Source};

use crate::app::App;
use crate::errors::{ApiError, Result};
use crate::security::tokens::Holder;
use crate::sessions;

/// The user whose access token came with the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// Their id; the row may be gone by now.
    pub user: Uuid,
    /// What they have logged in to; it may be over by now.
    pub session: Uuid,
}

impl Caller {
    /// Refuses everyone but this user.
    pub fn must_be(self, user: Uuid) -> Result<Self> {
        if self.user == user { Ok(self) } else { Err(ApiError::Forbidden) }
    }

    /// Refuses whose session is over; for where nothing was written, before other reasons.
    pub async fn must_be_logged_in(self, database: &Database) -> Result<()> {
        match sessions::is_there(database, self.session).await? {
            true => Ok(()),
            false => Err(ApiError::LoggedOut),
        }
    }
}

/// Who is calling, by the access token of the request.
pub fn caller(cx: &Context<App>) -> Result<Caller> {
    let token = token(cx).ok_or(ApiError::NoToken)?;
    let Holder { user, session } = cx.app().tokens.holder(token)?;
    cx.note_user(user);
    Ok(Caller { user, session })
}

/// What it means that a new row's user is not there, of whom `constraint` wants to know: an owner who
/// is gone has no right to anything; anyone else, where nobody has to be the owner, gave a wrong id.
pub fn no_such_user(error: DbError, constraint: &str, owner: Option<Uuid>) -> ApiError {
    match error {
        DbError::Constraint { name, .. } if name == constraint => match owner {
            Some(_) => ApiError::Forbidden,
            None => ApiError::invalid(Source::Body, "user_pubid", "there is no such user"),
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
        let caller = Caller { user: Uuid::from_u128(1), session: Uuid::nil() };
        assert!(caller.must_be(Uuid::from_u128(1)).is_ok());
        assert!(matches!(caller.must_be(Uuid::from_u128(2)), Err(ApiError::Forbidden)));
    }
}
