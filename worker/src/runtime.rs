//! A worker's life: start, serve, leave.
//!
//! The application calls [`run`] in the worker's process, after the fork; it owns the thread until the
//! worker has left.
//! Promises: the order of start is runtime, signals, heartbeat, database, routes, ready, accept, and the
//! order of leaving is the reverse; a database that is away does not keep a worker from being ready, but
//! one that would replace a worker that serves.
//! Does not know: processes, where the listeners come from.

use std::future::pending;
use std::net::TcpListener as StdTcpListener;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::pin::pin;
use std::rc::Rc;
use std::{fmt, io};

use thiserror::Error;
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::{JoinSet, spawn_local};
use tokio::time::Duration;

use crate::accept::accept;
use crate::answered::OnAnswered;
use crate::config::Config;
use crate::database::{Database, DatabaseConfig, DatabaseStats};
use crate::drain::{Leave, Outcome, leave};
use crate::foster::Fosters;
use crate::listen::{Listen, watched, watched_unix};
use crate::meters::Meters;
use crate::router::{RouteConflict, Router};
use crate::shared::Shared;
use crate::signals::{Inbox, Order, Orders};
use crate::stats::{Load, Stats, beat};

/// How long the start waits for the database; without it the worker is ready all the same, and answers
/// 503 until it is back; a worker that replaces another one does not begin.
const DATABASE_WAIT: Duration = Duration::from_secs(3);

/// Tasks that run in a row before the loop looks at clock, sockets and heart again. A handler that computes
/// for milliseconds delays them by no more than so many of its kind.
const EVENT_INTERVAL: u32 = 16;

/// What a worker is given to work with.
pub struct Inputs {
    /// The listeners of its slot: at least one, of either kind.
    pub listeners: Vec<StdTcpListener>,
    /// Those that have no port.
    pub unix_listeners: Vec<StdUnixListener>,
    /// Whether another worker serves on if this one does not begin: it begins with a database or not at
    /// all.
    pub replaces: bool,
    /// What its supervisor tells it.
    pub orders: Orders,
    /// Called once, just before it accepts.
    pub on_ready: Box<dyn FnOnce()>,
    /// Called once, when it takes nothing new any more, whoever told it to leave.
    pub on_leaving: Box<dyn FnOnce()>,
    /// Where it counts.
    pub meters: Meters,
    /// Called from the event loop every 100 ms, from its start on; must not block.
    pub on_beat: Box<dyn FnMut(&Load)>,
    /// Called with a slot when the copy of its listener that an [`Order::Foster`] brought has been closed:
    /// after [`Order::Unfoster`], when that listener was shut or is of no use, when the worker does not
    /// serve (yet, or any more), and when it has left. Also after an [`Order::Unfoster`] for a slot
    /// that it does not foster. Not for a second copy of a slot that it fosters already: it keeps the first.
    pub on_unfostered: Box<dyn FnMut(usize)>,
    /// Called for each request when it has been answered, or its client has left; must not block.
    pub on_answered: Option<OnAnswered>,
}

