//! `/users`: every status of its contract.

use serde_json::{Value, json};

use crate::harness::{Database, Launch, Peace, Reply, Request, Turn, get, post, put, request};

const PASSWORD: &str = "correct-horse";

fn one_worker(turn: &Turn, database: &Database<'_>) -> Peace {
    Launch::on(turn, database).workers(1).serve()
}

/// A user with their token.
struct User {
    place: String,
    token: String,
    created: Reply,
}

fn sign_up(peace: &Peace, name: &str) -> User {
    let created = peace.ask(&post("/users").json(&json!({"name": name, "password": PASSWORD})));
    assert_eq!(created.status, 201);
    let place = created.header("location").expect("201 says where").to_owned();
    let login = post("/auth/token").form(&[("username", name), ("password", PASSWORD)]);
    let token = peace.ask(&login).json()["access_token"].as_str().unwrap().to_owned();
    User { place, token, created }
}

/// The `(loc, type)` of every failure a 422 lists.
fn failures(reply: &Reply) -> Vec<(String, String)> {
    let body = reply.json();
    let list = body["errors"].as_array().unwrap_or_else(|| panic!("no errors: {body}"));
    let place = |error: &Value| {
        let steps = error["loc"].as_array().expect("loc is a list").iter();
        let steps: Vec<String> = steps
            .map(|step| step.as_str().map_or_else(|| step.to_string(), str::to_owned))
            .collect();
        (steps.join("."), error["type"].as_str().expect("a type").to_owned())
    };
    list.iter().map(place).collect()
}

/// Checks a refusal: its status and that it is a whole problem document.
fn check_problem(reply: &Reply, status: u16, what: &str) {
    assert_eq!(reply.status, status, "{what}: {}", String::from_utf8_lossy(&reply.body));
    assert_eq!(reply.header("content-type"), Some("application/problem+json"), "{what}");
    let body = reply.json();
    for member in ["type", "title", "status", "detail", "instance", "request_id"] {
        assert!(!body[member].is_null(), "{what}: {member} is missing in {body}");
    }
    assert_eq!(body["status"], status, "{what}");
    if status == 401 {
        let challenge = reply.header("www-authenticate").unwrap_or_default();
        assert!(challenge.starts_with("Bearer"), "{what}");
    }
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
    for media_type in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp"] {
        let reply = peace.ask(&post("/users").body(media_type, body.clone()));
        check_problem(&reply, 415, media_type);
        assert_eq!(reply.header("accept"), Some("application/json"), "{media_type}");
    }
    let vendor = post("/users").body("application/vnd.api+json; charset=utf-8", body);
    assert_eq!(peace.ask(&vendor).status, 201);
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

#[test]
fn put_replaces_and_patch_keeps() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = one_worker(&turn, &database);
    let ann = sign_up(&peace, "ann");
    let send = |method: &'static str, body: Value| {
        let reply = peace.ask(&request(method, &ann.place).bearer(&ann.token).json(&body));
        assert_eq!(reply.status, 200, "{method} {body}");
        let answered = reply.json();
        assert_eq!(peace.ask(&get(&ann.place)).json(), answered, "what was answered is stored");
        answered.get("fullname").cloned()
    };
    assert_eq!(send("PUT", json!({"fullname": "Ann A."})), Some(json!("Ann A.")));
    assert_eq!(send("PATCH", json!({})), Some(json!("Ann A.")), "absent: kept");
    assert_eq!(send("PATCH", json!({"fullname": ""})), Some(json!("")), "empty is kept as such");
    assert_eq!(send("PATCH", json!({"fullname": null})), None, "null: cleared");
    assert_eq!(send("PUT", json!({"fullname": "Ann B."})), Some(json!("Ann B.")));
    assert_eq!(send("PUT", json!({})), None, "absent: cleared");
}

#[test]
fn a_password_is_changed_by_who_knows_it() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = one_worker(&turn, &database);
    let ann = sign_up(&peace, "ann");
    let change = |current: &str, new: &str| {
        let body = json!({"current": current, "new": new});
        peace.ask(&put(format!("{}/password", ann.place)).bearer(&ann.token).json(&body))
    };
    let login = |password: &str| {
        let form = post("/auth/token").form(&[("username", "ann"), ("password", password)]);
        peace.ask(&form).status
    };
    check_problem(&change("another-word", "a-new-password"), 403, "a wrong current password");
    check_problem(&change(PASSWORD, "short"), 422, "a new password that is too short");
    let changed = change(PASSWORD, "a-new-password");
    assert_eq!((changed.status, changed.body.len()), (204, 0));
    assert_eq!((login(PASSWORD), login("a-new-password")), (401, 200));
}

