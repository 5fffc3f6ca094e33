//! Sockets that the manager opened, or kept.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::Signal;
use socket2::{Domain, SockRef, Socket, Type};

use super::{Manager, SOON, managed};
use crate::harness::wait::pause;
use crate::harness::{Connection, Database, Launch, Peace, Turn, get, proc};
use crate::unix;
use crate::upgrade::status;
use crate::zero_loss::launch;

/// Starts the program behind it with the sockets that a file in its folder tells of.
const START: &str = r#"if [ -f sockets ]; then . ./sockets; fi; exec env LISTEN_PID=$$ "$0" "$@""#;
/// More than the test has open, so that no number is taken.
const HIGH: i32 = 900;

/// Descriptors that the next program to be started inherits.
struct Handed(Vec<i32>);

impl Handed {
    /// Under the names, as systemd hands them.
    fn to(launch_folder: &std::path::Path, sockets: &[(String, BorrowedFd<'_>)]) -> Self {
        let copy = |(_, socket): &(String, BorrowedFd<'_>)| {
            fcntl(socket, FcntlArg::F_DUPFD(HIGH)).expect("a copy that is inherited")
        };
        let copies: Vec<i32> = sockets.iter().map(copy).collect();
        let moves = copies.iter().enumerate().map(|(place, copy)| {
            let place = place + 3;
            format!("exec {place}<&{copy} {copy}<&-\n")
        });
        let names: Vec<&str> = sockets.iter().map(|(name, _)| name.as_str()).collect();
        let (moves, count, names) = (moves.collect::<String>(), sockets.len(), names.join(":"));
        let script = format!("{moves}export LISTEN_FDS={count} LISTEN_FDNAMES={names}\n");
        fs::write(launch_folder.join("sockets"), script).expect("the folder is ours");
        Self(copies)
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        for copy in &self.0 {
            nix::unistd::close(*copy).expect("it is open");
        }
    }
}

/// How long nobody is there.
const GAP: Duration = Duration::from_secs(2);

fn activated(launch: Launch) -> Launch {
    launch.under("/bin/bash", ["-c", START])
}

#[test]
fn who_is_queued_when_the_supervisor_is_killed_is_answered_by_the_next_one() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    // A port that stays the same.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let bind = format!("127.0.0.1:{port}");
    let launch = activated(launch(&turn, &database, 3).args(["--bind", &bind]));
    let (launch, mut manager) = managed(launch);
    let mut peace = launch.serve();
    manager.await_line("READY=1");
    let (address, inodes) = (peace.address(), proc::listening_inodes(port));
    peace.kill();
    peace.await_nothing_left(SOON);
    assert_eq!(proc::listening_inodes(port), inodes, "the manager has them");
    let (request, killed) = (get("/health/live"), Instant::now());
    // All through the time in which there is no supervisor.
    let mut clients: Vec<Connection> = (1..=100)
        .map(|number| {
            let mut client = Connection::open(address).unwrap();
            client.begin(&request).unwrap();
            pause((GAP * number / 100).saturating_sub(killed.elapsed()));
            client
        })
        .collect();
    let sockets: Vec<_> =
        manager.store.iter().map(|(name, one)| (name.clone(), one.as_fd())).collect();
    let handed = Handed::to(peace.folder(), &sockets);
    peace.start_again();
    drop(handed);
    let answers = clients.iter_mut().map(|client| client.finish(&request));
    let good = answers.filter(|answer| answer.as_ref().is_ok_and(|one| one.status == 200)).count();
    eprintln!("{good} of 100 answered, {:?} after the end", killed.elapsed());
    assert_eq!(good, 100);
    assert_eq!(proc::listening_inodes(port), inodes, "and no others");
    // And it can do that again after a graceful stop, which turned new ones away.
    assert_eq!(peace.stop(SOON).code, Some(0));
    let sockets: Vec<_> =
        manager.store.iter().map(|(name, one)| (name.clone(), one.as_fd())).collect();
    let handed = Handed::to(peace.folder(), &sockets);
    peace.start_again();
    drop(handed);
    peace.await_serving();
    assert_eq!(get("/health/live").fresh(address).unwrap().status, 200);
}

fn listening(share: bool, address: &str) -> OwnedFd {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_port(share).unwrap();
    socket.bind(&address.parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.listen(128).unwrap();
    socket.into()
}

/// Hands the sockets over under a unit's name, and starts what `start` starts.
fn with_sockets(folder: &std::path::Path, all: &[OwnedFd], start: impl FnOnce()) {
    let sockets: Vec<_> = all.iter().map(|one| ("web".to_owned(), one.as_fd())).collect();
    let handed = Handed::to(folder, &sockets);
    start();
    drop(handed);
}

fn start_with(launch: Launch, all: &[OwnedFd]) -> Peace {
    let (folder, mut peace) = (launch.folder().path().to_owned(), None);
    with_sockets(&folder, all, || peace = Some(launch.start()));
    let peace = peace.expect("it was started");
    peace.await_serving();
    peace
}

/// Stops it, lets clients come while nobody is there, and starts it again: all of them are answered.
fn starts_again(peace: &mut Peace, all: &[OwnedFd], addresses: &[SocketAddr]) {
    assert_eq!(peace.stop(SOON).code, Some(0));
    let listens = |one: &OwnedFd| SockRef::from(one).is_listener().unwrap();
    assert!(all.iter().all(listens), "the manager's sockets are as it has opened them");
    let request = get("/health/live");
    let mut between: Vec<Connection> = (0..40)
        .map(|number| Connection::open(addresses[number % addresses.len()]).unwrap())
        .collect();
    between.iter_mut().for_each(|client| client.begin(&request).unwrap());
    let folder = peace.folder().to_owned();
    with_sockets(&folder, all, || peace.start_again());
    peace.await_serving();
    for client in &mut between {
        assert_eq!(client.finish(&request).unwrap().status, 200);
    }
}

#[test]
fn sockets_that_share_their_port_are_a_slot_each_and_a_single_one_is_everybody_s() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    for (share, count, workers) in [(true, 2, 2), (true, 1, 2), (true, 3, 2), (false, 1, 2)] {
        let first = listening(share, "127.0.0.1:0");
        let listener = TcpListener::from(first.try_clone().unwrap());
        let address = listener.local_addr().unwrap();
        let more = (1..count).map(|_| listening(share, &address.to_string()));
        let all: Vec<OwnedFd> = [first].into_iter().chain(more).collect();
        drop(listener);
        let theirs = proc::listening_inodes(address.port());
        let mut peace = start_with(activated(launch(&turn, &database, workers)), &all);
        assert_eq!(peace.address(), address);
        let asks = |peace: &Peace| {
            for _ in 0..40 {
                assert_eq!(peace.ask(&get("/health/live")).status, 200, "{share} {count}");
            }
        };
        let sockets = || proc::listening_inodes(address.port());
        asks(&peace);
        let served = if share { workers.max(count) } else { workers };
        assert_eq!(status(&peace)["ready"], served, "{share} {count}");
        assert_eq!(sockets().len(), if share { served } else { 1 }, "{share} {count}");
        assert!(peace.ctl(["upgrade", "--wait"]).status.success());
        // What is too much of ours is closed; what the manager has opened never is.
        let least = if share { count } else { 1 };
        if least > 1 {
            let refused = peace.ctl(["scale", &(least - 1).to_string(), "--wait"]);
            let told = String::from_utf8_lossy(&refused.stderr);
            assert_eq!(refused.status.code(), Some(1), "{told}");
            assert!(told.contains(&format!("they need {least} workers at least")), "{told}");
            peace.signal(Signal::SIGTTOU);
            peace.await_event("a refusal", 0, SOON, |event| event.is("scaling failed"));
        }
        assert!(peace.ctl(["scale", &least.to_string(), "--wait"]).status.success());
        asks(&peace);
        assert_eq!(sockets(), theirs, "{share} {count}");
        starts_again(&mut peace, &all, &[address]);
        asks(&peace);
        assert!(sockets().is_superset(&theirs), "{share} {count}");
        assert_eq!(peace.stop(SOON).code, Some(0));
    }
}

#[test]
fn sockets_of_several_addresses_are_everybody_s_each() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let tcp = [listening(false, "127.0.0.1:0"), listening(false, "127.0.0.1:0")];
    let address = |one: &OwnedFd| SockRef::from(one).local_addr().unwrap().as_socket().unwrap();
    let addresses = [address(&tcp[0]), address(&tcp[1])];
    let launch = activated(launch(&turn, &database, 1));
    let path = launch.folder().path().join("theirs.sock");
    let unix = OwnedFd::from(UnixListener::bind(&path).unwrap());
    let all: Vec<OwnedFd> = tcp.into_iter().chain([unix]).collect();
    let mut peace = start_with(launch, &all);
    let asks = |what: &str| {
        for _ in 0..10 {
            for address in addresses {
                assert_eq!(get("/health/live").fresh(address).unwrap().status, 200, "{what}");
            }
            assert_eq!(unix::ask(&path, &get("/health/live")).unwrap(), 200, "{what}");
        }
    };
    asks("one worker");
    assert!(peace.ctl(["scale", "3", "--wait"]).status.success());
    asks("three workers");
    assert!(peace.ctl(["upgrade", "--wait"]).status.success());
    assert!(peace.ctl(["scale", "1", "--wait"]).status.success());
    asks("one worker again");
    starts_again(&mut peace, &all, &addresses);
    asks("another start");
    assert_eq!(peace.stop(SOON).code, Some(0));
    assert!(path.exists(), "the name is the manager's");
}

