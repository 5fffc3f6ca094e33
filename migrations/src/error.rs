//! Why a run ended, as situations that a caller treats differently.
//!
//! Every room of the runner makes one; the command line turns it into an exit code.
//! It promises that no text repeats an address or a statement, where secrets may stand.

use std::error::Error as _;
use std::fmt;
use std::io;
use std::time::Duration;

use rustls::OtherError;
use tokio_postgres::error::{ErrorPosition, SqlState};

use crate::database::records::HistoryError;
use crate::files::chain::ChainError;
use crate::files::script::Script;
use crate::files::target::TargetError;

/// Why a run ended. Whatever it is, no revision is half applied in one transaction, and running
/// the same command again is safe.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The files do not make a chain.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The target does not exist.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Nobody there, or not let in.
    #[error("cannot connect to the database at {place}: {why}{}", match .code {
        // What a server says names what to correct already.
        Some(_) => "",
        None => "; start it, or correct DATABASE_URL",
    })]
    Connect {
        /// Its hosts and ports; nothing else of the URL.
        place: String,
        /// The driver's words.
        why: String,
        /// The SQLSTATE, when the server said it.
        code: Option<SqlState>,
    },
    /// The server is too old.
    #[error("the server is PostgreSQL {version}: 15 or newer is needed")]
    ServerTooOld {
        /// As the server says it.
        version: String,
    },
    /// `search_path` names no schema that exists.
    #[error("no schema of `search_path` exists: create one, or set `search_path` for this role")]
    NoSchema,
    /// Another runner works.
    #[error("another migration holds the lock{holder} after {} s: wait for it, or raise --lock-wait",
        .waited.as_secs())]
    Locked {
        /// How long this runner waited.
        waited: Duration,
        /// ` (process 123, peace-migrate)`, or empty when it cannot be seen.
        holder: String,
    },
    /// The session that got the lock is not the session that works.
    #[error(
        "the migration lock is not held by this session: a transaction pooler stands in \
        between; use a direct connection, to the server's own address"
    )]
    Pooled,
    /// The second connection, which would tell a pooler, got no answer.
    #[error(
        "a second connection got no answer for {} s, as if a transaction pooler stands in between: \
        use a direct connection, to the server's own address, or run this again when the server is \
        less busy", .0.as_secs()
    )]
    MaybePooled(
        /// How long it waited.
        Duration,
    ),
    /// Other sessions kept their locks, or it deadlocked, at every try.
    #[error(
        "{file}: given up after {tries} tries: {reason}; end the long transactions, or raise \
        its `lock-timeout`, and run this again"
    )]
    Contended {
        /// The file that waited.
        file: String,
        /// Number of tries.
        tries: u32,
        /// The server's words at the last one.
        reason: String,
    },
    /// The server or the network stopped answering.
    #[error("no answer from the server for {} s while {doing}: check it, then run this again",
        .limit.as_secs())]
    Silent {
        /// What was being done.
        doing: String,
        /// How long it was given.
        limit: Duration,
    },
    /// The database's history is not the files'.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// A statement of a file failed; its transaction was rolled back.
    #[error("{place}: {reason}")]
    Statement {
        /// `file:line:column`, as far as the server knows.
        place: String,
        /// The server's words.
        reason: String,
        /// The SQLSTATE.
        code: SqlState,
    },
    /// An index of that name exists, and no interrupted run made it.
    #[error("{file}: index {index} exists already: drop it, or take it out of the file")]
    IndexExists {
        /// The file that builds it.
        file: String,
        /// The index.
        index: String,
    },
    /// A build ended without an error and without a valid index.
    #[error("{file}: index {index} is missing or INVALID after its build: run this again")]
    IndexInvalid {
        /// The file that builds it.
        file: String,
        /// The index.
        index: String,
    },
    /// The connection was lost while a step was committed.
    #[error("{file}: the connection was lost while it was committed ({reason}); {outcome}")]
    Commit {
        /// The file.
        file: String,
        /// The driver's words.
        reason: String,
        /// What is true, as far as a second look could tell.
        outcome: Outcome,
    },
    /// Files would destroy data, and do not say that it is meant.
    #[error(
        "{}: write `-- allow-destructive: <reason>` into the header if that is meant, or give \
        --allow-destructive this once; nothing was changed", .0.join("; ")
    )]
    Destructive(
        /// `file:line: what`.
        Vec<String>,
    ),
    /// The way down would destroy data.
    #[error("{}: that would be lost; give --yes if it is meant", .0.join("; "))]
    Loss(
        /// `item: 12 rows`.
        Vec<String>,
    ),
    /// The schema is not the one that the rows would say it is.
    #[error(
        "the schema is not the one of that revision ({}): correct it, or give --force", .0.join("; ")
    )]
    StampDiffers(
        /// The differences.
        Vec<String>,
    ),
    /// A command about an applied revision was given another one.
    #[error("revision {0} is not applied to this database: `peace-migrate current -v` lists those")]
    NotApplied(
        /// Its id.
        String,
    ),
    /// A downgrade would pass a revision without a way back.
    #[error("revision {revision} is irreversible ({reason}): nothing was changed")]
    Irreversible {
        /// Its id.
        revision: String,
        /// The file's words.
        reason: String,
    },
    /// The role of the URL may not make scratch databases.
    #[error(
        "this needs scratch databases, and the role of DATABASE_URL may not create any: \
        `alter role … createdb`, or set PEACE_SCRATCH_URL to an empty database to work in"
    )]
    NoCreateDb,
    /// Somebody's database was given as the one to work in.
    #[error(
        "the database of PEACE_SCRATCH_URL is not empty ({object} is in it), and everything in it \
        would be dropped: give an empty one; nothing was changed"
    )]
    ScratchNotEmpty {
        /// One of its objects.
        object: String,
    },
    /// A name led to another database than the one that was made under it.
    #[error(
        "a new scratch database was asked for and {found} answered: give the server's own address \
        instead of the proxy's; nothing was changed in it"
    )]
    ScratchElsewhere {
        /// The database that answered.
        found: String,
    },
    /// Another run works in the one database that was given.
    #[error("the database of PEACE_SCRATCH_URL is in use for {} s: wait for the other run",
        .waited.as_secs())]
    ScratchBusy {
        /// How long this run waited.
        waited: Duration,
    },
    /// The server refuses a statement of the declared schema.
    #[error("the declared schema: {reason}; in `{statement}`{place}")]
    Declared {
        /// The server's words.
        reason: String,
        /// Its first line.
        statement: String,
        /// `, at` the line that is meant, if that is another one and the server knows it.
        place: String,
    },
    /// A step of the bookkeeping failed.
    #[error("while {doing}: {reason}")]
    Database {
        /// What was being done.
        doing: String,
        /// The server's or driver's words.
        reason: String,
        /// The SQLSTATE, when the server said it.
        code: Option<SqlState>,
    },
}

