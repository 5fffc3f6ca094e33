//! What a client sees, over TCP.

use serde_json::json;
use tokio::io::AsyncWriteExt;

use super::{Rooms, post};
use crate::config::Limits;

const JSON: &str = "application/json";

#[tokio::test(flavor = "local")]
async fn a_connection_serves_one_request_after_the_other() {
    let rooms = Rooms::new();
    let mut client = rooms.client().await;
    for _ in 0..3 {
        let answer = client.get("/hello").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "\"hello\""));
        assert_eq!(answer.header("content-type"), Some(JSON));
        assert_eq!(answer.header("connection"), None);
    }
    assert_eq!(rooms.shared.stats.connections.get(), 1);
    assert_eq!(rooms.shared.stats.requests.get(), 3);
    assert_eq!(rooms.shared.stats.in_flight.get(), 0);
}

#[tokio::test(flavor = "local")]
async fn inputs_are_decoded() {
    let mut client = Rooms::new().client().await;
    let answer = client.get("/named/%C3%A4%2Fb+c?name=d+%26").await;
    assert_eq!(answer.json()["path"], "ä/b+c");
    assert_eq!(answer.json()["query"], "d &");
    let answer = client.get("/named/%ff?name=a").await;
    assert_eq!(answer.status, 422);
    let problem = answer.problem("/named/%ff");
    assert_eq!(problem["errors"][0]["loc"], json!(["path", "name"]));
    let answer = client.post("/form", "application/x-www-form-urlencoded", "name=a+b").await;
    assert_eq!(answer.body, "\"a b\"");
}

#[tokio::test(flavor = "local")]
async fn unknown_paths_and_wrong_methods_are_told_apart() {
    let mut client = Rooms::new().client().await;
    let answer = client.get("/nope?secret=1").await;
    assert_eq!(answer.status, 404);
    assert_eq!(answer.problem("/nope")["type"], "/problems/not-found");
    let answer = client.post("/hello", JSON, "{}").await;
    assert_eq!(answer.status, 405);
    assert_eq!(answer.header("allow"), Some("GET, HEAD, OPTIONS"));
    assert_eq!(answer.problem("/hello")["detail"], "this path takes GET, HEAD, OPTIONS");
}

#[tokio::test(flavor = "local")]
async fn a_harmless_request_id_comes_back_and_others_are_replaced() {
    let mut client = Rooms::new().client().await;
    for (given, kept) in [("abc-1.2_3", true), ("a b", false)] {
        client
            .send(format!("GET /nope HTTP/1.1\r\nhost: x\r\nx-request-id: {given}\r\n\r\n"))
            .await;
        let answer = client.answer().await;
        assert_eq!(answer.header("x-request-id") == Some(given), kept);
        answer.problem("/nope");
    }
    let answer = client.get("/named/a?name=b").await;
    assert_eq!(answer.json()["id"].as_str(), answer.header("x-request-id"));
}

#[tokio::test(flavor = "local")]
async fn a_panic_is_an_error_of_its_request_alone() {
    let rooms = Rooms::new();
    let mut client = rooms.client().await;
    let answer = client.get("/panic").await;
    assert_eq!(answer.status, 500);
    assert_eq!(answer.problem("/panic")["type"], "/problems/internal");
    assert!(!answer.body.contains("secret"));
    assert_eq!(client.get("/hello").await.status, 200);
    assert_eq!(rooms.shared.stats.panics.get(), 1);
    assert_eq!(rooms.shared.stats.in_flight.get(), 0);
}

