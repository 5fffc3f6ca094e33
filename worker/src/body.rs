//! Bodies: received whole, under a size, an idle time and a minimum rate.
//!
//! `request.rs` receives them; `connection.rs` gets what was not read back and deals with it.
//! Promises: a body over the limit is refused before it is received when it announces its length, and
//! while it is received when it does not; a client that trickles is cut off; all bodies of a worker
//! together stay under a limit, each counted until its request ends.
//! Does not know: what the bytes mean.

use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use tokio::time::{Duration, Instant, timeout_at};

use crate::config::Limits;
use crate::connection::Connection;
use crate::error::HttpError;
use crate::media::MediaTypes;

/// The body of one request. Dropped before its end, it goes back to its connection.
pub(crate) struct Body {
    incoming: Option<Incoming>,
    form: Form,
    deadline: Instant,
    connection: Rc<Connection>,
}

/// What the head says about the body.
#[derive(Default)]
struct Form {
    content_type: Option<HeaderValue>,
    encoded: bool,
}

impl Body {
    /// A body that must be here by `deadline`, the request's own.
    pub(crate) fn new(incoming: Incoming, deadline: Instant, connection: Rc<Connection>) -> Self {
        if incoming.is_end_stream() {
            connection.watch.received_whole();
        }
        Self { incoming: Some(incoming), form: Form::default(), deadline, connection }
    }

    /// Hand the body on, with what the head says about it.
    pub(crate) fn take(&mut self, headers: &HeaderMap) -> Self {
        Self {
            incoming: self.incoming.take(),
            form: Form {
                content_type: headers.get(CONTENT_TYPE).cloned(),
                encoded: headers.contains_key(CONTENT_ENCODING),
            },
            deadline: self.deadline,
            connection: Rc::clone(&self.connection),
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        self.connection.limits()
    }

    /// Receive all of it. A body that is empty and has no type is an empty one of any type.
    ///
    /// # Errors
    /// In this order: too large as announced, of another type, too slow, broken, too large after all, or
    /// too much beside the bodies of others.
    pub(crate) async fn receive(
        mut self,
        want: &'static MediaTypes,
        max: usize,
    ) -> Result<Bytes, HttpError> {
        let Some(incoming) = &mut self.incoming else { return Ok(Bytes::new()) };
        if incoming.size_hint().lower() > max as u64 {
            return Err(HttpError::PayloadTooLarge { max });
        }
        if self.form.content_type.is_none() && incoming.is_end_stream() {
            return Ok(Bytes::new());
        }
        self.form.check(want)?;
        let bytes = collect(incoming, max, self.deadline, &self.connection).await?;
        self.connection.watch.received_whole();
        self.incoming = None;
        Ok(bytes)
    }
}

impl Form {
    fn check(&self, want: &'static MediaTypes) -> Result<(), HttpError> {
        let content_type = self.content_type.as_ref().and_then(|value| value.to_str().ok());
        match content_type {
            Some(content_type) if !self.encoded && want.matches(content_type) => Ok(()),
            _ => Err(HttpError::UnsupportedMediaType { want }),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Some(incoming) = self.incoming.take().filter(|incoming| !incoming.is_end_stream()) {
            self.connection.leave_unread(incoming);
        }
    }
}

/// Receive until the end: at least at the rate, never idle for long, and before the request's deadline (a
/// body that is not here by then is late, and not this server slow).
async fn collect(
    incoming: &mut Incoming,
    max: usize,
    deadline: Instant,
    connection: &Connection,
) -> Result<Bytes, HttpError> {
    let mut received = Received::default();
    let pace = Pace::start(connection.limits());
    loop {
        let due = pace.deadline(received.len()).min(deadline);
        let frame = timeout_at(due, incoming.frame()).await;
        let Some(frame) = frame.map_err(|_| HttpError::BodyTimeout)? else { break };
        // What is no data is a trailer: nobody reads those.
        if let Ok(data) = frame.map_err(|_| HttpError::BodyBroken)?.into_data() {
            if received.len() + data.len() > max {
                return Err(HttpError::PayloadTooLarge { max });
            }
            connection.hold(data.len())?;
            received.push(data);
        }
    }
    Ok(received.into_bytes())
}

/// What has come so far; the first piece is often all, and then it is never copied.
#[derive(Default)]
struct Received {
    first: Bytes,
    rest: BytesMut,
}

impl Received {
    fn push(&mut self, data: Bytes) {
        if self.first.is_empty() {
            self.first = data;
        } else {
            self.rest.extend_from_slice(&data);
        }
    }

    fn len(&self) -> usize {
        self.first.len() + self.rest.len()
    }

    fn into_bytes(self) -> Bytes {
        if self.rest.is_empty() {
            return self.first;
        }
        let mut whole = BytesMut::with_capacity(self.len());
        whole.extend_from_slice(&self.first);
        whole.extend_from_slice(&self.rest);
        whole.freeze()
    }
}

/// How fast a body has to come: something within the idle time, and on average the minimum rate.
struct Pace {
    start: Instant,
    idle: Duration,
    rate_min: u64,
}

impl Pace {
    fn start(limits: &Limits) -> Self {
        Self {
            start: Instant::now(),
            idle: limits.body_idle_timeout,
            rate_min: limits.body_rate_min_bytes_per_s,
        }
    }

    /// When the next piece must be here, after `received` bytes.
    fn deadline(&self, received: usize) -> Instant {
        let earned_ms = (received as u64).saturating_mul(1000) / self.rate_min.max(1);
        let by_rate = self.start + self.idle + Duration::from_millis(earned_ms);
        by_rate.min(Instant::now() + self.idle)
    }
}
