//! What a request is made of, and every way to spoil a part of it by itself.
//!
//! `abuse` makes the right parts of an operation; here is what a wrong path, query, form or body
//! looks like, by the payload that the operation declares.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use worker::{FieldSpec, InputSpec, Operation};

pub(super) const NOBODY: &str = "00000000-0000-7000-8000-000000000000";
pub(super) const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";
/// Not a value of any field but plain text.
const NOT_A_VALUE: [&str; 4] = ["nope", "%00", "%ff", "%F0%9F%95%8A"];

/// What a request is made of, so that each part can be spoilt.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) path: String,
    pub(super) query: Vec<(String, String)>,
    /// One that no right request needs.
    pub(super) header: Option<(&'static str, String)>,
    pub(super) token: Option<String>,
    pub(super) media_type: Option<&'static str>,
    pub(super) body: Body,
}

#[derive(Clone)]
pub(super) enum Body {
    Fields(BTreeMap<&'static str, Value>),
    Text(String),
}

/// A request that is to be refused.
pub(super) struct Case {
    /// What is wrong.
    pub(super) what: String,
    pub(super) parts: Parts,
    pub(super) status: u16,
    /// The places that the failures have to name.
    pub(super) places: Vec<String>,
}

impl Case {
    pub(super) fn new(what: impl Into<String>, parts: Parts, status: u16) -> Self {
        Self { what: what.into(), parts, status, places: Vec::new() }
    }

    /// One that has to name this place.
    pub(super) fn at(mut self, place: impl Into<String>) -> Self {
        self.places.push(place.into());
        self
    }
}

impl Parts {
    /// With another value of one member of the body.
    pub(super) fn with(&self, name: &'static str, value: Value) -> Self {
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

    fn with_text(&self, text: impl Into<String>) -> Self {
        Self { body: Body::Text(text.into()), ..self.clone() }
    }

    /// With another id in the path.
    pub(super) fn with_id(&self, operation: &Operation, id: &str) -> Self {
        Self { path: operation.pattern.replace("{pubid}", id), ..self.clone() }
    }

    pub(super) fn with_token(&self, token: Option<&str>) -> Self {
        Self { token: token.map(str::to_owned), ..self.clone() }
    }

    /// The body as it is sent.
    pub(super) fn text(&self) -> String {
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
}

pub(super) fn bad_paths(operation: &Operation, right: &Parts) -> Vec<Case> {
    let long = "a".repeat(300);
    let almost = format!("{}g", &NOBODY[..35]);
    let ids = NOT_A_VALUE.into_iter().chain([long.as_str(), almost.as_str(), "-1", "null"]);
    let case = |id: &str| {
        Case::new(format!("the id {id}"), right.with_id(operation, id), 422).at("path.pubid")
    };
    ids.map(case).collect()
}

pub(super) fn bad_queries(input: &InputSpec, right: &Parts) -> Vec<Case> {
    let mut cases = Vec::new();
    for field in &input.spec.fields {
        let others = || right.query.iter().filter(|(name, _)| name != field.name).cloned();
        let mut case = |what: String, query: Vec<(String, String)>| {
            let parts = Parts { query, ..right.clone() };
            cases.push(Case::new(what, parts, 422).at(format!("query.{}", field.name)));
        };
        for value in not_a_parameter(field) {
            let query = others().chain([(field.name.to_owned(), value.clone())]).collect();
            case(format!("{}={value} in the query", field.name), query);
        }
        if field.required {
            case(format!("without {} in the query", field.name), others().collect());
        }
    }
    cases
}

/// What is no value of a parameter; nearly everything is plain text.
fn not_a_parameter(field: &FieldSpec) -> Vec<String> {
    if let Some(max) = field.schema["maxLength"].as_u64() {
        return vec!["%00".to_owned(), "%ff".to_owned(), "x".repeat(max as usize + 1)];
    }
    let numbers = ["0x1", "1.5", "-1", "9223372036854775808", "201"];
    NOT_A_VALUE.into_iter().chain([""]).chain(numbers).map(str::to_owned).collect()
}

/// Headers that are no list of tags and no key.
pub(super) fn bad_headers(input: &InputSpec, right: &Parts) -> Vec<Case> {
    let values =
        ["", ",", "\"", "\"a", "a\"", "\"a\" \"b\"", "\"a\";b", "a b", "ä"].map(str::to_owned);
    let values: Vec<String> = values.into_iter().chain(["x".repeat(300)]).collect();
    let pairs = input
        .spec
        .fields
        .iter()
        .flat_map(|field| values.iter().map(|value| (field.name, value.clone())));
    let case = |(name, value): (&'static str, String)| {
        let what = format!("{name}: {value}");
        Case::new(what, Parts { header: Some((name, value)), ..right.clone() }, 400)
    };
    pairs.map(case).collect()
}

pub(super) fn bad_forms(input: &InputSpec, right: &Parts) -> Vec<Case> {
    let mut cases = vec![
        Case::new("an empty form", right.with_text(""), 422),
        Case::new("JSON for a form", Parts { media_type: Some(JSON), ..right.clone() }, 415),
    ];
    let twice = |name: &str| format!("{}&{name}=x", right.text());
    for field in &input.spec.fields {
        let mut case = |what: &str, parts: Parts| {
            let case = Case::new(format!("{} {what}", field.name), parts, 422);
            cases.push(case.at(format!("body.{}", field.name)));
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

pub(super) fn bad_bodies(input: &InputSpec, right: &Parts) -> Vec<Case> {
    let text = Parts { media_type: Some("text/plain"), ..right.clone() };
    let form = Parts { media_type: Some(FORM), ..right.with_text("a=b") };
    let mut cases = vec![Case::new("another type", text, 415), Case::new("a form", form, 415)];
    // Each is JSON to look at, and means something else.
    for other in ["application/json-patch+json", "application/vnd.api+json", "text/json"] {
        let parts = Parts { media_type: Some(other), ..right.clone() };
        cases.push(Case::new(format!("a body of {other}"), parts, 415));
    }
    let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
    for text in ["", "[]", "null", "7", "{", "{\"a\": }", "{} {}", &deep] {
        cases.push(Case::new(format!("the body {text}"), right.with_text(text), 422));
    }
    for field in &input.spec.fields {
        let mut case = |what: &str, parts: Parts| {
            let case = Case::new(format!("{} {what}", field.name), parts, 422);
            cases.push(case.at(format!("body.{}", field.name)));
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
        cases.push(Case::new(format!("{} with a lone surrogate", field.name), lone, 422));
    }
    if input.spec.closed {
        let parts = right.with("unknown", json!(1));
        cases.push(Case::new("an unknown member", parts, 422).at("body.unknown"));
    }
    cases
}
