//! The kinds of problems that any request can meet.
//!
//! `error.rs` answers with them; an application may answer with them, too, and declares its own beside.
//! Source: RFC 9110 section 15, RFC 6585 section 5.

use crate::problem::Kind;

/// What every operation may answer, whatever it declares.
pub const ANY: &[&Kind] = &[
    &BAD_REQUEST,
    &URI_TOO_LONG,
    &EXPECTATION_FAILED,
    &HEAD_TOO_LARGE,
    &INTERNAL,
    &NOT_IMPLEMENTED,
    &UNAVAILABLE,
];
/// What an operation may answer besides that takes a body.
pub const ANY_WITH_BODY: &[&Kind] = &[&REQUEST_TIMEOUT];
/// What is answered to requests that belong to no operation.
pub const WITHOUT_OPERATION: &[&Kind] = &[&NOT_FOUND, &METHOD_NOT_ALLOWED];

/// The request was malformed as HTTP.
pub static BAD_REQUEST: Kind = Kind {
    code: "bad-request",
    status: 400,
    title: "Bad Request",
    about: "The request breaks a rule of HTTP: it has no host or several, a header is not what it has to \
        be, or its body broke off or is wrongly framed.",
    mend: "Look at what your client sends, and at any proxy between: a common HTTP library does not \
        get this answer. The detail names the rule.",
};
/// No route has this path.
pub static NOT_FOUND: Kind = Kind {
    code: "not-found",
    status: 404,
    title: "Not Found",
    about: "No route has this path, or there is no row of this id (any more).",
    mend: "Compare the path with the API document. If it is right, the row was deleted or never \
        existed: do not ask for it again.",
};
/// The path exists, but not with this method.
pub static METHOD_NOT_ALLOWED: Kind = Kind {
    code: "method-not-allowed",
    status: 405,
    title: "Method Not Allowed",
    about: "The path exists, but it does not take this method.",
    mend: "Use one of the methods that the Allow header of the answer lists.",
};
/// The body did not arrive in time.
pub static REQUEST_TIMEOUT: Kind = Kind {
    code: "request-timeout",
    status: 408,
    title: "Request Timeout",
    about: "The body stopped coming, or came too slowly.",
    mend: "Send the request again, on a new connection: nothing was done with this one.",
};
/// What is there is not what the client means to change.
pub static PRECONDITION_FAILED: Kind = Kind {
    code: "precondition-failed",
    status: 412,
    title: "Precondition Failed",
    about: "The request says with If-Match what it is meant for, or with If-None-Match what it is not meant \
        for, and what is there is something else: somebody has changed or deleted it meanwhile. Nothing \
        was changed.",
    mend: "Read it again, decide whether the request is still right, and send it with the ETag of what you \
        have just read.",
};
/// The body is longer than the limit.
pub static CONTENT_TOO_LARGE: Kind = Kind {
    code: "content-too-large",
    status: 413,
    title: "Content Too Large",
    about: "The body is longer than this server reads.",
    mend: "Send less: the detail says how many bytes a body may have.",
};
/// The path and query are longer than the limit.
pub static URI_TOO_LONG: Kind = Kind {
    code: "uri-too-long",
    status: 414,
    title: "URI Too Long",
    about: "Path and query together are longer than this server reads.",
    mend: "Send less: the detail says how many bytes they may have.",
};
/// The body is of a type this route does not read.
pub static UNSUPPORTED_MEDIA_TYPE: Kind = Kind {
    code: "unsupported-media-type",
    status: 415,
    title: "Unsupported Media Type",
    about: "The body is of a type that this route does not read, or the request says of none.",
    mend: "Send a Content-Type header with the type that the Accept header of the answer names.",
};
/// The client expects something of the server that it does not do.
pub static EXPECTATION_FAILED: Kind = Kind {
    code: "expectation-failed",
    status: 417,
    title: "Expectation Failed",
    about: "The request has an Expect header that asks for something other than 100-continue.",
    mend: "Leave the header out.",
};
/// The input was read and is not what the route takes.
pub static INVALID_INPUT: Kind = Kind {
    code: "invalid-input",
    status: 422,
    title: "Unprocessable Content",
    about: "The path, the query or the body was read, and is not what this route takes.",
    mend: "The member errors lists everything that is wrong: where (loc, and pointer in a body), what, \
        for a person (msg) and for a program (type). Mend all of it and send the request again.",
};
/// The head of the request is longer, or has more fields, than the limit.
pub static HEAD_TOO_LARGE: Kind = Kind {
    code: "header-fields-too-large",
    status: 431,
    title: "Request Header Fields Too Large",
    about: "The head of the request is longer, or has more header fields, than this server reads.",
    mend: "Send fewer or shorter headers; cookies of another service on the same host are a usual \
        cause.",
};
/// The server failed.
pub static INTERNAL: Kind = Kind {
    code: "internal",
    status: 500,
    title: "Internal Server Error",
    about: "The server made a mistake, and has logged it.",
    mend: "Report the request_id: the log of the server tells under this name what happened. The same \
        request will probably fail again.",
};
/// The request asks for something of HTTP that this server does not do.
pub static NOT_IMPLEMENTED: Kind = Kind {
    code: "not-implemented",
    status: 501,
    title: "Not Implemented",
    about: "The request uses something of HTTP that this server does not do: a transfer coding other \
        than chunked.",
    mend: "Send the body without that coding.",
};
/// The server cannot do it now, but may later.
pub static UNAVAILABLE: Kind = Kind {
    code: "unavailable",
    status: 503,
    title: "Service Unavailable",
    about: "The server cannot answer at the moment: the database is away or busy, too much is to be \
        done at once, or the server is stopping.",
    mend: "Wait for as many seconds as the Retry-After header says (one, without it), then send the \
        request again. Wait longer each time.",
};
