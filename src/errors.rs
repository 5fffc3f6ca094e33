//! Everything that can go wrong in a request, as a client sees it and as the log keeps it.
//!
//! Handlers and queries return [`ApiError`]; the worker turns it into `application/problem+json`
//! through the conversion below. Nothing else in the application chooses a status: a query says
//! "the name is taken", and here it becomes 409.
//! Every error has two texts. `Display` is the detail and goes to the client; `ApiError::private`
//! goes to the log and may name causes (never a value that a client sent).
//! Does not know: failures of the transport and of input, whose answers the worker decided.
//! Source: RFC 9457 (problem details), RFC 6750 section 3 (`WWW-Authenticate`).

use thiserror::Error;
use tracing::error;
use worker::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use worker::kinds::{INTERNAL, INVALID_INPUT, NOT_FOUND, PRECONDITION_FAILED, UNAVAILABLE};
use worker::{ConstraintKind, DbError, Fault, HttpError, Invalid, Kind, Problem, Source};

use crate::security::passwords::PasswordError;
use crate::security::tokens::BadToken;

/// The request needs a valid access token.
pub static UNAUTHENTICATED: Kind = Kind {
    code: "unauthenticated",
    status: 401,
    title: "Unauthorized",
    about: "This route is for users who are logged in, and the request has no access token, or one \
        that is expired, not ours, or of a session that is over: somebody has logged out, changed \
        the password or deleted the user.",
    mend: "Get a token from POST /auth/token (or a new one from /auth/refresh) and send it as \
        `Authorization: Bearer …`. A refresh token opens no other route.",
};
/// User name and password do not belong together.
pub static WRONG_CREDENTIALS: Kind = Kind {
    code: "wrong-credentials",
    status: 401,
    title: "Unauthorized",
    about: "There is no user with this name and this password.",
    mend: "Ask the person for both again. The answer does not tell which of them is wrong.",
};
/// The refresh token proves nothing.
pub static REFRESH_REFUSED: Kind = Kind {
    code: "refresh-refused",
    status: 401,
    title: "Unauthorized",
    about: "The refresh token is expired, not ours, or was used before, or its session is over. Each \
        one is good once; who uses one again ends the session, unless that is within seconds.",
    mend: "Log in again, with name and password.",
};
/// Passwords were guessed too often.
pub static TOO_MANY_TRIES: Kind = Kind {
    code: "too-many-tries",
    status: 429,
    title: "Too Many Requests",
    about: "There were too many wrong passwords for this name from this address, or from this \
        address altogether, or as many are being looked at. Nothing else is until they are \
        forgotten, not even a right one.",
    mend: "Wait for as many seconds as the Retry-After header says. Who is elsewhere can log in.",
};
/// The access token is good, but this is another user's.
pub static FORBIDDEN: Kind = Kind {
    code: "forbidden",
    status: 403,
    title: "Forbidden",
    about: "The access token is good, but what the request would change belongs to another user.",
    mend: "Use the token of the user whom it belongs to.",
};
/// The current password, asked for once more, is not the right one.
pub static WRONG_PASSWORD: Kind = Kind {
    code: "wrong-password",
    status: 403,
    title: "Forbidden",
    about: "The current password, which this route asks for once more, is another one.",
    mend: "Ask the person for the current password again.",
};
/// Another user has this name.
pub static NAME_TAKEN: Kind = Kind {
    code: "name-taken",
    status: 409,
    title: "Conflict",
    about: "Another user has this name.",
    mend: "Choose another name.",
};
/// There is such a row already, by a rule that no query names.
pub static CONFLICT: Kind = Kind {
    code: "conflict",
    status: 409,
    title: "Conflict",
    about: "There is a row already that leaves no room for this one.",
    mend: "Read what is there, then decide whether to change that row or to send other values.",
};
/// The key of the request is that of another one.
pub static IDEMPOTENCY_KEY_REUSED: Kind = Kind {
    code: "idempotency-key-reused",
    status: 422,
    title: "Unprocessable Content",
    about: "The Idempotency-Key of the request came before, with another request.",
    mend: "Give each thing that is to be done once a new key, as a UUID, and send the same body with it \
        each time.",
};
/// The request is being answered already.
pub static IDEMPOTENCY_KEY_IN_USE: Kind = Kind {
    code: "idempotency-key-in-use",
    status: 409,
    title: "Conflict",
    about: "A request with this Idempotency-Key is being answered, and that takes long.",
    mend: "Wait for as many seconds as the Retry-After header says, then send the request again, with the \
        same key: it will be answered as the first.",
};
/// The database has not been migrated to what this version needs, or its role may not use it.
pub static SCHEMA_BEHIND: Kind = Kind {
    code: "schema-behind",
    status: 503,
    title: "Service Unavailable",
    about: "The database is not at the revision that this version of the server needs, or its role \
        may not use it.",
    mend: "Nothing a client can do but try again later. Operators: run `peace-migrate upgrade head` \
        with the same database; no restart is needed.",
};

