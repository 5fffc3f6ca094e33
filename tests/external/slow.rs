//! Clients that take their time: each is cut at its deadline, and nobody else waits for them.
//!
//! Real deadlines, real sockets and the release build, since what others wait is measured; the same to the
//! millisecond, on a clock of its own, is among the worker's tests, and so is the idle time of 75 s between
//! requests.

mod crowd;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use self::crowd::{Crowd, Kind};
use crate::harness::wait::pause;
use crate::harness::{Connection, Database, Launch, Peace, Turn, get};
use crate::wrk::release;

const SLOW: usize = 2_000;
/// What a connection that waits may cost.
const WAITING_MAX_BYTES: u64 = 64 * 1024;
/// What README publishes for the first byte, a head and a body that stops, or begins too slowly.
const LIMIT: Duration = Duration::from_secs(10);
/// How late a cut may come.
const LATE_MAX: Duration = Duration::from_secs(2);
/// Into how many parts the time is cut to compare them.
const PARTS: usize = 11;
/// Between two timed requests.
const PACE: Duration = Duration::from_millis(1);

const UPLOADS: usize = 1_000;
const UPLOADERS: usize = 8;
const BODY_BYTES: usize = 1024 * 1024;
const UPLOADS_MAX_BYTES: u64 = 300 * 1024 * 1024;

#[test]
fn two_thousand_slow_clients_are_cut_in_time_and_hold_nobody_up() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let (peace, other) = (one_worker(&turn, &database), one_worker(&turn, &database));
    let worker = worker(&peace);
    let before_bytes = memory_bytes(worker, HELD);
    let over = AtomicBool::new(false);
    let (mut crowd, mut most_bytes) = (Crowd::new(peace.address(), SLOW), before_bytes);
    let (beside_many, beside_nobody) = thread::scope(|scope| {
        let timed = scope.spawn(|| timed(peace.address(), other.address(), &over));
        while !crowd.is_gone() {
            crowd.go_on();
            most_bytes = most_bytes.max(memory_bytes(worker, HELD));
        }
        over.store(true, Ordering::Relaxed);
        timed.join().unwrap()
    });

    for kind in Kind::ALL {
        let (first, last) = crowd.ends_of(kind);
        eprintln!("{kind:?}: cut between {first:?} and {last:?}");
        assert!(first >= LIMIT, "{kind:?} were cut early: {first:?}");
        assert!(last <= LIMIT + LATE_MAX, "{kind:?} were cut late: {last:?}");
    }
    let each_bytes = (most_bytes - before_bytes) / SLOW as u64;
    let (many, nobody) = (p99(&beside_many), p99(&beside_nobody));
    let ratio = p99_ratio(&beside_many, &beside_nobody);
    eprintln!("p99 beside {SLOW} {many:?}, beside nobody {nobody:?}: x {ratio:.2}");
    eprintln!("{each_bytes} bytes for each");
    assert!(each_bytes <= WAITING_MAX_BYTES, "{each_bytes}");
    assert!(ratio <= 2.0, "{many:?} instead of {nobody:?}: x {ratio:.2}");
}

#[test]
fn a_thousand_large_bodies_at_once_stay_within_their_memory() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let peace = one_worker(&turn, &database);
    let before_bytes = memory_bytes(worker(&peace), HELD);
    let address = peace.address();
    let mut uploads: Vec<TcpStream> = thread::scope(|scope| {
        let upload = || (0..UPLOADS / UPLOADERS).map(|_| all_but_one_byte(address)).collect();
        let threads: Vec<_> = (0..UPLOADERS).map(|_| scope.spawn(upload)).collect();
        threads
            .into_iter()
            .flat_map(|thread| -> Vec<TcpStream> { thread.join().unwrap() })
            .collect()
    });
    let most_bytes = memory_bytes(worker(&peace), MOST_HELD);
    let statuses: Vec<u16> = uploads.iter_mut().map(finish).collect();

    let count = |status: u16| statuses.iter().filter(|one| **one == status).count();
    let (read, refused) = (count(422), count(503));
    let more_bytes = most_bytes - before_bytes;
    eprintln!("{read} bodies read, {refused} refused; {} MiB more", more_bytes >> 20);
    assert_eq!(read + refused, UPLOADS, "{statuses:?}");
    assert!(read >= 60, "64 MiB of them are taken: {read}");
    assert!(more_bytes <= UPLOADS_MAX_BYTES, "{more_bytes}");
    assert_eq!(peace.ask(&get("/users")).status, 200);
}

