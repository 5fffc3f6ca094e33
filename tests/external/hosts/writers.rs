//! Clients that create items all the time, one after the other, and keep what became of each.
//!
//! None tries again. A 201 is a promise: [`check_promises`] looks for its row.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::api::User;
use crate::harness::wait::pause;
use crate::harness::{Connection, Database, post};

const CLIENTS: usize = 4;
/// Between two requests of one.
const PACE: Duration = Duration::from_millis(25);

/// One request.
#[derive(Debug, Clone)]
pub(super) struct Write {
    pub(super) name: String,
    pub(super) begun: Instant,
    pub(super) took: Duration,
    /// What was answered; 0 where nothing was.
    pub(super) status: u16,
    pub(super) has_retry_after: bool,
}

impl Write {
    pub(super) fn ended(&self) -> Instant {
        self.begun + self.took
    }
}

/// Clients that write.
pub(super) struct Writers {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<Write>>>,
}

impl Writers {
    pub(super) fn start(server: SocketAddr, user: &User) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let start = |client| {
            let (over, token, pubid) = (Arc::clone(&over), user.token.clone(), user.pubid.clone());
            thread::spawn(move || write_all(client, server, &token, &pubid, &over))
        };
        let threads = (0..CLIENTS).map(start).collect();
        Self { over, threads }
    }

    /// All that they did, in the order of its beginning.
    pub(super) fn stop(mut self) -> Vec<Write> {
        self.over.store(true, Ordering::Relaxed);
        let all = self.threads.drain(..).map(|thread| thread.join().expect("a writer"));
        let mut all: Vec<Write> = all.flatten().collect();
        all.sort_by_key(|write| write.begun);
        all
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn write_all(
    client: usize,
    server: SocketAddr,
    token: &str,
    pubid: &str,
    over: &AtomicBool,
) -> Vec<Write> {
    let (mut writes, mut open) = (Vec::new(), None);
    while !over.load(Ordering::Relaxed) {
        let name = format!("{client}-{}", writes.len());
        let body = json!({"name": name, "user_pubid": pubid});
        let request = post("/items").bearer(token).json(&body);
        let begun = Instant::now();
        let connection = open.take().map_or_else(|| Connection::open(server), Ok);
        let reply = connection.and_then(|mut connection: Connection| {
            let reply = connection.send(&request)?;
            let closes = reply.header("connection").is_some_and(|value| value == "close");
            open = (!closes).then_some(connection);
            Ok(reply)
        });
        let took = begun.elapsed();
        let status = reply.as_ref().map_or(0, |reply| reply.status);
        let has_retry_after = reply.is_ok_and(|reply| reply.header("retry-after").is_some());
        writes.push(Write { name, begun, took, status, has_retry_after });
        pause(PACE.saturating_sub(took));
    }
    writes
}

/// Those that were not done, as far as their client knows.
pub(super) fn failures(writes: &[Write]) -> impl Iterator<Item = &Write> {
    writes.iter().filter(|write| write.status != 201)
}

/// Every row that was promised is there, once.
pub(super) fn check_promises(writes: &[Write], database: &Database<'_>) {
    let rows = database.sql().rows("select name from item", &[]);
    let found: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let there: BTreeSet<&str> = found.iter().map(String::as_str).collect();
    assert_eq!(there.len(), found.len(), "a row is there twice");
    let promised: Vec<&str> = writes
        .iter()
        .filter(|write| write.status == 201)
        .map(|write| write.name.as_str())
        .collect();
    let lost: Vec<&&str> = promised.iter().filter(|name| !there.contains(**name)).collect();
    eprintln!(
        "{} writes, {} acknowledged, {} of these lost; {} done that nobody was told of",
        writes.len(),
        promised.len(),
        lost.len(),
        found.len() - (promised.len() - lost.len())
    );
    assert!(promised.len() > 20, "they have written");
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
}
