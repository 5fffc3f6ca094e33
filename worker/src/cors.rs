//! CORS: which pages of other web origins may read the answers of this API.
//!
//! `answer.rs` asks it before a request is handled and once more for its answer, where the settings name
//! origins; without them nothing here is run.
//! Promises: an origin is compared byte by byte, and no answer ever allows credentials, so that cookies of
//! a user are of no use to a page; whatever the answer to a request is, an error too, the page may read it.
//! Where every origin may, every answer says so, whoever asks: a cache may hand it to a page.
//! What is refused before it is a request (`refuse.rs`) can be read where every origin may: there is no
//! head to find another one in. A question beforehand about a path that is none is a 404, which a browser
//! takes for a no: the page has nothing to send there.
//! Does not know: what stands in the headers that it lets pass.
//! Source: the Fetch standard, section 3.3 (CORS protocol).

use hyper::Method;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ALLOW, HeaderMap, HeaderValue, ORIGIN, VARY,
};
use hyper::http::request::Parts;

/// What a page may send, besides what every page may.
const SENT: [&str; 6] = [
    "authorization",
    "content-type",
    "idempotency-key",
    "if-match",
    "if-none-match",
    "x-request-id",
];
/// What a page may read, besides what every page may.
const READ: HeaderValue = HeaderValue::from_static(
    "etag, location, link, x-request-id, retry-after, idempotency-replayed",
);
/// For how long a browser need not ask again, in seconds.
const MAX_AGE_S: HeaderValue = HeaderValue::from_static("600");

/// The origins whose pages may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cors {
    /// All there are.
    Any,
    /// These, as browsers write them: `https://app.example.org`, in lower case and without the usual port.
    Origins(Vec<String>),
}

/// What the answer to one request has to tell a browser.
pub(crate) struct Told {
    /// The origin that is allowed; none where the request comes from no page, or from one that may not.
    /// `*` is for all.
    origin: Option<HeaderValue>,
    /// Whether the answer would be another one for another origin.
    varies: bool,
    /// Where a browser asks beforehand: what is allowed of the headers that the page wants to send.
    preflight: Option<String>,
}

impl Cors {
    /// What is to be told to whoever sent this head.
    pub(crate) fn look(&self, head: &Parts) -> Told {
        let mut origins = head.headers.get_all(ORIGIN).iter();
        // A browser sends one; of several nobody knows which one counts elsewhere.
        let origin = origins.next().filter(|_| origins.next().is_none());
        let told = self.told_to(origin);
        let asks = head.method == Method::OPTIONS
            && head.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        let preflight = (asks && told.origin.is_some()).then(|| sendable(&head.headers));
        Told { preflight, ..told }
    }

    /// What is to be told to a page of this origin; `None`: nobody knows which, or there is no page.
    pub(crate) fn told_to(&self, origin: Option<&HeaderValue>) -> Told {
        let origin = match self {
            Self::Any => Some(HeaderValue::from_static("*")),
            Self::Origins(all) => {
                let is_one = |origin: &&HeaderValue| {
                    all.iter().any(|one| one.as_bytes() == origin.as_bytes())
                };
                origin.filter(is_one).cloned()
            }
        };
        Told { origin, varies: *self != Self::Any, preflight: None }
    }
}

/// Those of the headers which a page wants to send that it may.
fn sendable(headers: &HeaderMap) -> String {
    let lines = headers.get_all(ACCESS_CONTROL_REQUEST_HEADERS).iter();
    let names = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
    let asked: Vec<&str> = names.map(str::trim).collect();
    let is_asked = |name: &&&str| asked.iter().any(|one| one.eq_ignore_ascii_case(name));
    let sent: Vec<&str> = SENT.iter().filter(is_asked).copied().collect();
    sent.join(", ")
}

impl Told {
    /// Tell it.
    pub(crate) fn add(self, headers: &mut HeaderMap) {
        if self.varies {
            headers.append(VARY, HeaderValue::from_static("origin"));
        }
        let Some(origin) = self.origin else { return };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        let Some(sendable) = self.preflight else {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, READ);
            return;
        };
        if let Some(methods) = headers.get(ALLOW).cloned() {
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
        }
        if let Ok(sendable) = HeaderValue::try_from(sendable)
            && !sendable.is_empty()
        {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, sendable);
        }
        headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE_S);
    }
}
