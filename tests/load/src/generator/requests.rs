//! The requests of a scenario, drawn one after the other.
//!
//! `load` asks for the next one. Everything that is the same for all of them is prepared once: heads,
//! headers, texts without placeholders. What is drawn depends on the seed alone; only `{unique}` is
//! another one in each process, since rows that an earlier run made are still there. Knows no
//! connection and no clock.

use bytes::{BufMut, Bytes, BytesMut};
use fastrand::Rng;
use http_body_util::Full;
use hyper::http::header::{HOST, HeaderName};
use hyper::http::{HeaderMap, HeaderValue, Method, Uri};
use uuid::Uuid;

use crate::scenario::{Part, Request as Written, Rows, Scenario, Template};

/// What goes over a connection.
pub(crate) type Request = hyper::Request<Full<Bytes>>;

/// A buffer holds the texts of some hundred requests, and is allocated once for all of them.
const BUFFER_BYTES: usize = 64 * 1024;

/// All kinds of requests, and what is drawn from.
#[derive(Debug)]
pub(crate) struct Requests {
    kinds: Vec<Kind>,
    weight_sum: u32,
    tables: Vec<Vec<Vec<String>>>,
    /// The row of each table that the request at work has drawn.
    drawn: Vec<usize>,
    random: Rng,
    unique: Unique,
    buffer: BytesMut,
}

/// One kind of request, prepared.
#[derive(Debug)]
struct Kind {
    name: String,
    weight: u32,
    status: Option<u16>,
    method: Method,
    path: Text,
    headers: HeaderMap,
    drawn_headers: Vec<(HeaderName, Text)>,
    body: Text,
    /// The tables that it draws a row of.
    tables: Vec<usize>,
}

/// A text that is always the same, or one that is put together.
#[derive(Debug)]
enum Text {
    Fixed(Bytes),
    Drawn(Vec<Piece>),
}

#[derive(Debug)]
enum Piece {
    Literal(String),
    Unique,
    /// Places in the list of tables and in a row.
    Column(usize, usize),
}

/// Texts that nobody else makes: 64 random bits of this process, and a number.
#[derive(Debug)]
struct Unique {
    process: u64,
    count: u64,
}

impl Requests {
    /// # Errors
    /// When the rows do not have what the scenario names, or their first values are not fit for where
    /// they are put.
    pub(crate) fn new(
        scenario: &Scenario,
        rows: Rows,
        prefix: &str,
        host: &str,
        seed: u64,
    ) -> Result<Self, String> {
        scenario.check(&rows)?;
        let prepare = |written| Kind::prepare(written, &rows, prefix, host);
        let kinds = scenario.requests.iter().map(prepare).collect::<Result<Vec<_>, _>>()?;
        let weight_sum = kinds.iter().try_fold(0u32, |sum, kind| sum.checked_add(kind.weight));
        let tables: Vec<_> = rows.into_values().map(|table| table.rows).collect();
        let mut requests = Self {
            kinds,
            weight_sum: weight_sum.ok_or("the weights are too large: divide them by ten")?,
            drawn: vec![0; tables.len()],
            tables,
            random: Rng::with_seed(seed),
            unique: Unique { process: Uuid::new_v4().as_u64_pair().0, count: 0 },
            buffer: BytesMut::new(),
        };
        (0..requests.kinds.len()).try_for_each(|kind| requests.make(kind).map(drop))?;
        Ok(requests)
    }

    /// The next one, and its kind.
    ///
    /// # Errors
    /// When a value of its row is not fit for a path or a header.
    pub(crate) fn draw(&mut self) -> Result<(usize, Request), String> {
        let kind = self.draw_kind();
        for &table in &self.kinds[kind].tables {
            self.drawn[table] = self.random.usize(..self.tables[table].len());
        }
        Ok((kind, self.make(kind)?))
    }

    /// What the scenario calls it.
    pub(crate) fn name(&self, kind: usize) -> &str {
        &self.kinds[kind].name
    }

    /// Whether that is the answer which this kind of request has to get.
    pub(crate) fn is_right(&self, kind: usize, status: u16) -> bool {
        match self.kinds[kind].status {
            Some(expected) => status == expected,
            None => (200..300).contains(&status),
        }
    }

    fn draw_kind(&mut self) -> usize {
        let mut place = self.random.u32(..self.weight_sum);
        let is_here = |kind: &Kind| match place.checked_sub(kind.weight) {
            None => true,
            Some(rest) => {
                place = rest;
                false
            }
        };
        self.kinds.iter().position(is_here).unwrap_or_default()
    }

