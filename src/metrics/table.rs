//! The table of metrics: one record each, and the only list of them.
//!
//! To add one, count it (a word in `own`, or in the worker's `meters`) and add a record here; METRICS.md
//! is made from it, and the layout of the scoreboard's cells changes by itself.

use worker::meters::{Counter, Gauge};

use super::own::{OwnCounter, OwnGauge};

/// One metric: a family of samples that differ in their labels.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name, without the `_total` or `_info` of its samples.
    pub name: &'static str,
    /// What it means.
    pub help: &'static str,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// Where its numbers are.
    pub source: Source,
}

/// What sort of number it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only goes up.
    Counter,
    /// It goes up and down.
    Gauge,
    /// A distribution.
    Histogram,
    /// Always 1; its labels are the news.
    Info,
}

/// Where numbers are.
#[derive(Debug, Clone, Copy)]
pub enum Source {
    /// Durations of requests, by method, route and status.
    Durations,
    /// Waits for a connection of the pool.
    PoolWaits,
    /// How late event loops were, at each heartbeat.
    Lags,
    /// Requests begun.
    Requests,
    /// One of the worker's counters.
    Counter(Counter),
    /// One of the application's.
    Own(OwnCounter),
    /// Errors of the server, by SQLSTATE.
    Errors,
    /// What was run again, by SQLSTATE.
    Retries,
    /// One of the worker's gauges, by slot.
    Gauge(Gauge),
    /// One of the application's, by slot.
    OwnGauge(OwnGauge),
    /// Connections to the database, by slot and state.
    DatabaseConnections,
    /// Whether the database's revision fits, by slot.
    SchemaApplied,
    /// A number of the slot, or of the worker in it.
    Slot(SlotNumber),
    /// Workers by state.
    Workers,
    /// A number of the supervisor.
    Supervisor(SupervisorNumber),
    /// Workers that were replaced, by reason.
    Restarts,
    /// Replacements of all workers, by result.
    Rolls,
    /// Replacements of the program, by result.
    Upgrades,
    /// Memory of each process.
    Memory,
    /// Which program this is.
    Build,
    /// How long it took to gather all this.
    Scrape,
}

impl Source {
    /// Its place among words of its sort.
    pub(super) fn place(self) -> usize {
        match self {
            Self::Counter(counter) => counter as usize,
            Self::Own(own) => own as usize,
            Self::Gauge(gauge) => gauge as usize,
            Self::OwnGauge(own) => own as usize,
            _ => 0,
        }
    }
}

/// Numbers of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotNumber {
    /// Requests being answered.
    InFlight,
    /// Connections open.
    Connections,
    /// Connections that wait to be accepted.
    Queue,
    /// Age of the last heartbeat.
    HeartbeatAge,
}

/// Numbers of the supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SupervisorNumber {
    /// Workers wanted.
    Target,
    /// How often connections were steered elsewhere.
    Steerings,
    /// Which reading of the settings is in use.
    Generation,
}

impl Metric {
    /// What sort of number it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self.source {
            Source::Durations | Source::PoolWaits | Source::Lags => Kind::Histogram,
            Source::Build => Kind::Info,
            Source::Requests
            | Source::Counter(_)
            | Source::Own(_)
            | Source::Errors
            | Source::Retries
            | Source::Restarts
            | Source::Rolls
            | Source::Upgrades
            | Source::Supervisor(SupervisorNumber::Steerings) => Kind::Counter,
            _ => Kind::Gauge,
        }
    }

    /// Its unit, where it has one: the last word of its name.
    #[must_use]
    pub fn unit(&self) -> Option<&'static str> {
        ["seconds", "bytes"].into_iter().find(|unit| self.name.ends_with(&format!("_{unit}")))
    }

    /// As people look for it: with the ending of its samples.
    #[must_use]
    pub fn full_name(&self) -> String {
        match self.kind() {
            Kind::Counter => format!("{}_total", self.name),
            Kind::Info => format!("{}_info", self.name),
            Kind::Gauge | Kind::Histogram => self.name.to_owned(),
        }
    }
}

impl Kind {
    /// As both formats write it; the older one knows no `info`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Info => "info",
        }
    }
}

const fn metric(
    name: &'static str,
    labels: &'static [&'static str],
    source: Source,
    help: &'static str,
) -> Metric {
    Metric { name, help, labels, source }
}

const BY_SLOT: &[&str] = &["slot"];

