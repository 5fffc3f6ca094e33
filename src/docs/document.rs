//! The API document: OpenAPI 3.1, made from the table of operations and nothing else.
//!
//! `docs` asks for it once. `schemas` says what is read and answered; here is the rest: paths,
//! parameters, bodies, and how each operation can end.
//! Promises: everything that an operation declares is in it, and every answer an operation can give,
//! problems with each of their kinds. It is in the order of the table. Who is asked for a token is told
//! as the settings have it, since the table is (`resources::told`).
//! Source: the OpenAPI specification 3.1.1, RFC 6749 (the password flow), RFC 9457.

mod schemas;

use worker::header::{HeaderName, LOCATION};
use worker::{FieldSpec, InputSpec, Kind, Method, Operation, Schema, Source, StatusCode};

use self::schemas::{Schemas, sample, sample_of_payload};
use super::node::{Members, Node, object};
use super::problems::{self, Told};
use crate::errors::{IDEMPOTENCY_KEY_IN_USE, UNAUTHENTICATED};

/// The document of these operations, in chapters.
pub(super) fn of<'a>(
    operations: impl Iterator<Item = &'a Operation>,
    chapters: &[(&'static str, &'static str)],
) -> Node {
    let operations: Vec<&Operation> = operations.collect();
    let mut schemas = Schemas::default();
    let paths = paths(&operations, &mut schemas);
    let chapter = |(name, about): &(&'static str, &'static str)| {
        object! { "name" => *name, "description" => *about }
    };
    object! {
        "openapi" => "3.1.0",
        "info" => info(),
        "servers" => vec![object! { "url" => "/" }],
        "tags" => chapters.iter().map(chapter).collect::<Vec<_>>(),
        "paths" => paths,
        "components" => components(schemas, &operations),
    }
}

fn info() -> Node {
    let license = env!("CARGO_PKG_LICENSE");
    let license =
        (!license.is_empty()).then(|| object! { "name" => license, "identifier" => license });
    object! {
        "title" => env!("CARGO_PKG_NAME"),
        "version" => env!("CARGO_PKG_VERSION"),
        "description" => "Errors are `application/problem+json`; each `type` is a page that says how \
            to mend it: [all of them](/problems).",
    }
    .with_some("license", license)
}

fn paths(operations: &[&Operation], schemas: &mut Schemas) -> Members {
    let mut paths: Members = Vec::new();
    for operation in operations {
        let described = operation_object(operation, operations, schemas);
        let method = operation.method.as_str().to_ascii_lowercase();
        match paths.iter_mut().find(|(pattern, _)| *pattern == operation.pattern) {
            Some((_, Node::Object(methods))) => methods.push((method.into(), described)),
            _ => paths.push((operation.pattern.into(), object! { method => described })),
        }
    }
    paths
}

fn operation_object(operation: &Operation, all: &[&Operation], schemas: &mut Schemas) -> Node {
    let chapter = operation.name.split('-').next().unwrap_or_default();
    let body = operation.inputs.iter().find(|input| input.source == Source::Body);
    let body = body.map(|input| request_body(input, schemas));
    let parameters: Vec<Node> = operation.inputs.iter().flat_map(parameters).collect();
    object! {
        "operationId" => operation.name,
        "summary" => operation.about,
        "tags" => vec![Node::from(chapter)],
        "security" => security(operation),
    }
    .with_some("parameters", (!parameters.is_empty()).then_some(parameters))
    .with_some("requestBody", body)
    .with("responses", responses(operation, all, schemas))
}

/// A token, where one is asked for: typed in, or from the form for name and password.
fn security(operation: &Operation) -> Vec<Node> {
    let none = || Node::List(Vec::new());
    match operation.problems.contains(&&UNAUTHENTICATED) {
        true => vec![object! { "password" => none() }, object! { "token" => none() }],
        false => Vec::new(),
    }
}

fn parameters(input: &InputSpec) -> Vec<Node> {
    let place = match input.source {
        Source::Path => "path",
        Source::Query => "query",
        Source::Header => "header",
        Source::Body => return Vec::new(),
    };
    let parameter = |field: &FieldSpec| {
        let example = field.required.then(|| schemas::sample_of_field(field));
        object! { "name" => field.name, "in" => place, "required" => field.required }
            .with_some("description", schemas::description(field))
            .with("schema", schemas::of_text(field))
            .with_some("example", example)
    };
    input.spec.fields.iter().map(parameter).collect()
}

fn request_body(input: &InputSpec, schemas: &mut Schemas) -> Node {
    let mut content = |name: &&'static str| {
        let body = object! {
            "schema" => schemas.payload(input),
            "example" => sample_of_payload(&input.spec),
        };
        ((*name).into(), body)
    };
    let content: Members = input.media_types.iter().map(&mut content).collect();
    object! { "required" => true, "content" => content }
}

// How an operation can end

fn responses(operation: &Operation, all: &[&Operation], schemas: &mut Schemas) -> Members {
    let status = operation.success.status.as_str().to_owned();
    let mut responses = vec![(status.into(), success(operation, all, schemas))];
    let is_asked =
        |input: &InputSpec| input.spec.fields.iter().any(|one| one.name == "If-None-Match");
    if operation.method == Method::GET && operation.inputs.iter().any(is_asked) {
        responses.push(("304".into(), not_modified()));
    }
    let kinds = problems::of(operation);
    for group in kinds.chunk_by(|one, next| one.status == next.status) {
        responses.push((group[0].status.to_string().into(), problem(operation, group)));
    }
    responses
}