/// What became of a step whose commit nobody answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is committed.
    Committed,
    /// It is not.
    RolledBack,
    /// The server did not answer again.
    Unknown,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Committed => "it is committed: run this again to go on",
            Self::RolledBack => "it was rolled back: run this again",
            Self::Unknown => {
                "whether it is committed is unknown until the server answers: \
                 `peace-migrate current` will tell"
            }
        })
    }
}

impl Error {
    /// The exit code of the command line: 1 error, 2 usage, 5 history, 6 lock or timeout, 7 data
    /// would be destroyed.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Target(_) => 2,
            // A missing file, too, is a history that nobody here knows.
            Self::History(_) | Self::Chain(ChainError::Gap { .. }) => 5,
            Self::Locked { .. } | Self::Contended { .. } | Self::Silent { .. } => 6,
            Self::Pooled | Self::MaybePooled(_) => 6,
            Self::Statement { code, .. } if *code == SqlState::QUERY_CANCELED => 6,
            _ if self.is_contention() => 6,
            Self::StampDiffers(_) => 4,
            Self::Destructive(_) | Self::Loss(_) => 7,
            _ => 1,
        }
    }

    /// Whether the server did not live to answer: nobody knows what became of the statement.
    pub(crate) fn is_loss_of_connection(&self) -> bool {
        match self {
            Self::Silent { .. } | Self::Database { code: None, .. } => true,
            // It was told to shut down, and says so instead of the result.
            Self::Database { code: Some(code), .. } => code.code().starts_with("57P"),
            _ => false,
        }
    }

    /// Whether the rows are not as a statement wants them.
    pub(crate) fn is_about_rows(&self) -> bool {
        let Self::Statement { code, .. } = self else { return false };
        [
            SqlState::CHECK_VIOLATION,
            SqlState::NOT_NULL_VIOLATION,
            SqlState::UNIQUE_VIOLATION,
            SqlState::FOREIGN_KEY_VIOLATION,
            SqlState::EXCLUSION_VIOLATION,
        ]
        .contains(code)
    }

    /// Whether the same step may succeed in a moment: a lock timeout, a deadlock.
    pub(crate) fn is_contention(&self) -> bool {
        let code = match self {
            Self::Statement { code, .. } => Some(code),
            Self::Database { code, .. } => code.as_ref(),
            _ => None,
        };
        code.is_some_and(|code| {
            [
                SqlState::LOCK_NOT_AVAILABLE,
                SqlState::T_R_DEADLOCK_DETECTED,
                SqlState::T_R_SERIALIZATION_FAILURE,
            ]
            .contains(code)
        })
    }

    /// An error of the driver outside of a file's statements.
    pub(crate) fn database(doing: &str, error: &tokio_postgres::Error) -> Self {
        Self::Database {
            doing: doing.to_owned(),
            reason: words(error),
            code: error.code().cloned(),
        }
    }

    /// An error of the server at a statement of the declared schema.
    pub(crate) fn declared(statement: &str, error: &tokio_postgres::Error) -> Self {
        let first = statement.lines().next().unwrap_or_default();
        let place = position(error).map_or(1, |at| line_and_column(statement, at).0);
        let meant = statement.lines().nth(place - 1).map(str::trim).filter(|_| place > 1);
        Self::Declared {
            reason: words(error),
            statement: first.to_owned(),
            place: meant.map(|line| format!(", at `{line}`")).unwrap_or_default(),
        }
    }

    /// An error of the driver within a file's statements.
    pub(crate) fn statement(script: &Script, error: &tokio_postgres::Error) -> Self {
        match error.code() {
            Some(code) => Self::Statement {
                place: place(script, error),
                reason: words(error) + &longer(script, error),
                code: code.clone(),
            },
            None => Self::database(&format!("running {}", script.file), error),
        }
    }
}

