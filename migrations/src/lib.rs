//! The schema's history: what brings a database along it, and what writes its next step.
//!
//! `src` calls it (the command `peace-migrate`, the readiness check, the embedded database); it
//! calls PostgreSQL. The revisions are pairs of plain SQL files in `versions/`, compiled in.
//!
//! The rooms:
//!
//! | what | where |
//! |---|---|
//! | the command | `cli`: arguments in, lines and an exit code out; `show`, `url`, `stop`, `error` |
//! | files | `sql` -> `script` -> `chain`, `target`; `embedded`, `folder`; `rebase`, `lint` |
//! | a run | `runner`: `session` (lock) -> `records` -> `apply` (`index`, `settle`) for each step |
//! | what says no before it | `guard`, `consent`, `loss`, `pooler` |
//! | runs of other kinds | `offline` (psql), `rehearse`, `dry_run`, `amend`, `adopt` (Alembic's) |
//! | what a schema is | `schema` (`table!`); `scratch` -> `materialise` -> `catalog`; `lockfile` |
//! | what differs | `compare`, for `check`, `drift` and `generate`, which writes the SQL between |
//!
//! In the order of a run: [`parse_url`] -> [`embedded()`] (files -> chain) -> [`upgrade`].
//! README.md has the rules of the files.
//!
//! It promises that runners may race, be killed and be repeated: a revision is applied once, whole,
//! and the database remembers which. Everything has a deadline.
//! It does not know a table of the application, a worker or a supervisor.

mod adopt;
mod amend;
mod apply;
mod catalog;
mod chain;
mod check;
mod cli;
mod compare;
mod consent;
mod drift;
mod dry_run;
mod embedded;
mod error;
mod folder;
mod generate;
mod guard;
mod index;
mod lint;
mod lockfile;
mod loss;
mod materialise;
mod offline;
mod pooler;
mod rebase;
mod records;
mod rehearse;
mod runner;
mod schema;
mod scratch;
mod script;
mod session;
mod settle;
mod show;
mod sql;
mod stop;
mod target;
mod url;

pub use apply::{Direction, Step};
pub use chain::{Chain, ChainError, Down, Revision};
pub use check::{Finding, check_tables};
pub use cli::{Application, FindDatabase, run};
pub use compare::Difference;
pub use embedded::{all, embedded, head};
pub use error::{Error, Outcome};
pub use generate::{Draft, Rename, Unwritten, Wishes, draft, prove};
pub use records::{HistoryError, READINESS_SQL, Record};
pub use runner::{Event, LOCK_WAIT, Options, Report, current, downgrade, recorded, upgrade};
#[doc(hidden)]
pub use schema::unraw;
pub use schema::{Column, Declared, Table};
pub use script::Script;
pub use target::{Target, TargetError};
#[doc(hidden)]
pub use tokio_postgres::{
    Row,
    types::{FromSql, Type},
};
pub use url::{UrlError, parse_url, without_driver};
