//! Several listeners, those of siblings among them.

use std::cell::RefCell;
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpListener as StdTcpListener, TcpStream as StdTcpStream};
use std::rc::Rc;

use rustix::net::{Shutdown, shutdown};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, spawn_local};
use tokio::time::Duration;

use super::{Client, Rooms, until};
use crate::accept::accept;
use crate::config::Limits;
use crate::foster::Fosters;
use crate::listen::watched;

/// A listener as the supervisor holds it; a clone is a copy that a worker gets.
struct Slot {
    address: SocketAddr,
    listener: StdTcpListener,
}

impl Slot {
    fn open() -> Self {
        let listener = StdTcpListener::bind("127.0.0.1:0").unwrap();
        Self { address: listener.local_addr().unwrap(), listener }
    }

    fn copy(&self) -> StdTcpListener {
        self.listener.try_clone().unwrap()
    }

    /// Clients that are queued, each with a request.
    async fn queue(&self, clients: usize) -> Vec<Client<TcpStream>> {
        let mut queued = Vec::new();
        for _ in 0..clients {
            let mut client = Client::connect(self.address).await;
            client.send("GET /hello HTTP/1.1\r\nhost: x\r\n\r\n").await;
            queued.push(client);
        }
        queued
    }

    /// How many are queued here, besides whom others have accepted.
    fn queued(&self) -> usize {
        self.listener.set_nonblocking(true).unwrap();
        std::iter::from_fn(|| self.listener.accept().ok()).count()
    }
}

type Reports = Rc<RefCell<Vec<usize>>>;

fn fosters() -> (Fosters, Reports) {
    let reports = Reports::default();
    let heard = Rc::clone(&reports);
    (Fosters::new(Box::new(move |slot| heard.borrow_mut().push(slot))), reports)
}

/// Those of rooms that serve.
fn serving(rooms: &Rooms) -> (Fosters, Reports) {
    let (mut fosters, reports) = fosters();
    fosters.serve(&rooms.shared);
    (fosters, reports)
}

#[tokio::test(flavor = "local")]
async fn clients_of_a_fostered_slot_are_served_until_it_is_taken_back() {
    let rooms = Rooms::new();
    let (mut fosters, reports) = serving(&rooms);
    let slot = Slot::open();
    let queued = slot.queue(40).await;
    fosters.foster(3, slot.copy());
    for mut client in queued {
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.header("connection")), (200, None));
    }
    assert!(reports.borrow().is_empty());
    fosters.unfoster(3);
    until(|| !reports.borrow().is_empty()).await;
    let _queued = slot.queue(5).await;
    assert_eq!(slot.queued(), 5);
    fosters.unfoster(3);
    assert_eq!(*reports.borrow(), [3, 3], "nothing to close is reported at once");
}

#[tokio::test(flavor = "local")]
async fn a_slot_that_is_taken_back_keeps_its_queue() {
    let rooms = Rooms::new();
    let (mut fosters, reports) = serving(&rooms);
    let slot = Slot::open();
    let _queued = slot.queue(40).await;
    fosters.foster(0, slot.copy());
    fosters.unfoster(0);
    until(|| !reports.borrow().is_empty()).await;
    assert_eq!((slot.queued(), rooms.shared.stats.connections.get()), (40, 0));
}

#[tokio::test(flavor = "local")]
async fn a_report_comes_when_the_copy_has_been_closed() {
    let rooms = Rooms::new();
    let address = Rc::new(RefCell::new(None));
    let refused = Rc::new(RefCell::new(Vec::new()));
    let (to, outcomes) = (Rc::clone(&address), Rc::clone(&refused));
    let mut fosters = Fosters::new(Box::new(move |_| {
        let to: SocketAddr = to.borrow().unwrap();
        outcomes.borrow_mut().push(StdTcpStream::connect(to).unwrap_err().kind());
    }));
    let only_copy = || {
        let listener = StdTcpListener::bind("127.0.0.1:0").unwrap();
        *address.borrow_mut() = Some(listener.local_addr().unwrap());
        listener
    };
    // A worker that does not serve yet.
    fosters.foster(0, only_copy());
    assert_eq!(refused.borrow().len(), 1);
    fosters.serve(&rooms.shared);
    // Taken back before its task has run, and after.
    fosters.foster(0, only_copy());
    fosters.unfoster(0);
    until(|| refused.borrow().len() == 2).await;
    fosters.foster(0, only_copy());
    let to = address.borrow().unwrap();
    assert_eq!(Client::connect(to).await.get("/hello").await.status, 200);
    fosters.unfoster(0);
    until(|| refused.borrow().len() == 3).await;
    // The worker has begun to leave.
    fosters.leave();
    fosters.foster(0, only_copy());
    assert_eq!(*refused.borrow(), [ErrorKind::ConnectionRefused; 4]);
}

#[tokio::test(flavor = "local")]
async fn a_second_copy_is_closed_and_the_first_kept() {
    let rooms = Rooms::new();
    let (mut fosters, reports) = serving(&rooms);
    let (first, second) = (Slot::open(), Slot::open());
    fosters.foster(1, first.copy());
    fosters.foster(1, second.listener);
    let refused = TcpStream::connect(second.address).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(Client::connect(first.address).await.get("/hello").await.status, 200);
    assert!(reports.borrow().is_empty());
    // Taken back and given again at once: each order counts.
    fosters.unfoster(1);
    fosters.foster(1, first.copy());
    until(|| !reports.borrow().is_empty()).await;
    assert_eq!(Client::connect(first.address).await.get("/hello").await.status, 200);
    assert_eq!(*reports.borrow(), [1]);
}

