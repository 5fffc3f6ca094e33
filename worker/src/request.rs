//! What a handler may read of a request, and how.
//!
//! `route.rs` takes these out of the request as a handler's signature names them; the handler reads
//! them when it wants to, so the order of refusals (401, 403, 422, ...) is visible in its text.
//! Promises: nothing is parsed or copied before `read` is called, no body byte is asked for before that,
//! and the answer to a bad input lists all that is wrong with it.
//! Does not know: resources, tokens, the database.

use std::marker::PhantomData;
use std::net::IpAddr;
use std::rc::Rc;

use bytes::Bytes;
use hyper::Method;
use hyper::header::{AUTHORIZATION, AsHeaderName, HeaderMap};
use hyper::http::request::Parts;
use serde_json::Value;
use uuid::Uuid;

use crate::body::Body;
use crate::config::Limits;
use crate::error::HttpError;
use crate::fields::{self, FieldSpec, Fields, Invalid, Payload, PayloadSpec, Source};
use crate::given::Given;
use crate::json;
use crate::kinds::{BAD_REQUEST, CONTENT_TOO_LARGE, INVALID_INPUT, UNSUPPORTED_MEDIA_TYPE};
use crate::listen::Peer;
use crate::media::{FORM, JSON, MERGE_PATCH, MediaTypes};
use crate::problem::Kind;
use crate::record;
use crate::request_id::RequestId;
use crate::rules::Fault;

/// A routed request on its way to its handler.
pub struct Call {
    /// Shared: it is long, and is handed on often.
    pub(crate) head: Rc<Parts>,
    pub(crate) body: Body,
    pub(crate) pattern: &'static str,
    pub(crate) peer: Peer,
    pub(crate) request_id: RequestId,
}

/// The request's head and the application, for the handler.
pub struct Context<A> {
    app: Rc<A>,
    head: Rc<Parts>,
    peer: Peer,
    request_id: RequestId,
}

impl<A> Context<A> {
    pub(crate) fn new(app: Rc<A>, call: Call) -> Self {
        Self { app, head: call.head, peer: call.peer, request_id: call.request_id }
    }

    /// The application's state.
    #[must_use]
    pub fn app(&self) -> &A {
        &self.app
    }

    /// The method of the request.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.head.method
    }

    /// Its path, as it came.
    #[must_use]
    pub fn path(&self) -> &str {
        self.head.uri.path()
    }

    /// Its query, as it came; empty where there is none.
    #[must_use]
    pub fn query(&self) -> &str {
        self.head.uri.query().unwrap_or_default()
    }

    /// The first header of this name, if it is ASCII text.
    pub fn header(&self, name: impl AsHeaderName) -> Option<&str> {
        self.head.headers.get(name)?.to_str().ok()
    }

    /// All headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    /// The address at the other end of the connection: the client's, or that of a proxy. `None`: it came by
    /// a unix socket, where nobody has one.
    #[must_use]
    pub fn peer(&self) -> Option<IpAddr> {
        self.peer
    }

    /// The token of an `Authorization: Bearer` header.
    #[must_use]
    pub fn bearer(&self) -> Option<&str> {
        let (scheme, token) = self.header(AUTHORIZATION)?.split_once(' ')?;
        let token = token.trim();
        (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
    }

    /// Notes whom the request is from, for its line in the log.
    pub fn note_user(&self, user: Uuid) {
        if let Some(record) = record::entered() {
            record.set_user(user);
        }
    }

    /// The name of this request in every log line and answer.
    #[must_use]
    pub fn request_id(&self) -> &str {
        self.request_id.as_str()
    }
}

/// Something a handler takes besides the context.
pub trait Input: 'static {
    /// Take it out of the request, unread.
    fn take(call: &mut Call) -> Self;

    /// Describe it for the API document.
    fn spec() -> InputSpec;
}

