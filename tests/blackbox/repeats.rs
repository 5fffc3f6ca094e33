//! Requests that come again: `Idempotency-Key`, on one worker and on several, and when one has died.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::api::{PASSWORD, User, check_problem, failures, sign_up};
use crate::harness::client::{Reply, Request};
use crate::harness::declared;
use crate::harness::peace::signal_to;
use crate::harness::wait::until_true;
use crate::harness::{Connection, Database, Launch, Peace, Turn, get, jwt, post, proc, request};

const TIMES: usize = 200;
const SOON: Duration = Duration::from_secs(10);

fn item(user: &User, name: &str) -> Request {
    let body = json!({"name": name, "user_pubid": user.pubid});
    post("/items").bearer(&user.token).json(&body)
}

fn keyed(request: Request, key: &str) -> Request {
    request.header("idempotency-key", key)
}

fn is_replay(reply: &Reply) -> bool {
    reply.header("idempotency-replayed") == Some("true")
}

/// What an answer has to have in common with the one of before.
fn same(reply: &Reply) -> (u16, Option<&str>, Option<&str>, Option<&str>, &[u8]) {
    let header = |name| reply.header(name);
    (reply.status, header("location"), header("etag"), header("content-type"), &reply.body)
}

fn count(database: &Database<'_>, sql: &str) -> i64 {
    database.sql().value(sql, &[])
}

/// A connection to each of two workers.
fn two_workers(peace: &Peace) -> [Connection; 2] {
    let pids: Vec<i32> = peace.workers().into_values().collect();
    let mut held = BTreeMap::new();
    until_true("connections to two workers", SOON, || {
        let mut connection = Connection::open(peace.address()).unwrap();
        assert_eq!(connection.send(&get("/health/live")).unwrap().status, 200);
        let holder = proc::holder(peace.address(), connection.local(), &pids);
        held.insert(holder.expect("a worker holds it"), connection);
        held.len() == 2
    });
    let held: Vec<Connection> = held.into_values().collect();
    held.try_into().expect("two of them")
}

#[test]
fn two_workers_that_get_one_request_at_once_do_it_once() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(2).serve();
    let ann = sign_up(&peace, "ann");
    let [mut one, mut other] = two_workers(&peace);
    for time in 0..TIMES {
        let asked = keyed(item(&ann, &format!("item {time}")), &format!("key-{time}"));
        let replies = thread::scope(|scope| {
            let (first, second) = (&asked, &asked);
            let one = scope.spawn(|| one.send(first).unwrap());
            let other = scope.spawn(|| other.send(second).unwrap());
            [one.join().unwrap(), other.join().unwrap()]
        });
        replies.iter().for_each(|reply| declared::check(&asked, reply));
        assert_eq!(same(&replies[0]), same(&replies[1]), "time {time}");
        assert_eq!(replies[0].status, 201, "time {time}");
        let replays = replies.iter().filter(|reply| is_replay(reply)).count();
        assert_eq!(replays, 1, "time {time}: one did it, the other one repeats its answer");
    }
    let twice = TIMES as i64;
    assert_eq!(count(&database, "select count(*) from item"), twice);
    assert_eq!(count(&database, "select count(distinct name) from item"), twice);
    assert_eq!(count(&database, "select count(*) from idempotency"), twice);
}

#[test]
fn a_user_who_signs_up_twice_at_once_is_one() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(2).serve();
    let [mut one, mut other] = two_workers(&peace);
    for time in 0..5 {
        let body = json!({"name": format!("user {time}"), "password": PASSWORD});
        let asked = keyed(post("/users").json(&body), &format!("\"key {time}\""));
        let replies = thread::scope(|scope| {
            let one = scope.spawn(|| one.send(&asked).unwrap());
            let other = scope.spawn(|| other.send(&asked).unwrap());
            [one.join().unwrap(), other.join().unwrap()]
        });
        assert_eq!(same(&replies[0]), same(&replies[1]));
        assert_eq!(
            (replies[0].status, replies.iter().filter(|one| is_replay(one)).count()),
            (201, 1)
        );
    }
    assert_eq!(count(&database, r#"select count(*) from "user""#), 5);
    let told: Vec<String> = database
        .sql()
        .rows("select t::text || convert_from(body, 'UTF8') from idempotency t", &[])
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(told.len(), 5);
    let hex: String = PASSWORD.bytes().map(|byte| format!("{byte:02x}")).collect();
    for row in told {
        let secret = [PASSWORD, &hex, "argon2", "password"].iter().any(|word| row.contains(word));
        assert!(!secret, "{row}");
    }
}

#[test]
fn what_was_answered_by_a_worker_that_is_dead_is_answered_again() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(2).serve();
    let ann = sign_up(&peace, "ann");
    let first = peace.ask_told(&keyed(item(&ann, "thing"), "once"));
    assert_eq!((first.status, is_replay(&first)), (201, false));
    let mark = peace.log().len();
    for worker in peace.workers().into_values() {
        signal_to(worker, Signal::SIGKILL);
    }
    for slot in 0..2 {
        peace.await_event("a successor", mark, SOON, |event| {
            event.is_worker("ready") && event.number_of("slot") == Some(slot)
        });
    }
    let again = peace.ask_told(&keyed(item(&ann, "thing"), "once"));
    assert!(is_replay(&again));
    assert_eq!(same(&again), same(&first));
    assert_eq!(count(&database, "select count(*) from item"), 1);
}

