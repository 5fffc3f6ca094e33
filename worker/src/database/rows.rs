//! Rows, as the pool's driver or the lane got them, and how a model reads them.
//!
//! Every statement of `Database` and of a transaction gives [`Rows`] or a [`Row`].
//! Promises: a row is decoded where it is read and nowhere before: what the lane received stays as it
//! came until then. Does not know: which statement it was, or what the columns mean.
//!
//! Source: PostgreSQL, "Message Formats, DataRow".

use std::{borrow::Cow, cell::Cell, ptr, rc::Rc};

use tokio_postgres::types::{FromSql, Type};

/// All rows that a statement gave.
#[derive(Debug)]
pub struct Rows(Kept);

#[derive(Debug)]
enum Kept {
    Driver(Vec<tokio_postgres::Row>),
    Wire { columns: Rc<[Column]>, count: usize, data: Vec<u8> },
}

/// One row. Its columns are read by name or by place.
#[derive(Debug)]
pub struct Row<'a>(Source<'a>);

#[derive(Debug)]
enum Source<'a> {
    Driver(tokio_postgres::Row),
    DriverOf(&'a tokio_postgres::Row),
    Wire {
        columns: Rc<[Column]>,
        /// The columns' values, each behind its length.
        data: Cow<'a, [u8]>,
        /// Where the column behind the one read last begins: most are read in their order.
        next: Cell<Place>,
    },
}

/// A column and where its length stands.
#[derive(Clone, Copy, Debug)]
struct Place {
    column: usize,
    at: usize,
}

/// Name and type of a column.
#[derive(Debug)]
pub(super) struct Column {
    name: Box<str>,
    kind: Type,
    /// The name in the program that was found to be this one.
    asked: Cell<&'static str>,
}

/// What a column is asked for by.
#[derive(Clone, Copy, Debug)]
pub enum By {
    /// Its place, from 0.
    Place(usize),
    /// Its name.
    Name(&'static str),
}

impl From<usize> for By {
    fn from(place: usize) -> Self {
        Self::Place(place)
    }
}

impl From<&'static str> for By {
    fn from(name: &'static str) -> Self {
        Self::Name(name)
    }
}

impl Column {
    pub(super) fn new(name: &str, kind: Type) -> Self {
        Self { name: name.into(), kind, asked: Cell::new("") }
    }

    /// Whether it is this column, seen without comparing texts; it stands at `place`.
    #[inline]
    fn is_known_by(&self, by: By, place: usize) -> bool {
        match by {
            By::Place(asked) => asked == place,
            By::Name(name) => ptr::eq(self.asked.get(), name),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether this is its name; the same text in the program is compared once.
    fn is(&self, name: &'static str) -> bool {
        if ptr::eq(self.asked.get(), name) {
            return true;
        }
        let is = *self.name == *name;
        if is {
            self.asked.set(name);
        }
        is
    }
}

/// Bytes of a DataRow message before its first column: tag, length, number of columns.
const HEAD_BYTES: usize = 1 + 4 + 2;

impl Rows {
    pub(super) fn of_driver(rows: Vec<tokio_postgres::Row>) -> Self {
        Self(Kept::Driver(rows))
    }

    /// `data` is DataRow messages, whole and one behind the other.
    pub(super) fn of_wire(columns: Rc<[Column]>, count: usize, data: Vec<u8>) -> Self {
        Self(Kept::Wire { columns, count, data })
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.0 {
            Kept::Driver(rows) => rows.len(),
            Kept::Wire { count, .. } => *count,
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows, in the statement's order.
    pub fn iter(&self) -> impl Iterator<Item = Row<'_>> {
        let (driver, columns, data) = match &self.0 {
            Kept::Driver(rows) => (rows.as_slice(), None, &[][..]),
            Kept::Wire { columns, data, .. } => (&[][..], Some(columns), data.as_slice()),
        };
        let driver = driver.iter().map(|row| Row(Source::DriverOf(row)));
        let wire = columns.into_iter().flat_map(move |columns| {
            messages(data).map(|row| Row::wire(Rc::clone(columns), Cow::Borrowed(row)))
        });
        driver.chain(wire)
    }

    /// Each row as `read` reads it.
    pub fn read<T>(&self, read: impl Fn(&Row<'_>) -> T) -> Vec<T> {
        let mut all = Vec::with_capacity(self.len());
        all.extend(self.iter().map(|row| read(&row)));
        all
    }

    /// The first of them.
    #[must_use]
    pub fn first(&self) -> Option<Row<'_>> {
        self.iter().next()
    }

    /// The last of them, which is the only one where there is one.
    pub(super) fn into_last(self) -> Option<Row<'static>> {
        match self.0 {
            Kept::Driver(mut rows) => Some(Row(Source::Driver(rows.pop()?))),
            Kept::Wire { columns, count: 1, data } => Some(Row::wire(columns, Cow::Owned(data))),
            Kept::Wire { columns, data, .. } => {
                let last = messages(&data).last()?.to_vec();
                Some(Row::wire(columns, Cow::Owned(last)))
            }
        }
    }
}

/// Takes the messages apart.
fn messages(mut data: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let length = data.get(1..5)?.try_into().map(u32::from_be_bytes).ok()?;
        let (message, rest) = data.split_at_checked(length as usize + 1)?;
        data = rest;
        Some(message)
    })
}

