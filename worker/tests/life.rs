//! A worker's whole life, in a process of its own: real signals, a real channel, real sockets, and no
//! database, since a worker has to live without one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal, raise};
use rustix::net::{RecvFlags, recv};
use worker::{
    Config, Context, Database, DatabaseConfig, DbError, Empty, HttpError, Inputs, Load, Meters,
    Order, Orders, Outcome, Problem, Reply, Routes, kinds,
};

struct Down(DbError);

impl From<Down> for Problem {
    fn from(down: Down) -> Self {
        Self::new(&kinds::UNAVAILABLE).log(down.0.to_string())
    }
}

struct App {
    database: Database,
    handled: Arc<AtomicU64>,
}

async fn hello(_: Context<App>) -> Result<Reply<&'static str>, HttpError> {
    Ok(Reply("hello"))
}

async fn rows(cx: Context<App>) -> Result<Reply<usize>, Down> {
    Ok(Reply(cx.app().database.rows("SELECT 1", &[]).await.map_err(Down)?.len()))
}

async fn never(_: Context<App>) -> Result<Empty, HttpError> {
    std::future::pending().await
}

/// Hold the event loop.
async fn spin(_: Context<App>) -> Result<Empty, HttpError> {
    let start = Instant::now();
    while start.elapsed() < SPIN {}
    Ok(Empty)
}

/// What must not be done twice.
async fn write(cx: Context<App>) -> Result<Empty, HttpError> {
    cx.app().handled.fetch_add(1, Ordering::Relaxed);
    Ok(Empty)
}

/// How long `/spin` takes.
const SPIN: Duration = Duration::from_millis(2);

/// Signals go to the whole process, so there is one worker at a time.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A worker on a thread, and the supervisor's side of it.
struct Worker {
    address: SocketAddr,
    /// The slot's listener, as the supervisor keeps it.
    listener: TcpListener,
    channel: UnixStream,
    /// What goes with a `+` on the channel.
    copies: mpsc::Sender<TcpListener>,
    ready: mpsc::Receiver<()>,
    unfostered: mpsc::Receiver<usize>,
    beats: Arc<AtomicU64>,
    /// The most requests that were begun between two heartbeats.
    between: Arc<AtomicU64>,
    handled: Arc<AtomicU64>,
    running: JoinHandle<Outcome>,
}

fn start(before: impl FnOnce(SocketAddr) + Send + 'static) -> Worker {
    start_with(Duration::from_millis(700), before)
}

fn start_with(
    keepalive_grace: Duration,
    before: impl FnOnce(SocketAddr) + Send + 'static,
) -> Worker {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let copy = listener.try_clone().unwrap();
    let (channel, theirs) = UnixStream::pair().unwrap();
    let (copies, copied) = mpsc::channel();
    let (is_ready, ready) = mpsc::channel();
    let (is_unfostered, unfostered) = mpsc::channel();
    let (beats, between, handled) = <(Arc<AtomicU64>, Arc<AtomicU64>, Arc<AtomicU64>)>::default();
    let (counted, most, app) = (Arc::clone(&beats), Arc::clone(&between), Arc::clone(&handled));
    let running = std::thread::spawn(move || {
        before(address);
        let mut requests = 0;
        let inputs = Inputs {
            listeners: vec![copy],
            unix_listeners: Vec::new(),
            replaces: false,
            meters: Meters::detached(0),
            orders: orders(theirs, copied),
            on_ready: Box::new(move || is_ready.send(()).unwrap()),
            on_beat: Box::new(move |load: &Load| {
                counted.fetch_add(1, Ordering::Relaxed);
                most.fetch_max(load.requests - requests, Ordering::Relaxed);
                requests = load.requests;
            }),
            on_leaving: Box::new(|| {}),
            on_answered: None,
            on_unfostered: Box::new(move |slot| {
                // A test need not listen to the end.
                let _ = is_unfostered.send(slot);
            }),
        };
        let server = "host=/nonexistent user=nobody dbname=none".parse().unwrap();
        let database = DatabaseConfig::new(server, 0, 1);
        let config = Config { keepalive_grace, ..Config::default() };
        let build = async |database| {
            let mut routes = Routes::new();
            routes.get("/hello", "hello", hello);
            routes.get("/rows", "rows", rows);
            routes.get("/never", "never", never);
            routes.get("/spin", "spin", spin);
            routes.post("/write", "write", write);
            Ok(routes.seal(Rc::new(App { database, handled: app }))?)
        };
        worker::run(inputs, config, database, build).unwrap()
    });
    Worker {
        address,
        listener,
        channel,
        copies,
        ready,
        unfostered,
        beats,
        between,
        handled,
        running,
    }
}

