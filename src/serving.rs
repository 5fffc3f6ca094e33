//! A worker's life, as the application wires it: the supervisor's post on one side, the worker crate
//! on the other, which do not know each other.
//!
//! `main` calls [`serve`] in the forked process, and the rest before it forks. Translates settings,
//! orders, readiness and heartbeats, and decides the exit code. Knows no resource.

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use supervisor::{Beat, Message, Order, Post, Received, Recycling, Role};
use tracing::error;
use worker::{Cors, DatabaseConfig, Inputs, Meters, Orders, Outcome, TraceExport};

use crate::app::{self, AppSettings};
use crate::journal;
use crate::metrics::{self, AppMeters};
use crate::programs::{REFUSED, USAGE};
use crate::settings::{Config, DatabaseUrl, Environment};
use crate::tls::TlsError;
use crate::{addresses, readiness, resources};

/// Time for requests in flight after a quick stop.
const QUICK_TIMEOUT: Duration = Duration::from_secs(2);

/// Exit code of a worker that cut requests short (sysexits `EX_TEMPFAIL`).
const CUT_SHORT: u8 = 75;

/// What the supervisor is told.
#[must_use]
pub fn slots(config: &Config) -> supervisor::Config {
    supervisor::Config {
        workers: config.workers,
        bind: config.bind.clone(),
        backlog: config.backlog,
        steering: config.steering,
        timeout_ms: millis(config.timeout),
        shutdown_delay_ms: millis(config.shutdown_delay),
        boot_timeout_ms: millis(config.boot_timeout),
        graceful_timeout_ms: millis(config.graceful_timeout),
        quick_timeout_ms: millis(QUICK_TIMEOUT),
        service_stop_timeout_ms: 60_000,
        stable_after_ms: 10_000,
        recycling: recycling(config),
        backoff_min_ms: 250,
        backoff_max_ms: 30_000,
        cells: metrics::layout(),
    }
}

fn recycling(config: &Config) -> Recycling {
    Recycling {
        requests_max: config.max_requests.map(|limit| limit as u64),
        jitter_max: config.max_requests_jitter.map_or(0, |limit| limit as u64),
        rss_bytes_max: config.max_rss_bytes,
        lifetime_ms_max: config.max_lifetime.map(millis),
    }
}

/// Refuses a reload that changes what only a start can change.
///
/// # Errors
/// The first such setting, by name.
pub fn check_reload(running: &Config, fresh: &Config) -> Result<(), String> {
    let fixed = [
        ("env", running.environment == fresh.environment),
        ("bind", running.bind == fresh.bind),
        ("backlog", running.backlog == fresh.backlog),
        ("database-url", running.database == fresh.database),
        ("pool-size", running.pool_size == fresh.pool_size),
        ("database-pooler", running.transaction_pooler == fresh.transaction_pooler),
        ("steering", running.steering == fresh.steering),
        ("max-requests", running.max_requests == fresh.max_requests),
        ("max-requests-jitter", running.max_requests_jitter == fresh.max_requests_jitter),
        ("max-rss", running.max_rss_bytes == fresh.max_rss_bytes),
        ("max-lifetime", running.max_lifetime == fresh.max_lifetime),
        ("timeout", running.timeout == fresh.timeout),
        ("shutdown-delay", running.shutdown_delay == fresh.shutdown_delay),
        ("control", running.control == fresh.control),
        ("admin-bind", running.admin_bind == fresh.admin_bind),
        ("pid-file", running.pid_file == fresh.pid_file),
        ("user", running.user == fresh.user),
        ("group", running.group == fresh.group),
        ("boot-timeout", running.boot_timeout == fresh.boot_timeout),
        ("graceful-timeout", running.graceful_timeout == fresh.graceful_timeout),
        ("log-format", running.log_format == fresh.log_format),
        ("log-file", running.log_file == fresh.log_file),
        ("RUST_LOG", running.log_filter == fresh.log_filter),
    ];
    match fixed.iter().find(|(_, same)| !same) {
        None => Ok(()),
        Some((name, _)) => Err(format!("{name} has changed: that needs a restart")),
    }
}

/// Serves until told to stop. Answers the exit code.
pub fn serve(post: Post, config: &Config, server: &DatabaseUrl, app: &AppSettings) -> u8 {
    let Role::Worker { slot, generation } = post.role else {
        return post.fail(USAGE, "only a worker serves");
    };
    if config.faults.as_ref().is_some_and(|faults| faults.boot_exit_slots.contains(&slot)) {
        return post
            .fail(REFUSED, format!("PEACE_FAULTS lets the worker of slot {slot} exit at boot"));
    }
    let meters = meters(&post);
    let app_meters = AppMeters::of(post.cell.counters(), post.cell.gauges());
    let leaving = Rc::new(Cell::new(false));
    let (mut inputs, post) = match inputs_of(post, meters, Rc::clone(&leaving)) {
        Ok(inputs) => inputs,
        Err(code) => return code,
    };
    inputs.on_answered = config.access_log.then(journal::access_lines).flatten();
    let worker = worker_config(config, slot, generation);
    let database = match database_config(config, server, slot, generation) {
        Ok(database) => database,
        Err(error) => return post.fail(USAGE, format!("DATABASE_URL: {error}")),
    };
    let build = async |database| {
        readiness::ask_first(&database, &app_meters).await;
        app::build(database, app, app_meters, leaving)
    };
    match worker::run(inputs, worker, database, build) {
        Ok(Outcome::Drained) => 0,
        Ok(Outcome::Forced { requests_cut, transactions_cut }) => {
            error!(requests_cut, transactions_cut, "stopped before every request was answered");
            CUT_SHORT
        }
        Err(failed) => post.fail(REFUSED, failed.to_string()),
    }
}

