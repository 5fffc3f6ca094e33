//! Traces: which one a request is a part of, and what a collector gets of it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::api::sign_up;
use crate::harness::wait::until;
use crate::harness::{Connection, Database, Launch, Peace, Turn, get, post};

const SOON: Duration = Duration::from_secs(10);
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// A collector that takes what it gets.
struct Collector {
    address: SocketAddr,
    documents: Receiver<Value>,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (given, documents) = channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let given = given.clone();
                thread::spawn(move || {
                    let mut stream = BufReader::new(stream.unwrap());
                    while let Some(document) = receive(&mut stream) {
                        // The test may have seen enough.
                        let _ = given.send(document);
                    }
                });
            }
        });
        Self { address, documents }
    }

    /// The spans of the trace, once the request's own is among them.
    fn spans_of(&self, trace: &str) -> Vec<Value> {
        let begin = Instant::now();
        loop {
            let left = SOON.saturating_sub(begin.elapsed());
            let document = self.documents.recv_timeout(left).expect("the trace comes");
            let all = document["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().cloned();
            let mut spans = all.expect("a list of spans");
            spans.retain(|span| span["traceId"] == trace);
            if !spans.is_empty() {
                let resource = document["resourceSpans"][0]["resource"]["attributes"].to_string();
                assert!(
                    resource.contains(r#"{"key":"service.name","value":{"stringValue":"peace"}}"#)
                );
                return spans;
            }
        }
    }
}

/// Reads a request and answers it. `None`: there is no further one.
fn receive(stream: &mut BufReader<TcpStream>) -> Option<Value> {
    let (mut length, mut lines) = (0, Vec::new());
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok().filter(|length| *length > 0)?;
        if line.trim_end().is_empty() {
            break;
        }
        if let Some(text) = line.strip_prefix("content-length: ") {
            length = text.trim_end().parse().unwrap();
        }
        lines.push(line);
    }
    assert_eq!(lines[0].trim_end(), "POST /v1/traces HTTP/1.1");
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    let answer =
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
    stream.get_mut().write_all(answer).ok()?;
    Some(serde_json::from_slice(&body).unwrap())
}

/// A server that exports traces, and trusts us.
fn traced(turn: &Turn, database: &Database<'_>, collector: SocketAddr) -> Launch {
    exporting(turn, database, collector).args(["--trusted-proxies", "127.0.0.1"])
}

/// One that trusts nobody.
fn exporting(turn: &Turn, database: &Database<'_>, collector: SocketAddr) -> Launch {
    let endpoint = format!("http://{collector}");
    Launch::on(turn, database).workers(1).env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)
}

/// The trace that the line of this request names.
fn trace_of(peace: &Peace, request_id: &str) -> Option<String> {
    let line = peace.await_event("the request's line", 0, SOON, |event| {
        event.text_of("target") == Some("access") && event.text_of("request_id") == Some(request_id)
    });
    line.text_of("trace_id").map(str::to_owned)
}

fn ns(span: &Value, member: &str) -> u128 {
    span[member].as_str().unwrap().parse().unwrap()
}

fn attribute<'a>(span: &'a Value, key: &str) -> Option<&'a str> {
    let attributes = span["attributes"].as_array().unwrap();
    let found = attributes.iter().find(|attribute| attribute["key"] == key)?;
    found["value"]["stringValue"].as_str().or(found["value"]["intValue"].as_str())
}

