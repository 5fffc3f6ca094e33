//! The contract under abuse: every route of the program's own table, and every way in which its input
//! can be wrong.
//!
//! Routes, fields and declared problems are read from the table that the router is made of, so a new
//! resource is abused as soon as it is there; all it needs is a right value for each new field, in
//! [`sample`]. Of every answer: the status is the expected one, the body is a problem of the one shape,
//! its kind is declared by the route, and none is a 500.

use std::cell::Cell;
use std::collections::BTreeMap;

use peace::resources;
use serde_json::{Value, json};
use worker::{FieldSpec, InputSpec, Operation, Source};

use crate::harness::api::{PASSWORD, User, add_item, check_problem, failures, sign_up};
use crate::harness::client::Reply;
use crate::harness::{Database, Launch, Peace, Turn, jwt, request};

const NOBODY: &str = "00000000-0000-7000-8000-000000000000";
const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";
/// Not a value of any field but plain text.
const NOT_A_VALUE: [&str; 4] = ["nope", "%00", "%ff", "%F0%9F%95%8A"];

#[test]
fn every_route_under_every_wrong_input_for_owners() {
    abuse("owner");
}

#[test]
fn every_route_under_every_wrong_input_for_anyone() {
    abuse("anyone");
}

fn abuse(item_writes: &str) {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let launch = Launch::on(&turn, &database).workers(2).env("PEACE_ITEM_WRITES", item_writes);
    let peace = launch.env("JWT_SECRET_KEY", jwt::SECRET).serve();
    let (ann, bob) = (sign_up(&peace, "ann"), sign_up(&peace, "bob"));
    let item = add_item(&peace, &ann, "thing");
    let abuser = Abuser {
        peace: &peace,
        item: item.rsplit('/').next().unwrap().to_owned(),
        ann,
        bob,
        is_open: item_writes == "anyone",
        asked: Cell::new(0),
    };
    let routes = resources::routes(false);
    let mut operations: Vec<&Operation> = routes.operations().collect();
    // What succeeds at deleting does so last.
    operations.sort_by_key(|operation| (operation.method == "DELETE", operation.pattern));
    let mut answers = BTreeMap::new();
    for operation in operations {
        for status in abuser.abuse(operation) {
            *answers.entry(status).or_insert(0) += 1;
        }
    }
    eprintln!("items of {item_writes}: {} requests, answers {answers:?}", abuser.asked.get());
    assert!(!answers.contains_key(&500), "no input is the server's failure: {answers:?}");
    let failures: Vec<String> = peace.log().events().into_iter().map(|event| event.text).collect();
    let failures: Vec<_> =
        failures.iter().filter(|line| line.contains(r#""level":"ERROR""#)).collect();
    assert!(failures.is_empty(), "nor logged as one: {failures:?}");
}

/// What a request is made of, so that each part can be spoilt.
#[derive(Clone)]
struct Parts {
    path: String,
    query: Vec<(String, String)>,
    token: Option<String>,
    media_type: Option<&'static str>,
    body: Body,
}

#[derive(Clone)]
enum Body {
    Fields(BTreeMap<&'static str, Value>),
    Text(String),
}

/// What is wrong, the request, the status, and the place of a failure where one is to be named.
type Case = (String, Parts, u16, Option<String>);

struct Abuser<'a> {
    peace: &'a Peace,
    ann: User,
    bob: User,
    item: String,
    /// Whether anyone may write items.
    is_open: bool,
    asked: Cell<usize>,
}

impl Abuser<'_> {
    /// Sends everything that can be wrong with this operation, then what is right; gives the statuses.
    fn abuse(&self, operation: &Operation) -> Vec<u16> {
        let mut statuses = Vec::new();
        for (what, parts, status, place) in self.cases(operation) {
            let what = format!("{}: {what}", operation.name);
            let reply = self.send(operation, &parts);
            check_refusal(operation, &reply, status, &what);
            if let Some(place) = place {
                let places: Vec<String> = failures(&reply).into_iter().map(|(at, _)| at).collect();
                assert!(places.contains(&place), "{what}: {place} is not among {places:?}");
            }
            statuses.push(reply.status);
        }
        let right = self.send(operation, &self.right(operation));
        let body = String::from_utf8_lossy(&right.body);
        assert_eq!(right.status, operation.success.status, "{}: {body}", operation.name);
        statuses.push(right.status);
        statuses
    }

    fn cases(&self, operation: &Operation) -> Vec<Case> {
        let mut cases = Vec::new();
        let right = || self.right(operation);
        for input in &operation.inputs {
            match (input.source, input.media_type) {
                (Source::Path, _) => cases.extend(bad_paths(operation, &right())),
                (Source::Query, _) => cases.extend(bad_queries(input, &right())),
                (Source::Body, Some(FORM)) => cases.extend(bad_forms(input, &right())),
                (Source::Body, _) => cases.extend(bad_bodies(input, &right())),
            }
        }
        cases.extend(self.bad_references(operation));
        if self.needs_token(operation) {
            cases.extend(self.bad_tokens(operation));
        }
        cases
    }

    fn right(&self, operation: &Operation) -> Parts {
        let pubid =
            if operation.pattern.starts_with("/items") { &self.item } else { &self.ann.pubid };
        let mut parts = Parts {
            path: operation.pattern.replace("{pubid}", pubid),
            query: Vec::new(),
            token: self.needs_token(operation).then(|| self.ann.token.clone()),
            media_type: None,
            body: Body::Fields(BTreeMap::new()),
        };
        for input in &operation.inputs {
            let required = input.spec.fields.iter().filter(|field| field.required);
            match input.source {
                Source::Path => {}
                Source::Query => {
                    let text = |field: &FieldSpec| self.sample(field).as_str().unwrap().to_owned();
                    parts.query = required.map(|one| (one.name.to_owned(), text(one))).collect();
                }
                Source::Body => {
                    parts.media_type = input.media_type;
                    let value = |field: &FieldSpec| (field.name, self.sample(field));
                    parts.body = Body::Fields(input.spec.fields.iter().map(value).collect());
                }
            }
        }
        parts
    }

    /// A right value of a field.
    fn sample(&self, field: &FieldSpec) -> Value {
        match field.name {
            "name" => json!(format!("name-{}", self.asked.get())),
            "password" | "current" | "new" => json!(PASSWORD),
            "fullname" => json!("Ann A."),
            "username" => json!("ann"),
            "user_pubid" => json!(self.ann.pubid),
            "added" => json!("2024-12-12 13:25"),
            "refresh_token" => json!(self.ann.refresh_token),
            "grant_type" => {
                let pattern = field.schema["pattern"].as_str().unwrap();
                json!(pattern.trim_matches(['^', '$']))
            }
            other => panic!("a new field: give a right value of {other} here"),
        }
    }

    fn needs_token(&self, operation: &Operation) -> bool {
        let declared = operation.problems.iter().any(|kind| kind.code == "unauthenticated");
        declared && !(self.is_open && operation.pattern.starts_with("/items"))
    }

    fn bad_references(&self, operation: &Operation) -> Vec<Case> {
        let right = self.right(operation);
        let mut cases = Vec::new();
        if operation.pattern.contains("{pubid}") {
            // Whose it is comes before whether it is there, but for what the path cannot tell.
            let is_own = self.needs_token(operation) && operation.pattern.starts_with("/users");
            let status = if is_own { 403 } else { 404 };
            let path = operation.pattern.replace("{pubid}", NOBODY);
            cases.push(("an unknown id".into(), Parts { path, ..right.clone() }, status, None));
        }
        match operation.name {
            "users-create" => {
                let parts = right.with("name", json!("bob"));
                cases.push(("a taken name".into(), parts, 409, None));
            }
            "items-create" => {
                let parts = right.with("user_pubid", json!(NOBODY));
                let (status, place) =
                    if self.is_open { (422, Some("body.user_pubid".into())) } else { (403, None) };
                cases.push(("an unknown user".into(), parts, status, place));
            }
            "auth-refresh" => {
                for (what, token) in [
                    ("an access token", self.ann.token.clone()),
                    ("no token at all", "asd".into()),
                    ("a token of nobody", jwt::signed(NOBODY, json!({"typ": "refresh"}))),
                    ("one that is over", self.expired("refresh")),
                    ("an unsigned one", jwt::unsigned(&self.ann.pubid, "none")),
                ] {
                    cases.push((what.into(), right.with("refresh_token", json!(token)), 401, None));
                }
            }
            "auth-token" => {
                for (name, password) in [("ann", "another-word"), ("nobody", PASSWORD)] {
                    let parts = right.with("username", json!(name));
                    let parts = parts.with("password", json!(password));
                    cases.push((format!("{name}, {password}"), parts, 401, None));
                }
            }
            _ => {}
        }
        cases
    }

    fn bad_tokens(&self, operation: &Operation) -> Vec<Case> {
        let ann = &self.ann.pubid;
        let foreign_secret = {
            let header = json!({"alg": "HS256", "typ": "JWT"});
            jwt::token(
                &header,
                &jwt::claims(ann, json!({})),
                "the secret of somebody else, as long",
            )
        };
        let tokens = [
            ("without a token", None, 401),
            ("with an empty token", Some(String::new()), 401),
            ("with text for a token", Some("nonsense".into()), 401),
            ("with an expired token", Some(self.expired("access")), 401),
            ("with an alg:none token", Some(jwt::unsigned(ann, "none")), 401),
            ("with a refresh token", Some(self.ann.refresh_token.clone()), 401),
            ("with a foreign secret", Some(foreign_secret), 401),
            ("with a foreign token", Some(self.bob.token.clone()), 403),
            ("with nobody's token", Some(jwt::signed(NOBODY, json!({}))), 403),
        ];
        let right = self.right(operation);
        let case = |(what, token, status): (&str, Option<String>, u16)| {
            (what.to_owned(), Parts { token, ..right.clone() }, status, None)
        };
        tokens.into_iter().map(case).collect()
    }

    fn expired(&self, kind: &str) -> String {
        jwt::signed(&self.ann.pubid, json!({"typ": kind, "exp": jwt::now_s() - 60}))
    }

    fn send(&self, operation: &Operation, parts: &Parts) -> Reply {
        self.asked.set(self.asked.get() + 1);
        let query: Vec<String> =
            parts.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let target = match query.is_empty() {
            true => parts.path.clone(),
            false => format!("{}?{}", parts.path, query.join("&")),
        };
        let mut asked = request(method(operation), target);
        if let Some(token) = &parts.token {
            asked = asked.bearer(token);
        }
        if let Some(media_type) = parts.media_type {
            asked = asked.body(media_type, parts.text());
        }
        self.peace.ask(&asked)
    }
}

fn method(operation: &Operation) -> &'static str {
    let known = ["GET", "POST", "PUT", "PATCH", "DELETE"];
    known.into_iter().find(|name| operation.method == *name).expect("a method of routes")
}

