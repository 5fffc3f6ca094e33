//! Lists in pages: `?limit=&sort=&cursor=`, by key and never by offset.
//!
//! The payload of a list reads a [`Page`], its query fetches `page.rows_max()` rows behind
//! `page.from` in the order of `page.sort`, and `page.cut()` takes the surplus row away and says
//! where the next page starts.
//! A page costs the same wherever it is, and rows that come or go meanwhile move none of the
//! others. A list that keeps some rows only says which ones with `page.of()`.
//! Does not know: which list; its name and what it keeps only keep cursors of different lists apart.
//! Source: RFC 8288 (`Link`).

use flate2::Crc;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use sha2::{Digest, Sha256};
use uuid::Uuid;
use worker::{Context, Fault, Field, Fields, Integer, Rule, Source, Value, response};

use crate::app::App;
use crate::errors::{ApiError, Result};

/// Rows of a page when the client does not say.
const LIMIT_DEFAULT: i64 = 50;
/// Rows of a page at most.
const LIMIT_MAX: i64 = 200;

/// Which rows a client asks for.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    list: List,
    limit: i64,
    /// The order of the rows.
    pub sort: Sort,
    /// The id that the page starts behind. The first page starts behind the nil UUID, which comes
    /// before every other, or the max UUID, which comes after; both are no row's (RFC 9562
    /// sections 5.9 and 5.10).
    pub from: Uuid,
}

/// The orders of a list. Ids grow with time, so the first is that of creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// `id`: the oldest first.
    Ascending,
    /// `-id`: the newest first.
    Descending,
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
    /// Reads `limit`, `sort` and `cursor` of the list of this name.
    pub fn read(fields: &mut Fields<'_>, list: &'static str) -> Field<Self> {
        let limit = fields.optional("limit", Limit);
        let sort = fields.optional("sort", SortName);
        let cursor = fields.optional("cursor", Cursor { list });
        let part = fields.join((limit, sort, cursor));
        fields.judge("cursor", part, |(limit, sort, cursor)| {
            let limit = limit.unwrap_or(LIMIT_DEFAULT);
            match (sort, cursor) {
                (Some(sort), Some(place)) if sort != place.sort => {
                    Err(Fault::value("it is of a page in another order"))
                }
                (_, Some(Place { list, sort, from })) => Ok(Self { list, limit, sort, from }),
                (sort, None) => Ok(Self::first(list, limit, sort.unwrap_or(Sort::Ascending))),
            }
        })
    }

    /// The first page of the list of this name, of `limit` rows.
    pub fn first(list: &'static str, limit: i64, sort: Sort) -> Self {
        Self { list: List { name: list, kept: 0 }, limit, sort, from: sort.start() }
    }

    /// The same of those rows only that these values keep, in their order; `None` keeps all.
    ///
    /// **Errors**: the page is to begin where one of other rows has ended.
    pub fn of(mut self, values: &[Option<&str>]) -> Result<Self> {
        let kept = sum_of(values);
        if self.from != self.sort.start() && self.list.kept != kept {
            return Err(ApiError::invalid(Source::Query, "cursor", FOREIGN));
        }
        self.list.kept = kept;
        Ok(self)
    }

    /// Between which ids the rows are, both excluded; for statements that need no order.
    pub fn between(&self) -> (Uuid, Uuid) {
        match self.sort {
            Sort::Ascending => (self.from, Uuid::max()),
            Sort::Descending => (Uuid::nil(), self.from),
        }
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
        let next_cursor = last.map(|row| self.list.cursor(self.sort, id(row)));
        let responses = rows.into_iter().map(Response::from).collect();
        (responses, PageResponse { limit: self.limit, next_cursor })
    }
}

impl PageResponse {
    /// Path and query of the next page, where there is one: this one's with its cursor.
    pub fn next(&self, cx: &Context<App>) -> Option<String> {
        self.next_cursor.as_ref().map(|cursor| target(cx.path(), cx.query(), cursor))
    }
}

/// What may stand in a target, but not in a `Link`.
const NOT_IN_LINK: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>');

