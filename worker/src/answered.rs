//! What is told of a request when it is over.
//!
//! `answer.rs` and `refuse.rs` tell it, the application hears it through [`crate::Inputs::on_answered`].
//! Promises: nothing of the query, of headers but the request id and the trace's, or of the body.
//! Does not know: what becomes of it.

use uuid::Uuid;

/// The method and the route of what has none.
pub(crate) const NONE: &str = "-";

/// A request that has been answered, or whose client has left.
#[derive(Debug, Clone, Copy)]
pub struct Answered<'a> {
    /// As the client wrote it: a token, which holds no space, quote or backslash (RFC 9110 section 5.6.2); `-` for
    /// what was no request.
    pub method: &'a str,
    /// The pattern of its route; `-` without one.
    pub route: &'static str,
    /// As it came, without the query; it may hold anything that a path can.
    pub path: &'a str,
    /// 499 when the client left before it was answered.
    pub status: u16,
    /// The code of the problem that was the answer.
    pub code: Option<&'static str>,
    /// Its name: ASCII letters, digits, dots, dashes and underscores.
    pub request_id: &'a str,
    /// The trace it is a part of: 32 hexadecimal digits.
    pub trace_id: Option<&'a str>,
    /// From the end of its head to the answer, in microseconds.
    pub total_us: u64,
    /// Of which it waited for answers of the database. What it asked at the same time counts each.
    pub database_us: u64,
    /// Of which it waited for a connection of the pool.
    pub pool_wait_us: u64,
    /// The length of the answer's body.
    pub bytes: u64,
    /// Who asked, where the handler found out.
    pub user: Option<Uuid>,
    /// The address of the client.
    pub client: Option<&'a str>,
}

impl<'a> Answered<'a> {
    /// Of a request of which no more is known.
    pub(crate) fn bare(status: u16, request_id: &'a str) -> Self {
        Self {
            method: NONE,
            route: NONE,
            path: NONE,
            status,
            code: None,
            request_id,
            trace_id: None,
            total_us: 0,
            database_us: 0,
            pool_wait_us: 0,
            bytes: 0,
            user: None,
            client: None,
        }
    }
}

/// What hears of each request.
pub type OnAnswered = Box<dyn Fn(&Answered<'_>)>;
