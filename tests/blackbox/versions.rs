//! Lost updates: versions of rows, `ETag`, `If-Match`, `If-None-Match`, and what a PATCH leaves alone.

use std::collections::BTreeMap;
use std::thread;

use serde_json::{Value, json};

use crate::harness::api::{PASSWORD, User, add_item, check_problem, sign_up};
use crate::harness::client::{Reply, Request};
use crate::harness::{Connection, Database, Launch, Peace, Turn, get, jwt, post, put, request};

const WRITERS: usize = 50;
const ROUNDS: usize = 4;

fn one_worker(turn: &Turn, database: &Database<'_>) -> Peace {
    Launch::on(turn, database).workers(1).serve()
}

fn etag(reply: &Reply) -> &str {
    reply.header("etag").unwrap_or_else(|| panic!("no etag: {reply:?}"))
}

fn patch(user: &User, place: &str, body: &Value) -> Request {
    request("PATCH", place).bearer(&user.token).json(body)
}

/// All send the version that they have read; each round reads anew.
#[test]
fn of_fifty_changes_at_once_to_one_version_one_is_made() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(4).serve();
    let ann = sign_up(&peace, "ann");
    for place in [ann.place.clone(), add_item(&peace, &ann, "thing")] {
        for round in 1..=ROUNDS {
            let read = peace.ask_told(&get(&place));
            assert_eq!(etag(&read), format!("\"{round}\""));
            let statuses = race(&peace, &ann, &place, etag(&read));
            let expected = BTreeMap::from([(200, 1), (412, WRITERS - 1)]);
            assert_eq!(statuses, expected, "{place} in round {round}");
        }
        assert_eq!(etag(&peace.ask_told(&get(&place))), format!("\"{}\"", ROUNDS + 1));
    }
}

/// Fifty change it at once, each differently; counts their statuses.
fn race(peace: &Peace, ann: &User, place: &str, etag: &str) -> BTreeMap<u16, usize> {
    let address = peace.address();
    let change = |writer: usize| {
        let body = match place.starts_with("/items") {
            true => json!({"added": format!("2024-12-12T13:{writer:02}:00")}),
            false => json!({"fullname": format!("Ann {writer}")}),
        };
        let change = patch(ann, place, &body).header("if-match", etag);
        let mut connection = Connection::open(address).unwrap();
        connection.begin(&change).unwrap();
        (connection, change, body)
    };
    let replies: Vec<(Reply, Value)> = thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                scope.spawn(move || {
                    let (mut connection, change, body) = change(writer);
                    (connection.finish(&change).unwrap(), body)
                })
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    let mut statuses = BTreeMap::new();
    for (reply, body) in &replies {
        *statuses.entry(reply.status).or_default() += 1;
        if reply.status == 200 {
            let now = peace.ask_told(&get(place));
            assert_eq!(now.json(), reply.json(), "the winner's is what is there");
            assert_eq!(now.header("etag"), reply.header("etag"));
            for (name, value) in body.as_object().unwrap() {
                assert_eq!(&now.json()[name], value);
            }
        } else {
            assert_eq!(reply.json()["type"], "/problems/precondition-failed");
        }
    }
    statuses
}

#[test]
fn each_change_makes_another_tag_and_lists_have_none() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = one_worker(&turn, &database);
    let ann = sign_up(&peace, "ann");
    assert_eq!(etag(&ann.created), "\"1\"");
    let put_it = put(&ann.place).bearer(&ann.token).json(&json!({"fullname": "Ann"}));
    assert_eq!(etag(&peace.ask_told(&put_it)), "\"2\"");
    let body = json!({"current": PASSWORD, "new": PASSWORD});
    let change = put(format!("{}/password", ann.place)).bearer(&ann.token).json(&body);
    assert_eq!(peace.ask_told(&change).status, 204);
    for method in ["GET", "HEAD"] {
        assert_eq!(etag(&peace.ask_told(&request(method, &ann.place))), "\"3\"");
    }
    for target in [
        "/users".to_owned(),
        format!("{}?incl_items=true", ann.place),
        format!("/items?user_pubid={}", ann.pubid),
        "/nothing".to_owned(),
    ] {
        assert_eq!(peace.ask_told(&get(&target)).header("etag"), None, "{target}");
    }
    // Nobody sees the login that stores the same password in another form.
    assert_eq!(peace.ask_told(&patch(&ann, &ann.place, &json!({}))).header("etag"), Some("\"3\""));
}

