//! A page costs the same in a small table and in a large one, and wherever in the list it stands.
//!
//! Two servers, one on a database a thousand times as large, are asked in turns for the same kinds of
//! page; the medians are compared. `PEACE_TEST_LONG=1`: 1,000 users and 10,000 items against 1,000,000 and
//! 10,000,000; otherwise both are a fiftieth of that at most.

use std::time::{Duration, Instant};

use crate::harness::{Connection, Database, Launch, Turn, get};

/// How much longer a page of the large table may take.
const RATIO_MAX: f64 = 1.3;
/// Of each kind and each server.
const ROUNDS: usize = 400;
/// Rows of a page.
const LIMIT: usize = 100;
/// Owns one item of ten.
const READER: &str = "00000000-0000-7000-8000-000000000001";

#[test]
fn pages_cost_the_same_in_a_table_a_thousand_times_as_large() {
    let turn = Turn::alone();
    let is_long = std::env::var_os("PEACE_TEST_LONG").is_some_and(|value| value == "1");
    let [few, many] = if is_long { [1_000, 1_000_000] } else { [1_000, 20_000] };
    let databases = [few, many].map(|users| {
        let database = Database::new(&turn);
        fill(&database, users);
        database
    });
    let servers = [0, 1].map(|number| Launch::on(&turn, &databases[number]).workers(1).serve());
    let mut clients = [0, 1].map(|number| Connection::open(servers[number].address()).unwrap());

    let mut slower = Vec::new();
    for list in ["/users?".to_owned(), format!("/items?user_pubid={READER}&")] {
        let rows = [few, many];
        let pages = [0, 1].map(|number| Pages::walk(&mut clients[number], &list, rows[number]));
        let [small, large] = pages;
        for (name, small, large) in [
            ("first page", &small.first, &large.first),
            ("page 10", &small.tenth, &large.tenth),
            ("page at half depth", &small.middle, &large.middle),
        ] {
            let [small, large] = medians(&mut clients, [small, large]);
            let ratio = large.as_secs_f64() / small.as_secs_f64();
            eprintln!("{list} {name}: {small:?} of {few}, {large:?} of {many}: x {ratio:.2}");
            if ratio > RATIO_MAX {
                slower.push(format!("{list} {name}: x {ratio:.2}"));
            }
        }
    }
    assert!(slower.is_empty(), "{slower:#?}");
}

/// So many users; ten times as many items, in turns, as they would have come.
fn fill(database: &Database<'_>, users: usize) {
    let items = 10 * users;
    // References are right, and need no check.
    database.sql().run(&format!(
        "set session_replication_role = replica;
        insert into \"user\" (id, name)
            select ('00000000-0000-7000-8000-' || lpad(to_hex(i), 12, '0'))::uuid, 'user ' || i
            from generate_series(1, {users}) i;
        insert into item (id, user_id, name, added)
            select ('00000000-0000-7000-9000-' || lpad(to_hex(i), 12, '0'))::uuid,
                ('00000000-0000-7000-8000-' || lpad(to_hex(
                    case i % 10 when 0 then 1 else 2 + i % ({users} - 1) end), 12, '0'))::uuid,
                'item ' || i, '2024-12-12 13:25:00.123456'
            from generate_series(1, {items}) i"
    ));
    database.sql().run("vacuum analyze");
}

/// Where three pages of a list are.
struct Pages {
    first: String,
    tenth: String,
    middle: String,
}

impl Pages {
    /// Follows `next_cursor` to the middle of a list of so many rows.
    fn walk(client: &mut Connection, list: &str, rows: usize) -> Self {
        let half = rows / LIMIT / 2 + 1;
        let mut pages = vec![format!("{list}limit={LIMIT}")];
        while pages.len() < half.max(10) {
            let reply = client.send(&get(pages[pages.len() - 1].as_str())).unwrap().json();
            let cursor = reply["page"]["next_cursor"].as_str().expect("there are more rows");
            pages.push(format!("{list}limit={LIMIT}&cursor={cursor}"));
        }
        let page = |number: usize| pages[number - 1].clone();
        Self { first: page(1), tenth: page(10), middle: page(half) }
    }
}

/// How long each takes, asked in turns.
fn medians(clients: &mut [Connection; 2], pages: [&str; 2]) -> [Duration; 2] {
    let mut took = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for number in [0, 1] {
            let request = get(pages[number]);
            let begin = Instant::now();
            let reply = clients[number].send(&request).unwrap();
            took[number].push(begin.elapsed());
            assert_eq!(reply.status, 200);
            assert!(reply.body.len() > LIMIT * 30, "the page is not full");
        }
    }
    took.map(|mut all| {
        all.sort();
        all[all.len() / 2]
    })
}
