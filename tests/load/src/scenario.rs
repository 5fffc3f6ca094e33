//! A scenario: which requests clients send, and how often each of them.
//!
//! A scenario is a TOML file; the built-in ones are such files too (`scenarios/`), so that whoever
//! reads one can write one. Read by the command line, carried as JSON to the generators. It knows
//! placeholders and no resource: what a name in braces stands for comes from [`Rows`].
//!
//! Values are put in as they are, nothing is escaped: what stands in a path has to be fit for a path,
//! what stands in a body for its media type.

mod check;
mod template;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::ops::RangeInclusive;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub(crate) use template::{Part, Template};

/// Scenarios that need no file: their names and texts.
pub(crate) const BUILTIN: &[(&str, &str)] = &[
    ("reads", include_str!("../scenarios/reads.toml")),
    ("writes", include_str!("../scenarios/writes.toml")),
    ("mixed", include_str!("../scenarios/mixed.toml")),
    ("logins", include_str!("../scenarios/logins.toml")),
    ("short-connections", include_str!("../scenarios/short-connections.toml")),
    ("item", include_str!("../scenarios/item.toml")),
    ("list-100", include_str!("../scenarios/list-100.toml")),
    ("health", include_str!("../scenarios/health.toml")),
];

const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Connections of all clients together.
pub(crate) const CONNECTIONS: RangeInclusive<i64> = 1..=20_000;
/// Enough to keep many workers busy.
const CONNECTIONS_DEFAULT: u32 = 64;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    /// One sentence for the report.
    pub(crate) about: String,
    /// Connections of all clients together, where the command line does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) connections: Option<u32>,
    /// SQL that puts rows into tables of the user's own, once, when the database has its users and
    /// items. What hangs on those was removed before; other tables it has to empty itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) setup: Option<String>,
    /// SQL that removes what a load has added there, so that the next server finds the same rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cleanup: Option<String>,
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
    /// Their values with placeholders.
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
#[serde(untagged, try_from = "Written")]
pub(crate) enum Source {
    /// What this statement gives, at the start of every server; columns by their names, read as text.
    Sql { sql: String },
    /// These.
    Given { columns: Vec<String>, rows: Vec<Vec<String>> },
}

/// A [`Source`] as it stands in the file: what is missing or too much is then told in words.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    sql: Option<String>,
    columns: Option<Vec<String>>,
    rows: Option<Vec<Vec<String>>>,
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

impl Scenario {
    /// The scenario of a built-in name or of a file: its name, its text, and what it says.
    ///
    /// # Errors
    /// When there is neither, or the file says what cannot be done; a line that says where.
    pub(crate) fn load(name_or_path: &str) -> Result<(String, String, Self), String> {
        if let Some((name, text)) = BUILTIN.iter().find(|(name, _)| *name == name_or_path) {
            return Ok(((*name).to_owned(), (*text).to_owned(), Self::parse(text)?));
        }
        let is_path = name_or_path.contains('/') || name_or_path.ends_with(".toml");
        if !is_path {
            let names: Vec<&str> = BUILTIN.iter().map(|(name, _)| *name).collect();
            let names = names.join(", ");
            return Err(format!(
                "no scenario `{name_or_path}`: there are {names}, and any file whose name ends \
                 with `.toml`"
            ));
        }
        let path = Path::new(name_or_path);
        let text = read(path).map_err(|error| format!("scenario {name_or_path}: {error}"))?;
        let scenario = Self::parse(&text).map_err(|error| format!("{name_or_path}: {error}"))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok((name, text, scenario))
    }

    /// What a file says, its sense checked as far as that goes without rows.
    ///
    /// # Errors
    /// One line: which request, what is wrong, how to mend it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let scenario: Self = toml::from_str(text).map_err(|error| located(text, &error))?;
        if scenario.requests.is_empty() {
            return Err("no request: add one that begins with `[[request]]`".to_owned());
        }
        if scenario.requests_per_connection == Some(0) {
            return Err("`requests_per_connection` is 0: leave it out to keep connections".into());
        }
        if scenario.connections.is_some_and(|count| !CONNECTIONS.contains(&i64::from(count))) {
            return Err("`connections` has to be one from 1 to 20000".to_owned());
        }
        for request in &scenario.requests {
            request.check().map_err(|error| request.complaint(&error))?;
        }
        for (name, source) in &scenario.rows {
            source.check().map_err(|error| format!("rows `{name}`: {error}"))?;
        }
        Ok(scenario)
    }

    /// How many connections, if so many are asked for.
    pub(crate) fn connections(&self, asked: Option<u32>) -> usize {
        asked.or(self.connections).unwrap_or(CONNECTIONS_DEFAULT) as usize
    }

    /// The rows that its requests need and that it does not bring itself: of them the caller has to
    /// know where they come from.
    pub(crate) fn names_used(&self) -> BTreeSet<String> {
        let templates = self.requests.iter().flat_map(|request| request.templates());
        let tables: BTreeSet<String> = templates
            .filter_map(Result::ok)
            .flat_map(|template| {
                template.columns().map(|(table, _)| table.to_owned()).collect::<Vec<_>>()
            })
            .collect();
        tables.into_iter().filter(|table| !self.rows.contains_key(table)).collect()
    }
}

impl TryFrom<Written> for Source {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written { sql: Some(sql), columns: None, rows: None } => Ok(Self::Sql { sql }),
            Written { sql: None, columns: Some(columns), rows: Some(rows) } => {
                Ok(Self::Given { columns, rows })
            }
            _ => Err("rows are either `sql`, or `columns` and `rows`".to_owned()),
        }
    }
}