/// What to do about a statement that its timeout stopped; empty for any other.
fn longer(script: &Script, error: &tokio_postgres::Error) -> String {
    // Somebody's `pg_cancel_backend` has the same code; an English server says so.
    let stopped = error.as_db_error().is_some_and(|db| {
        *db.code() == SqlState::QUERY_CANCELED && !db.message().contains("user request")
    });
    match stopped {
        true => format!(
            "; it may take {:?}: write a longer `-- statement-timeout:` into the header of {}",
            script.statement_timeout, script.file
        ),
        false => String::new(),
    }
}

/// What the server says, or the chain of causes; one line, never the statement itself.
pub(crate) fn words(error: &tokio_postgres::Error) -> String {
    let Some(db) = error.as_db_error() else {
        let causes = std::iter::successors(error.source(), |cause| (*cause).source());
        return causes.fold(error.to_string(), |text, cause| match distrust(cause) {
            Some(reason) => format!("{text}: {reason}"),
            None => format!("{text}: {cause}"),
        });
    };
    let mut text = format!("{} [{}]", db.message(), db.code().code());
    let advice = match *db.code() {
        SqlState::READ_ONLY_SQL_TRANSACTION => Some(
            "this server is a standby or read-only: give the address of the primary, or of \
                 several with target_session_attrs=read-write",
        ),
        SqlState::INSUFFICIENT_PRIVILEGE => Some(missing_right(db.message())),
        SqlState::INVALID_CATALOG_NAME => Some("create it, or correct the name in DATABASE_URL"),
        SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            Some("correct user and password in DATABASE_URL")
        }
        _ => db.hint(),
    };
    for more in db.detail().into_iter().chain(advice) {
        text.push_str("; ");
        text.push_str(more);
    }
    text.replace('\n', " ")
}

/// Why the application does not believe a certificate, without what TLS says around it.
fn distrust<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a OtherError> {
    let inner = error.downcast_ref::<io::Error>()?.get_ref()?;
    match inner.downcast_ref()? {
        rustls::Error::Other(reason) => Some(reason),
        _ => None,
    }
}

/// What to grant; an English server's message says what was refused.
fn missing_right(message: &str) -> &'static str {
    let refused = |what| message.starts_with(&format!("permission denied for {what}"));
    if refused("schema") {
        "grant create and usage on this schema to the role of the URL, or let somebody who has \
         them run the output of --sql"
    } else if refused("database") {
        "grant create on this database to the role of the URL, or let somebody who has it run \
         the output of --sql"
    } else if message.starts_with("must be owner") {
        "only its owner may change it: use the owner's role, or let the owner run the output of \
         --sql"
    } else {
        "the role of the URL lacks this right: grant it, or let somebody who has it run the \
         output of --sql"
    }
}

/// `file:line:column`, as far as the server knows.
fn place(script: &Script, error: &tokio_postgres::Error) -> String {
    let Some(position) = position(error) else { return script.file.clone() };
    let (line, column) = line_and_column(&script.sql, position);
    format!("{}:{line}:{column}", script.file)
}

/// Where in the statement that was sent; in characters, from 1.
fn position(error: &tokio_postgres::Error) -> Option<u32> {
    match error.as_db_error()?.position()? {
        ErrorPosition::Original(position) => Some(*position),
        ErrorPosition::Internal { .. } => None,
    }
}

fn line_and_column(sql: &str, position: u32) -> (usize, usize) {
    let before = (position as usize).saturating_sub(1);
    sql.chars().take(before).fold((1, 1), |(line, column), letter| {
        if letter == '\n' { (line + 1, 1) } else { (line, column + 1) }
    })
}