/// What a route may answer that asks the database.
pub const DATABASE: &[&Kind] = &[&UNAVAILABLE, &SCHEMA_BEHIND, &INTERNAL];
/// What a route may answer that changes rows.
pub const CHANGE: &[&Kind] = DATABASE;
/// What a route may answer besides whose rows have to be unique in something, by a rule that no query
/// names.
pub const UNIQUE: &[&Kind] = &[&CONFLICT];
/// What a route may answer besides that is about one row.
pub const ONE: &[&Kind] = &[&NOT_FOUND];
/// What a route may answer besides that is only for the owner of the row.
pub const OWN: &[&Kind] = &[&UNAUTHENTICATED, &FORBIDDEN];

/// What a route may answer besides that takes an `Idempotency-Key`.
pub const ONCE: &[&Kind] = &[&IDEMPOTENCY_KEY_IN_USE, &IDEMPOTENCY_KEY_REUSED];

/// When a client may try again, in seconds: the pool is back within one or two.
const RETRY_AFTER_S: u64 = 1;

/// What handlers and queries return.
pub type Result<T> = std::result::Result<T, ApiError>;

/// A request that was understood and cannot be answered as asked.
#[derive(Debug, Error)]
pub enum ApiError {
    /// The input could not be read.
    #[error(transparent)]
    Request(#[from] HttpError),
    /// The database did not do it.
    #[error("{}", database_detail(.0))]
    Database(#[from] DbError),
    /// The revision that this version needs is not applied.
    #[error("this server needs revision {needed}, the database is at {}",
        .newest.as_deref().unwrap_or("base"))]
    SchemaBehind {
        /// Its id.
        needed: &'static str,
        /// The newest one that is; `None` = none.
        newest: Option<String>,
    },
    /// The worker was told to leave, or soon will be.
    #[error("the server is stopping: ask another one")]
    Leaving,
    /// There is no such row; the text names the resource.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// The name belongs to another user.
    #[error("this name is taken")]
    NameTaken,
    /// What is there is not of a version that the client means, or not there.
    #[error("what is there is not what If-Match or If-None-Match means")]
    PreconditionFailed,
    /// Another request had this key.
    #[error("this Idempotency-Key came with another request")]
    KeyReused,
    /// The first request with this key has no answer yet.
    #[error("a request with this Idempotency-Key is being answered")]
    KeyInUse,
    /// There is no answer to give, by a mistake of the server; the text is for the log.
    #[error("the server failed")]
    Unanswerable(&'static str),
    /// No access token came with the request.
    #[error("this route needs a bearer token")]
    NoToken,
    /// The access token proves nothing.
    #[error("the bearer token is not valid")]
    InvalidToken(#[from] BadToken),
    /// The caller may only do this to their own.
    #[error("this belongs to another user")]
    Forbidden,
    /// A login failed, for whatever cause.
    #[error("wrong user name or password")]
    WrongCredentials,
    /// The access token was good, but its session is over.
    #[error("the session of the bearer token is over")]
    LoggedOut,
    /// The refresh token proves nothing.
    #[error("the refresh token is not valid")]
    InvalidRefresh,
    /// No more passwords are looked at for a while.
    #[error("too many wrong passwords")]
    TooManyTries {
        /// In so many seconds they are.
        retry_after_s: u64,
    },
    /// The current password is not the one given.
    #[error("the current password is another one")]
    WrongPassword,
    /// The password could not be hashed.
    #[error("the server cannot check passwords at the moment")]
    Password(#[from] PasswordError),
}

impl ApiError {
    /// What is wrong in the request, and why: found beside others or by the database, not by its rule.
    pub fn invalid(source: Source, name: &'static str, why: &str) -> Self {
        let invalid = Invalid::at(source, name, Fault::value(why));
        HttpError::Invalid(vec![invalid]).into()
    }

    /// The kind of problem it is answered as.
    fn kind(&self) -> &'static Kind {
        match self {
            Self::Request(error) => error.kind(),
            Self::Database(error) => database_kind(error),
            Self::SchemaBehind { .. } => &SCHEMA_BEHIND,
            Self::Leaving => &UNAVAILABLE,
            Self::NotFound(_) => &NOT_FOUND,
            Self::NameTaken => &NAME_TAKEN,
            Self::PreconditionFailed => &PRECONDITION_FAILED,
            Self::KeyReused => &IDEMPOTENCY_KEY_REUSED,
            Self::KeyInUse => &IDEMPOTENCY_KEY_IN_USE,
            Self::Unanswerable(_) => &INTERNAL,
            Self::NoToken | Self::InvalidToken(_) | Self::LoggedOut => &UNAUTHENTICATED,
            Self::Forbidden => &FORBIDDEN,
            Self::WrongCredentials => &WRONG_CREDENTIALS,
            Self::InvalidRefresh => &REFRESH_REFUSED,
            Self::TooManyTries { .. } => &TOO_MANY_TRIES,
            Self::WrongPassword => &WRONG_PASSWORD,
            Self::Password(PasswordError::Busy) => &UNAVAILABLE,
            Self::Password(PasswordError::Failed(_)) => &INTERNAL,
        }
    }

    /// What the log should know and the client should not.
    fn private(&self) -> Option<String> {
        match self {
            Self::Database(error) => Some(error.to_string()),
            Self::InvalidToken(error) => Some(error.to_string()),
            Self::Password(error) => Some(error.to_string()),
            Self::Unanswerable(why) => Some((*why).to_owned()),
            _ => None,
        }
    }

    /// The header that tells a client how to authenticate, for answers with 401.
    fn challenge(&self) -> Option<&'static str> {
        match self {
            Self::NoToken | Self::WrongCredentials | Self::InvalidRefresh => Some("Bearer"),
            Self::InvalidToken(_) | Self::LoggedOut => Some(r#"Bearer error="invalid_token""#),
            _ => None,
        }
    }

    /// When it is worth another try, in seconds.
    fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::TooManyTries { retry_after_s } => Some(*retry_after_s),
            Self::KeyInUse => Some(RETRY_AFTER_S),
            other => (other.kind().status == 503).then_some(RETRY_AFTER_S),
        }
    }
}

