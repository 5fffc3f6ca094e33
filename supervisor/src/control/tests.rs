//! The control socket with real clients; time is what the test says it is.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::status::{ChildState, LastReload, Status, WorkerStatus};

const TOKEN: u64 = 77;
/// More than any of these tests takes, and an end for one that hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// A supervisor's side: the loop's epoll and a control socket.
struct Side {
    control: Control,
    epoll: Epoll,
    path: PathBuf,
    _folder: TempDir,
}

impl Side {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        let control = Control::open(&path, &epoll, TOKEN).unwrap();
        Self { control, epoll, path, _folder: folder }
    }

    fn client(&self) -> UnixStream {
        let client = UnixStream::connect(&self.path).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client
    }

    fn asking(&self, line: &str) -> UnixStream {
        let mut client = self.client();
        client.write_all(line.as_bytes()).unwrap();
        client
    }

    /// Whether the loop would be woken.
    fn wakes(&self) -> bool {
        let mut events = [EpollEvent::empty(); 4];
        let count = self.epoll.wait(&mut events, EpollTimeout::ZERO).unwrap();
        assert!(events[..count].iter().all(|event| event.data() == TOKEN));
        count == 1
    }

    /// Turns of the loop, until nothing wakes it. What clients do is there when they have done it: a
    /// unix socket has no wire.
    fn turn(&mut self, now_ms: u64) -> Vec<(ClientId, Request)> {
        let mut requests = Vec::new();
        for _ in 0..10 {
            if !self.wakes() {
                return requests;
            }
            requests.extend(self.control.requests(now_ms));
        }
        panic!("the loop is woken for ever");
    }
}

/// All that a client is told.
fn told(mut client: UnixStream) -> String {
    let mut text = String::new();
    // What was sent and not read makes the end a reset; what was said before comes first.
    let _ = client.read_to_string(&mut text);
    text
}

fn error(why: &str) -> String {
    format!("{{\"ok\":false,\"error\":\"{why}\"}}\n")
}

#[test]
fn a_request_is_heard_and_answered_once() {
    let mut side = Side::new();
    assert!(!side.wakes());
    let client = side.asking("scale 4 wait\n");
    let requests = side.turn(0);
    assert_eq!(requests, [(1, Request::Scale { workers: 4, wait: true })]);
    assert!(!side.wakes() && side.control.has(1));
    assert_eq!(side.control.next_deadline_ms(), None);
    side.control.answer(1, &Answer::Done);
    assert!(!side.control.has(1));
    side.control.answer(1, &Answer::Done);
    assert_eq!(told(client), "{\"ok\":true}\n");
    assert!(!side.wakes());
}

#[test]
fn clients_do_not_wait_for_one_another() {
    let mut side = Side::new();
    let mut slow = side.asking("sta");
    let quick = side.asking("stop\n");
    assert_eq!(side.turn(0), [(2, Request::Stop)]);
    assert!(!side.wakes(), "half a line is not read twice");
    side.control.answer(2, &Answer::Failed("not now".to_owned()));
    assert_eq!(told(quick), error("not now"));
    slow.write_all(b"tus\nand more").unwrap();
    assert_eq!(side.turn(0), [(1, Request::Status)]);
    assert!(!side.wakes(), "what follows the line is ignored");
}

#[test]
fn what_is_no_request_is_answered_with_what_would_be_one() {
    let mut side = Side::new();
    for (line, why) in [
        (
            "hello\n",
            "no such request; ask status, reload [wait], upgrade [wait], scale N [wait] or stop",
        ),
        ("scale 0\n", "scale needs a number of workers; give 1 to 256"),
        (
            "\n",
            "no such request; ask status, reload [wait], upgrade [wait], scale N [wait] or stop",
        ),
        (&"x".repeat(256), "a request is one line of 256 bytes or fewer"),
        (&format!("{}\n", "x".repeat(5_000)), "a request is one line of 256 bytes or fewer"),
    ] {
        let client = side.asking(line);
        assert_eq!(side.turn(0), []);
        assert_eq!(told(client), error(why), "{line}");
    }
    let mut client = side.client();
    client.write_all(b"\xff\n").unwrap();
    assert_eq!(side.turn(0), []);
    assert!(told(client).contains("no such request"));
    let longest = side.asking(&format!("stop{}\n", " ".repeat(251)));
    assert_eq!(side.turn(0).len(), 1);
    drop(longest);
}

