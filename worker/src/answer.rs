//! Answering one request: the room where all others meet.
//!
//! hyper calls [`answer`] for each head it has parsed; it asks the router, runs the endpoint under the
//! request's deadline, and turns whatever went wrong, a panic included, into a problem.
//! Promises: exactly one response and one access-log line per request; a failure of the server is logged
//! here, once, with its private text; the client never sees that text.
//! Does not know: what the request is about.

use std::any::Any;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;

use futures_util::FutureExt;
use hyper::body::{Body as _, Incoming};
use hyper::header::{ALLOW, CONNECTION, EXPECT, HOST, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode, Uri, Version};
use tokio::time::{Instant, timeout};

use crate::body::Body;
use crate::connection::Connection;
use crate::error::HttpError;
use crate::problem::Problem;
use crate::request::Call;
use crate::request_id::{RequestId, X_REQUEST_ID};
use crate::response::{Response, empty};
use crate::route::Endpoint;
use crate::router::Resource;
use crate::shared::Shared;

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
    let expects = head.headers.contains_key(EXPECT);
    let mut visit = Visit::begin(&head, &connection);
    let body = Body::new(incoming, Rc::clone(&connection));

    let outcome = respond(head, body, &mut visit).await;

    let mut response = outcome.unwrap_or_else(|problem| visit.render(problem));
    // Nothing more is wanted of a client that was not asked for its body, or was told that this is the end.
    let wanted = !expects && !response.headers().contains_key(CONNECTION);
    let reusable = connection.settle(wanted).await;
    let headers = response.headers_mut();
    headers.insert(&X_REQUEST_ID, visit.request_id.clone().into_value());
    if !reusable || connection.shared.drain.is_draining() || connection.shared.is_full() {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    visit.end(&response);
    connection.watch.answered();
    Ok(response)
}

/// The response of the endpoint this request belongs to.
async fn respond(head: Parts, body: Body, visit: &mut Visit) -> Result<Response, Problem> {
    let shared = Rc::clone(&visit.connection.shared);
    check(&head, &shared)?;
    let resource = shared.router.at(head.uri.path())?;
    visit.route = resource.pattern;
    if head.method == Method::OPTIONS {
        return Ok(options(resource));
    }
    let endpoint = resource.endpoint(&head.method)?;
    let request_id = visit.request_id.clone();
    run(endpoint, Call { head, body, pattern: resource.pattern, request_id }, &shared).await
}

/// What must be right before a request is looked at.
fn check(head: &Parts, shared: &Shared) -> Result<(), HttpError> {
    let max = shared.limits.uri_max_bytes;
    if head.uri.path_and_query().is_some_and(|target| target.as_str().len() > max) {
        return Err(HttpError::UriTooLong { max });
    }
    // RFC 9112 section 3.2: exactly one host, or 400.
    let mut hosts = head.headers.get_all(HOST).iter();
    let first = hosts.next().is_some() || head.version < Version::HTTP_11;
    if !first || hosts.next().is_some() {
        return Err(HttpError::Host);
    }
    Ok(())
}

fn options(resource: &Resource) -> Response {
    let mut response = empty(StatusCode::NO_CONTENT);
    response.headers_mut().insert(ALLOW, resource.allow().clone());
    response
}

/// Run an endpoint; its panic or its slowness is its own.
async fn run(endpoint: &Endpoint, call: Call, shared: &Shared) -> Result<Response, Problem> {
    // What a panic leaves half done is this request's alone: nothing of it is looked at again.
    let answering = AssertUnwindSafe(async { endpoint(call).await }).catch_unwind();
    match timeout(shared.limits.request_timeout, answering).await {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => {
            shared.stats.panics.increment();
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
    method: Method,
    uri: Uri,
    route: &'static str,
    start: Instant,
    ended: bool,
}

impl Visit {
    fn begin(head: &Parts, connection: &Rc<Connection>) -> Self {
        let Shared { stats, request_ids, .. } = &*connection.shared;
        stats.requests.increment();
        stats.in_flight.increment();
        Self {
            connection: Rc::clone(connection),
            request_id: request_ids.of(&head.headers),
            method: head.method.clone(),
            uri: head.uri.clone(),
            route: NO_ROUTE,
            start: Instant::now(),
            ended: false,
        }
    }

    fn render(&self, problem: Problem) -> Response {
        let status = problem.status();
        if status.is_server_error() {
            tracing::error!(
                request_id = self.request_id.as_str(),
                method = self.method.as_str(),
                route = self.route,
                status = status.as_u16(),
                code = problem.kind().code,
                cause = problem.private().unwrap_or_default(),
                "request failed"
            );
        }
        problem.into_response(self.uri.path(), self.request_id.as_str())
    }

    fn end(&mut self, response: &Response) {
        self.ended = true;
        let bytes = match self.method {
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
            method = self.method.as_str(),
            route = self.route,
            status,
            duration_us = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX),
            request_id = self.request_id.as_str(),
            bytes,
        );
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.connection.shared.stats.in_flight.decrement();
        if !self.ended {
            self.log(CLIENT_LEFT, 0);
        }
    }
}
