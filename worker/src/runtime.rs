//! A worker's life: start, serve, leave.
//!
//! The application calls [`run`] in the worker's process, after the fork; it owns the thread until the
//! worker has left.
//! Promises: the order of start is runtime, signals, heartbeat, database, routes, ready, accept, and the
//! order of leaving is the reverse; a database that is away does not keep a worker from being ready.
//! Does not know: processes, where the listeners come from.

use std::future::pending;
use std::net::TcpListener as StdTcpListener;
use std::pin::pin;
use std::rc::Rc;
use std::{fmt, io};

use thiserror::Error;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::JoinSet;
use tokio::time::Duration;

use crate::accept::{accept, watched};
use crate::config::Config;
use crate::database::{Database, DatabaseStats};
use crate::drain::{Leave, Outcome, leave};
use crate::foster::Fosters;
use crate::router::{RouteConflict, Router};
use crate::shared::Shared;
use crate::signals::{Inbox, Order, Orders};
use crate::stats::{Load, Stats, beat};

/// How long the start waits for the database; without it the worker is ready all the same, and answers
/// 503 until it is back.
const DATABASE_WAIT: Duration = Duration::from_secs(3);

/// Tasks that run in a row before the loop looks at clock, sockets and heart again. A handler that computes
/// for milliseconds delays them by no more than so many of its kind.
const EVENT_INTERVAL: u32 = 16;

/// What a worker is given to work with.
pub struct Inputs {
    /// The listeners of its slot, at least one.
    pub listeners: Vec<StdTcpListener>,
    /// What its supervisor tells it.
    pub orders: Orders,
    /// Called once, just before it accepts.
    pub on_ready: Box<dyn FnOnce()>,
    /// Called once, when it takes nothing new any more, whoever told it to leave.
    pub on_leaving: Box<dyn FnOnce()>,
    /// Called from the event loop every 100 ms, from its start on; must not block.
    pub on_beat: Box<dyn FnMut(&Load)>,
    /// Called with a slot when the copy of its listener that an [`Order::Foster`] brought has been closed:
    /// after [`Order::Unfoster`], when that listener was shut or is of no use, when the worker does not
    /// serve (yet, or any more), and when it has left. Also after an [`Order::Unfoster`] for a slot
    /// that it does not foster. Not for a second copy of a slot that it fosters already: it keeps the first.
    pub on_unfostered: Box<dyn FnMut(usize)>,
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
        f.debug_struct("Inputs").field("listeners", &self.listeners).finish_non_exhaustive()
    }
}

/// Be a worker: serve until told to leave.
///
/// # Errors
/// When it could not begin to serve; a worker that serves leaves with an [`Outcome`].
///
/// **Blocks** for the life of the worker. Call it once per process, in a process that never ran a tokio
/// runtime before it forked.
pub fn run<B>(inputs: Inputs, config: Config, build: B) -> Result<Outcome, Error>
where
    B: AsyncFnOnce(Database) -> Result<Router, BuildError>,
{
    let runtime = Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .event_interval(EVENT_INTERVAL)
        // For the names of database hosts, the one thing that has no asynchronous call.
        .max_blocking_threads(1)
        .build_local(LocalOptions::default())
        .map_err(Error::Runtime)?;
    let outcome = runtime.block_on(live(inputs, config, build));
    // A name that is still being looked up must not hold the exit.
    runtime.shutdown_background();
    outcome
}

async fn live<B>(inputs: Inputs, config: Config, build: B) -> Result<Outcome, Error>
where
    B: AsyncFnOnce(Database) -> Result<Router, BuildError>,
{
    let inbox = Inbox::open(inputs.orders).map_err(Error::Signals)?;
    let fosters = Fosters::new(inputs.on_unfostered);
    let stats = Rc::new(Stats::default());
    let database = Database::open(config.database.clone());
    let beating = beat(load(&stats, &database), inputs.on_beat);
    let worker = Worker { inbox, fosters, stats, database, config };
    // The heart is no task: a task waits behind those of all connections, this future waits for none.
    tokio::select! {
        biased;
        never = beating => match never {},
        outcome = worker.work(inputs.listeners, inputs.on_ready, inputs.on_leaving, build) => outcome,
    }
}

