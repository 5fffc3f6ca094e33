//! Versions of rows: every change adds one, so that nobody overwrites what they have not seen.
//!
//! A table that has the column `version` is read into a [`Versioned`] row, whose answer carries the
//! version as its entity tag. Whoever sends that tag back in `If-Match` means that version:
//! [`Expected`] goes into the WHERE of the UPDATE or DELETE, so that of all who mean the same
//! version one is first, whichever workers they asked, and the others are told (412).
//! Without `If-Match` the last one to write wins, as before. Asks no database itself.
//! Source: RFC 9110 section 13.1.1 (`If-Match`), section 13.1.2 (`If-None-Match`).

use worker::{Created, EntityTag, IfMatch, IfNoneMatch, Reply, Row, Tagged, Tags};

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

    /// Answers with it, unless the client has it already.
    pub fn reply_unless<R: From<T>>(self, known: &IfNoneMatch) -> Result<Tagged<Reply<R>>> {
        let etag = EntityTag::of(self.version);
        let is_known = known.read()?.is_some_and(|tags| tags.include(&etag));
        Ok(Tagged { success: Reply(self.row.into()), etag: Some(etag), is_known })
    }

    /// Answers that it was created, and where it is.
    pub fn created<R: From<T>>(self, location: String) -> Tagged<Created<R>> {
        let etag = EntityTag::of(self.version);
        let success = Created { location, body: self.row.into() };
        Tagged { success, etag: Some(etag), is_known: false }
    }
}

/// Which version a client means to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// Whichever is there: it did not say.
    Whatever,
    /// Whichever is there, but one has to be.
    Any,
    /// One of these.
    OneOf(Vec<i64>),
}

impl Expected {
    /// Reads it from the request.
    ///
    /// **Errors**: a field that is no list of entity tags.
    pub fn of(condition: &IfMatch) -> Result<Self> {
        Ok(match condition.read()? {
            None => Self::Whatever,
            Some(Tags::Any) => Self::Any,
            Some(Tags::Of(tags)) => {
                Self::OneOf(tags.iter().filter_map(|tag| version(tag.strong()?)).collect())
            }
        })
    }

    /// For `where $n::bigint[] is null or version = any($n)`.
    pub fn versions(&self) -> Option<Vec<i64>> {
        match self {
            Self::Whatever | Self::Any => None,
            Self::OneOf(versions) => Some(versions.clone()),
        }
    }

    /// Whether this version is one of them.
    pub fn includes(&self, version: i64) -> bool {
        match self {
            Self::Whatever | Self::Any => true,
            Self::OneOf(versions) => versions.contains(&version),
        }
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
            Ok(_) => self.refusal(ApiError::Forbidden),
            Err(absent @ ApiError::NotFound(_)) => self.refusal(absent),
            Err(other) => other,
        }
    }

    /// Why nothing was written: `otherwise`, unless the client had named a version.
    pub fn refusal(&self, otherwise: ApiError) -> ApiError {
        match self {
            Self::Whatever => otherwise,
            Self::Any | Self::OneOf(_) => ApiError::PreconditionFailed,
        }
    }
}

/// The version of a tag of ours: a tag is equal to another one or not, so `01` is none.
fn version(tag: &str) -> Option<i64> {
    let version: i64 = tag.parse().ok()?;
    (version.to_string() == tag).then_some(version)
}