impl Parts {
    /// With another value of one member of the body.
    fn with(&self, name: &'static str, value: Value) -> Self {
        let mut parts = self.clone();
        if let Body::Fields(fields) = &mut parts.body {
            fields.insert(name, value);
        }
        parts
    }

    fn without(&self, name: &str) -> Self {
        let mut parts = self.clone();
        if let Body::Fields(fields) = &mut parts.body {
            fields.remove(name);
        }
        parts
    }

    /// The body as it is sent.
    fn text(&self) -> String {
        match &self.body {
            Body::Text(text) => text.clone(),
            Body::Fields(fields) if self.media_type == Some(FORM) => {
                let pair = |(name, value): (&&str, &Value)| {
                    format!("{name}={}", value.as_str().expect("forms are text"))
                };
                fields.iter().map(pair).collect::<Vec<_>>().join("&")
            }
            Body::Fields(fields) => serde_json::to_string(fields).expect("it is JSON"),
        }
    }

    fn with_text(&self, text: impl Into<String>) -> Self {
        Self { body: Body::Text(text.into()), ..self.clone() }
    }
}

fn bad_paths(operation: &Operation, right: &Parts) -> Vec<Case> {
    let long = "a".repeat(300);
    let almost = format!("{}g", &NOBODY[..35]);
    let ids = NOT_A_VALUE.into_iter().chain([long.as_str(), almost.as_str(), "-1", "null"]);
    let case = |id: &str| {
        let path = operation.pattern.replace("{pubid}", id);
        (
            format!("the id {id}"),
            Parts { path, ..right.clone() },
            422,
            Some("path.pubid".to_owned()),
        )
    };
    ids.map(case).collect()
}