impl From<ApiError> for Problem {
    fn from(error: ApiError) -> Self {
        let error = match error {
            ApiError::Request(error) => return error.into(),
            other => other,
        };
        report_set_up(&error);
        let mut problem = Self::new(error.kind()).detail(error.to_string());
        if let Some(challenge) = error.challenge() {
            problem = problem.header(WWW_AUTHENTICATE, challenge);
        }
        if let Some(seconds) = error.retry_after_s() {
            problem = problem.header(RETRY_AFTER, seconds);
        }
        if matches!(error, ApiError::KeyReused) {
            let fault = Fault::value("give another request another key");
            problem = problem.errors(vec![Invalid::at(Source::Header, "idempotency-key", fault)]);
        }
        match error.private() {
            Some(text) => problem.log(text),
            None => problem,
        }
    }
}

/// A query that can violate a constraint names it. Where one does not, the program is to be mended,
/// whatever the client is told. Nor can a client do anything about a right that nobody has granted.
fn report_set_up(error: &ApiError) {
    match error {
        ApiError::Database(error @ DbError::Constraint { name, .. }) => {
            error!(constraint = name, %error, "no query names this constraint");
        }
        ApiError::Database(error @ DbError::NoRight(_)) => error!(%error, "request failed"),
        _ => {}
    }
}

/// A constraint that no query names is answered as the input's fault: never a 500.
fn database_kind(error: &DbError) -> &'static Kind {
    match error {
        DbError::Unavailable { .. }
        | DbError::Busy { .. }
        | DbError::Timeout { .. }
        | DbError::Conflict(_) => &UNAVAILABLE,
        DbError::SchemaBehind(_) | DbError::NoRight(_) => &SCHEMA_BEHIND,
        DbError::Constraint { kind: ConstraintKind::Unique, .. } => &CONFLICT,
        DbError::Constraint { .. } | DbError::BadValue(_) => &INVALID_INPUT,
        DbError::Other { .. } => &INTERNAL,
    }
}

