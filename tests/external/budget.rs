//! What a request costs, counted and not timed, so that a busy machine cannot blur it: instructions of the
//! worker (callgrind), its system calls (strace), statements of the database (pg_stat_statements).
//!
//! One worker of the release build is asked for the same rows, again and again; what it needs is held against
//! `budget/budgets.toml`. By itself:
//!
//!     cargo build --release --locked --bins && cargo test --locked --test external budget -- --nocapture
//!
//! `PEACE_TEST_SERVER=…/peace-supervisor` measures that program instead.
//! Instructions depend on the compiler, its profile, libc and valgrind, and hardly on the processor: valgrind
//! shows every program the same one, as long as the real one has AVX2. The file tells what it was recorded with.

mod callgrind;
mod lines;
mod strace;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use serde_json::json;

use self::callgrind::Callgrind;
use self::strace::Strace;
use self::table::{Excess, Measured};
use crate::harness::cluster::Cluster;
use crate::harness::jwt::{self, SECRET};
use crate::harness::peace::signal_to;
use crate::harness::{Connection, Database, Launch, Request, Turn, get, post};
use crate::wrk::release;

/// Before anything is counted.
const WARM_UP: usize = 100;
/// Of which the one in the middle counts.
const BATCHES: usize = 5;
const BATCH: usize = 250;
/// For calls, which repeat.
const ROUNDS: usize = 21;
const ROUND: usize = 50;
/// Connections, and requests that are there at once.
const AT_ONCE: usize = 32;

/// Whose items are listed.
const READER: &str = "0193a3a0-0000-7000-8000-000000000001";
/// Who gets new ones.
const WRITER: &str = "0193a3a0-0000-7000-8000-000000000002";
const ITEM: &str = "0193a3a0-0000-7000-9000-000000000042";
const ROWS: &str = r#"
    insert into "user" (id, name, fullname) values
        ('0193a3a0-0000-7000-8000-000000000001', 'reader', 'Who Reads'),
        ('0193a3a0-0000-7000-8000-000000000002', 'writer', 'Who Writes');
    insert into item (id, user_id, name, added)
        select ('0193a3a0-0000-7000-9000-' || lpad(i::text, 12, '0'))::uuid,
            '0193a3a0-0000-7000-8000-000000000001', 'item ' || i, '2024-12-12 13:25:00.123456'
        from generate_series(1, 100) i;
    insert into session (id, user_id, family_hash, token_hash, expires) values
        ('0193a3a0-0000-7000-8000-000000000002', '0193a3a0-0000-7000-8000-000000000002', '', '',
            now() + interval '1 day');
    analyze"#;

#[test]
fn instructions_per_request_stay_within_their_budgets() {
    let turn = Turn::alone();
    let cluster = Cluster::start_on_tcp(None);
    let database = filled(&cluster);
    let mut callgrind = Callgrind::start(launch(&turn, &cluster, &database));
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("budget");
    fs::create_dir_all(&kept).unwrap();

    let mut measured = BTreeMap::new();
    for (route, request) in routes() {
        let mut connection = Connection::open(callgrind.peace.address()).unwrap();
        callgrind.cost(WARM_UP, || ask(&mut connection, &request, WARM_UP));
        let batch = || callgrind.cost(BATCH, || ask(&mut connection, &request, BATCH));
        let mut batches: Vec<_> = std::iter::repeat_with(batch).take(BATCHES).collect();
        batches.sort_by(|one, other| one.instructions.total_cmp(&other.instructions));
        let [least, most] = [0, BATCHES - 1].map(|index| batches[index].instructions);
        let spread = most / least - 1.0;
        eprintln!(
            "{route}: the largest of {BATCHES} batches is {:.2} % over the least",
            spread * 100.0
        );
        let middle = &batches[BATCHES / 2];
        fs::copy(&middle.dump, kept.join(file_name(route))).unwrap();
        measured.insert(route.to_owned(), middle.instructions);
    }
    let advice = format!(
        "What they are spent on: callgrind_annotate {}/ROUTE.callgrind, and the same before the change.",
        kept.display()
    );
    let measured = BTreeMap::from([("instructions".to_owned(), measured)]);
    table::check(&measured, &Excess::Part(0.015), &advice);
}

#[test]
fn calls_per_request_stay_within_their_budgets() {
    let turn = Turn::alone();
    let cluster = Cluster::start_on_tcp(None);
    let database = filled(&cluster);
    let strace = Strace::start(launch(&turn, &cluster, &database), cluster.port());
    let mut measured = Measured::new();
    for (route, request) in routes() {
        let mut connection = Connection::open(strace.peace.address()).unwrap();
        ask(&mut connection, &request, WARM_UP);
        let before = statements(&database);
        let round = || strace.counted(|| ask(&mut connection, &request, ROUND));
        let rounds: Vec<_> = std::iter::repeat_with(round).take(ROUNDS).collect();
        let mut calls = middle(&rounds, ROUND);
        let statements = (statements(&database) - before) as f64;
        calls.insert("statements".to_owned(), statements / (ROUNDS * ROUND) as f64);
        measured.insert(route.to_owned(), calls);
    }
    table::check(&measured, &Excess::Count(0.1), "Which they are: strace -f of the server.");
}

