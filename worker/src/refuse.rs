//! Refusals of what is no request: a client for whom there is no seat, and bytes that are no HTTP.
//!
//! `accept.rs` calls it for those who waited too long in the queue, `connection.rs` for heads that hyper
//! could not parse.
//! Promises: never waits; such an answer has all that the answers of requests have. That of a full worker
//! fits into the empty buffer of a new socket; a client that has sent its request gets it read first, since
//! closing with unread bytes resets the connection.
//! Does not know: what the request would have been.

use std::io;
use std::os::fd::AsFd;

use hyper::body::Body as _;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};

use crate::answered::Answered;
use crate::error::HttpError;
use crate::listen::{Peer, address_text};
use crate::problem::Problem;
use crate::request_id::{RequestId, X_REQUEST_ID};
use crate::response::{Response, whole};
use crate::security_headers;
use crate::shared::Shared;

/// Where the problem happened, as nobody knows better.
const NO_PATH: &str = "/";

/// Answer 503 and close.
///
/// # Errors
/// What the socket says; the client is gone then.
pub(crate) fn refuse(stream: &impl AsFd, peer: Peer, shared: &Shared) -> io::Result<()> {
    let error = HttpError::Full;
    let (code, request_id) = (error.kind().code, RequestId::mint());
    let response = response(error, &request_id, shared);
    tell(code, &request_id, &response, &address_text(peer), shared);
    let start = format!("HTTP/1.1 {}\r\n", response.status());
    // What the request was does not matter, nor whether it has come: the answer is the same.
    let _ = recv(stream, &mut [0; 8192], RecvFlags::DONTWAIT);
    send(stream, &bytes(start, response), SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?;
    Ok(shutdown(stream, Shutdown::Write)?)
}

/// What is said instead of hyper's `bare` answer to a head that it could not parse: the same status,
/// date and end of the connection, and the rest of what an answer has. `None`: it is no such answer.
pub(crate) fn unparsed(bare: &[u8], client: &str, shared: &Shared) -> Option<Vec<u8>> {
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
    tell(code, &request_id, &response, client, shared);
    Some(bytes(start, response))
}

/// Tells whoever wants to know of what is answered. There was no request that could be told more of.
fn tell(
    code: &'static str,
    request_id: &RequestId,
    response: &Response,
    client: &str,
    shared: &Shared,
) {
    let Some(tell) = &shared.on_answered else { return };
    let answered = Answered::bare(response.status().as_u16(), request_id.as_str());
    let bytes = response.body().size_hint().lower();
    tell(&Answered { code: Some(code), client: Some(client), bytes, ..answered });
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