#[test]
fn a_kept_unix_socket_is_taken_again_by_the_next_start() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let launch = activated(launch(&turn, &database, 1));
    let path = launch.folder().path().join("api.sock");
    let (launch, mut manager) =
        managed(launch.args(["--bind", &format!("unix:{}", path.display())]));
    let mut peace = launch.serve();
    manager.await_line("READY=1");
    peace.kill();
    peace.await_nothing_left(SOON);
    let mut between: Vec<unix::Client> =
        (0..10).map(|_| unix::Client::open(&path).unwrap()).collect();
    between.iter_mut().for_each(|client| client.begin(&get("/health/live")).unwrap());
    let start = |peace: &mut Peace, manager: &Manager| {
        let sockets: Vec<_> =
            manager.store.iter().map(|(name, one)| (name.clone(), one.as_fd())).collect();
        let handed = Handed::to(peace.folder(), &sockets);
        peace.start_again();
        drop(handed);
    };
    // One that fails leaves it as it is, before there is a worker and after.
    for (settings, code) in [("PEACE_TIMEOUT=soon", 64), ("PEACE_FAULTS=boot-exit:0", 71)] {
        fs::write(peace.folder().join(".env"), settings).unwrap();
        start(&mut peace, &manager);
        assert_eq!(peace.end(SOON).code, Some(code), "{settings}");
        manager.rest();
        assert!(path.exists() && manager.store.contains_key("peace-slot-0"), "{settings}");
    }
    fs::remove_file(peace.folder().join(".env")).unwrap();
    start(&mut peace, &manager);
    for client in &mut between {
        assert_eq!(client.finish().unwrap().0, 200);
    }
    // A stop takes the name away: nobody can come to that one any more.
    assert_eq!(peace.stop(SOON).code, Some(0));
    manager.await_line("STOPPING=1");
    manager.await_line("FDSTOREREMOVE=1");
    assert!(manager.store.is_empty() && !path.exists());
}
