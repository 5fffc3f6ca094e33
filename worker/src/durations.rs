//! How long requests take, by method, route and status: which words that is counted in.
//!
//! Made of the table of operations, by the router and by whoever reads the words, who so agree; `answer`
//! counts one duration per request.
//! Promises: the number of series is that of the table, whatever clients send: an unknown path has the
//! route `-`, an unknown method is `_OTHER`, a status nobody foresaw is `other`; HEAD counts as the GET
//! that answers it.
//! Source: OpenTelemetry, "Semantic conventions for HTTP metrics".

use std::sync::Arc;
use std::time::Duration;

use hyper::Method;

use crate::meters::{DURATIONS_AT, HISTOGRAM_WORDS, Meters};
use crate::route::Operation;

/// The route of a request that has none.
pub(crate) const NO_ROUTE: &str = "-";

/// Statuses that any operation may answer: the worker's own refusals, and what depends on the request.
const OF_ALL: [u16; 12] = [304, 400, 408, 412, 413, 415, 417, 422, 499, 500, 501, 503];
/// Statuses of requests that reach no operation.
const OF_NONE: [u16; 12] = [204, 400, 404, 405, 408, 414, 417, 431, 499, 500, 501, 503];
/// Methods of requests that reach no operation; the last one stands for all others.
const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "_OTHER"];

/// The series of all requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Durations {
    rows: Arc<[Row]>,
    words: usize,
}

/// The series of one operation.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    method: &'static str,
    route: &'static str,
    /// The most likely one first; one more series is for all others.
    statuses: Vec<u16>,
    /// Where the first series begins, among the words of all.
    begin: usize,
}

/// One series of durations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DurationSeries {
    /// The method.
    pub method: &'static str,
    /// The pattern of the path; `-` for a path that has none.
    pub route: &'static str,
    /// The status; `None` for all that were not foreseen.
    pub status: Option<u16>,
    /// Whether every operation has it: its success, and what is nobody's fault but ours.
    pub is_expected: bool,
    /// Where its words begin, among all counters.
    pub at: usize,
}

/// Where a request is counted: the row of its operation, or of none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place(usize);

impl Durations {
    /// The series of these operations.
    pub fn of<'a>(operations: impl IntoIterator<Item = &'a Operation>) -> Self {
        let (mut rows, mut words) = (Vec::new(), 0);
        let mut add = |method, route, statuses: Vec<u16>| {
            let row = Row { method, route, statuses, begin: words };
            words += (row.statuses.len() + 1) * HISTOGRAM_WORDS;
            rows.push(row);
        };
        for method in METHODS {
            add(method, NO_ROUTE, OF_NONE.to_vec());
        }
        for operation in operations {
            add(name(&operation.method), operation.pattern, statuses(operation));
        }
        Self { rows: rows.into(), words }
    }

    /// How many words they take.
    #[must_use]
    pub fn words(&self) -> usize {
        self.words
    }

    /// All of them.
    pub fn series(&self) -> impl Iterator<Item = DurationSeries> {
        self.rows.iter().flat_map(|row| {
            let statuses = row.statuses.iter().copied().map(Some).chain([None]);
            statuses.enumerate().map(|(place, status)| DurationSeries {
                method: row.method,
                route: row.route,
                status,
                is_expected: row.route != NO_ROUTE
                    && (place == 0 || matches!(status, Some(500 | 503))),
                at: DURATIONS_AT + row.begin + place * HISTOGRAM_WORDS,
            })
        })
    }

    /// Where the operation is counted; as one without a route when it is not among these.
    pub(crate) fn place(&self, method: &Method, route: &str) -> Place {
        let method = name(method);
        let row = self.rows.iter().position(|row| row.route == route && row.method == method);
        row.map_or_else(|| Self::nowhere(method), Place)
    }

    /// Where a request of `method` is counted that reaches no operation.
    pub(crate) fn no_place(method: &Method) -> Place {
        Self::nowhere(name(method))
    }

    fn nowhere(method: &str) -> Place {
        Place(METHODS.iter().position(|known| *known == method).unwrap_or(METHODS.len() - 1))
    }

    /// Counts one request.
    pub(crate) fn count(&self, meters: &Meters, place: Place, status: u16, took: Duration) {
        let row = &self.rows[place.0];
        let column = row.statuses.iter().position(|known| *known == status);
        let column = column.unwrap_or(row.statuses.len());
        meters.observe(DURATIONS_AT + row.begin + column * HISTOGRAM_WORDS, took);
    }
}

