//! Telling a client that the worker is full, without giving it a seat.
//!
//! `accept.rs` calls it for those who waited too long in the queue.
//! Promises: never waits. The answer fits into the empty buffer of a new socket; a client that has sent
//! its request gets it read first, since closing with unread bytes resets the connection.

use std::io::{self, Read, Write};
use std::net::Shutdown;

use futures_util::FutureExt;
use http_body_util::{BodyExt, Collected};
use tokio::net::TcpStream;

use crate::error::HttpError;
use crate::problem::Problem;
use crate::request_id::{RequestId, X_REQUEST_ID};
use crate::response::Response;

/// Answer 503 and close.
///
/// # Errors
/// What the socket says; the client is gone then.
pub(crate) fn refuse(stream: TcpStream) -> io::Result<()> {
    let mut stream = stream.into_std()?;
    let request_id = RequestId::mint();
    let mut response = Problem::from(HttpError::Full).into_response("/", request_id.as_str());
    response.headers_mut().insert(&X_REQUEST_ID, request_id.into_value());
    // What the request was does not matter, nor whether it has come: the answer is the same.
    let _ = stream.read(&mut [0; 8192]);
    stream.write_all(&bytes(response))?;
    stream.shutdown(Shutdown::Write)
}

/// A response as HTTP/1.1 writes it.
fn bytes(response: Response) -> Vec<u8> {
    let (head, body) = response.into_parts();
    // The body is complete, so it is there at once.
    let body = body.collect().now_or_never().and_then(Result::ok).map(Collected::to_bytes);
    let body = body.unwrap_or_default();
    let mut bytes = format!("HTTP/1.1 {}\r\n", head.status).into_bytes();
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
