//! `peace-e2e` against the real server: its scenarios go well, and no failure is swallowed.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::api::log_in;
use crate::harness::{Database, Launch, Peace, Turn, built, get};

/// How long it may take to see that nobody is there.
const SOON: Duration = Duration::from_secs(3);

/// The program.
pub(crate) fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| built::program("peace-e2e"))
}

/// Runs it to its end.
fn e2e(turn: &Turn, line: &str) -> Output {
    Launch::bare(turn).program(program()).args(line.split(' ')).output()
}

/// Runs it against a server; answers the exit code and the report.
fn report(turn: &Turn, server: SocketAddr, line: &str) -> (Option<i32>, Value) {
    let output = e2e(turn, &format!("--app-url http://{server} --json {line}"));
    let (stdout, stderr) = texts(&output);
    assert_eq!(stderr, "", "{line}: in a pipe there is no progress");
    let report = serde_json::from_str(&stdout);
    (output.status.code(), report.unwrap_or_else(|error| panic!("{line}: {error}: {stdout}")))
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

fn four_workers(turn: &Turn, database: &Database<'_>) -> Peace {
    Launch::on(turn, database).workers(4).serve()
}

fn rows(database: &Database<'_>, table: &str) -> i64 {
    database.sql().value(&format!("select count(*) from {table}"), &[])
}

#[test]
fn concurrency_goes_well_and_leaves_nothing() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = four_workers(&turn, &database);
    let (code, report) = report(&turn, peace.address(), "test concurrency");
    assert_eq!((code, &report["failures"]), (Some(0), &json!([])), "{report}");
    assert_eq!((&report["done"]["users"], &report["done"]["items"]), (&json!(10), &json!(100)));
    assert!(report["done"]["polls"].as_u64().unwrap() > 0, "{report}");
    for (kind, count) in [
        ("POST /users 201", 10),
        ("GET /users/{pubid} 200", 10),
        ("POST /items 201", 100),
        ("GET /items/{pubid} 200", 100),
        ("DELETE /users/{pubid} 200", 10),
    ] {
        assert_eq!(report["requests"][kind], count, "{kind}: {report}");
    }
    assert_eq!((rows(&database, "\"user\""), rows(&database, "item")), (0, 0));
    eprintln!("concurrency: {report}");
}

#[test]
fn deadlocks_goes_well_and_leaves_nothing() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = four_workers(&turn, &database);
    let (code, report) = report(&turn, peace.address(), "test deadlocks");
    assert_eq!((code, &report["failures"]), (Some(0), &json!([])), "{report}");
    assert_eq!(report["done"]["updates"], 20, "{report}");
    assert!(report["done"]["polls"].as_u64().unwrap() > 0, "{report}");
    assert_eq!(report["requests"]["PUT /users/{pubid} 200"], 20, "{report}");
    assert_eq!(rows(&database, "\"user\""), 0);
    eprintln!("deadlocks: {report}");
}

#[test]
fn two_runs_at_once_do_not_meet() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = four_workers(&turn, &database);
    let play = || report(&turn, peace.address(), "test concurrency --users 3 --items 2").0;
    let codes = thread::scope(|both| {
        let (one, other) = (both.spawn(play), both.spawn(play));
        [one.join().unwrap(), other.join().unwrap()]
    });
    assert_eq!(codes, [Some(0), Some(0)]);
    assert_eq!(rows(&database, "\"user\""), 0);
}

#[test]
fn a_route_that_fails_fails_the_run_and_ends_it_early() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = four_workers(&turn, &database);
    database.sql().run("alter table item rename to gone");
    let (code, report) = report(&turn, peace.address(), "test concurrency --items 100");
    assert_eq!(code, Some(1), "{report}");
    let failures = report["failures"].as_array().unwrap();
    // Each of the four clients may be about to add one when the twentieth is there.
    assert!((20..24).contains(&failures.len()), "{report}");
    for failure in failures {
        assert_eq!((&failure["method"], &failure["path"]), (&json!("POST"), &json!("/items")));
        assert!(failure["status"].as_u64().unwrap() >= 500, "{failure}");
        assert_eq!(failure["expected"], "201");
    }
    assert_eq!(rows(&database, "\"user\""), 0, "it tidies up all the same");
}

/// One answer of a run that is not as the server gave it.
struct Spoilt {
    /// How the first request of the connection begins: that tells whose it is.
    connection: &'static str,
    /// How the request begins.
    request: &'static str,
    /// Which of these requests, from 1; 0 for every one.
    nth: u32,
    answer: Answer,
}

