//! Log lines: one JSON object a line, or readable ones on a terminal.
//!
//! [`start`] is called once, by `main`, before any fork; the children inherit it, and begin with
//! [`forked`]. [`Log`] writes what the supervisor tells, `events` what the code tells with `tracing`,
//! [`access_lines`] one line per request. It starts no thread, which would not survive a fork; it never
//! waits for whoever reads the lines and survives their end (`sink`). A panic is a line like any other.
//! Promises: no token, no password and no value of a statement is in a line; tokio-postgres prints those
//! at its debug level, so that level is out of reach here.

mod access;
mod events;
mod line;
mod sink;
mod stream;

use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{self, PanicHookInfo};
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use supervisor::{Event, Exit, Journal, Role};
use tracing::{debug, error, info, warn};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

pub use self::access::access_lines;
use self::events::Events;
use self::line::{Form, Origin};
use self::sink::Sink;
use crate::settings::LogFormat;

/// How long the end of a process waits for a reader of its last lines who takes none, and for one who does.
const PATIENCE: Duration = Duration::from_millis(500);
const GOODBYE: Duration = Duration::from_secs(3);

/// Where all lines of this process go.
static SINK: OnceLock<Sink> = OnceLock::new();

/// Starts logging, to the file at `path` or to the standard error stream. `directives` as in `RUST_LOG`.
///
/// Without a `format`, people get readable lines: they read terminals.
///
/// # Errors
/// When the file cannot be opened.
pub fn start(
    format: Option<LogFormat>,
    path: Option<&Path>,
    directives: &str,
) -> Result<(), String> {
    let on_terminal = path.is_none() && io::stderr().is_terminal();
    let form = match format {
        Some(LogFormat::Json) => Form::Json,
        None if !on_terminal => Form::Json,
        Some(LogFormat::Pretty) | None => Form::Pretty { colours: on_terminal },
    };
    let sink = Sink::open(form, path.map(Path::to_owned)).map_err(|refused| match path {
        Some(path) => {
            let path = path.display();
            format!("the log file {path} cannot be opened: {refused}; name another with --log-file")
        }
        None => format!("the standard error stream cannot be used: {refused}; use --log-file"),
    })?;
    // A second start (a test process) keeps the first.
    let sink = SINK.get_or_init(|| sink);
    let filter = EnvFilter::builder().parse_lossy(format!("{directives},tokio_postgres=info"));
    if tracing_subscriber::registry().with(filter).with(Events(sink)).try_init().is_ok() {
        panic::set_hook(Box::new(record_panic));
    }
    Ok(())
}

/// Makes the log that of a new process, to be called first in it.
pub fn forked(role: Role) {
    let origin = match role {
        Role::Worker { slot, generation } => Some(Origin { slot, generation }),
        Role::PreFlight | Role::Step { .. } | Role::Service { .. } => None,
    };
    SINK.get().inspect(|sink| sink.begin(origin));
}

/// Writes the lines that wait to be written with others. They have no other deadline: what has an event
/// loop calls this from its heartbeat.
pub fn flush() {
    SINK.get().inspect(|sink| sink.flush());
}

/// The same at the end of a process, which waits a moment for whoever reads.
pub fn finish() {
    SINK.get().inspect(|sink| sink.finish(PATIENCE, GOODBYE));
}

/// How many lines of this process were lost, since nobody took them.
#[must_use]
pub fn dropped() -> u64 {
    SINK.get().map_or(0, Sink::dropped)
}

/// Goes on in the file that stands where the log file stood, after somebody has moved that away. The
/// supervisor opens it and gives it to its children, which may have become a user who cannot. Says whether
/// that went well; the log does, too.
pub fn reopen(given: Option<OwnedFd>) -> bool {
    let reopened = SINK.get().map_or(Ok(()), |sink| sink.reopen(given));
    if let Err(error) = &reopened {
        error!(%error, "the log file cannot be opened again: the old one is written on");
    }
    reopened.is_ok()
}

/// Writes one line for people to the standard error stream, whatever the log is, and waits at most a
/// second for that.
pub fn tell(line: &str) {
    finish();
    let mut stderr = io::stderr();
    let mut room = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    if matches!(poll(&mut room, PollTimeout::from(1_000_u16)), Ok(1..)) {
        let _ = stderr.write_all(format!("{line}\n").as_bytes());
    }
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
    fn file(&self) -> Option<OwnedFd> {
        SINK.get().and_then(Sink::file)
    }

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
            Event::Reopening => {
                if reopen(None) {
                    info!("log files opened again");
                }
            }
            Event::Paused => info!("paused: every worker leaves, a reload brings new ones"),
            Event::Stopping { haste } => info!(?haste, "stopping"),
            Event::Rolling => info!("rolling"),
            Event::Rolled => info!("rolled"),
            Event::RollFailed { reason } => error!(reason, "roll failed: the old workers serve on"),
            Event::Recycling { role, pid, reason } => {
                let (name, slot, generation) = self.name(*role);
                info!(name, slot, generation, pid, reason, "recycling");
            }
            Event::RecycleFailed { reason } => {
                error!(reason, "recycling failed: the worker serves on");
            }
            Event::WornEarly { reason, after_ms } => {
                warn!(reason, after_ms, "the limit is too low: every new worker is over it");
            }
            Event::CountsBegin => {
                info!("counts begin at zero: the program before has counted other things");
            }
            Event::Upgrading { version } => info!(version, "upgrading"),
            Event::Upgraded { version } => info!(version, "upgraded"),
            Event::UpgradeFailed { reason } => {
                error!(reason, "upgrade failed: the old program serves on");
            }
            Event::SignalIgnored { signal } => info!(signal, "signal ignored"),
        }
    }
}

impl Log {
    fn about(&self, role: Role, pid: i32, what: &str) {
        let (name, slot, generation) = self.name(role);
        match role {
            // Steps come and go within a moment; a failure is told once, by `main`.
            Role::Step { .. } | Role::PreFlight => debug!(name, pid, "{what}"),
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
        if matches!(role, Role::Step { .. } | Role::PreFlight) {
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
            Role::PreFlight => ("pre-flight", None, None),
            Role::Step { program } | Role::Service { program } => {
                (self.programs.get(program).copied().unwrap_or("program"), None, None)
            }
        }
    }
}