impl<'a> Row<'a> {
    fn wire(columns: Rc<[Column]>, data: Cow<'a, [u8]>) -> Self {
        let next = Cell::new(Place { column: 0, at: HEAD_BYTES });
        Self(Source::Wire { columns, data, next })
    }

    /// The value of one column.
    ///
    /// # Panics
    /// When there is no such column, it is null and `T` is no `Option`, or of a type that is none of
    /// `T`: a mistake in the program, which its tests and `peace-migrate check` find. When the server
    /// has sent what is no row.
    pub fn get<'r, T: FromSql<'r>>(&'r self, column: impl Into<By>) -> T {
        let by = column.into();
        match &self.0 {
            Source::Driver(row) => of_driver(row, by),
            Source::DriverOf(row) => of_driver(row, by),
            Source::Wire { columns, data, next } => {
                let at_hand = next.get();
                let place = match columns.get(at_hand.column) {
                    Some(column) if column.is_known_by(by, at_hand.column) => at_hand,
                    _ => find(columns, data, at_hand, by),
                };
                let kind = &columns[place.column].kind;
                let (value, behind) = value(data, place.at);
                next.set(Place { column: place.column + 1, at: behind });
                if !T::accepts(kind) {
                    unreadable(by, &format!("is of type {kind}"));
                }
                let value = T::from_sql_nullable(kind, value);
                value.unwrap_or_else(|error| unreadable(by, &format!("cannot be read: {error}")))
            }
        }
    }
}

#[cold]
fn unreadable(column: By, why: &str) -> ! {
    panic!("column {column:?} {why}")
}

fn of_driver<'r, T: FromSql<'r>>(row: &'r tokio_postgres::Row, by: By) -> T {
    match by {
        By::Place(place) => row.get(place),
        By::Name(name) => row.get(name),
    }
}

/// Where the column is; looks at `next` first.
#[inline(never)]
fn find(columns: &[Column], data: &[u8], next: Place, by: By) -> Place {
    let column = match by {
        By::Place(place) => (place < columns.len()).then_some(place),
        By::Name(name) => {
            let is = |column: &Column| column.is(name);
            let at_hand = columns.get(next.column).is_some_and(is).then_some(next.column);
            at_hand.or_else(|| columns.iter().position(is))
        }
    };
    let column = column.unwrap_or_else(|| panic!("there is no column {by:?}"));
    let mut place = match column >= next.column {
        true => next,
        false => Place { column: 0, at: HEAD_BYTES },
    };
    while place.column < column {
        place = Place { column: place.column + 1, at: value(data, place.at).1 };
    }
    place
}