#[test]
fn a_patch_tells_absent_from_null_from_a_value() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = one_worker(&turn, &database);
    let ann = sign_up(&peace, "ann");
    let bare = ann.created.json();
    let with = |fullname: &str| {
        let mut whole = bare.clone();
        whole["fullname"] = json!(fullname);
        whole
    };
    let table = [
        (json!({"fullname": "Ann"}), with("Ann"), "\"2\""),
        (json!({}), with("Ann"), "\"2\""),
        (json!({"fullname": ""}), with(""), "\"3\""),
        (json!({"fullname": null}), bare.clone(), "\"4\""),
        (json!({}), bare.clone(), "\"4\""),
    ];
    for media_type in ["application/merge-patch+json", "application/json"] {
        database.sql().run(r#"update "user" set version = 1"#);
        for (body, expected, tag) in &table {
            let asked = request("PATCH", &ann.place).bearer(&ann.token);
            let reply = peace.ask_told(&asked.body(media_type, body.to_string()));
            assert_eq!((reply.status, &reply.json()), (200, expected), "{body}");
            assert_eq!(etag(&reply), *tag, "{body}");
        }
    }
    let both = "application/merge-patch+json, application/json";
    let item = add_item(&peace, &ann, "thing");
    for place in [&ann.place, &item] {
        assert_eq!(peace.ask_told(&request("OPTIONS", place)).header("accept-patch"), Some(both));
        let asked = request("PATCH", place).bearer(&ann.token);
        let refused = peace.ask_told(&asked.body("application/json-patch+json", "[]"));
        check_problem(&refused, 415, "a patch of another kind");
        assert_eq!((refused.header("accept-patch"), refused.header("accept")), (Some(both), None));
    }
    let none = peace.ask_told(&request("OPTIONS", "/users"));
    assert_eq!((none.status, none.header("accept-patch")), (204, None));
    let before = peace.ask_told(&get(&item)).json();
    let unchanged = peace.ask_told(&patch(&ann, &item, &json!({})));
    assert_eq!((unchanged.json(), etag(&unchanged)), (before.clone(), "\"1\""));
    let changed = peace.ask_told(&patch(&ann, &item, &json!({"added": "2024-12-12"})));
    assert_eq!((&changed.json()["name"], etag(&changed)), (&before["name"], "\"2\""));
    check_problem(&peace.ask_told(&patch(&ann, &item, &json!({"added": null}))), 422, "null");
}

#[test]
fn who_has_the_newest_version_is_told_so_without_a_body() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = one_worker(&turn, &database);
    let ann = sign_up(&peace, "ann");
    let item = add_item(&peace, &ann, "thing");
    for place in [&ann.place, &item] {
        for (tags, status) in [
            ("\"1\"", 304),
            ("W/\"1\"", 304),
            ("\"7\" , W/\"8\",\"1\"", 304),
            ("*", 304),
            ("\"2\"", 200),
            ("\"01\"", 200),
            ("\"\"", 200),
        ] {
            for method in ["GET", "HEAD"] {
                let reply = peace.ask_told(&request(method, place).header("if-none-match", tags));
                assert_eq!((reply.status, etag(&reply)), (status, "\"1\""), "{method} {tags}");
                let has_type = reply.header("content-type").is_some();
                assert_eq!(has_type, status == 200, "{method} {tags}");
                assert_eq!(reply.header("cache-control"), Some("no-cache"), "{tags}");
            }
        }
        let two = get(place).header("if-none-match", "\"0\"").header("if-none-match", "\"1\"");
        assert_eq!(peace.ask_told(&two).status, 304, "the lines are one list");
        for tags in ["1", "\"1", "\"1\" \"2\"", "\"1\", *", ","] {
            let reply = peace.ask_told(&get(place).header("if-none-match", tags));
            check_problem(&reply, 400, tags);
            assert_eq!(reply.json()["type"], "/problems/bad-request", "{tags}");
        }
    }
    let with_items = get(format!("{}?incl_items=true", ann.place)).header("if-none-match", "*");
    assert_eq!(peace.ask_told(&with_items).status, 200, "what has no tag is always sent");
    let gone = get("/users/00000000-0000-7000-8000-000000000000").header("if-none-match", "*");
    check_problem(&peace.ask_told(&gone), 404, "there is nothing to have");
}

