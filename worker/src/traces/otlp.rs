//! Spans as OTLP's JSON has them.
//!
//! `traces.rs` calls it for each request that is over, and for the document around many.
//! Promises: names by the semantic conventions for HTTP servers and databases, where there are some; of a
//! statement its text as the program has it, which holds no value; of a request neither query nor user.
//! Does not know: where it goes.
//! Source: OpenTelemetry protocol 1.x, "JSON Protobuf Encoding"; semantic conventions 1.3x.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::{Serialize, Serializer};
use serde_json::json;
use tokio::time::Instant;

use super::{TraceExport, Traced};
use crate::record::{Span, Stage};
use crate::trace::{Parent, SpanId};

/// `SPAN_KIND_INTERNAL`, `_SERVER`, `_CLIENT`.
const INTERNAL: u8 = 1;
const SERVER: u8 = 2;
const CLIENT: u8 = 3;
/// `STATUS_CODE_ERROR`.
const ERROR: u8 = 2;

/// What stands around the spans of a worker.
pub(super) struct Document {
    before: String,
}

const AFTER: &[u8] = b"]}]}]}";

impl Document {
    pub(super) fn new(config: &TraceExport, slot: u32, generation: u64) -> Self {
        let resource = [
            Attribute::text("service.name", config.service),
            Attribute::text("service.version", config.version),
            Attribute::whole("process.pid", std::process::id().into()),
            Attribute::whole("peace.slot", slot.into()),
            Attribute::whole("peace.generation", generation),
        ];
        let resource = json!({ "attributes": resource });
        let scope = json!({ "name": config.service, "version": config.version });
        let before = format!(
            r#"{{"resourceSpans":[{{"resource":{resource},"scopeSpans":[{{"scope":{scope},"spans":["#
        );
        Self { before }
    }

    /// The document with these spans, each of them behind a comma.
    pub(super) fn around(&self, spans: &[u8]) -> Bytes {
        let spans = spans.strip_prefix(b",").unwrap_or(spans);
        [self.before.as_bytes(), spans, AFTER].concat().into()
    }
}

/// Writes all spans of a request, each behind a comma.
pub(super) fn write_spans(
    out: &mut Vec<u8>,
    traced: &Traced<'_>,
    mut new_id: impl FnMut() -> SpanId,
) {
    let clock = Clock::now();
    let (server, handler) = (new_id(), new_id());
    write(out, &request(traced, server, &clock));
    for span in traced.spans {
        let (id, parent) = match span.stage {
            Stage::Handler => (handler, server),
            Stage::Head { .. } => (new_id(), server),
            Stage::PoolWait | Stage::Query(_) => (new_id(), handler),
        };
        write(out, &stage(traced, span, id, parent, &clock));
    }
}

fn request<'a>(traced: &'a Traced<'_>, id: SpanId, clock: &Clock) -> SpanJson<'a> {
    let answered = traced.answered;
    let mut attributes = vec![
        Attribute::text("http.request.method", answered.method),
        Attribute::text("http.route", answered.route),
        Attribute::text("url.path", answered.path),
        Attribute::text("url.scheme", "http"),
        Attribute::whole("http.response.status_code", answered.status.into()),
        Attribute::whole("http.response.body.size", answered.bytes),
        Attribute::text("peace.request_id", answered.request_id),
    ];
    attributes.extend(answered.client.map(|client| Attribute::text("client.address", client)));
    attributes.extend(answered.code.map(|code| Attribute::text("error.type", code)));
    let status = (answered.status >= 500).then_some(Status { code: ERROR });
    let name = format!("{} {}", answered.method, answered.route);
    let parent = traced.trace.parent;
    let times = (traced.begin, traced.end);
    let links = traced.trace.link.as_ref().map(|link| [Link::of(link)]);
    SpanJson { attributes, links, status, ..span(traced, name, SERVER, (id, parent), times, clock) }
}

