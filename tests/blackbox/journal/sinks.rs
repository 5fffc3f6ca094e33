//! A full disk, a reader that does not read, one that was killed: requests go on as if the log were well. And
//! what readers get who are quick, or slow.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use serde_json::Value;

use crate::harness::folder::Folder;
use crate::harness::peace::signal_to;
use crate::harness::wait::{pause, until};
use crate::harness::{Connection, Database, Request, Turn, get};
use crate::zero_loss::short_or_long;

const PROGRAM: &str = env!("CARGO_BIN_EXE_peace-supervisor");
const SOON: Duration = Duration::from_secs(10);
/// Requests in a row to one server; then it is another one's turn.
const SLICE: usize = 200;

/// What is asked for, which is nowhere: a line of it has more than a thousand bytes.
fn nothing() -> Request {
    get(format!("/{}", "x".repeat(1000)))
}

/// The program, with its standard error stream where the test has put it.
struct Served {
    child: Child,
    address: SocketAddr,
    took: Vec<Duration>,
    _folder: Folder,
}

impl Served {
    #[allow(clippy::zombie_processes, reason = "`Drop` waits for it")]
    fn start(database: &Database<'_>, workers: usize, log: impl Into<Stdio>) -> Self {
        let folder = Folder::new();
        // The log may be mute, so the port is chosen here.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = Command::new(PROGRAM);
        command.args(["--bind", &address.to_string(), "--pool-size", "1"]);
        command.args(["--workers", &workers.to_string()]);
        command.args(["--log-format", "json"]).current_dir(folder.path());
        command.env_clear().env("DATABASE_URL", database.url());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().expect("the program runs");
        let served = Self { child, address, took: Vec::new(), _folder: folder };
        until("it serves", 3 * SOON, || get("/health/live").fresh(address).ok());
        served
    }

    /// Asks a slice of requests, none of which may fail.
    fn ask(&mut self) {
        let mut connection = Connection::open(self.address).unwrap();
        let nothing = nothing();
        for _ in 0..SLICE {
            let begin = Instant::now();
            assert_eq!(connection.send(&nothing).unwrap().status, 404);
            self.took.push(begin.elapsed());
        }
    }

    /// What one request of a hundred took, or more.
    fn p99(&mut self) -> Duration {
        self.took.sort_unstable();
        self.took[self.took.len() * 99 / 100]
    }

    /// Its end: it has nothing to wait for.
    fn stop(mut self) {
        signal_to(i32::try_from(self.child.id()).unwrap(), nix::sys::signal::Signal::SIGTERM);
        let status = until("it stops", SOON, || self.child.try_wait().unwrap());
        assert_eq!(status.code(), Some(0));
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // Its children follow by themselves.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A server whose log is read as it comes.
fn healthy(database: &Database<'_>) -> Served {
    let mut served = Served::start(database, 1, Stdio::piped());
    let mut log = served.child.stderr.take().unwrap();
    thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    served
}

/// Asks both in turn, and holds the slow answers of the one against those of the other.
fn compare(healthy: &mut Served, sick: &mut Served) {
    let time = Duration::from_secs(short_or_long(4, 60));
    let begin = Instant::now();
    while begin.elapsed() < time || sick.took.len() < 10 * SLICE {
        healthy.ask();
        sick.ask();
    }
    let (well, ill) = (healthy.p99(), sick.p99());
    eprintln!("{} requests each: 99 % within {well:?}, and within {ill:?}", sick.took.len());
    // On a busy machine a moment more or less says nothing.
    assert!(ill <= 2 * well + Duration::from_millis(5), "{ill:?} instead of {well:?}");
}

#[test]
fn a_full_disk_under_the_log_costs_no_request() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let (mut well, mut ill) = (healthy(&database), Served::start(&database, 1, full));
    compare(&mut well, &mut ill);
    ill.stop();
}

#[test]
fn a_log_that_nobody_reads_costs_no_request_and_tells_later_what_is_missing() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let (mut well, mut ill) = (healthy(&database), Served::start(&database, 1, Stdio::piped()));
    let mut log = BufReader::new(ill.child.stderr.take().unwrap());
    compare(&mut well, &mut ill);
    // Every line was written, or is counted as lost, or is still to come.
    let asked = ill.took.len() as u64;
    let (mut written, mut lost) = (0, 0);
    let begin = Instant::now();
    while lost == 0 {
        assert!(begin.elapsed() < SOON, "nobody told of lost lines");
        let line = next_line(&mut log);
        written += u64::from(line["target"] == "access");
        lost += line["lost"].as_u64().unwrap_or_default();
    }
    // And those who asked whether it serves.
    assert!((asked..asked + 10).contains(&(written + lost)), "{written} + {lost} of {asked}");
    let reading = thread::spawn(move || log.read_to_end(&mut Vec::new()));
    ill.stop();
    assert!(reading.join().unwrap().is_ok());
}