impl Worker {
    /// Have another slot fostered: slot 9, the only one here.
    fn foster(&mut self, listener: &TcpListener) {
        self.copies.send(listener.try_clone().unwrap()).unwrap();
        self.channel.write_all(b"+").unwrap();
    }

    fn unfoster(&mut self) {
        self.channel.write_all(b"-").unwrap();
    }

    fn is_told_of_unfostered(&self) {
        assert_eq!(self.unfostered.recv_timeout(Duration::from_secs(5)), Ok(9));
    }
}

/// One byte is one order; the end of the channel means that the supervisor died.
fn orders(channel: UnixStream, copies: mpsc::Receiver<TcpListener>) -> Orders {
    let wake = channel.try_clone().unwrap().into();
    let next = move || {
        let mut byte = [0];
        match ((&channel).read(&mut byte), byte) {
            (Ok(0), _) => Some(Order::Orphaned),
            (Ok(_), [b'+']) => Some(Order::Foster { slot: 9, listener: copies.recv().unwrap() }),
            (Ok(_), [b'-']) => Some(Order::Unfoster { slot: 9 }),
            (Ok(_), _) => Some(Order::Drain),
            (Err(_), _) => None,
        }
    };
    Orders { wake, next: Box::new(next) }
}

fn get(stream: &mut TcpStream, path: &str) -> String {
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut bytes = [0; 4096];
    let length = stream.read(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes[..length]).into_owned()
}

#[test]
fn a_worker_without_a_database_serves_and_leaves_when_a_signal_says_so() {
    let _turn = alone();
    let worker = start(|_| {});
    worker.ready.recv_timeout(Duration::from_secs(5)).unwrap();
    let mut client = TcpStream::connect(worker.address).unwrap();
    assert!(get(&mut client, "/hello").starts_with("HTTP/1.1 200 "));

    let asked = Instant::now();
    let answer = get(&mut client, "/rows");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(!answer.contains("nonexistent"), "a private text got out: {answer}");
    assert!(asked.elapsed() < Duration::from_secs(2));

    let meant_for_others =
        [Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGTTIN, Signal::SIGTTOU];
    for swallowed in meant_for_others {
        raise(swallowed).unwrap();
    }
    let answer = get(&mut client, "/hello");
    assert!(answer.starts_with("HTTP/1.1 200 ") && !answer.contains("connection: close"));

    // Two idle clients: one asks again within the grace, the other is closed after it.
    let mut other = TcpStream::connect(worker.address).unwrap();
    assert!(get(&mut other, "/hello").starts_with("HTTP/1.1 200 "));
    raise(Signal::SIGTERM).unwrap();
    let told = Instant::now();
    let mut last = get(&mut client, "/hello");
    while !last.contains("connection: close") {
        last = get(&mut client, "/hello");
    }
    assert!(last.starts_with("HTTP/1.1 200 "), "{last}");
    assert_eq!(other.read(&mut [0]).unwrap(), 0);
    assert!(told.elapsed() >= Duration::from_millis(700));
    assert_eq!(worker.running.join().unwrap(), Outcome::Drained);
    drop(worker.listener);
    assert!(TcpStream::connect(worker.address).is_err());
    // One every 100 ms, through the grace at least.
    assert!(worker.beats.load(Ordering::Relaxed) >= 7);
}

