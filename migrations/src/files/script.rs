//! One `.sql` file: its header, and how its statements have to be sent.
//!
//! `chain` calls it for each file; it calls `sql` for the cutting.
//! It promises that whatever would break the runner's atomicity (transaction control, psql
//! commands, two statements outside a transaction) is refused before anything is connected.
//! It does not know the other files, nor the database.

use std::time::Duration;

use crate::files::chain::ChainError;
use crate::files::sql::{self, Statement, Unclosed};

/// A file waits this long for a table lock; whoever queues behind it waits as long.
pub(crate) const LOCK_TIMEOUT: Duration = Duration::from_secs(3);
/// For each statement within a transaction: it holds its locks until the end.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(60);
/// For a statement sent alone: an index build reads the whole table and blocks nobody.
const ALONE_STATEMENT_TIMEOUT: Duration = Duration::from_secs(3600);
/// The server counts in milliseconds, in 31 bits.
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);

/// A file's SQL and how to send it.
#[derive(Debug, Clone)]
pub struct Script {
    /// The file's name, for messages.
    pub file: String,
    /// The whole text, header included, so that error positions are the file's.
    pub sql: String,
    pub(crate) mode: Mode,
    /// Number of statements; each may take `statement_timeout`.
    pub(crate) statements: u32,
    /// 0 = wait without limit (bounded by `statement_timeout`).
    pub(crate) lock_timeout: Duration,
    pub(crate) statement_timeout: Duration,
}

/// `transaction: yes` or `none`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mode {
    /// One transaction, the bookkeeping in it.
    Transaction,
    /// One statement outside of a transaction, between two bookkeeping steps.
    Alone {
        /// What a killed `create index concurrently` leaves behind can be found by this.
        builds: Option<IndexBuild>,
    },
}

/// The index that a `create index concurrently` makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IndexBuild {
    /// Unquoted, as `pg_class` has it.
    pub(crate) name: String,
    /// As written, for `to_regclass`.
    pub(crate) table: String,
}

/// The `-- key: value` lines at the beginning of a file.
pub(crate) struct Header<'a> {
    file: &'a str,
    lines: Vec<(&'a str, &'a str)>,
}

/// Makes two checkouts of one file equal: no byte-order mark, no carriage return before a newline.
pub(crate) fn normalise(text: &str) -> String {
    text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n")
}

impl<'a> Header<'a> {
    /// Reads the header of `text`, which ends at the first blank line.
    ///
    /// A key that is not in `keys` is an error, so that a misspelt one cannot go unnoticed.
    pub(crate) fn parse(file: &'a str, text: &'a str, keys: &[&str]) -> Result<Self, ChainError> {
        let mut header = Self { file, lines: Vec::new() };
        for (index, line) in text.lines().take_while(|line| !line.trim().is_empty()).enumerate() {
            let fault = |what: String| fault(file, index + 1, what);
            let (key, value) = line
                .strip_prefix("-- ")
                .and_then(|pair| pair.split_once(':'))
                .map(|(key, value)| (key.trim(), value.trim()))
                .ok_or_else(|| {
                    fault("the header needs `-- key: value` lines and then a blank one".into())
                })?;
            if !keys.contains(&key) {
                return Err(fault(format!("unknown key `{key}`: use {}", keys.join(", "))));
            }
            if header.get(key).is_some() {
                return Err(fault(format!("`{key}` is given twice")));
            }
            if value.is_empty() {
                return Err(fault(format!("`{key}` has no value")));
            }
            header.lines.push((key, value));
        }
        Ok(header)
    }

    pub(crate) fn get(&self, key: &str) -> Option<&'a str> {
        self.lines.iter().find(|(name, _)| *name == key).map(|(_, value)| *value)
    }

    pub(crate) fn require(&self, key: &str) -> Result<&'a str, ChainError> {
        self.get(key).ok_or_else(|| self.fault(key, format!("the header lacks `-- {key}: …`")))
    }

    /// An error at the line of `key`.
    pub(crate) fn fault(&self, key: &str, what: String) -> ChainError {
        let index = self.lines.iter().position(|(name, _)| *name == key).unwrap_or(0);
        fault(self.file, index + 1, what)
    }

    fn timeout(&self, key: &str, default: Duration) -> Result<Duration, ChainError> {
        let Some(value) = self.get(key) else { return Ok(default) };
        parse_duration(value).filter(|timeout| *timeout <= TIMEOUT_MAX).ok_or_else(|| {
            self.fault(key, format!("`{value}` is no duration up to 24h: write 500ms, 3s, 10min"))
        })
    }
}

