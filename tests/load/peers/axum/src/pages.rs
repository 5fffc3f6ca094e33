//! Lists in pages, by key: `?limit=&cursor=`. Cursors are checked as those of Peace.

use serde::Serialize;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::errors::{ApiError, Result};

const LIMIT_DEFAULT: i64 = 50;
const LIMIT_MAX: i64 = 200;

/// A page of one list.
pub(crate) struct Page {
    list: List,
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
    /// As the query of the list has asked for it, of the rows that `value` keeps.
    pub(crate) fn new(
        name: &'static str,
        value: Option<&str>,
        limit: Option<i64>,
        cursor: Option<&str>,
    ) -> Result<Self> {
        let limit = limit.unwrap_or(LIMIT_DEFAULT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(ApiError::Invalid("limit: from 1 to 200"));
        }
        let list = List { name, kept: sum_of(value) };
        let after = match cursor {
            Some(cursor) => {
                list.id_of(cursor).ok_or(ApiError::Invalid("cursor: not of this list"))?
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
        let next_cursor = last.map(|row| self.list.cursor(id(row)));
        PageResponse { limit: self.limit, next_cursor }
    }
}

/// Whose rows a cursor is of.
#[derive(Clone, Copy)]
struct List {
    name: &'static str,
    kept: u32,
}

/// Of an order, of which there is one here.
const ORDER: &str = "1a";

impl List {
    /// The digits of an id behind the order, a check over all of it and the list, and which rows are kept.
    fn cursor(self, id: Uuid) -> String {
        let sum = Sha256::new().chain_update(self.name).chain_update(ORDER);
        let sum = sum.chain_update(self.kept.to_be_bytes()).chain_update(id).finalize();
        let check = u32::from_be_bytes([sum[0], sum[1], sum[2], sum[3]]);
        format!("{ORDER}{check:08x}{:08x}{}", self.kept, id.simple())
    }

    fn id_of(self, cursor: &str) -> Option<Uuid> {
        let id = Uuid::try_parse(cursor.get(18..)?).ok()?;
        (self.cursor(id) == cursor).then_some(id)
    }
}

fn sum_of(value: Option<&str>) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&[value.is_some().into()]);
    sum.update(value.unwrap_or_default().as_bytes());
    sum.update(&[0]);
    sum.finalize()
}