/// The value whose length stands at `at`, and where the next length stands. Null has the length -1; no
/// other value is taken for it.
fn value(data: &[u8], at: usize) -> (Option<&[u8]>, usize) {
    let begin = at + 4;
    let length = data.get(at..begin).and_then(|bytes| bytes.try_into().ok());
    let length = length.map(i32::from_be_bytes);
    if length == Some(-1) {
        return (None, begin);
    }
    let length = length.and_then(|length| usize::try_from(length).ok());
    match length.and_then(|length| data.get(begin..begin.checked_add(length)?)) {
        Some(value) => (Some(value), begin + value.len()),
        None => panic!("the server sent a row that is cut off or malformed"),
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    /// Rows of `id int4, name text, note text`.
    fn rows(values: &[(i32, Option<&str>, Option<&str>)]) -> Rows {
        let columns = [("id", Type::INT4), ("name", Type::TEXT), ("note", Type::TEXT)];
        let columns = columns.map(|(name, kind)| Column::new(name, kind));
        let mut data = Vec::new();
        for (id, name, note) in values {
            let mut body = 3_i16.to_be_bytes().to_vec();
            body.extend(4_i32.to_be_bytes());
            body.extend(id.to_be_bytes());
            for text in [name, note] {
                let length = text.map_or(-1, |text| i32::try_from(text.len()).unwrap());
                body.extend(length.to_be_bytes());
                body.extend(text.unwrap_or_default().as_bytes());
            }
            data.push(b'D');
            data.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
            data.extend(body);
        }
        Rows::of_wire(columns.into(), values.len(), data)
    }

    #[test]
    fn columns_are_found_by_name_and_place_in_any_order() {
        let rows = rows(&[(1, Some("a"), None), (2, None, Some("b"))]);
        assert_eq!((rows.len(), rows.is_empty()), (2, false));
        let row = rows.first().unwrap();
        assert_eq!(row.get::<Option<&str>>("note"), None);
        assert_eq!((row.get::<i32>("id"), row.get::<&str>(1)), (1, "a"));
        assert_eq!((row.get::<&str>("name"), row.get::<i32>(0)), ("a", 1));
        let all = rows.read(|row| (row.get("id"), row.get("name"), row.get("note")));
        assert_eq!(all, [(1, Some("a".to_owned()), None), (2, None, Some("b".to_owned()))]);
        assert_eq!(rows.into_last().unwrap().get::<i32>("id"), 2);
    }

    #[test]
    fn a_row_alone_and_no_row_at_all() {
        assert_eq!(rows(&[(7, None, None)]).into_last().unwrap().get::<i32>("id"), 7);
        assert!(rows(&[]).into_last().is_none());
        assert!(rows(&[]).first().is_none());
        assert!(rows(&[]).is_empty());
    }

    #[test]
    fn names_that_are_alike_are_not_mixed_up() {
        let rows = rows(&[(1, Some("a"), Some("b")), (2, Some("c"), Some("d"))]);
        let swapped = rows.read(|row| (row.get::<String>("note"), row.get::<String>("name")));
        assert_eq!(swapped[1], ("d".to_owned(), "c".to_owned()));
        let straight = rows.read(|row| (row.get::<String>("name"), row.get::<String>("note")));
        assert_eq!(straight[0], ("a".to_owned(), "b".to_owned()));
    }

    #[test]
    fn a_mistake_in_the_program_is_told_by_its_column() {
        let said = |read: fn(&Row<'_>)| {
            let caught = catch_unwind(|| read(&rows(&[(1, None, None)]).first().unwrap()));
            *caught.unwrap_err().downcast::<String>().unwrap()
        };
        assert!(
            said(|row| _ = row.get::<i32>("nope")).contains("there is no column Name(\"nope\")")
        );
        assert!(said(|row| _ = row.get::<i32>(3)).contains("there is no column Place(3)"));
        assert!(said(|row| _ = row.get::<i32>("name")).contains("is of type text"));
        assert!(said(|row| _ = row.get::<String>("name")).contains("cannot be read"));
    }

    #[test]
    fn a_row_that_is_cut_off_or_malformed_is_not_null() {
        for (length, bytes) in [(100, &b"abc"[..]), (-2, b""), (i32::MAX, b"abc")] {
            let columns = [Column::new("name", Type::TEXT)];
            let body = [&1_i16.to_be_bytes()[..], &length.to_be_bytes(), bytes].concat();
            let head = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
            let rows = Rows::of_wire(columns.into(), 1, [b"D", &head[..], &body].concat());
            let read = catch_unwind(AssertUnwindSafe(|| {
                rows.first().unwrap().get::<Option<String>>("name")
            }));
            assert!(read.is_err(), "{length}: {read:?}");
        }
    }
}