fn success(operation: &Operation, all: &[&Operation], schemas: &mut Schemas) -> Node {
    let spec = &operation.success;
    let own = spec.headers.iter().filter_map(told_header);
    let headers = own.fold(object! { "X-Request-Id" => header("X-Request-Id") }, |all, name| {
        all.with(name, header(name))
    });
    let content = spec.body.as_ref().map(|body| {
        let json = object! { "schema" => schemas.reference(body), "example" => sample(body) };
        object! { "application/json" => json }
    });
    let links = links(operation, all);
    object! {
        "description" => StatusCode::canonical_reason(&spec.status).unwrap_or("Success"),
        "headers" => headers,
    }
    .with_some("content", content)
    .with_some("links", (!links.is_empty()).then_some(links))
}

fn not_modified() -> Node {
    object! {
        "description" => "Not Modified: the client has what it asks for",
        "headers" => object! { "X-Request-Id" => header("X-Request-Id"), "ETag" => header("ETag") },
    }
}

/// What can be done next with what was created: every operation below its path whose parameters are
/// members of the answer.
fn links(operation: &Operation, all: &[&Operation]) -> Members {
    let Some(Schema::Object(created)) = operation.success.body.as_ref() else { return Vec::new() };
    let is_member = |name: &str| created.members.iter().any(|member| member.name == name);
    let below = format!("{}/{{", operation.pattern);
    let link = |next: &&Operation| {
        let inputs = next.inputs.iter().filter(|input| input.source == Source::Path);
        let names: Vec<&str> =
            inputs.flat_map(|input| &input.spec.fields).map(|field| field.name).collect();
        if !next.pattern.starts_with(&below) || !names.iter().all(|name| is_member(name)) {
            return None;
        }
        let from_body =
            |name: &&str| ((*name).to_owned().into(), format!("$response.body#/{name}").into());
        let parameters: Members = names.iter().map(from_body).collect();
        let link = object! { "operationId" => next.name, "parameters" => parameters };
        Some((next.name.into(), link))
    };
    let located = operation.success.headers.contains(&LOCATION);
    all.iter().filter(|_| located).filter_map(link).collect()
}

/// One status, with all the kinds of problems that it stands for here.
fn problem(operation: &Operation, kinds: &[&'static Kind]) -> Node {
    let status = kinds[0].status;
    let names: Vec<String> =
        kinds.iter().map(|kind| format!("[{0}](/problems/{0})", kind.code)).collect();
    let extra = match status {
        401 => Some("WWW-Authenticate"),
        415 if operation.method == Method::PATCH => Some("Accept-Patch"),
        415 => Some("Accept"),
        409 if kinds.contains(&&IDEMPOTENCY_KEY_IN_USE) => Some("Retry-After"),
        429 | 503 => Some("Retry-After"),
        _ => None,
    };
    let mut headers = object! { "X-Request-Id" => header("X-Request-Id") };
    if let Some(name) = extra {
        headers = headers.with(name, header(name));
    }
    let example = |kind: &&Kind| {
        let reference = format!("#/components/examples/{}", kind.code);
        (kind.code.into(), object! { "$ref" => reference })
    };
    let content = object! {
        "schema" => object! { "$ref" => "#/components/schemas/Problem" },
        "examples" => kinds.iter().map(example).collect::<Members>(),
    };
    object! {
        "description" => format!("{}: {}", kinds[0].title, names.join(", ")),
        "headers" => headers,
        "content" => object! { "application/problem+json" => content },
    }
}

fn header(name: &str) -> Node {
    object! { "$ref" => format!("#/components/headers/{name}") }
}

// What several operations have in common

fn components(mut schemas: Schemas, operations: &[&Operation]) -> Node {
    schemas.reference(&<worker::Problem as worker::Describe>::describe());
    let example = |Told { kind, example, .. }: Told| {
        (kind.code.into(), object! { "summary" => kind.about, "value" => example })
    };
    let is_answered =
        |told: &Told| operations.iter().any(|one| problems::of(one).contains(&told.kind));
    let answered = problems::all().into_iter().filter(is_answered);
    object! {
        "schemas" => schemas.into_members(),
        "examples" => answered.map(example).collect::<Members>(),
        "headers" => headers(),
        "securitySchemes" => object! {
            "password" => object! {
                "type" => "oauth2",
                "description" => "Name and password of a user. Leave the client's fields empty.",
                "flows" => object! {
                    "password" => object! { "tokenUrl" => "/auth/token", "scopes" => object! {} },
                },
            },
            "token" => object! {
                "type" => "http",
                "scheme" => "bearer",
                "bearerFormat" => "JWT",
                "description" => "The `access_token` of `POST /auth/token`.",
            },
        },
    }
}

/// The headers of answers, as they are told.
const HEADERS: [(&str, &str); 9] = [
    ("X-Request-Id", "Name of this request in the server's log: the client's, or a new one."),
    ("Location", "The path of what was created."),
    ("ETag", "The version of what is answered, for `If-Match` and `If-None-Match`."),
    ("Link", "The next page, where there is one (`rel=\"next\"`)."),
    (
        "Idempotency-Replayed",
        "`true` where a request with this `Idempotency-Key` was answered before.",
    ),
    ("WWW-Authenticate", "How to authenticate."),
    ("Accept", "The media type that this route reads."),
    ("Accept-Patch", "The media types that a `PATCH` here may have."),
    ("Retry-After", "After how many seconds to try again."),
];

/// How a header is written, if it is told.
fn told_header(name: &HeaderName) -> Option<&'static str> {
    let told = HEADERS.iter().map(|(told, _)| *told);
    told.into_iter().find(|told| told.eq_ignore_ascii_case(name.as_str()))
}

fn headers() -> Members {
    let text = || object! { "type" => "string" };
    let header = |(name, about): (&'static str, &'static str)| {
        (name.into(), object! { "description" => about, "schema" => text() })
    };
    HEADERS.into_iter().map(header).collect()
}
