//! Versions of rows: every change adds one, so that nobody overwrites what they have not seen.
//!
//! A table that has the column `version` is read into a [`Versioned`] row, whose answer carries the
//! version as its entity tag. Whoever sends that tag back in `If-Match` means that version, and
//! whoever sends it in `If-None-Match` does not: a read is answered as they say
//! ([`Versioned::reply_to`]); for a write [`Expected`] goes into the WHERE of the UPDATE or DELETE, so
//! that of all who mean the same version one is first, whichever workers they asked, and the others
//! are told (412). Without either field the last one to write wins, as before.
//! Asks no database itself.
//! A write with `If-Match` to a row that is not there (any more) is a 412, by choice: section 13.2.1
//! asks for the answer without the condition, a 404. But who names a version has seen the row; they
//! are told in one way that it is no longer what they have seen, changed or deleted, and a client has
//! one case to handle. A read is a 404.
//! The tag is that of the row, not of the bytes of an answer: a release that shows a new member of the
//! same rows should count their versions up in its migration, or clients keep their older copies until
//! the row changes.
//! Source: RFC 9110 sections 13.1.1 (`If-Match`), 13.1.2 (`If-None-Match`), 13.2.2 (their order).

use worker::{Conditions, Created, EntityTag, Preconditions, Reply, Row, Tag, Tagged, Tags};

use crate::errors::{ApiError, Result};

/// A row, and which version of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Versioned<T> {
    /// The row.
    pub row: T,
    /// How often it was written.
    pub version: i64,
}

impl<T> Versioned<T> {
    /// Reads a row that has the column `version` beside those that `read` reads.
    pub fn from_row(row: &Row<'_>, read: impl FnOnce(&Row<'_>) -> T) -> Self {
        Self { row: read(row), version: row.get("version") }
    }

    /// Answers with it.
    pub fn reply<R: From<T>>(self) -> Tagged<Reply<R>> {
        let etag = EntityTag::of(self.version);
        Tagged { success: Reply(self.row.into()), etag: Some(etag), is_known: false }
    }

    /// Answers with it a read that is meant for it, unless the client has it already.
    ///
    /// **Errors**: a field that is no list of entity tags; another version is meant.
    pub fn reply_to<R: From<T>>(self, conditions: &Conditions) -> Result<Tagged<Reply<R>>> {
        let etag = EntityTag::of(self.version);
        let is_known = is_known(&conditions.read()?, &etag)?;
        Ok(Tagged { success: Reply(self.row.into()), etag: Some(etag), is_known })
    }

    /// Answers that it was created, and where it is.
    pub fn created<R: From<T>>(self, location: String) -> Tagged<Created<R>> {
        let etag = EntityTag::of(self.version);
        let success = Created { location, body: self.row.into() };
        Tagged { success, etag: Some(etag), is_known: false }
    }
}

/// Whether the client of a read has what has this tag already.
///
/// **Errors**: the read is not meant for it.
pub fn is_known(conditions: &Preconditions, etag: &EntityTag) -> Result<bool> {
    match conditions.rule_out(etag) {
        true => Err(ApiError::PreconditionFailed),
        false => Ok(conditions.know(etag)),
    }
}

/// Which versions a client means to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    versions: Vec<i64>,
    /// Whether it has to be one of these, or none of them.
    is_one: bool,
    /// Whether one has to be there: there is an `If-Match`.
    is_there: bool,
}

impl Expected {
    /// Reads it from the request.
    ///
    /// **Errors**: a field that is no list of entity tags.
    pub fn of(conditions: &Conditions) -> Result<Self> {
        let Preconditions { if_match, if_none_match } = conditions.read()?;
        let is_there = if_match.is_some();
        let (versions, is_one) = match (if_match, if_none_match) {
            (None | Some(Tags::Any), None) => (Vec::new(), false),
            (_, Some(Tags::Any)) => (Vec::new(), true),
            (None | Some(Tags::Any), Some(Tags::Of(not))) => (versions(&not, Tag::text), false),
            (Some(Tags::Of(these)), None) => (versions(&these, Tag::strong), true),
            (Some(Tags::Of(these)), Some(Tags::Of(not))) => {
                let (mut these, not) = (versions(&these, Tag::strong), versions(&not, Tag::text));
                these.retain(|version| !not.contains(version));
                (these, true)
            }
        };
        Ok(Self { versions, is_one, is_there })
    }

    /// For `where (version = any($n)) = $m`: versions, and whether it has to be one of them.
    pub fn versions(&self) -> (Vec<i64>, bool) {
        (self.versions.clone(), self.is_one)
    }

    /// Whether this version is meant.
    pub fn includes(&self, version: i64) -> bool {
        self.versions.contains(&version) == self.is_one
    }

    /// What was read, where there was nothing to write: it is refused as a write is.
    pub fn allow<T>(&self, read: Result<Versioned<T>>) -> Result<Versioned<T>> {
        match read {
            Ok(found) if self.includes(found.version) => Ok(found),
            found => Err(self.why_not(found, |_| true)),
        }
    }

    /// Why nothing was written, when this was found afterwards: there is no such row, it is somebody
    /// else's, or not the version that is meant.
    pub fn why_not<T>(
        &self,
        found: Result<Versioned<T>>,
        is_own: impl FnOnce(&T) -> bool,
    ) -> ApiError {
        match found {
            Ok(found) if !is_own(&found.row) => ApiError::Forbidden,
            Ok(_) => ApiError::PreconditionFailed,
            Err(absent @ ApiError::NotFound(_)) => self.refusal(absent),
            Err(other) => other,
        }
    }

    /// Why nothing was written to what is not there: `absent`, unless one had to be there.
    pub fn refusal(&self, absent: ApiError) -> ApiError {
        if self.is_there { ApiError::PreconditionFailed } else { absent }
    }
}

/// The versions of those tags that are ours: a tag is equal to another one or not, so `01` is none.
fn versions(tags: &[Tag], text: fn(&Tag) -> Option<&str>) -> Vec<i64> {
    let version = |tag: &Tag| {
        let text = text(tag)?;
        let version: i64 = text.parse().ok()?;
        (version.to_string() == text).then_some(version)
    };
    tags.iter().filter_map(version).collect()
}
