//! What is in the log: a line for each request, files that are moved away, and what is never there.

/// A log that takes no lines.
mod sinks;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use serde_json::{Value, json};

use crate::accounts::somebody;
use crate::harness::api::{PASSWORD, add_item, log_in, sign_up};
use crate::harness::jwt::SECRET;
use crate::harness::wait::until;
use crate::harness::{Connection, Database, Launch, Peace, Turn, get, post, put};

const SOON: Duration = Duration::from_secs(10);

/// The line of the request with this id.
fn line_of(peace: &Peace, request_id: &str) -> Value {
    let line = peace.await_event("the request's line", 0, SOON, |event| {
        event.text_of("target") == Some("access") && event.text_of("request_id") == Some(request_id)
    });
    serde_json::from_str(&line.text).unwrap()
}

#[test]
fn a_request_has_one_line_with_all_that_is_known_of_it() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(1).serve();
    let ann = sign_up(&peace, "ann");
    let item = json!({"name": "lamp", "user_pubid": ann.pubid});
    let asked = post("/items").bearer(&ann.token).json(&item).header("x-request-id", "the-write");
    let reply = peace.ask(&asked);
    let line = line_of(&peace, "the-write");
    let place = reply.header("location").unwrap().to_owned();
    let want = json!({
        "timestamp": line["timestamp"], "level": "INFO", "target": "access", "slot": 0,
        "generation": 1, "method": "POST", "route": "/items", "path": "/items", "status": 201,
        "request_id": "the-write", "total_ms": line["total_ms"],
        "database_ms": line["database_ms"], "pool_wait_ms": line["pool_wait_ms"],
        "bytes": reply.body.len(), "user": ann.pubid, "client": "127.0.0.1",
    });
    assert_eq!(line, want);
    let ms = |name: &str| line[name].as_f64().unwrap();
    assert!(ms("database_ms") > 0.0 && ms("pool_wait_ms") >= 0.0, "{line}");
    assert!(ms("total_ms") >= ms("database_ms") + ms("pool_wait_ms"), "{line}");

    // On the lane; nobody has to say who they are.
    peace.ask(&get(format!("{place}?of=nobody")).header("x-request-id", "the-read"));
    let line = line_of(&peace, "the-read");
    assert_eq!((&line["route"], &line["path"]), (&json!("/items/{pubid}"), &json!(place)));
    assert!(line["database_ms"].as_f64() > Some(0.0) && line["pool_wait_ms"] == 0.0, "{line}");
    assert!(line.get("user").is_none() && !line.to_string().contains("nobody"), "{line}");
    // Asked nothing of the database, and failed.
    peace.ask(&get("/nowhere").header("x-request-id", "the-miss"));
    let line = line_of(&peace, "the-miss");
    assert_eq!((&line["route"], &line["code"]), (&json!("-"), &json!("not-found")));
    assert_eq!(line["database_ms"], 0.0);
}

#[test]
fn no_client_writes_a_line_of_its_own() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let mut peace = Launch::on(&turn, &database).workers(1).env("RUST_LOG", "debug").serve();
    let forged = "\"}\n{\"target\":\"access\",\"path\":\"/forged\"}";
    let encoded = "/items/%22%7D%0A%7B%22target%22:%22access%22%7D";
    for head in [
        format!("GET {encoded} HTTP/1.1\r\nhost: x\r\n"),
        "GET /a\"b\\c{d} HTTP/1.1\r\nhost: x\r\n".to_owned(),
        "GET /caf\u{e9}\u{9b}31m HTTP/1.1\r\nhost: x\r\n".to_owned(),
        "BR\"EW /pot HTTP/1.1\r\nhost: x\r\n".to_owned(),
        "GET / HTTP/1.1\r\nhost: x\r\nx-request-id: a\"b\r\n".to_owned(),
        format!("GET /{} HTTP/1.1\r\nhost: x\r\n", "\"".repeat(8000)),
    ] {
        raw(peace.address(), &format!("{head}connection: close\r\n\r\n"));
    }
    log_in(&peace, &[("username", "a%0A%7B%22forged%22:1%7D"), ("password", "b")]);
    peace.ask(&post("/users").json(&json!({"name": forged, "password": forged})));
    let ended = peace.stop(SOON);
    assert_eq!(ended.code, Some(0));
    let lines: Vec<Value> =
        ended.lines.iter().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert!(lines.iter().all(|line| line["path"] != "/forged" && line.get("forged").is_none()));
    assert!(lines.iter().any(|line| line["path"] == encoded), "the path is there as it came");
    assert!(!ended.lines.iter().any(|line| line.contains(char::is_control)));
}

