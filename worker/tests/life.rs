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
use worker::{
    Config, Context, Database, DatabaseConfig, DbError, Empty, HttpError, Inputs, Load, Order,
    Orders, Outcome, Problem, Reply, Routes, kinds,
};

struct Down(DbError);

impl From<Down> for Problem {
    fn from(down: Down) -> Self {
        Self::new(&kinds::UNAVAILABLE).log(down.0.to_string())
    }
}

async fn hello(_: Context<Database>) -> Result<Reply<&'static str>, HttpError> {
    Ok(Reply("hello"))
}

async fn rows(cx: Context<Database>) -> Result<Reply<usize>, Down> {
    Ok(Reply(cx.app().rows("SELECT 1", &[]).await.map_err(Down)?.len()))
}

async fn never(_: Context<Database>) -> Result<Empty, HttpError> {
    std::future::pending().await
}

/// Signals go to the whole process, so there is one worker at a time.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A worker on a thread, and the supervisor's side of it.
struct Worker {
    address: SocketAddr,
    channel: UnixStream,
    ready: mpsc::Receiver<()>,
    beats: Arc<AtomicU64>,
    running: JoinHandle<Outcome>,
}

fn start(before: impl FnOnce(SocketAddr) + Send + 'static) -> Worker {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (channel, theirs) = UnixStream::pair().unwrap();
    let (is_ready, ready) = mpsc::channel();
    let beats = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&beats);
    let running = std::thread::spawn(move || {
        before(address);
        let inputs = Inputs {
            listeners: vec![listener],
            orders: orders(theirs),
            on_ready: Box::new(move || is_ready.send(()).unwrap()),
            on_beat: Box::new(move |_: &Load| {
                counted.fetch_add(1, Ordering::Relaxed);
            }),
        };
        let server = "host=/nonexistent user=nobody dbname=none".parse().unwrap();
        let config = Config {
            keepalive_grace: Duration::from_millis(700),
            ..Config::new(DatabaseConfig::new(server, 0, 1))
        };
        let build = async |database| {
            let mut routes = Routes::new();
            routes.get("/hello", "hello", hello);
            routes.get("/rows", "rows", rows);
            routes.get("/never", "never", never);
            Ok(routes.seal(Rc::new(database))?)
        };
        worker::run(inputs, config, build).unwrap()
    });
    Worker { address, channel, ready, beats, running }
}

/// One byte is one order; the end of the channel means that the supervisor died.
fn orders(channel: UnixStream) -> Orders {
    let wake = channel.try_clone().unwrap().into();
    let next = move || match (&channel).read(&mut [0]) {
        Ok(0) => Some(Order::Orphaned),
        Ok(_) => Some(Order::Drain),
        Err(_) => None,
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