fn next_line(log: &mut BufReader<ChildStderr>) -> Value {
    let mut line = String::new();
    log.read_line(&mut line).unwrap();
    serde_json::from_str(&line).expect(&line)
}

#[test]
fn a_reader_of_the_log_that_was_killed_costs_no_request() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let mut reader =
        Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let log = reader.stdin.take().unwrap();
    let (mut well, mut ill) = (healthy(&database), Served::start(&database, 1, log));
    ill.ask();
    reader.kill().unwrap();
    reader.wait().unwrap();
    compare(&mut well, &mut ill);
    ill.stop();
}

/// Asks that many requests over several connections, many at a time.
fn crowd(server: SocketAddr, requests: usize) {
    const CLIENTS: usize = 4;
    const AT_ONCE: usize = 20;
    let client = || {
        let (mut connection, nothing) = (Connection::open(server).unwrap(), nothing());
        for _ in 0..requests / CLIENTS / AT_ONCE {
            (0..AT_ONCE).for_each(|_| connection.begin(&nothing).unwrap());
            for _ in 0..AT_ONCE {
                assert_eq!(connection.finish(&nothing).unwrap().status, 404);
            }
        }
    };
    thread::scope(|scope| (0..CLIENTS).for_each(|_| drop(scope.spawn(client))));
}

/// How many of the lines are of requests of a crowd, and how many were lost by what others say.
fn told(log: &str) -> (u64, u64) {
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).expect(line));
    lines.fold((0, 0), |(of_requests, lost), line| {
        let is_request = line["path"].as_str().is_some_and(|path| path.starts_with("/xx"));
        (of_requests + u64::from(is_request), lost + line["lost"].as_u64().unwrap_or_default())
    })
}

#[test]
fn a_reader_who_reads_gets_every_line() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let folder = Folder::new();
    let path = folder.path().join("log");
    let mut reader = Command::new("cat");
    let reader = reader.stdin(Stdio::piped()).stdout(File::create(&path).unwrap());
    let mut reader = reader.spawn().unwrap();
    let served = Served::start(&database, 2, reader.stdin.take().unwrap());
    let requests = short_or_long(10_000, 200_000);
    crowd(served.address, requests);
    served.stop();
    assert!(reader.wait().unwrap().success());
    assert_eq!(told(&fs::read_to_string(&path).unwrap()), (requests as u64, 0));
}

#[test]
fn a_slow_reader_of_a_socket_gets_whole_lines_and_the_number_of_all_others() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let (mut reader, log) = UnixStream::pair().unwrap();
    setsockopt(&log, sockopt::SndBuf, &(16 * 1024)).unwrap();
    let served = Served::start(&database, 2, OwnedFd::from(log));
    let requests = short_or_long(10_000, 100_000);
    let is_slow = AtomicBool::new(true);
    let text = thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let (mut text, mut part) = (Vec::new(), vec![0; 5000]);
            while is_slow.load(Ordering::Relaxed) {
                let length = reader.read(&mut part).unwrap();
                text.extend_from_slice(&part[..length]);
                pause(Duration::from_millis(10));
            }
            reader.read_to_end(&mut text).unwrap();
            String::from_utf8(text).unwrap()
        });
        crowd(served.address, requests);
        is_slow.store(false, Ordering::Relaxed);
        served.stop();
        reading.join().unwrap()
    });
    let (written, lost) = told(&text);
    assert!(lost > 0, "nobody holds ten megabytes");
    // And who asked whether it serves, and lines of no request that were lost.
    let all = requests as u64..requests as u64 + 10;
    assert!(all.contains(&(written + lost)), "{written} + {lost} of {requests}");
}
