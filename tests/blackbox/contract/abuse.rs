//! The contract under abuse: every route of the program's own table, and every way in which its input
//! can be wrong.
//!
//! Routes, fields and declared problems are read from the table that the router is made of, so a new
//! resource is abused as soon as it is there. All it needs is a row in [`RESOURCES`] and a right value
//! for each new field, in `Abuser::sample`. Of every answer: the status is the expected one, the body
//! is a problem of the one shape, its kind is declared by the route and in the API document, as are its
//! headers, and none is a 500.
//! Where several parts are wrong at once, the answer is about the one that is looked at first.
//!
//! `contract` runs it on the database itself, the external tests behind a pooler.

use std::cell::Cell;
use std::collections::BTreeMap;

use peace::resources;
use serde_json::{Value, json};
use worker::{FieldSpec, InputSpec, Operation, Source};

use super::parts::{
    Body, Case, FORM, NOBODY, Parts, bad_bodies, bad_forms, bad_headers, bad_paths, bad_queries,
};
use crate::harness::api::{PASSWORD, User, add_item, check_problem, failures, log_in, sign_up};
use crate::harness::client::Reply;
use crate::harness::{Launch, Peace, jwt, request};

/// What the program's table does not say about the routes below a prefix.
struct Resource {
    prefix: &'static str,
    /// Adds one of this user's; gives its path, whose last segment is a right id.
    add: fn(&Peace, &User) -> String,
    owner: Owner,
    /// Whether `PEACE_ITEM_WRITES=anyone` lets anybody write it.
    can_be_open: bool,
}

/// What tells who may write a row, and so when it is asked.
#[derive(PartialEq, Eq)]
enum Owner {
    /// The id in the path: before the body is read, and whether there is such a row or not.
    Path,
    /// The row: after the path and the body, and only where there is one.
    Row,
    /// Nothing: it is about whoever calls.
    Caller,
}

/// What belongs to others stands before them: it is deleted first.
const RESOURCES: &[Resource] = &[
    Resource {
        prefix: "/items",
        add: |peace, user| add_item(peace, user, "thing"),
        owner: Owner::Row,
        can_be_open: true,
    },
    Resource {
        prefix: "/users",
        add: |_, user| user.place.clone(),
        owner: Owner::Path,
        can_be_open: false,
    },
    Resource {
        prefix: "/auth",
        add: |_, user| user.place.clone(),
        owner: Owner::Caller,
        can_be_open: false,
    },
];

