//! A process that runs out of descriptors goes on serving, and accepts again when there are some.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use worker::{
    Config, Context, DatabaseConfig, HttpError, Inputs, Meters, Order, Orders, Outcome, Reply,
    Routes,
};

async fn hello(_: Context<()>) -> Result<Reply<&'static str>, HttpError> {
    Ok(Reply("hello"))
}

fn ask(stream: &mut TcpStream) {
    stream.write_all(b"GET /hello HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
}

fn is_answered(stream: &mut TcpStream) -> bool {
    let mut bytes = [0; 1024];
    matches!(stream.read(&mut bytes), Ok(length) if bytes[..length].starts_with(b"HTTP/1.1 200 "))
}

/// Take all descriptors but one.
fn exhaust() -> Vec<File> {
    let mut files: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    files.pop();
    files
}

#[test]
fn a_worker_without_descriptors_serves_on_and_recovers() {
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(256), ..before }).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (channel, theirs) = UnixStream::pair().unwrap();
    let (is_ready, ready) = mpsc::channel();
    let running = std::thread::spawn(move || {
        let wake = theirs.try_clone().unwrap().into();
        let next = move || (&theirs).read(&mut [0]).is_ok().then_some(Order::Drain);
        let inputs = Inputs {
            listeners: vec![listener],
            unix_listeners: Vec::new(),
            replaces: false,
            meters: Meters::detached(0),
            orders: Orders { wake, next: Box::new(next) },
            on_ready: Box::new(move || is_ready.send(()).unwrap()),
            on_beat: Box::new(|_| {}),
            on_leaving: Box::new(|| {}),
            on_answered: None,
            on_unfostered: Box::new(|_| {}),
        };
        // A path that no socket can have: trying to connect to it takes no descriptor.
        let server = format!("host=/{} user=nobody dbname=none", "x".repeat(200)).parse().unwrap();
        let database = DatabaseConfig::new(server, 0, 1);
        let config = Config { keepalive_grace: Duration::ZERO, ..Config::default() };
        let build = async |_| {
            let mut routes = Routes::new();
            routes.get("/hello", "hello", hello);
            Ok(routes.seal(Rc::new(()))?)
        };
        worker::run(inputs, config, database, build).unwrap()
    });
    ready.recv_timeout(Duration::from_secs(5)).unwrap();
    let mut old = TcpStream::connect(address).unwrap();
    ask(&mut old);
    assert!(is_answered(&mut old));

    let files = exhaust();
    let mut new = TcpStream::connect(address).unwrap();
    ask(&mut new);
    // The worker has no descriptor for the new one; the old one is served as before, and by the time it
    // has been, the loop has come by the listener.
    for _ in 0..10 {
        ask(&mut old);
        assert!(is_answered(&mut old));
    }
    new.set_nonblocking(true).unwrap();
    assert!(!is_answered(&mut new), "it was accepted after all");

    drop(files);
    new.set_nonblocking(false).unwrap();
    new.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert!(is_answered(&mut new), "the worker did not accept again");
    (&channel).write_all(b"d").unwrap();
    assert_eq!(running.join().unwrap(), Outcome::Drained);
}
