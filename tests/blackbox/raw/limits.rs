//! Limits, at their edges: `n` is served, `n` and one more is refused.

use super::{Closed, FORM, Open, Row, asking_as, posting, posting_body, row};

const URI_MAX: usize = 8 * 1024;
const FIELDS_MAX: usize = 100;
const HEAD_MAX: usize = 32 * 1024;
const BODY_MAX: usize = 1024 * 1024;
const FORM_MAX: usize = 64 * 1024;
const DEPTH_MAX: usize = 64;

pub(super) fn rows() -> Vec<Row> {
    [heads(), forms(), bodies(), depths()].into_iter().flatten().collect()
}

fn heads() -> Vec<Row> {
    let target = |length: usize| {
        let start = "/health/live?";
        asking_as(&format!("GET {start}{} HTTP/1.1", "x".repeat(length - start.len())))
    };
    // The host is a field, too.
    let fields = |count: usize| super::asking(&"a: b\r\n".repeat(count - 1));
    let head = |length: usize| {
        let rest = super::asking("a: \r\n").len();
        super::asking(&format!("a: {}\r\n", "x".repeat(length - rest)))
    };
    vec![
        row("9110 15.5.15", "a target of 8 KiB", target(URI_MAX), [200], Open),
        row("9110 15.5.15", "one byte more", target(URI_MAX + 1), [414], Open),
        row("6585 5", "100 fields", fields(FIELDS_MAX), [200], Open),
        row("6585 5", "one more", fields(FIELDS_MAX + 1), [431], Closed),
        row("6585 5", "a head of 32 KiB", head(HEAD_MAX), [200], Open),
        row("6585 5", "one byte more of it", head(HEAD_MAX + 1), [431], Closed),
        // A 414 would be right (RFC 9112 section 3), but its line is never seen whole.
        row("6585 5", "a target that is longer than a head", target(HEAD_MAX), [431], Closed),
        row("6585 5", "a field that has no end", head(16 * 1024 * 1024), [431], Closed),
    ]
}

/// As chunks of 32 KiB.
fn chunked(body: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for chunk in body.as_bytes().chunks(32 * 1024) {
        bytes.extend(format!("{:x}\r\n", chunk.len()).bytes().chain(chunk.iter().copied()));
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"0\r\n\r\n");
    bytes
}

fn forms() -> Vec<Row> {
    let form = |length: usize| format!("{FORM}&a={}", "y".repeat(length - FORM.len() - 3));
    let whole =
        |length: usize| posting_body(&format!("content-length: {length}\r\n"), &form(length));
    let in_chunks = |length: usize| {
        [posting("transfer-encoding: chunked\r\n").into_bytes(), chunked(&form(length))].concat()
    };
    vec![
        row("9110 15.5.14", "a form of 64 KiB", whole(FORM_MAX), [401], Open),
        row("9110 15.5.14", "one byte more of it", whole(FORM_MAX + 1), [413], Closed),
        row("9110 15.5.14", "a form of 64 KiB in chunks", in_chunks(FORM_MAX), [401], Open),
        row("9110 15.5.14", "one byte more in chunks", in_chunks(FORM_MAX + 1), [413], Open),
        row(
            "9110 15.5.14",
            "a length that nobody can send",
            posting("content-length: 18446744073709551613\r\n"),
            [413],
            Closed,
        ),
    ]
}

fn post_json(lines: &str) -> Vec<u8> {
    let head = "POST /users HTTP/1.1\r\nhost: x\r\ncontent-type: application/json";
    format!("{head}\r\n{lines}\r\n").into_bytes()
}

/// All of these are refused, but one of 422 was read to its end.
fn bodies() -> Vec<Row> {
    let body = |length: usize| format!(r#"{{"a":"{}"}}"#, "x".repeat(length - 8));
    let whole = |length: usize| {
        [post_json(&format!("content-length: {length}\r\n")), body(length).into_bytes()].concat()
    };
    let in_chunks = |length: usize| {
        [post_json("transfer-encoding: chunked\r\n"), chunked(&body(length))].concat()
    };
    let endless = [
        post_json("transfer-encoding: chunked\r\n"),
        [b"8000\r\n".to_vec(), vec![b'x'; 0x8000], b"\r\n".to_vec()].concat().repeat(200),
    ];
    vec![
        row("9110 15.5.14", "a body of 1 MiB", whole(BODY_MAX), [422], Open),
        row("9110 15.5.14", "one byte more of a body", whole(BODY_MAX + 1), [413], Closed),
        row("9110 15.5.14", "a body of 1 MiB in chunks", in_chunks(BODY_MAX), [422], Open),
        row("9110 15.5.14", "one byte more of chunks", in_chunks(BODY_MAX + 1), [413], Open),
        row("9110 15.5.14", "chunks that have no end", endless.concat(), [413], Closed),
    ]
}

/// A name is no list: that is found out when the JSON is read, and not when it is refused before.
fn depths() -> Vec<Row> {
    let nested = |depth: usize| {
        let inner = depth - 1;
        let body = format!(r#"{{"name":{}{}}}"#, "[".repeat(inner), "]".repeat(inner));
        let head = post_json(&format!("content-length: {}\r\n", body.len()));
        [head, body.into_bytes()].concat()
    };
    vec![
        row("8259 9", "JSON of depth 64", nested(DEPTH_MAX), [422], Open).saying("string_type"),
        row("8259 9", "of depth 65", nested(DEPTH_MAX + 1), [422], Open).saying("json_invalid"),
        row("8259 9", "of depth 10,000", nested(10_000), [422], Open).saying("json_invalid"),
    ]
}