#[test]
fn a_key_is_one_request_of_one_user() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(1).serve();
    let (ann, bob) = (sign_up(&peace, "ann"), sign_up(&peace, "bob"));
    let ask = |request: Request| peace.ask_told(&keyed(request, "k"));
    let first = ask(item(&ann, "thing"));
    assert_eq!((first.status, first.header("etag")), (201, Some("\"1\"")));
    let place = first.header("location").unwrap();
    assert_eq!(peace.ask_told(&get(place)).json(), first.json());

    let other = ask(item(&ann, "another thing"));
    check_problem(&other, 422, "another body");
    assert_eq!(other.json()["type"], "/problems/idempotency-key-reused");
    let expected = [("header.idempotency-key".to_owned(), "value_error".to_owned())];
    assert_eq!(failures(&other), expected);

    // Another user's key is another key, and so is that of nobody.
    let theirs = ask(item(&bob, "thing"));
    assert_eq!((theirs.status, is_replay(&theirs)), (201, false));
    let user = json!({"name": "carl", "password": PASSWORD});
    let signed_up = ask(post("/users").json(&user));
    assert_eq!((signed_up.status, is_replay(&signed_up)), (201, false));
    assert!(is_replay(&ask(post("/users").json(&user))));

    // What it says stays, whatever has become of it.
    let gone = request("DELETE", place).bearer(&ann.token);
    assert_eq!(peace.ask_told(&gone).status, 200);
    let again = ask(item(&ann, "thing"));
    assert!(is_replay(&again));
    assert_eq!(same(&again), same(&first));
    let quoted = peace.ask_told(&keyed(item(&ann, "thing"), "\"k\""));
    assert!(is_replay(&quoted), "the same key in quotes");
}

#[test]
fn what_was_refused_is_not_kept() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(1).serve();
    let ann = sign_up(&peace, "ann");
    let ask = |body: &Value| peace.ask_told(&keyed(post("/users").json(body), "k"));
    check_problem(&ask(&json!({"name": "ann", "password": PASSWORD})), 409, "a taken name");
    check_problem(&ask(&json!({"name": "bob"})), 422, "no password");
    assert_eq!(count(&database, "select count(*) from idempotency"), 0);
    let mended = ask(&json!({"name": "bob", "password": PASSWORD}));
    assert_eq!((mended.status, is_replay(&mended)), (201, false), "the key is free");
    for key in ["", "\"\"", "a b", "a,b", "ä", &"k".repeat(256)] {
        let reply = peace.ask_told(&keyed(item(&ann, "thing"), key));
        check_problem(&reply, 400, key);
    }
    let twice = keyed(keyed(item(&ann, "thing"), "a"), "a");
    check_problem(&peace.ask_told(&twice), 400, "two keys");
    assert_eq!(count(&database, "select count(*) from item"), 0);
}

#[test]
fn an_answer_counts_for_a_day() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(1).serve();
    let ann = sign_up(&peace, "ann");
    let ask = |name: &str| peace.ask_told(&keyed(item(&ann, name), "k"));
    assert_eq!(ask("thing").status, 201);
    let age = |age: &str| {
        database.sql().run(&format!("update idempotency set created = now() - interval '{age}'"));
    };
    age("23 hours 59 minutes");
    assert!(is_replay(&ask("thing")));
    age("24 hours 1 minute");
    let anew = ask("another thing");
    assert_eq!((anew.status, is_replay(&anew)), (201, false));
    assert!(is_replay(&ask("another thing")));
    assert_eq!(count(&database, "select count(*) from item"), 2);
}