/// Sends these bytes and reads to the end.
fn raw(server: SocketAddr, bytes: &str) {
    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(bytes.as_bytes()).unwrap();
    // Whether it is answered or reset is not the question here.
    let _ = stream.read_to_end(&mut Vec::new());
}

#[test]
fn no_secret_is_in_the_log_at_any_level() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let launch = Launch::on(&turn, &database).workers(1).env("JWT_SECRET_KEY", SECRET);
    let mut peace = launch.env("RUST_LOG", "trace").serve();
    let ann = sign_up(&peace, "ann");
    let place = add_item(&peace, &ann, "a-parameter-value");
    peace.ask(&get(format!("{place}?token=a-query-value")));
    peace.ask(&get("/items?user_pubid=a-query-value"));
    let (current, new) = (PASSWORD, "another-password");
    let body = json!({"current": "a-wrong-password", "new": new});
    let password = format!("{}/password", ann.place);
    assert_eq!(peace.ask(&put(&password).bearer(&ann.token).json(&body)).status, 403);
    let body = json!({"current": current, "new": new});
    assert_eq!(peace.ask(&put(&password).bearer(&ann.token).json(&body)).status, 204);
    log_in(&peace, &[("username", "ann"), ("password", "a-wrong-password")]);
    peace.ask(&post("/auth/refresh").form(&[("refresh_token", &ann.refresh_token)]));
    peace.ask(&put(&ann.place).bearer("a-token.of.nobody").json(&json!({"fullname": "x"})));
    let twice = post("/users").json(&json!({"name": "ann", "password": PASSWORD}));
    assert_eq!(peace.ask(&twice.header("idempotency-key", "a-key-of-mine")).status, 409);
    let log = peace.stop(SOON).lines.join("\n");
    assert!(log.contains("\"level\":\"DEBUG\""), "it is the log of a curious person");
    let secrets = [
        PASSWORD,
        new,
        SECRET,
        &ann.token,
        &ann.refresh_token,
        "a-wrong-password",
        "a-parameter-value",
        "a-query-value",
        "a-token.of",
        "a-key-of-mine",
        "$argon2id",
    ];
    for secret in secrets {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

#[test]
fn a_log_file_that_is_moved_away_takes_its_lines_along_and_none_is_lost() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let launch = Launch::on(&turn, &database).workers(2).args(["--log-file", "peace.log"]);
    let mut peace = launch.start();
    let folder = peace.folder().to_owned();
    let [first, second, third] =
        ["peace.log.2", "peace.log.1", "peace.log"].map(|name| folder.join(name));
    until("it serves", SOON, || {
        lines(&third).into_iter().find(|line| line["message"] == "serving")
    });
    let address = listening(&third);
    let (mut one, mut other) =
        (Connection::open(address).unwrap(), Connection::open(address).unwrap());
    let mut ask = |numbers: std::ops::Range<u32>| {
        for number in numbers {
            let asked = get("/health/live").header("x-request-id", number.to_string());
            let connection = if number % 2 == 0 { &mut one } else { &mut other };
            assert_eq!(connection.send(&asked).unwrap().status, 200);
        }
    };
    ask(0..200);
    for moved in [&first, &second] {
        fs::rename(&third, moved).unwrap();
        ask(200..300);
        peace.signal(Signal::SIGUSR1);
        // Whoever has not heard of it yet writes to the old one.
        until("the new file has lines of requests", SOON, || {
            ask(300..310);
            lines(&third).into_iter().find(|line| line["target"] == "access")
        });
        ask(400..500);
    }
    ask(1000..1500);
    let ended = peace.stop(SOON);
    assert_eq!((ended.code, ended.lines.as_slice()), (Some(0), &[] as &[String]));
    let all = [first, second, third].map(|path| lines(&path));
    let ids = |lines: &[Value]| {
        let ids = lines.iter().filter_map(|line| line["request_id"].as_str()?.parse::<u32>().ok());
        ids.collect::<BTreeSet<_>>()
    };
    assert!((0..200).all(|id| ids(&all[0]).contains(&id)), "what came before is in the old one");
    assert!(!ids(&all[2]).contains(&0) && ids(&all[2]).contains(&1499));
    let access = all.iter().flatten().filter(|line| line["target"] == "access");
    let asked: BTreeSet<u32> =
        (0..310).chain(400..500).chain(1000..1500).collect::<BTreeSet<u32>>();
    let told: Vec<u32> =
        access.filter_map(|line| line["request_id"].as_str()?.parse().ok()).collect();
    assert_eq!(told.iter().copied().collect::<BTreeSet<_>>(), asked);
    for number in (0..200).chain(1000..1500) {
        let times = told.iter().filter(|told| **told == number).count();
        assert_eq!(times, 1, "request {number}");
    }
}

