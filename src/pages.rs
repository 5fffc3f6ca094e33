//! Lists in pages: `?limit=&cursor=`, by key and never by offset.
//!
//! The payload of a list reads a [`Page`], its query fetches `page.rows_max()` rows after
//! `page.after`, and `page.cut()` takes the surplus row away and says where the next page starts.
//! A page costs the same wherever it is, and rows that come or go meanwhile move none of the
//! others. Does not know: which list; its name only keeps cursors of different lists apart.

use sha2::{Digest, Sha256};
use uuid::Uuid;
use worker::{Fault, Field, Fields, Integer, Rule, Value, response};

/// Rows of a page when the client does not say.
const LIMIT_DEFAULT: i64 = 50;
/// Rows of a page at most.
const LIMIT_MAX: i64 = 200;

/// Which rows a client asks for.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    list: &'static str,
    limit: i64,
    /// The id that the page starts after. The first page starts after the nil UUID, which comes
    /// before every other and is no row's (RFC 9562 section 5.9).
    pub after: Uuid,
}

response! {
    /// Which rows a client got, and how to ask for the next.
    #[derive(Debug, PartialEq, Eq)]
    pub struct PageResponse {
        /// How many there are at most.
        limit: i64 = LIMIT_DEFAULT,
        /// For the `cursor` of the next request; none on the last page.
        pub next_cursor: Option<String>,
    }
}

impl Page {
    /// Reads `limit` and `cursor` of the list of this name.
    pub fn read(fields: &mut Fields<'_>, list: &'static str) -> Field<Self> {
        let limit = fields.optional("limit", Limit);
        let after = fields.optional("cursor", Cursor { list });
        let page = fields.join((limit, after));
        page.map(|(limit, after)| Self {
            list,
            limit: limit.unwrap_or(LIMIT_DEFAULT),
            after: after.unwrap_or(Uuid::nil()),
        })
    }

    /// The first page of the list of this name, of `limit` rows.
    pub fn first(list: &'static str, limit: i64) -> Self {
        Self { list, limit, after: Uuid::nil() }
    }

    /// How many rows to fetch: one more than the page shows, which tells whether there are more.
    pub fn rows_max(&self) -> i64 {
        self.limit + 1
    }

    /// The rows of the page, as they are answered; `id` says by what the list is sorted.
    pub fn cut<Row, Response: From<Row>>(
        &self,
        mut rows: Vec<Row>,
        id: impl Fn(&Row) -> Uuid,
    ) -> (Vec<Response>, PageResponse) {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let last = rows.last().filter(|_| more);
        let next_cursor = last.map(|row| Cursor { list: self.list }.after(id(row)));
        let responses = rows.into_iter().map(Response::from).collect();
        (responses, PageResponse { limit: self.limit, next_cursor })
    }
}

/// How many rows a client wants.
struct Limit;

impl Limit {
    const RANGE: Integer = Integer::range(1, LIMIT_MAX);
}

impl Rule for Limit {
    type Output = i64;

    fn check(&self, value: &Value<'_>) -> Result<i64, Fault> {
        Self::RANGE.check(value)
    }

    fn describe(&self) -> serde_json::Value {
        let mut schema = Self::RANGE.describe();
        schema["default"] = LIMIT_DEFAULT.into();
        schema["description"] = "How many rows at most.".into();
        schema
    }
}

/// The place in a list after one id: its digits behind a check over them and the list's name, so
/// that a damaged cursor, or one of another list, is refused instead of answering other rows.
struct Cursor {
    list: &'static str,
}

impl Cursor {
    fn after(&self, id: Uuid) -> String {
        let sum = Sha256::new().chain_update(self.list).chain_update(id).finalize();
        let check = u32::from_be_bytes([sum[0], sum[1], sum[2], sum[3]]);
        format!("{check:08x}{}", id.simple())
    }

    fn id(&self, text: &str) -> Option<Uuid> {
        let id = Uuid::try_parse(text.get(8..)?).ok()?;
        (self.after(id) == text).then_some(id)
    }
}

impl Rule for Cursor {
    type Output = Uuid;

    fn check(&self, value: &Value<'_>) -> Result<Uuid, Fault> {
        let id = value.text().and_then(|text| self.id(text));
        id.ok_or_else(|| Fault::value("give the next_cursor of a page of this list"))
    }

    fn describe(&self) -> serde_json::Value {
        serde_json::json!({ "type": "string", "description": "The `next_cursor` of the page before." })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: Cursor = Cursor { list: "users" };

    fn page(limit: i64) -> Page {
        Page::first("users", limit)
    }

    fn ids(count: u128) -> Vec<Uuid> {
        (1..=count).map(Uuid::from_u128).collect()
    }

    #[test]
    fn a_cursor_comes_back_as_its_id() {
        let id = Uuid::now_v7();
        assert_eq!(USERS.id(&USERS.after(id)), Some(id));
    }

    #[test]
    fn a_damaged_or_foreign_cursor_is_refused() {
        let id = Uuid::now_v7();
        let good = USERS.after(id);
        let bad = [
            String::new(),
            "0".to_owned(),
            id.to_string(),
            good[1..].to_owned(),
            good[..39].to_owned(),
            format!("{good}0"),
            format!(" {good}"),
            good.to_uppercase(),
            good.replacen(|c: char| c.is_ascii_digit(), "x", 1),
            format!("{}{}", &good[..8], Uuid::now_v7().simple()),
            Cursor { list: "items" }.after(id),
            "ähnlich wie ein Cursor, aber keiner".to_owned(),
        ];
        for text in bad {
            assert_eq!(USERS.id(&text), None, "{text:?}");
        }
    }

    #[test]
    fn a_full_page_with_a_row_behind_it_has_a_next() {
        let (rows, response): (Vec<Uuid>, _) = page(2).cut(ids(3), |id| *id);
        assert_eq!(rows, ids(2));
        let cursor = response.next_cursor.unwrap();
        assert_eq!(USERS.id(&cursor), Some(Uuid::from_u128(2)), "after the last row shown");
    }

    #[test]
    fn the_last_page_has_no_next() {
        for count in 0..=2 {
            let (rows, response): (Vec<Uuid>, _) = page(2).cut(ids(count), |id| *id);
            assert_eq!(rows, ids(count));
            assert_eq!(response, PageResponse { limit: 2, next_cursor: None });
        }
    }

    #[test]
    fn one_row_more_than_shown_is_fetched() {
        assert_eq!(page(50).rows_max(), 51);
    }
}