impl Script {
    /// Reads the statements of `text` (normalised) under its header.
    pub(crate) fn parse(header: &Header<'_>, text: String) -> Result<Self, ChainError> {
        let file = header.file;
        let at = |at: usize, what: String| fault(file, sql::line_of(&text, at), what);
        let statements = sql::statements(&text)
            .map_err(|Unclosed { what, at: open }| at(open, format!("unclosed {what}")))?;
        for statement in &statements {
            if let Some(what) = refusal(statement) {
                return Err(at(statement[0].at, what));
            }
            if let Some(word) = statement.iter().find(|word| word.text == "\\") {
                return Err(at(word.at, "a psql command: write plain SQL".to_owned()));
            }
        }
        let mode = match header.require("transaction")? {
            "yes" => in_transaction(&statements).map_err(|(open, what)| at(open, what))?,
            "none" => alone(&statements).map_err(|(open, what)| at(open, what))?,
            other => {
                return Err(header.fault("transaction", format!("`{other}`: write yes or none")));
            }
        };
        let (lock_timeout, statement_timeout) = default_timeouts(&mode, &statements);
        let statement_timeout = header.timeout("statement-timeout", statement_timeout)?;
        if statement_timeout.is_zero() {
            return Err(header.fault("statement-timeout", "0 is no limit: write one".to_owned()));
        }
        Ok(Self {
            file: file.to_owned(),
            lock_timeout: header.timeout("lock-timeout", lock_timeout)?,
            statement_timeout,
            statements: u32::try_from(statements.len()).unwrap_or(u32::MAX),
            mode,
            sql: text,
        })
    }
}

/// What stands in a new file until somebody writes it.
pub(crate) const FILL_IN: &str = "-- Write the statements here.\n";

impl Script {
    /// Refuses a file that was never filled in.
    pub(crate) fn refuse_blank(&self) -> Result<(), ChainError> {
        let what = || "there is no statement: write the statements, or remove the pair".to_owned();
        match self.statements {
            0 if self.sql.contains(FILL_IN) => {
                Err(fault(&self.file, self.sql.lines().count().max(1), what()))
            }
            _ => Ok(()),
        }
    }
}

