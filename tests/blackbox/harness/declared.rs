//! The API document, held against what is answered: no status, kind or header comes that it does not
//! declare, and none is missing that it promises.
//!
//! [`Peace::ask_told`](super::Peace::ask_told) looks at every answer in this way.

use std::sync::LazyLock;

use serde_json::Value;

use super::client::{Reply, Request};

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(&peace::docs::openapi_json()).expect("the document is JSON")
});

/// Headers of which the document tells where they are sent.
const TOLD: [&str; 9] = [
    "accept",
    "accept-patch",
    "etag",
    "idempotency-replayed",
    "link",
    "location",
    "retry-after",
    "www-authenticate",
    "x-request-id",
];

/// Checks the answer to a request for something that the document has; it is silent about other paths
/// and methods.
pub(crate) fn check(request: &Request, reply: &Reply) {
    let (method, target) = (request.method(), request.target());
    let Some(operation) = operation(method, target) else { return };
    let what = format!("{method} {target}: {}", reply.status);
    let response = follow(&operation["responses"][reply.status.to_string()]);
    assert!(response.is_object(), "{what} is not in the document");
    check_headers(response, request, reply, &what);
    let content = response["content"].as_object();
    if method == "HEAD" || reply.body.is_empty() {
        assert!(method == "HEAD" || content.is_none(), "{what}: no content");
        return;
    }
    let media_type = reply.header("content-type").unwrap_or_default();
    let content = content.and_then(|all| all.get(media_type));
    let content = content.unwrap_or_else(|| panic!("{what}: {media_type} is not in the document"));
    if let Some(code) = code(reply) {
        assert!(content["examples"][&code].is_object(), "{what}: {code} is not in the document");
    }
}

/// The operation that a request is for.
fn operation(method: &str, target: &str) -> Option<&'static Value> {
    let path = target.split('?').next().unwrap_or_default().trim_end_matches('/');
    let fits = |pattern: &str| {
        let (ours, theirs) = (pattern.split('/'), path.split('/'));
        ours.clone().count() == theirs.clone().count()
            && ours.zip(theirs).all(|(one, other)| one == other || one.starts_with('{'))
    };
    let name = if method == "HEAD" { "get".to_owned() } else { method.to_lowercase() };
    let paths = DOCUMENT["paths"].as_object().expect("the document has paths");
    let (_, methods) = paths.iter().find(|(pattern, _)| fits(pattern))?;
    methods.get(&name)
}

fn check_headers(response: &Value, request: &Request, reply: &Reply, what: &str) {
    let declared: Vec<String> = response["headers"]
        .as_object()
        .map(|headers| headers.keys().map(|name| name.to_lowercase()).collect())
        .unwrap_or_default();
    for name in TOLD {
        let (is_sent, is_declared) =
            (reply.header(name).is_some(), declared.iter().any(|one| one == name));
        assert!(is_declared || !is_sent, "{what}: {name} is sent, and not in the document");
        let is_missing = is_declared && !is_sent && !may_be_absent(name, request, reply);
        assert!(!is_missing, "{what}: {name} is in the document, and not sent");
    }
}

/// A last page leads to no next one, and a first answer is not repeated; a user with items has no tag;
/// of conflicts one passes by itself.
fn may_be_absent(name: &str, request: &Request, reply: &Reply) -> bool {
    match name {
        "link" | "idempotency-replayed" => true,
        "etag" => request.target().contains("incl_items=true"),
        "retry-after" => {
            reply.status == 409
                && request.method() != "HEAD"
                && code(reply).as_deref() != Some("idempotency-key-in-use")
        }
        _ => false,
    }
}

/// The kind of a problem.
fn code(reply: &Reply) -> Option<String> {
    let is_problem = reply.header("content-type") == Some("application/problem+json");
    let kind = is_problem.then(|| reply.json()["type"].as_str().map(str::to_owned)).flatten()?;
    kind.strip_prefix("/problems/").map(str::to_owned)
}

fn follow(value: &'static Value) -> &'static Value {
    match value["$ref"].as_str() {
        Some(reference) => DOCUMENT
            .pointer(reference.trim_start_matches('#'))
            .unwrap_or_else(|| panic!("{reference} leads nowhere")),
        None => value,
    }
}
