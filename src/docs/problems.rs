//! The catalogue of problems: every kind that anything of this API answers with, and where.
//!
//! `document` takes the examples from it, `html` makes a page of each entry. The texts are the kinds' own.
//! Promises: each kind once, sorted by status; what an operation declares is in it, and so is what every
//! request can meet.

use serde_json::{Value as Json, json};
use worker::kinds::{ANY, ANY_WITH_BODY, WITHOUT_OPERATION};
use worker::{Kind, Operation};

use crate::resources;

/// One kind of problem, as it is told.
pub(super) struct Told {
    pub(super) kind: &'static Kind,
    /// A body of this kind.
    pub(super) example: Json,
    /// The operations that declare it, as method and path; none where any request can meet it.
    pub(super) places: Vec<String>,
}

/// The kinds that an operation can answer with, sorted by status.
pub(super) fn of(operation: &Operation) -> Vec<&'static Kind> {
    let has_body = operation.inputs.iter().any(|input| !input.media_types.is_empty());
    let with_body = if has_body { ANY_WITH_BODY } else { &[] };
    sorted([&operation.problems[..], ANY, with_body].concat())
}

/// Every kind there is.
pub(super) fn all() -> Vec<Told> {
    let routes = resources::routes(false);
    let operations: Vec<&Operation> = routes.operations().collect();
    let declared = operations.iter().flat_map(|operation| of(operation));
    let kinds = sorted(declared.chain(WITHOUT_OPERATION.iter().copied()).collect());
    kinds.into_iter().map(|kind| told(kind, &operations)).collect()
}

fn told(kind: &'static Kind, operations: &[&Operation]) -> Told {
    let declares = |operation: &&&Operation| operation.problems.contains(&kind);
    let declaring: Vec<_> = operations.iter().filter(declares).collect();
    let place = |one: &&&Operation| format!("{} {}", one.method, one.pattern);
    let everywhere = ANY.contains(&kind);
    let places = if everywhere { Vec::new() } else { declaring.iter().map(place).collect() };
    let instance = declaring.first().map_or("/", |operation| operation.pattern);
    Told { kind, example: example(kind, instance), places }
}

fn sorted(mut kinds: Vec<&'static Kind>) -> Vec<&'static Kind> {
    kinds.sort_by_key(|kind| kind.status);
    let mut once: Vec<&'static Kind> = Vec::new();
    for kind in kinds {
        if !once.contains(&kind) {
            once.push(kind);
        }
    }
    once
}

fn example(kind: &Kind, instance: &str) -> Json {
    let mut body = json!({
        "type": format!("/problems/{}", kind.code),
        "title": kind.title,
        "status": kind.status,
        "detail": kind.title,
        "instance": instance,
        "request_id": "0193a1b2c3d47e5f8a9b0c1d2e3f4a5b",
    });
    if kind.status == 422 {
        body["detail"] = "the request does not fit what this route takes".into();
        body["errors"] = json!([{
            "loc": ["body", "name"], "msg": "Field required", "type": "missing", "pointer": "#/name",
        }]);
    }
    body
}
