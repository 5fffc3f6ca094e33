//! What a schema consists of, in PostgreSQL's own canonical words.
//!
//! `compare` reads two of them, `generate` writes the SQL between them; it calls `session`.
//! It promises that two databases whose schemas mean the same read the same, however they were
//! written (`int` and `integer`, spaces, order of creation): the server is the only one who spells.
//! It does not know how either came about. Not read, by choice: the order of columns, owners and
//! privileges, storage parameters of tables, statistics, tablespaces, the values of sequences; and
//! what hardly anybody makes: operators, casts, text search, publications, event triggers.
//! Source: PostgreSQL manual, "System Catalogs", and section 9.27 (catalog information functions).

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

use crate::database::session::Session;
use crate::error::Error;

const READ_SQL: &str = include_str!("catalog.sql");
const READING: &str = "reading the catalogue";
/// What the spelling of names and constants depends on; and a role's limit is for its own queries.
const SETTINGS_SQL: &str = "set local statement_timeout = '30s'; \
    set local quote_all_identifiers = off; set local timezone = 'UTC'; \
    set local datestyle = 'ISO, YMD'; set local intervalstyle = 'postgres'; \
    set local extra_float_digits = 1; set local bytea_output = 'hex'; \
    set local xmlbinary = 'base64'";

/// Every object of a schema.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Catalog {
    pub(crate) objects: BTreeMap<Key, Object>,
}

/// What an object is called; sorted, a table stands before its columns, and they before its
/// indexes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    /// The table, type, … in SQL: quoted, and qualified unless it is in the home schema.
    pub(crate) of: String,
    pub(crate) kind: Kind,
    /// The column, constraint, index, … of it, quoted; empty for itself.
    pub(crate) name: String,
}

/// Which name space an object's name is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Extension,
    Schema,
    Type,
    Sequence,
    Table,
    Column,
    Constraint,
    Index,
    View,
    Routine,
    Trigger,
    Policy,
    Rule,
    Comment,
}

