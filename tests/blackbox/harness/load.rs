//! A load on a running server, from threads of the test, that tells every request that was lost.
//!
//! Two kinds of clients, each in one thread over non-blocking sockets, so that a slow reply holds up
//! nobody else. *Fresh* ones come in by a schedule, whether or not the earlier ones were answered:
//! connect, one request, read to the end, close. *Kept* ones keep their connection and send one
//! unsafe request after the other. Neither ever tries a request again. A kept client that was told
//! `Connection: close`, or sees the close before it sends, opens another connection; a close that
//! comes after it has sent is a loss.
//! Promises: ends by itself at the shape's limit; is late rather than at its wits' end when the
//! machine is busy, and says how late.
//! Does not know: what the server is.

mod client;
mod tally;

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use self::client::Client;
pub(crate) use self::tally::{Class, Kind, Tally};

/// Connections that fresh clients have open at once; then the schedule has to wait.
const OPEN_MAX: usize = 250;

/// A request, and the status that is right for it.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    head: String,
    body: String,
    status: u16,
}

impl Call {
    pub(crate) fn get(target: &str, status: u16) -> Self {
        Self {
            head: format!("GET {target} HTTP/1.1\r\nhost: peace\r\n"),
            body: String::new(),
            status,
        }
    }

    /// A POST of a form.
    pub(crate) fn post(target: &str, form: &str, status: u16) -> Self {
        let form_type = "content-type: application/x-www-form-urlencoded";
        let length = form.len();
        let head = format!(
            "POST {target} HTTP/1.1\r\nhost: peace\r\n{form_type}\r\ncontent-length: {length}\r\n"
        );
        Self { head, body: form.to_owned(), status }
    }

    fn bytes(&self, kind: Kind) -> Vec<u8> {
        let close = if kind == Kind::Fresh { "connection: close\r\n" } else { "" };
        format!("{}{close}\r\n{}", self.head, self.body).into_bytes()
    }
}

/// How much of what.
#[derive(Debug, Clone)]
pub(crate) struct LoadShape {
    /// Requests of fresh connections, in turn.
    pub(crate) fresh: Vec<Call>,
    pub(crate) fresh_per_s: u32,
    /// The request of kept connections.
    pub(crate) kept: Call,
    pub(crate) kept_clients: u32,
    /// Of each of them.
    pub(crate) kept_per_s: u32,
    /// How long a reply may take.
    pub(crate) patience: Duration,
    /// When the load ends although nobody stops it.
    pub(crate) limit: Duration,
}

/// A load that is running.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    begun: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Tally>>,
}

impl Load {
    pub(crate) fn start(server: SocketAddr, shape: &LoadShape) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let begun = Arc::new(AtomicUsize::new(0));
        let run = |kind| {
            let crowd = Crowd::new(server, shape.clone(), kind, Arc::clone(&begun));
            let stop = Arc::clone(&stop);
            thread::spawn(move || crowd.run(&stop))
        };
        let threads = vec![run(Kind::Fresh), run(Kind::Kept)];
        Self { stop, begun, threads }
    }

    /// How many requests were begun so far.
    pub(crate) fn begun(&self) -> usize {
        self.begun.load(Ordering::Relaxed)
    }

    /// Begins no further request, waits for the replies to those that are out, and sums up.
    pub(crate) fn stop(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        self.run_out()
    }

    /// The same when the load has ended by itself.
    pub(crate) fn run_out(mut self) -> Tally {
        let tallies = self.threads.drain(..).map(|thread| thread.join().expect("a load's thread"));
        tallies.reduce(Tally::and).expect("there are threads")
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The clients of one kind.
struct Crowd {
    server: SocketAddr,
    shape: LoadShape,
    kind: Kind,
    /// When the next request is due, by the schedule.
    due: Instant,
    begun: usize,
    begun_by_all: Arc<AtomicUsize>,
    clients: Vec<Client>,
    tally: Tally,
}

impl Crowd {
    fn new(
        server: SocketAddr,
        shape: LoadShape,
        kind: Kind,
        begun_by_all: Arc<AtomicUsize>,
    ) -> Self {
        let (due, tally) = (Instant::now(), Tally::new());
        Self { server, shape, kind, due, begun: 0, begun_by_all, clients: Vec::new(), tally }
    }

    fn run(mut self, stop: &AtomicBool) -> Tally {
        let end = self.due + self.shape.limit;
        if self.kind == Kind::Kept {
            let patience = self.shape.patience;
            let new = || Client::kept(self.server, self.shape.kept.clone(), patience);
            self.clients =
                std::iter::repeat_with(new).take(self.shape.kept_clients as usize).collect();
        }
        loop {
            let over = stop.load(Ordering::Relaxed) || Instant::now() >= end;
            if !over {
                self.begin_due();
            }
            if over && !self.clients.iter().any(Client::is_busy) {
                return self.tally.ended();
            }
            self.wait();
            self.advance();
        }
    }

    /// Begins every request that is due.
    fn begin_due(&mut self) {
        let per_s = match self.kind {
            Kind::Fresh => self.shape.fresh_per_s,
            Kind::Kept => self.shape.kept_per_s * self.shape.kept_clients,
        };
        let now = Instant::now();
        while per_s > 0 && self.due <= now && self.begin_one(now) {
            self.tally.note_late(now - self.due);
            self.due += Duration::from_secs(1) / per_s;
            self.begun += 1;
            self.begun_by_all.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether there was a client who could.
    fn begin_one(&mut self, now: Instant) -> bool {
        match self.kind {
            Kind::Fresh if self.clients.len() < OPEN_MAX => {
                let call = self.shape.fresh[self.begun % self.shape.fresh.len()].clone();
                let client = Client::fresh(self.server, call, self.shape.patience);
                self.clients.push(client);
                self.clients.last_mut().expect("it was pushed").begin(now);
            }
            Kind::Fresh => return false,
            // One after the other; who still waits for a reply is left out.
            Kind::Kept => {
                let turn = self.begun % self.clients.len();
                if !self.clients[turn].is_busy() {
                    self.clients[turn].begin(now);
                }
            }
        }
        true
    }

    /// Waits for the sockets, at most until something is due.
    fn wait(&self) {
        let waiting = self.clients.iter().filter_map(|client| {
            let (stream, events) = client.interest()?;
            Some(PollFd::new(stream.as_fd(), events))
        });
        let mut fds: Vec<PollFd<'_>> = waiting.collect();
        // Deadlines and the schedule are looked at every millisecond.
        let _ = poll(&mut fds, PollTimeout::from(1_u8));
    }

    /// Lets everybody do what can be done now.
    fn advance(&mut self) {
        let now = Instant::now();
        for client in &mut self.clients {
            if let Some(outcome) = client.advance(now) {
                self.tally.add(outcome);
            }
        }
        if self.kind == Kind::Fresh {
            self.clients.retain(Client::is_busy);
        }
    }
}

/// What a client waits for on its socket.
const READABLE: PollFlags = PollFlags::POLLIN;
const WRITABLE: PollFlags = PollFlags::POLLOUT;
