//! The kinds of problems that any request can meet.
//!
//! `error.rs` answers with them; an application may answer with them, too, and declares its own beside.
//! Source: RFC 9110 section 15, RFC 6585 section 5.

use crate::problem::Kind;

/// The request was malformed as HTTP.
pub static BAD_REQUEST: Kind = Kind { code: "bad-request", status: 400, title: "Bad Request" };
/// No route has this path.
pub static NOT_FOUND: Kind = Kind { code: "not-found", status: 404, title: "Not Found" };
/// The path exists, but not with this method.
pub static METHOD_NOT_ALLOWED: Kind =
    Kind { code: "method-not-allowed", status: 405, title: "Method Not Allowed" };
/// The body did not arrive in time.
pub static REQUEST_TIMEOUT: Kind =
    Kind { code: "request-timeout", status: 408, title: "Request Timeout" };
/// The body is longer than the limit.
pub static CONTENT_TOO_LARGE: Kind =
    Kind { code: "content-too-large", status: 413, title: "Content Too Large" };
/// The path and query are longer than the limit.
pub static URI_TOO_LONG: Kind = Kind { code: "uri-too-long", status: 414, title: "URI Too Long" };
/// The body is of a type this route does not read.
pub static UNSUPPORTED_MEDIA_TYPE: Kind =
    Kind { code: "unsupported-media-type", status: 415, title: "Unsupported Media Type" };
/// The client expects something of the server that it does not do.
pub static EXPECTATION_FAILED: Kind =
    Kind { code: "expectation-failed", status: 417, title: "Expectation Failed" };
/// The input was read and is not what the route takes.
pub static INVALID_INPUT: Kind =
    Kind { code: "invalid-input", status: 422, title: "Unprocessable Content" };
/// The head of the request is longer, or has more fields, than the limit.
pub static HEAD_TOO_LARGE: Kind =
    Kind { code: "header-fields-too-large", status: 431, title: "Request Header Fields Too Large" };
/// The server failed.
pub static INTERNAL: Kind = Kind { code: "internal", status: 500, title: "Internal Server Error" };
/// The request asks for something of HTTP that this server does not do.
pub static NOT_IMPLEMENTED: Kind =
    Kind { code: "not-implemented", status: 501, title: "Not Implemented" };
/// The server cannot do it now, but may later.
pub static UNAVAILABLE: Kind =
    Kind { code: "unavailable", status: 503, title: "Service Unavailable" };
