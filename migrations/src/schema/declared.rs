//! The schema as the code declares it: tables beside the rows that are read from them.
//!
//! The application's resources declare it with [`table!`](crate::table!), `materialise` lets a real
//! server tell what it means; it calls `sql` to cut text.
//! It promises that a row struct, the way to read it and the table's columns are written once.
//! It does not know what SQL means: a column's text goes to PostgreSQL as it is.

use tokio_postgres::types::Type;

use crate::files::sql::{self, Unclosed};

/// Declares a table, and the struct of its rows with `from_row`.
///
/// One line is a field, its Rust type, and the column's definition in SQL. The field's name is the
/// column's name:
///
/// ```
/// migrations::table! {
///     /// What somebody has ordered.
///     pub struct Order: "order" {
///         id: i64 = "bigint primary key",
///         user_id: i64 = r#"bigint not null references "user" on delete cascade"#,
///         note: Option<String> = "varchar(200)",
///     }
///     unread seal: Vec<u8> = "bytea not null";
///     also r#"create index order_user_id_id_idx on "order" (user_id, id)"#;
///     also r#"comment on column "order".note is 'shown to the packer'"#;
///     renamed "order.remark" to "note";
/// }
///
/// assert_eq!(Order::TABLE.create().lines().next(), Some(r#"create table "order" ("#));
/// ```
///
/// The names of the table and of the columns are names, quoted where SQL is made of them
/// (`"order"`; in another schema `"shop.order"`). Everything else is SQL and goes to PostgreSQL as
/// it is, so there a reserved word is written with its quotes.
///
/// | part | meaning |
/// |---|---|
/// | `struct` | the columns that a row is read into |
/// | `from` | the type of that row, whose method `get` reads a column by its name; without this one of tokio-postgres |
/// | `unread` | a column that is no part of the struct: a secret that few queries ask for |
/// | `also` | any statement, in any order: what needs something later waits for it |
/// | `renamed` | what was called otherwise is not dropped and added anew: a column, or the table (`renamed "orders" to "order"`); may stay for ever |
///
/// `Order::from_row` reads a row whose columns have the fields' names, in any order and among
/// others. It **panics** on another one, as `Row::get` does. `peace-migrate check` compares the
/// fields with the columns: their types, and `Option` with `not null`.
#[macro_export]
macro_rules! table {
    (
        $(#[$meta:meta])*
        $visibility:vis struct $model:ident: $table:literal $(from $row:ty)? {
            $($field:ident: $type:ty = $sql:literal),+ $(,)?
        }
        $(unread $unread:ident: $unread_type:ty = $unread_sql:literal;)*
        $(also $also:literal;)*
        $(renamed $old:literal to $new:literal;)*
    ) => {
        $(#[$meta])*
        $visibility struct $model {
            $($visibility $field: $type,)+
        }

        impl $model {
            /// The table as declared.
            $visibility const TABLE: $crate::Table = $crate::Table {
                name: $table,
                model: stringify!($model),
                columns: &[
                    $($crate::table!(@column $field: $type = $sql),)+
                    $($crate::table!(@column $unread: $unread_type = $unread_sql),)*
                ],
                also: &[$($also),*],
                renames: &[$(($old, $new)),*],
            };

            /// Reads the columns that have the fields' names.
            $visibility fn from_row(row: &$crate::table!(@row $($row)?)) -> Self {
                Self { $($field: row.get($crate::unraw(stringify!($field))),)+ }
            }
        }
    };
    (@row) => { $crate::Row };
    (@row $row:ty) => { $row };
    (@column $field:ident: $type:ty = $sql:literal) => {
        $crate::Column {
            field: stringify!($field),
            rust_type: stringify!($type),
            sql: $sql,
            accepts: <$type as $crate::FromSql<'static>>::accepts,
            is_nullable: || {
                <$type as $crate::FromSql<'static>>::from_sql_null(&$crate::Type::UNKNOWN).is_ok()
            },
        }
    };
}

/// A table as the code declares it; made by [`table!`](crate::table!).
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// Not quoted; `schema.table` where it is not in the home schema.
    pub name: &'static str,
    /// The struct of its rows.
    pub model: &'static str,
    /// Every column, in order.
    pub columns: &'static [Column],
    /// Statements beside `create table`.
    pub also: &'static [&'static str],
    /// `(item.name, title)` or `(item, thing)`: what something was called, and is now.
    pub renames: &'static [(&'static str, &'static str)],
}

/// A column and the Rust type that its values are read as.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// As in the struct; `r#type` is the column `type`.
    pub field: &'static str,
    /// In words, for messages.
    pub rust_type: &'static str,
    /// The definition in SQL, without the name.
    pub sql: &'static str,
    /// Whether values of this PostgreSQL type can be read.
    pub accepts: fn(&Type) -> bool,
    /// Whether null can be read.
    pub is_nullable: fn() -> bool,
}

