//! HTTP/1.1 byte by byte: a table of raw requests, each with the answers that it must get and whether
//! its connection goes on.
//!
//! Every row is one connection to the real server. Whatever it is answered, each answer is whole: one
//! request id, the headers that all answers have, and a problem where it is a refusal.
//! Source: RFC 9110 and 9112; where they leave a choice, the row says what this server chose.

mod bodies;
mod connections;
mod heads;
mod limits;
mod made_up;
mod wire;

use std::fmt::Write;

use self::wire::{Answer, Wire, check_whole};
use crate::harness::api::{User, add_item, sign_up};
use crate::harness::{Connection, Database, Launch, Peace, Turn, get, request};

/// What becomes of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    /// The next request is answered.
    Open,
    /// It ends, without a reset and without one byte more.
    Closed,
}
use After::{Closed, Open};

/// Some bytes, and what they must get.
struct Row {
    /// What the row proves.
    name: String,
    /// Where that is written.
    source: &'static str,
    sent: Vec<u8>,
    /// What is sent when the first answer is there.
    then: Vec<u8>,
    /// Whether the client shuts its side afterwards.
    is_half_closed: bool,
    /// The statuses of all answers, in order.
    gets: Vec<u16>,
    /// A header of the last one.
    header: Option<(&'static str, &'static str)>,
    /// What its body must contain.
    text: &'static str,
    after: After,
}

fn row(
    source: &'static str,
    name: impl Into<String>,
    sent: impl Into<Vec<u8>>,
    gets: impl Into<Vec<u16>>,
    after: After,
) -> Row {
    let (name, sent, gets) = (name.into(), sent.into(), gets.into());
    let (then, is_half_closed, header, text) = (Vec::new(), false, None, "");
    Row { name, source, sent, then, is_half_closed, gets, header, text, after }
}

impl Row {
    /// Sends more when the first answer is there.
    fn then(self, more: impl Into<Vec<u8>>) -> Self {
        Self { then: more.into(), ..self }
    }

    /// Shuts the client's side when all is sent.
    fn half_closed(self) -> Self {
        Self { is_half_closed: true, ..self }
    }

    /// The last answer must have this header.
    fn with(self, name: &'static str, value: &'static str) -> Self {
        Self { header: Some((name, value)), ..self }
    }

    /// The body of the last answer must contain this.
    fn saying(self, text: &'static str) -> Self {
        Self { text, ..self }
    }

    /// Sends it, and says how the server deviates from what it must do.
    fn run(&self, peace: &Peace) -> Result<(), String> {
        let mut wire = Wire::open(peace.address());
        let is_head = self.sent.starts_with(b"HEAD ");
        wire.send(&self.sent);
        if self.is_half_closed {
            wire.shut();
        }
        for (turn, want) in self.gets.iter().enumerate() {
            let answer = wire.answer(is_head)?;
            if answer.status != *want {
                return Err(format!("answer {turn} is {}, not {want}", answer.status));
            }
            check_whole(&answer)?;
            if turn == 0 {
                wire.send(&self.then);
            }
            if turn + 1 == self.gets.len() {
                self.check_last(&answer)?;
            }
        }
        match self.after {
            Closed => wire.check_closed(),
            Open => wire.check_open(),
        }
    }

    fn check_last(&self, answer: &Answer) -> Result<(), String> {
        let body = String::from_utf8_lossy(&answer.body);
        let has_header = self.header.is_none_or(|(name, value)| answer.header(name) == Some(value));
        match has_header && body.contains(self.text) {
            true => Ok(()),
            false => Err(format!("the answer is {:?} {body}", answer.headers)),
        }
    }
}

/// A request for something that is always there, with more lines in its head.
fn asking(lines: &str) -> Vec<u8> {
    format!("GET /health/live HTTP/1.1\r\nhost: x\r\n{lines}\r\n").into_bytes()
}

/// The same, with another request line.
fn asking_as(request_line: &str) -> Vec<u8> {
    format!("{request_line}\r\nhost: x\r\n\r\n").into_bytes()
}

/// A form that is refused with 401 when it is received whole, and with 422 when it is not.
const FORM: &str = "refresh_token=x";

/// The head of a request with that form, but for what says how long it is.
fn posting(lines: &str) -> String {
    format!(
        "POST /auth/refresh HTTP/1.1\r\nhost: x\r\n\
         content-type: application/x-www-form-urlencoded\r\n{lines}\r\n"
    )
}

/// A request with these lines and bytes for its body.
fn posting_body(lines: &str, body: &str) -> Vec<u8> {
    format!("{}{body}", posting(lines)).into_bytes()
}

#[test]
fn every_row_gets_what_the_standards_say() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(1).serve();
    let rows: Vec<Row> = [heads::rows(), bodies::rows(), connections::rows(), limits::rows()]
        .into_iter()
        .flatten()
        .collect();
    let mut deviations = String::new();
    for row in &rows {
        if let Err(deviation) = row.run(&peace) {
            let _ = writeln!(deviations, "{}: {} ({})", row.source, row.name, deviation);
        }
    }
    eprintln!("{} rows", rows.len());
    assert!(deviations.is_empty(), "of {} rows:\n{deviations}", rows.len());
    assert!(rows.len() >= 60);
}

/// RFC 9110 section 9.3.2: all that GET says but the body.
#[test]
fn head_has_the_headers_of_get_for_every_route() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(1).serve();
    let ann = sign_up(&peace, "ann");
    let item = add_item(&peace, &ann, "thing");
    let routes = peace::resources::routes(false);
    let mut connection = Connection::open(peace.address()).unwrap();
    let mut asked = 0;
    for operation in routes.operations().filter(|operation| operation.method == "GET") {
        let target = target(operation, &ann, &item);
        let whole = connection.send(&get(&target)).unwrap();
        let head = connection.send(&request("HEAD", &target)).unwrap();
        assert_eq!((head.status, head.body.len()), (whole.status, 0), "{target}");
        assert_eq!(head.status, operation.success.status, "{target}");
        for (name, value) in whole.headers() {
            let differs = ["date", "server-timing", "x-request-id"].contains(&name);
            assert!(differs || head.header(name) == Some(value), "{target}: {name}: {value}");
        }
        assert_eq!(head.headers().count(), whole.headers().count(), "{target}");
        asked += 1;
    }
    assert!(asked >= 5, "{asked}");
}

/// What to ask an operation for, which needs a token in no case: what is read is open to all.
fn target(operation: &worker::Operation, ann: &User, item: &str) -> String {
    let place = if operation.pattern.starts_with("/items") { item } else { &ann.place };
    let id = place.rsplit('/').next().unwrap();
    let fields = operation.inputs.iter().flat_map(|input| &input.spec.fields);
    let needs_user = fields.into_iter().any(|field| field.required && field.name == "user_pubid");
    let query = if needs_user { format!("?user_pubid={}", ann.pubid) } else { String::new() };
    operation.pattern.replace("{pubid}", id) + &query
}
