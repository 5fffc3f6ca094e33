//! `--bind unix:PATH`: one socket with a name, from which all workers accept.

use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rustix::net::{RecvFlags, recv};

use crate::harness::client::PATIENCE;
use crate::harness::log::Event;
use crate::harness::peace::signal_to;
use crate::harness::wait::{pause, until_true};
use crate::harness::{Database, Launch, Request, Turn, get, post, proc};
use crate::upgrade::status;
use crate::zero_loss::short_or_long;

const SOON: Duration = Duration::from_secs(20);
/// As a TCP client writes it; nobody asks what it is.
const HOST: &str = "127.0.0.1:80";

/// A server at a socket in its folder.
fn launch(turn: &Turn, database: &Database<'_>, workers: usize) -> (Launch, PathBuf) {
    let launch = crate::zero_loss::launch(turn, database, workers);
    let path = launch.folder().path().join("api.sock");
    (launch.args(["--bind", &format!("unix:{}", path.display())]), path)
}

/// A connection that can be used again.
pub(crate) struct Client(BufReader<UnixStream>);

impl Client {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Whether the other side has not closed it while nobody asked.
    fn is_open(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        !matches!(recv(self.0.get_ref(), &mut [0; 1], flags), Ok((_, 0)))
    }

    pub(crate) fn begin(&mut self, request: &Request) -> io::Result<()> {
        self.0.get_mut().write_all(&request.bytes(HOST.parse().unwrap()))
    }

    /// The status of the answer, and whether the connection ends with it.
    pub(crate) fn finish(&mut self) -> io::Result<(u16, bool)> {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            match line.trim_end() {
                "" => break,
                line => head.push(line.to_ascii_lowercase()),
            }
        }
        let value = |name: &str| head.iter().find_map(|line| line.strip_prefix(name));
        let length = value("content-length: ").and_then(|text| text.parse().ok()).unwrap_or(0);
        self.0.read_exact(&mut vec![0; length])?;
        let status = head[0].get(9..12).and_then(|text| text.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(head[0].clone()))?;
        Ok((status, value("connection: ") == Some("close")))
    }
}

/// One request over a connection of its own.
pub(crate) fn ask(path: &Path, request: &Request) -> io::Result<u16> {
    let mut client = Client::open(path)?;
    client.begin(request)?;
    client.finish().map(|(status, _)| status)
}

/// Clients that ask all the time: some come anew for each request, one keeps its connection as long as it is
/// told to.
struct Crowd {
    over: Arc<AtomicBool>,
    clients: Vec<JoinHandle<(usize, Vec<String>)>>,
}

impl Crowd {
    fn start(path: &Path) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let client = |keeps: bool| {
            let (path, over) = (path.to_owned(), Arc::clone(&over));
            thread::spawn(move || asks(&path, keeps, &over))
        };
        let clients = [false, false, false, true].map(client).into();
        Self { over, clients }
    }

    fn check_nothing_lost(mut self, what: &str) {
        self.over.store(true, Ordering::Relaxed);
        let ended = self.clients.drain(..).map(|client| client.join().expect("a client"));
        let (answered, lost): (Vec<usize>, Vec<Vec<String>>) = ended.unzip();
        let (answered, lost) = (answered.iter().sum::<usize>(), lost.concat());
        eprintln!("{what}: {answered} answered, {} lost", lost.len());
        assert!(lost.is_empty() && answered > 100, "{what}: {answered} answered, {lost:?}");
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn asks(path: &Path, keeps: bool, over: &AtomicBool) -> (usize, Vec<String>) {
    let (mut answered, mut lost, mut kept) = (0, Vec::new(), None);
    while !over.load(Ordering::Relaxed) {
        match ask_over(kept.take(), path) {
            Ok((client, 200, ends)) => {
                answered += 1;
                kept = Some(client).filter(|_| keeps && !ends);
            }
            Ok((_, status, _)) => lost.push(status.to_string()),
            Err(error) => lost.push(error.to_string()),
        }
        pause(Duration::from_millis(3));
    }
    (answered, lost)
}

/// One request, over a connection that there is or a new one.
fn ask_over(kept: Option<Client>, path: &Path) -> io::Result<(Client, u16, bool)> {
    let kept = kept.filter(Client::is_open);
    let mut client = kept.map_or_else(|| Client::open(path), Ok)?;
    client.begin(&get("/health/live"))?;
    let (status, ends) = client.finish()?;
    Ok((client, status, ends))
}

fn inode(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap().ino()
}

#[test]
fn rolls_scalings_and_upgrades_lose_nothing_and_the_socket_stays_the_same() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let (launch, path) = launch(&turn, &database, 2);
    let mut peace = launch.serve();
    let found = fs::symlink_metadata(&path).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o777, 0o666);
    let descriptors = proc::descriptors(peace.pid());
    let crowd = Crowd::start(&path);
    for _ in 0..short_or_long(2, 20) {
        for words in
            [&["reload"][..], &["scale", "4"], &["upgrade"], &["scale", "1"], &["scale", "2"]]
        {
            let done = peace.ctl(words.iter().copied().chain(["--wait"]));
            assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
            assert_eq!(inode(&path), found.ino(), "{words:?}");
        }
    }
    let workers = peace.workers();
    signal_to(workers[&0], Signal::SIGSTOP);
    assert_eq!(ask(&path, &get("/users")).unwrap(), 200, "the other one hears it");
    signal_to(workers[&0], Signal::SIGCONT);
    crowd.check_nothing_lost("a unix socket");
    assert_eq!(proc::descriptors(peace.pid()), descriptors, "none was left open or lost");
    assert_eq!(status(&peace)["ready"], 2);
    assert_eq!(peace.stop(SOON).code, Some(0));
    assert!(!path.exists(), "a stop takes the name away");
}

