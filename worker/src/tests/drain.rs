//! Leaving, and being full.

use std::io::ErrorKind;
use std::rc::Rc;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Duration, Instant};

use super::{Client, Rooms, config};
use crate::accept::accept;
use crate::config::{Config, Limits};
use crate::drain::{Outcome, leave};
use crate::signals::Order;

/// Tell rooms to leave; more orders can follow.
fn leaves(rooms: &Rooms, first: Order) -> (mpsc::UnboundedSender<Order>, JoinHandle<Outcome>) {
    leaves_with(rooms, first, 0)
}

/// The same, with transactions that do not end.
fn leaves_with(
    rooms: &Rooms,
    first: Order,
    transactions: usize,
) -> (mpsc::UnboundedSender<Order>, JoinHandle<Outcome>) {
    let (orders, mut inbox) = mpsc::unbounded_channel();
    let shared = Rc::clone(&rooms.shared);
    let config = Config { drain_timeout: Duration::from_secs(20), ..config(Limits::default()) };
    let leaving = spawn_local(async move {
        let next = async || match inbox.recv().await {
            Some(order) => order,
            None => std::future::pending().await,
        };
        let empty = async |_| {
            while shared.stats.connections.get() > 0 {
                shared.room.notified().await;
            }
            transactions
        };
        leave(first, next, &config, &shared, || transactions as u64, empty).await
    });
    (orders, leaving)
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn idle_and_silent_connections_are_kept_for_the_grace_and_then_closed() {
    let rooms = Rooms::new();
    let (mut idle, mut silent) = (rooms.pipe(), rooms.pipe());
    assert_eq!(idle.get("/hello").await.header("connection"), None);
    let start = Instant::now();
    let (_orders, leaving) = leaves(&rooms, Order::Drain);
    tokio::join!(idle.closed(), silent.closed());
    assert!((5_000..5_010).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    assert_eq!(leaving.await.unwrap(), Outcome::Drained);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn requests_within_the_grace_are_answered_with_connection_close() {
    let rooms = Rooms::new();
    let (mut idle, mut silent) = (rooms.pipe(), rooms.pipe());
    assert_eq!(idle.get("/hello").await.status, 200);
    let (_orders, leaving) = leaves(&rooms, Order::Drain);
    tokio::time::sleep(Duration::from_secs(4)).await;
    for client in [&mut idle, &mut silent] {
        let answer = client.get("/hello").await;
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
        client.closed().await;
    }
    assert_eq!(leaving.await.unwrap(), Outcome::Drained);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_request_in_flight_is_answered_before_the_worker_leaves() {
    let rooms = Rooms::new();
    let mut client = rooms.pipe();
    client.send("GET /gate HTTP/1.1\r\nhost: x\r\n\r\n").await;
    until(|| rooms.app.saw("gate") > 0).await;
    let (_orders, leaving) = leaves(&rooms, Order::Drain);
    tokio::time::sleep(Duration::from_secs(10)).await;
    rooms.app.gate.notify_waiters();
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (204, Some("close")));
    client.closed().await;
    assert_eq!(leaving.await.unwrap(), Outcome::Drained);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_head_that_has_begun_is_awaited_and_answered() {
    let rooms = Rooms::new();
    let mut client = rooms.pipe();
    client.send("GET /hello HT").await;
    let (_orders, leaving) = leaves(&rooms, Order::Drain);
    tokio::time::sleep(Duration::from_secs(8)).await;
    client.send("TP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(leaving.await.unwrap(), Outcome::Drained);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn the_deadline_cuts_what_is_not_done() {
    let cases = [
        (Order::Drain, vec![], 20_000),
        (Order::Quit, vec![], 2_000),
        (Order::Orphaned, vec![], 500),
        (Order::Drain, vec![Order::Quit], 2_000),
        (Order::Quit, vec![Order::Quit], 0),
        (Order::Drain, vec![Order::Orphaned, Order::Drain], 500),
    ];
    for (first, more, want) in cases {
        let rooms = Rooms::new();
        let mut client = rooms.pipe();
        client.send("GET /never HTTP/1.1\r\nhost: x\r\n\r\n").await;
        until(|| rooms.shared.stats.in_flight.get() > 0).await;
        let start = Instant::now();
        let (orders, leaving) = leaves(&rooms, first);
        for order in &more {
            orders.send(*order).unwrap();
        }
        assert_eq!(
            leaving.await.unwrap(),
            Outcome::Forced { requests_cut: 1, transactions_cut: 0 }
        );
        let ms = start.elapsed().as_millis();
        assert!((want..want + 10).contains(&ms), "{first:?} {more:?} took {ms} ms");
    }
}

#[tokio::test(flavor = "local")]
async fn clients_that_are_queued_at_a_drain_are_served() {
    let rooms = Rooms::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut clients = Vec::new();
    for _ in 0..50 {
        clients.push(Client::connect(address).await);
    }
    // The loop has not looked at the listener once when the drain begins.
    rooms.shared.drain.begin();
    let accepting = spawn_local(accept(listener, Rc::clone(&rooms.shared)));
    accepting.await.unwrap();
    for client in &mut clients {
        let answer = client.get("/hello").await;
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
        client.closed().await;
    }
    let refused = tokio::net::TcpStream::connect(address).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

fn seats(connections_max: usize) -> Limits {
    Limits { connections_max, queue_timeout: Duration::from_millis(50), ..Limits::default() }
}

#[tokio::test(flavor = "local")]
async fn a_full_worker_stops_accepting_and_then_refuses() {
    let rooms = Rooms::within(seats(2));
    let (address, _accepting) = rooms.listen().await;
    let mut held = [Client::connect(address).await, Client::connect(address).await];
    for client in &mut held {
        client.send("GET /gate HTTP/1.1\r\nhost: x\r\n\r\n").await;
    }
    until(|| rooms.app.saw("gate") == 2).await;
    let mut third = Client::connect(address).await;
    third.send("GET /hello HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let answer = third.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (503, Some("close")));
    assert_eq!(answer.header("retry-after"), Some("1"));
    answer.problem("/");
    third.closed().await;
    assert_eq!(rooms.shared.stats.shed.get(), 1);
    assert_eq!(rooms.shared.stats.connections.get(), 2);
}

#[tokio::test(flavor = "local")]
async fn a_full_worker_makes_room_as_it_answers() {
    let limits = Limits { queue_timeout: Duration::from_secs(60), ..seats(1) };
    let rooms = Rooms::within(limits);
    let (address, _accepting) = rooms.listen().await;
    let mut first = Client::connect(address).await;
    first.send("GET /gate HTTP/1.1\r\nhost: x\r\n\r\n").await;
    until(|| rooms.app.saw("gate") == 1).await;
    let mut second = Client::connect(address).await;
    second.send("GET /hello HTTP/1.1\r\nhost: x\r\n\r\n").await;
    rooms.app.gate.notify_waiters();
    assert_eq!(first.answer().await.header("connection"), Some("close"));
    assert_eq!(second.answer().await.status, 200);
    assert_eq!(rooms.shared.stats.shed.get(), 0);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn requests_and_transactions_that_were_cut_are_told_apart() {
    let rooms = Rooms::new();
    let (_orders, leaving) = leaves_with(&rooms, Order::Quit, 2);
    let want = Outcome::Forced { requests_cut: 0, transactions_cut: 2 };
    assert_eq!(leaving.await.unwrap(), want);

    let rooms = Rooms::new();
    let mut client = rooms.pipe();
    client.send("GET /never HTTP/1.1\r\nhost: x\r\n\r\n").await;
    until(|| rooms.shared.stats.in_flight.get() > 0).await;
    let (_orders, leaving) = leaves_with(&rooms, Order::Quit, 2);
    let want = Outcome::Forced { requests_cut: 1, transactions_cut: 2 };
    assert_eq!(leaving.await.unwrap(), want);
}

#[tokio::test(flavor = "local")]
async fn a_seat_that_comes_free_does_not_begin_the_wait_of_all_others_anew() {
    let rooms = Rooms::within(seats(1));
    let (address, _accepting) = rooms.listen().await;
    let mut clients = Vec::new();
    for _ in 0..10 {
        let mut client = Client::connect(address).await;
        client.send("GET /gate HTTP/1.1\r\nhost: x\r\n\r\n").await;
        clients.push(client);
    }
    // One out and one in, and each time before the first in the queue would be refused.
    let app = Rc::clone(&rooms.app);
    let releasing = spawn_local(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(30)).await;
            app.gate.notify_one();
        }
    });
    let mut statuses = Vec::new();
    for client in &mut clients {
        statuses.push(client.answer().await.status);
    }
    releasing.abort();
    assert!(statuses.contains(&204) && statuses.contains(&503), "{statuses:?}");
}