impl Column {
    /// The column's name, not quoted.
    pub fn name(&self) -> &'static str {
        unraw(self.field)
    }
}

/// `r#type` -> `type`.
#[doc(hidden)]
pub fn unraw(field: &'static str) -> &'static str {
    field.strip_prefix("r#").unwrap_or(field)
}

impl Table {
    /// `create table`, and what stands beside it.
    pub fn statements(&self) -> impl Iterator<Item = String> {
        let also = self.also.iter().map(|sql| (*sql).to_owned());
        std::iter::once(self.create()).chain(also)
    }

    /// `create table`.
    pub fn create(&self) -> String {
        let column = |column: &Column| format!("    {} {}", quoted(column.name()), column.sql);
        let columns: Vec<String> = self.columns.iter().map(column).collect();
        format!("create table {} (\n{}\n)", self.quoted_name(), columns.join(",\n"))
    }

    /// The name for SQL.
    pub(crate) fn quoted_name(&self) -> String {
        let parts: Vec<String> = self.name.split('.').map(quoted).collect();
        parts.join(".")
    }
}

/// A name for SQL. The names of this process are quoted here, where no server is at hand.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Everything that is declared: the statements that make the schema out of nothing, in any order.
#[derive(Debug, Clone, Default)]
pub struct Declared {
    /// One statement each.
    pub(crate) statements: Vec<String>,
    /// The tables whose fields are compared with the columns; none when the schema came from a file.
    pub(crate) tables: Vec<Table>,
    /// What was called otherwise before.
    pub(crate) renames: Vec<(String, String)>,
}

impl Declared {
    /// What the application declares.
    pub fn tables(tables: &[Table]) -> Self {
        let rename = |(old, new): &(&str, &str)| ((*old).to_owned(), (*new).to_owned());
        Self {
            statements: tables.iter().flat_map(Table::statements).collect(),
            tables: tables.to_vec(),
            renames: tables.iter().flat_map(|table| table.renames).map(rename).collect(),
        }
    }

    /// A schema written as SQL.
    ///
    /// **Errors**: a string, name or comment in it is not closed; the line and what.
    pub fn sql(text: &str) -> Result<Self, (usize, &'static str)> {
        let statements = sql::statements(text)
            .map_err(|Unclosed { what, at }| (sql::line_of(text, at), what))?;
        let whole = statements.iter().filter_map(|words| {
            let (first, last) = (words.first()?, words.last()?);
            Some(text[first.at..last.at + last.text.len()].to_owned())
        });
        Ok(Self { statements: whole.collect(), ..Self::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    table! {
        /// A row.
        struct Thing: "thing" {
            id: i64 = "bigint primary key",
            r#type: Option<String> = "text",
        }
        unread seal: Vec<u8> = "bytea not null";
        also "create index on thing (type)";
        renamed "thing.kind" to "type";
    }

    #[test]
    fn a_table_is_declared_once() {
        let statements: Vec<String> = Thing::TABLE.statements().collect();
        let create = "create table \"thing\" (\n    \"id\" bigint primary key,\n    \
             \"type\" text,\n    \"seal\" bytea not null\n)";
        assert_eq!(statements, [create, "create index on thing (type)"]);
        let read: Vec<(&str, bool, bool)> = Thing::TABLE
            .columns
            .iter()
            .map(|column| (column.name(), (column.accepts)(&Type::TEXT), (column.is_nullable)()))
            .collect();
        assert_eq!(read, [("id", false, false), ("type", true, true), ("seal", false, false)]);
        let declared = Declared::tables(&[Thing::TABLE]);
        assert_eq!(declared.renames, [("thing.kind".to_owned(), "type".to_owned())]);
        let _ = |row: &crate::Row| {
            let Thing { id, r#type } = Thing::from_row(row);
            (id, r#type)
        };
    }

    #[test]
    fn names_are_quoted_and_may_be_qualified() {
        let named = |name| Table { name, ..Thing::TABLE }.quoted_name();
        assert_eq!(named("user"), "\"user\"");
        assert_eq!(named("shop.order"), "\"shop\".\"order\"");
        assert_eq!(named("5\" nails"), "\"5\"\" nails\"");
    }

    #[test]
    fn a_file_is_cut_into_its_statements() {
        let declared = Declared::sql("-- a\ncreate table a (b int);\n\n select ';' ;").unwrap();
        assert_eq!(declared.statements, ["create table a (b int)", "select ';'"]);
        assert_eq!(Declared::sql("\nselect 'a").unwrap_err(), (2, "string"));
    }
}