#[test]
fn workers_who_may_open_nothing_write_into_the_new_file_as_well() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let launch = Launch::on(&turn, &database).workers(2).args(["--log-file", "peace.log"]);
    let launch = launch.args(["--admin-bind", "127.0.0.1:0"]);
    let mut peace = match geteuid().is_root() {
        true => launch.args(["--user", &somebody(&database)]),
        // Nobody else can have workers of another user.
        false => launch,
    }
    .start();
    let [old, new] = ["peace.log.1", "peace.log"].map(|name| peace.folder().join(name));
    until("it serves", SOON, || lines(&new).into_iter().find(|line| line["message"] == "serving"));
    let address = listening(&new);
    let ask = || assert_eq!(get("/health/live").fresh(address).unwrap().status, 200);
    fs::rename(&new, &old).unwrap();
    peace.signal(Signal::SIGUSR1);
    until("both workers write into the new file", SOON, || {
        (0..4).for_each(|_| ask());
        let lines = lines(&new);
        let access = lines.iter().filter(|line| line["target"] == "access");
        let slots: BTreeSet<_> = access.filter_map(|line| line["slot"].as_u64()).collect();
        (slots.len() == 2).then_some(())
    });
    let before = fs::read(&old).unwrap();
    (0..100).for_each(|_| ask());
    let ended = peace.stop(SOON);
    assert_eq!((ended.code, ended.lines.as_slice()), (Some(0), &[] as &[String]));
    assert_eq!(fs::read(&old).unwrap(), before, "nobody writes into the old one");
    let left = lines(&new).into_iter().filter(|line| line["message"] == "left").count();
    assert_eq!(left, 3, "the workers and the admin process");
}

/// Where the log says that the workers listen; the admin process may have said it before.
fn listening(log: &Path) -> SocketAddr {
    let lines = lines(log);
    let told = lines.iter().find(|line| line["message"] == "listening");
    told.and_then(|line| line["address"].as_str()).expect("it said so").parse().unwrap()
}

/// The lines of a log file; none where there is no such file.
fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

#[test]
fn a_log_file_that_cannot_be_opened_is_told_before_anything_runs() {
    let turn = Turn::shared();
    let ended = Launch::bare(&turn).args(["--log-file", "absent/peace.log"]).run(SOON);
    assert_eq!((ended.code, ended.lines.len()), (Some(71), 1), "{:?}", ended.lines);
    for part in ["absent/peace.log", "No such file", "--log-file"] {
        assert!(ended.lines[0].contains(part), "{part:?} is not in: {}", ended.lines[0]);
    }
}