fn bad_queries(input: &InputSpec, right: &Parts) -> Vec<Case> {
    let mut cases = Vec::new();
    for field in &input.spec.fields {
        let others = || right.query.iter().filter(|(name, _)| name != field.name).cloned();
        let place = Some(format!("query.{}", field.name));
        let numbers = ["0x1", "1.5", "-1", "9223372036854775808", "201"];
        for value in NOT_A_VALUE.into_iter().chain([""]).chain(numbers) {
            let query = others().chain([(field.name.to_owned(), value.to_owned())]).collect();
            let what = format!("{}={value} in the query", field.name);
            cases.push((what, Parts { query, ..right.clone() }, 422, place.clone()));
        }
        if field.required {
            let what = format!("without {} in the query", field.name);
            cases.push((what, Parts { query: others().collect(), ..right.clone() }, 422, place));
        }
    }
    cases
}

fn bad_forms(input: &InputSpec, right: &Parts) -> Vec<Case> {
    let mut cases = vec![
        ("an empty form".into(), right.with_text(""), 422, None),
        ("JSON for a form".into(), Parts { media_type: Some(JSON), ..right.clone() }, 415, None),
    ];
    let twice = |name: &str| format!("{}&{name}=x", right.text());
    for field in &input.spec.fields {
        let place = Some(format!("body.{}", field.name));
        let mut case = |what: &str, parts: Parts| {
            cases.push((format!("{} {what}", field.name), parts, 422, place.clone()));
        };
        case("with NUL", right.with(field.name, json!("a%00b")));
        case("that is no UTF-8", right.with(field.name, json!("a%ffb")));
        case("twice", right.with_text(twice(field.name)));
        if field.required {
            case("missing", right.without(field.name));
        }
        if let Some(max) = field.schema["maxLength"].as_u64() {
            case("too long", right.with(field.name, json!("x".repeat(max as usize + 1))));
        }
    }
    cases
}

