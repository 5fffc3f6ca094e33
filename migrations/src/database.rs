//! Where a database stands in the history, and how it moves.
//!
//! `cli` and `schema` call it, and the application's *migrate* step; it calls `files`. `runner` is a
//! run: `access` and `session` (connection and lock) -> `records` (where it stands) -> what says no (`consent`,
//! `loss`, `pooler`) -> `apply` for each step (`index`, `settle`). Runs of other kinds: `offline` (for
//! psql), `rehearse` (only tried), `amend` (the rows alone).
//! It does not know what a schema should be.

pub(crate) mod access;
pub(crate) mod amend;
pub(crate) mod apply;
pub(crate) mod consent;
pub(crate) mod index;
pub(crate) mod loss;
pub(crate) mod offline;
pub(crate) mod pooler;
pub(crate) mod records;
pub(crate) mod rehearse;
pub(crate) mod runner;
pub(crate) mod session;
pub(crate) mod settle;
