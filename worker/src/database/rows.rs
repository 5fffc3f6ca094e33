//! Rows, as the pool's driver or the lane got them, and how a model reads them.
//!
//! Every statement of `Database` and of a transaction gives [`Rows`] or a [`Row`].
//! Promises: a row is decoded where it is read and nowhere before: what the lane received stays as it
//! came until then. Does not know: which statement it was, or what the columns mean.
//!
//! Source: PostgreSQL, "Message Formats, DataRow".

use std::{borrow::Cow, cell::Cell, rc::Rc};

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
    pub(super) name: Box<str>,
    pub(super) kind: Type,
}

/// What a column is asked for by.
#[derive(Clone, Copy, Debug)]
pub enum By<'n> {
    /// Its place, from 0.
    Place(usize),
    /// Its name.
    Name(&'n str),
}

impl From<usize> for By<'_> {
    fn from(place: usize) -> Self {
        Self::Place(place)
    }
}

impl<'n> From<&'n str> for By<'n> {
    fn from(name: &'n str) -> Self {
        Self::Name(name)
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
    /// `T`: a mistake in the program, which its tests and `peace-migrate check` find.
    pub fn get<'r, T: FromSql<'r>>(&'r self, column: impl Into<By<'r>>) -> T {
        let by = column.into();
        match &self.0 {
            Source::Driver(row) => of_driver(row, by),
            Source::DriverOf(row) => of_driver(row, by),
            Source::Wire { columns, data, next } => {
                let place = find(columns, data, next.get(), by);
                let kind = &columns[place.column].kind;
                let (value, behind) = value(data, place.at);
                next.set(Place { column: place.column + 1, at: behind });
                assert!(T::accepts(kind), "column {by:?} is of type {kind}");
                let value = T::from_sql_nullable(kind, value);
                value.unwrap_or_else(|error| panic!("column {by:?} cannot be read: {error}"))
            }
        }
    }
}

fn of_driver<'r, T: FromSql<'r>>(row: &'r tokio_postgres::Row, by: By<'_>) -> T {
    match by {
        By::Place(place) => row.get(place),
        By::Name(name) => row.get(name),
    }
}

/// Where the column is; looks at `next` first.
fn find(columns: &[Column], data: &[u8], next: Place, by: By<'_>) -> Place {
    let column = match by {
        By::Place(place) => (place < columns.len()).then_some(place),
        By::Name(name) => {
            let is = |column: &Column| *column.name == *name;
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

/// The value whose length stands at `at`, and where the next length stands. Null has the length -1.
fn value(data: &[u8], at: usize) -> (Option<&[u8]>, usize) {
    let begin = at + 4;
    let length = data.get(at..begin).and_then(|bytes| bytes.try_into().ok());
    let length = usize::try_from(length.map_or(-1, i32::from_be_bytes));
    match length.ok().and_then(|length| data.get(begin..begin + length)) {
        Some(value) => (Some(value), begin + value.len()),
        None => (None, begin),
    }
}