fn database_detail(error: &DbError) -> &'static str {
    match error {
        DbError::Unavailable { .. } => "the database cannot be reached",
        DbError::Busy { .. } | DbError::Conflict(_) => "the database is busy",
        DbError::Timeout { .. } => "the database did not answer in time",
        DbError::SchemaBehind(_) | DbError::NoRight(_) => {
            "the database is not at the revision this server needs"
        }
        DbError::Constraint { kind: ConstraintKind::Unique, .. } => "there is such a row already",
        DbError::Constraint { .. } => "the change would break a rule of the data",
        DbError::BadValue(_) => "the database cannot store this value",
        DbError::Other { .. } => "the server failed",
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use worker::Refusal;

    use super::*;
    use crate::security::tokens::Tokens;

    const SECRET: &str = "only for the log";

    fn database(error: DbError) -> Problem {
        ApiError::from(error).into()
    }

    fn constraint(kind: ConstraintKind) -> DbError {
        DbError::Constraint { kind, name: SECRET.to_owned() }
    }

    fn refusal() -> Refusal {
        Refusal { sqlstate: "22001".to_owned(), message: SECRET.to_owned() }
    }

    #[test]
    fn every_failure_of_the_database_has_its_status() {
        let cause: Arc<str> = SECRET.into();
        let expected = [
            (DbError::Unavailable { cause: Arc::clone(&cause) }, "unavailable", 503),
            (DbError::Busy { cause: SECRET }, "unavailable", 503),
            (DbError::Timeout { cause: Arc::clone(&cause), by_server: true }, "unavailable", 503),
            (DbError::Conflict(refusal()), "unavailable", 503),
            (DbError::SchemaBehind(refusal()), "schema-behind", 503),
            (DbError::NoRight(refusal()), "schema-behind", 503),
            (constraint(ConstraintKind::Unique), "conflict", 409),
            (constraint(ConstraintKind::ForeignKey), "invalid-input", 422),
            (constraint(ConstraintKind::NotNull), "invalid-input", 422),
            (constraint(ConstraintKind::Check), "invalid-input", 422),
            (DbError::BadValue(refusal()), "invalid-input", 422),
            (DbError::Other { cause }, "internal", 500),
        ];
        for (error, code, status) in expected {
            let text = error.to_string();
            let problem = database(error);
            assert_eq!((problem.kind().code, problem.kind().status), (code, status), "{text}");
            assert_eq!(problem.private(), Some(text.as_str()), "the log is told all of it");
        }
    }

    #[test]
    fn what_is_for_the_log_is_not_in_the_detail() {
        let errors = [
            ApiError::Database(constraint(ConstraintKind::Unique)),
            ApiError::Database(DbError::Other { cause: SECRET.into() }),
            ApiError::Password(PasswordError::Failed(SECRET.to_owned())),
        ];
        for error in errors {
            assert!(!error.to_string().contains(SECRET), "{error}");
            assert!(error.private().is_some_and(|text| text.contains(SECRET)), "{error:?}");
        }
    }

    #[test]
    fn a_constraint_that_no_query_names_is_reported_once() {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().json().with_writer(move || writer.clone());
        tracing::subscriber::with_default(subscriber.finish(), || {
            database(constraint(ConstraintKind::Check));
            database(DbError::BadValue(refusal()));
            let _: Problem = ApiError::NameTaken.into();
        });
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains(r#""level":"ERROR""#) && text.contains(SECRET), "{text}");
    }

    /// Log lines of one test.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_401_says_how_to_authenticate() {
        assert_eq!(ApiError::NoToken.challenge(), Some("Bearer"));
        assert_eq!(ApiError::Forbidden.challenge(), None);
        assert_eq!(ApiError::LoggedOut.challenge(), Some(r#"Bearer error="invalid_token""#));
        let refused = Tokens::new(&"secret".into(), None).holder("no token").unwrap_err();
        let challenge = ApiError::InvalidToken(refused).challenge();
        assert_eq!(challenge, Some(r#"Bearer error="invalid_token""#));
    }
}