#[derive(Clone, Copy)]
enum Answer {
    /// A 500, and the server never hears of the request.
    Refusal,
    /// None: the connection is closed.
    Nothing,
    /// The server's, but for one member.
    With(&'static str, Other),
}

#[derive(Clone, Copy)]
enum Other {
    Null,
    Text(&'static str),
    EmptyList,
}

/// What is spoilt, and what has to be told of it.
type Row = (&'static str, &'static str, u32, Answer, &'static str, &'static str);

const NEW_USER: &str = "POST /users ";
const LIST: &str = "GET /users ";
const LOGIN: &str = "POST /auth/token ";
const READ_USER: &str = "GET /users/";
const UPDATE: &str = "PUT /users/";
const DELETE: &str = "DELETE /users/";
const NEW_ITEM: &str = "POST /items ";
const READ_ITEM: &str = "GET /items/";
const REFUSED: Answer = Answer::Refusal;

const fn other(member: &'static str, text: &'static str) -> Answer {
    Answer::With(member, Other::Text(text))
}

/// By connection, request, which one, its answer; then which client tells it, and what it expected.
/// The first list of all only asks whether anybody is there.
const CONCURRENCY: &[Row] = &[
    (LIST, LIST, 1, REFUSED, "probe", "200"),
    (LIST, LIST, 2, REFUSED, "poller", "200"),
    (LIST, LIST, 2, Answer::Nothing, "poller", "an answer"),
    (LIST, LIST, 2, other("users", "none"), "poller", "a list `users`"),
    (NEW_USER, NEW_USER, 1, REFUSED, "client 1", "201"),
    (NEW_USER, NEW_USER, 1, other("name", "bob"), "client 1", "`name` to be \"e2e-"),
    (NEW_USER, NEW_USER, 1, other("fullname", "Bob"), "client 1", "`fullname` to be \"End"),
    (NEW_USER, NEW_USER, 2, other("pubid", ""), "client 1", "a text `pubid`"),
    (NEW_USER, READ_USER, 1, REFUSED, "client 1", "200"),
    (NEW_USER, READ_USER, 2, other("pubid", "x"), "client 1", "`pubid` to be \""),
    (NEW_USER, READ_USER, 1, other("name", "bob"), "client 1", "`name` to be \"e2e-"),
    (NEW_USER, READ_USER, 2, other("fullname", "Bob"), "client 1", "`fullname` to be \"End"),
    (NEW_USER, LOGIN, 1, REFUSED, "client 1", "200"),
    (NEW_USER, LOGIN, 1, other("access_token", ""), "client 1", "a text `access_token`"),
    (NEW_USER, NEW_ITEM, 1, REFUSED, "client 1", "201"),
    (NEW_USER, NEW_ITEM, 4, Answer::Nothing, "client 1", "an answer"),
    (NEW_USER, NEW_ITEM, 2, other("name", "thing"), "client 1", "`name` to be \"e2e-"),
    (NEW_USER, NEW_ITEM, 3, other("user_pubid", "x"), "client 1", "`user_pubid` to be \""),
    (NEW_USER, NEW_ITEM, 4, Answer::With("added", Other::Null), "client 1", "a text `added`"),
    (NEW_USER, READ_ITEM, 1, REFUSED, "client 1", "200"),
    (NEW_USER, READ_ITEM, 1, other("pubid", "x"), "client 1", "`pubid` to be \""),
    (NEW_USER, READ_ITEM, 2, other("name", "thing"), "client 1", "`name` to be \"e2e-"),
    (NEW_USER, READ_ITEM, 3, other("added", "2024"), "client 1", "`added` to be \"20"),
    (NEW_USER, READ_ITEM, 4, other("user_pubid", "x"), "client 1", "`user_pubid` to be \""),
    (LOGIN, LOGIN, 1, REFUSED, "cleanup", "200"),
    (LOGIN, LOGIN, 2, other("access_token", ""), "cleanup", "a text `access_token`"),
    (LOGIN, DELETE, 1, REFUSED, "cleanup", "200"),
    (LOGIN, DELETE, 2, REFUSED, "cleanup", "200"),
];

/// The poller's connection begins with the reading; the reading at the end has that of the creation.
const DEADLOCKS: &[Row] = &[
    (LIST, LIST, 1, REFUSED, "probe", "200"),
    (NEW_USER, NEW_USER, 1, REFUSED, "client", "201"),
    (NEW_USER, NEW_USER, 1, other("fullname", "Bob"), "client", "`fullname` to be \"not"),
    (NEW_USER, LOGIN, 1, REFUSED, "client", "200"),
    (READ_USER, READ_USER, 1, REFUSED, "poller", "200"),
    (READ_USER, READ_USER, 1, other("pubid", "x"), "poller", "`pubid` to be \""),
    (READ_USER, READ_USER, 1, other("fullname", "update 3"), "poller", "a `fullname` that was"),
    (UPDATE, UPDATE, 1, REFUSED, "client 1", "200"),
    (UPDATE, UPDATE, 3, Answer::Nothing, "client 1", "an answer"),
    (UPDATE, UPDATE, 2, other("pubid", "x"), "client 1", "`pubid` to be \""),
    (UPDATE, UPDATE, 3, other("fullname", "update 3"), "client 1", "`fullname` to be \"update 2\""),
    (NEW_USER, READ_USER, 1, REFUSED, "client", "200"),
    (NEW_USER, READ_USER, 1, other("fullname", "not updated yet"), "client", "a `fullname` that"),
    (LOGIN, LOGIN, 1, REFUSED, "cleanup", "200"),
    (LOGIN, DELETE, 1, REFUSED, "cleanup", "200"),
];

const SAMPLE_DATA: &[Row] = &[
    (LIST, LIST, 1, REFUSED, "probe", "200"),
    (NEW_USER, NEW_USER, 2, REFUSED, "client", "201, or 409"),
    (NEW_USER, NEW_USER, 1, other("pubid", ""), "client", "a text `pubid`"),
    (NEW_USER, LOGIN, 2, REFUSED, "client", "200"),
    (NEW_USER, NEW_ITEM, 1, REFUSED, "client", "201"),
    (NEW_USER, NEW_ITEM, 1, other("name", "thing"), "client", "`name` to be \"sample-data_user-1"),
];

/// Where the users are there already, they are looked up.
const SAMPLE_DATA_AGAIN: &[Row] = &[
    (NEW_USER, "GET /users?", 1, REFUSED, "client", "200"),
    (NEW_USER, "GET /users?", 1, other("users", "none"), "client", "a list `users`"),
    (
        NEW_USER,
        "GET /users?",
        1,
        Answer::With("users", Other::EmptyList),
        "client",
        "sample-data_user-0, since the name is taken",
    ),
    (NEW_USER, "GET /items?", 2, REFUSED, "client", "200"),
];

#[test]
fn one_spoilt_answer_among_all_fails_the_run_and_is_told() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = four_workers(&turn, &database);
    for (line, rows, again) in [
        ("test concurrency --clients 1 --users 2 --items 2", CONCURRENCY, false),
        ("test deadlocks --clients 1 --updates 3", DEADLOCKS, false),
        ("sample-data --n-users 2", SAMPLE_DATA, false),
        ("sample-data --n-users 2", SAMPLE_DATA_AGAIN, true),
    ] {
        for row in rows {
            database.sql().run(r#"delete from "user""#);
            if again {
                assert_eq!(report(&turn, peace.address(), line).0, Some(0));
            }
            spoil(&turn, &database, &peace, line, row);
        }
    }
}

fn spoil(turn: &Turn, database: &Database<'_>, peace: &Peace, line: &str, row: &Row) {
    let (connection, request, nth, answer, client, expected) = *row;
    let what = format!("{line}: {request}number {nth} of {connection}: {client}, {expected}");
    let between = between(peace.address(), Spoilt { connection, request, nth, answer });
    let (code, report) = report(turn, between, line);
    assert_eq!(code, Some(1), "{what}: {report}");
    let failures = report["failures"].as_array().unwrap();
    assert_eq!(failures.len(), 1, "{what}: {report}");
    check_failure(&failures[0], row, &what);
    if request.starts_with("GET") && line.starts_with("test") {
        assert_eq!(rows(database, "\"user\""), 0, "{what}: it tidies up all the same");
    }
}

fn check_failure(failure: &Value, row: &Row, what: &str) {
    let (_, request, _, answer, client, expected) = *row;
    let text = |name: &str| failure[name].as_str().unwrap().to_owned();
    assert_eq!(text("client"), client, "{what}: {failure}");
    assert!(text("expected").starts_with(expected), "{what}: {failure}");
    let asked = format!("{} {} ", text("method"), text("path"));
    assert!(asked.starts_with(request.trim_end_matches('?')), "{what}: {failure}");
    let status = match answer {
        Answer::Refusal => json!(500),
        Answer::Nothing => Value::Null,
        Answer::With(..) if request.starts_with("POST /auth") => json!(200),
        Answer::With(..) if request.starts_with("POST") => json!(201),
        Answer::With(..) => json!(200),
    };
    assert_eq!(failure["status"], status, "{what}: {failure}");
    if matches!(answer, Answer::Refusal) {
        assert_eq!(text("came"), "500 broken on purpose", "{what}");
    }
}

#[test]
fn lists_without_the_users_that_are_there_fail_the_run() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = four_workers(&turn, &database);
    // So many requests of the client that the poller sends some meanwhile.
    let line = "test concurrency --clients 1 --users 1 --items 200";
    let answer = Answer::With("users", Other::EmptyList);
    let every = Spoilt { connection: LIST, request: LIST, nth: 0, answer };
    let (code, report) = report(&turn, between(peace.address(), every), line);
    assert_eq!(code, Some(1), "{report}");
    let failures = report["failures"].as_array().unwrap();
    assert!(!failures.is_empty(), "{report}");
    for failure in failures {
        assert_eq!((&failure["client"], &failure["status"]), (&json!("poller"), &json!(200)));
        assert_eq!(failure["expected"], "`users` not to be empty");
    }
}

/// Stands between client and server, and spoils what it is told to.
fn between(server: SocketAddr, spoilt: Spoilt) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let shared = Arc::new((spoilt, AtomicU32::new(0)));
    thread::spawn(move || {
        for client in listener.incoming() {
            let shared = Arc::clone(&shared);
            // Ends with its client.
            thread::spawn(move || hand_on(client.unwrap(), server, &shared.0, &shared.1));
        }
    });
    address
}