/// Every metric, in the order of the answer.
#[rustfmt::skip] // A table: one record, two lines.
pub const METRICS: &[Metric] = &[
    // Requests
    metric("http_server_request_duration_seconds", &["method", "route", "status"], Source::Durations,
        "Time from the end of a request's head to its response, by method, route pattern and status; the route of what has none is -"),
    metric("http_server_active_requests", BY_SLOT, Source::Slot(SlotNumber::InFlight),
        "Requests being answered"),
    metric("peace_requests_begun", &[], Source::Requests,
        "Requests begun; minus those that have a duration it is what is in flight or was killed"),
    metric("peace_malformed_requests", &[], Source::Counter(Counter::Malformed),
        "Answers to what was no HTTP request, which have no duration"),
    metric("peace_handler_panics", &[], Source::Counter(Counter::Panics),
        "Handlers that panicked"),
    // Connections
    metric("peace_connections", BY_SLOT, Source::Slot(SlotNumber::Connections),
        "Connections of clients that are open"),
    metric("peace_accept_queue_connections", BY_SLOT, Source::Slot(SlotNumber::Queue),
        "Connections that wait on the slot's socket to be accepted, as of the last 250 ms"),
    metric("peace_shed_connections", &[], Source::Counter(Counter::Shed),
        "Connections turned away because all were in use"),
    metric("peace_received_bytes", &[], Source::Counter(Counter::ReceivedBytes),
        "Bytes that clients have sent"),
    metric("peace_sent_bytes", &[], Source::Counter(Counter::SentBytes),
        "Bytes that were sent to clients"),
    // Workers
    metric("peace_workers", &["state"], Source::Workers,
        "Workers by state: booting, ready, draining, backoff, hung"),
    metric("peace_workers_wanted", &[], Source::Supervisor(SupervisorNumber::Target),
        "Workers that there should be"),
    metric("peace_worker_restarts", &["reason"], Source::Restarts,
        "Workers replaced though no operator asked: exit, signal, hung, boot (could not begin), fork (no process to be had), recycled (worn)"),
    metric("peace_rolls", &["result"], Source::Rolls,
        "Replacements of all workers: ok, or failed and given up"),
    metric("peace_upgrades", &["result"], Source::Upgrades,
        "Replacements of the program: ok, or failed and given up"),
    metric("peace_steering_changes", &[], Source::Supervisor(SupervisorNumber::Steerings),
        "How often new connections were steered to other slots"),
    metric("peace_settings_generation", &[], Source::Supervisor(SupervisorNumber::Generation),
        "Which reading of the settings new workers get; 1 is that of the start"),
    metric("peace_event_loop_lag_seconds", &[], Source::Lags,
        "How late event loops were, ten times a second each; a stall is counted when it is over"),
    metric("peace_heartbeat_age_seconds", BY_SLOT, Source::Slot(SlotNumber::HeartbeatAge),
        "Time since the worker's event loop last said that it lives: up to 0.1, more while it stands still"),
    // Database
    metric("db_client_connections", &["slot", "state"], Source::DatabaseConnections,
        "Connections to the database, the one for reads included: used or idle"),
    metric("db_client_connection_max", BY_SLOT, Source::Gauge(Gauge::PoolMax),
        "Connections that the pool may have"),
    metric("db_client_connection_pending_requests", BY_SLOT, Source::Gauge(Gauge::PoolWaiting),
        "Callers that wait for a connection of the pool"),
    metric("db_client_connection_wait_time_seconds", &[], Source::PoolWaits,
        "Time until a caller had its connection of the pool; who got none is in the timeouts"),
    metric("db_client_connection_timeouts", &[], Source::Counter(Counter::PoolTimeouts),
        "Callers that got no connection: the wait was over, or too many waited"),
    metric("peace_database_pool_waits", &[], Source::Counter(Counter::PoolWaits),
        "Callers that found every connection of the pool in use"),
    metric("peace_database_lane_statements", BY_SLOT, Source::Gauge(Gauge::LaneInFlight),
        "Statements in flight on the lane, the connection that reads share"),
    metric("peace_database_lane_detours", &[], Source::Counter(Counter::LaneDetours),
        "Reads that the lane could not answer, so that the pool did"),
    metric("peace_database_errors", &["sqlstate"], Source::Errors,
        "Errors that the server answered, by SQLSTATE, or by its class where it is a rare one"),
    metric("peace_database_retries", &["sqlstate"], Source::Retries,
        "Statements and transactions run again, by what the server said; other is a lost connection"),
    metric("peace_database_statement_timeouts", &[], Source::Counter(Counter::StatementTimeouts),
        "Statements cut off, by the server or by us"),
    metric("peace_database_connect_failures", &[], Source::Counter(Counter::ConnectFailures),
        "Tries to connect to the database that failed"),
    metric("peace_database_down", BY_SLOT, Source::Gauge(Gauge::DatabaseDown),
        "Whether the worker knows the database to be away (1) or not (0)"),
    metric("peace_schema_applied", BY_SLOT, Source::SchemaApplied,
        "Whether the database was at the needed revision when the worker last asked (1) or not (0)"),
    // Passwords
    metric("peace_password_jobs", &[], Source::Own(OwnCounter::PasswordJobs),
        "Passwords hashed or verified"),
    metric("peace_password_jobs_refused", &[], Source::Own(OwnCounter::PasswordsRefused),
        "Passwords that were not, because too many others waited"),
    metric("peace_password_queue_jobs", BY_SLOT, Source::OwnGauge(OwnGauge::PasswordQueue),
        "Passwords that wait for the hashing thread, or have it"),
    // Logs and traces
    metric("peace_log_lines_lost", &[], Source::Own(OwnCounter::LogLinesLost),
        "Log lines of workers and of the programs beside them that nobody took"),
    metric("peace_spans_dropped", &[], Source::Counter(Counter::SpansDropped),
        "Spans of traces that the collector did not take"),
    // Processes
    metric("peace_resident_memory_bytes", &["process", "slot"], Source::Memory,
        "Memory that the supervisor, each worker and each program beside them hold"),
    metric("peace_build", &["version"], Source::Build,
        "Which program this is"),
    metric("peace_scrape_duration_seconds", &[], Source::Scrape,
        "How long it took to gather these numbers"),
];

/// The table for METRICS.md.
#[must_use]
pub fn listing() -> String {
    let row = |metric: &Metric| {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let (name, kind, labels) = (metric.full_name(), metric.kind().name(), labels.join(", "));
        format!("| `{name}` | {kind} | {labels} | {} |\n", metric.help)
    };
    let rows: String = METRICS.iter().map(row).collect();
    format!("| metric | kind | labels | meaning |\n|---|---|---|---|\n{rows}")
}
