//! Answers: what a handler's success becomes.
//!
//! Handlers return one of the types below; `route.rs` notes its status and body type for the API
//! document and calls [`Success::respond`].
//! Promises: the whole body is one buffer of known length, so head and body leave in one write.
//! Does not know: headers that every response carries (`answer.rs` adds them).

use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::{BodyExt, Collected, Full};
use hyper::header::{CONTENT_TYPE, ETAG, HeaderName, HeaderValue, LINK, LOCATION};
use hyper::{HeaderMap, StatusCode};
use serde::Serialize;

use crate::json;
use crate::kinds::INTERNAL;
use crate::problem::Problem;
use crate::schema::{Describe, Schema};

/// A response as this crate sends it: the body is complete.
pub type Response = hyper::Response<Full<Bytes>>;

/// What a handler may return as its success; the type says the status.
pub trait Success: Sized + 'static {
    /// The status, and what the body is if there is one.
    fn spec() -> SuccessSpec;

    /// Make the response.
    ///
    /// # Errors
    /// A 500 whose private text says what could not be written: a mistake in the application.
    fn respond(self) -> Result<Response, Problem>;

    /// Send a header along.
    fn with_header(self, name: HeaderName, value: impl TryInto<HeaderValue>) -> WithHeaders<Self> {
        WithHeaders { success: self, headers: HeaderMap::new(), fault: None }
            .with_header(name, value)
    }
}

/// What a success looks like.
#[derive(Debug, Clone, PartialEq)]
pub struct SuccessSpec {
    /// The status.
    pub status: StatusCode,
    /// What the JSON in the body is; `None` without such a body.
    pub body: Option<Schema>,
    /// Headers of its own.
    pub headers: Vec<HeaderName>,
}

impl SuccessSpec {
    fn new(status: StatusCode, body: Option<Schema>) -> Self {
        Self { status, body, headers: Vec::new() }
    }

    /// Also with this header.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName) -> Self {
        self.headers.push(name);
        self
    }
}

/// 200 with `T` as JSON.
#[derive(Debug)]
pub struct Reply<T>(pub T);

/// 201 with `body` as JSON, and where the new resource is.
#[derive(Debug)]
pub struct Created<T> {
    /// Value of the `Location` header.
    pub location: String,
    /// The new resource.
    pub body: T,
}

/// 204, no body.
#[derive(Debug)]
pub struct Empty;

/// Bytes of any media type, under an entity tag: 200; or 304 for a client that has them already.
#[derive(Debug)]
pub struct Representation {
    /// What they are.
    pub media_type: &'static str,
    /// Their entity tag, in its quotes.
    pub etag: HeaderValue,
    /// Themselves.
    pub bytes: Bytes,
    /// Whether the client has them.
    pub is_known: bool,
}

/// A page of a list, with a `Link` to the next one where there is one.
#[derive(Debug)]
pub struct Linked<S> {
    /// The page.
    pub success: S,
    /// Path and query of the next one.
    pub next: Option<String>,
}

/// A text of another media type than JSON.
#[derive(Debug, Clone)]
pub struct Plain {
    /// What it is, as the header says it.
    pub media_type: &'static str,
    /// The text.
    pub bytes: Bytes,
}

/// A success with headers of its own.
#[derive(Debug)]
pub struct WithHeaders<S> {
    success: S,
    headers: HeaderMap,
    fault: Option<HeaderName>,
}

impl<S> WithHeaders<S> {
    /// Send one more header along.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: impl TryInto<HeaderValue>) -> Self {
        match value.try_into() {
            Ok(value) => {
                self.headers.append(name, value);
            }
            Err(_) => self.fault = Some(name),
        }
        self
    }
}

impl<T: Serialize + Describe + 'static> Success for Reply<T> {
    fn spec() -> SuccessSpec {
        SuccessSpec::new(StatusCode::OK, Some(T::describe()))
    }

    fn respond(self) -> Result<Response, Problem> {
        json(StatusCode::OK, &self.0)
    }
}

impl<T: Serialize + Describe + 'static> Success for Created<T> {
    fn spec() -> SuccessSpec {
        SuccessSpec::new(StatusCode::CREATED, Some(T::describe())).with_header(LOCATION)
    }

    fn respond(self) -> Result<Response, Problem> {
        let location = HeaderValue::try_from(self.location).map_err(|_| illegal(&LOCATION))?;
        let mut response = json(StatusCode::CREATED, &self.body)?;
        response.headers_mut().insert(LOCATION, location);
        Ok(response)
    }
}

impl Success for Empty {
    fn spec() -> SuccessSpec {
        SuccessSpec::new(StatusCode::NO_CONTENT, None)
    }

    fn respond(self) -> Result<Response, Problem> {
        Ok(empty(StatusCode::NO_CONTENT))
    }
}

impl Success for Representation {
    fn spec() -> SuccessSpec {
        SuccessSpec::new(StatusCode::OK, None)
    }

    fn respond(self) -> Result<Response, Problem> {
        let mut response = match self.is_known {
            true => empty(StatusCode::NOT_MODIFIED),
            false => {
                with_type(StatusCode::OK, HeaderValue::from_static(self.media_type), self.bytes)
            }
        };
        response.headers_mut().insert(ETAG, self.etag);
        Ok(response)
    }
}

impl Success for Plain {
    fn spec() -> SuccessSpec {
        SuccessSpec::new(StatusCode::OK, None)
    }

    fn respond(self) -> Result<Response, Problem> {
        Ok(with_type(StatusCode::OK, HeaderValue::from_static(self.media_type), self.bytes))
    }
}

