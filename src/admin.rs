//! The admin process: metrics, status and health of all processes, on an address of its own.
//!
//! | route | success | its own problems |
//! |---|---|---|
//! | `GET /metrics` | 200, OpenMetrics or the Prometheus text format, by `Accept` | 503 |
//! | `GET /status` | 200, the JSON of `ctl status` | 503 |
//! | `GET /health/live` | 200 `{"status":"live"}` while this process lives | |
//! | `GET /health/ready` | 200 `{"status":"ready"}` when a worker is | 503, with the reason |
//!
//! A service of the supervisor, which owns its socket; `main` lists it among the programs. It reads the
//! scoreboard and asks nobody, so it answers while every worker is stopped, and the supervisor too. Its rooms
//! are a worker's (limits, deadlines, problems) without a database. It is not for the public: bind it where
//! only operators are.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::libc::{SIGQUIT, SIGTERM};
use supervisor::scoreboard::{CellView, Snapshot};
use supervisor::status::ChildState;
use supervisor::{Board, Event, Journal, Post, ProgramKind};
use tracing::{info, warn};
use worker::kinds::UNAVAILABLE;
use worker::{
    Config, Context, Meters, Plain, Problem, Reply, Router, Routes, Success, WithHeaders, header,
    response,
};

use crate::metrics::{self, Format, OwnGauge, SchemaState, Scrape};
use crate::programs::REFUSED;
use crate::serving;

/// Its name, among the programs.
pub const NAME: &str = "admin";
/// TERM drains it, QUIT hurries.
pub const KIND: ProgramKind = ProgramKind::Service { stop_signal: SIGTERM, hurry_signal: SIGQUIT };

/// Connections at one time: those who ask are few, and some forget to close.
const CONNECTIONS_MAX: usize = 256;
/// For the first byte of a connection: those who ask do so at once.
const FIRST_BYTE: Duration = Duration::from_secs(1);
/// A worker that was silent for so long is not ready.
const SILENT_AFTER_MS: u64 = 1_000;

/// A journal that also tells why there is no admin process, where there is none: when the port is open, since
/// a start that is refused has one line, and that is another one.
pub struct Told<J> {
    /// Where all else is told.
    pub journal: J,
    /// Why there is none.
    pub missing: Option<String>,
}

impl<J: Journal> Journal for Told<J> {
    fn record(&mut self, event: &Event) {
        self.journal.record(event);
        if matches!(event, Event::Listening { .. })
            && let Some(error) = self.missing.take()
        {
            warn!(error, "no metrics and no status: their address cannot be had");
        }
    }

    fn file(&self) -> Option<OwnedFd> {
        self.journal.file()
    }
}

/// What its handlers work with.
struct Admin {
    board: Board,
    programs: Vec<&'static str>,
}

response! {
    /// How the processes are.
    struct StatusResponse {
        /// `live` or `ready`.
        status: &'static str = "live",
    }
}

