//! A whole generator against a server that does what it is told, and counts it.

use std::collections::BTreeMap;
use std::io::{
    BufRead as _, BufReader, Lines, PipeReader, PipeWriter, Read as _, Write as _, pipe,
};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::order::{Line, Order, Outcome, Piece};
use crate::scenario::{Rows, Scenario};

/// What the server does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Deed {
    Answer,
    Fail,
    /// 503.
    Refuse,
    Reset,
    CloseBefore,
    CloseWithin,
    /// Answers, and closes without a word.
    CloseAfter,
    Silence,
    Garbage,
}

#[derive(Debug, Default)]
struct Seen {
    deeds: BTreeMap<Deed, u64>,
    /// Requests of each connection.
    connections: Vec<u64>,
    received_bytes: u64,
    sent_bytes: u64,
    /// Until then nobody gets an answer.
    stall_end: Option<Instant>,
}

pub(super) struct Server {
    pub(super) address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

type Script = dyn Fn(u64) -> Deed + Send + Sync;

impl Server {
    /// `script` says what to do with the request of this number, from 0.
    fn start(script: impl Fn(u64) -> Deed + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, seen) = (listener.local_addr().unwrap(), Arc::new(Mutex::default()));
        let server = Self { address, seen: Arc::clone(&seen) };
        let script: Arc<Script> = Arc::new(script);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (seen, script) = (Arc::clone(&seen), Arc::clone(&script));
                thread::spawn(move || attend(stream, &seen, &*script));
            }
        });
        server
    }

    pub(super) fn answering() -> Self {
        Self::start(|_| Deed::Answer)
    }

    pub(super) fn connections(&self) -> u64 {
        self.seen.lock().unwrap().connections.len() as u64
    }

    fn count(&self, deed: Deed) -> u64 {
        self.seen.lock().unwrap().deeds.get(&deed).copied().unwrap_or_default()
    }
}

fn attend(mut stream: TcpStream, seen: &Mutex<Seen>, script: &Script) {
    stream.set_nodelay(true).unwrap();
    let place = {
        let mut seen = seen.lock().unwrap();
        seen.connections.push(0);
        seen.connections.len() - 1
    };
    loop {
        let Some(bytes) = hear(&mut stream) else { return };
        let (deed, stall_end) = {
            let mut seen = seen.lock().unwrap();
            let number = seen.deeds.values().sum();
            let deed = script(number);
            *seen.deeds.entry(deed).or_default() += 1;
            seen.connections[place] += 1;
            seen.received_bytes += bytes;
            (deed, seen.stall_end)
        };
        if let Some(end) = stall_end {
            wait_until(end);
        }
        let bytes = perform(&mut stream, deed);
        seen.lock().unwrap().sent_bytes += bytes;
        if !matches!(deed, Deed::Answer | Deed::Fail | Deed::Refuse) {
            return;
        }
    }
}

/// Bytes of the next request, or `None` at the end.
fn hear(stream: &mut TcpStream) -> Option<u64> {
    let (mut text, mut byte) = (Vec::new(), [0; 1]);
    while !text.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        text.push(byte[0]);
    }
    Some(text.len() as u64)
}

fn perform(stream: &mut TcpStream, deed: Deed) -> u64 {
    let text: &[u8] = match deed {
        Deed::Answer | Deed::CloseAfter => b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        Deed::Fail => b"HTTP/1.1 500 Oh\r\ntransfer-encoding: chunked\r\n\r\n3\r\nbad\r\n0\r\n\r\n",
        Deed::Refuse => b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n",
        Deed::CloseWithin => b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel",
        Deed::Garbage => b"what do you want?\r\n\r\n",
        Deed::Reset | Deed::CloseBefore | Deed::Silence => b"",
    };
    _ = stream.write_all(text);
    match deed {
        Deed::Reset => SockRef::from(&*stream).set_linger(Some(Duration::ZERO)).unwrap(),
        // Until the client has had enough.
        Deed::Silence => drop(stream.read(&mut [0; 1])),
        Deed::Answer | Deed::Fail | Deed::Refuse => {}
        _ => drop(stream.shutdown(Shutdown::Write)),
    }
    text.len() as u64
}

