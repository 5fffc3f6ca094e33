//! What can go wrong between the bytes of a request and its handler.
//!
//! Made by the router, the inputs, `answer.rs` and `refuse.rs`; turned into a [`Problem`] here and nowhere else: with
//! `kinds.rs` beside it, this is the one place of this crate that chooses status codes.
//! Does not know: the application's own errors.

use hyper::header::{ALLOW, CONNECTION, HeaderName, HeaderValue, RETRY_AFTER};
use thiserror::Error;

use crate::fields::Invalid;
use crate::kinds::{
    BAD_REQUEST, CONTENT_TOO_LARGE, EXPECTATION_FAILED, HEAD_TOO_LARGE, INTERNAL, INVALID_INPUT,
    METHOD_NOT_ALLOWED, NOT_FOUND, NOT_IMPLEMENTED, REQUEST_TIMEOUT, UNAVAILABLE,
    UNSUPPORTED_MEDIA_TYPE, URI_TOO_LONG,
};
use crate::media::MediaTypes;
use crate::problem::{Kind, Problem};

/// A request that did not get as far as its handler's own logic.
#[derive(Debug, Error)]
pub enum HttpError {
    /// No route has this path.
    #[error("there is no such path")]
    NotFound,
    /// The path exists with other methods; `allow` lists them as the header does.
    #[error("this path takes {}", allow.to_str().unwrap_or_default())]
    MethodNotAllowed {
        /// Value of the `Allow` header.
        allow: HeaderValue,
    },
    /// An HTTP/1.1 request must name exactly one host, and rightly.
    #[error("the request must have one host header, with a host and perhaps a port")]
    Host,
    /// The bytes are no head of HTTP/1.1.
    #[error("the request is not HTTP/1.1 as RFC 9112 has it")]
    Malformed,
    /// The head is over a limit.
    #[error("the head of a request may have {max} bytes and 100 fields")]
    HeadTooLarge {
        /// The limit, in bytes.
        max: usize,
    },
    /// The client expects something besides `100-continue`.
    #[error("the one expectation this server meets is 100-continue")]
    Expectation,
    /// The body has a transfer coding besides `chunked`.
    #[error("the one transfer coding this server knows is chunked")]
    TransferCoding,
    /// Path and query are over the limit.
    #[error("path and query may have {max} bytes")]
    UriTooLong {
        /// The limit, in bytes.
        max: usize,
    },
    /// The body is over the limit, as announced or as received.
    #[error("the body may have {max} bytes")]
    PayloadTooLarge {
        /// The limit, in bytes.
        max: usize,
    },
    /// The body is of another type than the route reads.
    #[error("the body must be {want}")]
    UnsupportedMediaType {
        /// The types it reads.
        want: &'static MediaTypes,
    },
    /// A header is not what it has to be.
    #[error("the header {name} has to be {want}")]
    Field {
        /// Its name.
        name: HeaderName,
        /// What it has to be.
        want: &'static str,
    },
    /// The input does not fit the payload; all failures.
    #[error("the request does not fit what this route takes")]
    Invalid(Vec<Invalid>),
    /// The body came too slowly or stopped coming.
    #[error("the body did not arrive in time")]
    BodyTimeout,
    /// The body broke off or was wrongly framed.
    #[error("the body is incomplete or malformed")]
    BodyBroken,
    /// The handler took longer than the limit for a request.
    #[error("the request took too long")]
    HandlerTimeout,
    /// The handler panicked; the text is private.
    #[error("the server failed at this request")]
    Panicked(String),
    /// The bodies of other requests take all the memory there is for them.
    #[error("the server is busy with other bodies, try again")]
    BodiesFull,
    /// All connections are in use.
    #[error("the server is full, try again")]
    Full,
}

impl HttpError {
    /// The kind of problem it is answered as.
    #[must_use]
    pub fn kind(&self) -> &'static Kind {
        match self {
            Self::NotFound => &NOT_FOUND,
            Self::MethodNotAllowed { .. } => &METHOD_NOT_ALLOWED,
            Self::Malformed | Self::Host | Self::BodyBroken | Self::Field { .. } => &BAD_REQUEST,
            Self::HeadTooLarge { .. } => &HEAD_TOO_LARGE,
            Self::Expectation => &EXPECTATION_FAILED,
            Self::UriTooLong { .. } => &URI_TOO_LONG,
            Self::PayloadTooLarge { .. } => &CONTENT_TOO_LARGE,
            Self::UnsupportedMediaType { .. } => &UNSUPPORTED_MEDIA_TYPE,
            Self::Invalid(_) => &INVALID_INPUT,
            Self::BodyTimeout => &REQUEST_TIMEOUT,
            Self::TransferCoding => &NOT_IMPLEMENTED,
            Self::HandlerTimeout | Self::BodiesFull | Self::Full => &UNAVAILABLE,
            Self::Panicked(_) => &INTERNAL,
        }
    }
}

impl From<HttpError> for Problem {
    fn from(error: HttpError) -> Self {
        let problem = Self::new(error.kind()).detail(error.to_string());
        match error {
            HttpError::MethodNotAllowed { allow } => problem.header(ALLOW, allow),
            HttpError::UnsupportedMediaType { want } => {
                problem.header(want.told_in.clone(), want.names.join(", "))
            }
            HttpError::Invalid(errors) => problem.errors(errors),
            // What the client may still send belongs to this request: no other can follow it.
            HttpError::BodyTimeout | HttpError::BodyBroken => problem.header(CONNECTION, "close"),
            HttpError::HandlerTimeout => {
                problem.header(RETRY_AFTER, "1").log("the handler ran into the request's deadline")
            }
            HttpError::BodiesFull => problem.header(RETRY_AFTER, "1"),
            HttpError::Full => problem.header(RETRY_AFTER, "1").header(CONNECTION, "close"),
            HttpError::Panicked(text) => problem.log(format!("the handler panicked: {text}")),
            HttpError::NotFound
            | HttpError::Malformed
            | HttpError::HeadTooLarge { .. }
            | HttpError::Host
            | HttpError::Field { .. }
            | HttpError::Expectation
            | HttpError::TransferCoding
            | HttpError::UriTooLong { .. }
            | HttpError::PayloadTooLarge { .. } => problem,
        }
    }
}