/// What a request is meant for is looked at before what the client has (RFC 9110 section 13.2.2).
#[test]
fn a_read_is_answered_only_if_it_is_meant_for_what_is_there() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = one_worker(&turn, &database);
    let ann = sign_up(&peace, "ann");
    let item = add_item(&peace, &ann, "thing");
    let table = [
        ("\"1\"", None, 200),
        ("\"7\", \"1\"", None, 200),
        ("*", None, 200),
        ("\"2\"", None, 412),
        ("W/\"1\"", None, 412),
        ("\"01\"", None, 412),
        ("\"1\"", Some("\"2\""), 200),
        ("\"1\"", Some("\"1\""), 304),
        ("\"1\"", Some("*"), 304),
        ("*", Some("W/\"1\""), 304),
        ("\"2\"", Some("\"1\""), 412),
        ("\"2\"", Some("*"), 412),
        ("1", None, 400),
        ("\"1\"", Some("1"), 400),
        ("\"2\"", Some("1"), 400),
    ];
    for place in [&ann.place, &item] {
        for (if_match, if_none_match, status) in table {
            for method in ["GET", "HEAD"] {
                let mut asked = request(method, place).header("if-match", if_match);
                if let Some(tags) = if_none_match {
                    asked = asked.header("if-none-match", tags);
                }
                let reply = peace.ask_told(&asked);
                assert_eq!(reply.status, status, "{asked:?}");
                assert_eq!(reply.header("etag").is_some(), status < 400, "{asked:?}");
            }
        }
    }
    let gone = get("/users/00000000-0000-7000-8000-000000000000").header("if-match", "*");
    check_problem(&peace.ask_told(&gone), 404, "there is nothing to be meant");
    let with_items = get(format!("{}?incl_items=true", ann.place)).header("if-match", "\"9\"");
    assert_eq!(peace.ask_told(&with_items).status, 200, "what has no tag is under no condition");
}

/// What each pair of conditions lets happen to a row of version 3.
const CONDITIONS: [(Option<&str>, Option<&str>, bool); 18] = [
    (None, None, true),
    (None, Some("*"), false),
    (None, Some("\"3\""), false),
    (None, Some("W/\"3\""), false),
    (None, Some("\"1\", \"3\""), false),
    (None, Some("\"2\""), true),
    (None, Some("\"03\", \"\""), true),
    (Some("*"), None, true),
    (Some("*"), Some("*"), false),
    (Some("*"), Some("\"3\""), false),
    (Some("*"), Some("\"2\""), true),
    (Some("\"3\""), None, true),
    (Some("\"3\""), Some("\"2\""), true),
    (Some("\"3\", \"2\""), Some("\"3\""), false),
    (Some("\"3\""), Some("*"), false),
    (Some("\"2\""), None, false),
    (Some("\"2\""), Some("\"1\""), false),
    (Some("W/\"3\""), None, false),
];