#[test]
fn a_deleted_user_is_gone_with_their_items() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = one_worker(&turn, &database);
    let ann = sign_up(&peace, "ann");
    database.sql().run(
        r#"insert into item (id, user_id, name, added)
           select gen_random_uuid(), id, 'thing', now() from "user""#,
    );
    let delete = request("DELETE", &ann.place).bearer(&ann.token);
    let deleted = peace.ask(&delete);
    assert_eq!((deleted.status, deleted.json()), (200, Value::Null));
    assert_eq!(database.sql().value::<i64>("select count(*) from item", &[]), 0);
    check_problem(&peace.ask(&get(&ann.place)), 404, "reading it");
    check_problem(&peace.ask(&delete), 404, "deleting it again, with a token that is still good");
}

#[test]
fn the_token_comes_first_then_the_owner_then_the_body_then_the_row() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = one_worker(&turn, &database);
    let (ann, bob) = (sign_up(&peace, "ann"), sign_up(&peace, "bob"));
    let nobody = "/users/00000000-0000-7000-8000-000000000000";
    let bad = r#"{"fullname": 7}"#;
    let send = |request: Request| peace.ask(&request.body("application/json", bad));
    for method in ["PUT", "PATCH"] {
        check_problem(&send(request(method, "/users/nonsense")), 401, "no token, bad id");
        check_problem(&send(request(method, &ann.place)), 401, "no token");
        check_problem(&send(request(method, &ann.place).bearer("x.y.z")), 401, "a bad token");
        let with_bobs = |place: &str| request(method, place).bearer(&bob.token);
        check_problem(&send(with_bobs("/users/nonsense")), 422, "bad id");
        check_problem(&send(with_bobs(&ann.place)), 403, "somebody else's, bad body");
        check_problem(&send(with_bobs(nobody)), 403, "nobody's, bad body");
        check_problem(&send(with_bobs(&bob.place)), 422, "one's own, bad body");
    }
    check_problem(&peace.ask(&request("DELETE", &ann.place)), 401, "DELETE without a token");
    let foreign = request("DELETE", &ann.place).bearer(&bob.token);
    check_problem(&peace.ask(&foreign), 403, "DELETE of somebody else");
    assert_eq!(peace.ask(&get(&ann.place)).status, 200, "ann is still there");
}

#[test]
fn paths_and_methods_that_do_not_exist() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = one_worker(&turn, &database);
    for target in ["/", "/user", "/users/a/b", "/Users", "/health", "//users"] {
        check_problem(&peace.ask(&get(target)), 404, target);
    }
    for (method, target, allow) in [
        ("DELETE", "/users", "GET, HEAD, POST, OPTIONS"),
        ("POST", "/health/live", "GET, HEAD, OPTIONS"),
        ("GET", "/auth/token", "POST, OPTIONS"),
    ] {
        let reply = peace.ask(&request(method, target));
        check_problem(&reply, 405, target);
        assert_eq!(sorted(reply.header("allow")), sorted(Some(allow)), "{method} {target}");
    }
    let options = peace.ask(&request("OPTIONS", "/users"));
    assert_eq!(options.status, 204);
    assert_eq!(sorted(options.header("allow")), sorted(Some("GET, HEAD, POST, OPTIONS")));
    let head = peace.ask(&request("HEAD", "/users"));
    let whole = peace.ask(&get("/users"));
    assert_eq!(head.status, 200);
    assert_eq!(head.header("content-length"), whole.header("content-length"));
    let long = format!("/users?x={}", "x".repeat(8 * 1024));
    check_problem(&peace.ask(&get(long)), 414, "a long URI");
}

fn sorted(list: Option<&str>) -> Vec<String> {
    let mut words: Vec<String> =
        list.unwrap_or_default().split(',').map(|word| word.trim().to_owned()).collect();
    words.sort();
    words
}
