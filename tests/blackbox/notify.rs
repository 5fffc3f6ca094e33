//! A service manager as systemd is one: it is told what happens, it watches, it keeps sockets and gives them
//! back. Here it is the test.

/// Sockets that come from the manager.
mod activation;

use std::collections::BTreeMap;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::harness::peace::signal_to;
use crate::harness::wait::until_true;
use crate::harness::{Database, Launch, Peace, Turn};
use crate::upgrade::status;
use crate::zero_loss::{launch, start_usual};

const SOON: Duration = Duration::from_secs(20);
/// Ends the manager's thread.
const OVER: &str = "OVER=1";

/// One datagram.
struct Said {
    at: Instant,
    text: String,
    descriptors: Vec<OwnedFd>,
}

impl Said {
    fn has(&self, line: &str) -> bool {
        self.text.lines().any(|one| one == line)
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
    }
}

/// The manager's side.
struct Manager {
    place: PathBuf,
    said: Receiver<Said>,
    /// What it keeps, by name.
    store: BTreeMap<String, OwnedFd>,
}

impl Manager {
    fn new(folder: &Path) -> Self {
        let place = folder.join("notify.sock");
        let socket = UnixDatagram::bind(&place).expect("a socket");
        let (tell, said) = channel();
        thread::spawn(move || {
            while let Some(one) = hear(&socket) {
                if tell.send(one).is_err() {
                    break;
                }
            }
        });
        Self { place, said, store: BTreeMap::new() }
    }

    /// The next datagram within `limit`; descriptors go into the store.
    fn next(&mut self, limit: Duration) -> Option<Said> {
        let mut said = match self.said.recv_timeout(limit) {
            Ok(said) => said,
            Err(RecvTimeoutError::Timeout) => return None,
            Err(RecvTimeoutError::Disconnected) => panic!("nobody listens any more"),
        };
        let name = said.value("FDNAME").unwrap_or_default().to_owned();
        if said.has("FDSTORE=1") {
            let descriptor = said.descriptors.pop().expect("a descriptor to keep");
            self.store.insert(name, descriptor);
        } else if said.has("FDSTOREREMOVE=1") {
            self.store.remove(&name);
        }
        Some(said)
    }

    /// The first datagram from now on with this line.
    fn await_line(&mut self, line: &str) -> Said {
        let end = Instant::now() + SOON;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let said =
                self.next(left).unwrap_or_else(|| panic!("not said within {SOON:?}: {line}"));
            if said.has(line) {
                return said;
            }
        }
    }

    /// All that is said up to the first datagram that `fits`.
    fn until(&mut self, fits: impl Fn(&Said) -> bool) -> Vec<Said> {
        let (end, mut all) = (Instant::now() + SOON, Vec::new());
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let said = self.next(left);
            all.push(said.unwrap_or_else(|| panic!("not within {SOON:?}, but {:?}", told(&all))));
            if all.last().is_some_and(&fits) {
                return all;
            }
        }
    }

    /// All that was said already.
    fn rest(&mut self) -> Vec<Said> {
        std::iter::from_fn(|| self.next(Duration::from_millis(100))).collect()
    }

    /// The pings that come within `time`.
    fn pings(&mut self, time: Duration) -> Vec<Instant> {
        let end = Instant::now() + time;
        let mut pings = Vec::new();
        while let Some(said) = self.next(end.saturating_duration_since(Instant::now())) {
            if said.has("WATCHDOG=1") {
                pings.push(said.at);
            }
        }
        pings
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let last = UnixDatagram::unbound().expect("a socket");
        let _ = last.send_to(OVER.as_bytes(), &self.place);
    }
}