fn wait_until(end: Instant) {
    let (nobody, lock) = (Condvar::new(), Mutex::new(()));
    let rest = end.saturating_duration_since(Instant::now());
    let guard = lock.lock().unwrap();
    drop(nobody.wait_timeout_while(guard, rest, |()| true).unwrap());
}

pub(super) fn order(server: SocketAddr, duration_s: f64) -> Order {
    Order {
        server,
        host: server.to_string(),
        prefix: String::new(),
        scenario: Scenario::load("health").unwrap().2,
        rows: Rows::new(),
        connections: 2,
        rate: None,
        duration_s,
        timeout_s: 5.0,
        window_s: 0.5,
        seed: 1,
    }
}

/// A generator on a thread, and both ends of its pipes.
struct Generator {
    input: PipeWriter,
    lines: Lines<BufReader<PipeReader>>,
    ended: Receiver<u8>,
}

impl Generator {
    fn start(order: &Order) -> Self {
        let ((input, mut words), (output, lines)) = {
            let ((their_input, our_words), (our_lines, their_output)) =
                (pipe().unwrap(), pipe().unwrap());
            ((their_input, our_words), (their_output, our_lines))
        };
        let (end, ended) = channel();
        thread::spawn(move || end.send(super::serve(input, output)));
        writeln!(words, "{}", serde_json::to_string(order).unwrap()).unwrap();
        Self { input: words, lines: BufReader::new(lines).lines(), ended }
    }

    fn hear(&mut self) -> Line {
        serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap()
    }

    fn begin(order: &Order) -> Self {
        let mut generator = Self::start(order);
        assert_eq!(generator.hear(), Line::Ready);
        writeln!(generator.input).unwrap();
        generator
    }
}