fn stage<'a>(
    traced: &'a Traced<'_>,
    Span { stage, begin, end }: &Span,
    id: SpanId,
    parent: SpanId,
    clock: &Clock,
) -> SpanJson<'a> {
    let (name, kind, attributes) = match stage {
        Stage::Head { is_first: true } => ("accept", INTERNAL, vec![]),
        Stage::Head { is_first: false } => ("receive", INTERNAL, vec![]),
        Stage::Handler => ("handler", INTERNAL, vec![]),
        Stage::PoolWait => ("pool wait", INTERNAL, vec![]),
        Stage::Query(sql) => {
            let operation = sql.split_ascii_whitespace().next().unwrap_or("query");
            let attributes = vec![
                Attribute::text("db.system.name", "postgresql"),
                Attribute::text("db.operation.name", operation),
                Attribute::text("db.query.text", sql),
            ];
            (operation, CLIENT, attributes)
        }
    };
    let times = (*begin, *end);
    let span = span(traced, name.to_owned(), kind, (id, Some(parent)), times, clock);
    SpanJson { attributes, ..span }
}

fn span<'a>(
    traced: &'a Traced<'_>,
    name: String,
    kind: u8,
    (id, parent): (SpanId, Option<SpanId>),
    (begin, end): (Instant, Instant),
    clock: &Clock,
) -> SpanJson<'a> {
    SpanJson {
        trace_id: traced.trace.id.as_str(),
        span_id: id,
        parent_span_id: parent,
        trace_state: traced.state.as_deref(),
        name,
        kind,
        start_time_unix_nano: clock.unix_ns(begin),
        end_time_unix_nano: clock.unix_ns(end),
        attributes: Vec::new(),
        links: None,
        status: None,
    }
}

fn write(out: &mut Vec<u8>, span: &SpanJson<'_>) {
    out.push(b',');
    // To write texts and numbers into memory cannot fail.
    let _ = serde_json::to_writer(out, span);
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SpanJson<'a> {
    trace_id: &'a str,
    #[serde(serialize_with = "id")]
    span_id: SpanId,
    #[serde(serialize_with = "some_id", skip_serializing_if = "Option::is_none")]
    parent_span_id: Option<SpanId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_state: Option<&'a str>,
    name: String,
    kind: u8,
    start_time_unix_nano: String,
    end_time_unix_nano: String,
    attributes: Vec<Attribute<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    links: Option<[Link<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
}

/// A span of another trace.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Link<'a> {
    trace_id: &'a str,
    span_id: &'a str,
}

impl<'a> Link<'a> {
    fn of(parent: &'a Parent) -> Self {
        Self { trace_id: parent.trace.as_str(), span_id: parent.span.as_str() }
    }
}

#[derive(Serialize)]
struct Status {
    code: u8,
}

#[derive(Serialize)]
struct Attribute<'a> {
    key: &'static str,
    value: Value<'a>,
}

/// Whole numbers are texts in the JSON of protobuf.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Value<'a> {
    StringValue(&'a str),
    IntValue(String),
}

impl<'a> Attribute<'a> {
    fn text(key: &'static str, value: &'a str) -> Self {
        Self { key, value: Value::StringValue(value) }
    }

    fn whole(key: &'static str, value: u64) -> Self {
        Self { key, value: Value::IntValue(value.to_string()) }
    }
}

fn id<S: Serializer>(id: &SpanId, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(id.as_str())
}

fn some_id<S: Serializer>(some: &Option<SpanId>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(some.as_ref().map_or("", SpanId::as_str))
}

/// What the loop's time is on the wall.
struct Clock {
    now: Instant,
    unix_ns: u128,
}

impl Clock {
    fn now() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { now: Instant::now(), unix_ns: unix.as_nanos() }
    }

    fn unix_ns(&self, at: Instant) -> String {
        self.unix_ns.saturating_sub(self.now.duration_since(at).as_nanos()).to_string()
    }
}
