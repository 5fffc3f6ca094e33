//! What can go wrong at the database, as situations a caller treats differently.
//!
//! Every room of `database` fails with [`DbError`]; the application turns it into an answer.
//! Promises: the text is for the log and says SQLSTATE, message and constraint, and no parameter
//! value ever reaches it: the server's DETAIL is left out, and what class 22 quotes is struck out.
//! Does not know: statuses of HTTP, or which statement it was.
//!
//! Source: PostgreSQL, "Appendix A. PostgreSQL Error Codes".

use std::{
    error::Error,
    fmt::{self, Write as _},
    io,
    sync::Arc,
};

use rustls::OtherError;
use tokio_postgres::error::{Severity, SqlState};

/// Why a statement or a transaction gave no result.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DbError {
    /// No connection to the server, or it was lost while asking, or the server takes no writes (a
    /// standby). Worth asking again later. A write, or a transaction at its COMMIT, that ends with
    /// this may have been saved all the same.
    #[error("the database is unavailable: {cause}")]
    Unavailable {
        /// What the last try to connect, or the lost connection, said.
        cause: Arc<str>,
    },
    /// The server answers, but every connection of the pool stayed in use. Worth asking again.
    #[error("every connection of the pool is in use: {cause}")]
    Busy {
        /// Which limit was met.
        cause: &'static str,
    },
    /// The statement was started and cut off. Nothing was saved, unless a write or a COMMIT was cut
    /// off by us.
    #[error("the database took too long: {cause}")]
    Timeout {
        /// Which limit was met, ours or the server's.
        cause: Arc<str>,
        /// Whether the server said so: it is there, and something else stood in the way.
        by_server: bool,
    },
    /// A table or column is missing: the database's revision is older (or newer) than this program.
    #[error("the schema is not at the revision this program needs: {0}")]
    SchemaBehind(Refusal),
    /// The role of this program may not do this: nobody has granted it.
    #[error("the database role lacks a right, grant it: {0}")]
    NoRight(Refusal),
    /// A constraint refused the row.
    #[error("{kind} constraint {name:?} refused the row (SQLSTATE {})", kind.sqlstate())]
    Constraint {
        /// Which sort of constraint.
        kind: ConstraintKind,
        /// The constraint's name; the column's where the server names no constraint (NOT NULL).
        name: String,
    },
    /// The server refused a value: out of range, badly written (class 22), too large (class 54).
    #[error("a value was refused: {0}")]
    BadValue(Refusal),
    /// Other transactions stood in the way, also of every retry.
    #[error("other transactions stood in the way: {0}")]
    Conflict(Refusal),
    /// A fault of the program or of the server's set-up.
    #[error("{cause}")]
    Other {
        /// What was said.
        cause: Arc<str>,
    },
}

/// What the server said when it refused.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Five characters, e.g. `42P01`.
    pub sqlstate: String,
    /// The server's first line, without its DETAIL.
    pub message: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (SQLSTATE {})", self.message, self.sqlstate)
    }
}

/// The sorts of constraints (class 23).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConstraintKind {
    /// Such a row exists.
    Unique,
    /// The row refers to one that does not exist, or another refers to it.
    ForeignKey,
    /// A column must have a value.
    NotNull,
    /// A condition does not hold.
    Check,
    /// A row exists that excludes this one.
    Exclusion,
}

impl ConstraintKind {
    /// What PostgreSQL calls a violation of it.
    fn sqlstate(self) -> &'static str {
        match self {
            Self::Unique => "23505",
            Self::ForeignKey => "23503",
            Self::NotNull => "23502",
            Self::Check => "23514",
            Self::Exclusion => "23P01",
        }
    }
}

impl fmt::Display for ConstraintKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unique => "unique",
            Self::ForeignKey => "foreign key",
            Self::NotNull => "not-null",
            Self::Check => "check",
            Self::Exclusion => "exclusion",
        })
    }
}

impl DbError {
    pub(super) fn unavailable(cause: &str) -> Self {
        Self::Unavailable { cause: cause.into() }
    }

    pub(super) fn timeout(cause: &str) -> Self {
        Self::Timeout { cause: cause.into(), by_server: false }
    }

    pub(super) fn wrong_count(taken: usize, given: usize) -> Self {
        Self::other(&format!("the statement takes {taken} parameters and was given {given}"))
    }

    pub(super) fn other(cause: &str) -> Self {
        Self::Other { cause: cause.into() }
    }
}

impl From<&tokio_postgres::Error> for DbError {
    fn from(error: &tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(said) => from_server(
                said.code(),
                said.message(),
                said.constraint().or(said.column()).unwrap_or_default(),
            ),
            None if leaves_session_usable(error) => Self::other(&chain(error)),
            None => Self::unavailable(&chain(error)),
        }
    }
}

/// What the server's refusal means to a caller.
pub(super) fn from_server(code: &SqlState, message: &str, constraint: &str) -> DbError {
    let sqlstate = code.code();
    let refusal = || Refusal { sqlstate: sqlstate.to_owned(), message: message.to_owned() };
    let constraint = |kind| DbError::Constraint { kind, name: constraint.to_owned() };
    match sqlstate {
        "23505" => constraint(ConstraintKind::Unique),
        // 23001 is what ON DELETE RESTRICT says from PostgreSQL 18 on.
        "23503" | "23001" => constraint(ConstraintKind::ForeignKey),
        "23502" => constraint(ConstraintKind::NotNull),
        "23514" => constraint(ConstraintKind::Check),
        "23P01" => constraint(ConstraintKind::Exclusion),
        "40001" | "40P01" => DbError::Conflict(refusal()),
        "42P01" | "42703" => DbError::SchemaBehind(refusal()),
        // A policy of row level security has this code too; it refuses a row, and no role lacks it.
        "42501" if message.starts_with("permission denied") => DbError::NoRight(refusal()),
        // A standby, such as a primary that was one a moment ago.
        "25006" => DbError::unavailable(&refusal().to_string()),
        "57014" | "55P03" | "25P03" => {
            DbError::Timeout { cause: refusal().to_string().into(), by_server: true }
        }
        _ => match (&sqlstate[..2], &sqlstate[..3]) {
            ("22" | "54", _) => {
                DbError::BadValue(Refusal { message: without_quoted(message), ..refusal() })
            }
            ("08" | "53" | "58", _) | (_, "57P") => DbError::unavailable(&refusal().to_string()),
            _ => DbError::other(&refusal().to_string()),
        },
    }
}