/// A validation only reads, and others read and write meanwhile.
/// A concurrent build takes no lock that others wait behind, and a lock timeout would leave it
/// INVALID: it has none.
fn default_timeouts(mode: &Mode, statements: &[Statement<'_>]) -> (Duration, Duration) {
    match mode {
        Mode::Transaction if !statements.is_empty() && statements.iter().all(is_validation) => {
            (LOCK_TIMEOUT, ALONE_STATEMENT_TIMEOUT)
        }
        Mode::Transaction => (LOCK_TIMEOUT, STATEMENT_TIMEOUT),
        Mode::Alone { .. } if statements.iter().any(is_concurrent) => {
            (Duration::ZERO, ALONE_STATEMENT_TIMEOUT)
        }
        Mode::Alone { .. } => (LOCK_TIMEOUT, ALONE_STATEMENT_TIMEOUT),
    }
}

fn fault(file: &str, line: usize, what: String) -> ChainError {
    ChainError::File { file: file.to_owned(), line, what }
}

/// Why a statement can stand in no migration at all.
fn refusal(statement: &Statement<'_>) -> Option<String> {
    let first = statement[0].text.to_ascii_lowercase();
    let second = statement.get(1);
    let followed_by = |keyword| second.is_some_and(|word| word.is(keyword));
    match first.as_str() {
        "begin" | "commit" | "end" | "rollback" | "abort" | "savepoint" | "release" => {
            Some(format!("`{first}`: the runner opens and ends the transaction"))
        }
        "start" | "prepare" if followed_by("transaction") => {
            Some(format!("`{first} transaction`: the runner opens and ends the transaction"))
        }
        "copy" if statement.iter().any(|word| word.is("stdin") || word.is("stdout")) => {
            Some("`copy` from or to the client: write `insert`".to_owned())
        }
        _ => None,
    }
}

type Refused = (usize, String);

fn in_transaction(statements: &[Statement<'_>]) -> Result<Mode, Refused> {
    match statements.iter().find(|statement| is_concurrent(statement)) {
        Some(statement) => Err((
            statement[0].at,
            "`concurrently` cannot run in a transaction: write `-- transaction: none`".to_owned(),
        )),
        None => Ok(Mode::Transaction),
    }
}

fn alone(statements: &[Statement<'_>]) -> Result<Mode, Refused> {
    match statements {
        [statement] => Ok(Mode::Alone { builds: index_build(statement)? }),
        [_, second, ..] => Err((
            second[0].at,
            "`transaction: none` allows one statement a file: move this one to the next".to_owned(),
        )),
        [] => Err((0, "`transaction: none` needs one statement".to_owned())),
    }
}

/// `refresh materialized view concurrently` is the one that a transaction allows.
fn is_concurrent(statement: &Statement<'_>) -> bool {
    !statement[0].is("refresh") && statement.iter().any(|word| word.is("concurrently"))
}

/// `alter table … validate constraint a, validate constraint b`: nothing else.
fn is_validation(statement: &Statement<'_>) -> bool {
    statement[0].is("alter")
        && statement.split(|word| word.text == ",").all(|action| {
            matches!(action, [.., verb, kind, _] if verb.is("validate") && kind.is("constraint"))
        })
}

/// Finds name and table in `create [unique] index concurrently NAME on [only] TABLE`.
fn index_build(statement: &Statement<'_>) -> Result<Option<IndexBuild>, Refused> {
    let mut words = statement.iter().skip_while(|word| word.is("create") || word.is("unique"));
    let creates = statement[0].is("create") && words.next().is_some_and(|word| word.is("index"));
    if !creates || !words.next().is_some_and(|word| word.is("concurrently")) {
        return Ok(None);
    }
    let refused = |what: &str| (statement[0].at, what.to_owned());
    let name = words.next().filter(|name| !name.is("on")).ok_or_else(|| {
        refused("name the index, so that an interrupted build can be found again")
    })?;
    if name.is("if") {
        return Err(refused("`if not exists` takes an INVALID index for a finished one: drop it"));
    }
    let table: String = words
        .skip_while(|word| word.is("on") || word.is("only"))
        .take_while(|word| word.text != "(" && !word.is("using"))
        .map(|word| word.text)
        .collect();
    Ok(Some(IndexBuild { name: unquoted(name.text), table }))
}

/// The name as the catalogue has it.
pub(crate) fn unquoted(name: &str) -> String {
    match name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inner) => inner.replace("\"\"", "\""),
        None => name.to_ascii_lowercase(),
    }
}

fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    let unit_ms = match &text[digits..] {
        "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.checked_mul(unit_ms)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&str; 4] = ["revision", "transaction", "lock-timeout", "statement-timeout"];

    fn parse(text: &str) -> Result<Script, String> {
        let text = normalise(text);
        Header::parse("x.up.sql", &text, &KEYS)
            .and_then(|header| Script::parse(&header, text.clone()))
            .map_err(|error| error.to_string())
    }

    #[track_caller]
    fn refused(text: &str, expected: &str) {
        let error = parse(text).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    }

    #[test]
    fn a_header_is_read_and_everything_else_is_sql() {
        let script =
            parse("-- transaction: yes\n-- lock-timeout: 500ms\n\n-- a: b\nselect 1;").unwrap();
        assert_eq!(script.mode, Mode::Transaction);
        assert_eq!(script.lock_timeout, Duration::from_millis(500));
        assert_eq!(script.statement_timeout, STATEMENT_TIMEOUT);
        assert_eq!(script.statements, 1);
    }

    #[test]
    fn a_bad_header_is_refused_with_its_line() {
        refused("-- transaction: yes\nselect 1", "x.up.sql:2: the header needs");
        refused("--transaction: yes\n", "x.up.sql:1: the header needs");
        refused("-- transaction: yes\n-- tansaction: none\n", "x.up.sql:2: unknown key `tans");
        refused("-- revision: a\n-- revision: b\n", "x.up.sql:2: `revision` is given twice");
        refused("-- revision:\n", "x.up.sql:1: `revision` has no value");
        refused("-- revision: a\n\nselect 1", "x.up.sql:1: the header lacks `-- transaction");
        refused("-- revision: a\n-- transaction: no\n\n", "x.up.sql:2: `no`: write yes or none");
        let timeout = "-- transaction: yes\n-- lock-timeout: ";
        refused(&format!("{timeout}3\n"), "x.up.sql:2: `3` is no duration");
        refused(&format!("{timeout}25h\n"), "x.up.sql:2: `25h` is no duration");
        refused("-- transaction: yes\n-- statement-timeout: 0s\n", "x.up.sql:2: 0 is no limit");
        refused(&format!("{timeout}99999999999999999999s\n"), "x.up.sql:2: `999");
    }

    #[test]
    fn what_breaks_the_transaction_is_refused_with_its_line() {
        let yes = "-- transaction: yes\n\n";
        refused(&format!("{yes}select 1;\nBEGIN;"), "x.up.sql:4: `begin`");
        refused(&format!("{yes}start transaction"), "x.up.sql:3: `start transaction`");
        refused(&format!("{yes}prepare transaction 'a'"), "x.up.sql:3: `prepare tr");
        refused(&format!("{yes}\\i other.sql"), "x.up.sql:3: a psql command");
        refused(&format!("{yes}select 1\n\\gset"), "x.up.sql:4: a psql command");
        refused(&format!("{yes}copy item from stdin"), "x.up.sql:3: `copy`");
        refused(&format!("{yes}select 'a"), "x.up.sql:3: unclosed string");
        refused(&format!("{yes}create index concurrently a on b (c)"), "x.up.sql:3: `concur");
        parse(&format!("{yes}prepare a as select 1; refresh materialized view concurrently v"))
            .unwrap();
    }

    #[test]
    fn what_only_validates_may_take_longer() {
        let timeout =
            |sql: &str| parse(&format!("-- transaction: yes\n\n{sql}")).unwrap().statement_timeout;
        let validation =
            "alter table only s.t\n    validate constraint a,\n    VALIDATE constraint \"b\";";
        assert_eq!(timeout(validation), ALONE_STATEMENT_TIMEOUT);
        assert_eq!(timeout(&format!("{validation}\n{validation}")), ALONE_STATEMENT_TIMEOUT);
        for more in ["select 1", "alter table t validate constraint a, alter b set not null"] {
            assert_eq!(timeout(&format!("{validation}\n{more}")), STATEMENT_TIMEOUT);
        }
        assert_eq!(timeout(""), STATEMENT_TIMEOUT);
    }

    #[test]
    fn outside_a_transaction_stands_one_statement() {
        let none = "-- transaction: none\n\n";
        refused(none, "x.up.sql:1: `transaction: none` needs one");
        refused(&format!("{none}select 1;\nselect 2"), "x.up.sql:4: `transaction: none` allows");
        let unnamed = format!("{none}create index concurrently on b (c)");
        refused(&unnamed, "x.up.sql:3: name the index");
        let lenient = format!("{none}create index concurrently if not exists a on b (c)");
        refused(&lenient, "x.up.sql:3: `if not exists`");
        let vacuum = parse(&format!("{none}vacuum item")).unwrap();
        assert_eq!(vacuum.statement_timeout, ALONE_STATEMENT_TIMEOUT);
        assert_eq!(vacuum.mode, Mode::Alone { builds: None });
        assert_eq!(vacuum.lock_timeout, LOCK_TIMEOUT);
        let drop = parse(&format!("{none}drop index concurrently a")).unwrap();
        assert_eq!(drop.mode, Mode::Alone { builds: None });
        assert_eq!(drop.lock_timeout, Duration::ZERO);
    }

    #[test]
    fn a_concurrent_build_knows_its_index() {
        let cases = [
            ("create index concurrently A on item (b)", "a", "item"),
            (
                "CREATE UNIQUE INDEX CONCURRENTLY \"A\"\"b\" ON ONLY s.\"user\" USING btree (c)",
                "A\"b",
                "s.\"user\"",
            ),
        ];
        for (sql, name, table) in cases {
            let script = parse(&format!("-- transaction: none\n\n{sql}")).unwrap();
            let build = IndexBuild { name: name.into(), table: table.into() };
            assert_eq!(script.mode, Mode::Alone { builds: Some(build) }, "{sql}");
        }
    }

    #[test]
    fn line_ends_and_byte_order_marks_do_not_count() {
        assert_eq!(normalise("\u{feff}a\r\nb\rc\n"), "a\nb\rc\n");
    }
}