/// Starts it, and sends to each route all that can be wrong, then what is right.
pub(crate) fn abuse(launch: Launch, item_writes: &str) {
    let launch = launch.workers(2).env("PEACE_ITEM_WRITES", item_writes);
    let peace = launch.env("JWT_SECRET_KEY", jwt::SECRET).serve();
    let abuser = Abuser::new(&peace, item_writes == "anyone");
    let routes = resources::routes(false);
    let mut operations: Vec<&Operation> = routes.operations().collect();
    // What succeeds at deleting does so last.
    operations.sort_by_key(|operation| {
        (operation.method == "DELETE", place_of(operation), operation.pattern)
    });
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

/// Starts it, and sends what is unknown, which is ignored where a payload is open: in bodies, forms
/// and queries.
pub(crate) fn add_unknown(launch: Launch) {
    let peace = launch.workers(1).serve();
    let abuser = Abuser::new(&peace, false);
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

struct Abuser<'a> {
    peace: &'a Peace,
    ann: User,
    bob: User,
    /// Who logs out, again and again.
    carl: &'static str,
    /// An id of ann's in each resource.
    ids: BTreeMap<&'static str, String>,
    /// Whether anyone may write items.
    is_open: bool,
    asked: Cell<usize>,
}

impl<'a> Abuser<'a> {
    fn new(peace: &'a Peace, is_open: bool) -> Self {
        let (ann, bob, carl) = (sign_up(peace, "ann"), sign_up(peace, "bob"), "carl");
        sign_up(peace, carl);
        let id = |resource: &Resource| (resource.prefix, id_of(&(resource.add)(peace, &ann)));
        let ids = RESOURCES.iter().map(id).collect();
        Self { peace, ann, bob, carl, ids, is_open, asked: Cell::new(0) }
    }

    /// Sends everything that can be wrong with this operation, then what is right; gives the statuses.
    fn abuse(&self, operation: &Operation) -> Vec<u16> {
        let mut statuses = Vec::new();
        for Case { what, parts, status, places } in self.cases(operation) {
            let what = format!("{}: {what}", operation.name);
            let reply = self.send(operation, &parts);
            check_refusal(operation, &reply, status, &what);
            let told = || failures(&reply).into_iter().map(|(at, _)| at).collect::<Vec<_>>();
            for place in places {
                assert!(told().contains(&place), "{what}: {place} is not among {:?}", told());
            }
            statuses.push(reply.status);
        }
        let right = [("all right".to_owned(), self.right(operation))];
        for (what, parts) in self.needless_tokens(operation).into_iter().chain(right) {
            let reply = self.send(operation, &parts);
            let body = String::from_utf8_lossy(&reply.body);
            let (name, expected) = (operation.name, operation.success.status);
            assert_eq!(reply.status, expected, "{name}: {what}: {body}");
            statuses.push(reply.status);
        }
        statuses
    }

    fn cases(&self, operation: &Operation) -> Vec<Case> {
        let right = self.right(operation);
        let spoilt = |input: &InputSpec| match (input.source, input.media_types.first().copied()) {
            (Source::Path, _) => bad_paths(operation, &right),
            (Source::Query, _) => bad_queries(input, &right),
            (Source::Header, _) => bad_headers(input, &right),
            (Source::Body, Some(FORM)) => bad_forms(input, &right),
            (Source::Body, _) => bad_bodies(input, &right),
        };
        let mut cases: Vec<Case> = operation.inputs.iter().flat_map(spoilt).collect();
        cases.extend(self.bad_references(operation));
        if self.needs_token(operation) {
            let case = |(what, token, status): (&str, Option<String>, u16)| {
                Case::new(what, right.with_token(token.as_deref()), status)
            };
            cases.extend(self.bad_tokens().into_iter().map(case));
            if resource(operation).owner != Owner::Caller {
                cases.extend(self.foreign_tokens(operation).into_iter().map(case));
            }
            cases.extend(self.in_order(operation));
        }
        cases.extend(self.together(operation));
        cases
    }

    /// Several parts are wrong: the token is looked at first, then the path, then either whose it is
    /// or the body, then the other one.
    fn in_order(&self, operation: &Operation) -> Vec<Case> {
        let right = self.right(operation);
        let by_path = resource(operation).owner == Owner::Path;
        let foreign = right.with_token(Some(&self.bob.token));
        let nobodys = |parts: &Parts| parts.with_id(operation, NOBODY);
        let has_path = operation.pattern.contains("{pubid}");
        let body = body_of(operation);
        let all_wrong = |parts: &Parts| spoil_body(body, parts).with_id(operation, "nope");
        let mut cases = vec![
            Case::new("no token, and all the rest wrong", all_wrong(&right).with_token(None), 401),
            Case::new(
                "no good token, and all else wrong",
                all_wrong(&right).with_token(Some("x")),
                401,
            ),
        ];
        if has_path {
            let bad_path = foreign.with_id(operation, "nope");
            cases.push(Case::new("a foreign token, a bad path", bad_path, 422).at("path.pubid"));
            let missing = if by_path { 403 } else { 404 };
            let parts = nobodys(&foreign);
            cases.push(Case::new("a foreign token, an unknown id", parts, missing));
        }
        if body.is_some() {
            let status = if by_path { 403 } else { 422 };
            let parts = spoil_body(body, &foreign);
            cases.push(Case::new("a foreign token, a bad body", parts, status));
            if has_path {
                let parts = nobodys(&spoil_body(body, &right));
                cases.push(Case::new("an unknown id, a bad body", parts, status));
            }
        }
        cases
    }

    /// A path and another part are wrong: both are told, where nothing has to be asked between.
    fn together(&self, operation: &Operation) -> Vec<Case> {
        let right = self.right(operation);
        let bad_path = |parts: &Parts| parts.with_id(operation, "nope");
        let mut cases = Vec::new();
        if !operation.pattern.contains("{pubid}") {
            return cases;
        }
        for input in operation.inputs.iter().filter(|input| input.source == Source::Query) {
            for case in bad_queries(input, &right) {
                let what = format!("a bad path, {}", case.what);
                let both = Case { what, parts: bad_path(&case.parts), ..case };
                cases.push(both.at("path.pubid"));
            }
        }
        if let Some(input) = body_of(operation) {
            let parts = bad_path(&spoil_body(Some(input), &right));
            let case = Case::new("a bad path, a bad body", parts, 422).at("path.pubid");
            let asks_between = resource(operation).owner == Owner::Path;
            cases.push(match asks_between {
                true => case,
                false => case.at(format!("body.{}", input.spec.fields[0].name)),
            });
        }
        cases
    }

    fn right(&self, operation: &Operation) -> Parts {
        let mut parts = Parts {
            path: operation.pattern.to_owned(),
            query: Vec::new(),
            header: None,
            token: self.needs_token(operation).then(|| self.token(operation)),
            media_type: None,
            body: Body::Fields(BTreeMap::new()),
        };
        for input in &operation.inputs {
            let required = input.spec.fields.iter().filter(|field| field.required);
            match input.source {
                Source::Path => {
                    parts = parts.with_id(operation, &self.ids[resource(operation).prefix]);
                }
                Source::Query => {
                    let text = |field: &FieldSpec| self.sample(field).as_str().unwrap().to_owned();
                    parts.query = required.map(|one| (one.name.to_owned(), text(one))).collect();
                }
                // Those that are told here may be left out.
                Source::Header => {}
                Source::Body => {
                    parts.media_type = input.media_types.first().copied();
                    let value = |field: &FieldSpec| (field.name, self.sample(field));
                    parts.body = Body::Fields(input.spec.fields.iter().map(value).collect());
                }
            }
        }
        parts
    }

    /// A right token; for who logs out one of its own.
    fn token(&self, operation: &Operation) -> String {
        if resource(operation).owner != Owner::Caller {
            return self.ann.token.clone();
        }
        let login = log_in(self.peace, &[("username", self.carl), ("password", PASSWORD)]);
        login.json()["access_token"].as_str().expect("a token").to_owned()
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
        declares_token(operation) && !self.is_open_to_anyone(operation)
    }

    fn is_open_to_anyone(&self, operation: &Operation) -> bool {
        declares_token(operation) && self.is_open && resource(operation).can_be_open
    }

    fn bad_references(&self, operation: &Operation) -> Vec<Case> {
        let right = self.right(operation);
        let mut cases = Vec::new();
        if operation.pattern.contains("{pubid}") {
            // Whose it is comes before whether it is there, but for what the path cannot tell.
            let is_own = self.needs_token(operation) && resource(operation).owner == Owner::Path;
            let status = if is_own { 403 } else { 404 };
            cases.push(Case::new("an unknown id", right.with_id(operation, NOBODY), status));
        }
        let of_a_user = |input: &InputSpec| has_field(input, "user_pubid");
        if body_of(operation).is_some_and(of_a_user) {
            let parts = right.with("user_pubid", json!(NOBODY));
            cases.push(match self.needs_token(operation) {
                true => Case::new("an unknown user", parts, 403),
                false => Case::new("an unknown user", parts, 422).at("body.user_pubid"),
            });
        }
        match operation.name {
            "users-create" => {
                cases.push(Case::new("a taken name", right.with("name", json!("bob")), 409));
            }
            "auth-refresh" => {
                for (what, token) in [
                    ("an access token", self.ann.token.clone()),
                    ("no token at all", "asd".into()),
                    ("a token of nobody", jwt::signed(NOBODY, json!({"typ": "refresh"}))),
                    ("one that is over", self.expired("refresh")),
                    ("an unsigned one", jwt::unsigned(&self.ann.pubid, "none")),
                ] {
                    let parts = right.with("refresh_token", json!(token));
                    cases.push(Case::new(what, parts, 401));
                }
            }
            "auth-token" => {
                for (name, password) in [("ann", "another-word"), ("nobody", PASSWORD)] {
                    let parts = right.with("username", json!(name));
                    let parts = parts.with("password", json!(password));
                    cases.push(Case::new(format!("{name}, {password}"), parts, 401));
                }
            }
            _ => {}
        }
        cases
    }

    /// Tokens that let nobody write what is ann's, and how they are refused.
    fn bad_tokens(&self) -> Vec<(&'static str, Option<String>, u16)> {
        let ann = &self.ann.pubid;
        let foreign_secret = {
            let header = json!({"alg": "HS256", "typ": "JWT"});
            jwt::token(
                &header,
                &jwt::claims(ann, json!({})),
                "the secret of somebody else, as long",
            )
        };
        vec![
            ("without a token", None, 401),
            ("with an empty token", Some(String::new()), 401),
            ("with text for a token", Some("nonsense".into()), 401),
            ("with an expired token", Some(self.expired("access")), 401),
            ("with an alg:none token", Some(jwt::unsigned(ann, "none")), 401),
            ("with a refresh token", Some(self.ann.refresh_token.clone()), 401),
            ("with a foreign secret", Some(foreign_secret), 401),
        ]
    }

    /// Tokens of others. Where it is the row that tells whose it is, the session is looked for
    /// first.
    fn foreign_tokens(&self, operation: &Operation) -> Vec<(&'static str, Option<String>, u16)> {
        let is_told_by_row = resource(operation).owner == Owner::Row && operation.method != "POST";
        let nobodys = if is_told_by_row { 401 } else { 403 };
        vec![
            ("with a foreign token", Some(self.bob.token.clone()), 403),
            ("with nobody's token", Some(jwt::signed(NOBODY, json!({}))), nobodys),
        ]
    }

    /// Where nobody is asked for a token, one that is no good does no harm. Each request is about a
    /// row of its own, since it may be deleted.
    fn needless_tokens(&self, operation: &Operation) -> Vec<(String, Parts)> {
        if !self.is_open_to_anyone(operation) {
            return Vec::new();
        }
        let right = self.right(operation);
        let parts = |(what, token, _): (&str, Option<String>, u16)| {
            let row = (resource(operation).add)(self.peace, &self.ann);
            let parts = right.with_id(operation, &id_of(&row)).with_token(token.as_deref());
            (what.to_owned(), parts)
        };
        let tokens = self.bad_tokens().into_iter().chain(self.foreign_tokens(operation));
        tokens.map(parts).collect()
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
        if let Some((name, value)) = &parts.header {
            asked = asked.header(name, value);
        }
        if let Some(media_type) = parts.media_type {
            asked = asked.body(media_type, parts.text());
        }
        self.peace.ask_told(&asked)
    }
}

fn method(operation: &Operation) -> &'static str {
    let known = ["GET", "POST", "PUT", "PATCH", "DELETE"];
    known.into_iter().find(|name| operation.method == *name).expect("a method of routes")
}