/// What an operation may answer, its success first.
fn statuses(operation: &Operation) -> Vec<u16> {
    let own = operation.problems.iter().map(|kind| kind.status);
    let mut statuses = vec![operation.success.status.as_u16()];
    for status in own.chain(OF_ALL) {
        if !statuses.contains(&status) {
            statuses.push(status);
        }
    }
    statuses
}

/// The method as a label.
fn name(method: &Method) -> &'static str {
    METHODS.into_iter().find(|known| *known == method.as_str()).unwrap_or("_OTHER")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::error::HttpError;
    use crate::request::Context;
    use crate::response::Empty;
    use crate::route::Routes;

    async fn plain(_: Context<()>) -> Result<Empty, HttpError> {
        Ok(Empty)
    }

    fn durations() -> Durations {
        static GONE: crate::Kind =
            crate::Kind { code: "gone", status: 410, title: "Gone", about: "", mend: "" };
        let mut routes = Routes::new();
        routes.get("/users/{pubid}", "users-read", plain).fails(&[&GONE]);
        routes.delete("/users/{pubid}", "users-delete", plain);
        Durations::of(routes.operations())
    }

    #[test]
    fn every_status_of_an_operation_has_words_of_its_own() {
        let durations = durations();
        let series: Vec<_> = durations.series().collect();
        let own = series.iter().filter(|one| (one.method, one.route) == ("GET", "/users/{pubid}"));
        let own: Vec<_> = own.map(|one| one.status).collect();
        assert_eq!(own[..2], [Some(204), Some(410)]);
        assert!(own.contains(&Some(503)) && own.last() == Some(&None), "{own:?}");
        let expected = series.iter().filter(|one| one.is_expected);
        let expected: Vec<_> = expected.map(|one| (one.method, one.status)).collect();
        let of = |method| [204, 500, 503].map(|status| (method, Some(status)));
        assert_eq!(expected, [of("GET"), of("DELETE")].concat());
        for (place, one) in series.iter().enumerate() {
            assert_eq!(one.at, DURATIONS_AT + place * HISTOGRAM_WORDS);
        }
        assert_eq!(durations.words(), series.len() * HISTOGRAM_WORDS);
    }

    #[test]
    fn a_request_is_counted_once_whatever_it_is() {
        let durations = durations();
        let meters = Meters::detached(durations.words());
        let brew = Method::from_bytes(b"BREW").unwrap();
        let read = durations.place(&Method::GET, "/users/{pubid}");
        for (place, status) in [
            (read, 204),
            (read, 418),
            (durations.place(&Method::GET, "/nope"), 404),
            (Durations::no_place(&brew), 405),
        ] {
            durations.count(&meters, place, status, Duration::from_micros(10));
        }
        let counted = durations.series().filter_map(|one| {
            let count = meters.counters[one.at].load(Ordering::Relaxed);
            (count > 0).then_some((one.method, one.route, one.status, count))
        });
        let route = "/users/{pubid}";
        assert_eq!(
            counted.collect::<Vec<_>>(),
            [
                ("GET", "-", Some(404), 1),
                ("_OTHER", "-", Some(405), 1),
                ("GET", route, Some(204), 1),
                ("GET", route, None, 1),
            ]
        );
    }
}
