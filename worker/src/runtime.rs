//! A worker's life: start, serve, leave.
//!
//! The application calls [`run`] in the worker's process, after the fork; it owns the thread until the
//! worker has left.
//! Promises: the order of start is runtime, signals, heartbeat, database, routes, ready, accept, and the
//! order of leaving is the reverse; a database that is away does not keep a worker from being ready.
//! Does not know: processes, where the listeners come from.

use std::net::TcpListener as StdTcpListener;
use std::pin::pin;
use std::rc::Rc;
use std::{fmt, io};

use thiserror::Error;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::{JoinSet, spawn_local};
use tokio::time::Duration;

use crate::accept::accept;
use crate::config::Config;
use crate::database::{Database, DatabaseStats};
use crate::drain::{Outcome, leave};
use crate::router::{RouteConflict, Router};
use crate::shared::Shared;
use crate::signals::{Inbox, Order, Orders};
use crate::stats::{Load, Stats, beat};

/// How long the start waits for the database; without it the worker is ready all the same, and answers
/// 503 until it is back.
const DATABASE_WAIT: Duration = Duration::from_secs(3);

/// What a worker is given to work with.
pub struct Inputs {
    /// The listeners of its slot, at least one.
    pub listeners: Vec<StdTcpListener>,
    /// What its supervisor tells it.
    pub orders: Orders,
    /// Called once, just before it accepts.
    pub on_ready: Box<dyn FnOnce()>,
    /// Called from the event loop every 100 ms, from its start on; must not block.
    pub on_beat: Box<dyn FnMut(&Load)>,
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
    let mut inbox = Inbox::open(inputs.orders).map_err(Error::Signals)?;
    let stats = Rc::new(Stats::default());
    let database = Database::open(config.database.clone());
    spawn_local(beat(load(&stats, &database), inputs.on_beat));
    let Some((router, told)) = boot(&database, build, &mut inbox).await? else {
        return Ok(Outcome::Drained);
    };
    let shared = Rc::new(Shared::new(&config, router, stats));
    let listeners = registered(inputs.listeners).map_err(Error::Listener)?;
    (inputs.on_ready)();
    let mut accepting = start_accepting(listeners, &shared);
    let order = match told {
        Some(order) => Some(order),
        None => ordered(&mut accepting, inbox.next()).await,
    };
    let running = || database.stats().running;
    let finish = async |within| finish(accepting, &shared, &database, within).await;
    let first = order.unwrap_or(Order::Drain);
    let outcome =
        leave(first, async || inbox.next().await, &config, &shared, running, finish).await;
    report(&shared.stats, &database);
    order.map(|_| outcome).ok_or(Error::Deaf)
}

/// Wait for the first order. `None`: a task that accepts has panicked, for nothing else ends one before
/// there is an order; a worker that cannot hear must not go on as if it could.
async fn ordered(accepting: &mut JoinSet<()>, next: impl Future<Output = Order>) -> Option<Order> {
    tokio::select! {
        biased;
        order = next => Some(order),
        Some(_) = accepting.join_next() => None,
    }
}

/// The last line of a worker's log: what it did.
fn report(stats: &Stats, database: &Database) {
    let Load { requests, panics, shed, .. } = stats.load(Duration::ZERO);
    let DatabaseStats { retries, timeouts, .. } = database.stats();
    tracing::info!(requests, panics, shed, retries, timeouts, "left");
}

/// What a heartbeat carries.
fn load(stats: &Rc<Stats>, database: &Database) -> impl Fn(Duration) -> Load + use<> {
    let (stats, database) = (Rc::clone(stats), database.clone());
    move |lag| Load { database: database.stats(), ..stats.load(lag) }
}

/// Furnish the worker while it listens to orders. `None`: it was told to leave at once. A drain is kept for
/// later: whoever is queued on the listener already is to be served first.
async fn boot<B>(
    database: &Database,
    build: B,
    inbox: &mut Inbox,
) -> Result<Option<(Router, Option<Order>)>, Error>
where
    B: AsyncFnOnce(Database) -> Result<Router, BuildError>,
{
    let mut told = None;
    let mut furnishing = pin!(furnish(database, build));
    loop {
        tokio::select! {
            biased;
            order = inbox.next() => match order {
                Order::Drain => told = Some(order),
                Order::Quit | Order::Orphaned => return Ok(None),
            },
            router = &mut furnishing => return Ok(Some((router?, told))),
        }
    }
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

fn registered(listeners: Vec<StdTcpListener>) -> io::Result<Vec<TcpListener>> {
    let register = |listener: StdTcpListener| {
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    };
    listeners.into_iter().map(register).collect()
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
    mut accepting: JoinSet<()>,
    shared: &Shared,
    database: &Database,
    within: Duration,
) -> usize {
    // A panic was reported when it happened; its listener is closed either way.
    while accepting.join_next().await.is_some() {}
    while shared.stats.connections.get() > 0 {
        shared.room.notified().await;
    }
    database.close(within).await
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test(flavor = "local")]
    async fn a_panic_of_an_accepting_task_is_noticed_without_an_order() {
        let mut accepting = JoinSet::new();
        accepting.spawn_local(pending());
        assert_eq!(ordered(&mut accepting, async { Order::Quit }).await, Some(Order::Quit));
        accepting.spawn_local(async { panic!("a mistake in accept") });
        assert_eq!(ordered(&mut accepting, pending()).await, None);
    }
}