#[test]
fn requests_that_come_together_stay_within_the_budgets_of_their_calls() {
    let turn = Turn::alone();
    let cluster = Cluster::start_on_tcp(None);
    let database = filled(&cluster);
    let strace = Strace::start(launch(&turn, &cluster, &database), cluster.port());
    let mut connections: Vec<Connection> =
        (0..AT_ONCE).map(|_| Connection::open(strace.peace.address()).unwrap()).collect();
    let mut measured = Measured::new();
    for (route, request) in routes().into_iter().skip(1).take(2) {
        let mut together = || ask_together(strace.worker, &mut connections, &request);
        (0..WARM_UP / 10).for_each(|_| together());
        let round = || strace.counted(&mut together);
        let rounds: Vec<_> = std::iter::repeat_with(round).take(ROUNDS).collect();
        measured.insert(format!("{AT_ONCE} x {route} at once"), middle(&rounds, 1));
    }
    table::check(&measured, &Excess::Count(0.5), "Which they are: strace -f of the server.");
}

/// What is asked for; the first needs no database.
fn routes() -> [(&'static str, Request); 5] {
    let token = jwt::signed(WRITER, json!({"exp": jwt::now_s() + 3_600}));
    let new = json!({"name": "one more", "user_pubid": WRITER});
    [
        ("GET /health/live", get("/health/live")),
        ("GET /items/{pubid}", get(format!("/items/{ITEM}"))),
        ("GET /users/{pubid}", get(format!("/users/{READER}"))),
        ("GET /items of 100 rows", get(format!("/items?user_pubid={READER}&limit=100"))),
        ("POST /items", post("/items").bearer(&token).json(&new)),
    ]
    .map(|(route, request)| (route, request.header("user-agent", "budget").header("accept", "*/*")))
}

/// A database with the rows that are asked for.
fn filled(cluster: &Cluster) -> Database<'_> {
    let database = Database::migrated_in(cluster);
    database.sql().run(ROWS);
    database
}

/// The server as it is by default, but for what writes a line per request.
///
/// The database is reached by TCP: each time it reads from a unix socket, the loop may or may not wake.
fn launch(turn: &Turn, cluster: &Cluster, database: &Database<'_>) -> Launch {
    let server = std::env::var_os("PEACE_TEST_SERVER");
    let server = server.map_or_else(|| release("peace-supervisor"), PathBuf::from);
    let place = format!("127.0.0.1:{}/{}", cluster.port(), database.name());
    let url = format!("postgres://peace@{place}?sslmode=disable");
    let launch = Launch::bare(turn).program(server).env("DATABASE_URL", &url);
    let launch = launch.env("JWT_SECRET_KEY", SECRET);
    launch.args(["--bind", "127.0.0.1:0", "--access-log", "off", "--log-format", "json"])
}

/// The same request, one after the other.
fn ask(connection: &mut Connection, request: &Request, times: usize) {
    for _ in 0..times {
        let reply = connection.send(request).unwrap();
        assert!(matches!(reply.status, 200 | 201), "{request:?}: {reply:?}");
    }
}

/// The same request from everybody. The worker is held meanwhile, so that it finds all of them.
fn ask_together(worker: i32, connections: &mut [Connection], request: &Request) {
    signal_to(worker, Signal::SIGSTOP);
    connections.iter_mut().for_each(|connection| connection.begin(request).unwrap());
    signal_to(worker, Signal::SIGCONT);
    for connection in connections {
        assert_eq!(connection.finish(request).unwrap().status, 200);
    }
}

/// How many statements the database has run so far for its clients.
fn statements(database: &Database<'_>) -> i64 {
    let count = "select coalesce(sum(calls), 0)::bigint from pg_stat_statements \
                 join pg_database d on d.oid = dbid where datname = $1";
    database.sql_beside().value(count, &[&database.name()])
}

/// How many calls of each name one of `parts` requests made, in the round in the middle: a moment in which
/// the machine was busy elsewhere is in few of them.
fn middle(rounds: &[BTreeMap<String, usize>], parts: usize) -> BTreeMap<String, f64> {
    let names: BTreeSet<&String> = rounds.iter().flat_map(BTreeMap::keys).collect();
    let middle = |name: &String| {
        let mut counts: Vec<_> = rounds.iter().map(|round| round.get(name).copied()).collect();
        counts.sort_unstable();
        counts[counts.len() / 2].map(|count| (name.clone(), count as f64 / parts as f64))
    };
    names.into_iter().filter_map(middle).collect()
}

fn file_name(route: &str) -> String {
    let letters = route.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    format!("{letters}.callgrind")
}