/// With the user goes what is kept of the answers that hold their data: that they signed up, and what they
/// have made. Those of others stay.
#[test]
fn what_is_kept_goes_with_the_user_whose_data_it_is() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(1).env("JWT_SECRET_KEY", jwt::SECRET).serve();
    let user = |name: &str| post("/users").json(&json!({"name": name, "password": PASSWORD}));
    let place = |name: &str| {
        let signed_up = peace.ask_told(&keyed(user(name), name));
        signed_up.header("location").unwrap().to_owned()
    };
    let places = [place("ann"), place("bob")];
    for place in &places {
        let pubid = place.strip_prefix("/users/").unwrap();
        database.add_session(pubid);
        let made = post("/items").bearer(&jwt::signed(pubid, json!({})));
        let made = made.json(&json!({"name": "thing", "user_pubid": pubid}));
        assert_eq!(peace.ask_told(&keyed(made, "thing")).status, 201);
    }
    let kept = r#"select count(*) from idempotency i join "user" u on u.id = i.user_id"#;
    assert_eq!((count(&database, kept), kept_rows(&database)), (4, 4));
    let ann = places[0].strip_prefix("/users/").unwrap();
    let gone = request("DELETE", &places[0]).bearer(&jwt::signed(ann, json!({})));
    assert_eq!(peace.ask_told(&gone).status, 200);
    assert_eq!((count(&database, kept), kept_rows(&database)), (2, 2));
    assert!(is_replay(&peace.ask_told(&keyed(user("bob"), "bob"))));
    // Her token outlives her; what she makes then is nobody's.
    let late = post("/items").bearer(&jwt::signed(ann, json!({})));
    let late = late.json(&json!({"name": "thing", "user_pubid": ann}));
    check_problem(&peace.ask_told(&keyed(late, "late")), 401, "who is gone");
    assert_eq!(kept_rows(&database), 2);
}

fn kept_rows(database: &Database<'_>) -> i64 {
    count(database, "select count(*) from idempotency")
}

#[test]
fn a_slash_more_is_no_other_request() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(1).serve();
    let ann = sign_up(&peace, "ann");
    let first = peace.ask_told(&keyed(item(&ann, "thing"), "k"));
    let body = json!({"name": "thing", "user_pubid": ann.pubid});
    let again = peace.ask_told(&keyed(post("/items/").bearer(&ann.token).json(&body), "k"));
    assert_eq!((same(&again), is_replay(&again)), (same(&first), true));
}

/// A session of the test holds the key as a first request would that does not come to its end.
#[test]
fn who_has_waited_too_long_for_the_first_is_told_to_come_again() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(1).serve();
    let ann = sign_up(&peace, "ann");
    let asked = keyed(item(&ann, "thing"), "k");
    let first = peace.ask_told(&asked);
    let holder = database.sql();
    // As if it had not been committed yet: gone for those who look, and held.
    holder.run("create table kept as select * from idempotency; delete from idempotency");
    holder.run("begin; insert into idempotency select * from kept");
    let refused = peace.ask_told(&asked);
    check_problem(&refused, 409, "the first is not done");
    assert_eq!(refused.json()["type"], "/problems/idempotency-key-in-use");
    assert_eq!(refused.header("retry-after"), Some("1"));
    holder.run("commit");
    let again = peace.ask_told(&asked);
    assert_eq!((same(&again), is_replay(&again)), (same(&first), true));
    assert_eq!(count(&database, "select count(*) from item"), 1);
}

/// A session of the pool or the lane may still be setting itself up; that is no request's.
#[test]
fn a_request_without_a_key_is_one_statement_and_keeps_nothing() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(1).serve();
    let ann = sign_up(&peace, "ann");
    database.await_counted();
    let reset =
        "select pg_stat_statements_reset(0, oid, 0)::text from pg_database where datname = $1";
    database.sql_beside().rows(reset, &[&database.name()]);
    for _ in 0..10 {
        assert_eq!(peace.ask_told(&item(&ann, "thing")).status, 201);
    }
    database.await_counted();
    let rows = database.sql_beside().rows(
        "select query, calls from pg_stat_statements join pg_database d on d.oid = dbid \
         where datname = $1 and query !~* '^set '",
        &[&database.name()],
    );
    let calls: Vec<(String, i64)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!((calls.len(), calls[0].1), (1, 10), "{calls:?}");
    assert_eq!(count(&database, "select count(*) from idempotency"), 0);
}
