//! What every request's head is asked for, before its route is looked for.
//!
//! `answer.rs` looks once per request.
//! Promises: one pass over the header fields, however many there are and whatever is asked.
//! Does not know: routes.
//! Source: RFC 9110 sections 7.2 and 10.1.1, RFC 9112 sections 3.2 and 6.1.

use hyper::Version;
use hyper::header::{EXPECT, HOST, HeaderValue, TRANSFER_ENCODING};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;

use crate::config::Limits;
use crate::error::HttpError;
use crate::request_id::{RequestId, X_REQUEST_ID};
use crate::trace::{Parent, TRACEPARENT};

/// What the first look at a head tells.
pub(crate) struct FirstLook {
    /// Its own, or a new one.
    pub(crate) request_id: RequestId,
    /// The caller's span, if it has one.
    pub(crate) parent: Option<Parent>,
    /// Whether the client waits to hear that its body is wanted.
    pub(crate) expects: bool,
    /// Why nothing more is to be done for it.
    pub(crate) fault: Option<HttpError>,
}

/// The values of a field that may stand once.
#[derive(Clone, Copy)]
enum Once<'h> {
    Absent,
    Is(&'h HeaderValue),
    Repeated,
}

impl<'h> Once<'h> {
    fn add(&mut self, value: &'h HeaderValue) {
        *self = match self {
            Self::Absent => Self::Is(value),
            Self::Is(_) | Self::Repeated => Self::Repeated,
        };
    }
}

impl FirstLook {
    pub(crate) fn at(head: &Parts, limits: &Limits) -> Self {
        let (mut host, mut coding, mut parent) = (Once::Absent, Once::Absent, Once::Absent);
        let (mut given_id, mut expects, mut is_known) = (None, false, true);
        for (name, value) in &head.headers {
            if *name == HOST {
                host.add(value);
            } else if *name == TRANSFER_ENCODING {
                coding.add(value);
            } else if *name == EXPECT {
                expects = true;
                is_known &= value.as_bytes().eq_ignore_ascii_case(b"100-continue");
            } else if *name == X_REQUEST_ID {
                given_id = given_id.or(Some(value));
            } else if *name == TRACEPARENT {
                parent.add(value);
            }
        }
        let max = limits.uri_max_bytes;
        let is_too_long = head.uri.path_and_query().is_some_and(|uri| uri.as_str().len() > max);
        let fault = match () {
            () if is_too_long => Some(HttpError::UriTooLong { max }),
            () if !is_host_right(host, head.version) => Some(HttpError::Host),
            () if !is_coding_right(coding) => Some(HttpError::TransferCoding),
            () if !is_known => Some(HttpError::Expectation),
            () => None,
        };
        Self { request_id: RequestId::of(given_id), parent: parent_of(parent), expects, fault }
    }
}

/// Of two parents none counts.
fn parent_of(parent: Once<'_>) -> Option<Parent> {
    match parent {
        Once::Is(parent) => Parent::of(parent),
        Once::Absent | Once::Repeated => None,
    }
}

/// hyper sees to it that the last one is `chunked`; what was done to the body before is not undone here.
fn is_coding_right(coding: Once<'_>) -> bool {
    match coding {
        Once::Absent => true,
        Once::Is(coding) => coding.as_bytes().eq_ignore_ascii_case(b"chunked"),
        Once::Repeated => false,
    }
}

/// Exactly one host, and a valid one. (A target in absolute form names another one perhaps, and that is
/// the one that counts, section 3.2.2; but nothing here depends on the host.)
fn is_host_right(host: Once<'_>, version: Version) -> bool {
    match host {
        Once::Absent => version < Version::HTTP_11,
        Once::Is(host) => is_host(host.as_bytes()),
        Once::Repeated => false,
    }
}

/// `uri-host [ ":" port ]`, where the host may be empty.
fn is_host(host: &[u8]) -> bool {
    is_plain_host(host)
        || (!host.contains(&b'@') && Authority::try_from(host).is_ok_and(|one| has_port(&one)))
}

/// Whether there is a port or nothing behind the host: the parser takes letters for a port, too.
fn has_port(authority: &Authority) -> bool {
    let port = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
    port.is_empty() || port.strip_prefix(':').is_some_and(is_number)
}

/// Digits, perhaps none.
fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A name or an IPv4 address, with or without a port: nearly every host, and no parser is needed.
fn is_plain_host(host: &[u8]) -> bool {
    let port_at = host.iter().rposition(|byte| *byte == b':').unwrap_or(host.len());
    let (name, port) = host.split_at(port_at);
    name.iter().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(byte))
        && port.iter().skip(1).all(u8::is_ascii_digit)
}