#[tokio::test(flavor = "local")]
async fn a_fostered_listener_that_is_shut_is_reported_and_its_connections_are_served_on() {
    let rooms = Rooms::new();
    let (mut fosters, reports) = serving(&rooms);
    let slot = Slot::open();
    fosters.foster(7, slot.copy());
    let mut client = Client::connect(slot.address).await;
    assert_eq!(client.get("/hello").await.status, 200);
    shutdown(&slot.listener, Shutdown::Both).unwrap();
    until(|| !reports.borrow().is_empty()).await;
    assert_eq!(client.get("/hello").await.status, 200);
    // The slot can be fostered again, with the socket that it has then.
    let fresh = Slot::open();
    fosters.foster(7, fresh.copy());
    assert_eq!(Client::connect(fresh.address).await.get("/hello").await.status, 200);
    assert_eq!(*reports.borrow(), [7]);
}

#[tokio::test(flavor = "local")]
async fn what_is_no_listener_is_reported() {
    let rooms = Rooms::new();
    let (mut fosters, reports) = serving(&rooms);
    // Never bound, never listening: accept says EINVAL at once.
    let socket = std::os::fd::OwnedFd::from(Slot::open().listener);
    shutdown(&socket, Shutdown::Both).unwrap();
    fosters.foster(2, socket.into());
    until(|| !reports.borrow().is_empty()).await;
    // The event loop watches no regular file.
    let file = std::fs::File::open("Cargo.toml").unwrap();
    fosters.foster(2, std::os::fd::OwnedFd::from(file).into());
    assert_eq!(*reports.borrow(), [2, 2]);
}

#[tokio::test(flavor = "local")]
async fn at_a_drain_the_queue_of_a_fostered_slot_is_emptied_unless_it_is_taken_back() {
    let rooms = Rooms::new();
    let (mut fosters, reports) = serving(&rooms);
    let (kept, taken_back) = (Slot::open(), Slot::open());
    let (clients, _others) = (kept.queue(40).await, taken_back.queue(40).await);
    fosters.foster(0, kept.copy());
    fosters.foster(1, taken_back.copy());
    rooms.shared.drain.begin();
    let mut accepting = fosters.leave();
    fosters.unfoster(1);
    while accepting.join_next().await.is_some() {}
    for mut client in clients {
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    }
    let mut reported = reports.borrow().clone();
    reported.sort_unstable();
    assert_eq!((reported, taken_back.queued()), (vec![0, 1], 40));
}

#[tokio::test(flavor = "local")]
async fn a_listener_that_is_shut_ends_its_task_without_a_drain() {
    let rooms = Rooms::new();
    let slot = Slot::open();
    let listener = watched(slot.copy()).unwrap();
    let accepting = spawn_local(accept(listener, Rc::clone(&rooms.shared)));
    let mut client = Client::connect(slot.address).await;
    assert_eq!(client.get("/hello").await.status, 200);
    shutdown(&slot.listener, Shutdown::Both).unwrap();
    accepting.await.unwrap();
    assert_eq!(client.get("/hello").await.status, 200);
}

fn seats(connections_max: usize) -> Limits {
    Limits { connections_max, queue_timeout: Duration::from_secs(60), ..Limits::default() }
}

/// As many slots, all of which these rooms accept from.
fn several(rooms: &Rooms, count: usize) -> (Vec<Slot>, JoinSet<()>) {
    let slots: Vec<Slot> = std::iter::repeat_with(Slot::open).take(count).collect();
    let mut accepting = JoinSet::new();
    for slot in &slots {
        let listener = watched(slot.copy()).unwrap();
        accepting.spawn_local(accept(listener, Rc::clone(&rooms.shared)));
    }
    (slots, accepting)
}

#[tokio::test(flavor = "local")]
async fn all_listeners_together_give_no_more_seats_than_there_are() {
    let rooms = Rooms::within(seats(4));
    let (slots, _accepting) = several(&rooms, 4);
    let mut clients = Vec::new();
    // Three seats are taken, and all four listeners wait for somebody.
    for slot in &slots[..3] {
        let mut client = Client::connect(slot.address).await;
        client.send("GET /gate HTTP/1.1\r\nhost: x\r\n\r\n").await;
        clients.push(client);
    }
    until(|| rooms.app.saw("gate") == 3).await;
    // One more for each, and the loop is told of all of them at once.
    let late: Vec<_> =
        slots.iter().map(|slot| StdTcpStream::connect(slot.address).unwrap()).collect();
    until(|| rooms.shared.stats.connections.get() == 4).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
        assert_eq!(rooms.shared.stats.connections.get(), 4);
    }
    drop(late);
}

#[tokio::test(flavor = "local")]
async fn listeners_take_turns_at_seats_that_come_free() {
    let rooms = Rooms::within(seats(1));
    let (slots, _accepting) = several(&rooms, 3);
    let mut clients = Vec::new();
    for (index, slot) in slots.iter().enumerate() {
        for _ in 0..20 {
            let mut client = StdTcpStream::connect(slot.address).unwrap();
            write!(client, "GET /named/{index}?name=x HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
            clients.push(client);
        }
    }
    until(|| rooms.app.names.borrow().len() == 60).await;
    let order = rooms.app.names.borrow().concat();
    // Whoever begins may have two in a row, and never again while others wait.
    let most = |index: char, end: usize| order[..end].matches(index).count();
    for end in (3..60).step_by(3) {
        let counts = ['0', '1', '2'].map(|index| most(index, end));
        assert!(counts.iter().all(|count| count.abs_diff(end / 3) <= 1), "{order}");
    }
    assert_eq!(rooms.shared.stats.shed.get(), 0);
}