fn target(path: &str, query: &str, cursor: &str) -> String {
    let others = query.split('&').filter(|pair| !pair.is_empty());
    let others = others.filter(|pair| pair.split('=').next() != Some("cursor"));
    let mut target = utf8_percent_encode(path, NOT_IN_LINK).to_string();
    for (index, pair) in others.enumerate() {
        target.push(if index == 0 { '?' } else { '&' });
        target.extend(utf8_percent_encode(pair, NOT_IN_LINK));
    }
    target.push(if target.contains('?') { '&' } else { '?' });
    target + "cursor=" + cursor
}

impl Sort {
    const ALL: [Self; 2] = [Self::Ascending, Self::Descending];

    fn name(self) -> &'static str {
        match self {
            Self::Ascending => "id",
            Self::Descending => "-id",
        }
    }

    /// Behind what the first page starts.
    fn start(self) -> Uuid {
        match self {
            Self::Ascending => Uuid::nil(),
            Self::Descending => Uuid::max(),
        }
    }

    /// The statement for this order.
    pub fn sql(self, ascending: &'static str, descending: &'static str) -> &'static str {
        match self {
            Self::Ascending => ascending,
            Self::Descending => descending,
        }
    }
}

/// The name of an order.
struct SortName;

impl Rule for SortName {
    type Output = Sort;

    fn check(&self, value: &Value<'_>) -> std::result::Result<Sort, Fault> {
        let text = value.text().unwrap_or_default();
        let found = Sort::ALL.into_iter().find(|sort| sort.name() == text);
        found.ok_or_else(|| Fault::new("enum", "Input should be 'id' or '-id'"))
    }

    fn describe(&self) -> serde_json::Value {
        serde_json::json!({
            "type": "string",
            "enum": Sort::ALL.map(Sort::name),
            "default": "id",
            "description": "`id`: the oldest first; `-id`: the newest first.",
        })
    }
}

/// How many rows a client wants.
struct Limit;

impl Limit {
    const RANGE: Integer = Integer::range(1, LIMIT_MAX);
}

impl Rule for Limit {
    type Output = i64;

    fn check(&self, value: &Value<'_>) -> std::result::Result<i64, Fault> {
        Self::RANGE.check(value)
    }

    fn describe(&self) -> serde_json::Value {
        let mut schema = Self::RANGE.describe();
        schema["default"] = LIMIT_DEFAULT.into();
        schema["description"] = "How many rows at most.".into();
        schema
    }
}

/// What a cursor has to be of: the list of this name, and which of its rows are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct List {
    name: &'static str,
    kept: u32,
}

impl List {
    /// The place behind one row: the version of this text, the order, a check over all of it and the
    /// list's name, which rows are kept, and the digits of the row's id.
    fn cursor(&self, sort: Sort, id: Uuid) -> String {
        let (order, kept) = (sort.sql("1a", "1d"), self.kept);
        let sum = Sha256::new().chain_update(self.name).chain_update(order);
        let sum = sum.chain_update(kept.to_be_bytes()).chain_update(id).finalize();
        let check = u32::from_be_bytes([sum[0], sum[1], sum[2], sum[3]]);
        format!("{order}{check:08x}{kept:08x}{}", id.simple())
    }
}

/// A number for the values by which rows are kept. No value holds NUL.
fn sum_of(values: &[Option<&str>]) -> u32 {
    let mut sum = Crc::new();
    for value in values {
        sum.update(value.map_or(&[0], |_| &[1]));
        sum.update(value.unwrap_or_default().as_bytes());
        sum.update(&[0]);
    }
    sum.sum()
}

/// Where a cursor leads to.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    list: List,
    sort: Sort,
    from: Uuid,
}

/// A cursor of the list of this name. A damaged one, or one of another list, is refused instead of
/// answering other rows.
struct Cursor {
    list: &'static str,
}

const FOREIGN: &str = "give the next_cursor of a page of this list";

impl Cursor {
    fn place(&self, text: &str) -> Option<Place> {
        let kept = u32::from_str_radix(text.get(10..18)?, 16).ok()?;
        let (list, from) = (List { name: self.list, kept }, Uuid::try_parse(text.get(18..)?).ok()?);
        let sort = Sort::ALL.into_iter().find(|sort| list.cursor(*sort, from) == text)?;
        Some(Place { list, sort, from })
    }
}