/// Serves until told to stop. `programs` are the names of all programs, in their order. Answers the exit
/// code.
pub fn serve(post: Post, programs: &[&'static str]) -> u8 {
    if let Some(address) = post.listeners.first().and_then(|one| one.local_addr().ok()) {
        info!(%address, "metrics and status");
    }
    let admin = Admin { board: post.board, programs: programs.to_vec() };
    // What it answers itself is no request of the API.
    let meters = Meters { counters: &[], gauges: &[], ..serving::meters(&post) };
    let (inputs, post) = match serving::inputs(post, meters) {
        Ok(inputs) => inputs,
        Err(code) => return code,
    };
    let mut config = Config::default();
    config.limits.connections_max = CONNECTIONS_MAX;
    config.limits.first_byte_timeout = FIRST_BYTE;
    config.drain_timeout = Duration::from_secs(2);
    config.keepalive_grace = Duration::ZERO;
    match worker::run_alone(inputs, config, async || Ok(router(admin)?)) {
        Ok(_) => 0,
        Err(failed) => post.fail(REFUSED, failed.to_string()),
    }
}

fn router(admin: Admin) -> Result<Router, worker::RouteConflict> {
    let mut routes = Routes::new();
    routes.get("/metrics", "metrics", metrics);
    routes.get("/status", "status", status);
    routes.get("/health/live", "health-live", live);
    routes.get("/health/ready", "health-ready", ready);
    routes.seal(Rc::new(admin))
}

async fn metrics(cx: Context<Admin>) -> Result<WithHeaders<Plain>, Problem> {
    let (begun, format) = (Instant::now(), Format::of(cx.header("accept")));
    let snapshot = cx.app().snapshot()?;
    let scrape = Scrape::new(&snapshot, begun, VERSION, &cx.app().programs);
    let bytes = metrics::write(&scrape, format).into();
    Ok(Plain { media_type: format.media_type(), bytes }.with_header(header::VARY, "accept"))
}

async fn status(cx: Context<Admin>) -> Result<Plain, Problem> {
    let status = cx.app().snapshot()?.status(VERSION, &cx.app().programs);
    let json = serde_json::to_vec(&status).map_err(|error| unavailable(&error.to_string()))?;
    Ok(Plain { media_type: "application/json", bytes: json.into() })
}

async fn live(_: Context<Admin>) -> Result<Reply<StatusResponse>, Problem> {
    Ok(Reply(StatusResponse { status: "live" }))
}

async fn ready(cx: Context<Admin>) -> Result<Reply<StatusResponse>, Problem> {
    match why_not_ready(&cx.app().snapshot()?, Board::now_ms()) {
        None => Ok(Reply(StatusResponse { status: "ready" })),
        Some(reason) => Err(unavailable(reason)),
    }
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

impl Admin {
    fn snapshot(&self) -> Result<Snapshot, Problem> {
        let stuck = || unavailable("the supervisor stands still in the middle of a change");
        self.board.snapshot().ok_or_else(stuck)
    }
}

fn unavailable(reason: &str) -> Problem {
    Problem::new(&UNAVAILABLE).detail(reason.to_owned())
}

/// Why no request should come, if none should: as the public `/health/ready` means it, of the worker that
/// is best off.
fn why_not_ready(snapshot: &Snapshot, now_ms: u64) -> Option<&'static str> {
    let workers = snapshot.cells.iter().filter(|cell| cell.slot.is_some());
    let workers: Vec<&CellView> = workers.filter(|cell| serves(cell, now_ms)).collect();
    let gauge = |cell: &CellView, place: usize| cell.gauges.get(place).copied().unwrap_or_default();
    let down = worker::meters::Gauge::DatabaseDown as usize;
    let schema = worker::meters::GAUGES + OwnGauge::Schema as usize;
    if workers.is_empty() {
        return Some("no worker serves");
    }
    let workers: Vec<_> = workers.into_iter().filter(|cell| gauge(cell, down) == 0).collect();
    if workers.is_empty() {
        return Some("the database is away");
    }
    // Of one that an upgrade has left from a program with other gauges only this is known: that it serves.
    let applied = |cell: &&CellView| {
        cell.gauges.is_empty() || gauge(cell, schema) == SchemaState::Applied as u64
    };
    let behind = |cell: &&CellView| gauge(cell, schema) == SchemaState::Behind as u64;
    match (workers.iter().any(applied), workers.iter().any(behind)) {
        (true, _) => None,
        (false, true) => Some("the database is behind: run `peace-migrate upgrade head`"),
        (false, false) => Some("no worker has heard from the database yet"),
    }
}

fn serves(cell: &CellView, now_ms: u64) -> bool {
    let silent_ms = now_ms.saturating_sub(cell.heartbeat_ms);
    cell.is_ready && cell.life == ChildState::Ready && silent_ms < SILENT_AFTER_MS
}

#[cfg(test)]
mod tests {
    use supervisor::scoreboard::Facts;

    use super::*;

    fn worker(schema: SchemaState) -> CellView {
        let mut cell = CellView { heartbeat_ms: 10_000, ..metrics::tests::worker() };
        cell.gauges[worker::meters::GAUGES + OwnGauge::Schema as usize] = schema as u64;
        cell
    }

    fn why(cells: Vec<CellView>) -> Option<&'static str> {
        let (slots, counters) = (Vec::new(), Vec::new());
        let snapshot = Snapshot { facts: Facts::default(), slots, cells, counters, requests: 0 };
        why_not_ready(&snapshot, 10_100)
    }

    #[test]
    fn ready_is_who_has_a_worker_that_is() {
        use SchemaState::{Applied, Behind, Unknown};
        assert_eq!(why(vec![worker(Applied)]), None);
        assert_eq!(why(vec![worker(Behind), worker(Applied)]), None);
        let guest = CellView { gauges: Vec::new(), ..worker(Unknown) };
        assert_eq!(why(vec![guest, worker(Behind)]), None);
        let mut away = worker(Applied);
        away.gauges[worker::meters::Gauge::DatabaseDown as usize] = 1;
        let silent = CellView { heartbeat_ms: 9_000, ..worker(Applied) };
        let booting = CellView { is_ready: false, ..worker(Applied) };
        let leaving = CellView { life: ChildState::Draining, ..worker(Applied) };
        let program = CellView { slot: None, ..worker(Applied) };
        for (cells, reason) in [
            (vec![], "no worker serves"),
            (vec![silent, booting, leaving, program], "no worker serves"),
            (vec![away], "the database is away"),
            (vec![worker(Unknown)], "no worker has heard"),
            (vec![worker(Unknown), worker(Behind)], "the database is behind"),
        ] {
            let found = why(cells).unwrap_or("ready");
            assert!(found.starts_with(reason), "{found}, not {reason}");
        }
    }
}
