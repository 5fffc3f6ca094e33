//! The schema's history: what brings a database along it, and what writes its next step.
//!
//! `src` calls it (the command `peace-migrate`, the readiness check, the embedded database); it
//! calls PostgreSQL. The revisions are pairs of plain SQL files in `versions/`, compiled in.
//!
//! The rooms:
//!
//! | room | what it is about |
//! |---|---|
//! | `cli` | arguments in, lines and an exit code out; with `show`, `stop`, `error` beside it |
//! | `files` | the revisions: read, linked, written, judged |
//! | `database` | where a database stands, and how it moves |
//! | `schema` | what SQL means, what differs, and the SQL between |
//!
//! `schema` knows `database`, and both know `files`; never the other way round.
//!
//! In the order of a run: [`embedded()`] (files -> chain) -> [`upgrade`].
//! README.md has the rules of the files.
//!
//! It promises that runners may race, be killed and be repeated: a revision is applied once, whole,
//! and the database remembers which. Everything has a deadline.
//! It does not know a table of the application, a worker or a supervisor.

mod cli;
mod database;
mod error;
mod files;
mod schema;
mod show;
mod stop;

pub use cli::{Application, FindDatabase, run};
pub use database::access::Access;
pub use database::apply::{Direction, Step};
pub use database::records::{HistoryError, READINESS_SQL, Record};
pub use database::runner::{
    Event, LOCK_WAIT, Options, Report, current, downgrade, recorded, upgrade,
};
pub use error::{Error, Outcome};
pub use files::chain::{Chain, ChainError, Down, Revision};
pub use files::embedded::{all, embedded, head};
pub use files::script::Script;
pub use files::target::{Target, TargetError};
pub use schema::check::{Finding, check_tables};
pub use schema::compare::Difference;
#[doc(hidden)]
pub use schema::declared::unraw;
pub use schema::declared::{Column, Declared, Table};
pub use schema::generate::{Draft, Rename, Unwritten, Wishes, draft, prove};
#[doc(hidden)]
pub use tokio_postgres::{
    Row,
    types::{FromSql, Type},
};
