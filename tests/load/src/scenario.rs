//! A scenario: which requests clients send, and how often each of them.
//!
//! A scenario is a TOML file; the built-in ones are such files too (`scenarios/`), so that whoever
//! reads one can write one. Read by the command line, carried as JSON to the generators. It knows
//! placeholders and no resource: what a name in braces stands for comes from [`Rows`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The whole file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    /// One sentence for the report.
    pub(crate) about: String,
    /// A connection is closed after so many requests; without it, it is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) requests_per_connection: Option<u32>,
    /// Rows of the user's own, by the name that stands before the dot of a placeholder.
    #[serde(default)]
    pub(crate) rows: BTreeMap<String, Source>,
    #[serde(rename = "request")]
    pub(crate) requests: Vec<Request>,
}

/// One kind of request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    /// For the report.
    pub(crate) name: String,
    /// How often, against the others.
    #[serde(default = "one")]
    pub(crate) weight: u32,
    #[serde(default = "get")]
    pub(crate) method: String,
    /// With placeholders, as `/items/{item.pubid}`; braces around anything but such names are just braces.
    pub(crate) path: String,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    /// With placeholders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) body: Option<String>,
    /// The right answer's status; without it any from 200 to 299 is right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<u16>,
}

/// Where rows of the user's own come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, untagged)]
pub(crate) enum Source {
    /// What this statement gives, at the start of every server; columns by their names, read as text.
    Sql { sql: String },
    /// These.
    Given { columns: Vec<String>, rows: Vec<Vec<String>> },
}

/// What placeholders stand for: `{item.pubid}` is the column `pubid` of a random row of `item`; within
/// one request all placeholders of `item` are of the same row. Without a dot there is one name only:
/// `{unique}`, a text of at most 20 letters and digits that no other request of any run gets.
pub(crate) type Rows = BTreeMap<String, Table>;

/// Rows under one name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Table {
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

fn one() -> u32 {
    1
}

fn get() -> String {
    "GET".to_owned()
}
