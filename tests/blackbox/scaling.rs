//! The sums of deploy/SCALING.md, computed again, and what it says that other engines take of our SQL.
//!
//! Costs per request stand in README, connections come from the program's own formula. What was measured with two hosts
//! is no sum: tests/external/hosts measures it anew.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use peace::programs::Need;

const SCALING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/SCALING.md");
const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
/// Of a host in the tables of throughput.
const WORKERS: f64 = 2.0;
const BUSY: f64 = 0.7;

/// The cells of the rows below the table's head that begins so.
fn table(text: &str, head: &str) -> Vec<Vec<String>> {
    let rows = text.lines().skip_while(|line| !line.starts_with(head)).skip(2);
    let rows = rows.take_while(|line| line.starts_with('|'));
    let cells =
        |row: &str| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    let rows: Vec<Vec<String>> = rows.map(cells).collect();
    assert!(!rows.is_empty(), "no table that begins with {head}");
    rows
}

fn number(cell: &str) -> f64 {
    cell.replace(',', "").parse().unwrap_or_else(|_| panic!("not a number: {cell}"))
}

/// As exact as it was written.
#[track_caller]
fn check(written: &str, computed: f64) {
    let off = (number(written) / computed - 1.0).abs();
    assert!(off < 0.02, "{written} is written, {computed} computed");
}

#[test]
fn connections_are_what_the_program_asks_for() {
    let text = fs::read_to_string(SCALING).unwrap();
    for row in table(&text, "| hosts | workers | pool size |") {
        let [hosts, workers, pool_size, of_one, of_all] =
            [0, 1, 2, 3, 4].map(|cell| number(&row[cell]) as usize);
        let need = Need { workers, pool_size, transaction_pooler: false };
        assert_eq!((of_one, of_all), (need.connections(), hosts * need.connections()), "{row:?}");
    }
}

#[test]
fn throughput_is_computed_from_what_readme_measured() {
    let (text, readme) =
        (fs::read_to_string(SCALING).unwrap(), fs::read_to_string(README).unwrap());
    let costs = table(&text, "| request | µs of Peace's processor |");
    let measured = |cost: &str| {
        readme.contains(&format!("{cost}, ")) || readme.contains(&format!("; {cost} µs"))
    };
    for row in &costs {
        let known =
            row[1..].iter().all(|cost| measured(cost) || readme.contains(&format!("{cost};")));
        assert!(known, "README has no such measurement: {row:?}");
    }
    let cost = |row: usize, cell: usize| number(&costs[row][cell]) / 1e6;
    for row in table(&text, "| hosts | `GET /items/{pubid}` per s |") {
        let processors = number(&row[0]) * WORKERS * BUSY;
        for (kind, [per_s, asked]) in [(0, [&row[1], &row[2]]), (1, [&row[3], &row[4]])] {
            let computed = processors / cost(kind, 1);
            check(per_s, computed);
            check(asked, computed * cost(kind, 2) / BUSY);
        }
    }
}

/// Where statements are.
const SOURCES: [&str; 5] =
    ["src", "worker/src", "supervisor/src", "migrations/src", "migrations/versions"];
/// What engines differ on: who begins to use one of these adds its row, or says why none is needed.
const WATCHED: [&str; 15] = [
    "for update",
    "for no key update",
    "for share",
    "for key share",
    "skip locked",
    "on conflict",
    "lateral",
    "with recursive",
    "tablesample",
    "grouping sets",
    "lock table",
    "pg_notify",
    "pg_try_advisory_lock",
    "pg_try_advisory_xact_lock",
    "on delete cascade",
];

/// The text of all files below, each run of spaces one.
fn texts_below(folder: &Path, all: &mut String) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            texts_below(&path, all);
        } else if path.extension().is_some_and(|ending| ending == "rs" || ending == "sql") {
            let text = fs::read_to_string(&path).unwrap().to_lowercase();
            // Comments talk of what is not done, too.
            let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            lines.for_each(|line| all.extend([line, "\n"]));
        }
    }
}

fn source() -> String {
    let mut all = String::new();
    for folder in SOURCES {
        texts_below(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut all);
    }
    all.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn what_engines_take_is_told_of_sql_that_we_have() {
    let (text, source) = (fs::read_to_string(SCALING).unwrap(), source());
    let pages: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.split_once(". "))
        .filter_map(|(number, _)| number.parse::<u8>().is_ok().then_some(number))
        .collect();
    let rows = table(&text, "| of ours |");
    let mut cited = BTreeSet::new();
    for row in &rows {
        assert_eq!(row.len(), 5, "{row:?}");
        for code in row[0].split('`').skip(1).step_by(2) {
            assert!(source.contains(code), "the source has no `{code}` any more: {row:?}");
        }
        for cell in &row[1..] {
            let said = ["yes", "no:", "differs:", "not confirmed"];
            assert!(said.iter().any(|word| cell.starts_with(word)), "{cell}");
            let numbers: Vec<&str> =
                cell.split('[').skip(1).filter_map(|part| part.split(']').next()).collect();
            let sourced = numbers.iter().all(|number| pages.contains(number));
            let needs = !cell.starts_with("not confirmed");
            assert!(sourced && (!needs || !numbers.is_empty()), "no page says so: {cell}");
            cited.extend(numbers);
        }
    }
    assert_eq!(cited, pages.iter().copied().collect(), "each page is there for a cell");
    let ours: String = rows.iter().map(|row| row[0].as_str()).collect::<Vec<_>>().join("\n");
    let missing: Vec<&&str> =
        WATCHED.iter().filter(|word| source.contains(**word) && !ours.contains(**word)).collect();
    assert!(missing.is_empty(), "engines differ on these, and no row tells how: {missing:?}");
}