/// Strikes out what stands between the first and the last quote: class 22 quotes the value it
/// refuses, and that value may hold quotes itself.
fn without_quoted(message: &str) -> String {
    match (message.find('"'), message.rfind('"')) {
        (Some(first), Some(last)) => format!("{}…{}", &message[..=first], &message[last..]),
        _ => message.to_owned(),
    }
}

/// Whether the session can go on after `error`: the server refused this one statement, or the
/// statement never left us because a parameter did not fit its type.
pub(super) fn leaves_session_usable(error: &tokio_postgres::Error) -> bool {
    match error.as_db_error() {
        Some(said) => {
            !matches!(said.parsed_severity(), Some(Severity::Fatal | Severity::Panic) | None)
        }
        None => error.source().is_some_and(|cause| !cause.is::<io::Error>()),
    }
}

/// Whether a write was refused since the server takes none: it is a standby, or was made one.
pub(super) fn is_read_only(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION)
}

/// Whether the prepared statement is out of date: gone from the server (26000, after `DISCARD ALL`
/// or behind a pooler), or its columns have changed since (0A000 of that one routine). Nothing was
/// executed then.
pub(super) fn is_stale_statement(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|said| match *said.code() {
        SqlState::INVALID_SQL_STATEMENT_NAME => true,
        SqlState::FEATURE_NOT_SUPPORTED => said.routine() == Some("RevalidateCachedQuery"),
        _ => false,
    })
}

/// `error` and all its causes in one line; tokio-postgres' own text is only "db error".
pub(super) fn chain(error: &tokio_postgres::Error) -> String {
    if let Some(said) = error.as_db_error() {
        return format!("{} (SQLSTATE {})", said.message(), said.code().code());
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        match distrust(error) {
            Some(reason) => _ = write!(text, ": {reason}"),
            None => _ = write!(text, ": {error}"),
        }
        cause = error.source();
    }
    text
}

/// Why the application does not believe a certificate, without what TLS says around it.
fn distrust<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a OtherError> {
    let inner = error.downcast_ref::<io::Error>()?.get_ref()?;
    match inner.downcast_ref()? {
        rustls::Error::Other(reason) => Some(reason),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(sqlstate: &str, message: &str, constraint: &str) -> DbError {
        from_server(&SqlState::from_code(sqlstate), message, constraint)
    }

    #[test]
    fn every_situation_has_its_variant() {
        for (sqlstates, expected) in [
            (
                &["08006", "08P01", "53300", "57P01", "57P02", "57P03", "58030", "25006"][..],
                "Unavailable",
            ),
            (&["57014", "55P03", "25P03"], "Timeout"),
            (&["42P01", "42703"], "SchemaBehind"),
            (&["23505", "23503", "23001", "23502", "23514", "23P01"], "Constraint"),
            (&["22001", "22003", "22P02", "22021", "54000"], "BadValue"),
            (&["40001", "40P01"], "Conflict"),
            (&["42601", "42501", "25P02", "XX000", "57000", "0A000", "P0001"], "Other"),
        ] {
            for sqlstate in sqlstates {
                let shown = format!("{:?}", error(sqlstate, "said", "name"));
                assert!(shown.starts_with(expected), "{sqlstate}: {shown}");
            }
        }
    }

    #[test]
    fn a_role_without_a_right_is_told_from_a_row_that_a_policy_refuses() {
        let denied = error("42501", "permission denied for table peace_migration", "");
        assert!(matches!(denied, DbError::NoRight(_)), "{denied:?}");
        let refused = error("42501", "new row violates row-level security policy", "");
        assert!(matches!(refused, DbError::Other { .. }), "{refused:?}");
    }

    #[test]
    fn a_constraint_is_told_by_kind_and_name() {
        let refused = error("23505", "duplicate key value", "user_name_key");
        assert!(matches!(
            &refused,
            DbError::Constraint { kind: ConstraintKind::Unique, name } if name == "user_name_key"
        ));
        assert_eq!(
            refused.to_string(),
            r#"unique constraint "user_name_key" refused the row (SQLSTATE 23505)"#
        );
    }

    #[test]
    fn a_refused_value_is_struck_out() {
        for (message, kept) in [
            (r#"invalid input syntax for type uuid: "s3cret""#, r#"type uuid: "…" (SQLSTATE"#),
            (r#"invalid input syntax: "s3"cret""#, r#"syntax: "…" (SQLSTATE"#),
            (r#"value "s3cret" is out of range"#, r#"value "…" is out of range"#),
            (r#"unfinished " quote"#, r#"unfinished "…" quote"#),
            ("integer out of range", "integer out of range"),
        ] {
            let shown = error("22P02", message, "").to_string();
            assert!(shown.contains(kept) && !shown.contains("cret"), "{shown}");
        }
    }

    #[test]
    fn the_log_sees_what_the_server_said() {
        let refused = error("42P01", r#"relation "item" does not exist"#, "");
        assert!(
            refused.to_string().ends_with(r#"relation "item" does not exist (SQLSTATE 42P01)"#)
        );
    }
}