#[tokio::test(flavor = "local")]
async fn a_body_must_be_of_the_right_type() {
    let mut client = Rooms::new().client().await;
    let good = ["application/json", "application/json; charset=utf-8", "Application/JSON;v=1"];
    for content_type in good {
        assert_eq!(client.post("/echo", content_type, r#"{"name":"a"}"#).await.status, 200);
    }
    for content_type in ["text/plain", "application/json; charset=latin-1"] {
        let answer = client.post("/echo", content_type, r#"{"name":"a"}"#).await;
        assert_eq!((answer.status, answer.header("accept")), (415, Some(JSON)));
        answer.problem("/echo");
    }
    client.send("POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}").await;
    assert_eq!(client.answer().await.status, 415);
    client
        .send("POST /echo HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}")
        .await;
    assert_eq!(client.answer().await.status, 415);
}

#[tokio::test(flavor = "local")]
async fn an_empty_body_is_a_missing_one() {
    let mut client = Rooms::new().client().await;
    client.send("POST /echo HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 422);
    let want =
        json!([{"loc": ["body"], "msg": "Field required", "type": "missing", "pointer": "#"}]);
    assert_eq!(answer.problem("/echo")["errors"], want);
}

#[tokio::test(flavor = "local")]
async fn a_chunked_body_is_put_together() {
    let mut client = Rooms::new().client().await;
    let head = "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    client.send(head).await;
    for piece in
        ["5\r\n{\"nam\r\n", "6\r\ne\":\"ab\r\n", "3\r\ncd\"\r\n", "1\r\n}\r\n", "0\r\n\r\n"]
    {
        client.send(piece).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(client.answer().await.body, "\"abcd\"");
    client.send(format!("{head}zz\r\n")).await;
    assert_eq!(client.answer().await.status, 400);
}

#[tokio::test(flavor = "local")]
async fn a_body_of_the_limit_is_taken_and_one_byte_more_is_not() {
    let rooms = Rooms::within(Limits { body_max_bytes: 100, ..Limits::default() });
    let mut client = rooms.client().await;
    let body = |length: usize| format!(r#"{{"name":"{}"}}"#, "x".repeat(length - 11));
    assert_eq!(client.post("/echo", JSON, &body(100)).await.status, 200);
    let answer = client.post("/echo", JSON, &body(101)).await;
    assert_eq!(answer.status, 413);
    assert_eq!(answer.problem("/echo")["detail"], "the body may have 100 bytes");
    let chunked = |body: &str| {
        let length = body.len();
        format!(
            "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
             transfer-encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n"
        )
    };
    client.send(chunked(&body(100))).await;
    assert_eq!(client.answer().await.status, 200);
    client.send(chunked(&body(101))).await;
    assert_eq!(client.answer().await.status, 413);
}

#[tokio::test(flavor = "local")]
async fn a_small_unread_body_keeps_the_connection() {
    let mut client = Rooms::new().client().await;
    for _ in 0..2 {
        let body = "x".repeat(60_000);
        client.send(post("/unread", JSON, &body).replace("POST", "PUT")).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.header("connection")), (404, None));
    }
}

#[tokio::test(flavor = "local")]
async fn a_client_that_leaves_is_not_counted_any_more() {
    let rooms = Rooms::new();
    let mut client = rooms.client().await;
    client.send("GET /gate HTTP/1.1\r\nhost: x\r\n\r\n").await;
    while rooms.app.saw("gate") == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(rooms.shared.stats.in_flight.get(), 1);
    drop(client);
    while rooms.shared.stats.connections.get() > 0 {
        rooms.shared.room.notified().await;
    }
    assert_eq!(rooms.shared.stats.in_flight.get(), 0);
}

#[tokio::test(flavor = "local")]
async fn a_large_response_arrives_whole() {
    let mut client = Rooms::new().client().await;
    assert_eq!(client.get("/large").await.body.len(), 4 * 1024 * 1024 + 2);
    assert_eq!(client.get("/hello").await.status, 200);
}

#[tokio::test(flavor = "local")]
async fn a_client_that_shuts_its_side_counts_as_gone() {
    let rooms = Rooms::new();
    let mut client = rooms.client().await;
    client.send("GET /gate HTTP/1.1\r\nhost: x\r\n\r\n").await;
    while rooms.app.saw("gate") == 0 {
        tokio::task::yield_now().await;
    }
    client.stream.shutdown().await.unwrap();
    client.closed().await;
    while rooms.shared.stats.connections.get() > 0 {
        rooms.shared.room.notified().await;
    }
    assert_eq!(rooms.shared.stats.in_flight.get(), 0);
}

#[tokio::test(flavor = "local")]
async fn a_form_of_the_limit_is_taken_and_one_byte_more_is_not() {
    let mut client = Rooms::new().client().await;
    let form = |length: usize| format!("name={}", "x".repeat(length - 5));
    let content_type = "application/x-www-form-urlencoded";
    assert_eq!(client.post("/form", content_type, &form(65_536)).await.status, 200);
    let many = "name=a&".repeat(101);
    assert_eq!(client.post("/form", content_type, &many).await.status, 422);
    assert_eq!(client.post("/form", content_type, &form(65_537)).await.status, 413);
}

#[tokio::test(flavor = "local")]
async fn all_bodies_together_have_a_limit() {
    let rooms = Rooms::within(Limits { bodies_max_bytes: 100, ..Limits::default() });
    let (mut slow, mut other) = (rooms.client().await, rooms.client().await);
    let body = |length: usize| format!(r#"{{"name":"{}"}}"#, "x".repeat(length - 11));
    let whole = post("/echo", JSON, &body(90));
    slow.send(&whole[..whole.len() - 30]).await;
    while rooms.shared.bodies_bytes.get() < 60 {
        tokio::task::yield_now().await;
    }
    assert_eq!(other.post("/echo", JSON, &body(40)).await.status, 200);
    let answer = other.post("/echo", JSON, &body(41)).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    answer.problem("/echo");
    slow.send(&whole[whole.len() - 30..]).await;
    assert_eq!(slow.answer().await.status, 200);
    assert_eq!(rooms.shared.bodies_bytes.get(), 0);
    assert_eq!(other.post("/echo", JSON, &body(100)).await.status, 200);
}

#[tokio::test(flavor = "local")]
async fn a_client_that_leaves_within_its_body_holds_nothing() {
    let rooms = Rooms::new();
    let mut client = rooms.client().await;
    client.send(&post("/echo", JSON, &"x".repeat(90))[..150]).await;
    while rooms.shared.bodies_bytes.get() == 0 {
        tokio::task::yield_now().await;
    }
    drop(client);
    while rooms.shared.stats.connections.get() > 0 {
        rooms.shared.room.notified().await;
    }
    assert_eq!(rooms.shared.bodies_bytes.get(), 0);
}