fn bad_bodies(input: &InputSpec, right: &Parts) -> Vec<Case> {
    let mut cases: Vec<Case> = vec![
        (
            "another type".into(),
            Parts { media_type: Some("text/plain"), ..right.clone() },
            415,
            None,
        ),
        ("a form".into(), Parts { media_type: Some(FORM), ..right.with_text("a=b") }, 415, None),
    ];
    let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
    for text in ["", "[]", "null", "7", "{", "{\"a\": }", "{} {}", &deep] {
        cases.push((format!("the body {text}"), right.with_text(text), 422, None));
    }
    for field in &input.spec.fields {
        let place = Some(format!("body.{}", field.name));
        let mut case = |what: &str, parts: Parts| {
            cases.push((format!("{} {what}", field.name), parts, 422, place.clone()));
        };
        case("that is a number", right.with(field.name, json!(7)));
        case("that is true", right.with(field.name, json!(true)));
        case("that is an object", right.with(field.name, json!({"a": 1})));
        case("that is a list", right.with(field.name, json!(["a"])));
        case("with NUL", right.with(field.name, json!("a\u{0}b, long enough")));
        if field.required {
            case("missing", right.without(field.name));
            case("that is null", right.with(field.name, Value::Null));
        }
        if let Some(max) = field.schema["maxLength"].as_u64() {
            case("too long", right.with(field.name, json!("é".repeat(max as usize + 1))));
        }
        // Refused with the whole body: it is no JSON text of Unicode characters.
        let marked = right.with(field.name, json!("@lone@")).text();
        let lone = right.with_text(marked.replace("@lone@", r"\ud800"));
        cases.push((format!("{} with a lone surrogate", field.name), lone, 422, None));
    }
    if input.spec.closed {
        let parts = right.with("unknown", json!(1));
        cases.push(("an unknown member".into(), parts, 422, Some("body.unknown".into())));
    }
    cases
}

/// A refusal has the one shape, and its kind is one that the route declares.
fn check_refusal(operation: &Operation, reply: &Reply, status: u16, what: &str) {
    check_problem(reply, status, what);
    let body = reply.json();
    let members =
        ["type", "title", "status", "detail", "instance", "request_id", "errors", "error"];
    for member in body.as_object().unwrap().keys() {
        assert!(members.contains(&member.as_str()), "{what}: {member} in {body}");
    }
    let code = body["type"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    let declared: Vec<&str> = operation.problems.iter().map(|kind| kind.code).collect();
    assert!(declared.contains(&code.as_str()), "{what}: {code} is not among {declared:?}");
    assert_eq!(status == 422, body.get("errors").is_some(), "{what}: {body}");
}

/// What is unknown is ignored where a payload is open, in bodies, forms and queries.
#[test]
fn what_is_unknown_is_ignored() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(1).serve();
    let (ann, bob) = (sign_up(&peace, "ann"), sign_up(&peace, "bob"));
    let item = add_item(&peace, &ann, "thing").rsplit('/').next().unwrap().to_owned();
    let abuser = Abuser { peace: &peace, ann, bob, item, is_open: false, asked: Cell::new(0) };
    let routes = resources::routes(false);
    let mut tried = 0;
    for operation in routes.operations().filter(|operation| operation.method != "DELETE") {
        let mut parts = abuser.right(operation);
        parts.query.push(("unknown".into(), "1".into()));
        if operation.inputs.iter().all(|input| !input.spec.closed) {
            parts = parts.with("unknown", json!("1"));
        }
        let reply = abuser.send(operation, &parts);
        assert_eq!(reply.status, operation.success.status, "{}", operation.name);
        tried += 1;
    }
    assert!(tried >= 14, "{tried}");
}
