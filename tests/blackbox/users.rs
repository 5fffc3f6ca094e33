//! `/users`: creating, reading and listing, and every way in which a body or an id can be wrong.

use serde_json::{Value, json};

use crate::harness::api::{PASSWORD, check_problem, failures, sign_up};
use crate::harness::{Database, Launch, Peace, Turn, get, post, put, request};

fn one_worker(turn: &Turn, database: &Database<'_>) -> Peace {
    Launch::on(turn, database).workers(1).serve()
}

#[test]
fn a_user_is_created_and_read() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = one_worker(&turn, &database);
    let ann = sign_up(&peace, "ann");
    let body = ann.created.json();
    let pubid = body["pubid"].as_str().unwrap();
    assert_eq!(ann.place, format!("/users/{pubid}"));
    assert_eq!(body, json!({"pubid": pubid, "name": "ann"}), "null members are left out");

    // A UUID matches in upper case and without dashes.
    for id in [pubid.to_owned(), pubid.to_uppercase(), pubid.replace('-', "")] {
        let reply = peace.ask(&get(format!("/users/{id}")));
        assert_eq!((reply.status, reply.json()), (200, body.clone()), "{id}");
    }
    let stored: String = database.sql().value(r#"select password_hash from "user""#, &[]);
    assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
}

#[test]
fn names_have_thirty_characters_at_most_and_passwords_eight_to_sixty_four() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = one_worker(&turn, &database);
    let create = |name: &str, password: &str| {
        peace.ask(&post("/users").json(&json!({"name": name, "password": password}))).status
    };
    assert_eq!(create(&"ä".repeat(30), PASSWORD), 201, "characters, not bytes");
    assert_eq!(create(&"n".repeat(31), PASSWORD), 422);
    assert_eq!(create("seven", "1x3y5z7"), 422);
    assert_eq!(create("eight", "1x3y5z78"), 201);
    assert_eq!(create("sixty-four", &"€x".repeat(32)), 201);
    assert_eq!(create("sixty-five", &"p".repeat(65)), 422);
    assert_eq!(create("eight", PASSWORD), 409);
}

#[test]
fn a_taken_name_is_a_conflict() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = one_worker(&turn, &database);
    sign_up(&peace, "ann");
    let again = peace.ask(&post("/users").json(&json!({"name": "ann", "password": PASSWORD})));
    check_problem(&again, 409, "the same name");
    assert_eq!(again.json()["type"], "/problems/name-taken");
}

