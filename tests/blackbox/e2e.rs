//! `peace-e2e` against the real server: its scenarios go well, and no failure is swallowed.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::api::log_in;
use crate::harness::{Database, Launch, Peace, Turn, get};

/// How long it may take to see that nobody is there.
const SOON: Duration = Duration::from_secs(3);

/// The program, built as the tests' own one was. Cargo builds no other package's for a test.
pub(crate) fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let folder = Path::new(env!("CARGO_BIN_EXE_peace-supervisor")).parent().unwrap();
        let profile = match folder.file_name().and_then(|name| name.to_str()).unwrap() {
            "debug" => "dev",
            profile => profile,
        };
        let built = Command::new(env!("CARGO"))
            .args(["build", "--locked", "-p", "peace-e2e", "--profile", profile, "--target-dir"])
            .arg(folder.parent().unwrap())
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        folder.join("peace-e2e")
    })
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

#[test]
fn one_failed_poll_among_all_fails_the_run() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = four_workers(&turn, &database);
    let between = refusing_the_first_poll(peace.address());
    let (code, report) = report(&turn, between, "test concurrency --users 2 --items 2");
    assert_eq!(code, Some(1), "{report}");
    let failure = json!({
        "client": "poller", "method": "GET", "path": "/users",
        "expected": "200", "status": 500, "came": "500 broken on purpose",
    });
    assert_eq!(report["failures"], json!([failure]));
    assert_eq!((&report["done"]["users"], &report["done"]["items"]), (&json!(2), &json!(4)));
    assert_eq!(rows(&database, "\"user\""), 0);
}

/// Stands between client and server, and itself answers one `GET /users`: the second, since the
/// first only asks whether anybody is there.
fn refusing_the_first_poll(server: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let lists = Arc::new(AtomicU32::new(0));
    let is_refused = move |request: &[u8]| {
        request.starts_with(b"GET /users HTTP/1.1\r\n")
            && lists.fetch_add(1, Ordering::Relaxed) == 1
    };
    thread::spawn(move || {
        for client in listener.incoming() {
            let is_refused = is_refused.clone();
            // Ends with its client.
            thread::spawn(move || hand_on(client.unwrap(), server, is_refused));
        }
    });
    address
}

fn hand_on(
    client: TcpStream,
    server: SocketAddr,
    is_refused: impl Fn(&[u8]) -> bool,
) -> io::Result<()> {
    let mut client = BufReader::new(client);
    let mut server = BufReader::new(TcpStream::connect(server)?);
    loop {
        let request = message(&mut client)?;
        let answer = if is_refused(&request) {
            b"HTTP/1.1 500 Oops\r\ncontent-length: 17\r\n\r\nbroken on purpose".to_vec()
        } else {
            server.get_mut().write_all(&request)?;
            message(&mut server)?
        };
        client.get_mut().write_all(&answer)?;
    }
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