impl Rule for Cursor {
    type Output = Place;

    fn check(&self, value: &Value<'_>) -> std::result::Result<Place, Fault> {
        let place = value.text().and_then(|text| self.place(text));
        place.ok_or_else(|| Fault::value(FOREIGN))
    }

    fn describe(&self) -> serde_json::Value {
        serde_json::json!({ "type": "string", "description": "The `next_cursor` of the page before." })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: Cursor = Cursor { list: "users" };
    const ALL: List = List { name: "users", kept: 0 };

    fn page(limit: i64) -> Page {
        Page::first("users", limit, Sort::Ascending)
    }

    fn ids(count: u128) -> Vec<Uuid> {
        (1..=count).map(Uuid::from_u128).collect()
    }

    #[test]
    fn a_cursor_comes_back_as_its_place() {
        let id = Uuid::now_v7();
        for sort in Sort::ALL {
            for kept in [0, 7, u32::MAX] {
                let list = List { kept, ..ALL };
                let place = Place { list, sort, from: id };
                assert_eq!(USERS.place(&list.cursor(sort, id)), Some(place));
            }
        }
    }

    #[test]
    fn a_damaged_or_foreign_cursor_is_refused() {
        let id = Uuid::now_v7();
        let good = ALL.cursor(Sort::Ascending, id);
        let of_others = List { kept: 1, ..ALL }.cursor(Sort::Ascending, id);
        let bad = [
            String::new(),
            "0".to_owned(),
            id.to_string(),
            good[1..].to_owned(),
            good[2..].to_owned(),
            good[..49].to_owned(),
            format!("{good}0"),
            format!(" {good}"),
            good.to_uppercase(),
            good.replacen('1', "2", 1),
            good.replacen('a', "d", 1),
            format!("{}{}", &good[..18], Uuid::now_v7().simple()),
            format!("{}{}", &good[..10], &of_others[10..]),
            format!("{}+{}", &good[..10], &good[11..]),
            List { name: "items", ..ALL }.cursor(Sort::Ascending, id),
            "ähnlich wie ein Cursor, aber keiner".to_owned(),
        ];
        for text in bad {
            assert_eq!(USERS.place(&text), None, "{text:?}");
        }
    }

    #[test]
    fn a_page_goes_on_among_the_rows_that_its_cursor_is_of() {
        let kept: [&[Option<&str>]; 6] =
            [&[None], &[Some("")], &[Some("a")], &[None, None], &[Some("a"), None], &[Some("ab")]];
        for one in kept {
            let (_, response) = page(2).of(one).unwrap().cut::<Uuid, Uuid>(ids(3), |id| *id);
            let Place { list, sort, from } = USERS.place(&response.next_cursor.unwrap()).unwrap();
            for other in kept {
                let next = Page { list, limit: 2, sort, from };
                assert_eq!(next.of(other).is_ok(), one == other, "{one:?}, {other:?}");
            }
        }
    }

    #[test]
    fn the_next_page_is_asked_for_as_this_one_but_for_its_cursor() {
        for (query, next) in [
            ("", "/users?cursor=c"),
            ("cursor=b", "/users?cursor=c"),
            ("limit=2&cursor=b&sort=-id", "/users?limit=2&sort=-id&cursor=c"),
            ("&name=a%20b&&cursor", "/users?name=a%20b&cursor=c"),
            ("name=ä\u{7f}\"", "/users?name=%C3%A4%7F%22&cursor=c"),
        ] {
            assert_eq!(target("/users", query, "c"), next);
        }
    }

    #[test]
    fn a_full_page_with_a_row_behind_it_has_a_next() {
        let (rows, response): (Vec<Uuid>, _) = page(2).cut(ids(3), |id| *id);
        assert_eq!(rows, ids(2));
        let cursor = response.next_cursor.unwrap();
        let place = Place { list: ALL, sort: Sort::Ascending, from: Uuid::from_u128(2) };
        assert_eq!(USERS.place(&cursor), Some(place), "behind the last row shown");
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
