//! Answering one request: the room where all others meet.
//!
//! hyper calls [`answer`] for each head it has parsed; it asks the router, runs the endpoint under the
//! request's deadline, and turns whatever went wrong, a panic included, into a problem.
//! Promises: exactly one response and one access-log line per request; a mistake of the server (500) is
//! logged here, once, as an error with its private text, and the cause of any other problem at debug; the
//! client never sees that text.
//! Does not know: what the request is about.

use std::any::Any;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;

use futures_util::FutureExt;
use hyper::body::{Body as _, Incoming};
use hyper::header::{ALLOW, CONNECTION, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode};
use tokio::time::{Instant, timeout_at};

use crate::body::Body;
use crate::connection::Connection;
use crate::error::HttpError;
use crate::first_look::FirstLook;
use crate::media::ACCEPT_PATCH;
use crate::problem::Problem;
use crate::request::Call;
use crate::request_id::{RequestId, X_REQUEST_ID};
use crate::response::{Response, empty};
use crate::route::Endpoint;
use crate::router::Resource;
use crate::security_headers;
use crate::stats::Stats;

/// The route of a request that has none, in the log.
const NO_ROUTE: &str = "-";
/// What the log says when the client left before it was answered (nginx's word for it).
const CLIENT_LEFT: u16 = 499;

/// Answer one request.
pub(crate) async fn answer(
    request: Request<Incoming>,
    connection: Rc<Connection>,
) -> Result<Response, Infallible> {
    connection.watch.asked();
    let (head, incoming) = request.into_parts();
    let FirstLook { request_id, expects, fault } = FirstLook::at(&head, connection.limits());
    let cors = connection.shared.cors.as_ref().map(|cors| cors.look(&head));
    let mut visit = Visit::begin(Rc::new(head), request_id, &connection);
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
    visit.end(&response);
    connection.watch.answered();
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
    let endpoint = resource.endpoint(&head.method)?;
    let request_id = visit.request_id.clone();
    let call = Call { head, body, pattern: resource.pattern, request_id };
    run(endpoint, call, visit.deadline(), &shared.stats).await
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

/// One request's stay: counted, named, timed and logged, also when the client leaves.
struct Visit {
    connection: Rc<Connection>,
    request_id: RequestId,
    head: Rc<Parts>,
    route: &'static str,
    code: Option<&'static str>,
    start: Instant,
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
            code: None,
            start: Instant::now(),
            ended: false,
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

    fn end(&mut self, response: &Response) {
        self.ended = true;
        let bytes = match self.head.method {
            Method::HEAD => 0,
            _ => response.body().size_hint().lower(),
        };
        self.log(response.status().as_u16(), bytes);
    }

    fn log(&self, status: u16, bytes: u64) {
        if !self.connection.shared.access_log {
            return;
        }
        tracing::info!(
            target: "access",
            method = self.head.method.as_str(),
            route = self.route,
            status,
            code = self.code,
            duration_us = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX),
            request_id = self.request_id.as_str(),
            bytes,
        );
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.connection.shared.stats.in_flight.decrement();
        self.connection.release();
        if !self.ended {
            self.log(CLIENT_LEFT, 0);
        }
    }
}
