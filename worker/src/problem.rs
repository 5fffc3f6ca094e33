//! What a client is told when a request fails: `application/problem+json`.
//!
//! Every room above the database makes problems; `answer.rs` renders them, in one place, where
//! the path and the request id are known.
//! Promises: two texts per problem. The detail goes to the client, the private text to the log, and
//! neither ever takes the other's way.
//! Does not know: which situation deserves which kind (`error.rs` here, the application for its own).
//! Source: RFC 9457.

use std::borrow::Cow;

use bytes::Bytes;
use http_body_util::Full;
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

use crate::fields::Invalid;
use crate::response::Response;
use crate::schema::{Describe, MemberSpec, ObjectSpec, Schema};

/// Of a path that is told back: a longer one is known to who has sent it.
const INSTANCE_MAX_BYTES: usize = 256;

/// A kind of problem: one documented situation, with the status it is answered with.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// Last segment of the problem's `type`, for example `not-found`.
    pub code: &'static str,
    /// HTTP status, 400 to 599.
    pub status: u16,
    /// The same few words each time, for a person.
    pub title: &'static str,
    /// What happened, for the page that the problem's `type` names.
    pub about: &'static str,
    /// What the client can do about it, for that page.
    pub mend: &'static str,
}

/// One failed request, before it is rendered.
#[derive(Debug)]
pub struct Problem(Box<Parts>);

#[derive(Debug)]
struct Parts {
    kind: &'static Kind,
    detail: Option<Cow<'static, str>>,
    headers: Vec<(HeaderName, HeaderValue)>,
    errors: Vec<Invalid>,
    members: Vec<(&'static str, Value)>,
    log: Option<Cow<'static, str>>,
}

impl Problem {
    /// Start a problem of `kind`; its detail is the kind's title until [`Problem::detail`] says more.
    #[must_use]
    pub fn new(kind: &'static Kind) -> Self {
        Self(Box::new(Parts {
            kind,
            detail: None,
            headers: Vec::new(),
            errors: Vec::new(),
            members: Vec::new(),
            log: None,
        }))
    }

    /// Say to the client what happened this time.
    #[must_use]
    pub fn detail(mut self, text: impl Into<Cow<'static, str>>) -> Self {
        self.0.detail = Some(text.into());
        self
    }

    /// Send a header along; a value that is no header value is left out.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: impl TryInto<HeaderValue>) -> Self {
        if let Ok(value) = value.try_into() {
            self.0.headers.push((name, value));
        }
        self
    }

    /// List what is wrong with the input, all of it.
    #[must_use]
    pub fn errors(mut self, errors: Vec<Invalid>) -> Self {
        self.0.errors = errors;
        self
    }

    /// Add a member of the application's own to the body.
    #[must_use]
    pub fn member(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.0.members.push((name, value.into()));
        self
    }

    /// Keep a private text for the log; the client never sees it.
    #[must_use]
    pub fn log(mut self, text: impl Into<Cow<'static, str>>) -> Self {
        self.0.log = Some(text.into());
        self
    }

    /// The kind this problem was made of.
    #[must_use]
    pub fn kind(&self) -> &'static Kind {
        self.0.kind
    }

    /// The status it is answered with.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.0.kind.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The private text, for the log.
    #[must_use]
    pub fn private(&self) -> Option<&str> {
        self.0.log.as_deref()
    }

    /// Render it for the request at `instance` (a path) with this request id. Of a long path only the
    /// begin is told.
    pub(crate) fn into_response(self, instance: &str, request_id: &str) -> Response {
        let status = self.status();
        let instance = &instance[..instance.floor_char_boundary(INSTANCE_MAX_BYTES)];
        let body = Body { parts: &self.0, status: status.as_u16(), instance, request_id };
        // Strings, numbers and JSON values: there is nothing in it that serde_json can refuse.
        let bytes = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = Response::new(Full::new(Bytes::from(bytes)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        for (name, value) in self.0.headers {
            headers.append(name, value);
        }
        // An error is about this request: no cache may answer the next one with it.
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        response
    }
}

impl Describe for Problem {
    fn describe() -> Schema {
        Schema::Object(ObjectSpec {
            name: "Problem",
            about: "What went wrong (RFC 9457).",
            members: vec![
                MemberSpec::of::<String>("type", "Which kind of problem it is; a page to read."),
                MemberSpec::of::<String>("title", "The kind in a few words, always the same."),
                MemberSpec::of::<u16>("status", "The status it is answered with."),
                MemberSpec::of::<String>("detail", "What happened this time."),
                MemberSpec::of::<String>("instance", "The path that was asked for."),
                MemberSpec::of::<String>("request_id", "Name of this request in the server's log."),
                MemberSpec::of::<Option<Vec<Invalid>>>(
                    "errors",
                    "All that is wrong with the input.",
                ),
                MemberSpec::of::<Option<String>>("error", "The same, in a word of OAuth 2."),
            ],
        })
    }
}

struct Body<'a> {
    parts: &'a Parts,
    status: u16,
    instance: &'a str,
    request_id: &'a str,
}

