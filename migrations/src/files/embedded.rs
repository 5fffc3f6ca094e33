//! The revisions compiled into this library from `versions/`, and the schema they give.
//!
//! The command line and the application call it; it calls `chain`.
//! It promises that the text cannot change under a running process: a release carries its schema.

use std::sync::OnceLock;

use crate::files::chain::{Chain, ChainError, Revision};

/// Written by `build.rs`.
static FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/versions.rs"));

/// `schema.lock`; without one `drift` works all the same, in a scratch database.
pub(crate) static LOCK: Option<&str> = include!(concat!(env!("OUT_DIR"), "/lock.rs"));

/// The chain of `versions/`, checked at the first call.
///
/// **Errors**: the files do not make one chain, which this crate's tests exclude in a release.
pub fn embedded() -> Result<&'static Chain, ChainError> {
    static CHAIN: OnceLock<Result<Chain, ChainError>> = OnceLock::new();
    CHAIN.get_or_init(|| Chain::new(FILES.iter().copied())).as_ref().map_err(Clone::clone)
}

/// Every embedded revision, root first.
///
/// **Panics** when the files do not make one chain; [`embedded()`] says it as an error.
pub fn all() -> &'static [Revision] {
    embedded().expect("versions/ holds one chain, as the tests of this crate check").all()
}

/// The revision that this release's code needs.
///
/// **Panics** when the files do not make one chain; [`embedded()`] says it as an error.
pub fn head() -> &'static Revision {
    embedded().expect("versions/ holds one chain, as the tests of this crate check").head()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_holds_one_chain_that_begins_with_the_python_templates_revisions() {
        let ids: Vec<_> = all().iter().map(|revision| revision.id.as_str()).collect();
        assert_eq!(ids[..2], ["586f9c3cd40c", "1246b5faa711"]);
        assert_eq!(head().id, *ids[ids.len() - 1]);
        assert_eq!(FILES.len(), 2 * ids.len());
    }
}
