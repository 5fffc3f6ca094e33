//! A worker's life, as the application wires it: the supervisor's post on one side, the worker crate
//! on the other, which do not know each other.
//!
//! `main` calls [`serve`] in the forked process, and the rest before it forks. Translates settings,
//! orders, readiness and heartbeats, and decides the exit code. Knows no resource.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use supervisor::{Load, Message, Order, Post, Received, Role};
use tracing::error;
use worker::{Cors, DatabaseConfig, Inputs, Orders, Outcome};

use crate::app::{self, AppSettings};
use crate::programs::{REFUSED, USAGE};
use crate::resources;
use crate::settings::{Config, DatabaseUrl};
use crate::tls::TlsError;

/// Time for requests in flight after a quick stop.
const QUICK_TIMEOUT: Duration = Duration::from_secs(2);

/// Exit code of a worker that cut requests short (sysexits `EX_TEMPFAIL`).
const CUT_SHORT: u8 = 75;

/// What the supervisor is told.
#[must_use]
pub fn slots(config: &Config) -> supervisor::Config {
    supervisor::Config {
        workers: config.workers,
        bind: config.bind,
        backlog: config.backlog,
        steering: config.steering,
        timeout_ms: millis(config.timeout),
        shutdown_delay_ms: millis(config.shutdown_delay),
        boot_timeout_ms: millis(config.boot_timeout),
        graceful_timeout_ms: millis(config.graceful_timeout),
        quick_timeout_ms: millis(QUICK_TIMEOUT),
        service_stop_timeout_ms: 60_000,
        stable_after_ms: 10_000,
        backoff_min_ms: 250,
        backoff_max_ms: 30_000,
        cell_words: (0, 0),
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
        ("timeout", running.timeout == fresh.timeout),
        ("shutdown-delay", running.shutdown_delay == fresh.shutdown_delay),
        ("control", running.control == fresh.control),
        ("pid-file", running.pid_file == fresh.pid_file),
        ("boot-timeout", running.boot_timeout == fresh.boot_timeout),
        ("graceful-timeout", running.graceful_timeout == fresh.graceful_timeout),
        ("log-format", running.log_format == fresh.log_format),
        ("RUST_LOG", running.log_filter == fresh.log_filter),
    ];
    match fixed.iter().find(|(_, same)| !same) {
        None => Ok(()),
        Some((name, _)) => Err(format!("{name} has changed: that needs a restart")),
    }
}

/// Serves until told to stop. Answers the exit code.
pub fn serve(mut post: Post, config: &Config, server: &DatabaseUrl, app: &AppSettings) -> u8 {
    let Role::Worker { slot, generation } = post.role else {
        return post.fail(USAGE, "only a worker serves");
    };
    if config.faults.as_ref().is_some_and(|faults| faults.boot_exit_slots.contains(&slot)) {
        return post
            .fail(REFUSED, format!("PEACE_FAULTS lets the worker of slot {slot} exit at boot"));
    }
    let listeners = std::mem::take(&mut post.listeners);
    let wake = match post.channel.wake() {
        Ok(wake) => wake,
        Err(refused) => return post.fail(REFUSED, format!("no descriptor is left: {refused}")),
    };
    let post = Rc::new(post);
    let leaving = Rc::new(Cell::new(false));
    let inputs = Inputs {
        listeners,
        orders: Orders { wake, next: next_order(Rc::clone(&post), Rc::clone(&leaving)) },
        on_ready: {
            let post = Rc::clone(&post);
            Box::new(move || post.ready())
        },
        on_beat: {
            let post = Rc::clone(&post);
            Box::new(move |load| beat(&post, load))
        },
        on_leaving: {
            let post = Rc::clone(&post);
            Box::new(move || post.channel.send(&Message::Leaving))
        },
        on_unfostered: {
            let post = Rc::clone(&post);
            Box::new(move |slot| post.channel.send(&Message::Unfostered { slot }))
        },
    };
    let worker = match worker_config(config, server, slot, generation) {
        Ok(worker) => worker,
        Err(error) => return post.fail(USAGE, format!("DATABASE_URL: {error}")),
    };
    match worker::run(inputs, worker, async |database| app::build(database, app, leaving)) {
        Ok(Outcome::Drained) => 0,
        Ok(Outcome::Forced { requests_cut, transactions_cut }) => {
            error!(
                slot,
                requests_cut, transactions_cut, "stopped before every request was answered"
            );
            CUT_SHORT
        }
        Err(failed) => post.fail(REFUSED, failed.to_string()),
    }
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
                Received::Order(Order::NotReady | Order::Foster { .. }) => continue,
                Received::Orphaned => Some(worker::Order::Orphaned),
                Received::Nothing => None,
            };
        }
    })
}

fn beat(post: &Post, load: &worker::Load) {
    post.cell.beat(&Load {
        requests: load.requests,
        in_flight: load.in_flight,
        connections: load.connections,
        loop_lag_us: load.loop_lag_us,
    });
}

fn worker_config(
    config: &Config,
    server: &DatabaseUrl,
    slot: usize,
    generation: u64,
) -> Result<worker::Config, TlsError> {
    let slot = u32::try_from(slot).unwrap_or(u32::MAX);
    let mut database = DatabaseConfig::new(server.config().clone(), slot, generation);
    database.tls = server.tls()?;
    database.pool_size = u32::try_from(config.pool_size).unwrap_or(u32::MAX);
    database.transaction_pooler = config.transaction_pooler;
    database.warm = resources::statements().iter().map(|statement| statement.sql).collect();
    let mut worker = worker::Config::new(database);
    worker.limits.connections_max = config.max_connections;
    worker.drain_timeout = config.graceful_timeout;
    worker.quit_timeout = QUICK_TIMEOUT;
    worker.keepalive_grace = config.keepalive_grace;
    worker.slot = slot;
    worker.generation = generation;
    worker.access_log = config.access_log;
    worker.cors = cors(&config.cors_origins);
    Ok(worker)
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