/// The row of [`RESOURCES`] that an operation belongs to, where one has to be known.
fn resource(operation: &Operation) -> &'static Resource {
    let place = place_of(operation);
    let place = place.unwrap_or_else(|| panic!("{}: add a row to RESOURCES", operation.pattern));
    &RESOURCES[place]
}

fn place_of(operation: &Operation) -> Option<usize> {
    let first = operation.pattern.split('/').nth(1);
    RESOURCES.iter().position(|resource| resource.prefix.strip_prefix('/') == first)
}

fn id_of(place: &str) -> String {
    place.rsplit('/').next().expect("a path").to_owned()
}

pub(crate) fn declares_token(operation: &Operation) -> bool {
    operation.problems.iter().any(|kind| kind.code == "unauthenticated")
}

fn has_field(input: &InputSpec, name: &str) -> bool {
    input.spec.fields.iter().any(|field| field.name == name)
}

fn body_of(operation: &Operation) -> Option<&InputSpec> {
    operation.inputs.iter().find(|input| input.source == Source::Body)
}

/// With a body whose first field is wrong, where there is a body.
fn spoil_body(input: Option<&InputSpec>, parts: &Parts) -> Parts {
    let spoil = |input: &InputSpec| parts.with(input.spec.fields[0].name, json!({"a": 1}));
    input.map_or_else(|| parts.clone(), spoil)
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