#[test]
fn a_write_is_made_only_to_what_both_conditions_mean() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = one_worker(&turn, &database);
    let (sql, ann) = (database.sql(), sign_up(&peace, "ann"));
    let item = add_item(&peace, &ann, "thing");
    let secret = json!({"current": PASSWORD, "new": PASSWORD});
    // What a write of what is gone gets: who is deleted has no session any more, either.
    let (user_gone, item_gone) = ((r#"delete from "user""#, 401), ("delete from item", 404));
    let writes = [
        (put(&ann.place).json(&json!({"fullname": "Ann"})), 200, user_gone),
        (request("PATCH", &ann.place).json(&json!({"fullname": "Ann"})), 200, user_gone),
        (request("PATCH", &ann.place).json(&json!({})), 200, user_gone),
        (put(&item).json(&json!({"added": "2024-12-12"})), 200, item_gone),
        (put(&item).json(&json!({})), 200, item_gone),
        (request("PATCH", &item).json(&json!({"added": "2024-12-12"})), 200, item_gone),
        (request("DELETE", &item), 200, item_gone),
        (put(format!("{}/password", ann.place)).json(&secret), 204, user_gone),
        (request("DELETE", &ann.place), 200, user_gone),
    ];
    let keep = r#"update "user" set version = 3; update item set version = 3;
        create table users as select * from "user"; create table items as select * from item;
        create table sessions as select * from session"#;
    sql.run(keep);
    let back = r#"delete from "user"; insert into "user" select * from users;
        insert into item select * from items;
        insert into session select * from sessions on conflict do nothing"#;
    for (write, done, (delete, refusal)) in writes {
        for (if_match, if_none_match, is_meant) in CONDITIONS {
            let mut write = write.clone().bearer(&ann.token);
            for (name, tags) in [("if-match", if_match), ("if-none-match", if_none_match)] {
                write = tags.into_iter().fold(write, |write, tags| write.header(name, tags));
            }
            let reply = peace.ask_told(&write);
            assert_eq!(reply.status, if is_meant { done } else { 412 }, "{write:?}");
            if is_meant {
                sql.run(back);
                continue;
            }
            let changed = r#"select (select count(*) from (select * from "user" except select * from users) a)
                + (select count(*) from (select * from item except select * from items) b)
                + (select count(*) from items) - (select count(*) from item)"#;
            assert_eq!(sql.value::<i64>(changed, &[]), 0, "{write:?} has changed something");
        }
        let write = write.bearer(&ann.token).header("if-none-match", "*");
        sql.run(delete);
        check_problem(&peace.ask_told(&write), refusal, &format!("{write:?} of what is gone"));
        sql.run(back);
    }
}

/// A write that each of these conditions lets pass or not.
#[test]
fn a_write_under_a_condition_is_made_only_if_that_holds() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(1).env("JWT_SECRET_KEY", jwt::SECRET).serve();
    let (ann, bob) = (sign_up(&peace, "ann"), sign_up(&peace, "bob"));
    let item = add_item(&peace, &ann, "thing");
    let secret = json!({"current": PASSWORD, "new": PASSWORD});
    let writes = |user: &User| {
        [
            put(&user.place).json(&json!({"fullname": "Ann"})),
            request("PATCH", &user.place).json(&json!({"fullname": "Ann"})),
            request("PATCH", &user.place).json(&json!({})),
            put(format!("{}/password", user.place)).json(&secret),
            request("DELETE", &user.place),
            put(&item).json(&json!({"added": "2024-12-12"})),
            put(&item).json(&json!({})),
            request("PATCH", &item).json(&json!({"added": "2024-12-12"})),
            request("DELETE", &item),
        ]
    };
    let before = (peace.ask_told(&get(&ann.place)), peace.ask_told(&get(&item)));
    for write in writes(&ann).map(|write| write.bearer(&ann.token)) {
        for (tags, status) in
            [("\"2\"", 412), ("W/\"1\"", 412), ("\"\"", 412), ("1", 400), ("*, *", 400)]
        {
            let what = format!("{write:?} if-match {tags}");
            check_problem(&peace.ask_told(&write.clone().header("if-match", tags)), status, &what);
        }
    }
    for (place, before) in [(&ann.place, before.0), (&item, before.1)] {
        let now = peace.ask_told(&get(place));
        assert_eq!((now.json(), etag(&now)), (before.json(), etag(&before)), "nothing was written");
    }
    // Whose it is comes first, and what is not there has no version.
    let foreign = put(&item).bearer(&bob.token).json(&json!({})).header("if-match", "\"9\"");
    check_problem(&peace.ask_told(&foreign), 403, "somebody else's");
    for (tags, name) in [("*", "any"), ("\"1\", \"7\"", "one of two")] {
        for write in [put(&item).json(&json!({})), put(&ann.place).json(&json!({}))] {
            let reply = peace.ask_told(&write.bearer(&ann.token).header("if-match", tags));
            assert_eq!(reply.status, 200, "{name}: {}", String::from_utf8_lossy(&reply.body));
        }
        database.sql().run(r#"update "user" set version = 7"#);
    }
    let delete = |place: &str, tags: &str| {
        peace.ask_told(&request("DELETE", place).bearer(&ann.token).header("if-match", tags)).status
    };
    assert_eq!((delete(&item, "\"1\""), delete(&item, "*")), (200, 412));
    let current = peace.ask_told(&get(&ann.place));
    assert_eq!(delete(&ann.place, etag(&current)), 200);
    for write in writes(&ann).map(|write| write.bearer(&ann.token)) {
        let what = format!("{write:?} of who is gone");
        check_problem(&peace.ask_told(&write), 401, &what);
        check_problem(&peace.ask_told(&write.header("if-match", "*")), 401, &what);
    }
}

/// A table's own number goes on where somebody has set it.
#[test]
fn a_tag_is_the_version_of_the_row_and_nothing_of_the_body() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = one_worker(&turn, &database);
    let ann = sign_up(&peace, "ann");
    database.sql().run(r#"update "user" set version = 9223372036854775806, fullname = 'Ann'"#);
    assert_eq!(etag(&peace.ask_told(&get(&ann.place))), "\"9223372036854775806\"");
    let change = patch(&ann, &ann.place, &json!({"fullname": "Ann"}));
    let reply = peace.ask_told(&change.header("if-match", "\"9223372036854775806\""));
    assert_eq!((reply.status, etag(&reply)), (200, "\"9223372036854775807\""));
    let created = post("/items").bearer(&ann.token);
    let created = peace.ask_told(&created.json(&json!({"name": "a", "user_pubid": ann.pubid})));
    assert_eq!(etag(&created), "\"1\"");
}
