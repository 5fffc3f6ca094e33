//! What is counted of clients and their requests.

use std::sync::atomic::Ordering;

use super::{Rooms, until};

/// Series of durations that anything was counted in: method, route, status, count.
fn durations(rooms: &Rooms) -> Vec<(&'static str, &'static str, Option<u16>, u64)> {
    let counters = rooms.shared.stats.meters.counters;
    let all = rooms.shared.router.durations().series().map(|one| {
        let words = &counters[one.at..one.at + crate::meters::HISTOGRAM_WORDS - 1];
        let count = words.iter().map(|word| word.load(Ordering::Relaxed)).sum();
        (one.method, one.route, one.status, count)
    });
    all.filter(|(.., count)| *count > 0).collect()
}

#[tokio::test(flavor = "local")]
async fn every_request_has_one_duration_whatever_becomes_of_it() {
    let rooms = Rooms::new();
    let mut client = rooms.client().await;
    for (path, status) in [("/hello", 200), ("/hello", 200), ("/panic", 500), ("/nope", 404)] {
        assert_eq!(client.get(path).await.status, status);
    }
    client.send("HEAD /hello HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(client.head().await.status, 200);
    client.send("BREW /hello HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 405);
    let mut leaver = rooms.client().await;
    leaver.send("GET /never HTTP/1.1\r\nhost: x\r\n\r\n").await;
    until(|| rooms.shared.stats.in_flight.get() == 1).await;
    drop(leaver);
    until(|| rooms.shared.stats.in_flight.get() == 0).await;
    assert_eq!(
        durations(&rooms),
        [
            ("GET", "-", Some(404), 1),
            ("_OTHER", "-", Some(405), 1),
            ("GET", "/hello", Some(200), 3),
            ("GET", "/panic", Some(500), 1),
            ("GET", "/never", Some(499), 1),
        ]
    );
    assert_eq!(rooms.shared.stats.requests.get(), 7);
    assert_eq!(rooms.shared.stats.malformed.get(), 0);
}

#[tokio::test(flavor = "local")]
async fn bytes_are_counted_both_ways() {
    let rooms = Rooms::new();
    let mut client = rooms.client().await;
    let request = "GET /hello HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    client.send(request).await;
    while client.fill().await > 0 {}
    let answer = String::from_utf8(client.read).unwrap();
    assert!(answer.ends_with("\"hello\""), "{answer}");
    let stats = rooms.shared.stats;
    assert_eq!(stats.received_bytes.get(), request.len() as u64);
    assert_eq!(stats.sent_bytes.get(), answer.len() as u64);
}

#[tokio::test(flavor = "local")]
async fn what_is_no_request_is_counted_apart() {
    let rooms = Rooms::new();
    let mut client = rooms.client().await;
    client.send("no HTTP at all\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 400);
    assert_eq!((rooms.shared.stats.malformed.get(), durations(&rooms)), (1, vec![]));
}
