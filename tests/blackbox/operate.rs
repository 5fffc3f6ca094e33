//! What operators use besides: the delay before a stop, the pause, the pid file, `--steering off`.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::harness::peace::signal_to;
use crate::harness::wait::until_true;
use crate::harness::{Connection, Database, Launch, Turn, get, proc};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn before_a_stop_readiness_goes_first_and_requests_go_on() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let mut peace =
        Launch::on(&turn, &database).workers(2).args(["--shutdown-delay", "2s"]).serve();
    assert_eq!(peace.ask(&get("/health/ready")).status, 200);
    let stop = Instant::now();
    peace.signal(Signal::SIGTERM);
    until_true("no worker is ready", SOON, || {
        let replies = [(); 8].map(|()| peace.ask(&get("/health/ready")).status);
        replies == [503; 8]
    });
    let reply = peace.ask(&get("/health/ready"));
    assert_eq!(reply.json()["type"], "/problems/unavailable");
    assert_eq!(peace.ask(&get("/users")).status, 200, "new connections are served");
    assert!(stop.elapsed() < Duration::from_secs(2), "all that was in the delay");
    assert_eq!(peace.end(SOON).code, Some(0));
    assert!(stop.elapsed() >= Duration::from_secs(2), "{:?}", stop.elapsed());
}

#[test]
fn a_quick_stop_does_not_wait_for_the_delay() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let mut peace =
        Launch::on(&turn, &database).workers(1).args(["--shutdown-delay", "60s"]).serve();
    peace.signal(Signal::SIGTERM);
    peace.await_event("it is stopping", 0, SOON, |event| event.is("stopping"));
    peace.signal(Signal::SIGINT);
    assert_eq!(peace.end(Duration::from_secs(4)).code, Some(0));
}

#[test]
fn a_pause_keeps_clients_waiting_until_a_reload() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(2).serve();
    peace.signal(Signal::SIGWINCH);
    until_true("all workers have left", SOON, || proc::child_count(peace.pid()) == 0);
    let port = peace.address().port();
    assert_eq!(proc::listeners(port), 2, "the sockets stay");
    let request = get("/health/live");
    let mut waiting: Vec<Connection> =
        (0..10).map(|_| Connection::open(peace.address()).unwrap()).collect();
    for client in &mut waiting {
        client.begin(&request).unwrap();
    }
    assert_eq!(proc::queues(port).iter().sum::<usize>(), 10);
    assert!(peace.ctl(["reload", "--wait"]).status.success());
    for client in &mut waiting {
        assert_eq!(client.finish(&request).unwrap().status, 200);
    }
}

#[test]
fn without_steering_a_sibling_still_accepts_for_a_worker_that_is_stopped() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(2).args(["--steering", "off"]).serve();
    let stopped = peace.workers()[&1];
    signal_to(stopped, Signal::SIGSTOP);
    let request = get("/health/live");
    let mut clients: Vec<Connection> =
        (0..40).map(|_| Connection::open(peace.address()).unwrap()).collect();
    for client in &mut clients {
        client.begin(&request).unwrap();
    }
    let hashed_to_it: usize = proc::queues(peace.address().port()).iter().sum();
    for client in &mut clients {
        assert_eq!(client.finish(&request).unwrap().status, 200);
    }
    eprintln!("{hashed_to_it} of 40 waited for the stopped worker, and were answered");
    signal_to(stopped, Signal::SIGCONT);
    peace.await_event("it is heard again", 0, SOON, |event| event.is("heard again"));
}

#[test]
fn a_worker_that_somebody_else_tells_to_leave_is_replaced_at_once() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let launch = Launch::on(&turn, &database).workers(1).args(["--keepalive-grace", "5s"]);
    let peace = launch.serve();
    let mut kept = Connection::open(peace.address()).unwrap();
    assert_eq!(kept.send(&get("/health/live")).unwrap().status, 200);
    let (told, mark) = (Instant::now(), peace.log().len());
    signal_to(peace.workers()[&0], Signal::SIGTERM);
    peace.await_event("its successor is ready", mark, SOON, |event| event.is_worker("ready"));
    assert_eq!(peace.ask(&get("/health/live")).status, 200);
    assert!(told.elapsed() < Duration::from_secs(2), "not after its grace: {:?}", told.elapsed());
    let last = kept.send(&get("/health/live")).unwrap();
    assert_eq!(
        (last.status, last.header("connection")),
        (200, Some("close")),
        "it answers meanwhile"
    );
}

#[test]
fn the_pid_file_says_who_runs_and_keeps_a_second_copy_out() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let mut peace = Launch::on(&turn, &database).workers(1).args(["--pid-file", "pid"]).serve();
    let path = peace.folder().join("pid");
    let written = || fs::read_to_string(&path).unwrap_or_default().trim().to_owned();
    assert_eq!(written(), peace.pid().to_string());
    let second = peace.second_copy(SOON);
    assert_eq!(second.code, Some(71));

    let killed = peace.pid();
    peace.kill();
    peace.await_nothing_left(Duration::from_secs(2));
    peace.start_again();
    peace.await_serving();
    assert_ne!(peace.pid(), killed);
    assert_eq!(written(), peace.pid().to_string(), "what the killed one left is replaced");
    assert_eq!(peace.stop(SOON).code, Some(0));
    assert!(!path.exists(), "a clean end leaves none");
}

#[test]
fn ctl_says_what_is_wrong() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let mut peace = Launch::on(&turn, &database).workers(1).serve();
    let asked = |args: &[&str]| {
        let output = peace.ctl(args.iter().copied());
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for (args, code) in [
        (&["scale", "0"][..], 64),
        (&["scale", "257"], 64),
        (&["scale", "many"], 64),
        (&["frobnicate"], 64),
        (&["--control", "elsewhere", "status"], 69),
        (&["scale", "1", "--wait"], 0),
        (&["status"], 0),
    ] {
        let (answer, text) = asked(args);
        assert_eq!(answer, Some(code), "{args:?}: {text}");
        assert_eq!(text.lines().count(), usize::from(code != 0), "{args:?}: {text}");
    }
    assert_eq!(asked(&["stop"]), (Some(0), String::new()));
    assert_eq!(peace.end(SOON).code, Some(0));
    assert_eq!(peace.ctl(["status"]).status.code(), Some(69), "nobody is left to answer");
}
