//! What a schema is, what differs between two, and the SQL between.
//!
//! `cli` calls it; it calls `files` and `database`. `declared` has what the code declares
//! ([`table!`](crate::table!)); `scratch` -> `materialise` -> `catalog` let a server tell what that and
//! the files mean; `compare` and `lockfile` say what differs, for `check`, `drift` and `generate`.
//! What needs such a proof is here too: `dry_run`, and `adopt` (Alembic's databases).
//! It does not know how SQL is spelt: the server does.

pub(crate) mod adopt;
pub(crate) mod catalog;
pub(crate) mod check;
pub(crate) mod compare;
pub(crate) mod declared;
pub(crate) mod drift;
pub(crate) mod dry_run;
pub(crate) mod generate;
pub(crate) mod lockfile;
pub(crate) mod materialise;
pub(crate) mod scratch;