/// One object's definition.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(crate) enum Object {
    Schema,
    Extension,
    Enum {
        labels: Vec<String>,
    },
    Sequence {
        options: String,
    },
    Table(Table),
    Column(Column),
    Constraint(Constraint),
    Index(Index),
    Comment {
        text: String,
    },
    /// What is compared as a text and written by hand: views, functions, triggers, domains, …
    Opaque {
        what: String,
        text: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Table {
    /// Whatever `create table` with columns alone would not give: partitions, row security,
    /// unlogged.
    pub(crate) special: Option<String>,
}

#[derive(Debug, Clone, Eq, Deserialize)]
pub(crate) struct Column {
    /// Among the table's columns; not compared.
    pub(crate) position: i16,
    #[serde(rename = "type")]
    pub(crate) data_type: String,
    pub(crate) not_null: bool,
    pub(crate) default: Option<String>,
    /// The expression of a generated column.
    pub(crate) generated: Option<String>,
    /// `always` or `by default`.
    pub(crate) identity: Option<String>,
    /// The serial column's own sequence.
    pub(crate) sequence: Option<String>,
    /// Options of the column's own sequence, unless they are the usual ones.
    pub(crate) options: Option<String>,
    /// Unless it is the type's own.
    pub(crate) collation: Option<String>,
    /// The enum that the type is, or is an array of.
    #[serde(rename = "enum")]
    pub(crate) enumeration: Option<String>,
}

#[derive(Debug, Clone, Eq, Deserialize)]
pub(crate) struct Constraint {
    /// `p` primary key, `u` unique, `f` foreign key, `c` check, `x` exclude.
    pub(crate) form: char,
    /// The definition, without a `NOT VALID` at its end.
    pub(crate) text: String,
    pub(crate) valid: bool,
    /// The table a foreign key points to.
    pub(crate) references: Option<String>,
    /// The index of that table which a foreign key needs; not compared.
    pub(crate) needs: Option<String>,
}

#[derive(Debug, Clone, Eq, Deserialize)]
pub(crate) struct Index {
    /// Its name for `drop index`; not compared, the key has it.
    pub(crate) qualified: String,
    pub(crate) unique: bool,
    pub(crate) valid: bool,
    /// From `USING` on.
    pub(crate) text: String,
}

impl PartialEq for Column {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl PartialEq for Constraint {
    fn eq(&self, other: &Self) -> bool {
        (&self.text, self.valid) == (&other.text, other.valid)
    }
}

impl PartialEq for Index {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Catalog {
    /// Reads what is there, without the migrations' own tables. One statement, one snapshot.
    pub(crate) async fn read(session: &Session) -> Result<Self, Error> {
        session.execute(READING, "begin read only").await?;
        let catalog = Self::read_within(session).await?;
        session.execute(READING, "commit").await?;
        Ok(catalog)
    }

    /// The same within a transaction that is open, and sees what was done in it. Its settings are
    /// the catalogue's from then on.
    pub(crate) async fn read_within(session: &Session) -> Result<Self, Error> {
        // The home schema alone: names in it are then written without it, whatever it is called.
        let settings = format!("{SETTINGS_SQL}; set local search_path = {}", session.schema);
        session.execute(READING, &settings).await?;
        let rows = session.query(READING, READ_SQL, &[]).await?;
        let mut objects = BTreeMap::new();
        for row in rows {
            let (of, name, text): (String, String, &str) = (row.get(0), row.get(1), row.get(2));
            let object = serde_json::from_str(text).map_err(|error| Error::Database {
                doing: READING.to_owned(),
                reason: format!("{of} {name}: {error}"),
                code: None,
            })?;
            let object = Object::normal(object);
            objects.insert(Key { of, kind: object.kind(), name }, object);
        }
        Ok(Self { objects })
    }

    /// One line per object: `label: definition`, in the order of the keys.
    pub(crate) fn lines(&self) -> impl Iterator<Item = String> {
        self.objects.iter().map(|(key, object)| match object.text() {
            text if text.is_empty() => one_line(&key.to_string()),
            text => one_line(&format!("{key}: {text}")),
        })
    }

    /// The objects of one kind that belong to `of`.
    pub(crate) fn part_of(&self, of: &str, kind: Kind) -> impl Iterator<Item = (&Key, &Object)> {
        self.objects.iter().filter(move |(key, _)| key.of == of && key.kind == kind)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { of, kind, name } = self;
        match kind {
            Kind::Extension => write!(f, "extension {of}"),
            Kind::Schema => write!(f, "schema {of}"),
            Kind::Type => write!(f, "type {of}"),
            Kind::Sequence => write!(f, "sequence {of}"),
            Kind::Table => write!(f, "table {of}"),
            Kind::Column => write!(f, "column {of}.{name}"),
            Kind::Constraint => write!(f, "constraint {name} on {of}"),
            Kind::Index => write!(f, "index {name} on {of}"),
            Kind::View => write!(f, "view {of}"),
            Kind::Routine => write!(f, "routine {of}"),
            Kind::Trigger => write!(f, "trigger {name} on {of}"),
            Kind::Policy => write!(f, "policy {name} on {of}"),
            Kind::Rule => write!(f, "rule {name} on {of}"),
            Kind::Comment => write!(f, "comment on {name}"),
        }
    }
}

impl Object {
    /// Takes out of PostgreSQL's texts what the keys and flags say already.
    fn normal(self) -> Self {
        match self {
            Self::Constraint(mut constraint) => {
                if let Some(text) = constraint.text.strip_suffix(" NOT VALID") {
                    constraint.text = text.to_owned();
                }
                Self::Constraint(constraint)
            }
            Self::Index(mut index) => {
                index.text = from_using(&index.text).to_owned();
                Self::Index(index)
            }
            other => other,
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Schema => Kind::Schema,
            Self::Extension => Kind::Extension,
            Self::Enum { .. } => Kind::Type,
            Self::Sequence { .. } => Kind::Sequence,
            Self::Table(_) => Kind::Table,
            Self::Column(_) => Kind::Column,
            Self::Constraint(_) => Kind::Constraint,
            Self::Index(_) => Kind::Index,
            Self::Comment { .. } => Kind::Comment,
            Self::Opaque { what, .. } => match what.as_str() {
                "view" | "materialized view" => Kind::View,
                "foreign table" => Kind::Table,
                "trigger" => Kind::Trigger,
                "policy" => Kind::Policy,
                "rule" => Kind::Rule,
                "function" | "procedure" | "aggregate" => Kind::Routine,
                _ => Kind::Type,
            },
        }
    }

    /// The definition in words; equal for equal objects, and only for them.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Schema | Self::Extension => String::new(),
            Self::Enum { labels } => {
                let quoted = labels.iter().map(|label| format!("'{}'", label.replace('\'', "''")));
                format!("enum ({})", quoted.collect::<Vec<_>>().join(", "))
            }
            Self::Sequence { options } => options.clone(),
            Self::Table(table) => table.special.clone().unwrap_or_default(),
            Self::Column(column) => column.text(),
            Self::Constraint(Constraint { text, valid, .. }) => {
                format!("{text}{}", if *valid { "" } else { " NOT VALID" })
            }
            Self::Index(index) => index.text(),
            Self::Comment { text } => text.clone(),
            Self::Opaque { what, text } => format!("{what} {text}"),
        }
    }
}

impl Column {
    /// The definition, as it stands in `create table` after the name.
    pub(crate) fn text(&self) -> String {
        let mut text = self.data_type.clone();
        if let Some(collation) = &self.collation {
            text.push_str(&format!(" collate {collation}"));
        }
        if self.not_null {
            text.push_str(" not null");
        }
        if let Some(default) = &self.default {
            text.push_str(&format!(" default {default}"));
        }
        if let Some(expression) = &self.generated {
            text.push_str(&format!(" generated always as ({expression}) stored"));
        }
        if let Some(identity) = &self.identity {
            text.push_str(&format!(" generated {identity} as identity"));
        }
        if let Some(options) = &self.options {
            text.push_str(&format!(" ({options})"));
        }
        text
    }
}

impl Index {
    fn text(&self) -> String {
        let unique = if self.unique { "unique " } else { "" };
        let invalid = if self.valid { "" } else { " INVALID" };
        format!("{unique}{}{invalid}", self.text)
    }
}

/// Newlines as `\n`, so that an object is a line.
pub(crate) fn one_line(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n")
}

/// `CREATE INDEX name ON table USING btree (…)` -> `USING btree (…)`. A quoted name may hold the
/// word.
fn from_using(create: &str) -> &str {
    let statements = crate::files::sql::statements(create).unwrap_or_default();
    let words = statements.iter().flatten();
    words.into_iter().find(|word| word.is("using")).map_or(create, |word| &create[word.at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_told_from_its_method_on() {
        let create = "CREATE INDEX \" USING x\" ON public.\"using\" USING btree (a) WHERE (b > 0)";
        assert_eq!(from_using(create), "USING btree (a) WHERE (b > 0)");
    }

    #[test]
    fn a_column_reads_as_it_is_declared() {
        let column: Object = serde_json::from_str(
            r#"{"kind": "column", "position": 1, "type": "integer", "not_null": true,
                "default": "0", "generated": null, "identity": null, "sequence": null,
                "options": null, "collation": null, "enum": null}"#,
        )
        .unwrap();
        assert_eq!(column.text(), "integer not null default 0");
    }
}
