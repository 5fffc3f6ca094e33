//! What is told of requests and logged: each request once, the private text of a failure once, and nothing
//! else.

use std::cell::RefCell;
use std::io::Write;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value as Json, json};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

use super::{Client, Rooms};
use crate::answered::{Answered, OnAnswered};
use crate::config::Limits;

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

/// What was told of requests.
#[derive(Clone, Default)]
struct Told(Rc<RefCell<Vec<Json>>>);

impl Told {
    fn hear(&self) -> Option<OnAnswered> {
        let heard = Rc::clone(&self.0);
        Some(Box::new(move |answered: &Answered<'_>| {
            // All that there is: nothing may be told that stands nowhere here.
            let Answered {
                method,
                route,
                path,
                status,
                code,
                request_id,
                trace_id,
                total_us,
                database_us,
                pool_wait_us,
                bytes,
                user,
                client,
            } = *answered;
            heard.borrow_mut().push(json!({
                "method": method, "route": route, "path": path, "status": status, "code": code,
                "request_id": request_id, "trace_id": trace_id, "total_us": total_us,
                "database_us": database_us, "pool_wait_us": pool_wait_us, "bytes": bytes,
                "user": user, "client": client,
            }));
        }))
    }

    fn all(&self) -> Vec<Json> {
        self.0.borrow().clone()
    }
}

#[tokio::test(flavor = "local")]
async fn each_request_is_told_once_without_its_query() {
    let (lines, _guard) = Lines::listen();
    let told = Told::default();
    let rooms = Rooms::told(Limits::default(), told.hear());
    let mut client = rooms.client().await;
    let answer = client.get("/named/ann?name=secret").await;
    client.get("/nowhere?secret").await;
    client.send("GET /gate?secret HTTP/1.1\r\nhost: x\r\n\r\n").await;
    while rooms.app.saw("gate") == 0 {
        tokio::task::yield_now().await;
    }
    drop(client);
    while rooms.shared.stats.connections.get() > 0 {
        rooms.shared.room.notified().await;
    }

    let access = told.all();
    let seen = access.iter().map(|line| json!([line["route"], line["path"], line["status"]]));
    let want = [
        json!(["/named/{name}", "/named/ann", 200]),
        json!(["-", "/nowhere", 404]),
        json!(["/gate", "/gate", 499]),
    ];
    assert_eq!(seen.collect::<Vec<_>>(), want);
    assert_eq!((&access[0]["method"], &access[0]["client"]), (&"GET".into(), &"127.0.0.1".into()));
    assert_eq!((&access[0]["code"], &access[1]["code"]), (&Json::Null, &"not-found".into()));
    assert_eq!(access[0]["request_id"].as_str(), answer.header("x-request-id"));
    assert_eq!(access[0]["bytes"], answer.body.len());
    assert!(access[0]["total_us"].as_u64() > Some(0));
    let text = format!("{access:?} {}", lines.text());
    assert!(!text.contains("secret"), "{text}");
}

#[tokio::test(flavor = "local")]
async fn what_is_no_request_is_told_with_the_id_of_its_answer() {
    let (lines, _guard) = Lines::listen();
    let told = Told::default();
    let mut client = Rooms::told(Limits::default(), told.hear()).client().await;
    client.send("a secret that is no request\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!(answer.problem("/")["type"], "/problems/bad-request");
    let access = told.all();
    assert_eq!(
        (access.len(), &access[0]["status"], &access[0]["method"]),
        (1, &400.into(), &"-".into())
    );
    assert_eq!(access[0]["request_id"].as_str(), answer.header("x-request-id"));
    assert!(!lines.text().contains("secret"), "{}", lines.text());
}

#[tokio::test(flavor = "local")]
async fn a_client_for_whom_there_is_no_seat_is_told_of_too() {
    let told = Told::default();
    let limits = Limits { queue_timeout: Duration::from_millis(10), ..Limits::default() };
    let rooms = Rooms::told(Limits { connections_max: 1, ..limits }, told.hear());
    let (address, _accepting) = rooms.listen().await;
    let mut first = Client::connect(address).await;
    first.send("GET /gate HTTP/1.1\r\nhost: x\r\n\r\n").await;
    while rooms.app.saw("gate") == 0 {
        tokio::task::yield_now().await;
    }
    let answer = Client::connect(address).await.answer().await;
    assert_eq!(answer.status, 503);
    let access = told.all();
    assert_eq!((access.len(), &access[0]["status"]), (1, &503.into()));
    assert_eq!((&access[0]["code"], &access[0]["route"]), (&"unavailable".into(), &"-".into()));
    assert_eq!(access[0]["request_id"].as_str(), answer.header("x-request-id"));
    assert_eq!(
        (&access[0]["client"], &access[0]["bytes"]),
        (&"127.0.0.1".into(), &answer.body.len().into())
    );
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
    let heard = Told::default();
    let answer = Rooms::told(Limits::default(), heard.hear()).pipe().get("/never").await;
    assert_eq!(answer.status, 503);
    let told = lines.of("worker::answer");
    let levels: Vec<_> = told.iter().map(|line| (&line["level"], &line["cause"])).collect();
    let cause = Json::from("the handler ran into the request's deadline");
    assert_eq!(levels, [(&Json::from("DEBUG"), &cause)]);
    assert_eq!(heard.all()[0]["code"], "unavailable");
}
