//! The revisions as files: read, linked, written, judged.
//!
//! `cli`, `database` and `schema` call it; it calls none of them. In the order of a run: `sql` (text
//! into statements) -> `script` (one file) -> `chain` (all of them) -> `target` (a place in it);
//! `embedded` has those that are compiled in, `folder` those on the disk. `rebase` makes two heads
//! one, `lint` and `guard` read for danger.
//! It does not know a database.

pub(crate) mod chain;
pub(crate) mod embedded;
pub(crate) mod folder;
pub(crate) mod guard;
pub(crate) mod lint;
pub(crate) mod rebase;
pub(crate) mod script;
pub(crate) mod sql;
pub(crate) mod target;