fn hand_on(
    client: TcpStream,
    server: SocketAddr,
    spoilt: &Spoilt,
    count: &AtomicU32,
) -> io::Result<()> {
    let mut client = BufReader::new(client);
    let mut server = BufReader::new(TcpStream::connect(server)?);
    let mut is_the_connection = None;
    loop {
        let request = message(&mut client)?;
        let is_the_connection = *is_the_connection
            .get_or_insert_with(|| request.starts_with(spoilt.connection.as_bytes()));
        let is_one = is_the_connection && request.starts_with(spoilt.request.as_bytes());
        let number = if is_one { count.fetch_add(1, Ordering::Relaxed) + 1 } else { 0 };
        let answer = match spoilt.answer {
            _ if !is_one || (spoilt.nth != 0 && number != spoilt.nth) => None,
            Answer::Nothing => return Ok(()),
            answer => Some(answer),
        };
        let answer = match answer {
            Some(Answer::Refusal) => with_body("500 Oops", "broken on purpose"),
            answer => {
                server.get_mut().write_all(&request)?;
                let whole = message(&mut server)?;
                match answer {
                    Some(Answer::With(member, other)) => altered(&whole, member, other),
                    _ => whole,
                }
            }
        };
        client.get_mut().write_all(&answer)?;
    }
}