#[test]
fn a_line_comes_within_a_second() {
    let mut side = Side::new();
    let (silent, slow) = (side.client(), side.asking("status"));
    let waiting = side.asking("reload wait\n");
    assert_eq!(side.turn(5_000), [(3, Request::Reload { wait: true })]);
    assert_eq!(side.control.next_deadline_ms(), Some(6_000));
    assert_eq!(side.control.requests(5_999), []);
    assert!(side.control.has(1) && side.control.has(2));
    assert_eq!(side.control.requests(6_000), []);
    assert_eq!(side.control.next_deadline_ms(), None);
    for client in [silent, slow] {
        assert_eq!(told(client), error("no whole line came within 1 s"));
    }
    assert!(side.control.has(3), "who has asked may wait");
    drop(waiting);
}

#[test]
fn who_leaves_is_forgotten() {
    let mut side = Side::new();
    let (waiting, speaking) = (side.asking("reload wait\n"), side.asking("st"));
    assert_eq!(side.turn(0).len(), 1);
    drop(speaking);
    assert_eq!(side.turn(0), []);
    assert!(side.control.has(1) && !side.control.has(2));
    waiting.shutdown(Shutdown::Write).unwrap();
    assert!(!side.wakes(), "who only speaks no more still listens");
    drop(waiting);
    assert_eq!(side.turn(0), []);
    assert!(!side.control.has(1) && !side.wakes());
    drop(side.asking("stop\n"));
    assert_eq!(side.turn(0), [(3, Request::Stop)], "what was asked before leaving counts");
    assert!(!side.control.has(3));
    side.control.answer(3, &Answer::Done);
}

#[test]
fn more_clients_than_seats_are_told_so() {
    let mut side = Side::new();
    let mut seated: Vec<UnixStream> = Vec::new();
    for _ in 0..CLIENTS_MAX {
        seated.push(side.asking("reload wait\n"));
        assert_eq!(side.turn(0).len(), 1);
    }
    let turned_away = side.asking("status\n");
    assert_eq!(side.turn(0), []);
    assert_eq!(told(turned_away), error("busy: others are asking; try again"));
    drop(seated.pop());
    let next = side.asking("status\n");
    assert_eq!(side.turn(0).len(), 1, "the seat was free by then");
    drop(next);
}

#[test]
fn a_status_of_all_slots_is_read_whole() {
    let mut side = Side::new();
    let worker = |slot| WorkerStatus {
        slot,
        pid: Some(i32::MAX),
        state: ChildState::Draining,
        generation: u64::MAX,
        age_s: Some(1_234_567.8),
        heartbeat_age_ms: Some(u64::MAX),
        requests: u64::MAX,
        in_flight: u64::MAX,
        connections: u64::MAX,
        queue: u64::MAX,
        rss_bytes: u64::MAX,
        restarts: u64::MAX,
        last_exit: Some("fork was refused".to_owned()),
        loop_lag_ms: Some(1_234_567.8),
        cpu_s: Some(1_234_567.8),
        durations: vec![1_234_567_890; 19],
    };
    let status = Status {
        version: "0.1.0".to_owned(),
        pid: 1,
        age_s: Some(1_234_567.8),
        generation: 1,
        target: 256,
        ready: 0,
        last_reload: LastReload::of(Some(&Err("x".repeat(200)))),
        // In a roll there are two of each slot for a moment.
        workers: (0..256).chain(0..1).map(worker).collect(),
        children: Vec::new(),
    };
    let client = side.asking("status\n");
    let requests = side.turn(0);
    let answer = Answer::Status(Box::new(status));
    // Written before anybody reads.
    side.control.answer(requests[0].0, &answer);
    let text = told(client);
    assert!(text.ends_with('\n') && text.len() > 64 * 1024, "{}", text.len());
    assert_eq!(Answer::from_json(&text).unwrap(), answer);
}

#[test]
fn who_does_not_read_holds_nobody_up() {
    let mut side = Side::new();
    let client = side.asking("status\n");
    let requests = side.turn(0);
    let endless = Answer::Failed("x".repeat(8 << 20));
    side.control.answer(requests[0].0, &endless);
    assert!(!side.control.has(requests[0].0));
    assert!(told(client).len() < 8 << 20);
}

#[test]
fn closing_removes_the_file_and_ends_every_wait() {
    let mut side = Side::new();
    let client = side.asking("reload wait\n");
    side.turn(0);
    let Side { control, path, epoll, _folder } = side;
    drop(control);
    assert_eq!(told(client), "");
    assert!(!path.exists());
    assert_eq!(epoll.wait(&mut [EpollEvent::empty()], EpollTimeout::ZERO), Ok(0));
}
