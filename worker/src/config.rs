//! Settings of one worker, and the limits that every room keeps.
//!
//! The application fills them in from its own settings; this crate reads no environment and no file.

use std::time::Duration;

use crate::cors::Cors;
use crate::traces::TraceExport;

/// Everything a worker is told before it starts.
#[derive(Debug, Clone)]
pub struct Config {
    /// Bounds of connections, requests and bodies.
    pub limits: Limits,
    /// How long a drain may take before requests are cut.
    pub drain_timeout: Duration,
    /// The same for a quick stop.
    pub quit_timeout: Duration,
    /// How long a drain keeps idle connections open, so that a client's next request is not raced by our
    /// close.
    pub keepalive_grace: Duration,
    /// The slot this worker fills.
    pub slot: u32,
    /// Which fill of the slot it is.
    pub generation: u64,
    /// Where traces of requests go; `None`: nowhere.
    pub traces: Option<TraceExport>,
    /// Whether answers say what they waited for (`Server-Timing`).
    pub server_timing: bool,
    /// Which web origins' pages may read what is answered; `None`: no other's than browsers let anyway.
    pub cors: Option<Cors>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            drain_timeout: Duration::from_secs(30),
            quit_timeout: Duration::from_secs(2),
            keepalive_grace: Duration::from_secs(5),
            slot: 0,
            generation: 0,
            traces: None,
            server_timing: false,
            cors: None,
        }
    }
}

/// The limits, published in README; each has a test at its edge.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at one time; more wait in the kernel's queue, then are refused. While all are in
    /// use, every response is the last one of its connection.
    pub connections_max: usize,
    /// How long clients wait in a full worker's queue before they are refused with a 503.
    pub queue_timeout: Duration,
    /// From accepting a connection to its first byte.
    pub first_byte_timeout: Duration,
    /// From a request's first byte to the end of its head.
    pub head_timeout: Duration,
    /// Between two requests of a connection.
    pub keepalive_timeout: Duration,
    /// Between two parts of a body; also the time before the minimum rate counts.
    pub body_idle_timeout: Duration,
    /// The least average rate of a body, in bytes per second.
    pub body_rate_min_bytes_per_s: u64,
    /// While the client takes nothing of a response.
    pub write_idle_timeout: Duration,
    /// From the end of a head to the response, reading the body included.
    pub request_timeout: Duration,
    /// Path and query of a request.
    pub uri_max_bytes: usize,
    /// A whole head; hyper answers 431 beyond it, and beyond 100 headers.
    pub head_max_bytes: usize,
    /// A body.
    pub body_max_bytes: usize,
    /// A form body.
    pub form_max_bytes: usize,
    /// All bodies in memory together; beyond it a request is refused with a 503.
    pub bodies_max_bytes: usize,
    /// Arrays and objects within one another in a JSON body.
    pub json_depth_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 4096,
            queue_timeout: Duration::from_secs(1),
            first_byte_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(75),
            body_idle_timeout: Duration::from_secs(10),
            body_rate_min_bytes_per_s: 240,
            write_idle_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            uri_max_bytes: 8 * 1024,
            head_max_bytes: 32 * 1024,
            body_max_bytes: 1024 * 1024,
            form_max_bytes: 64 * 1024,
            bodies_max_bytes: 64 * 1024 * 1024,
            json_depth_max: 64,
        }
    }
}