/// An answer with another value of a member of its body.
fn altered(whole: &[u8], member: &str, other: Other) -> Vec<u8> {
    let text = str::from_utf8(whole).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.lines().next().unwrap().strip_prefix("HTTP/1.1 ").unwrap();
    let mut body: Value = serde_json::from_str(body).unwrap();
    let value = match other {
        Other::Null => Value::Null,
        Other::Text(text) => json!(text),
        Other::EmptyList => json!([]),
    };
    assert!(body[member] != value || value == json!([]), "{member} is altered");
    body[member] = value;
    with_body(status, &body.to_string())
}

fn with_body(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// Reads a request or an answer with its body, whose length it states if there is one.
fn message(stream: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let (mut bytes, mut body_bytes) = (Vec::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(line.as_bytes());
        if let Some(length) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            body_bytes = length.trim().parse().unwrap();
        }
        if line == "\r\n" {
            stream.take(body_bytes).read_to_end(&mut bytes)?;
            return Ok(bytes);
        }
    }
}

#[test]
fn a_server_that_goes_away_is_a_failure_that_ends() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let mut peace = four_workers(&turn, &database);
    let address = peace.address();
    // Built before somebody waits for it.
    program();
    let line = "test deadlocks --updates 100000";
    let (code, report) = thread::scope(|both| {
        let run = both.spawn(|| report(&turn, address, line));
        peace.await_event("an update", 0, Duration::from_secs(30), |event| {
            event.text_of("method") == Some("PUT")
        });
        peace.kill();
        run.join().unwrap()
    });
    peace.await_nothing_left(Duration::from_secs(10));
    assert_eq!(code, Some(1), "{report}");
    let failures = report["failures"].as_array().unwrap();
    assert!(failures.iter().any(|failure| failure["status"].is_null()), "{report}");
    assert!(failures.len() < 40, "it stops early: {}", failures.len());
}