#[test]
fn who_is_queued_at_a_stop_is_answered_and_who_comes_later_finds_nobody() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let (launch, path) = launch(&turn, &database, 1);
    let mut peace = launch.serve();
    let worker = peace.workers()[&0];
    signal_to(worker, Signal::SIGSTOP);
    let mut clients: Vec<Client> = (0..20).map(|_| Client::open(&path).unwrap()).collect();
    for client in &mut clients {
        client.begin(&get("/health/live")).unwrap();
    }
    peace.signal(Signal::SIGTERM);
    peace.await_event("stopping", 0, SOON, |event| event.is("stopping"));
    until_true("the name is gone", SOON, || !path.exists());
    let late = Client::open(&path).err().map(|error| error.kind());
    assert_eq!(late, Some(ErrorKind::NotFound));
    signal_to(worker, Signal::SIGCONT);
    let answers = clients.iter_mut().map(|client| client.finish().unwrap().0);
    assert_eq!(answers.collect::<Vec<_>>(), [200; 20]);
    assert_eq!(peace.end(SOON).code, Some(0));
}

#[test]
fn a_full_worker_says_so_there_as_anywhere() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let (launch, path) = launch(&turn, &database, 1);
    let _peace = launch.args(["--max-connections", "1"]).serve();
    let seated = Client::open(&path).unwrap();
    assert_eq!(ask(&path, &get("/health/live")).unwrap(), 503);
    drop(seated);
    until_true("there is a seat again", SOON, || {
        ask(&path, &get("/health/live")).is_ok_and(|status| status == 200)
    });
}

#[test]
fn a_full_worker_leaves_who_comes_to_a_sibling_that_has_room() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let (launch, path) = launch(&turn, &database, 2);
    let peace = launch.args(["--max-connections", "2"]).serve();
    // Whoever has them: one worker is full, the other has a seat.
    let _seated = [(); 3].map(|()| Client::open(&path).unwrap());
    until_true("they have their seats", SOON, || {
        let workers = status(&peace)["workers"].as_array().cloned().unwrap_or_default();
        workers.iter().filter_map(|worker| worker["connections"].as_u64()).sum::<u64>() == 3
    });
    // Longer than anybody waits in the queue of a full worker.
    let until = Instant::now() + Duration::from_secs(3);
    let (mut asked, mut refused) = (0, 0);
    while Instant::now() < until {
        asked += 1;
        refused += usize::from(ask(&path, &get("/health/live")).unwrap() != 200);
    }
    assert!(asked > 100 && refused == 0, "{refused} of {asked} were refused");
}

#[test]
fn a_socket_that_was_left_is_replaced_and_what_is_somebody_s_stays() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let (launch, path) = launch(&turn, &database, 1);
    let mut peace = launch.serve();
    let refused = peace.second_copy(SOON);
    let told = refused.lines.last().unwrap();
    assert_eq!(refused.code, Some(71), "{told}");
    assert!(told.contains(&format!("unix:{} is already in use", path.display())), "{told}");
    assert_eq!(ask(&path, &get("/users")).unwrap(), 200, "it serves on");
    peace.kill();
    peace.await_nothing_left(SOON);
    assert!(path.exists(), "nobody was there to remove it");
    peace.start_again();
    peace.await_serving();
    assert_eq!(ask(&path, &get("/users")).unwrap(), 200);
    assert_eq!(peace.stop(SOON).code, Some(0));
    fs::write(&path, "precious").unwrap();
    let refused = peace.second_copy(SOON);
    let told = refused.lines.last().unwrap();
    assert_eq!(refused.code, Some(71), "{told}");
    assert!(told.contains("a file that is no socket"), "{told}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn a_path_that_cannot_be_is_refused_in_one_line() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let long = format!("unix:/{}", "x".repeat(150));
    for (bind, code, why) in [
        (long.as_str(), 64, "151 bytes are too long for the path of a unix socket"),
        ("unix:api.sock", 64, "not a path from the root"),
        ("unix:/nowhere/at/all/api.sock", 71, "cannot listen on unix:/nowhere/at/all/api.sock"),
    ] {
        let ended = Launch::on(&turn, &database).args(["--bind", bind]).run(SOON);
        let told = ended.lines.last().unwrap();
        assert_eq!(ended.code, Some(code), "{told}");
        assert!(told.contains(why), "{told}");
    }
}

#[test]
fn its_clients_are_one_address_unless_the_proxy_there_is_believed() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    for (proxies, from_elsewhere) in [("127.0.0.0/8", 429), ("unix:", 401)] {
        let (launch, path) = launch(&turn, &database, 1);
        let launch = launch.args(["--trusted-proxies", proxies, "--access-log", "on"]);
        let peace = launch.serve();
        let wrong = |address: &str| {
            let form = [("username", "nobody-of-that-name"), ("password", "another-word")];
            post("/auth/token").form(&form).header("x-forwarded-for", address)
        };
        let statuses: Vec<u16> =
            (0..11).map(|_| ask(&path, &wrong("192.0.2.1")).unwrap()).collect();
        assert_eq!((statuses[0], statuses[9], statuses[10]), (401, 401, 429), "{statuses:?}");
        assert_eq!(ask(&path, &wrong("198.51.100.7")).unwrap(), from_elsewhere, "{proxies}");
        let is_told = |event: &Event| event.text_of("client") == Some("unix:");
        peace.await_event("a line of a request", 0, SOON, is_told);
        let bind = format!("unix:{}", path.display());
        let check = ["healthcheck", "--bind", &bind];
        let asked = peace.beside(env!("CARGO_BIN_EXE_peace-supervisor"), check);
        assert_eq!(asked.status.code(), Some(0), "{}", String::from_utf8_lossy(&asked.stderr));
    }
}
