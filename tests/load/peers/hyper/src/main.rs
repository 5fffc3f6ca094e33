//! The floor: hyper and nothing else, one event loop on each thread, every answer the same.
//!
//! What a server of ours takes beyond this is its own affair: routing, limits, deadlines, the request
//! id. Each thread has a socket of its own (`SO_REUSEPORT`), as each worker of ours has; it answers
//! every request as `/health/live` is answered there. It ends when it is killed.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;

use bytes::Bytes;
use clap::Parser;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::spawn_local;

const BODY: Bytes = Bytes::from_static(br#"{"status":"live"}"#);
/// What our server says in every answer, besides its id.
static HEADERS: [(HeaderName, HeaderValue); 4] = [
    (CONTENT_TYPE, HeaderValue::from_static("application/json")),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    ),
    (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
];
/// As many as our server lets the kernel queue.
const BACKLOG: u32 = 2048;

/// Answers every request as /health/live is answered.
#[derive(Debug, Parser)]
struct Options {
    /// Where it listens, on 127.0.0.1
    #[arg(long)]
    port: u16,
    /// Threads, each with an event loop
    #[arg(long)]
    workers: usize,
}

fn main() -> io::Result<()> {
    let Options { port, workers } = Options::parse();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(move || serve(port))).collect();
        let panicked = |_| io::Error::other("a thread panicked");
        threads.into_iter().try_for_each(|thread| thread.join().map_err(panicked)?)
    })
}

/// One thread's life.
fn serve(port: u16) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_io().build_local(LocalOptions::default())?;
    runtime.block_on(async {
        let listener = listen(port)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let connection =
                http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer));
            spawn_local(connection);
        }
    })
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseport(true)?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    socket.listen(BACKLOG)
}

async fn answer(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::new(BODY));
    response.headers_mut().extend(HEADERS.clone());
    Ok(response)
}