#[test]
fn sample_data_may_be_added_again() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = four_workers(&turn, &database);
    let add = || report(&turn, peace.address(), "sample-data --n-users 3");
    let (code, first) = add();
    assert_eq!((code, &first["failures"]), (Some(0), &json!([])), "{first}");
    let done = json!({"users_added": 3, "users_found": 0, "items_added": 3, "items_found": 0});
    assert_eq!(first["done"], done);

    database.sql().run("delete from item where name = 'sample-data_user-2_item-1'");
    let (code, second) = add();
    assert_eq!((code, &second["failures"]), (Some(0), &json!([])), "{second}");
    let done = json!({"users_added": 0, "users_found": 3, "items_added": 1, "items_found": 2});
    assert_eq!(second["done"], done, "only what is missing");

    for (number, items) in [(0, 0), (1, 1), (2, 2)] {
        let name = format!("sample-data_user-{number}");
        let sql = r#"select count(*) from item join "user" u on u.id = user_id where u.name = $1"#;
        assert_eq!(database.sql().value::<i64>(sql, &[&name]), items, "{name}");
    }
    assert_eq!(first["logins"], second["logins"]);
    for login in second["logins"].as_array().unwrap() {
        let [name, password] = ["username", "password"].map(|field| login[field].as_str().unwrap());
        let fields = [("username", name), ("password", password)];
        assert_eq!(log_in(&peace, &fields).status, 200, "{name}");
    }
}

#[test]
fn sample_data_says_how_to_log_in() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = four_workers(&turn, &database);
    let address = peace.address();
    let output = e2e(&turn, &format!("sample_data --n-users 2 --app-url http://{address}/"));
    let (stdout, stderr) = texts(&output);
    assert_eq!((output.status.code(), &*stderr), (Some(0), ""), "{stdout}");
    let told: Vec<(&str, &str)> = stdout
        .lines()
        .filter_map(|line| line.strip_prefix("log in as ")?.split_once(" with "))
        .collect();
    assert_eq!(told.len(), 2, "{stdout}");
    for (name, password) in told {
        let login = log_in(&peace, &[("username", name), ("password", password)]);
        assert_eq!(login.status, 200, "{name} {password}");
    }
    assert!(stdout.contains(&format!("http://{address}/auth/token\n")), "{stdout}");
    assert_eq!(peace.ask(&get("/users")).json()["users"].as_array().unwrap().len(), 2);
}

#[test]
fn nobody_there_is_one_line_and_soon() {
    let turn = Turn::shared();
    program();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for scenario in ["test concurrency", "test deadlocks --json", "sample-data"] {
        let began = Instant::now();
        let output = e2e(&turn, &format!("{scenario} --app-url http://{free}"));
        assert!(began.elapsed() < SOON, "{scenario} took {:?}", began.elapsed());
        let line =
            format!("http://{free} does not answer: connection refused; is the server running?\n");
        assert_eq!(texts(&output), (String::new(), line), "{scenario}");
        assert_eq!(output.status.code(), Some(1), "{scenario}");
    }
}

#[test]
fn a_wrong_command_line_is_one_line_and_64() {
    let turn = Turn::shared();
    for line in [
        "test concurrency --app-url 127.0.0.1:8000",
        "test concurrency --app-url http://ann:hunter2@127.0.0.1:8000",
        "test concurrency --user 3",
        "test concurrency --users 0",
        "test concurency",
        "test",
        "sample-data --n-users 1002",
    ] {
        let output = e2e(&turn, line);
        let (stdout, stderr) = texts(&output);
        assert_eq!((output.status.code(), &*stdout), (Some(64), ""), "{line}: {stderr}");
        assert!(stderr.starts_with("peace-e2e: ") && stderr.lines().count() == 1, "{stderr}");
        assert!(!stderr.contains("hunter2"), "{stderr}");
    }
    let output = e2e(&turn, "test concurrency --help");
    assert_eq!(output.status.code(), Some(0));
    assert!(texts(&output).0.contains("--app-url <URL>"), "{:?}", texts(&output));
}