fn read(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    let read = file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text);
    let bytes = read.map_err(|error| error.to_string())?;
    match bytes as u64 > FILE_BYTES_MAX {
        true => Err("longer than 1 MiB: rows of that number are better read with `sql`".to_owned()),
        false => Ok(text),
    }
}

/// The parser's complaint in one line, with the request that it is about.
fn located(text: &str, error: &toml::de::Error) -> String {
    let start = error.span().map_or(0, |span| span.start);
    let end = text.bytes().skip(start).position(|byte| byte == b'\n');
    let upto = text.get(..end.map_or(text.len(), |length| start + length)).unwrap_or_default();
    let line = upto.lines().count().max(1);
    let message = error.message().lines().collect::<Vec<_>>().join(", ");
    match upto.matches("[[request]]").count() {
        0 => format!("line {line}: {message}"),
        request => format!("line {line}, request {request}: {message}"),
    }
}

fn one() -> u32 {
    1
}

fn get() -> String {
    "GET".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const ABOUT: &str = "about = 'x'\n";

    pub(super) fn error_of(rest: &str) -> String {
        let error = Scenario::parse(&format!("{ABOUT}{rest}")).unwrap_err();
        assert!(!error.contains('\n'), "{error:?}");
        error
    }

    pub(super) fn table(columns: &[&str], rows: &[&[&str]]) -> Table {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Table { columns: owned(columns), rows: rows.iter().map(|row| owned(row)).collect() }
    }

    #[test]
    fn the_built_in_scenarios_are_right_and_need_only_known_rows() {
        let known = Rows::from([
            // Of list-100 itself.
            ("owner".to_owned(), table(&["id"], &[&["1"]])),
            ("user".to_owned(), table(&["pubid", "name", "password"], &[&["1", "2", "3"]])),
            ("item".to_owned(), table(&["pubid", "user"], &[&["1", "2"]])),
            ("writer".to_owned(), table(&["pubid", "token"], &[&["1", "2"]])),
            ("writer_item".to_owned(), table(&["pubid", "user", "token"], &[&["1", "2", "3"]])),
        ]);
        for (name, file) in BUILTIN {
            let (loaded, text, scenario) = Scenario::load(name).unwrap();
            assert_eq!((loaded.as_str(), scenario.check(&known)), (*name, Ok(())));
            assert_eq!(text, *file);
            assert!(scenario.about.ends_with('.') && scenario.about.len() > 20, "{name}");
        }
        let used = |name| Scenario::load(name).unwrap().2.names_used().into_iter().collect();
        let used: [Vec<String>; 3] = [used("health"), used("writes"), used("mixed")];
        let expected: [&[&str]; 3] =
            [&[], &["writer", "writer_item"], &["item", "user", "writer", "writer_item"]];
        assert_eq!(used, expected);
    }

    #[test]
    fn a_request_needs_a_name_and_a_path_only() {
        let text = format!("{ABOUT}[[request]]\nname = 'r'\npath = '/'");
        let request = &Scenario::parse(&text).unwrap().requests[0];
        assert_eq!((request.weight, request.method.as_str()), (1, "GET"));
        assert_eq!((request.status, request.body.as_ref()), (None, None));
    }

    #[test]
    fn a_bad_file_is_told_in_one_line_that_says_where_and_what() {
        assert!(error_of("").contains("request"));
        assert!(error_of("request = []").contains("[[request]]"));
        let error = error_of("requests_per_connection = 0\n[[request]]\nname='r'\npath='/'");
        assert!(error.contains("requests_per_connection"), "{error}");
        for count in [0, 20_001] {
            let text = format!("connections = {count}\n[[request]]\nname='r'\npath='/'");
            assert!(error_of(&text).contains("from 1 to 20000"), "{count}");
        }
        assert!(error_of("colour = 1").contains("line 2: unknown field `colour`"));
        assert!(error_of("[rows.x]\nsql = 'a'\nrows = []").contains("either `sql`"));
        let short = "[[request]]\nname='r'\npath='/'\n[rows.x]\ncolumns=['a','b']\nrows=[['1']]";
        assert_eq!(error_of(short), "rows `x`: row 1 has 1 values for 2 columns");
    }

    #[test]
    fn the_command_line_says_how_many_connections_and_then_the_file() {
        let connections = |name, asked| Scenario::load(name).unwrap().2.connections(asked);
        assert_eq!((connections("reads", None), connections("reads", Some(3))), (64, 3));
        assert_eq!((connections("logins", None), connections("logins", Some(3))), (16, 3));
    }

    #[test]
    fn rows_of_the_files_own_need_no_others() {
        let text = format!(
            "{ABOUT}[[request]]\nname = 'r'\npath = '/{{city.code}}/{{town.id}}'\n\
             [rows.city]\ncolumns = ['code']\nrows = [['b']]\n[rows.town]\nsql = 'select 1 as id'"
        );
        let scenario = Scenario::parse(&text).unwrap();
        assert!(scenario.names_used().is_empty());
        let json = serde_json::to_string(&scenario).unwrap();
        assert_eq!(serde_json::from_str::<Scenario>(&json).unwrap(), scenario);
    }

    #[test]
    fn a_scenario_is_found_by_name_or_by_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("own.toml");
        std::fs::write(&path, BUILTIN[0].1).unwrap();
        let (name, text, scenario) = Scenario::load(path.to_str().unwrap()).unwrap();
        assert_eq!((name.as_str(), text.as_str()), ("own", BUILTIN[0].1));
        assert_eq!(scenario, Scenario::load("reads").unwrap().2);
        assert!(Scenario::load("raeds").unwrap_err().contains("reads, writes"));
        assert!(Scenario::load("./none.toml").unwrap_err().contains("./none.toml"));
    }
}