/// Where the process of this post counts.
pub(crate) fn meters(post: &Post) -> Meters {
    let cell = post.cell;
    Meters {
        requests: cell.requests(),
        in_flight: cell.in_flight(),
        connections: cell.connections(),
        counters: cell.counters(),
        gauges: cell.gauges(),
    }
}

/// What a process is given to serve with, of its post, which is shared from now on. **Errors** with the
/// exit code, after the supervisor was told why.
pub(crate) fn inputs(post: Post, meters: Meters) -> Result<(Inputs, Rc<Post>), u8> {
    inputs_of(post, meters, Rc::default())
}

fn inputs_of(
    mut post: Post,
    meters: Meters,
    leaving: Rc<Cell<bool>>,
) -> Result<(Inputs, Rc<Post>), u8> {
    let listeners = std::mem::take(&mut post.listeners);
    let unix_listeners = std::mem::take(&mut post.unix_listeners);
    let wake = match post.channel.wake() {
        Ok(wake) => wake,
        Err(refused) => {
            return Err(post.fail(REFUSED, format!("no descriptor is left: {refused}")));
        }
    };
    let post = Rc::new(post);
    let held = || Rc::clone(&post);
    let (ready, beating, leaves, unfosters) = (held(), held(), held(), held());
    let counted = AppMeters::of(post.cell.counters(), post.cell.gauges());
    let inputs = Inputs {
        listeners,
        unix_listeners,
        replaces: post.replaces,
        orders: Orders { wake, next: next_order(held(), leaving) },
        meters,
        on_ready: Box::new(move || ready.ready()),
        on_beat: Box::new(move |load| {
            beating.cell.beat(&Beat { loop_lag_us: load.loop_lag_us });
            journal::flush();
            counted.log_lines_lost(journal::dropped());
        }),
        on_leaving: Box::new(move || leaves.channel.send(&Message::Leaving)),
        on_unfostered: Box::new(move |slot| {
            unfosters.channel.send(&Message::Unfostered { slot });
        }),
        on_answered: None,
    };
    Ok((inputs, post))
}

/// The supervisor's orders in the worker's words. That a stop is near concerns only the application.
fn next_order(
    post: Rc<Post>,
    leaving: Rc<Cell<bool>>,
) -> Box<dyn FnMut() -> Option<worker::Order>> {
    Box::new(move || {
        loop {
            let received = post.channel.receive();
            if matches!(received, Received::Order(Order::Drain | Order::Quit | Order::NotReady)) {
                leaving.set(true);
            }
            return match received {
                Received::Order(Order::Drain) => Some(worker::Order::Drain),
                Received::Order(Order::Quit) => Some(worker::Order::Quit),
                Received::Order(Order::Unfoster { slot }) => Some(worker::Order::Unfoster { slot }),
                Received::Foster { slot, listener } => {
                    Some(worker::Order::Foster { slot, listener })
                }
                Received::Reopen { file } => {
                    journal::reopen(file);
                    continue;
                }
                Received::Order(Order::NotReady | Order::Reopen | Order::Foster { .. }) => continue,
                Received::Orphaned => Some(worker::Order::Orphaned),
                Received::Nothing => None,
            };
        }
    })
}

fn database_config(
    config: &Config,
    server: &DatabaseUrl,
    slot: usize,
    generation: u64,
) -> Result<DatabaseConfig, TlsError> {
    let slot = u32::try_from(slot).unwrap_or(u32::MAX);
    let mut database = DatabaseConfig::new(server.config().clone(), slot, generation);
    database.tls = server.tls()?;
    database.pool_size = u32::try_from(config.pool_size).unwrap_or(u32::MAX);
    database.transaction_pooler = config.transaction_pooler;
    database.warm = resources::statements().iter().map(|statement| statement.sql).collect();
    Ok(database)
}

fn worker_config(config: &Config, slot: usize, generation: u64) -> worker::Config {
    let mut worker = worker::Config::default();
    worker.limits.connections_max = config.max_connections;
    worker.drain_timeout = config.graceful_timeout;
    worker.quit_timeout = QUICK_TIMEOUT;
    worker.keepalive_grace = config.keepalive_grace;
    worker.slot = u32::try_from(slot).unwrap_or(u32::MAX);
    worker.generation = generation;
    worker.traces = config.collector.clone().map(|collector| TraceExport {
        collector,
        sample: config.trace_sample,
        trusts: trusts(config),
        service: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
    });
    // Where requests are recorded anyway: without their lines, development is as quick as production.
    worker.server_timing = config.environment == Environment::Development && config.access_log;
    worker.cors = cors(&config.cors_origins);
    worker
}

/// A proxy that is believed about the client's address is believed about the trace, too.
fn trusts(config: &Config) -> Rc<dyn Fn(Option<IpAddr>) -> bool> {
    let trusted = config.trusted_proxies.clone();
    Rc::new(move |peer| addresses::is_trusted(peer, &trusted))
}

fn cors(origins: &[String]) -> Option<Cors> {
    match origins {
        [] => None,
        [all] if all == "*" => Some(Cors::Any),
        origins => Some(Cors::Origins(origins.to_vec())),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