/// One input of an operation.
#[derive(Debug, Clone, PartialEq)]
pub struct InputSpec {
    /// The part of the request it is read from.
    pub source: Source,
    /// The media types, for bodies.
    pub media_types: &'static [&'static str],
    /// Full path of the Rust type of the payload.
    pub payload: &'static str,
    /// What the payload asks for.
    pub spec: PayloadSpec,
    /// How reading it can fail, besides what any request can meet.
    pub problems: &'static [&'static Kind],
}

impl InputSpec {
    fn of<T: Payload>(source: Source) -> Self {
        const PROBLEMS: &[&Kind] = &[&INVALID_INPUT];
        let spec = Fields::describe::<T>();
        let payload = std::any::type_name::<T>();
        Self { source, media_types: &[], payload, spec, problems: PROBLEMS }
    }

    fn body<T: Payload>(media_types: &'static MediaTypes) -> Self {
        const PROBLEMS: &[&Kind] = &[&INVALID_INPUT, &CONTENT_TOO_LARGE, &UNSUPPORTED_MEDIA_TYPE];
        let spec = Self::of::<T>(Source::Body);
        Self { media_types: media_types.names, problems: PROBLEMS, ..spec }
    }

    /// Headers (name, and what it is for) that may be left out, and are refused with a 400 when they are
    /// malformed.
    pub(crate) fn headers<T>(fields: &[(&'static str, &'static str)], schema: &Value) -> Self {
        const PROBLEMS: &[&Kind] = &[&BAD_REQUEST];
        let field = |(name, about): &(&'static str, &'static str)| FieldSpec {
            name,
            about,
            schema: schema.clone(),
            required: false,
            nullable: false,
        };
        Self {
            source: Source::Header,
            media_types: &[],
            payload: std::any::type_name::<T>(),
            spec: PayloadSpec { fields: fields.iter().map(field).collect(), closed: false },
            problems: PROBLEMS,
        }
    }
}

/// Two inputs of one request: when neither can be read, the failures of both.
///
/// # Errors
/// [`HttpError::Invalid`] with all failures; an error of another kind comes alone.
pub fn both<A, B>(
    first: Result<A, HttpError>,
    second: Result<B, HttpError>,
) -> Result<(A, B), HttpError> {
    match (first, second) {
        (Err(HttpError::Invalid(mut failures)), Err(HttpError::Invalid(more))) => {
            failures.extend(more);
            Err(HttpError::Invalid(failures))
        }
        (first, second) => Ok((first?, second?)),
    }
}

/// The parameters in the path.
pub struct Path<T> {
    head: Rc<Parts>,
    pattern: &'static str,
    payload: PhantomData<fn() -> T>,
}

impl<T: Payload> Path<T> {
    /// Read them.
    ///
    /// # Errors
    /// [`HttpError::Invalid`], also for a parameter that is not UTF-8 when decoded.
    pub fn read(&self) -> Result<T, HttpError> {
        let given = Given::Path { pattern: self.pattern, path: self.head.uri.path() };
        fields::read(Source::Path, given).map_err(HttpError::Invalid)
    }
}

impl<T: Payload> Input for Path<T> {
    fn take(call: &mut Call) -> Self {
        Self { head: Rc::clone(&call.head), pattern: call.pattern, payload: PhantomData }
    }

    fn spec() -> InputSpec {
        InputSpec::of::<T>(Source::Path)
    }
}

/// The query string.
pub struct Query<T> {
    head: Rc<Parts>,
    payload: PhantomData<fn() -> T>,
}

impl<T: Payload> Query<T> {
    /// Read it.
    ///
    /// # Errors
    /// [`HttpError::Invalid`].
    pub fn read(&self) -> Result<T, HttpError> {
        let given = Given::query(self.head.uri.query().unwrap_or_default())
            .map_err(|fault| invalid(Invalid::whole(Source::Query, fault)))?;
        fields::read(Source::Query, given).map_err(HttpError::Invalid)
    }
}

impl<T: Payload> Input for Query<T> {
    fn take(call: &mut Call) -> Self {
        Self { head: Rc::clone(&call.head), payload: PhantomData }
    }

