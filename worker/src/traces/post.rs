//! Sending to the collector: one connection, kept as long as it lasts.
//!
//! `traces.rs` calls it, under a deadline of its own.
//! Promises: one request at a time; a connection that the collector has closed meanwhile is replaced, once.
//! Does not know: what is sent. TLS neither: a collector stands beside the server.
//! Source: OTLP specification, "OTLP/HTTP".

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::task::spawn_local;

/// Where OTLP over HTTP is spoken unless told otherwise.
const PORT: u16 = 4318;
/// Behind the endpoint's own path.
const PATH: &str = "/v1/traces";
/// More is not read of an answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Who takes traces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collector {
    /// Name or address, and port.
    authority: String,
    host: String,
    port: u16,
    path: String,
}

/// Why a text names no collector.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("not the URL of a collector")]
pub struct NotACollector;

impl FromStr for Collector {
    type Err = NotACollector;

    /// `http://host`, `http://host:port`, or one with a path before `/v1/traces`.
    fn from_str(text: &str) -> Result<Self, NotACollector> {
        let url: Uri = text.parse().map_err(|_| NotACollector)?;
        let authority = url.authority().ok_or(NotACollector)?;
        let is_plain = url.scheme_str() == Some("http")
            && url.query().is_none()
            && !authority.as_str().contains('@')
            && !text.contains('#');
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if !is_plain || host.is_empty() {
            return Err(NotACollector);
        }
        Ok(Self {
            authority: authority.to_string(),
            host: host.to_owned(),
            port: authority.port_u16().unwrap_or(PORT),
            path: format!("{}{PATH}", url.path().trim_end_matches('/')),
        })
    }
}

impl fmt::Display for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path)
    }
}

/// The way to a collector.
pub(super) struct Post {
    collector: Collector,
    open: Option<SendRequest<Full<Bytes>>>,
}

impl Post {
    pub(super) fn new(collector: Collector) -> Self {
        Self { collector, open: None }
    }

    /// Sends `body`, which is JSON.
    ///
    /// # Errors
    /// In one line, when the collector did not say that it has it.
    pub(super) async fn send(&mut self, body: Bytes) -> Result<(), String> {
        if let Some(mut open) = self.open.take().filter(|open| !open.is_closed())
            && self.ask(&mut open, body.clone()).await? == Sent::Taken
        {
            self.open = Some(open);
            return Ok(());
        }
        let mut open = self.connect().await?;
        if self.ask(&mut open, body).await? == Sent::Closed {
            return Err("the collector closed the connection".to_owned());
        }
        self.open = Some(open);
        Ok(())
    }

    /// Uses another connection the next time.
    pub(super) fn forget(&mut self) {
        self.open = None;
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, String> {
        let Collector { host, port, .. } = &self.collector;
        let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(text)?;
        let (open, connection) = handshake(TokioIo::new(stream)).await.map_err(text)?;
        // Ends with `open`. How, is the affair of who asks.
        spawn_local(async move {
            let _ = connection.await;
        });
        Ok(open)
    }

    async fn ask(&self, open: &mut SendRequest<Full<Bytes>>, body: Bytes) -> Result<Sent, String> {
        let Collector { authority, path, .. } = &self.collector;
        let request = Request::post(path)
            .header(HOST, authority)
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("peace/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(body))
            .map_err(text)?;
        if open.ready().await.is_err() {
            return Ok(Sent::Closed);
        }
        let answer = match open.send_request(request).await {
            Ok(answer) => answer,
            Err(error) if error.is_canceled() || error.is_incomplete_message() => {
                return Ok(Sent::Closed);
            }
            Err(error) => return Err(text(error)),
        };
        let status = answer.status();
        // What it says is not looked at, but the connection is free only behind it.
        let read = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        read.map_err(|error| format!("its answer: {error}"))?;
        match status.is_success() {
            true => Ok(Sent::Taken),
            false => Err(format!("it answered {status}")),
        }
    }
}

#[derive(PartialEq, Eq)]
enum Sent {
    Taken,
    /// Perhaps before it was read.
    Closed,
}

fn text(error: impl fmt::Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_named_by_a_plain_url() {
        for (text, url) in [
            ("http://localhost", "http://localhost/v1/traces"),
            ("http://otel:4318/", "http://otel:4318/v1/traces"),
            ("http://[::1]:9/a/b", "http://[::1]:9/a/b/v1/traces"),
        ] {
            assert_eq!(text.parse::<Collector>().unwrap().to_string(), url);
        }
        let local: Collector = "http://[::1]".parse().unwrap();
        assert_eq!((local.host.as_str(), local.port), ("::1", 4318));
        let wrong = ["", "localhost:4318", "https://otel", "http://", "http://a:b@otel", "/x"];
        for text in wrong.into_iter().chain(["http://otel/?a", "http://otel/#a", "http://:1"]) {
            assert_eq!(text.parse::<Collector>(), Err(NotACollector), "{text}");
        }
    }
}
