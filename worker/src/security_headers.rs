//! What every answer tells browsers and caches, unless its handler has said something else.
//!
//! `answer.rs` adds them to the answers of requests, `refuse.rs` to those of what was none.
//! Promises: the three of them and no allocation; a page that needs scripts, or may be kept, says so
//! itself and is left alone.
//! Does not know: who terminates TLS, and so nothing of `Strict-Transport-Security`.
//! Source: OWASP's REST security cheat sheet, RFC 9111 section 5.2.2.

use hyper::HeaderMap;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, Entry, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS,
};

static HEADERS: [(HeaderName, HeaderValue); 3] = [
    // The type is what it says it is.
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    // An answer that is opened as a page loads nothing, and stands in no other page.
    (
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    ),
    // It may be kept, but not be used again without asking.
    (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
];

/// Add those that are not there.
pub(crate) fn add(headers: &mut HeaderMap) {
    for (name, value) in &HEADERS {
        if let Entry::Vacant(place) = headers.entry(name) {
            place.insert(value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_handler_has_said_stays() {
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=60"));
        add(&mut headers);
        assert_eq!(headers[CACHE_CONTROL], "max-age=60");
        assert_eq!(headers[X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(headers.len(), 3);
    }
}