/// With descriptors for everybody, which it gets from us.
fn one_worker(turn: &Turn, database: &Database<'_>) -> Peace {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let needed = 2 * SLOW as u64 + 512;
    assert!(hard >= needed, "the limit of open files is {hard}, and {needed} are needed");
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(needed), hard).unwrap();
    Launch::on(turn, database).program(release("peace-supervisor")).workers(1).serve()
}

fn worker(peace: &Peace) -> i32 {
    peace.workers()[&0]
}

/// How long each request of a normal client takes, until it is over, by turns with a server that has no
/// other clients, so that a slow moment of the machine is both's. None may fail.
fn timed(
    server: SocketAddr,
    other: SocketAddr,
    over: &AtomicBool,
) -> (Vec<Duration>, Vec<Duration>) {
    let request = get("/users");
    let mut connections = [server, other].map(|one| Connection::open(one).unwrap());
    let mut times = [Vec::new(), Vec::new()];
    while !over.load(Ordering::Relaxed) {
        for (connection, times) in connections.iter_mut().zip(&mut times) {
            let start = Instant::now();
            assert_eq!(connection.send(&request).unwrap().status, 200);
            times.push(start.elapsed());
            pause(PACE);
        }
    }
    times.into()
}

fn p99(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

/// How many times as long one's p99 is as the other's: the median of what each part of the time says,
/// since one slow moment of the machine that met more of one's requests is not the whole.
fn p99_ratio(ones: &[Duration], others: &[Duration]) -> f64 {
    let part = ones.len().min(others.len()) / PARTS;
    assert!(part >= 100, "{part} requests in a {PARTS}th of the time are too few for a p99");
    let parts = ones.chunks_exact(part).zip(others.chunks_exact(part));
    let mut ratios: Vec<f64> =
        parts.map(|(one, other)| p99(one).as_secs_f64() / p99(other).as_secs_f64()).collect();
    ratios.sort_unstable_by(f64::total_cmp);
    ratios[ratios.len() / 2]
}

/// What a process holds of the machine's memory, and the most that it held. Source: proc(5).
const HELD: &str = "VmRSS:";
const MOST_HELD: &str = "VmHWM:";

fn memory_bytes(pid: i32, line: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let text = status.lines().find_map(|one| one.strip_prefix(line)).unwrap();
    text.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// The last byte of an upload.
const LAST: &[u8] = b"}";

/// An upload that is nearly there.
fn all_but_one_byte(server: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(server).unwrap();
    for set in [TcpStream::set_read_timeout, TcpStream::set_write_timeout] {
        set(&stream, Some(Duration::from_secs(10))).unwrap();
    }
    let head = format!(
        "POST /users HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         content-length: {BODY_BYTES}\r\n\r\n"
    );
    let text = "x".repeat(BODY_BYTES - 8);
    // One that is refused meanwhile is found out when its answer is read.
    let _ = stream.write_all(format!(r#"{head}{{"a":"{text}""#).as_bytes());
    stream
}

/// The status that an upload gets in the end.
fn finish(upload: &mut TcpStream) -> u16 {
    let _ = upload.write_all(LAST);
    let mut start = [0; 12];
    upload.read_exact(&mut start).unwrap();
    std::str::from_utf8(&start[9..]).unwrap().parse().unwrap()
}
