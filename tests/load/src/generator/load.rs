//! The load of one generator: its clients, from the first request to the last answer.
//!
//! `serve` calls [`Load::connect`], says that it is ready, and calls [`Load::run`] when it is to begin.
//! Each client is a task. In a closed loop it sends its next request when it has its answer, in an open
//! one when [`Pace`] says so. After the end nothing becomes due, but what was due is still sent, and what
//! is in flight is waited for, each until its timeout.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::{JoinSet, spawn_local};
use tokio::time::{sleep, sleep_until};

use super::client::{Answer, Client, Target};
use super::fault::{Fault, Kind};
use super::order::{Order, Outcome, Piece};
use super::pace::{Pace, Schedule, Turn};
use super::requests::Requests;
use super::socket::Bytes;
use super::tally::{Span, Tally, Times};

/// A client that could not connect does not try again at once: a port that nobody listens on answers
/// so quickly that it would do nothing else, and take the processor from the server that is starting.
/// Nor does one that was refused with 503: refusals would be all that an overloaded server has to do.
const PAUSE: Duration = Duration::from_millis(10);

/// Clients that are connected.
pub(crate) struct Load {
    clients: Vec<Client>,
    target: Rc<Target>,
    requests: Requests,
    rate: Option<f64>,
    duration: Duration,
    window: Duration,
    phase: f64,
}

/// What the clients of a running load share.
struct Shared {
    requests: RefCell<Requests>,
    tally: RefCell<Tally>,
    end: Instant,
}

impl Load {
    /// Prepares all that an order asks for and opens the connections, those that can be.
    ///
    /// # Errors
    /// When the order cannot be carried out.
    pub(crate) async fn connect(order: Order) -> Result<Self, String> {
        let Order { server, host, prefix, scenario, rows, connections, rate, seed, .. } = order;
        let seconds = |seconds: f64, what: &str| {
            let duration = Duration::try_from_secs_f64(seconds).ok().filter(|it| !it.is_zero());
            duration.ok_or_else(|| format!("{what} of {seconds} s: it has to be more than 0"))
        };
        let target = Rc::new(Target {
            server,
            timeout: seconds(order.timeout_s, "a timeout")?,
            requests_per_connection: scenario.requests_per_connection,
            bytes: Rc::new(Bytes::default()),
            connects: Cell::new(0),
        });
        let (duration, window) =
            (seconds(order.duration_s, "a duration")?, seconds(order.window_s, "a window")?);
        let requests = Requests::new(&scenario, rows, &prefix, &host, seed)?;
        let phase = fastrand::Rng::with_seed(seed).f64();
        let clients = connected(&target, connections).await;
        Ok(Self { clients, target, requests, rate, duration, window, phase })
    }

    /// Does it all; `say` hears of each window when it is over.
    ///
    /// # Errors
    /// When the system refuses a timer, or what `say` answers.
    pub(crate) async fn run(
        self,
        mut say: impl FnMut(Piece) -> Result<(), String>,
    ) -> Result<Outcome, String> {
        let start = Instant::now();
        let Self { clients, target, requests, rate, duration, window, phase } = self;
        let span = Span { start, end: start + duration, window, is_open: rate.is_some() };
        let shared = Rc::new(Shared {
            requests: RefCell::new(requests),
            tally: RefCell::new(Tally::new(span)?),
            end: span.end,
        });
        let mut tasks = JoinSet::new();
        match rate {
            None => start_closed(&mut tasks, &shared, clients),
            Some(rate) => {
                let schedule = Schedule { start, duration, rate, phase };
                start_open(&mut tasks, &shared, clients, schedule, target.timeout)?;
            }
        }
        for index in 0..span.windows() {
            sleep_until(span.end_of(index).into()).await;
            let pieces = shared.tally.borrow_mut().take_windows(Instant::now())?;
            pieces.into_iter().try_for_each(&mut say)?;
        }
        while let Some(ended) = tasks.join_next().await {
            ended.map_err(|error| format!("a client came to an end: {error}"))??;
        }
        let shared = Rc::into_inner(shared).ok_or("a client is still at work")?;
        let (sent, received) = (target.bytes.sent.get(), target.bytes.received.get());
        shared.tally.into_inner().told(sent, received, target.connects.get())
    }
}

