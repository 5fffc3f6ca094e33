//! Users, items and logins of Peace, as axum on multi-threaded tokio and deadpool-postgres do them.
//!
//! `peace-loadtest` measures it beside Peace: the same tables, statements, routes and bodies, and the
//! same promises (a row is committed before its answer, items are written by their owner). README.md
//! beside this workspace says which choices make it fast, and where it answers differently. It reads
//! `DATABASE_URL` and `JWT_SECRET_KEY`, and ends when it is killed.

mod auth;
mod database;
mod datetimes;
mod errors;
mod items;
mod pages;
mod tokens;
mod users;

use std::env;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::routing::{get, post};
use axum::serve::ListenerExt;
use axum::{Json, Router};
use clap::Parser;
use deadpool_postgres::Pool;
use mimalloc::MiMalloc;
use serde::Serialize;
use tokio::net::TcpSocket;
use tokio::runtime::Builder;

use tokens::Tokens;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// As many as our server lets the kernel queue.
const BACKLOG: u32 = 2048;
/// README.md beside this workspace says why.
const POOL_PER_THREAD: usize = 4;

/// Users, items and logins, as axum and deadpool-postgres do them.
#[derive(Debug, Parser)]
struct Options {
    /// Where it listens, on 127.0.0.1
    #[arg(long)]
    port: u16,
    /// Threads of the event loop
    #[arg(long)]
    workers: usize,
    /// Connections to PostgreSQL, of all threads together [default: 4 for each thread]
    #[arg(long)]
    pool_size: Option<usize>,
}

/// What handlers share.
struct App {
    pool: Pool,
    tokens: Tokens,
}

type State = axum::extract::State<Arc<App>>;

fn main() -> Result<(), String> {
    let options = Options::parse();
    let pool_size = options.pool_size.unwrap_or(options.workers * POOL_PER_THREAD);
    let pool = database::pool(&variable("DATABASE_URL")?, pool_size)?;
    let tokens = Tokens::new(&variable("JWT_SECRET_KEY")?);
    let routes = routes().with_state(Arc::new(App { pool, tokens }));
    let runtime = Builder::new_multi_thread().worker_threads(options.workers).enable_all().build();
    let runtime = runtime.map_err(|error| format!("no event loop: {error}"))?;
    // As a task, so that it runs on those threads: this one only waits.
    let serving = runtime.spawn(serve(options.port, routes));
    let ended = runtime.block_on(serving).map_err(|error| error.to_string())?;
    ended.map_err(|error| format!("port {}: {error}", options.port))
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|_| format!("{name} is not set"))
}

async fn serve(port: u16, routes: Router) -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    let listener = socket.listen(BACKLOG)?.tap_io(|stream| drop(stream.set_nodelay(true)));
    axum::serve(listener, routes).await
}

fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/health/live", get(live))
        .route("/auth/token", post(auth::log_in))
        .route("/users", get(users::list))
        .route("/users/{pubid}", get(users::read))
        .route("/items", get(items::list).post(items::create))
        .route("/items/{pubid}", get(items::read).put(items::replace))
}

#[derive(Serialize)]
struct StatusResponse {
    status: &'static str,
}

async fn live() -> Json<StatusResponse> {
    Json(StatusResponse { status: "live" })
}