fn hear(socket: &UnixDatagram) -> Option<Said> {
    let mut text = [0; 4_096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    let parts = &mut [IoSliceMut::new(&mut text)];
    let length = recvmsg(socket, parts, &mut rights, RecvFlags::CMSG_CLOEXEC).ok()?.bytes;
    let descriptors = rights.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let descriptors = descriptors.flatten().collect();
    let text = String::from_utf8_lossy(&text[..length]).into_owned();
    (text != OVER).then(|| Said { at: Instant::now(), text, descriptors })
}

/// A server that has a service manager.
fn managed(launch: Launch) -> (Launch, Manager) {
    let manager = Manager::new(launch.folder().path());
    let place = manager.place.display().to_string();
    (launch.env("NOTIFY_SOCKET", &place), manager)
}

#[test]
fn the_manager_is_told_when_it_is_ready_reloads_and_stops() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let (launch, mut manager) = managed(launch(&turn, &database, 2));
    let mut peace = launch.start();
    let start = manager.until(|said| said.has("READY=1"));
    let ready = start.last().expect("it was said");
    assert_eq!(ready.value("STATUS"), Some("2 workers serve"));
    assert!(start.iter().any(|said| said.has("EXTEND_TIMEOUT_USEC=15000000")), "a long start");
    assert_eq!(status(&peace)["ready"], 2, "not before");
    assert_eq!(manager.store.keys().collect::<Vec<_>>(), ["peace-slot-0", "peace-slot-1"]);
    let stored: Vec<&Said> = start.iter().filter(|said| said.has("FDSTORE=1")).collect();
    assert!(stored.len() == 2 && stored.iter().all(|said| said.has("FDPOLL=0")));

    for ask in ["reload", "upgrade"] {
        assert!(peace.ctl([ask, "--wait"]).status.success());
        let reloading = manager.await_line("RELOADING=1");
        let since_us: u64 = reloading.value("MONOTONIC_USEC").unwrap().parse().unwrap();
        assert!(since_us > 0, "in the same datagram");
        let upgraded = concat!("upgraded to ", env!("CARGO_PKG_VERSION"));
        let status = if ask == "upgrade" { upgraded } else { "all workers were replaced" };
        let all = manager.until(|said| said.has("READY=1"));
        assert_eq!(all.last().unwrap().value("STATUS"), Some(status));
        let asks = |said: &Said| said.has("EXTEND_TIMEOUT_USEC=15000000");
        assert!(all.iter().any(asks), "{ask} takes the time that it takes");
    }
    // A reload that is refused ends, too.
    std::fs::write(peace.folder().join(".env"), "PEACE_TIMEOUT=soon").unwrap();
    peace.signal(Signal::SIGHUP);
    manager.await_line("RELOADING=1");
    let refused = manager.await_line("READY=1");
    assert!(refused.value("STATUS").unwrap().contains("PEACE_TIMEOUT"), "{}", refused.text);

    peace.ctl(["scale", "3", "--wait"]);
    manager.await_line("FDNAME=peace-slot-2");
    assert!(manager.store.contains_key("peace-slot-2"), "one that was opened later is kept, too");
    peace.ctl(["scale", "1", "--wait"]);
    peace.signal(Signal::SIGTERM);
    let stopping = manager.await_line("STOPPING=1");
    assert!(stopping.value("EXTEND_TIMEOUT_USEC").is_some());
    assert_eq!(
        manager.store.keys().collect::<Vec<_>>(),
        ["peace-slot-0"],
        "those that were shut are gone"
    );
    assert_eq!(peace.end(SOON).code, Some(0));
}

/// The status lines that were told, and how often it was ready.
fn told(all: &[Said]) -> (Vec<&str>, usize) {
    let ready = all.iter().filter(|said| said.has("READY=1")).count();
    (all.iter().filter_map(|said| said.value("STATUS")).collect(), ready)
}

#[test]
fn the_manager_waits_for_an_upgrade_only_where_one_goes_on() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let launch = launch(&turn, &database, 2);
    let file = launch.folder().path().join(".env");
    std::fs::write(&file, "").unwrap();
    let (launch, mut manager) = managed(launch);
    let peace = launch.serve();
    manager.await_line("READY=1");
    let failed = |said: &Said| {
        said.value("STATUS").is_some_and(|text| text.starts_with("the old program serves on"))
    };
    // One that does not get as far as to be waited for.
    std::fs::write(&file, "PEACE_TIMEOUT=soon").unwrap();
    peace.signal(Signal::SIGUSR2);
    assert_eq!(told(&manager.until(failed)).1, 0, "nobody waits");
    // One that is undone: it is over when the old program has its workers back.
    std::fs::write(&file, "PEACE_FAULTS=boot-exit:1").unwrap();
    peace.signal(Signal::SIGUSR2);
    manager.await_line("RELOADING=1");
    peace.signal(Signal::SIGUSR2);
    let all = manager.until(failed);
    assert!(told(&all).1 == 1 && all.last().unwrap().has("READY=1"), "{:?}", told(&all));
    assert!(all.last().unwrap().text.contains("PEACE_FAULTS"), "{}", all.last().unwrap().text);
}

