//! What nobody would send: bytes, tokens, cursors and datetimes that are made up, and right ones with a
//! small change. Each gets a refusal of its own, and none is the server's failure.

use std::cell::{Cell, RefCell};

use peace::datetimes::DateTime;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};
use worker::{Rule, Value};

use super::wire::Wire;
use super::{FORM, asking, posting_body};
use crate::harness::api::sign_up;
use crate::harness::{Connection, Database, Launch, Peace, Turn, get, jwt, put};

const CASES: u32 = 300;

/// One at a time, over a real connection; what fails is told, and written nowhere.
fn runner() -> TestRunner {
    TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() })
}

/// Bytes with one of them changed, left out or put in.
fn changed(bytes: &[u8], at: Index, how: u8, byte: u8) -> Vec<u8> {
    let (mut bytes, at) = (bytes.to_vec(), at.index(bytes.len()));
    match how % 3 {
        0 => bytes[at] = byte,
        1 => bytes.insert(at, byte),
        _ => drop(bytes.remove(at)),
    }
    bytes
}

#[test]
fn no_bytes_are_the_servers_failure() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(1).serve();
    let workers = peace.workers();
    let chunks = "f\r\nrefresh_token=x\r\n0\r\n\r\n";
    let right = [
        [asking("connection: keep-alive\r\n"), asking("")].concat(),
        posting_body("content-length: 15\r\n", FORM),
        posting_body("transfer-encoding: chunked\r\n", chunks),
    ];
    let change = (any::<Index>(), any::<Index>(), any::<u8>(), any::<u8>());
    let nearly = change.prop_map(move |(which, at, how, byte)| {
        changed(&right[which.index(right.len())], at, how, byte)
    });
    let strategy = prop_oneof![1 => vec(any::<u8>(), 0..400), 4 => nearly];
    runner()
        .run(&strategy, |bytes| {
            let statuses = statuses(&peace, &bytes).map_err(TestCaseError::fail)?;
            prop_assert!(statuses.iter().all(|status| *status < 500 || *status == 501));
            Ok(())
        })
        .unwrap();
    assert_eq!(peace.ask(&get("/health/live")).status, 200);
    assert_eq!(peace.workers(), workers);
    check_log(&peace);
}

/// The statuses that some bytes get from a client that has no more to say.
fn statuses(peace: &Peace, bytes: &[u8]) -> Result<Vec<u16>, String> {
    let mut wire = Wire::open(peace.address());
    wire.send(bytes);
    wire.shut();
    wire.statuses_to_the_end()
}

fn check_log(peace: &Peace) {
    let events = peace.log().events();
    let failure = events.iter().find(|event| event.text.contains(r#""level":"ERROR""#));
    assert!(failure.is_none(), "{failure:?}");
}

#[test]
fn no_change_to_a_token_or_a_cursor_is_overlooked() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(1).env("JWT_SECRET_KEY", jwt::SECRET).serve();
    let (ann, _bob) = (sign_up(&peace, "ann"), sign_up(&peace, "bob"));
    let page = peace.ask(&get("/users?limit=1")).json();
    let cursor = page["page"]["next_cursor"].as_str().unwrap();
    let connection = RefCell::new(Connection::open(peace.address()).unwrap());
    let ask = |authorization: String| {
        let request = put(ann.place.clone()).header("authorization", authorization);
        connection.borrow_mut().send(&request.json(&serde_json::json!({}))).unwrap().status
    };
    assert_eq!(ask(format!("Bearer {}", ann.token)), 200, "the right one");
    let sign = "[!-~]";
    let made_up = "[ -~]{0,200}|[Bb]earer [ -~]{0,80}|Bearer [A-Za-z0-9_-]{0,40}\\.[A-Za-z0-9_-]{0,40}\\.[A-Za-z0-9_-]{0,43}";
    runner()
        .run(&(made_up, any::<Index>(), any::<u8>(), sign), |(made_up, at, how, sign)| {
            prop_assert_eq!(ask(made_up), 401);
            let nearly = changed(ann.token.as_bytes(), at, how, sign.as_bytes()[0]);
            let nearly = String::from_utf8(nearly).unwrap();
            let expected = if nearly == ann.token { 200 } else { 401 };
            prop_assert_eq!(ask(format!("Bearer {nearly}")), expected, "{}", nearly);
            Ok(())
        })
        .unwrap();

    let page = |cursor: &str| {
        connection.borrow_mut().send(&get(format!("/users?cursor={cursor}"))).unwrap().status
    };
    assert_eq!(page(cursor), 200, "the right one");
    runner()
        .run(&("[0-9a-zA-Z%._~-]{1,80}", any::<Index>(), any::<u8>(), "[0-9a-zA-Z]"), |input| {
            let (made_up, at, how, sign) = input;
            prop_assert_eq!(page(&made_up), 422);
            let nearly = changed(cursor.as_bytes(), at, how, sign.as_bytes()[0]);
            let nearly = String::from_utf8(nearly).unwrap();
            prop_assert_eq!(page(&nearly), if nearly == cursor { 200 } else { 422 }, "{}", nearly);
            Ok(())
        })
        .unwrap();
    check_log(&peace);
}

/// In the years 1 to 9999, or nearly.
const DATETIMES: &str = "\\PC{0,30}|[0-9]{4}-[0-1][0-9]-[0-3][0-9]\
    ([Tt_ ][0-2][0-9]:[0-5][0-9](:[0-6][0-9]([.,][0-9]{0,12})?)?([Zz]|[+-][0-2][0-9]:?[0-5][0-9])?)?";

#[test]
fn a_datetime_that_is_read_is_written_as_what_is_read_again() {
    let read = |text: &str| DateTime.check(&Value::Text(text.into())).ok();
    let taken = Cell::new(0);
    let config = Config { cases: 4_000, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(&DATETIMES, |text| {
        let Some(moment) = read(&text) else { return Ok(()) };
        let written = moment.to_string();
        prop_assert_eq!(read(&written), Some(moment), "{} as {}", text, written);
        prop_assert!(written.len() == 19 || written.len() == 26, "{}", written);
        taken.set(taken.get() + 1);
        Ok(())
    });
    outcome.unwrap();
    assert!(taken.get() > 200, "many are right: {taken:?}");
}