    fn spec() -> InputSpec {
        InputSpec::of::<T>(Source::Query)
    }
}

/// A JSON body.
pub struct Json<T> {
    body: Body,
    payload: PhantomData<fn() -> T>,
}

impl<T: Payload> Json<T> {
    /// Receive and read it.
    ///
    /// # Errors
    /// [`HttpError::PayloadTooLarge`], [`HttpError::UnsupportedMediaType`], [`HttpError::Invalid`], and
    /// [`HttpError::BodyTimeout`] or [`HttpError::BodyBroken`] for a body that does not arrive.
    ///
    /// Waits for the client, under the limits of a body.
    pub async fn read(self) -> Result<T, HttpError> {
        Ok(self.read_with_bytes().await?.0)
    }

    /// As [`Json::read`], and also give the body as it came.
    ///
    /// # Errors
    /// As [`Json::read`].
    pub async fn read_with_bytes(self) -> Result<(T, Bytes), HttpError> {
        read_json(self.body, &JSON).await
    }
}

async fn read_json<T: Payload>(
    body: Body,
    want: &'static MediaTypes,
) -> Result<(T, Bytes), HttpError> {
    let Limits { body_max_bytes, json_depth_max, .. } = *body.limits();
    let received = body.receive(want, body_max_bytes).await?;
    let members = json::object(&received, json_depth_max).map_err(invalid)?;
    let read = fields::read(Source::Body, Given::Object(&members));
    Ok((read.map_err(HttpError::Invalid)?, received))
}

impl<T: Payload> Input for Json<T> {
    fn take(call: &mut Call) -> Self {
        Self { body: call.body.take(&call.head.headers), payload: PhantomData }
    }

    fn spec() -> InputSpec {
        InputSpec::body::<T>(&JSON)
    }
}

/// A JSON merge patch: what is left out stays, null clears. Its payload says so, with `set` and `change`.
pub struct MergePatch<T> {
    body: Body,
    payload: PhantomData<fn() -> T>,
}

impl<T: Payload> MergePatch<T> {
    /// Receive and read it.
    ///
    /// # Errors
    /// As [`Json::read`].
    ///
    /// Waits for the client, under the limits of a body.
    pub async fn read(self) -> Result<T, HttpError> {
        Ok(read_json(self.body, &MERGE_PATCH).await?.0)
    }
}

impl<T: Payload> Input for MergePatch<T> {
    fn take(call: &mut Call) -> Self {
        Self { body: call.body.take(&call.head.headers), payload: PhantomData }
    }

    fn spec() -> InputSpec {
        InputSpec::body::<T>(&MERGE_PATCH)
    }
}

/// A form body (`application/x-www-form-urlencoded`).
pub struct Form<T> {
    body: Body,
    payload: PhantomData<fn() -> T>,
}

impl<T: Payload> Form<T> {
    /// Receive and read it; a field given twice is a failure.
    ///
    /// # Errors
    /// As [`Json::read`].
    ///
    /// Waits for the client, under the limits of a body.
    pub async fn read(self) -> Result<T, HttpError> {
        let max = self.body.limits().form_max_bytes;
        let received = self.body.receive(&FORM, max).await?;
        let whole = |fault| invalid(Invalid::whole(Source::Body, fault));
        let text = std::str::from_utf8(&received).map_err(|_| whole(Fault::unicode()))?;
        let given = Given::form(text).map_err(whole)?;
        fields::read(Source::Body, given).map_err(HttpError::Invalid)
    }
}

impl<T: Payload> Input for Form<T> {
    fn take(call: &mut Call) -> Self {
        Self { body: call.body.take(&call.head.headers), payload: PhantomData }
    }

    fn spec() -> InputSpec {
        InputSpec::body::<T>(&FORM)
    }
}

fn invalid(failure: Invalid) -> HttpError {
    HttpError::Invalid(vec![failure])
}