impl Serialize for Body<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Parts { kind, detail, errors, members, .. } = self.parts;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", &format_args!("/problems/{}", kind.code))?;
        map.serialize_entry("title", kind.title)?;
        map.serialize_entry("status", &self.status)?;
        map.serialize_entry("detail", detail.as_deref().unwrap_or(kind.title))?;
        map.serialize_entry("instance", self.instance)?;
        map.serialize_entry("request_id", self.request_id)?;
        if !errors.is_empty() {
            map.serialize_entry("errors", errors)?;
        }
        for (name, value) in members {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use hyper::header::WWW_AUTHENTICATE;
    use serde_json::json;

    use super::*;
    use crate::fields::Source;
    use crate::rules::Fault;

    static GONE: Kind = Kind { code: "gone", status: 410, title: "Gone", about: "", mend: "" };

    async fn rendered(problem: Problem) -> (hyper::http::response::Parts, Value) {
        let (head, body) = problem.into_response("/users/1", "id-1").into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (head, serde_json::from_slice(&bytes).unwrap())
    }

    #[tokio::test]
    async fn a_bare_problem_says_what_its_kind_says() {
        let (head, body) = rendered(Problem::new(&GONE)).await;
        assert_eq!(head.status, 410);
        assert_eq!(head.headers[CONTENT_TYPE], "application/problem+json");
        assert_eq!(head.headers[CACHE_CONTROL], "no-store");
        let want = json!({
            "type": "/problems/gone", "title": "Gone", "status": 410, "detail": "Gone",
            "instance": "/users/1", "request_id": "id-1",
        });
        assert_eq!(body, want);
    }

    #[tokio::test]
    async fn of_a_long_path_the_begin_is_told() {
        let path = format!("/{}", "ä".repeat(300));
        let (_, body) = Problem::new(&GONE).into_response(&path, "id-1").into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&bytes).unwrap();
        let told = body["instance"].as_str().unwrap();
        assert!(path.starts_with(told) && told.len() == INSTANCE_MAX_BYTES - 1, "{told}");
    }

    #[tokio::test]
    async fn everything_public_is_in_it_and_nothing_private() {
        let problem = Problem::new(&GONE)
            .detail("deleted yesterday")
            .header(WWW_AUTHENTICATE, "Bearer")
            .header(CACHE_CONTROL, "private")
            .member("error", "invalid_grant")
            .errors(vec![Invalid::at(Source::Body, "a/b", Fault::missing())])
            .log("the secret reason");
        assert_eq!(problem.private(), Some("the secret reason"));
        let (head, body) = rendered(problem).await;
        assert_eq!(head.headers[WWW_AUTHENTICATE], "Bearer");
        assert_eq!(head.headers.get_all(CACHE_CONTROL).iter().count(), 1);
        assert_eq!(body["detail"], "deleted yesterday");
        assert_eq!(body["error"], "invalid_grant");
        let want = json!([{"loc": ["body", "a/b"], "msg": "Field required", "type": "missing",
            "pointer": "#/a~1b"}]);
        assert_eq!(body["errors"], want);
        assert!(!body.to_string().contains("secret"));
    }
}