#[test]
fn whatever_is_wrong_with_a_body_is_told_and_never_a_500() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = one_worker(&turn, &database);
    let long = "n".repeat(31);
    let whole = |kind: &str| vec![("body".to_owned(), kind.to_owned())];
    let one = |loc: &str, kind: &str| vec![(loc.to_owned(), kind.to_owned())];
    let table: Vec<(String, Vec<(String, String)>)> = vec![
        (String::new(), whole("missing")),
        ("[]".into(), whole("model_attributes_type")),
        ("null".into(), whole("model_attributes_type")),
        (r#"{"password": "pass word"}"#.into(), one("body.name", "missing")),
        (r#"{"name": 7, "password": "pass word"}"#.into(), one("body.name", "string_type")),
        (r#"{"name": null, "password": "pass word"}"#.into(), one("body.name", "string_type")),
        (r#"{"name": "a", "password": "short"}"#.into(), one("body.password", "string_too_short")),
        (
            format!(r#"{{"name": "{long}", "password": "pass word"}}"#),
            one("body.name", "string_too_long"),
        ),
        (
            r#"{"name": "a\u0000b", "password": "pass word"}"#.into(),
            one("body.name", "value_error"),
        ),
        (
            r#"{"name": "a", "password": "pass word", "fullname": ["x"]}"#.into(),
            one("body.fullname", "string_type"),
        ),
        // All failures, not just the first.
        (
            format!(r#"{{"name": "{long}", "fullname": 1}}"#),
            vec![
                ("body.name".into(), "string_too_long".into()),
                ("body.password".into(), "missing".into()),
                ("body.fullname".into(), "string_type".into()),
            ],
        ),
    ];
    for (body, expected) in table {
        let reply = peace.ask(&post("/users").body("application/json", body.clone()));
        check_problem(&reply, 422, &body);
        assert_eq!(failures(&reply), expected, "{body}");
    }
    // Not JSON: where it stops is told, with the type of FastAPI.
    for body in ["{", "{\"name\": }", "nope", r#"{"name": "\ud800", "password": "pass word"}"#] {
        let reply = peace.ask(&post("/users").body("application/json", body));
        check_problem(&reply, 422, body);
        assert_eq!(failures(&reply)[0].1, "json_invalid", "{body}");
    }
    let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
    let reply = peace.ask(&post("/users").body("application/json", deep));
    check_problem(&reply, 422, "65 brackets");
    let bytes = b"{\"name\": \"\xff\", \"password\": \"pass word\"}".to_vec();
    let reply = peace.ask(&post("/users").body("application/json", bytes));
    check_problem(&reply, 422, "bytes that are no UTF-8");
}

#[test]
fn unknown_members_are_ignored_but_by_patch() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = one_worker(&turn, &database);
    let body = json!({"name": "ann", "password": PASSWORD, "admin": true});
    let created = peace.ask(&post("/users?verbose=1").json(&body));
    assert_eq!(created.status, 201);
    let bob = sign_up(&peace, "bob");
    let put_it = put(&bob.place).bearer(&bob.token).json(&json!({"fullname": "Bob", "x": 1}));
    assert_eq!(peace.ask(&put_it).status, 200);
    let patch = request("PATCH", &bob.place).bearer(&bob.token).json(&json!({"full_name": "B"}));
    let refused = peace.ask(&patch);
    check_problem(&refused, 422, "PATCH with an unknown member");
    assert_eq!(failures(&refused), [("body.full_name".to_owned(), "extra_forbidden".to_owned())]);
}

#[test]
fn what_is_sent_has_to_be_json() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = one_worker(&turn, &database);
    let body = json!({"name": "ann", "password": PASSWORD}).to_string();
    for media_type in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonp",
        "application/vnd.api+json",
        "application/merge-patch+json",
    ] {
        let reply = peace.ask(&post("/users").body(media_type, body.clone()));
        check_problem(&reply, 415, media_type);
        assert_eq!(reply.header("accept"), Some("application/json"), "{media_type}");
    }
    let with_parameters = post("/users").body("Application/JSON; charset=utf-8; v=1", body);
    assert_eq!(peace.ask(&with_parameters).status, 201);
}

#[test]
fn a_body_beyond_the_limit_is_refused() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = one_worker(&turn, &database);
    let padded = |bytes: usize| {
        let start = format!(r#"{{"name": "u{bytes}", "password": "pass word", "x": ""#);
        let fill = "x".repeat(bytes - start.len() - 2);
        post("/users").body("application/json", format!("{start}{fill}\"}}"))
    };
    assert_eq!(peace.ask(&padded(1024 * 1024)).status, 201);
    check_problem(&peace.ask(&padded(1024 * 1024 + 1)), 413, "one byte more");
}

#[test]
fn lists_are_pages_in_order_of_creation() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = one_worker(&turn, &database);
    database.sql().run(
        r#"insert into "user" (id, name)
           select lpad(to_hex(n), 32, '0')::uuid, 'user-' || n from generate_series(1, 120) n"#,
    );
    let (mut seen, mut target) = (Vec::new(), "/users".to_owned());
    loop {
        let reply = peace.ask(&get(&target));
        assert_eq!(reply.status, 200);
        let page = reply.json();
        assert_eq!(page["page"]["limit"], 50);
        let names = page["users"].as_array().unwrap().iter().map(|user| user["name"].clone());
        seen.extend(names);
        match page["page"]["next_cursor"].as_str() {
            Some(cursor) => target = format!("/users?cursor={cursor}"),
            None => break,
        }
    }
    let expected: Vec<Value> = (1..=120).map(|n| json!(format!("user-{n}"))).collect();
    assert_eq!(seen, expected);

    let count = |target: &str| peace.ask(&get(target)).json()["users"].as_array().unwrap().len();
    assert_eq!(count("/users?limit=200&unknown=1"), 120);
    assert_eq!(count("/users?limit=1"), 1);
    for (target, kind) in [
        ("/users?limit=0", "greater_than_equal"),
        ("/users?limit=201", "less_than_equal"),
        ("/users?limit=x", "int_parsing"),
        ("/users?cursor=x", "value_error"),
    ] {
        let reply = peace.ask(&get(target));
        check_problem(&reply, 422, target);
        assert_eq!(failures(&reply)[0].1, kind, "{target}");
    }
    let both = peace.ask(&get("/users?limit=0&cursor=x"));
    assert_eq!(failures(&both).len(), 2, "all failures of a query are told");
}

#[test]
fn ids_that_are_unknown_or_malformed() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = one_worker(&turn, &database);
    let unknown = "/users/00000000-0000-7000-8000-000000000000";
    check_problem(&peace.ask(&get(unknown)), 404, "an unknown id");
    for id in ["1", "nobody", "00000000-0000-7000-8000-00000000000g", "%00", "%ff", "a%20b"] {
        let reply = peace.ask(&get(format!("/users/{id}")));
        check_problem(&reply, 422, id);
        assert_eq!(failures(&reply)[0].0, "path.pubid", "{id}");
    }
}
