//! Answering one request: the room where all others meet.
//!
//! hyper calls [`answer`] for each head it has parsed; it asks the router, runs the endpoint under the
//! request's deadline, and turns whatever went wrong, a panic included, into a problem.
//! Promises: exactly one response per request, and its end is told once; a mistake of the server (500) is
//! logged here, once, as an error with its private text, and the cause of any other problem at debug; the
//! client never sees that text.
//! Does not know: what the request is about.

use std::any::Any;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::rc::Rc;

use futures_util::FutureExt;
use hyper::body::{Body as _, Incoming};
use hyper::header::{ALLOW, CONNECTION, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Request, StatusCode};
use tokio::time::{Instant, timeout_at};

use crate::answered::Answered;
use crate::body::Body;
use crate::connection::Connection;
use crate::durations::{Durations, NO_ROUTE, Place};
use crate::error::HttpError;
use crate::first_look::FirstLook;
use crate::media::ACCEPT_PATCH;
use crate::problem::Problem;
use crate::record::{self, Record, Span, Stage};
use crate::request::Call;
use crate::request_id::{RequestId, X_REQUEST_ID};
use crate::response::{Response, empty};
use crate::route::Endpoint;
use crate::router::Resource;
use crate::security_headers;
use crate::stats::Stats;
use crate::trace::{self, Parent};
use crate::traces::{Trace, Traced};

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
/// What the log says when the client left before it was answered (nginx's word for it).
const CLIENT_LEFT: u16 = 499;

