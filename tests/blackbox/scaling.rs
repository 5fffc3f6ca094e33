//! The sums of deploy/SCALING.md, computed again.
//!
//! Costs per request stand in README, connections come from the program's own formula. What was measured with two hosts
//! is no sum: tests/external/hosts measures it anew.

use std::fs;

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
