//! Lists in pages, by key: `?limit=&cursor=`. Cursors are checked as those of Peace.

use serde::Serialize;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::errors::{ApiError, Result};

const LIMIT_DEFAULT: i64 = 50;
const LIMIT_MAX: i64 = 200;

/// A page of one list.
pub(crate) struct Page {
    list: &'static str,
    limit: i64,
    /// The id that it starts after.
    pub(crate) after: Uuid,
}

#[derive(Serialize)]
pub(crate) struct PageResponse {
    limit: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

impl Page {
    /// As the query of the list has asked for it.
    pub(crate) fn new(
        list: &'static str,
        limit: Option<i64>,
        cursor: Option<&str>,
    ) -> Result<Self> {
        let limit = limit.unwrap_or(LIMIT_DEFAULT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(ApiError::Invalid("limit: from 1 to 200"));
        }
        let after = match cursor {
            Some(cursor) => {
                id_of(list, cursor).ok_or(ApiError::Invalid("cursor: not of this list"))?
            }
            None => Uuid::nil(),
        };
        Ok(Self { list, limit, after })
    }

    /// One more than is shown, to see whether there are more.
    pub(crate) fn rows_max(&self) -> i64 {
        self.limit + 1
    }

    /// Takes away the row that is one too many.
    pub(crate) fn cut<T>(&self, rows: &mut Vec<T>, id: impl Fn(&T) -> Uuid) -> PageResponse {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let has_more = rows.len() > limit;
        rows.truncate(limit);
        let last = rows.last().filter(|_| has_more);
        let next_cursor = last.map(|row| cursor_after(self.list, id(row)));
        PageResponse { limit: self.limit, next_cursor }
    }
}

/// The digits of an id behind a check over them and the list's name.
fn cursor_after(list: &str, id: Uuid) -> String {
    let sum = Sha256::new().chain_update(list).chain_update(id).finalize();
    let check = u32::from_be_bytes([sum[0], sum[1], sum[2], sum[3]]);
    format!("{check:08x}{}", id.simple())
}

fn id_of(list: &str, cursor: &str) -> Option<Uuid> {
    let id = Uuid::try_parse(cursor.get(8..)?).ok()?;
    (cursor_after(list, id) == cursor).then_some(id)
}