/// Answer one request.
pub(crate) async fn answer(
    request: Request<Incoming>,
    connection: Rc<Connection>,
) -> Result<Response, Infallible> {
    let began = connection.shared.traces.as_ref().and_then(|_| connection.began());
    connection.watch.asked();
    let (head, incoming) = request.into_parts();
    let FirstLook { request_id, parent, expects, fault } =
        FirstLook::at(&head, connection.limits());
    let cors = connection.shared.cors.as_ref().map(|cors| cors.look(&head));
    let mut visit = Visit::begin(Rc::new(head), request_id, &connection);
    visit.record(began, parent);
    let body = Body::new(incoming, visit.deadline(), Rc::clone(&connection));

    let outcome = match fault {
        None => respond(body, &mut visit).await,
        Some(fault) => {
            // Back to the connection, which has to deal with what nobody has read.
            drop(body);
            Err(fault.into())
        }
    };

    let mut response = outcome.unwrap_or_else(|problem| visit.render(problem));
    // Nothing more is wanted of a client that was not asked for its body, or was told that this is the end.
    let wanted = !expects && !response.headers().contains_key(CONNECTION);
    let reusable = connection.settle(wanted);
    let headers = response.headers_mut();
    headers.insert(&X_REQUEST_ID, visit.request_id.clone().into_value());
    security_headers::add(headers);
    if let Some(told) = cors {
        told.add(headers);
    }
    if !reusable || connection.shared.drain.is_draining() || connection.shared.is_full() {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if connection.shared.server_timing {
        visit.add_timing(headers);
    }
    let ended = visit.end(&response);
    connection.watch.answered(ended);
    Ok(response)
}

/// The response of the endpoint this request belongs to.
async fn respond(body: Body, visit: &mut Visit) -> Result<Response, Problem> {
    let shared = Rc::clone(&visit.connection.shared);
    let head = Rc::clone(&visit.head);
    if head.method == Method::OPTIONS && head.uri.path() == "*" {
        // A question to the server as a whole (RFC 9110 section 9.3.7): yes, it is there.
        return Ok(empty(StatusCode::NO_CONTENT));
    }
    let resource = shared.router.at(head.uri.path())?;
    visit.route = resource.pattern;
    if head.method == Method::OPTIONS {
        return Ok(options(resource));
    }
    let (endpoint, place) = resource.endpoint(&head.method)?;
    visit.place = Some(place);
    let request_id = visit.request_id.clone();
    let peer = visit.connection.peer;
    let call = Call { head, body, pattern: resource.pattern, peer, request_id };
    let record = visit.record.clone();
    let answering = pin!(run(endpoint, call, visit.deadline(), &shared.stats));
    record::within(record, answering).await
}

fn options(resource: &Resource) -> Response {
    let mut response = empty(StatusCode::NO_CONTENT);
    response.headers_mut().insert(ALLOW, resource.allow().clone());
    if let Some(media_types) = resource.accept_patch() {
        response.headers_mut().insert(ACCEPT_PATCH, media_types.clone());
    }
    response
}

/// Run an endpoint; its panic or its slowness is its own.
async fn run(
    endpoint: &Endpoint,
    call: Call,
    deadline: Instant,
    stats: &Stats,
) -> Result<Response, Problem> {
    let _timed = record::begin(Stage::Handler);
    // What a panic leaves half done is this request's alone: nothing of it is looked at again.
    let answering = AssertUnwindSafe(async { endpoint(call).await }).catch_unwind();
    match timeout_at(deadline, answering).await {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => {
            stats.panics.increment();
            Err(HttpError::Panicked(panic_text(&*panic)).into())
        }
        Err(_) => Err(HttpError::HandlerTimeout.into()),
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned())
}

/// One request's stay: counted, named, timed and told, also when the client leaves.
struct Visit {
    connection: Rc<Connection>,
    request_id: RequestId,
    head: Rc<Parts>,
    route: &'static str,
    /// Where its duration is counted; nowhere yet, before it has reached an operation.
    place: Option<Place>,
    code: Option<&'static str>,
    start: Instant,
    /// Where somebody wants to know.
    record: Option<Rc<Record>>,
    trace: Option<Trace>,
    ended: bool,
}

impl Visit {
    fn begin(head: Rc<Parts>, request_id: RequestId, connection: &Rc<Connection>) -> Self {
        let stats = &connection.shared.stats;
        stats.requests.increment();
        stats.in_flight.increment();
        Self {
            connection: Rc::clone(connection),
            request_id,
            head,
            route: NO_ROUTE,
            place: None,
            code: None,
            start: Instant::now(),
            record: None,
            trace: None,
            ended: false,
        }
    }

    /// Begins to note what it waits for, where somebody wants to know. Its head `began` before.
    fn record(&mut self, began: Option<(Instant, bool)>, parent: Option<Parent>) {
        let shared = &self.connection.shared;
        if !shared.keeps_records() {
            return;
        }
        self.trace = match &shared.traces {
            Some(traces) => Some(traces.begin(parent, self.connection.peer)),
            // It is written into the log, and that is all.
            None => parent.map(Trace::of_caller),
        };
        let has_spans = self.trace.is_some_and(|trace| trace.is_sampled && shared.traces.is_some());
        let record = Record::new(has_spans);
        if let Some((begin, is_first)) = began {
            record.note(Span { stage: Stage::Head { is_first }, begin, end: self.start });
        }
        self.record = Some(record);
    }

    /// Says what the answer waited for. Source: W3C Server Timing.
    fn add_timing(&self, headers: &mut HeaderMap) {
        let Some(record) = &self.record else { return };
        let ms = |us: u64| us as f64 / 1000.0;
        let (database, pool) = (ms(record.database_us()), ms(record.pool_wait_us()));
        let total = ms(record::us(self.start.elapsed()));
        let told = format!("total;dur={total}, db;dur={database}, pool;dur={pool}");
        if let Ok(told) = HeaderValue::try_from(told) {
            headers.insert(SERVER_TIMING, told);
        }
    }

    /// When the request has to be answered.
    fn deadline(&self) -> Instant {
        self.start + self.connection.limits().request_timeout
    }

    /// A 500 is a mistake of ours and told loudly. All other problems are foreseen: they are a code in the
    /// access line, and their cause is there for whoever looks for it.
    fn render(&mut self, problem: Problem) -> Response {
        let (request_id, code) = (self.request_id.as_str(), problem.kind().code);
        let (method, route) = (self.head.method.as_str(), self.route);
        let cause = problem.private();
        if problem.status() == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(request_id, method, route, code, cause, "request failed");
        } else if cause.is_some() {
            tracing::debug!(request_id, method, route, code, cause, "request refused");
        }
        self.code = Some(code);
        problem.into_response(self.head.uri.path(), self.request_id.as_str())
    }

    /// Gives when that was.
    fn end(&mut self, response: &Response) -> Instant {
        self.ended = true;
        let bytes = match self.head.method {
            Method::HEAD => 0,
            _ => response.body().size_hint().lower(),
        };
        self.tell(response.status().as_u16(), bytes)
    }

    /// Counts the request, and tells whoever wants to know. Gives when it ended.
    fn tell(&self, status: u16, bytes: u64) -> Instant {
        let (end, shared) = (Instant::now(), &self.connection.shared);
        let place = self.place.unwrap_or_else(|| Durations::no_place(&self.head.method));
        let took = end.duration_since(self.start);
        shared.router.durations().count(&shared.stats.meters, place, status, took);
        let Some(record) = &self.record else { return end };
        let answered = Answered {
            method: self.head.method.as_str(),
            route: self.route,
            path: self.head.uri.path(),
            code: self.code,
            trace_id: self.trace.as_ref().map(|trace| trace.id.as_str()),
            total_us: record::us(took),
            database_us: record.database_us(),
            pool_wait_us: record.pool_wait_us(),
            bytes,
            user: record.user(),
            client: Some(self.connection.client()),
            ..Answered::bare(status, self.request_id.as_str())
        };
        if let Some(tell) = &self.connection.shared.on_answered {
            tell(&answered);
        }
        self.export(record, &answered, end);
        end
    }

    /// Gives its spans to the export, where they are wanted.
    fn export(&self, record: &Record, answered: &Answered<'_>, end: Instant) {
        let Some((trace, spans)) = self.trace.zip(record.take_spans()) else { return };
        let Some(traces) = &self.connection.shared.traces else { return };
        let head = spans.iter().find(|span| matches!(span.stage, Stage::Head { .. }));
        let begin = head.map_or(self.start, |head| head.begin);
        let state = trace.parent.and_then(|_| trace::state(&self.head.headers));
        traces.keep(&Traced { trace, state, begin, end, spans: &spans, answered });
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.connection.shared.stats.in_flight.decrement();
        self.connection.release();
        if !self.ended {
            self.tell(CLIENT_LEFT, 0);
        }
    }
}
