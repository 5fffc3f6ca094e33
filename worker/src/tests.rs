//! The rooms together, over real sockets, or over pipes where a clock must stand still.

mod counts;
mod drain;
mod foster;
mod http;
mod limits;
mod log;
mod parsers;

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use serde_json::{Value as Json, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_local};

use crate::accept::accept;
use crate::answered::OnAnswered;
use crate::config::{Config, Limits};
use crate::connection::open;
use crate::meters::Meters;
use crate::request;
use crate::shared::Shared;
use crate::socket::Stream;
use crate::stats::Stats;
use crate::{Context, Empty, Fields, HttpError, Path, Payload, Query, Reply, Routes, Text};

impl Stream for DuplexStream {
    /// A pipe asks itself at every read.
    fn has_unread(&self) -> bool {
        false
    }
}

/// What the handlers of these tests share with their test.
#[derive(Default)]
pub(crate) struct App {
    /// Handlers of `/gate` wait for this.
    gate: Notify,
    /// How often a handler reached something, by name.
    seen: RefCell<HashMap<&'static str, u32>>,
    /// The names in the paths that `/named` was asked for, in turn.
    names: RefCell<Vec<String>>,
}

impl App {
    fn sees(&self, what: &'static str) {
        *self.seen.borrow_mut().entry(what).or_default() += 1;
    }

    fn saw(&self, what: &str) -> u32 {
        self.seen.borrow().get(what).copied().unwrap_or_default()
    }
}

struct Named(String);

impl Payload for Named {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let name = fields.required("name", Text::unbounded());
        fields.all((name,)).map(|(name,)| Self(name))
    }
}

async fn hello(_: Context<App>) -> Result<Reply<&'static str>, HttpError> {
    Ok(Reply("hello"))
}

async fn named(
    cx: Context<App>,
    path: Path<Named>,
    query: Query<Named>,
) -> Result<Reply<Json>, HttpError> {
    let Named(in_path) = path.read()?;
    let Named(in_query) = query.read()?;
    cx.app().names.borrow_mut().push(in_path.clone());
    let answer = json!({"path": in_path, "query": in_query, "id": cx.request_id()});
    Ok(Reply(answer))
}

async fn echo(_: Context<App>, body: request::Json<Named>) -> Result<Reply<String>, HttpError> {
    Ok(Reply(body.read().await?.0))
}

async fn form(_: Context<App>, body: request::Form<Named>) -> Result<Reply<String>, HttpError> {
    Ok(Reply(body.read().await?.0))
}

async fn unread(_: Context<App>, _: request::Json<Named>) -> Result<Empty, HttpError> {
    Err(HttpError::NotFound)
}

async fn panics(_: Context<App>) -> Result<Empty, HttpError> {
    panic!("a secret in a panic")
}

async fn gate(cx: Context<App>) -> Result<Empty, HttpError> {
    cx.app().sees("gate");
    cx.app().gate.notified().await;
    Ok(Empty)
}

async fn never(_: Context<App>) -> Result<Empty, HttpError> {
    std::future::pending().await
}

async fn large(_: Context<App>) -> Result<Reply<String>, HttpError> {
    Ok(Reply("x".repeat(4 * 1024 * 1024)))
}

fn config(limits: Limits) -> Config {
    Config { limits, ..Config::default() }
}

/// A worker's rooms, without its process.
pub(crate) struct Rooms {
    app: Rc<App>,
    shared: Rc<Shared>,
}

impl Rooms {
    fn new() -> Self {
        Self::within(Limits::default())
    }

    fn within(limits: Limits) -> Self {
        Self::told(limits, None)
    }

    fn told(limits: Limits, on_answered: Option<OnAnswered>) -> Self {
        let mut routes = Routes::new();
        routes.get("/hello", "hello", hello);
        routes.get("/named/{name}", "named", named);
        routes.post("/echo", "echo", echo);
        routes.post("/form", "form", form);
        routes.put("/unread", "unread", unread);
        routes.get("/panic", "panic", panics);
        routes.get("/gate", "gate", gate);
        routes.get("/never", "never", never);
        routes.get("/large", "large", large);
        let app = Rc::new(App::default());
        let router = routes.seal(Rc::clone(&app)).unwrap();
        let stats = Stats::new(Meters::detached(router.durations().words()));
        let shared = Shared::new(&config(limits), router, stats, on_answered);
        Self { app, shared: Rc::new(shared) }
    }

    /// A listener of these rooms, and the task that accepts from it.
    async fn listen(&self) -> (SocketAddr, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (address, spawn_local(accept(listener, Rc::clone(&self.shared))))
    }

    /// A client over TCP, with a listener of its own.
    async fn client(&self) -> Client<TcpStream> {
        Client::connect(self.listen().await.0).await
    }

    /// A client over a pipe of 1 KiB.
    fn pipe(&self) -> Client<DuplexStream> {
        let (ours, theirs) = duplex(1024);
        open(theirs, Some(Ipv4Addr::LOCALHOST.into()), &self.shared);
        Client { stream: ours, read: Vec::new() }
    }
}

/// Let everything else run until it is so; ten seconds of real time at most, on whatever clock.
async fn until(condition: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !condition() {
        assert!(start.elapsed().as_secs() < 10, "it did not come to that");
        tokio::task::yield_now().await;
    }
}

/// A client that speaks HTTP by hand.
struct Client<T> {
    stream: T,
    read: Vec<u8>,
}

impl Client<TcpStream> {
    async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), read: Vec::new() }
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HashMap<String, String>,
    body: String,
}

impl Answer {
    fn json(&self) -> Json {
        serde_json::from_str(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// A problem, with all the members that every problem has.
    fn problem(&self, instance: &str) -> Json {
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let body = self.json();
        assert_eq!(body["status"], self.status);
        assert_eq!(body["instance"], instance);
        assert_eq!(body["request_id"].as_str(), self.header("x-request-id"));
        assert!(body["type"].as_str().unwrap().starts_with("/problems/"));
        assert!(body["title"].is_string() && body["detail"].is_string());
        body
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Client<T> {
    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    async fn get(&mut self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        self.answer().await
    }

    async fn post(&mut self, path: &str, content_type: &str, body: &str) -> Answer {
        self.send(post(path, content_type, body)).await;
        self.answer().await
    }

    async fn answer(&mut self) -> Answer {
        let head = self.head().await;
        let length = head.header("content-length").map_or(0, |text| text.parse().unwrap());
        while self.read.len() < length {
            assert!(self.fill().await > 0, "the body broke off");
        }
        let body = self.read.drain(..length).collect();
        Answer { body: String::from_utf8(body).unwrap(), ..head }
    }

    /// An answer without its body, as HEAD gets it.
    async fn head(&mut self) -> Answer {
        let end = loop {
            match self.read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                Some(end) => break end + 4,
                None => assert!(self.fill().await > 0, "closed before an answer"),
            }
        };
        let head = String::from_utf8(self.read.drain(..end).collect()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let pair = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_owned(), value.to_owned())
        };
        Answer { status, headers: lines.map(pair).collect(), body: String::new() }
    }

    /// Wait until the other side closes; nothing more may come.
    async fn closed(&mut self) {
        assert_eq!(self.read, b"", "something was left unread");
        assert_eq!(self.fill().await, 0, "more came: {:?}", String::from_utf8_lossy(&self.read));
    }

    async fn fill(&mut self) -> usize {
        self.stream.read_buf(&mut self.read).await.unwrap()
    }
}

fn post(path: &str, content_type: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: {content_type}\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
}
