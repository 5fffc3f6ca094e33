//! What goes wrong with a request, by kind.
//!
//! `client` finds out, `tally` counts, the report shows the kinds by their names.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};

/// What a server answers that has no room for more.
const UNAVAILABLE: u16 = 503;

/// Why there was no right answer.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    /// What came instead, in words.
    pub(crate) text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Nobody listened.
    Refused,
    /// The server, or its kernel, tore the connection.
    Reset,
    /// The server closed it before or within the answer.
    Closed,
    /// No whole answer in time.
    Timeout,
    /// What came was no HTTP.
    Malformed,
    /// There was no way to connect: no free port, no descriptor, no route.
    Unreachable,
    /// A row's value does not fit where the scenario puts it: nothing was sent.
    Unsendable,
    /// An answer, but not the right one.
    Status(u16),
}

impl Fault {
    pub(crate) fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }

    /// Of an attempt to connect.
    pub(crate) fn of_connect(error: &io::Error) -> Self {
        let kind = match error.kind() {
            ErrorKind::ConnectionRefused => Kind::Refused,
            ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => Kind::Reset,
            ErrorKind::TimedOut => Kind::Timeout,
            _ => Kind::Unreachable,
        };
        Self::new(kind, format!("cannot connect: {error}"))
    }

    /// Of a request on a connection.
    pub(crate) fn of_exchange(error: &hyper::Error) -> Self {
        let kind = match cause(error) {
            Some(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => Kind::Reset,
            Some(ErrorKind::ConnectionAborted) => Kind::Reset,
            Some(ErrorKind::UnexpectedEof) => Kind::Closed,
            _ if error.is_incomplete_message() || error.is_closed() || error.is_canceled() => {
                Kind::Closed
            }
            _ => Kind::Malformed,
        };
        let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
        Self::new(kind, format!("{error}{source}"))
    }

    /// Whether the next attempt would fail as quickly as this one.
    pub(crate) fn is_quick(&self) -> bool {
        matches!(
            self.kind,
            Kind::Refused | Kind::Unreachable | Kind::Unsendable | Kind::Status(UNAVAILABLE)
        )
    }
}

/// What the system said.
fn cause(error: &hyper::Error) -> Option<ErrorKind> {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error.kind());
        }
        source = error.source();
    }
    None
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => write!(f, "refused"),
            Self::Reset => write!(f, "reset"),
            Self::Closed => write!(f, "closed"),
            Self::Timeout => write!(f, "timeout"),
            Self::Malformed => write!(f, "malformed"),
            Self::Unreachable => write!(f, "unreachable"),
            Self::Unsendable => write!(f, "unsendable"),
            Self::Status(status) => write!(f, "status {status}"),
        }
    }
}