#[test]
fn a_trace_shows_what_a_request_waited_for() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let collector = Collector::start();
    let peace = traced(&turn, &database, collector.address).serve();
    let ann = sign_up(&peace, "ann");
    let item = json!({"name": "a-secret-lamp", "user_pubid": ann.pubid});
    let asked = post("/items?secret").bearer(&ann.token).json(&item);
    let asked = asked.header("traceparent", format!("00-{TRACE}-{CALLER}-01"));
    let reply = peace.ask(&asked.header("tracestate", "a=1").header("x-request-id", "mine"));
    assert_eq!(reply.status, 201);
    assert_eq!(trace_of(&peace, "mine").as_deref(), Some(TRACE));

    let spans = collector.spans_of(TRACE);
    let named: BTreeMap<&str, &Value> =
        spans.iter().map(|span| (span["name"].as_str().unwrap(), span)).collect();
    let want = ["POST /items", "accept", "handler", "insert", "pool wait"];
    assert_eq!(named.keys().copied().collect::<Vec<_>>(), want);
    let [server, accept, handler, query, wait] = want.map(|name| named[name]);
    assert_eq!((&server["parentSpanId"], &server["kind"]), (&json!(CALLER), &json!(2)));
    assert_eq!((&server["traceState"], &query["kind"]), (&json!("a=1"), &json!(3)));
    for (child, parent) in [(accept, server), (handler, server), (query, handler), (wait, handler)]
    {
        assert_eq!(child["parentSpanId"], parent["spanId"], "{child} in {parent}");
        // The wall's clock is asked once for all, so that they nest to the nanosecond.
        assert!(ns(child, "startTimeUnixNano") >= ns(parent, "startTimeUnixNano"), "{spans:#?}");
        assert!(ns(child, "endTimeUnixNano") <= ns(parent, "endTimeUnixNano"), "{spans:#?}");
    }
    assert!(ns(accept, "endTimeUnixNano") <= ns(handler, "startTimeUnixNano"));
    assert!(ns(wait, "endTimeUnixNano") <= ns(query, "startTimeUnixNano"));
    assert!(ns(query, "endTimeUnixNano") > ns(query, "startTimeUnixNano"));
    assert_eq!(attribute(server, "http.route"), Some("/items"));
    assert_eq!(attribute(server, "http.response.status_code"), Some("201"));
    assert_eq!(attribute(server, "client.address"), Some("127.0.0.1"));
    assert_eq!(attribute(query, "db.system.name"), Some("postgresql"));
    assert!(attribute(query, "db.query.text").unwrap().contains("$1"));
    let all = json!(spans).to_string();
    assert!(!all.contains("secret") && !all.contains(&ann.token), "{all}");
}

#[test]
fn a_trusted_caller_decides_about_its_trace_and_chance_about_others() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let collector = Collector::start();
    let launch = traced(&turn, &database, collector.address);
    let peace = launch.args(["--trace-sample", "0"]).serve();
    let ask = |name: &str, parent: &str| {
        let asked = get("/health/live").header("x-request-id", name);
        assert_eq!(peace.ask(&asked.header("traceparent", parent)).status, 200);
        trace_of(&peace, name).expect("each belongs to a trace")
    };
    let unsampled = "5bf92f3577b34da6a3ce929d0e0e4736";
    assert_eq!(ask("unsampled", &format!("00-{unsampled}-{CALLER}-00")), unsampled);
    let fresh = ask("malformed", &format!("00-{}-{CALLER}-01", TRACE.to_uppercase()));
    assert!(fresh.len() == 32 && !fresh.eq_ignore_ascii_case(TRACE), "{fresh}");
    assert_ne!(ask("another", "ff-x"), fresh);
    assert_eq!(ask("sampled", &format!("00-{TRACE}-{CALLER}-01")), TRACE);
    let spans = collector.spans_of(TRACE);
    let names: Vec<&str> = spans.iter().filter_map(|span| span["name"].as_str()).collect();
    assert_eq!(names, ["GET /health/live", "accept", "handler"]);
    drop(peace);
    // It has sent what it had, and nothing of the others.
    assert!(collector.documents.try_iter().next().is_none());
}

#[test]
fn a_strangers_trace_is_linked_and_neither_joined_nor_followed() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let collector = Collector::start();
    let peace = exporting(&turn, &database, collector.address).serve();
    let asked = get("/health/live").header("x-request-id", "mine").header("tracestate", "a=1");
    peace.ask(&asked.header("traceparent", format!("00-{TRACE}-{CALLER}-00")));
    let ours = trace_of(&peace, "mine").expect("each belongs to a trace");
    assert_ne!(ours, TRACE);
    let spans = collector.spans_of(&ours);
    let server = spans.iter().find(|span| span["kind"] == 2).expect("the request's own span");
    assert_eq!(server["links"], json!([{"traceId": TRACE, "spanId": CALLER}]));
    assert!(server.get("parentSpanId").is_none() && server.get("traceState").is_none(), "{server}");
    drop(peace);
    while collector.documents.try_recv().is_ok() {}

    let launch = exporting(&turn, &database, collector.address);
    let mut peace = launch.args(["--trace-sample", "0"]).serve();
    for _ in 0..100 {
        let asked = get("/health/live").header("traceparent", format!("00-{TRACE}-{CALLER}-01"));
        assert_eq!(peace.ask(&asked).status, 200);
    }
    assert_eq!(peace.stop(SOON).code, Some(0));
    assert!(collector.documents.try_iter().next().is_none(), "nobody pays for what he asks for");
}