async fn connected(target: &Rc<Target>, connections: usize) -> Vec<Client> {
    let connect = |_| {
        let mut client = Client::new(Rc::clone(target));
        spawn_local(async move {
            // It tries again with its first request, and then it counts.
            _ = client.connect().await;
            client
        })
    };
    let connecting: Vec<_> = (0..connections).map(connect).collect();
    let mut clients = Vec::with_capacity(connections);
    for client in connecting {
        clients.extend(client.await);
    }
    clients
}

type Tasks = JoinSet<Result<(), String>>;

fn start_closed(tasks: &mut Tasks, shared: &Rc<Shared>, clients: Vec<Client>) {
    for mut client in clients {
        let shared = Rc::clone(shared);
        tasks.spawn_local(async move {
            let mut now = Instant::now();
            while now < shared.end {
                now = shared.ask(&mut client, None).await;
            }
            Ok(())
        });
    }
}

fn start_open(
    tasks: &mut Tasks,
    shared: &Rc<Shared>,
    clients: Vec<Client>,
    schedule: Schedule,
    patience: Duration,
) -> Result<(), String> {
    let no_timer = |error| format!("no timer: {error}");
    let pace = Rc::new(Pace::new(schedule, clients.len()).map_err(no_timer)?);
    for (number, mut client) in clients.into_iter().enumerate() {
        let (pace, shared) = (Rc::clone(&pace), Rc::clone(shared));
        tasks.spawn_local(async move {
            let mut now = schedule.start;
            while let Some(turn) = pace.turn(number, now).await.map_err(no_timer)? {
                now = shared.ask(&mut client, Some(turn)).await;
            }
            Ok(())
        });
    }
    let shared = Rc::clone(shared);
    tasks.spawn_local(async move {
        let unsent = pace.run(patience).await.map_err(no_timer)?;
        shared.tally.borrow_mut().unsent(unsent, Instant::now());
        Ok(())
    });
    Ok(())
}

impl Shared {
    /// Sends a request and counts what came of it; gives the instant from which the client is free.
    async fn ask(&self, client: &mut Client, turn: Option<Turn>) -> Instant {
        let drawn = self.requests.borrow_mut().draw();
        let sent = Instant::now();
        let (kind, result) = match drawn {
            Ok((kind, request)) => (Some(kind), client.exchange(sent, request).await),
            Err(error) => (None, Err(Fault::new(Kind::Unsendable, error))),
        };
        let ended = Instant::now();
        let (due, was_free) = turn.map_or((sent, false), |turn| (turn.due, turn.was_free));
        let times = Times { due, sent, ended, was_free };
        match self.judge(kind, result) {
            Ok(()) => {
                self.tally.borrow_mut().right(times);
                ended
            }
            Err(fault) => {
                self.count_wrong(times, kind, &fault);
                if fault.is_quick() {
                    sleep(PAUSE).await;
                }
                Instant::now()
            }
        }
    }

    fn judge(&self, kind: Option<usize>, result: Result<Answer, Fault>) -> Result<(), Fault> {
        let answer = result?;
        match kind.is_some_and(|kind| self.requests.borrow().is_right(kind, answer.status)) {
            true => Ok(()),
            false => Err(Fault::new(Kind::Status(answer.status), answer.excerpt)),
        }
    }

    fn count_wrong(&self, times: Times, kind: Option<usize>, fault: &Fault) {
        let requests = self.requests.borrow();
        let name = kind.map_or("?", |kind| requests.name(kind));
        self.tally.borrow_mut().wrong(times, name, fault);
    }
}