impl<S: Success> Success for Linked<S> {
    fn spec() -> SuccessSpec {
        S::spec().with_header(LINK)
    }

    fn respond(self) -> Result<Response, Problem> {
        let next = self.next.map(|next| HeaderValue::try_from(format!("<{next}>; rel=\"next\"")));
        let next = next.transpose().map_err(|_| illegal(&LINK))?;
        let mut response = self.success.respond()?;
        if let Some(next) = next {
            response.headers_mut().insert(LINK, next);
        }
        Ok(response)
    }
}

impl<S: Success> Success for WithHeaders<S> {
    fn spec() -> SuccessSpec {
        S::spec()
    }

    fn respond(self) -> Result<Response, Problem> {
        if let Some(name) = &self.fault {
            return Err(illegal(name));
        }
        let mut response = self.success.respond()?;
        response.headers_mut().extend(self.headers);
        Ok(response)
    }
}

/// All of a body. It is complete, so it is there at once.
pub(crate) fn whole(body: Full<Bytes>) -> Bytes {
    let whole = body.collect().now_or_never().and_then(Result::ok).map(Collected::to_bytes);
    whole.unwrap_or_default()
}

/// A response without a body.
pub(crate) fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

fn json<T: Serialize>(status: StatusCode, body: &T) -> Result<Response, Problem> {
    let bytes = json::to_vec(body).map_err(|error| {
        Problem::new(&INTERNAL).log(format!("the response cannot be written as JSON: {error}"))
    })?;
    Ok(json_bytes(status, bytes.into()))
}

/// Bytes that are JSON.
pub(crate) fn json_bytes(status: StatusCode, bytes: Bytes) -> Response {
    // Looked through when it is compiled, not for each answer.
    static TYPE: HeaderValue = HeaderValue::from_static("application/json");
    with_type(status, TYPE.clone(), bytes)
}

fn with_type(status: StatusCode, media_type: HeaderValue, bytes: Bytes) -> Response {
    let mut response = Response::new(Full::new(bytes));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    response
}

#[cold]
fn illegal(name: &HeaderName) -> Problem {
    Problem::new(&INTERNAL).log(format!("the value for header {name} is no header value"))
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use hyper::header::CACHE_CONTROL;
    use serde_json::json;

    use super::*;

    async fn text(response: Response) -> String {
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_reply_is_json() {
        let response = Reply(vec![1_i64, 2]).respond().unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        assert_eq!(text(response).await, "[1,2]");
        assert_eq!(text(Reply(()).respond().unwrap()).await, "null");
    }

    #[tokio::test]
    async fn what_was_created_has_a_location() {
        let created = Created { location: "/users/1".into(), body: "x" };
        let response = created.respond().unwrap();
        assert_eq!(
            (response.status(), &response.headers()[LOCATION]),
            (StatusCode::CREATED, &HeaderValue::from_static("/users/1"))
        );
        let broken = Created { location: "/a\nb".into(), body: () };
        assert_eq!(broken.respond().unwrap_err().status(), 500);
    }

    #[tokio::test]
    async fn empty_has_neither_body_nor_type() {
        let response = Empty.respond().unwrap();
        assert_eq!(response.status(), 204);
        assert!(response.headers().is_empty());
    }

    #[test]
    fn headers_are_sent_along() {
        let reply = Reply(1_i64)
            .with_header(CACHE_CONTROL, "no-store")
            .with_header(ETAG, "\"7\"".to_owned());
        let response = reply.respond().unwrap();
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
        assert_eq!(response.headers()[ETAG], "\"7\"");
        assert_eq!(Reply(1_i64).with_header(ETAG, "a\nb").respond().unwrap_err().status(), 500);
    }

    #[tokio::test]
    async fn a_representation_is_sent_to_who_does_not_have_it() {
        let representation = |is_known| {
            let etag = HeaderValue::from_static("\"7\"");
            let bytes = Bytes::from_static(b"body {}");
            Representation { media_type: "text/css", etag, bytes, is_known }.respond().unwrap()
        };
        let response = representation(false);
        assert_eq!(
            (response.status().as_u16(), &response.headers()[ETAG]),
            (200, &"\"7\"".parse().unwrap())
        );
        assert_eq!(response.headers()[CONTENT_TYPE], "text/css");
        assert_eq!(text(response).await, "body {}");
        let response = representation(true);
        assert_eq!(
            (response.status().as_u16(), &response.headers()[ETAG]),
            (304, &"\"7\"".parse().unwrap())
        );
        assert!(!response.headers().contains_key(CONTENT_TYPE));
        assert_eq!(text(response).await, "");
    }

    #[test]
    fn a_page_leads_to_the_next() {
        let page =
            |next: Option<&str>| Linked { success: Reply(1_i64), next: next.map(Into::into) };
        let response = page(Some("/things?cursor=a")).respond().unwrap();
        assert_eq!(response.headers()[LINK], "</things?cursor=a>; rel=\"next\"");
        assert!(!page(None).respond().unwrap().headers().contains_key(LINK));
        assert_eq!(page(Some("/a\nb")).respond().unwrap_err().status(), 500);
    }

    #[test]
    fn the_type_says_the_status() {
        assert_eq!(<Reply<String>>::spec().status, 200);
        assert_eq!(
            <WithHeaders<Created<bool>>>::spec(),
            SuccessSpec {
                status: StatusCode::CREATED,
                body: Some(Schema::Value(json!({"type": "boolean"}))),
                headers: vec![LOCATION]
            }
        );
        assert_eq!(Empty::spec().body, None);
    }
}
