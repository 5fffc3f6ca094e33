//! One client: a connection, and one request at a time on it.
//!
//! `load` brings the requests. Nothing is retried: a request that dies with its connection is a
//! [`Fault`]. Only a connection whose end was seen *before* something was sent on it is replaced
//! without a word, as every client with kept connections does. hyper's connection is polled in the
//! same task as what waits for it, so that an answer costs one turn of the event loop.

use std::cell::Cell;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::Bytes as Body;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Body as _;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::http::header::{CONNECTION, HeaderValue};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep_until};

use super::fault::{Fault, Kind};
use super::requests::Request;
use super::socket::{Bytes, Counted};

/// So much of a wrong answer is kept as an example.
const EXCERPT_BYTES_MAX: usize = 300;

/// Where all clients of a generator connect to, and what they count together.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) server: SocketAddr,
    pub(crate) timeout: Duration,
    pub(crate) requests_per_connection: Option<u32>,
    pub(crate) bytes: Rc<Bytes>,
    /// Connections that were opened.
    pub(crate) connects: Cell<u64>,
}

pub(crate) struct Client {
    target: Rc<Target>,
    wire: Option<Wire>,
    /// Wakes the task at or before the deadline of its request; it is moved when it rings, not with
    /// each request.
    alarm: Pin<Box<Sleep>>,
}

/// A connection.
struct Wire {
    sender: SendRequest<Full<Body>>,
    connection: http1::Connection<TokioIo<Counted>, Full<Body>>,
    is_over: bool,
    /// Requests sent on it.
    requests: u32,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The beginning of the body, of answers that tell of errors.
    pub(crate) excerpt: String,
}

impl Client {
    pub(crate) fn new(target: Rc<Target>) -> Self {
        let alarm = Box::pin(sleep_until(Instant::now().into()));
        Self { target, wire: None, alarm }
    }

    /// Opens the connection ahead of the first request.
    pub(crate) async fn connect(&mut self) -> Result<(), Fault> {
        let deadline = Instant::now() + self.target.timeout;
        let connected = within(self.alarm.as_mut(), deadline, Wire::open(&self.target)).await;
        self.wire = Some(connected.unwrap_or_else(|| Err(timeout(&self.target)))?);
        Ok(())
    }

    /// Sends a request and reads the whole answer, connecting first if need be; `sent` is now.
    ///
    /// **Errors** leave no connection.
    pub(crate) async fn exchange(
        &mut self,
        sent: Instant,
        request: Request,
    ) -> Result<Answer, Fault> {
        let deadline = sent + self.target.timeout;
        let work = exchange(&mut self.wire, &self.target, request);
        let done = within(self.alarm.as_mut(), deadline, work).await;
        let answer = done.unwrap_or_else(|| Err(timeout(&self.target)));
        if answer.is_err() {
            self.wire = None;
        }
        answer
    }
}

async fn exchange(
    wire: &mut Option<Wire>,
    target: &Target,
    mut request: Request,
) -> Result<Answer, Fault> {
    let is_open = match wire {
        Some(wire) => wire.is_open().await,
        None => false,
    };
    if !is_open {
        *wire = None;
    }
    let open = match wire {
        Some(open) => open,
        None => wire.insert(Wire::open(target).await?),
    };
    open.requests += 1;
    let is_last = target.requests_per_connection.is_some_and(|max| open.requests >= max);
    if is_last {
        request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let answer = open.send(request).await.map_err(|error| Fault::of_exchange(&error))?;
    if is_last {
        *wire = None;
    }
    Ok(answer)
}

impl Wire {
    async fn open(target: &Target) -> Result<Self, Fault> {
        let stream = TcpStream::connect(target.server).await;
        let stream = stream.map_err(|error| Fault::of_connect(&error))?;
        stream.set_nodelay(true).map_err(|error| Fault::of_connect(&error))?;
        target.connects.update(|connects| connects + 1);
        let counted = Counted { stream, bytes: Rc::clone(&target.bytes) };
        let shaken = http1::handshake(TokioIo::new(counted)).await;
        let (sender, connection) = shaken.map_err(|error| Fault::of_exchange(&error))?;
        Ok(Self { sender, connection, is_over: false, requests: 0 })
    }

    /// Looks whether the server has closed it since the last answer.
    async fn is_open(&mut self) -> bool {
        let ready = |cx: &mut Context<'_>| {
            if self.poll(cx).is_ready() {
                return Poll::Ready(false);
            }
            self.sender.poll_ready(cx).map(|ready| ready.is_ok())
        };
        std::future::poll_fn(ready).await
    }

    async fn send(&mut self, request: Request) -> Result<Answer, hyper::Error> {
        let response = self.sender.send_request(request);
        let (head, mut body) = self.drive(response).await?.into_parts();
        let status = head.status.as_u16();
        let mut excerpt = Vec::new();
        while !body.is_end_stream() {
            let Some(frame) = self.drive(body.frame()).await else { break };
            let frame = frame?;
            if status >= 400
                && let Some(data) = frame.data_ref()
            {
                let room = EXCERPT_BYTES_MAX - excerpt.len();
                excerpt.extend_from_slice(&data[..data.len().min(room)]);
            }
        }
        Ok(Answer { status, excerpt: String::from_utf8_lossy(&excerpt).into_owned() })
    }

    /// Waits for something that this connection brings. The connection alone wakes the task: what it
    /// brings would only wake it a second time.
    async fn drive<T>(&mut self, awaited: impl Future<Output = T>) -> T {
        let mut awaited = pin!(awaited);
        let mut quiet = Context::from_waker(Waker::noop());
        let turn = |cx: &mut Context<'_>| {
            if let Poll::Ready(brought) = awaited.as_mut().poll(&mut quiet) {
                return Poll::Ready(brought);
            }
            let is_over = self.poll(cx).is_ready();
            match awaited.as_mut().poll(&mut quiet) {
                // Nobody but the deadline would ever wake it again.
                Poll::Pending if is_over => awaited.as_mut().poll(cx),
                brought => brought,
            }
        };
        std::future::poll_fn(turn).await
    }

    /// Lets hyper read and write; ready when the connection has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_over {
            // Its error is told to whoever awaits an answer; else it is just an end.
            _ = ready!(Pin::new(&mut self.connection).poll(cx));
            self.is_over = true;
        }
        Poll::Ready(())
    }
}

/// `None` when `work` was not done by the deadline.
async fn within<T>(
    mut alarm: Pin<&mut Sleep>,
    deadline: Instant,
    work: impl Future<Output = T>,
) -> Option<T> {
    let mut work = pin!(work);
    let turn = |cx: &mut Context<'_>| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(Some(done));
        }
        while alarm.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(None);
            }
            alarm.as_mut().reset(deadline.into());
        }
        Poll::Pending
    };
    std::future::poll_fn(turn).await
}

fn timeout(target: &Target) -> Fault {
    Fault::new(Kind::Timeout, format!("no whole answer within {:?}", target.timeout))
}