#[test]
fn an_orphan_cuts_what_takes_longer_than_half_a_second() {
    let _turn = alone();
    let worker = start(|_| {});
    worker.ready.recv_timeout(Duration::from_secs(5)).unwrap();
    let mut client = TcpStream::connect(worker.address).unwrap();
    assert!(get(&mut client, "/hello").starts_with("HTTP/1.1 200 "));
    write!(client, "GET /never HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    // The same worker answers this one, so it has read the other.
    let mut second = TcpStream::connect(worker.address).unwrap();
    assert!(get(&mut second, "/hello").starts_with("HTTP/1.1 200 "));
    drop(worker.channel);
    let orphaned = Instant::now();
    assert_eq!(
        worker.running.join().unwrap(),
        Outcome::Forced { requests_cut: 1, transactions_cut: 0 }
    );
    let took = orphaned.elapsed();
    assert!((400..1500).contains(&took.as_millis()), "took {took:?}");
}

#[test]
fn a_signal_that_came_before_the_handlers_is_obeyed() {
    let _turn = alone();
    let block = |_| {
        // As a worker finds it after the fork: blocked, and here one is already waiting.
        SigSet::all().thread_block().unwrap();
        raise(Signal::SIGTERM).unwrap();
    };
    let worker = start(block);
    assert_eq!(worker.running.join().unwrap(), Outcome::Drained);
}

#[test]
fn an_order_makes_a_worker_leave_at_once_when_nobody_is_there() {
    let _turn = alone();
    let mut worker = start(|_| {});
    worker.ready.recv_timeout(Duration::from_secs(5)).unwrap();
    worker.channel.write_all(b"d").unwrap();
    let told = Instant::now();
    assert_eq!(worker.running.join().unwrap(), Outcome::Drained);
    assert!(told.elapsed() < Duration::from_millis(500));
}

#[test]
fn a_drain_that_comes_before_a_worker_is_ready_loses_nobody_who_is_queued() {
    let _turn = alone();
    let (queued, queue) = mpsc::channel();
    let worker = start(move |address| {
        let mut client = TcpStream::connect(address).unwrap();
        write!(client, "GET /hello HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        queued.send(client).unwrap();
        SigSet::all().thread_block().unwrap();
        raise(Signal::SIGTERM).unwrap();
    });
    let mut answer = String::new();
    queue.recv().unwrap().read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.contains("connection: close"),
        "{answer}"
    );
    assert_eq!(worker.running.join().unwrap(), Outcome::Drained);
}

#[test]
fn a_worker_that_is_told_to_quit_before_it_is_ready_leaves_at_once() {
    let _turn = alone();
    let worker = start(|_| {
        SigSet::all().thread_block().unwrap();
        raise(Signal::SIGQUIT).unwrap();
    });
    assert_eq!(worker.running.join().unwrap(), Outcome::Drained);
    assert!(worker.ready.recv().is_err(), "it never was ready");
}

#[test]
fn a_worker_fosters_while_it_serves_and_gives_back_what_it_is_told_to() {
    let _turn = alone();
    let mut worker = start(|_| {});
    let sibling = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = sibling.local_addr().unwrap();
    let queue = || {
        let mut client = TcpStream::connect(address).unwrap();
        write!(client, "GET /hello HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        client
    };
    let queued: Vec<TcpStream> = std::iter::repeat_with(queue).take(100).collect();
    worker.ready.recv_timeout(Duration::from_secs(5)).unwrap();
    worker.foster(&sibling);
    for mut client in queued {
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    worker.unfoster();
    worker.is_told_of_unfostered();
    let client = queue();
    let (_, who) = sibling.accept().unwrap();
    assert_eq!(who, client.local_addr().unwrap(), "left to the slot's own worker");

    // Once more, and away with it when the worker leaves: the queue first.
    worker.foster(&sibling);
    let mut client = TcpStream::connect(address).unwrap();
    assert!(get(&mut client, "/hello").starts_with("HTTP/1.1 200 "));
    worker.channel.write_all(b"d").unwrap();
    worker.is_told_of_unfostered();
    let last = get(&mut client, "/hello");
    assert!(last.starts_with("HTTP/1.1 200 ") && last.contains("connection: close"), "{last}");
    // It holds no listener any more, and takes none.
    worker.foster(&sibling);
    worker.is_told_of_unfostered();
    drop(client);
    assert_eq!(worker.running.join().unwrap(), Outcome::Drained);
}

#[test]
fn a_worker_that_is_not_ready_takes_no_listener() {
    let _turn = alone();
    let (go, wait) = mpsc::channel();
    let mut worker = start(move |_| wait.recv().unwrap());
    let sibling = TcpListener::bind("127.0.0.1:0").unwrap();
    // The order is there before the worker is.
    worker.foster(&sibling);
    go.send(()).unwrap();
    worker.is_told_of_unfostered();
    worker.ready.recv_timeout(Duration::from_secs(5)).unwrap();
    worker.channel.write_all(b"d").unwrap();
    assert_eq!(worker.running.join().unwrap(), Outcome::Drained);
}

#[test]
fn a_worker_whose_listener_is_shut_serves_its_connections_until_it_is_told_to_leave() {
    let _turn = alone();
    let mut worker = start(|_| {});
    worker.ready.recv_timeout(Duration::from_secs(5)).unwrap();
    let mut client = TcpStream::connect(worker.address).unwrap();
    assert!(get(&mut client, "/hello").starts_with("HTTP/1.1 200 "));
    rustix::net::shutdown(&worker.listener, rustix::net::Shutdown::Both).unwrap();
    assert!(TcpStream::connect(worker.address).is_err());
    let beats = worker.beats.load(Ordering::Relaxed);
    while worker.beats.load(Ordering::Relaxed) < beats + 3 {
        let answer = get(&mut client, "/hello");
        assert!(answer.starts_with("HTTP/1.1 200 ") && !answer.contains("connection: close"));
    }
    worker.channel.write_all(b"d").unwrap();
    while !get(&mut client, "/hello").contains("connection: close") {}
    drop(client);
    assert_eq!(worker.running.join().unwrap(), Outcome::Drained);
}

#[test]
fn the_heart_does_not_wait_behind_busy_handlers() {
    let _turn = alone();
    let worker = start(|_| {});
    worker.ready.recv_timeout(Duration::from_secs(5)).unwrap();
    let connect = || TcpStream::connect(worker.address).unwrap();
    let mut clients: Vec<TcpStream> = std::iter::repeat_with(connect).take(200).collect();
    for _ in 0..3 {
        for client in &mut clients {
            write!(client, "GET /spin HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        }
        for client in &mut clients {
            assert!(client.read(&mut [0; 1024]).unwrap() > 0);
        }
    }
    // At most so many begin in the time between two beats, and a few before the loop looks at the clock.
    let due = 100 / SPIN.as_millis() as u64;
    let most = worker.between.load(Ordering::Relaxed);
    assert!(most <= due + 20, "{most} requests of {SPIN:?} between two heartbeats");
    drop((clients, worker.channel));
    assert_eq!(worker.running.join().unwrap(), Outcome::Drained);
}

/// What came of the requests of one client.
#[derive(Debug, Default)]
struct Tally {
    answered: u64,
    /// Ended by `Connection: close` on an answer.
    told: u64,
    /// Closed before the next request was sent.
    closed: u64,
    /// Closed before the request was sent, too, but the client did not look again.
    late: u64,
    /// Closed while the request was on its way: it met the FIN.
    raced: u64,
    reset: u64,
}

/// POST at a random pace until the connection ends.
fn post_at_random(address: SocketAddr, seed: u64, posted: &mpsc::Sender<()>) -> Tally {
    let mut tally = Tally::default();
    let mut client = TcpStream::connect(address).unwrap();
    let mut state = seed;
    loop {
        // An xorshift step; then up to 120 ms, longer than the grace, in which a close is noticed.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        client.set_read_timeout(Some(Duration::from_micros(1 + state % 120_000))).unwrap();
        if let Ok(0) = client.read(&mut [0]) {
            tally.closed = 1;
            return tally;
        }
        // The test stops counting when there are enough.
        let _ = posted.send(());
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let sent = write!(client, "POST /write HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n");
        let look = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let is_closed = matches!(recv(&client, &mut [0; 1], look), Ok((_, 0)));
        let mut bytes = [0; 4096];
        match sent.and_then(|()| client.read(&mut bytes)) {
            Ok(0) => {
                *(if is_closed { &mut tally.late } else { &mut tally.raced }) = 1;
                return tally;
            }
            Ok(length) => {
                let answer = String::from_utf8_lossy(&bytes[..length]);
                assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
                tally.answered += 1;
                if answer.contains("connection: close") {
                    tally.told = 1;
                    assert_eq!(client.read(&mut bytes).unwrap(), 0);
                    return tally;
                }
            }
            Err(_) => {
                tally.reset = 1;
                return tally;
            }
        }
    }
}

#[test]
fn a_write_in_a_drain_is_answered_or_else_not_done_and_never_reset() {
    let _turn = alone();
    let worker = start_with(Duration::from_millis(50), |_| {});
    worker.ready.recv_timeout(Duration::from_secs(5)).unwrap();
    let (posted, posts) = mpsc::channel();
    let clients: Vec<_> = (1..=64_u64)
        .map(|seed| (seed.wrapping_mul(0x9E37_79B9_7F4A_7C15), posted.clone()))
        .map(|(seed, posted)| {
            std::thread::spawn(move || post_at_random(worker.address, seed, &posted))
        })
        .collect();
    for _ in 0..300 {
        posts.recv_timeout(Duration::from_secs(5)).unwrap();
    }
    (&worker.channel).write_all(b"d").unwrap();
    let tallies: Vec<Tally> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    let sum = |of: fn(&Tally) -> u64| tallies.iter().map(of).sum::<u64>();
    // What was not answered was not done, so it can be sent again.
    assert_eq!(worker.handled.load(Ordering::Relaxed), sum(|tally| tally.answered));
    assert_eq!(sum(|tally| tally.reset), 0, "{tallies:?}");
    // Each was told, or found its connection closed, or met the close.
    let ended = |tally: &Tally| tally.told + tally.closed + tally.late + tally.raced;
    assert!(tallies.iter().all(|tally| ended(tally) == 1), "{tallies:?}");
    assert_eq!(worker.running.join().unwrap(), Outcome::Drained);
}
