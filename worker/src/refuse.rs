//! Refusals of what is no request: a client for whom there is no seat, and bytes that are no HTTP.
//!
//! `accept.rs` calls it for those who waited too long in the queue, `connection.rs` for heads that hyper
//! could not parse.
//! Promises: never waits; such an answer has all that the answers of requests have. That of a full worker
//! fits into the empty buffer of a new socket; a client that has sent its request gets it read first, since
//! closing with unread bytes resets the connection.
//! Does not know: what the request would have been.

use std::io::{self, Read, Write};
use std::net::Shutdown;

use tokio::net::TcpStream;

use crate::error::HttpError;
use crate::problem::Problem;
use crate::request_id::{RequestId, X_REQUEST_ID};
use crate::response::{Response, whole};
use crate::security_headers;
use crate::shared::Shared;

/// Where the problem happened, as nobody knows better.
const NO_PATH: &str = "/";
/// The method and the route of what is no request, in the log.
const NONE: &str = "-";

/// Answer 503 and close.
///
/// # Errors
/// What the socket says; the client is gone then.
pub(crate) fn refuse(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut stream = stream.into_std()?;
    let response = response(HttpError::Full, &RequestId::mint(), shared);
    let start = format!("HTTP/1.1 {}\r\n", response.status());
    // What the request was does not matter, nor whether it has come: the answer is the same.
    let _ = stream.read(&mut [0; 8192]);
    stream.write_all(&bytes(start, response))?;
    stream.shutdown(Shutdown::Write)
}

/// What is said instead of hyper's `bare` answer to a head that it could not parse: the same status,
/// date and end of the connection, and the rest of what an answer has. `None`: it is no such answer.
pub(crate) fn unparsed(bare: &[u8], shared: &Shared) -> Option<Vec<u8>> {
    let bare = str::from_utf8(bare).ok()?;
    let error = match bare.get(9..12)? {
        "400" => HttpError::Malformed,
        "414" => HttpError::UriTooLong { max: shared.limits.uri_max_bytes },
        "431" => HttpError::HeadTooLarge { max: shared.limits.head_max_bytes },
        _ => return None,
    };
    let (code, request_id) = (error.kind().code, RequestId::mint());
    let response = response(error, &request_id, shared);
    let mut start = String::with_capacity(bare.len());
    let is_kept = |line: &&str| !line.is_empty() && !line.starts_with("content-length:");
    for line in bare.split("\r\n").filter(is_kept) {
        start.push_str(line);
        start.push_str("\r\n");
    }
    if shared.access_log {
        let (status, request_id) = (response.status().as_u16(), request_id.as_str());
        tracing::info!(target: "access", method = NONE, route = NONE, status, code, request_id);
    }
    Some(bytes(start, response))
}

fn response(error: HttpError, request_id: &RequestId, shared: &Shared) -> Response {
    let mut response = Problem::from(error).into_response(NO_PATH, request_id.as_str());
    let headers = response.headers_mut();
    headers.insert(&X_REQUEST_ID, request_id.clone().into_value());
    security_headers::add(headers);
    if let Some(cors) = &shared.cors {
        cors.told_to(None).add(headers);
    }
    response
}

/// A response as HTTP/1.1 writes it, behind the `start` of its head.
fn bytes(start: String, response: Response) -> Vec<u8> {
    let (head, body) = response.into_parts();
    let body = whole(body);
    let mut bytes = start.into_bytes();
    for (name, value) in &head.headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
    bytes.extend_from_slice(&body);
    bytes
}
