//! A database host that does not answer at all: no refusal, no reset, nothing.
//!
//! The program reaches its database through a wire of ours, which falls silent.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::cluster::Cluster;
use crate::harness::wait::{pause, until_true};
use crate::harness::{Database, Launch, Turn, get};

/// In which a request is answered while the host is silent.
const ANSWERED: Duration = Duration::from_secs(4);
const SLACK: Duration = Duration::from_millis(200);
const SILENCE: Duration = Duration::from_secs(12);

#[test]
fn a_silent_host_is_answered_for_within_four_seconds() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let wire = Wire::to(Cluster::shared().socket());
    let url = format!(
        "postgres://peace@127.0.0.1:{}/{}?sslmode=disable",
        wire.address.port(),
        database.name()
    );
    let launch = Launch::bare(&turn).env("DATABASE_URL", &url);
    let launch = launch.args(["--bind", "127.0.0.1:0", "--log-format", "json", "--workers", "1"]);
    let peace = launch.serve();
    let workers = peace.workers();
    assert_eq!(peace.ask(&get("/users")).status, 200);

    wire.set_silent(true);
    let start = Instant::now();
    let (mut slowest, mut answered) = (Duration::ZERO, 0);
    while start.elapsed() < SILENCE {
        let asked = Instant::now();
        let reply = peace.ask(&get("/users"));
        slowest = slowest.max(asked.elapsed());
        answered += 1;
        assert_eq!(reply.status, 503);
        assert!(reply.header("retry-after").is_some());
        assert_eq!(peace.ask(&get("/health/live")).status, 200);
        pause(Duration::from_millis(100));
    }
    eprintln!("{answered} requests in {SILENCE:?} of silence, the slowest took {slowest:?}");
    assert!(slowest < ANSWERED + SLACK, "{slowest:?}");

    wire.set_silent(false);
    until_true("it serves again", Duration::from_secs(5), || {
        peace.ask(&get("/users")).status == 200
    });
    assert_eq!(peace.workers(), workers);
}

/// Carries bytes between TCP clients and PostgreSQL's socket, unless it is silent.
struct Wire {
    address: SocketAddr,
    silence: Arc<Silence>,
}

#[derive(Default)]
struct Silence {
    is_silent: Mutex<bool>,
    changed: Condvar,
}

impl Silence {
    fn await_end(&self) {
        let silent = self.is_silent.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.changed.wait_while(silent, |silent| *silent));
    }
}

impl Wire {
    fn to(socket: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let silence = Arc::new(Silence::default());
        let for_thread = Arc::clone(&silence);
        // Its threads end with the test process: each only waits.
        thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, UnixStream::connect(&socket)) else {
                    return;
                };
                carry_both_ways(&client, &server, &for_thread);
            }
        });
        Self { address, silence }
    }

    fn set_silent(&self, silent: bool) {
        *self.silence.is_silent.lock().unwrap_or_else(PoisonError::into_inner) = silent;
        self.silence.changed.notify_all();
    }
}

fn carry_both_ways(client: &TcpStream, server: &UnixStream, silence: &Arc<Silence>) {
    let (up_client, up_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let (down_client, down_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let (up, down) = (Arc::clone(silence), Arc::clone(silence));
    thread::spawn(move || {
        carry(&up_client, &up_server, &up);
        let _ = up_server.shutdown(Shutdown::Both);
    });
    thread::spawn(move || {
        carry(&down_server, &down_client, &down);
        let _ = down_client.shutdown(Shutdown::Both);
    });
}

/// Until either end closes; holds everything back, an end too, while there is silence.
fn carry(mut from: impl Read, mut to: impl Write, silence: &Silence) {
    let mut bytes = [0; 16 * 1024];
    loop {
        let read = from.read(&mut bytes).unwrap_or(0);
        silence.await_end();
        if read == 0 || to.write_all(&bytes[..read]).is_err() {
            return;
        }
    }
}