/// What a heartbeat carries.
fn load(stats: &Rc<Stats>, database: &Database) -> impl Fn(Duration) -> Load + use<> {
    let (stats, database) = (Rc::clone(stats), database.clone());
    move |lag| Load { database: database.stats(), ..stats.load(lag) }
}

/// What a worker has from its start to its end.
struct Worker {
    inbox: Inbox,
    fosters: Fosters,
    stats: Rc<Stats>,
    database: Database,
    config: Config,
}

impl Worker {
    async fn work<B>(
        mut self,
        listeners: Vec<StdTcpListener>,
        on_ready: Box<dyn FnOnce()>,
        on_leaving: Box<dyn FnOnce()>,
        build: B,
    ) -> Result<Outcome, Error>
    where
        B: AsyncFnOnce(Database) -> Result<Router, BuildError>,
    {
        let Some((router, told)) = self.boot(build).await? else { return Ok(Outcome::Drained) };
        let shared = Rc::new(Shared::new(&self.config, router, Rc::clone(&self.stats)));
        let listeners = listeners.into_iter().map(watched).collect::<io::Result<Vec<_>>>();
        let listeners = listeners.map_err(Error::Listener)?;
        on_ready();
        let mut accepting = start_accepting(listeners, &shared);
        let order = match told {
            Some(order) => Some(order),
            None => self.serve(&mut accepting, &shared).await,
        };
        on_leaving();
        let outcome = self.leave(order.unwrap_or(Leave::Drain), accepting, &shared).await;
        report(&self.stats, &self.database);
        order.map(|_| outcome).ok_or(Error::Deaf)
    }

    /// Furnish the worker while it listens to orders. `None`: it was told to leave at once. A drain is kept
    /// for later: whoever is queued on the listener already is to be served first.
    async fn boot<B>(&mut self, build: B) -> Result<Option<(Router, Option<Leave>)>, Error>
    where
        B: AsyncFnOnce(Database) -> Result<Router, BuildError>,
    {
        let mut told = None;
        let mut furnishing = pin!(furnish(&self.database, build));
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
        let running = || database.stats().running;
        let finish = async |within| finish(accepting, shared, database, within).await;
        let next = async || next_leave(inbox, fosters).await;
        leave(first, next, config, shared, running, finish).await
    }
}

/// The last line of a worker's log: what it did.
fn report(stats: &Stats, database: &Database) {
    let Load { requests, panics, shed, .. } = stats.load(Duration::ZERO);
    let DatabaseStats { retries, timeouts, .. } = database.stats();
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
async fn furnish<B>(database: &Database, build: B) -> Result<Router, BuildError>
where
    B: AsyncFnOnce(Database) -> Result<Router, BuildError>,
{
    if let Err(error) = database.ready(DATABASE_WAIT).await {
        tracing::warn!(%error, "starting without the database; requests that need it get a 503");
    }
    build(database.clone()).await
}

fn start_accepting(listeners: Vec<TcpListener>, shared: &Rc<Shared>) -> JoinSet<()> {
    let mut accepting = JoinSet::new();
    for listener in listeners {
        accepting.spawn_local(accept(listener, Rc::clone(shared)));
    }
    accepting
}

/// Wait until the queues are empty, the connections closed and the database is done. Gives how many
/// transactions had to be left.
async fn finish(
    accepting: [JoinSet<()>; 2],
    shared: &Shared,
    database: &Database,
    within: Duration,
) -> usize {
    // A panic was reported when it happened; its listener is closed either way.
    for mut accepting in accepting {
        while accepting.join_next().await.is_some() {}
    }
    while shared.stats.connections.get() > 0 {
        shared.room.notified().await;
    }
    database.close(within).await
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
