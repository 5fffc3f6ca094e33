//! Leaving, and being full.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener as StdTcpListener, TcpStream as StdTcpStream};
use std::rc::Rc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Duration, Instant};

use super::{Client, Rooms, config, post, until};
use crate::accept::accept;
use crate::config::{Config, Limits};
use crate::drain::{Leave, Outcome, leave};
use crate::listen::watched;

/// Tell rooms to leave; more orders can follow.
fn leaves(rooms: &Rooms, first: Leave) -> (mpsc::UnboundedSender<Leave>, JoinHandle<Outcome>) {
    leaves_with(rooms, first, 0)
}

/// The same, with transactions that do not end.
fn leaves_with(
    rooms: &Rooms,
    first: Leave,
    transactions: usize,
) -> (mpsc::UnboundedSender<Leave>, JoinHandle<Outcome>) {
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

#[tokio::test(flavor = "local", start_paused = true)]
async fn idle_and_silent_connections_are_kept_for_the_grace_and_then_closed() {
    let rooms = Rooms::new();
    let (mut idle, mut silent) = (rooms.pipe(), rooms.pipe());
    assert_eq!(idle.get("/hello").await.header("connection"), None);
    let start = Instant::now();
    let (_orders, leaving) = leaves(&rooms, Leave::Drain);
    tokio::join!(idle.closed(), silent.closed());
    assert!((5_000..5_010).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    assert_eq!(leaving.await.unwrap(), Outcome::Drained);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn requests_within_the_grace_are_answered_with_connection_close() {
    let rooms = Rooms::new();
    let (mut idle, mut silent) = (rooms.pipe(), rooms.pipe());
    assert_eq!(idle.get("/hello").await.status, 200);
    let (_orders, leaving) = leaves(&rooms, Leave::Drain);
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
    let (_orders, leaving) = leaves(&rooms, Leave::Drain);
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
    let (_orders, leaving) = leaves(&rooms, Leave::Drain);
    tokio::time::sleep(Duration::from_secs(8)).await;
    client.send("TP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(leaving.await.unwrap(), Outcome::Drained);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn the_deadline_cuts_what_is_not_done() {
    let cases = [
        (Leave::Drain, vec![], 20_000),
        (Leave::Quit, vec![], 2_000),
        (Leave::Orphaned, vec![], 500),
        (Leave::Drain, vec![Leave::Quit], 2_000),
        (Leave::Quit, vec![Leave::Quit], 0),
        (Leave::Drain, vec![Leave::Orphaned, Leave::Drain], 500),
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
    let refused = TcpStream::connect(address).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

/// Clients over TCP, each with a connection that was used once and is idle now.
async fn idle_clients(rooms: &Rooms, count: usize) -> Vec<StdTcpStream> {
    let (address, _accepting) = rooms.listen().await;
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = Client::connect(address).await;
        assert_eq!(client.get("/hello").await.header("connection"), None);
        clients.push(client.stream.into_std().unwrap());
    }
    clients
}

#[tokio::test(flavor = "local")]
async fn a_request_that_the_kernel_has_at_the_end_of_the_grace_is_answered() {
    let rooms = Rooms::new();
    let mut clients = idle_clients(&rooms, 50).await;
    rooms.shared.drain.begin();
    // The loop is not told of these before it has closed what it takes for idle: it does not run.
    for (index, client) in clients.iter_mut().enumerate() {
        let request = post("/echo", "application/json", r#"{"name":"ann"}"#);
        let length = if index % 2 == 0 { request.len() } else { 1 };
        client.write_all(&request.as_bytes()[..length]).unwrap();
    }
    rooms.shared.drain.close();
    until(|| rooms.shared.stats.requests.get() == 75).await;
    for (index, client) in clients.into_iter().enumerate() {
        let mut client = Client { stream: TcpStream::from_std(client).unwrap(), read: Vec::new() };
        if index % 2 == 1 {
            client.send(&post("/echo", "application/json", r#"{"name":"ann"}"#)[1..]).await;
        }
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
        client.closed().await;
    }
}

#[tokio::test(flavor = "local")]
async fn a_request_that_is_too_late_is_not_looked_at_and_not_reset() {
    let rooms = Rooms::new();
    let mut clients = idle_clients(&rooms, 50).await;
    rooms.shared.drain.begin();
    rooms.shared.drain.close();
    for client in &mut clients {
        until(|| matches!(client.peek(&mut [0]), Ok(0))).await;
        client.write_all(post("/echo", "application/json", "{}").as_bytes()).unwrap();
        tokio::task::yield_now().await;
        client.write_all(b"still there?").unwrap();
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    }
    assert_eq!(rooms.shared.stats.requests.get(), 50);
    // The clients have been told, and are not waited for once they have closed, too.
    drop(clients);
    until(|| rooms.shared.stats.connections.get() == 0).await;
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_client_that_does_not_close_is_waited_for_a_second() {
    let rooms = Rooms::new();
    let mut client = rooms.pipe();
    assert_eq!(client.get("/hello").await.status, 200);
    let (_orders, leaving) = leaves(&rooms, Leave::Drain);
    let start = Instant::now();
    assert_eq!(leaving.await.unwrap(), Outcome::Drained);
    assert!((6_000..6_010).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    client.closed().await;
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn the_head_of_a_later_request_that_has_begun_is_awaited_and_answered() {
    let rooms = Rooms::new();
    let mut client = rooms.pipe();
    assert_eq!(client.get("/hello").await.status, 200);
    client.send("GET /hello HT").await;
    let (_orders, leaving) = leaves(&rooms, Leave::Drain);
    tokio::time::sleep(Duration::from_secs(8)).await;
    client.send("TP/1.1\r\nhost: x\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    client.closed().await;
    drop(client);
    assert_eq!(leaving.await.unwrap(), Outcome::Drained);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_response_that_was_on_its_way_when_the_drain_began_is_delivered() {
    let rooms = Rooms::new();
    let mut client = rooms.pipe();
    client.send("GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await;
    until(|| rooms.shared.stats.requests.get() == 1 && rooms.shared.stats.in_flight.get() == 0)
        .await;
    let (_orders, leaving) = leaves(&rooms, Leave::Drain);
    tokio::time::sleep(Duration::from_secs(8)).await;
    // It was written before the drain, so nothing told the client; it is closed as an idle one.
    assert_eq!(client.answer().await.body.len(), 4 * 1024 * 1024 + 2);
    client.closed().await;
    drop(client);
    assert_eq!(leaving.await.unwrap(), Outcome::Drained);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_hyper_refuses_itself_in_a_drain_says_close_too() {
    let rooms = Rooms::new();
    let mut client = rooms.pipe();
    let (_orders, _leaving) = leaves(&rooms, Leave::Drain);
    client.send("this is no HTTP\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (400, Some("close")));
}

#[tokio::test(flavor = "local")]
async fn those_who_find_no_seat_at_a_drain_get_one_that_comes_free_within_the_grace() {
    let rooms = Rooms::within(seats(2));
    let (address, accepting) = rooms.listen().await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = Client::connect(address).await;
        client.send("GET /gate HTTP/1.1\r\nhost: x\r\n\r\n").await;
        clients.push(client);
    }
    until(|| rooms.app.saw("gate") == 2).await;
    rooms.shared.drain.begin();
    let mut late = Client::connect(address).await;
    late.send("GET /hello HTTP/1.1\r\nhost: x\r\n\r\n").await;
    rooms.app.gate.notify_waiters();
    for client in &mut clients {
        assert_eq!(client.answer().await.status, 204);
    }
    drop(clients);
    assert_eq!(late.answer().await.status, 200);
    accepting.await.unwrap();
}

#[tokio::test(flavor = "local")]
async fn those_who_found_no_seat_by_the_end_of_the_grace_stay_in_the_queue() {
    let rooms = Rooms::within(seats(1));
    let listener = StdTcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let copy = watched(listener.try_clone().unwrap()).unwrap();
    let accepting = spawn_local(accept(copy, Rc::clone(&rooms.shared)));
    let mut client = Client::connect(address).await;
    client.send("GET /never HTTP/1.1\r\nhost: x\r\n\r\n").await;
    until(|| rooms.shared.stats.in_flight.get() == 1).await;
    rooms.shared.drain.begin();
    let late = Client::connect(address).await;
    rooms.shared.drain.close();
    accepting.await.unwrap();
    let (_, who) = listener.accept().unwrap();
    assert_eq!(who, late.stream.local_addr().unwrap());
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
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
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
    let (_orders, leaving) = leaves_with(&rooms, Leave::Quit, 2);
    let want = Outcome::Forced { requests_cut: 0, transactions_cut: 2 };
    assert_eq!(leaving.await.unwrap(), want);

    let rooms = Rooms::new();
    let mut client = rooms.pipe();
    client.send("GET /never HTTP/1.1\r\nhost: x\r\n\r\n").await;
    until(|| rooms.shared.stats.in_flight.get() > 0).await;
    let (_orders, leaving) = leaves_with(&rooms, Leave::Quit, 2);
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