#[test]
fn without_a_collector_a_line_names_the_callers_trace_and_no_other() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(1).serve();
    let asked = |name: &str| get("/health/live").header("x-request-id", name);
    peace.ask(&asked("one").header("traceparent", format!("00-{TRACE}-{CALLER}-01")));
    peace.ask(&asked("two").header("traceparent", "00-0-0-01"));
    peace.ask(&asked("three"));
    assert_eq!(trace_of(&peace, "one").as_deref(), Some(TRACE));
    assert_eq!((trace_of(&peace, "two"), trace_of(&peace, "three")), (None, None));
}

#[test]
fn the_last_spans_are_sent_when_the_server_stops() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let collector = Collector::start();
    let mut peace = traced(&turn, &database, collector.address).serve();
    let asked = get("/health/live").header("traceparent", format!("00-{TRACE}-{CALLER}-01"));
    assert_eq!(peace.ask(&asked).status, 200);
    let ended = peace.stop(SOON);
    assert_eq!(ended.code, Some(0));
    assert!(!collector.spans_of(TRACE).is_empty());
}

/// A collector that lets everybody in and answers nobody.
fn hanging() -> (SocketAddr, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    (listener.local_addr().unwrap(), listener)
}

/// One that is not there.
fn absent() -> SocketAddr {
    hanging().0
}

#[test]
fn a_collector_that_hangs_or_is_gone_costs_no_request_and_is_told_once() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let well = Collector::start();
    let (hanging, _listener) = hanging();
    let log_off = ["--access-log", "off"];
    for (what, collector) in [("hangs", hanging), ("is gone", absent())] {
        let mut healthy = traced(&turn, &database, well.address).args(log_off).serve();
        let mut sick = traced(&turn, &database, collector).args(log_off).serve();
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        // Longer than a post may take.
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(6_500) {
            ask(healthy.address(), &mut good);
            ask(sick.address(), &mut bad);
        }
        let (good, bad) = (p99(good), p99(bad));
        eprintln!(
            "a collector that {what}: 99 % within {bad:?}, beside one that takes all {good:?}"
        );
        // On a busy machine a moment more or less says nothing.
        assert!(bad <= 2 * good + Duration::from_millis(5), "{what}: {bad:?} instead of {good:?}");
        let told = |peace: &Peace, part: &str| {
            let events = peace.log().events();
            events.iter().filter(|event| event.text.contains(part)).count()
        };
        until("it is told", SOON, || (told(&sick, "traces are dropped") > 0).then_some(()));
        assert_eq!(told(&sick, "traces are dropped"), 1, "{what}");
        assert_eq!(told(&healthy, "traces are dropped"), 0);
        assert_eq!((sick.stop(SOON).code, healthy.stop(SOON).code), (Some(0), Some(0)));
        let end = sick
            .log()
            .await_event("how many", 0, SOON, |event| event.is("traces were dropped to the end"));
        assert!(end.number_of("dropped") > Some(0), "{}", end.text);
        while well.documents.try_recv().is_ok() {}
    }
}

fn ask(server: SocketAddr, took: &mut Vec<Duration>) {
    let mut connection = Connection::open(server).unwrap();
    for _ in 0..100 {
        let begin = Instant::now();
        assert_eq!(connection.send(&get("/health/live")).unwrap().status, 200);
        took.push(begin.elapsed());
    }
}

fn p99(mut took: Vec<Duration>) -> Duration {
    took.sort_unstable();
    took[took.len() * 99 / 100]
}

#[test]
fn answers_say_what_they_waited_for_in_development_only() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(1).serve();
    let timing = peace.ask(&get("/users")).header("server-timing").map(str::to_owned);
    let timing = timing.expect("the header is there");
    let parts: BTreeMap<&str, f64> = timing
        .split(", ")
        .map(|part| part.split_once(";dur=").unwrap())
        .map(|(name, ms)| (name, ms.parse().unwrap()))
        .collect();
    assert_eq!(parts.keys().collect::<Vec<_>>(), [&"db", &"pool", &"total"]);
    assert!(parts["db"] > 0.0 && parts["total"] >= parts["db"], "{timing}");
    drop(peace);
    let launch = Launch::on(&turn, &database).workers(1).args(["--env", "production"]);
    let peace = launch.env("JWT_SECRET_KEY", "0123456789abcdefghijklmnopqrstuvwxyz").serve();
    assert_eq!(peace.ask(&get("/users")).header("server-timing"), None);
}