#[test]
fn what_people_read_while_nobody_serves_is_that_nobody_does() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let (launch, mut manager) = managed(launch(&turn, &database, 2));
    let mut peace = launch.serve();
    manager.await_line("READY=1");
    // In the middle of a reload, which is over with that.
    peace.signal(Signal::SIGHUP);
    manager.await_line("RELOADING=1");
    peace.await_event("a roll", 0, SOON, |event| event.is("rolling"));
    peace.signal(Signal::SIGWINCH);
    let (mut last, mut ready) = (String::new(), 0);
    until_true("nobody serves", SOON, || {
        while let Some(said) = manager.next(Duration::from_millis(20)) {
            ready += usize::from(said.has("READY=1"));
            last = said.value("STATUS").map_or(last.clone(), str::to_owned);
        }
        status(&peace)["workers"].as_array().unwrap().iter().all(|one| one["pid"].is_null())
    });
    assert_eq!((last.as_str(), ready), ("paused: a reload brings new workers", 1));
    peace.signal(Signal::SIGHUP);
    let ready = manager.await_line("READY=1");
    assert_eq!(ready.value("STATUS"), Some("all workers were replaced"));
    peace.signal(Signal::SIGTERM);
    manager.await_line("STOPPING=1");
    peace.signal(Signal::SIGUSR2);
    assert_eq!(peace.end(SOON).code, Some(0));
    assert_eq!(told(&manager.rest()), (Vec::new(), 0), "after the stop has begun");
}

/// What the manager allows between two pings.
const WATCHDOG: Duration = Duration::from_secs(2);

fn watched(turn: &Turn, database: &Database<'_>) -> (Peace, Manager) {
    let (launch, manager) = managed(launch(turn, database, 2));
    (launch.env("WATCHDOG_USEC", &WATCHDOG.as_micros().to_string()).serve(), manager)
}

#[test]
fn the_watchdog_is_pinged_under_load_and_not_when_nobody_serves() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let (peace, mut manager) = watched(&turn, &database);
    let load = start_usual(&peace);
    let pings = manager.pings(WATCHDOG * 3);
    let tally = load.stop();
    tally.check_nothing_lost("a watched server");
    let gaps = pings.windows(2).map(|pair| pair[1] - pair[0]);
    let longest = gaps.max().expect("there are pings");
    eprintln!("{} pings in {:?}, at most {longest:?} apart", pings.len(), WATCHDOG * 3);
    // But for what the machine kept from everybody, the load included.
    assert!(longest <= WATCHDOG / 2 + tally.latest(), "{longest:?}");

    let workers = peace.workers();
    workers.values().for_each(|worker| signal_to(*worker, Signal::SIGSTOP));
    // They are silent after a second.
    manager.pings(WATCHDOG);
    assert_eq!(manager.pings(WATCHDOG).len(), 0, "nobody serves");
    workers.values().for_each(|worker| signal_to(*worker, Signal::SIGCONT));
    manager.await_line("WATCHDOG=1");

    peace.signal(Signal::SIGSTOP);
    manager.pings(Duration::from_millis(100));
    assert_eq!(manager.pings(WATCHDOG).len(), 0, "the supervisor is stopped");
    peace.signal(Signal::SIGCONT);
    manager.await_line("WATCHDOG=1");
}

#[test]
fn a_watchdog_that_waits_for_another_process_is_left_alone() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let start = |pid: &str| {
        let start = format!(r#"exec env WATCHDOG_PID={pid} "$0" "$@""#);
        let launch = launch(&turn, &database, 1).under("/bin/sh", ["-c", &start]);
        let (launch, mut manager) = managed(launch);
        let peace = launch.env("WATCHDOG_USEC", "400000").serve();
        manager.await_line("READY=1");
        (peace, manager)
    };
    let (_peace, mut manager) = start("$$");
    manager.await_line("WATCHDOG=1");
    let (_peace, mut manager) = start("1");
    assert_eq!(manager.pings(Duration::from_secs(1)).len(), 0, "another one's");
}