/// From the order to the end.
fn run(order: &Order) -> (Vec<Piece>, Outcome) {
    let (mut generator, mut pieces) = (Generator::begin(order), Vec::new());
    loop {
        match generator.hear() {
            Line::Piece(piece) => pieces.push(piece),
            Line::Done(outcome) => {
                drop(generator.input);
                assert_eq!(generator.ended.recv_timeout(Duration::from_secs(5)), Ok(0));
                return (pieces, *outcome);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn every_error_is_counted_by_its_kind_and_none_is_hidden() {
    let server = Server::start(|number| match number {
        20 | 41 => Deed::Silence,
        _ => match number % 8 {
            0 => Deed::Fail,
            1 => Deed::Reset,
            2 => Deed::CloseBefore,
            3 => Deed::CloseWithin,
            4 => Deed::Garbage,
            _ => Deed::Answer,
        },
    });
    let (pieces, outcome) = run(&Order { timeout_s: 0.5, ..order(server.address, 1.0) });
    let traffic = outcome.traffic;
    let expected = [
        ("closed", server.count(Deed::CloseBefore) + server.count(Deed::CloseWithin)),
        ("malformed", server.count(Deed::Garbage)),
        ("reset", server.count(Deed::Reset)),
        ("status 500", server.count(Deed::Fail)),
        ("timeout", 2),
    ];
    let expected = expected.map(|(kind, count)| (kind.to_owned(), count));
    assert_eq!(traffic.errors, BTreeMap::from(expected));
    assert_eq!(traffic.ok + traffic.late, server.count(Deed::Answer));
    assert!(traffic.ok > 50, "{traffic:?}");
    assert_eq!(traffic.connects, server.connections());
    assert_eq!(traffic.latency.count, traffic.ok + traffic.late + 2, "timeouts count, too");
    assert!((500.0..700.0).contains(&traffic.latency.max_ms), "{}", traffic.latency.max_ms);
    assert_eq!((traffic.unsent, traffic.lateness), (0, None));
    assert_eq!(traffic.latency, traffic.service);
    assert_eq!(pieces.iter().map(|piece| piece.ok).sum::<u64>(), traffic.ok);
    assert_eq!(outcome.examples.len(), 6 - 1);
    let fail = "status 500: request `live`: bad";
    assert!(outcome.examples.iter().any(|text| text == fail), "{:?}", outcome.examples);
}

#[test]
fn bytes_and_connections_are_those_that_the_server_saw() {
    let server = Server::answering();
    let mut order = order(server.address, 0.3);
    order.scenario.requests_per_connection = Some(10);
    let traffic = run(&order).1.traffic;
    let seen = server.seen.lock().unwrap();
    assert_eq!(traffic.errors, BTreeMap::new());
    assert_eq!(
        (traffic.sent_bytes, traffic.received_bytes),
        (seen.received_bytes, seen.sent_bytes)
    );
    assert_eq!(traffic.connects, seen.connections.len() as u64);
    let full = seen.connections.iter().filter(|requests| **requests == 10).count();
    assert!(full > 2 && full + 2 >= seen.connections.len(), "{:?}", seen.connections);
}

#[test]
fn a_connection_that_was_closed_while_idle_is_replaced_without_an_error() {
    let server = Server::start(|_| Deed::CloseAfter);
    // So rarely that a busy server, too, has closed before the next one.
    let traffic = run(&Order { rate: Some(10.0), ..order(server.address, 2.0) }).1.traffic;
    assert_eq!((traffic.errors, traffic.ok + traffic.late), (BTreeMap::new(), 20));
    assert_eq!(traffic.connects, 20);
}

/// A server that answers nobody for a second, once.
fn stalling() -> Server {
    let (start, stall) = (Instant::now(), Duration::from_secs(1));
    let server = Server::answering();
    let seen = Arc::clone(&server.seen);
    thread::spawn(move || {
        let begin = start + stall;
        wait_until(begin);
        seen.lock().unwrap().stall_end = Some(begin + stall);
    });
    server
}

#[test]
fn an_open_loop_shows_a_stall_that_a_closed_one_hides() {
    let closed = thread::spawn(|| run(&order(stalling().address, 3.0)).1.traffic);
    let server = stalling();
    let open = run(&Order { rate: Some(200.0), ..order(server.address, 3.0) }).1.traffic;
    let closed = closed.join().unwrap();
    eprintln!("p99: open {} ms, closed {} ms", open.latency.p99_ms, closed.latency.p99_ms);
    assert!((900.0..1_500.0).contains(&open.latency.p99_ms), "{}", open.latency.p99_ms);
    assert!(open.service.p99_ms < 100.0, "{}", open.service.p99_ms);
    assert!(closed.latency.p99_ms < 100.0, "{}", closed.latency.p99_ms);
    assert!(closed.latency.max_ms > 900.0, "{}", closed.latency.max_ms);
    assert_eq!(open.latency.count, 600);
}

#[test]
fn an_open_loop_keeps_its_rate() {
    let server = Server::answering();
    let (pieces, outcome) = run(&Order { rate: Some(500.0), ..order(server.address, 2.0) });
    let traffic = outcome.traffic;
    // What the machine does to the last few of them must not matter.
    assert!((950..=1000).contains(&traffic.ok), "{}", traffic.ok);
    assert_eq!((traffic.ok + traffic.late, traffic.unsent), (1000, 0));
    assert_eq!(pieces.iter().map(|piece| piece.index).collect::<Vec<_>>(), [0, 1, 2, 3]);
    let counts: Vec<u64> = pieces.iter().map(|piece| piece.ok).collect();
    assert!(counts.iter().all(|count| (100..=400).contains(count)), "{counts:?}");
    let lateness = traffic.lateness.unwrap();
    eprintln!("lateness: p50 {} ms, p99 {} ms", lateness.p50_ms, lateness.p99_ms);
    assert!(lateness.count > 500, "{}", lateness.count);
    let seen = server.seen.lock().unwrap();
    let spread = seen.connections[0].abs_diff(seen.connections[1]);
    assert!(spread < 200, "each connection gets its share: {:?}", seen.connections);
}

#[test]
fn what_waits_at_the_end_is_sent_late_and_its_waiting_is_not_hidden() {
    let server = Server::answering();
    server.seen.lock().unwrap().stall_end = Some(Instant::now() + Duration::from_millis(1_500));
    let order = Order { rate: Some(100.0), connections: 1, ..order(server.address, 1.0) };
    let traffic = run(&order).1.traffic;
    assert_eq!((traffic.ok, traffic.late, traffic.unsent), (0, 100, 0));
    // Due evenly over a second, and answered half a second after its end at the earliest.
    assert!(traffic.latency.p50_ms > 950.0, "{}", traffic.latency.p50_ms);
    assert!(traffic.service.p50_ms < 100.0, "{}", traffic.service.p50_ms);
}

#[test]
fn what_is_not_sent_within_the_timeout_is_never_sent_and_its_waiting_counts() {
    let server = Server::answering();
    server.seen.lock().unwrap().stall_end = Some(Instant::now() + Duration::from_secs(60));
    let order =
        Order { rate: Some(100.0), connections: 1, timeout_s: 1.2, ..order(server.address, 1.0) };
    let traffic = run(&order).1.traffic;
    // The one connection waits for its timeout, and once more with the next request.
    assert_eq!((traffic.ok, traffic.late, traffic.errors["timeout"]), (0, 0, 2));
    assert_eq!((traffic.unsent, traffic.latency.count), (98, 100));
    assert!(traffic.latency.p50_ms > 1_000.0, "{}", traffic.latency.p50_ms);
}

fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn a_server_that_is_not_there_is_refused_without_a_busy_loop() {
    let outcome = run(&order(nobody(), 0.5)).1;
    let refused = outcome.traffic.errors["refused"];
    assert!((10..=102).contains(&refused), "{refused}");
    assert_eq!((outcome.traffic.ok, outcome.traffic.connects), (0, 0));
    assert_eq!(outcome.examples.len(), 1);
}

#[test]
fn a_server_that_has_no_room_is_not_asked_again_at_once() {
    let server = Server::start(|_| Deed::Refuse);
    let traffic = run(&order(server.address, 0.5)).1.traffic;
    let refused = traffic.errors["status 503"];
    // Two clients, a pause of 10 ms.
    assert!((10..=102).contains(&refused), "{refused}");
}

#[test]
fn requests_become_due_while_nobody_listens() {
    let order = Order { rate: Some(1_000.0), ..order(nobody(), 0.5) };
    let traffic = run(&order).1.traffic;
    assert_eq!((traffic.errors["refused"], traffic.unsent), (500, 0));
}

#[test]
fn the_end_of_its_input_ends_it_at_once() {
    let server = Server::answering();
    let order = order(server.address, 60.0);
    let mut waiting = Generator::start(&order);
    assert_eq!(waiting.hear(), Line::Ready);
    for generator in [Generator::begin(&order), waiting] {
        drop(generator.input);
        assert_eq!(generator.ended.recv_timeout(Duration::from_secs(5)), Ok(1));
    }
}

#[test]
fn an_order_that_cannot_be_carried_out_is_answered_with_the_reason() {
    let failure = |order: Order| match Generator::start(&order).hear() {
        Line::Failed(text) => text,
        other => panic!("{other:?}"),
    };
    let order = order(nobody(), 1.0);
    let text = failure(Order { connections: usize::MAX >> 1, ..order.clone() });
    assert!(text.contains("descriptors"), "{text}");
    let text = failure(Order { duration_s: 0.0, ..order.clone() });
    assert!(text.contains("duration"), "{text}");
    let scenario = Scenario::load("reads").unwrap().2;
    let text = failure(Order { scenario, ..order });
    assert!(text.contains("no rows `item`"), "{text}");
}
