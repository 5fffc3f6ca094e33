//! Broken object-level authorisation: whoever is not ann, against every route that writes, with her
//! ids in every place where an id can be put.
//!
//! The routes are those of the program's own table, so a new one is among them as soon as it is
//! there. It looks at her rows, not at statuses alone: none may change.
//! Source: OWASP API Security Top 10 (2023), API1.

use std::collections::BTreeMap;

use peace::resources;
use serde_json::{Map, Value, json};
use worker::{Operation, Source};

use crate::harness::api::{PASSWORD, User, add_item, log_in, sign_up};
use crate::harness::{Connection, Database, Launch, Request, Turn, jwt, post, request};

/// All that is ann's, as one text.
const HERS: &str = r#"
    select (select string_agg(t::text, ';' order by id) from "user" t where name = 'ann')
        || (select string_agg(t::text, ';' order by id) from item t where user_id = $1)
        || (select string_agg(t::text, ';' order by id) from session t where user_id = $1)
        || (select count(*)::text from item where name = 'foreign')"#;

/// An id as it can be written in a path or a text.
fn spellings(id: &str) -> Vec<String> {
    let bare = id.replace('-', "");
    vec![
        id.to_owned(),
        id.to_uppercase(),
        bare.clone(),
        format!("%7B{id}%7D"),
        format!("urn:uuid:{id}"),
        format!("{id}%00"),
        format!("%20{id}"),
        format!("{id}/"),
        format!("{id};x"),
        format!("../users/{id}"),
        bare.bytes().map(|byte| format!("%{byte:02X}")).collect(),
    ]
}

/// Whose tokens are tried; none of them is ann's.
fn strangers(
    bob: &User,
    gone: &User,
    out: &User,
    ann: &str,
) -> Vec<(&'static str, Option<String>)> {
    let foreign_session = jwt::signed(&bob.pubid, json!({"sub": ann, "sid": bob.pubid}));
    vec![
        ("nobody", None),
        ("bob", Some(bob.token.clone())),
        ("who is deleted", Some(gone.token.clone())),
        ("who has logged out", Some(out.token.clone())),
        ("ann's name without a session", Some(jwt::signed(ann, json!({})))),
        ("ann's name in a session that never was", Some(foreign_session)),
    ]
}

/// What writes, and is about something of somebody's; who signs up or logs in has nothing yet.
fn is_about_rows(operation: &Operation) -> bool {
    let is_open = ["auth-token", "auth-refresh", "users-create"].contains(&operation.name);
    operation.method != "GET" && !is_open
}

fn method(operation: &Operation) -> &'static str {
    let known = ["POST", "PUT", "PATCH", "DELETE"];
    known.into_iter().find(|name| operation.method == *name).expect("a method that writes")
}

/// A body that is right, with this id where one belongs.
fn body(operation: &Operation, id: &str) -> Value {
    let fields = operation.inputs.iter().filter(|input| input.source == Source::Body);
    let value = |name: &str| match name {
        "user_pubid" => json!(id),
        "current" => json!(PASSWORD),
        "new" => json!("a-newer-password"),
        "added" => json!("2001-01-01"),
        _ => json!("foreign"),
    };
    let members = fields.flat_map(|input| &input.spec.fields);
    Value::Object(
        members.map(|field| (field.name.to_owned(), value(field.name))).collect::<Map<_, _>>(),
    )
}

/// Every way to name her row to this route.
fn placements(operation: &Operation, ids: &[&str], own: &str) -> Vec<Request> {
    let ask = |path: &str, body: &Value| request(method(operation), path).json(body);
    let with_more = |id: &str, own: &str| {
        let mut body = body(operation, own);
        for name in ["user_pubid", "pubid", "id", "user_id", "owner", "sub"] {
            if body.get(name).is_none() || own != id {
                body[name] = json!(id);
            }
        }
        body
    };
    let mut all = Vec::new();
    for id in ids {
        for spelling in spellings(id) {
            let path = operation.pattern.replace("{pubid}", &spelling);
            all.push(ask(&path, &body(operation, id)));
            all.push(ask(&path, &body(operation, &spelling)));
        }
        // Their own in the path, hers in the body, the query and a header.
        let path = operation.pattern.replace("{pubid}", own);
        all.push(ask(&path, &with_more(id, own)));
        all.push(ask(&format!("{path}?pubid={id}&user_pubid={id}&id={id}"), &with_more(id, own)));
        all.push(ask(&path, &with_more(id, own)).header("x-original-url", format!("/users/{id}")));
        all.push(ask(&path, &with_more(id, own)).header("x-user-id", *id));
    }
    all
}

#[test]
fn nobody_writes_what_is_anns_wherever_her_ids_are_put() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let launch = Launch::on(&turn, &database).workers(1).args(["--login-limits", "off"]);
    let peace = launch.env("JWT_SECRET_KEY", jwt::SECRET).serve();
    let [ann, bob, gone, out, _] =
        ["ann", "bob", "gone", "out", "eve"].map(|name| sign_up(&peace, name));
    let item = add_item(&peace, &ann, "thing");
    let item = item.rsplit('/').next().unwrap();
    assert_eq!(peace.ask(&request("DELETE", &gone.place).bearer(&gone.token)).status, 200);
    assert_eq!(peace.ask(&post("/auth/logout").bearer(&out.token)).status, 204);

    let sql = database.sql();
    let ann_id: uuid::Uuid = ann.pubid.parse().unwrap();
    let hers = || sql.value::<String>(HERS, &[&ann_id]);
    let before = hers();
    let strangers = strangers(&bob, &gone, &out, &ann.pubid);
    let routes = resources::routes(false);
    let mut answers: BTreeMap<u16, usize> = BTreeMap::new();
    let mut connection = Connection::open(peace.address()).unwrap();
    for operation in routes.operations().filter(|one| is_about_rows(one)) {
        // What bob does to himself is his affair: an id that nobody has stands for his own.
        let own = "00000000-0000-7000-8000-000000000000";
        for placed in placements(operation, &[&ann.pubid, item], own) {
            for (who, token) in &strangers {
                let token = match (operation.name.starts_with("auth-logout"), *who) {
                    (true, "bob") => Some(fresh_token(&peace)),
                    _ => token.clone(),
                };
                let asked = token.iter().fold(placed.clone(), |asked, token| asked.bearer(token));
                let reply = connection.send(&asked).unwrap();
                *answers.entry(reply.status).or_default() += 1;
                let is_his_own = operation.name.starts_with("auth-logout") && *who == "bob";
                let is_refused = (400..500).contains(&reply.status);
                assert!(is_refused || is_his_own, "{who}: {asked:?}: {reply:?}");
                if reply.header("connection") == Some("close") {
                    connection = Connection::open(peace.address()).unwrap();
                }
            }
            assert_eq!(hers(), before, "after {placed:?}");
        }
    }
    eprintln!("{} requests, answers {answers:?}", answers.values().sum::<usize>());
    assert!(!answers.contains_key(&500), "{answers:?}");
}

/// Of a user who is there to be logged out.
fn fresh_token(peace: &crate::harness::Peace) -> String {
    let login = log_in(peace, &[("username", "eve"), ("password", PASSWORD)]);
    login.json()["access_token"].as_str().unwrap().to_owned()
}
