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
async fn pipelined_requests_are_answered_in_order() {
    let mut client = Rooms::new().client().await;
    let first = "GET /named/one?name=1 HTTP/1.1\r\nhost: x\r\n\r\n";
    client
        .send(format!(
            "{first}{}GET /nope HTTP/1.1\r\nhost: x\r\n\r\n",
            post("/echo", JSON, r#"{"name":"two"}"#)
        ))
        .await;
    assert_eq!(client.answer().await.json()["path"], "one");
    assert_eq!(client.answer().await.body, "\"two\"");
    assert_eq!(client.answer().await.status, 404);
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
async fn head_is_get_without_the_body() {
    let mut client = Rooms::new().client().await;
    client.send("HEAD /hello HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let answer = client.head().await;
    assert_eq!((answer.status, answer.header("content-length")), (200, Some("7")));
    client.send("HEAD /nope HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(client.head().await.status, 404);
    assert_eq!(client.get("/hello").await.status, 200);
}

#[tokio::test(flavor = "local")]
async fn options_lists_the_methods() {
    let mut client = Rooms::new().client().await;
    client.send("OPTIONS /echo HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("allow")), (204, Some("POST, OPTIONS")));
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
    let good = ["application/json", "application/json; charset=utf-8", "application/x+json"];
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
async fn a_large_unread_body_ends_it_after_the_answer() {
    let mut client = Rooms::new().client().await;
    let length = 5 * 1024 * 1024;
    let head = "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-type: application/json";
    client.send(format!("{head}\r\ncontent-length: {length}\r\n\r\n")).await;
    // The client sends all of it before it reads: a reset would cost it the answer.
    client.send("x".repeat(length)).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (413, Some("close")));
    client.closed().await;
}

#[tokio::test(flavor = "local")]
async fn a_client_that_waits_for_100_is_refused_without_it() {
    let mut client = Rooms::new().client().await;
    let head = "POST /echo HTTP/1.1\r\nhost: x\r\nexpect: 100-continue";
    client.send(format!("{head}\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\n")).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (415, Some("close")));
    client.closed().await;
}

#[tokio::test(flavor = "local")]
async fn a_client_that_waits_for_100_gets_it_when_the_body_is_wanted() {
    let mut client = Rooms::new().client().await;
    let head = "POST /echo HTTP/1.1\r\nhost: x\r\nexpect: 100-continue";
    client
        .send(format!("{head}\r\ncontent-type: application/json\r\ncontent-length: 12\r\n\r\n"))
        .await;
    assert_eq!(client.head().await.status, 100);
    client.send(r#"{"name":"a"}"#).await;
    assert_eq!(client.answer().await.body, "\"a\"");
    assert_eq!(client.get("/hello").await.status, 200);
}

#[tokio::test(flavor = "local")]
async fn a_request_has_one_host() {
    let mut client = Rooms::new().client().await;
    for hosts in ["", "host: a\r\nhost: b\r\n"] {
        client.send(format!("GET /hello HTTP/1.1\r\n{hosts}\r\n")).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, 400);
        answer.problem("/hello");
    }
    client.send("GET /hello HTTP/1.0\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 200);
    client.closed().await;
}

#[tokio::test(flavor = "local")]
async fn a_host_is_a_name_or_an_address_and_perhaps_a_port() {
    let mut client = Rooms::new().client().await;
    for host in ["", "x", "a-b.c:80", "127.0.0.1:65535", "[::1]", "[::1]:8000"] {
        client.send(format!("GET /hello HTTP/1.1\r\nhost: {host}\r\n\r\n")).await;
        assert_eq!(client.answer().await.status, 200, "{host}");
    }
    for host in ["a b", "u@x", "x/y", "[::1", "x:1:2"] {
        client.send(format!("GET /hello HTTP/1.1\r\nhost: {host}\r\n\r\n")).await;
        assert_eq!(client.answer().await.status, 400, "{host}");
    }
}

#[tokio::test(flavor = "local")]
async fn a_target_of_the_limit_is_taken_and_one_byte_more_is_not() {
    let mut client = Rooms::new().client().await;
    let target = |length: usize| format!("/hello?{}", "x".repeat(length - 7));
    assert_eq!(client.get(&target(8192)).await.status, 200);
    let answer = client.get(&target(8193)).await;
    assert_eq!(answer.status, 414);
    answer.problem("/hello");
}

#[tokio::test(flavor = "local")]
async fn hyper_refuses_a_head_that_is_too_long_or_no_http() {
    let rooms = Rooms::new();
    let many = "a: b\r\n".repeat(100);
    let long = format!("a: {}\r\n", "x".repeat(33 * 1024));
    for (headers, status) in [(many, 431), (long, 431), ("no header\r\n".into(), 400)] {
        let mut client = rooms.client().await;
        client.send(format!("GET /hello HTTP/1.1\r\nhost: x\r\n{headers}\r\n")).await;
        assert_eq!(client.answer().await.status, status);
    }
    let mut client = rooms.client().await;
    let some = "a: b\r\n".repeat(99);
    client.send(format!("GET /hello HTTP/1.1\r\nhost: x\r\n{some}\r\n")).await;
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test(flavor = "local")]
async fn a_head_that_goes_on_and_on_still_gets_its_answer() {
    let mut client = Rooms::new().client().await;
    client.send("GET /hello HTTP/1.1\r\na: ").await;
    // The client sends all of it before it reads: a reset would cost it the answer.
    client.send("x".repeat(16 * 1024 * 1024)).await;
    assert_eq!(client.answer().await.status, 431);
    client.closed().await;
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
async fn a_host_is_a_host_and_perhaps_a_port() {
    let mut client = Rooms::new().client().await;
    for host in ["", "x", "x.example:80", "127.0.0.1", "[::1]:8000"] {
        client.send(format!("GET /hello HTTP/1.1\r\nhost: {host}\r\n\r\n")).await;
        assert_eq!(client.answer().await.status, 200, "{host:?}");
    }
    for host in ["a b", "user@x", "a/b", "x:80:80", "[::1", "a?b"] {
        client.send(format!("GET /hello HTTP/1.1\r\nhost: {host}\r\n\r\n")).await;
        assert_eq!(client.answer().await.status, 400, "{host:?}");
    }
}

#[tokio::test(flavor = "local")]
async fn a_target_with_a_host_of_its_own_needs_the_header_but_not_its_value() {
    let mut client = Rooms::new().client().await;
    client.send("GET http://a.example/hello HTTP/1.1\r\nhost: b.example\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 200);
    client.send("GET http://a.example/hello HTTP/1.1\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 400);
}

#[tokio::test(flavor = "local")]
async fn the_one_transfer_coding_is_chunked() {
    for codings in [
        "transfer-encoding: gzip, chunked",
        "transfer-encoding: gzip\r\ntransfer-encoding: chunked",
    ] {
        let mut client = Rooms::new().client().await;
        let head = "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
        client.send(format!("{head}{codings}\r\n\r\nc\r\n{{\"name\":\"a\"}}\r\n0\r\n\r\n")).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, 501, "{codings}");
        assert_eq!(answer.problem("/echo")["type"], "/problems/not-implemented");
    }
}

#[tokio::test(flavor = "local")]
async fn options_of_the_server_as_a_whole_are_answered() {
    let mut client = Rooms::new().client().await;
    client.send("OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 204);
    client.send("GET * HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 404);
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
