//! What is logged: a line per request, the private text of a failure once, and nothing else.

use std::io::Write;
use std::sync::{Arc, Mutex};

use serde_json::Value as Json;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

use super::Rooms;

/// Log lines of this thread.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn listen() -> (Self, DefaultGuard) {
        let lines = Self::default();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_max_level(tracing::Level::TRACE)
            .with_writer(lines.clone())
            .finish();
        (lines, tracing::subscriber::set_default(subscriber))
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    fn of(&self, target: &str) -> Vec<Json> {
        let lines = self.text();
        let lines = lines.lines().map(|line| serde_json::from_str::<Json>(line).unwrap());
        lines.filter(|line| line["target"] == target).collect()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test(flavor = "local")]
async fn each_request_has_one_line_without_what_it_asked_for() {
    let (lines, _guard) = Lines::listen();
    let rooms = Rooms::new();
    let mut client = rooms.client().await;
    let answer = client.get("/named/secret?name=secret").await;
    client.get("/secret").await;
    client.send("GET /gate?secret HTTP/1.1\r\nhost: x\r\n\r\n").await;
    while rooms.app.saw("gate") == 0 {
        tokio::task::yield_now().await;
    }
    drop(client);
    while rooms.shared.stats.connections.get() > 0 {
        rooms.shared.room.notified().await;
    }

    let access = lines.of("access");
    let seen: Vec<_> = access.iter().map(|line| (&line["route"], &line["status"])).collect();
    let want = [("/named/{name}", 200), ("-", 404), ("/gate", 499)];
    assert_eq!(seen.len(), want.len(), "{access:?}");
    for ((route, status), (want_route, want_status)) in seen.iter().zip(want) {
        assert_eq!((route.as_str().unwrap(), status.as_u64().unwrap()), (want_route, want_status));
    }
    assert_eq!(access[0]["method"], "GET");
    assert_eq!((&access[0]["code"], &access[1]["code"]), (&Json::Null, &"not-found".into()));
    assert_eq!(access[0]["request_id"].as_str(), answer.header("x-request-id"));
    assert_eq!(access[0]["bytes"], answer.body.len());
    assert!(access[0]["duration_us"].is_u64());
    assert!(!lines.text().contains("secret"), "{}", lines.text());
}

#[tokio::test(flavor = "local")]
async fn what_is_no_request_has_a_line_with_the_id_of_its_answer() {
    let (lines, _guard) = Lines::listen();
    let mut client = Rooms::new().client().await;
    client.send("a secret that is no request\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!(answer.problem("/")["type"], "/problems/bad-request");
    let access = lines.of("access");
    assert_eq!(
        (access.len(), &access[0]["status"], &access[0]["method"]),
        (1, &400.into(), &"-".into())
    );
    assert_eq!(access[0]["request_id"].as_str(), answer.header("x-request-id"));
    assert!(!lines.text().contains("secret"), "{}", lines.text());
}

#[tokio::test(flavor = "local")]
async fn a_failure_of_the_server_is_logged_once_with_its_private_text() {
    let (lines, _guard) = Lines::listen();
    let mut client = Rooms::new().client().await;
    let answer = client.get("/panic").await;
    let errors: Vec<Json> =
        lines.of("worker::answer").into_iter().filter(|line| line["level"] == "ERROR").collect();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(errors[0]["cause"], "the handler panicked: a secret in a panic");
    assert_eq!(errors[0]["request_id"].as_str(), answer.header("x-request-id"));
    assert_eq!(errors[0]["route"], "/panic");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_is_foreseen_is_no_error_line() {
    let (lines, _guard) = Lines::listen();
    let answer = Rooms::new().pipe().get("/never").await;
    assert_eq!(answer.status, 503);
    let told = lines.of("worker::answer");
    let levels: Vec<_> = told.iter().map(|line| (&line["level"], &line["cause"])).collect();
    let cause = Json::from("the handler ran into the request's deadline");
    assert_eq!(levels, [(&Json::from("DEBUG"), &cause)]);
    assert_eq!(lines.of("access")[0]["code"], "unavailable");
}