/// Why the application could not be built.
#[derive(Debug, Error)]
pub enum BuildError {
    /// Its table of routes contradicts itself.
    #[error("the routes contradict themselves: {0}")]
    Routes(#[from] RouteConflict),
    /// Something else it needs is not there; says what and how to mend it.
    #[error("{0}")]
    Refused(String),
}

/// Why a worker did not serve.
#[derive(Debug, Error)]
pub enum Error {
    /// The event loop could not be made.
    #[error("the system refused an event loop: {0}")]
    Runtime(#[source] io::Error),
    /// Signals or the supervisor's channel could not be listened to.
    #[error("the system refused to report signals: {0}")]
    Signals(#[source] io::Error),
    /// A listener could not be used.
    #[error("a listener cannot be used: {0}")]
    Listener(#[source] io::Error),
    /// It served, but a task that accepts connections ended by a mistake of this crate. The worker has
    /// left as for a drain, and is to be replaced.
    #[error("a listener was lost to a panic, which is in the log")]
    Deaf,
    /// The application could not be built.
    #[error(transparent)]
    Build(#[from] BuildError),
}

impl fmt::Debug for Inputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inputs")
            .field("listeners", &self.listeners)
            .field("unix_listeners", &self.unix_listeners)
            .finish_non_exhaustive()
    }
}

/// Be a worker: serve until told to leave.
///
/// # Errors
/// When it could not begin to serve; a worker that serves leaves with an [`Outcome`].
///
/// **Blocks** for the life of the worker. Call it once per process, in a process that never ran a tokio
/// runtime before it forked.
pub fn run<B>(
    inputs: Inputs,
    config: Config,
    database: DatabaseConfig,
    build: B,
) -> Result<Outcome, Error>
where
    B: AsyncFnOnce(Database) -> Result<Router, BuildError>,
{
    let meters = inputs.meters;
    in_runtime(async move {
        let database = Database::open(database, meters);
        let (built, replaces) = (database.clone(), inputs.replaces);
        live(inputs, config, Some(database), async move || furnish(&built, replaces, build).await)
            .await
    })
}

/// The same for a process that has no database.
///
/// # Errors
/// As [`run`].
///
/// **Blocks** as [`run`].
pub fn run_alone<B>(inputs: Inputs, config: Config, build: B) -> Result<Outcome, Error>
where
    B: AsyncFnOnce() -> Result<Router, BuildError>,
{
    in_runtime(live(inputs, config, None, build))
}

fn in_runtime(life: impl Future<Output = Result<Outcome, Error>>) -> Result<Outcome, Error> {
    let runtime = Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .event_interval(EVENT_INTERVAL)
        // For names of hosts, the one thing that has no asynchronous call: the database's, and the
        // collector's, which must not keep those waiting.
        .max_blocking_threads(2)
        .build_local(LocalOptions::default())
        .map_err(Error::Runtime)?;
    let outcome = runtime.block_on(life);
    // A name that is still being looked up must not hold the exit.
    runtime.shutdown_background();
    outcome
}

async fn live<B>(
    inputs: Inputs,
    config: Config,
    database: Option<Database>,
    build: B,
) -> Result<Outcome, Error>
where
    B: AsyncFnOnce() -> Result<Router, BuildError>,
{
    let inbox = Inbox::open(inputs.orders).map_err(Error::Signals)?;
    let fosters = Fosters::new(inputs.on_unfostered);
    let stats = Stats::new(inputs.meters);
    let beating = beat(stats.meters, load(stats, database.clone()), inputs.on_beat);
    let on_answered = inputs.on_answered;
    let listeners = (inputs.listeners, inputs.unix_listeners);
    let worker = Worker { inbox, fosters, stats, database, config, on_answered };
    // The heart is no task: a task waits behind those of all connections, this future waits for none.
    tokio::select! {
        biased;
        never = beating => match never {},
        outcome = worker.work(listeners, inputs.on_ready, inputs.on_leaving, build) => outcome,
    }
}

/// What a heartbeat carries.
fn load(stats: Stats, database: Option<Database>) -> impl Fn(Duration) -> Load {
    move |lag| {
        let database = database.as_ref().map(|database| {
            database.report();
            database.stats()
        });
        Load { database: database.unwrap_or_default(), ..stats.load(lag) }
    }
}

/// What a worker has from its start to its end.
struct Worker {
    inbox: Inbox,
    fosters: Fosters,
    stats: Stats,
    database: Option<Database>,
    config: Config,
    on_answered: Option<OnAnswered>,
}

impl Worker {
    async fn work<B>(
        mut self,
        (tcp, unix): (Vec<StdTcpListener>, Vec<StdUnixListener>),
        on_ready: Box<dyn FnOnce()>,
        on_leaving: Box<dyn FnOnce()>,
        build: B,
    ) -> Result<Outcome, Error>
    where
        B: AsyncFnOnce() -> Result<Router, BuildError>,
    {
        let Some((router, told)) = self.boot(build).await? else { return Ok(Outcome::Drained) };
        let on_answered = self.on_answered.take();
        let shared = Rc::new(Shared::new(&self.config, router, self.stats, on_answered));
        let tcp = tcp.into_iter().map(watched).collect::<io::Result<Vec<_>>>();
        let unix = unix.into_iter().map(watched_unix).collect::<io::Result<Vec<_>>>();
        let (tcp, unix) = (tcp.map_err(Error::Listener)?, unix.map_err(Error::Listener)?);
        let exporting = shared.traces.clone().map(|traces| spawn_local(traces.run()));
        on_ready();
        let mut accepting = JoinSet::new();
        start_accepting(tcp, &shared, &mut accepting);
        start_accepting(unix, &shared, &mut accepting);
        let order = match told {
            Some(order) => Some(order),
            None => self.serve(&mut accepting, &shared).await,
        };
        on_leaving();
        let outcome = self.leave(order.unwrap_or(Leave::Drain), accepting, &shared).await;
        if let Some((traces, exporting)) = shared.traces.as_ref().zip(exporting) {
            traces.close(exporting).await;
        }
        report(&self.stats, self.database.as_ref());
        order.map(|_| outcome).ok_or(Error::Deaf)
    }

    /// Furnish the worker while it listens to orders. `None`: it was told to leave at once. A drain is kept
    /// for later: whoever is queued on the listener already is to be served first.
    async fn boot<B>(&mut self, build: B) -> Result<Option<(Router, Option<Leave>)>, Error>
    where
        B: AsyncFnOnce() -> Result<Router, BuildError>,
    {
        let mut told = None;
        let mut furnishing = pin!(build());
        loop {
            tokio::select! {
                biased;
                order = next_leave(&mut self.inbox, &mut self.fosters) => match order {
                    Leave::Drain => told = Some(order),
                    Leave::Quit | Leave::Orphaned => return Ok(None),
                },
                router = &mut furnishing => return Ok(Some((router?, told))),
            }
        }
    }

    /// Serve until told to leave. `None`: a task that accepts has panicked; a worker that cannot hear must
    /// not go on as if it could.
    async fn serve(&mut self, accepting: &mut JoinSet<()>, shared: &Rc<Shared>) -> Option<Leave> {
        self.fosters.serve(shared);
        tokio::select! {
            biased;
            order = next_leave(&mut self.inbox, &mut self.fosters) => Some(order),
            () = panicked(accepting) => None,
        }
    }

    async fn leave(
        &mut self,
        first: Leave,
        accepting: JoinSet<()>,
        shared: &Rc<Shared>,
    ) -> Outcome {
        let Self { inbox, fosters, database, config, .. } = self;
        let accepting = [accepting, fosters.leave()];
        let database = database.as_ref();
        let running = || database.map_or(0, |database| database.stats().running);
        let finish = async |within| finish(accepting, shared, database, within).await;
        let next = async || next_leave(inbox, fosters).await;
        leave(first, next, config, shared, running, finish).await
    }
}

/// The last line of a worker's log: what it did.
fn report(stats: &Stats, database: Option<&Database>) {
    let Load { requests, panics, shed, .. } = stats.load(Duration::ZERO);
    let DatabaseStats { retries, timeouts, .. } = database.map(Database::stats).unwrap_or_default();
    tracing::info!(requests, panics, shed, retries, timeouts, "left");
}

/// Do what is ordered, until it is to leave. Nothing is lost when this future is dropped.
async fn next_leave(inbox: &mut Inbox, fosters: &mut Fosters) -> Leave {
    loop {
        match inbox.next().await {
            Order::Drain => return Leave::Drain,
            Order::Quit => return Leave::Quit,
            Order::Orphaned => return Leave::Orphaned,
            Order::Foster { slot, listener } => fosters.foster(slot, listener),
            Order::Unfoster { slot } => fosters.unfoster(slot),
        }
    }
}

/// Wait for a panic. A task that accepts ends without one when its listener is shut: the worker serves the
/// connections it has until it is told to leave.
async fn panicked(accepting: &mut JoinSet<()>) {
    while let Some(ended) = accepting.join_next().await {
        if ended.is_err() {
            return;
        }
    }
    pending().await
}

/// Give the database its chance, then build the application.
async fn furnish<B>(database: &Database, replaces: bool, build: B) -> Result<Router, BuildError>
where
    B: AsyncFnOnce(Database) -> Result<Router, BuildError>,
{
    if let Err(error) = database.ready(DATABASE_WAIT).await {
        if replaces {
            return Err(BuildError::Refused(format!(
                "the database is away, and who serves now serves on: {error}"
            )));
        }
        tracing::warn!(%error, "starting without the database; requests that need it get a 503");
    }
    build(database.clone()).await
}

fn start_accepting<L: Listen>(listeners: Vec<L>, shared: &Rc<Shared>, accepting: &mut JoinSet<()>) {
    for listener in listeners {
        accepting.spawn_local(accept(listener, Rc::clone(shared)));
    }
}

/// Wait until the queues are empty, the connections closed and the database is done. Gives how many
/// transactions had to be left.
async fn finish(
    accepting: [JoinSet<()>; 2],
    shared: &Shared,
    database: Option<&Database>,
    within: Duration,
) -> usize {
    // A panic was reported when it happened; its listener is closed either way.
    for mut accepting in accepting {
        while accepting.join_next().await.is_some() {}
    }
    while shared.stats.connections.get() > 0 {
        shared.room.notified().await;
    }
    match database {
        Some(database) => database.close(within).await,
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn a_panic_of_an_accepting_task_is_noticed_without_an_order() {
        let mut accepting = JoinSet::new();
        accepting.spawn_local(async {});
        accepting.spawn_local(pending());
        assert!(timeout(Duration::from_secs(60), panicked(&mut accepting)).await.is_err());
        accepting.spawn_local(async { panic!("a mistake in accept") });
        panicked(&mut accepting).await;
    }
}
