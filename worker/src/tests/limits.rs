//! Deadlines, at their edges, on a clock that only moves when everything waits.

use std::future::Future;

use tokio::time::{Duration, Instant};

use super::Rooms;
use crate::config::Limits;

/// How long something takes, in milliseconds.
async fn takes<T>(future: impl Future<Output = T>) -> (u128, T) {
    let start = Instant::now();
    let result = future.await;
    (start.elapsed().as_millis(), result)
}

/// Wait until no connection is left.
async fn gone(rooms: &Rooms) {
    while rooms.shared.stats.connections.get() > 0 {
        rooms.shared.room.notified().await;
    }
}

fn about(ms: u128, want: u128) {
    // Timers fire in the millisecond after they are due.
    assert!((want..want + 5).contains(&ms), "took {ms} ms, not {want} ms");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_silent_connection_has_ten_seconds() {
    let mut client = Rooms::new().pipe();
    about(takes(client.closed()).await.0, 10_000);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_head_has_ten_seconds_from_its_first_byte() {
    let mut client = Rooms::new().pipe();
    tokio::time::sleep(Duration::from_secs(6)).await;
    client.send("GET /hello HT").await;
    let (ms, ()) = takes(async {
        tokio::time::sleep(Duration::from_secs(7)).await;
        client.send("TP/1.1\r\n").await;
        client.closed().await;
    })
    .await;
    about(ms, 10_000);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn the_next_head_has_ten_seconds_of_its_own() {
    let mut client = Rooms::new().pipe();
    assert_eq!(client.get("/hello").await.status, 200);
    tokio::time::sleep(Duration::from_secs(60)).await;
    client.send("G").await;
    about(takes(client.closed()).await.0, 10_000);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_idle_connection_has_75_seconds_after_each_response() {
    let mut client = Rooms::new().pipe();
    for _ in 0..3 {
        assert_eq!(client.get("/hello").await.status, 200);
        tokio::time::sleep(Duration::from_secs(74)).await;
    }
    assert_eq!(client.get("/hello").await.status, 200);
    about(takes(client.closed()).await.0, 75_000);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_handler_has_the_requests_time_and_then_a_503() {
    let mut client = Rooms::new().pipe();
    let (ms, answer) = takes(client.get("/never")).await;
    about(ms, 30_000);
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    answer.problem("/never");
    assert_eq!(client.get("/hello").await.status, 200);
}

const HEAD: &str = "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_body_that_stops_has_ten_seconds() {
    let mut client = Rooms::new().pipe();
    client.send(format!("{HEAD}content-length: 100\r\n\r\n{{\"name\":")).await;
    let (ms, answer) = takes(client.answer()).await;
    about(ms, 10_000);
    assert_eq!((answer.status, answer.header("connection")), (408, Some("close")));
    answer.problem("/echo");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_body_below_the_minimum_rate_is_cut_off() {
    let limits = Limits { request_timeout: Duration::from_secs(300), ..Limits::default() };
    let mut client = Rooms::within(limits).pipe();
    client.send(format!("{HEAD}content-length: 100000\r\n\r\n")).await;
    // 200 bytes a second: never idle, and yet too slow. After t seconds 10 s + 200 t / 240 are earned,
    // which the 56th second is the first to overrun.
    let (ms, status) = takes(async {
        loop {
            tokio::select! {
                answer = client.answer() => return answer.status,
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
            client.send("x".repeat(200)).await;
        }
    })
    .await;
    assert_eq!(status, 408);
    about(ms, 55_833);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_body_at_the_minimum_rate_is_taken() {
    let limits = Limits { request_timeout: Duration::from_secs(300), ..Limits::default() };
    let mut client = Rooms::within(limits).pipe();
    let body = format!(r#"{{"name":"{}"}}"#, "x".repeat(24_000 - 11));
    client.send(format!("{HEAD}content-length: 24000\r\n\r\n")).await;
    for piece in body.as_bytes().chunks(240) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        client.send(piece).await;
    }
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_client_that_does_not_read_has_ten_seconds() {
    let rooms = Rooms::new();
    let mut client = rooms.pipe();
    client.send("GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let (ms, ()) = takes(async {
        gone(&rooms).await;
    })
    .await;
    about(ms, 10_000);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_client_that_reads_slowly_is_served() {
    let mut client = Rooms::new().pipe();
    client.send("GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await;
    // 5 s between reads of a pipe's 1 KiB: slower than the idle time as a whole, but it moves.
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(client.fill().await > 0);
    }
    assert_eq!(client.answer().await.body.len(), 4 * 1024 * 1024 + 2);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_unread_body_does_not_hold_the_answer_and_ends_the_connection_if_it_does_not_come() {
    let rooms = Rooms::new();
    let mut client = rooms.pipe();
    client.send("PUT /unread HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n").await;
    let (ms, answer) = takes(client.answer()).await;
    about(ms, 0);
    assert_eq!(answer.status, 404);
    about(takes(client.closed()).await.0, 1_000);
    // The socket waits for its other end for another second.
    about(takes(gone(&rooms)).await.0, 1_000);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_unread_body_that_comes_after_the_answer_keeps_the_connection() {
    let mut client = Rooms::new().pipe();
    client.send("PUT /unread HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 404);
    tokio::time::sleep(Duration::from_millis(900)).await;
    client.send("x".repeat(100)).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(client.get("/hello").await.status, 200);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_body_that_is_not_here_at_the_requests_deadline_is_the_clients_fault() {
    let mut client = Rooms::new().pipe();
    client.send(format!("{HEAD}content-length: 1000000\r\n\r\n")).await;
    let (ms, answer) = takes(async {
        loop {
            tokio::select! {
                answer = client.answer() => return answer,
                () = tokio::time::sleep(Duration::from_millis(990)) => {}
            }
            client.send("x".repeat(500)).await;
        }
    })
    .await;
    about(ms, 30_000);
    assert_eq!((answer.status, answer.header("connection")), (408, Some("close")));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_head_that_began_behind_a_request_has_ten_seconds_from_the_answer_on() {
    let rooms = Rooms::new();
    let mut client = rooms.pipe();
    client.send("GET /gate HTTP/1.1\r\nhost: x\r\n\r\n").await;
    while rooms.app.saw("gate") == 0 {
        tokio::task::yield_now().await;
    }
    client.send("GET /hello HT").await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    rooms.app.gate.notify_waiters();
    assert_eq!(client.answer().await.status, 204);
    about(takes(client.closed()).await.0, 10_000);
}