    /// A request of this kind, of the rows that are drawn.
    fn make(&mut self, kind: usize) -> Result<Request, String> {
        self.buffer.reserve(1024);
        if self.buffer.capacity() < 4096 {
            self.buffer = BytesMut::with_capacity(BUFFER_BYTES);
        }
        let Self { kinds, tables, drawn, unique, buffer, .. } = self;
        let kind = &kinds[kind];
        // One text for the whole request.
        unique.count += 1;
        let mut render = |text: &Text| text.render(tables, drawn, unique, buffer);
        let mut request = Request::new(Full::new(render(&kind.body)));
        let path = render(&kind.path);
        *request.method_mut() = kind.method.clone();
        *request.uri_mut() = Uri::from_maybe_shared(path.clone()).map_err(|error| {
            let path = String::from_utf8_lossy(&path);
            kind.complaint(&format!("path `{path}`: {error}; escape the values of its rows"))
        })?;
        *request.headers_mut() = kind.headers.clone();
        for (name, text) in &kind.drawn_headers {
            let value = HeaderValue::from_maybe_shared(render(text)).map_err(|_| {
                kind.complaint(&format!("header `{name}`: a value of its row is not fit for it"))
            })?;
            request.headers_mut().insert(name.clone(), value);
        }
        Ok(request)
    }
}

impl Kind {
    fn prepare(written: &Written, rows: &Rows, prefix: &str, host: &str) -> Result<Self, String> {
        let mut tables = Vec::new();
        let mut text = |text: &str| Text::prepare(text, rows, &mut tables);
        let complain = |error: String| format!("request `{}`: {error}", written.name);
        let path = text(&format!("{prefix}{}", written.path))?;
        let body = text(written.body.as_deref().unwrap_or_default())?;
        let (mut headers, mut drawn_headers) = (HeaderMap::new(), Vec::new());
        let host = HeaderValue::from_str(host);
        headers.insert(HOST, host.map_err(|_| "the server's name is not fit for a header")?);
        for (name, value) in &written.headers {
            let name: HeaderName =
                name.parse().map_err(|_| complain(format!("header `{name}` is none")))?;
            match text(value)? {
                Text::Fixed(value) => {
                    let value = HeaderValue::from_maybe_shared(value);
                    let value = value.map_err(|_| complain(format!("bad header `{name}`")))?;
                    headers.insert(name, value);
                }
                text @ Text::Drawn(_) => drawn_headers.push((name, text)),
            }
        }
        let method = written.method.parse().map_err(|_| complain("bad method".to_owned()))?;
        let (name, weight, status) = (written.name.clone(), written.weight, written.status);
        Ok(Self { name, weight, status, method, path, headers, drawn_headers, body, tables })
    }

    fn complaint(&self, error: &str) -> String {
        format!("request `{}`: {error}", self.name)
    }
}

impl Text {
    /// Notes in `tables` those that it needs.
    fn prepare(text: &str, rows: &Rows, tables: &mut Vec<usize>) -> Result<Self, String> {
        let template = Template::parse(text)?;
        let is_fixed = template.parts.iter().all(|part| matches!(part, Part::Literal(_)));
        if is_fixed {
            return Ok(Self::Fixed(Bytes::from(template.filled_with(""))));
        }
        let mut piece = |part| match part {
            Part::Literal(text) => Some(Piece::Literal(text)),
            Part::Unique => Some(Piece::Unique),
            Part::Column { table, column } => {
                let place = rows.keys().position(|name| *name == table)?;
                let column = rows[&table].columns.iter().position(|name| *name == column)?;
                if !tables.contains(&place) {
                    tables.push(place);
                }
                Some(Piece::Column(place, column))
            }
        };
        let pieces = template.parts.into_iter().map(&mut piece).collect::<Option<Vec<_>>>();
        pieces.map(Self::Drawn).ok_or_else(|| format!("`{text}` names rows that are not there"))
    }

    fn render(
        &self,
        tables: &[Vec<Vec<String>>],
        drawn: &[usize],
        unique: &Unique,
        buffer: &mut BytesMut,
    ) -> Bytes {
        let pieces = match self {
            Self::Fixed(text) => return text.clone(),
            Self::Drawn(pieces) => pieces,
        };
        for piece in pieces {
            match piece {
                Piece::Literal(text) => buffer.put_slice(text.as_bytes()),
                Piece::Unique => unique.render(buffer),
                Piece::Column(table, column) => {
                    buffer.put_slice(tables[*table][drawn[*table]][*column].as_bytes());
                }
            }
        }
        buffer.split().freeze()
    }
}

