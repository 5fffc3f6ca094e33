//! Log lines: one JSON object a line, or readable ones on a terminal.
//!
//! [`start`] is called once, by `main`, before any fork; the children inherit it. [`Log`] writes what
//! the supervisor tells. It starts no thread, which would not survive a fork; it never waits for
//! whoever reads the lines and survives their end (`sink`). A panic is a line like any other.
//! tokio-postgres prints parameter values at its debug level, so that level is out of reach here.

mod sink;

use std::io::{self, IsTerminal};
use std::panic::{self, PanicHookInfo};

use supervisor::{Event, Exit, Journal, Role};
use tracing::{debug, error, info, warn};
use tracing_subscriber::EnvFilter;

use self::sink::Sink;
use crate::settings::LogFormat;

/// Starts logging to the standard error stream. `directives` as in `RUST_LOG`.
///
/// Without a `format`, people get readable lines: they read terminals.
pub fn start(format: Option<LogFormat>, directives: &str) {
    let on_terminal = io::stderr().is_terminal();
    let format = format.unwrap_or(if on_terminal { LogFormat::Pretty } else { LogFormat::Json });
    let filter = EnvFilter::builder().parse_lossy(format!("{directives},tokio_postgres=info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Sink::new(format));
    // What cannot be written is no error to write about.
    let lines = lines.log_internal_errors(false);
    // A second start (a test process) keeps the first.
    let started = match format {
        LogFormat::Json => lines.json().flatten_event(true).try_init().is_ok(),
        LogFormat::Pretty => {
            lines.compact().with_target(false).with_ansi(on_terminal).try_init().is_ok()
        }
    };
    if started {
        panic::set_hook(Box::new(record_panic));
    }
}

/// Writes one line for people, whatever the form of the log, and waits at most a second for that.
pub fn tell(line: &str) {
    Sink::await_room(1_000);
    Sink::new(LogFormat::Pretty).put(format!("{line}\n").as_bytes());
}

/// One line for one panic: who catches it decides what it means.
fn record_panic(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("not a text");
    let place = panic.location().map(ToString::to_string);
    error!(panic = message, place, "panicked");
}

/// Writes the supervisor's facts. `programs` are the names of the steps and services, in their order.
#[derive(Debug)]
pub struct Log {
    /// Names, by index.
    pub programs: Vec<&'static str>,
}

impl Journal for Log {
    fn record(&mut self, event: &Event) {
        match event {
            Event::Listening { address, slots } => info!(%address, slots, "listening"),
            Event::Spawned { role, pid } => self.about(*role, *pid, "spawned"),
            Event::Ready { role, pid } => self.about(*role, *pid, "ready"),
            Event::Serving { workers } => info!(workers, "serving"),
            Event::Exited { .. } => self.exited(event),
            Event::Killed { role, pid } => {
                let (name, slot, generation) = self.name(*role);
                warn!(name, slot, generation, pid, "killed: over its deadline");
            }
            // Comes and goes with every worker.
            Event::Steered { slots } => debug!(?slots, "steered"),
            Event::NotSteered { reason } => {
                warn!(reason, "new connections cannot be steered: the kernel spreads them");
            }
            Event::Silent { role, pid } => self.warn(*role, *pid, "silent"),
            Event::Leaving { role, pid } => self.warn(*role, *pid, "leaves unasked"),
            Event::Heard { role, pid } => self.about(*role, *pid, "heard again"),
            Event::Hung { role, pid, silence_ms } => {
                let (name, slot, generation) = self.name(*role);
                error!(name, slot, generation, pid, silence_ms, "hung");
            }
            Event::Scaling { workers } => info!(workers, "scaling"),
            Event::ScaleFailed { reason } => error!(reason, "scaling failed"),
            Event::Paused => info!("paused: every worker leaves, a reload brings new ones"),
            Event::Stopping { haste } => info!(?haste, "stopping"),
            Event::Rolling => info!("rolling"),
            Event::Rolled => info!("rolled"),
            Event::RollFailed { reason } => error!(reason, "roll failed: the old workers serve on"),
            Event::SignalIgnored { signal } => info!(signal, "signal ignored"),
        }
    }
}

impl Log {
    fn about(&self, role: Role, pid: i32, what: &str) {
        let (name, slot, generation) = self.name(role);
        match role {
            // Steps come and go within a moment; a failure is told once, by `main`.
            Role::Step { .. } => debug!(name, pid, "{what}"),
            _ => info!(name, slot, generation, pid, "{what}"),
        }
    }

    fn warn(&self, role: Role, pid: i32, what: &str) {
        let (name, slot, generation) = self.name(role);
        warn!(name, slot, generation, pid, "{what}");
    }

    fn exited(&self, event: &Event) {
        let Event::Exited { role, pid, exit, expected, reason, restart_in_ms } = event else {
            return;
        };
        let (name, slot, generation) = self.name(*role);
        let how = exit.to_string();
        let hint = matches!(exit, Exit::Signal(9) if !expected)
            .then_some("killed from outside: by an operator, or by the kernel out of memory");
        if matches!(role, Role::Step { .. }) {
            debug!(name, pid, how, reason, "exited");
        } else if *expected {
            info!(name, slot, generation, pid, how, reason, restart_in_ms, "exited");
        } else {
            warn!(name, slot, generation, pid, how, reason, hint, restart_in_ms, "exited");
        }
    }

    /// What to call a child, and for a worker its slot and generation.
    fn name(&self, role: Role) -> (&'static str, Option<usize>, Option<u64>) {
        match role {
            Role::Worker { slot, generation } => ("worker", Some(slot), Some(generation)),
            Role::Step { program } | Role::Service { program } => {
                (self.programs.get(program).copied().unwrap_or("program"), None, None)
            }
        }
    }
}
