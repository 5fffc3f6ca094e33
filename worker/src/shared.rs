//! What all connections of a worker share.
//!
//! Made once by `runtime.rs`, when the router is there; held by every connection.

use std::cell::Cell;
use std::rc::Rc;

use hyper::server::conn::http1;
use hyper_util::rt::TokioTimer;
use tokio::sync::Notify;

use crate::answered::OnAnswered;
use crate::config::{Config, Limits};
use crate::cors::Cors;
use crate::drain::Drain;
use crate::meters::Counter;
use crate::router::Router;
use crate::stats::Stats;
use crate::traces::Traces;

/// hyper's own lower bound for its buffer.
const BUFFER_MIN_BYTES: usize = 8 * 1024;

/// One worker's rooms, furnished.
pub(crate) struct Shared {
    pub(crate) limits: Limits,
    pub(crate) router: Router,
    pub(crate) stats: Stats,
    pub(crate) drain: Drain,
    /// Told when a connection ends.
    pub(crate) room: Notify,
    /// Bytes of bodies that requests hold now.
    pub(crate) bodies_bytes: Cell<usize>,
    pub(crate) on_answered: Option<OnAnswered>,
    pub(crate) traces: Option<Rc<Traces>>,
    pub(crate) server_timing: bool,
    pub(crate) cors: Option<Cors>,
    pub(crate) http: http1::Builder,
}

impl Shared {
    pub(crate) fn new(
        config: &Config,
        router: Router,
        stats: Stats,
        on_answered: Option<OnAnswered>,
    ) -> Self {
        Self {
            limits: config.limits.clone(),
            router,
            stats,
            drain: Drain::new(),
            room: Notify::new(),
            bodies_bytes: Cell::new(0),
            on_answered,
            traces: traces(config, &stats),
            server_timing: config.server_timing,
            cors: config.cors.clone(),
            http: http(&config.limits),
        }
    }

    /// Whether anybody wants to know what a request waits for.
    pub(crate) fn keeps_records(&self) -> bool {
        self.on_answered.is_some() || self.traces.is_some() || self.server_timing
    }

    /// Whether every connection this worker may have is in use.
    pub(crate) fn is_full(&self) -> bool {
        self.stats.connections.get() >= self.limits.connections_max as u64
    }
}

fn traces(config: &Config, stats: &Stats) -> Option<Rc<Traces>> {
    let export = config.traces.clone()?;
    let dropped = stats.meters.count(Counter::SpansDropped);
    Some(Rc::new(Traces::new(export, config.slot, config.generation, dropped)))
}

/// The codec, with nothing left to its defaults that bounds a client.
fn http(limits: &Limits) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        // One timer for head and idle time: `watch.rs` keeps them apart.
        .header_read_timeout(None)
        .max_header_size(limits.head_max_bytes)
        .max_buf_size(limits.head_max_bytes.max(BUFFER_MIN_BYTES))
        // A client that shuts its side counts as gone, and its request ends: the two cannot be told apart
        // until something is written, and clients that leave are many more than those who half-close.
        .half_close(false);
    http
}
