//! The line of a request.
//!
//! `serving` hands [`access_lines`] to the worker, which calls it for each request it has answered.
//! Promises: the path is there, the query is not: a query may hold what somebody should not read. Nothing
//! else that a client sent but the method, the request id and the trace's, harmless or escaped.
//! Does not know: who reads it.

use tracing::Level;
use worker::{Answered, OnAnswered};

use super::SINK;
use super::line::Line;

/// What the filter of the log calls these lines.
const TARGET: &str = "access";
/// A longer path or method is cut: with each of its characters escaped it fits a line.
const PATH_BYTES_MAX: usize = 1024;
const METHOD_BYTES_MAX: usize = 32;

/// What writes these lines; `None` where the log's filter leaves them out.
#[must_use]
pub fn access_lines() -> Option<OnAnswered> {
    let sink = SINK.get()?;
    let is_wanted = tracing::enabled!(target: TARGET, Level::INFO);
    is_wanted.then(|| -> OnAnswered {
        Box::new(|answered| sink.put(Level::INFO, TARGET, |line| write(line, answered)))
    })
}

fn write(line: &mut Line<'_>, answered: &Answered<'_>) {
    let Answered { route, status, total_us, database_us, pool_wait_us, bytes, .. } = *answered;
    line.word("method", cut(answered.method, METHOD_BYTES_MAX));
    line.word("route", route);
    line.text("path", cut(answered.path, PATH_BYTES_MAX));
    line.whole("status", status.into());
    if let Some(code) = answered.code {
        line.word("code", code);
    }
    line.word("request_id", answered.request_id);
    if let Some(trace_id) = answered.trace_id {
        line.word("trace_id", trace_id);
    }
    line.ms("total_ms", total_us);
    line.ms("database_ms", database_us);
    line.ms("pool_wait_ms", pool_wait_us);
    line.whole("bytes", bytes);
    if let Some(user) = answered.user {
        line.word("user", user.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()));
    }
    if let Some(client) = answered.client {
        line.word("client", client);
    }
}

fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}