impl Unique {
    /// 20 small letters and digits: 13 for the process, 7 for the number.
    fn render(&self, buffer: &mut BytesMut) {
        let mut text = [b'0'; 20];
        let (process, count) = text.split_at_mut(13);
        for (part, mut number) in [(process, self.process), (count, self.count)] {
            for place in part.iter_mut().rev() {
                *place = b"0123456789abcdefghijklmnopqrstuvwxyz"[(number % 36) as usize];
                number /= 36;
            }
        }
        buffer.put_slice(&text);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use http_body_util::BodyExt as _;

    use super::*;
    use crate::scenario::Table;

    fn rows() -> Rows {
        let row = |n: u32| vec![format!("p{n}"), format!("t{n}")];
        let columns = vec!["pubid".to_owned(), "token".to_owned()];
        let table = Table { columns, rows: (0..100).map(row).collect() };
        Rows::from([("item".to_owned(), table.clone()), ("writer".to_owned(), table)])
    }

    fn of(requests: &str, seed: u64) -> Requests {
        let scenario = Scenario::parse(&format!("about = 'x'\n{requests}")).unwrap();
        Requests::new(&scenario, rows(), "/api", "here:80", seed).unwrap()
    }

    /// What is sent, in short: path, authorization, body.
    fn drawn(requests: &mut Requests) -> (String, String, String) {
        let (_, request) = requests.draw().unwrap();
        let (head, body) = request.into_parts();
        let mut waker = std::task::Context::from_waker(std::task::Waker::noop());
        let body = match Box::pin(body.collect()).as_mut().poll(&mut waker) {
            std::task::Poll::Ready(body) => body.unwrap().to_bytes().to_vec(),
            std::task::Poll::Pending => panic!("a full body is there"),
        };
        let token = head.headers.get("authorization").map(|value| value.to_str().unwrap());
        let token = token.unwrap_or_default().to_owned();
        (head.uri.to_string(), token, String::from_utf8(body).unwrap())
    }

    const CREATE: &str = "[[request]]\nname = 'create'\nmethod = 'POST'\npath = '/items'\n\
        headers = { authorization = 'Bearer {writer.token}' }\n\
        body = '{\"name\": \"{unique}\", \"of\": \"{writer.pubid}\"}'\n";

    #[test]
    fn placeholders_of_one_table_are_of_one_row() {
        let mut requests = of(CREATE, 1);
        for _ in 0..50 {
            let (path, token, body) = drawn(&mut requests);
            let number = token.strip_prefix("Bearer t").unwrap();
            assert_eq!(path, "/api/items");
            assert!(body.contains(&format!("\"of\": \"p{number}\"")), "{token} {body}");
        }
    }

    #[test]
    fn weights_hold() {
        let mut requests = of(
            "[[request]]\nname='a'\npath='/a'\nweight=75\n\
             [[request]]\nname='b'\npath='/b'\nweight=20\n[[request]]\nname='c'\npath='/c'\nweight=5",
            7,
        );
        let mut counts = BTreeMap::new();
        for _ in 0..100_000 {
            let (kind, _) = requests.draw().unwrap();
            *counts.entry(requests.name(kind).to_owned()).or_insert(0u32) += 1;
        }
        for (name, expected) in [("a", 75_000), ("b", 20_000), ("c", 5_000)] {
            assert!(counts[name].abs_diff(expected) < 1_000, "{counts:?}");
        }
    }

    #[test]
    fn the_same_seed_draws_the_same_and_another_one_does_not() {
        let text = "[[request]]\nname='a'\npath='/{item.pubid}'\n[[request]]\nname='b'\npath='/b'";
        let paths = |seed| {
            let mut requests = of(text, seed);
            (0..100).map(|_| drawn(&mut requests).0).collect::<Vec<_>>()
        };
        assert_eq!(paths(3), paths(3));
        assert_ne!(paths(3), paths(4));
    }

    #[test]
    fn every_row_is_drawn() {
        let mut requests = of("[[request]]\nname='a'\npath='/{item.pubid}'", 5);
        let paths: BTreeSet<String> = (0..5_000).map(|_| drawn(&mut requests).0).collect();
        assert_eq!(paths.len(), 100);
    }

    #[test]
    fn unique_texts_are_unique_over_generators_of_one_seed() {
        let mut all = BTreeSet::new();
        for mut requests in [of(CREATE, 1), of(CREATE, 1)] {
            for _ in 0..1_000 {
                let (_, _, body) = drawn(&mut requests);
                let text = body.split('"').nth(3).unwrap().to_owned();
                assert!(text.len() == 20 && text.bytes().all(|byte| byte.is_ascii_alphanumeric()));
                assert!(all.insert(text), "twice: {body}");
            }
        }
    }

    #[test]
    fn right_is_the_status_that_was_asked_for_or_any_2xx() {
        let requests =
            of("[[request]]\nname='a'\npath='/'\n[[request]]\nname='b'\npath='/'\nstatus=404", 1);
        let right = |kind| [200, 204, 301, 404].map(|status| requests.is_right(kind, status));
        assert_eq!(right(0), [true, true, false, false]);
        assert_eq!(right(1), [false, false, false, true]);
    }

    #[test]
    fn values_that_are_not_fit_for_a_path_are_told_at_the_start() {
        let text = "about = 'x'\n[[request]]\nname='a'\npath='/{item.pubid}'";
        let table = Table { columns: vec!["pubid".to_owned()], rows: vec![vec!["a b".to_owned()]] };
        let rows = Rows::from([("item".to_owned(), table)]);
        let scenario = Scenario::parse(text).unwrap();
        let error = Requests::new(&scenario, rows, "", "here", 1).unwrap_err();
        assert!(error.contains("`a`") && error.contains("`/a b`"), "{error}");
    }
}
