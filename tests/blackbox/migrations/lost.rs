//! A connection that is lost while the server commits: the run says what became of it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::bench::Bench;
use super::stage::{is_there, log};
use crate::harness::cluster::Cluster;
use crate::harness::{Database, Turn};

/// The message that commits, as it is on the wire: `Q`, its length, the text.
const COMMIT: &[u8] = b"Q\0\0\0\x0bcommit\0";

/// When the way to the server is cut, once.
#[derive(Clone, Copy)]
enum Cut {
    BeforeTheServerHears,
    BeforeTheClientHears,
}

/// A way to the shared cluster that is cut at the first commit; returns its port.
fn way(cut: Cut) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let armed = Arc::new(AtomicBool::new(true));
    // It ends with the process of the tests.
    thread::spawn(move || {
        for client in listener.incoming() {
            let server = UnixStream::connect(Cluster::shared().socket()).unwrap();
            carry(&client.unwrap(), &server, cut, &armed);
        }
    });
    port
}

fn carry(client: &TcpStream, server: &UnixStream, cut: Cut, armed: &Arc<AtomicBool>) {
    let deaf = Arc::new(AtomicBool::new(false));
    let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    let (heard, end) = (Arc::clone(&deaf), server.try_clone().unwrap());
    thread::spawn(move || {
        copy(&mut from, &mut to, |_| !heard.load(Ordering::Relaxed));
        let _ = to.shutdown(Shutdown::Both);
        let _ = end.shutdown(Shutdown::Both);
    });
    let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let armed = Arc::clone(armed);
    thread::spawn(move || {
        copy(&mut from, &mut to, |bytes| {
            let commits = bytes.windows(COMMIT.len()).any(|part| part == COMMIT);
            if !commits || !armed.swap(false, Ordering::Relaxed) {
                return true;
            }
            deaf.store(true, Ordering::Relaxed);
            matches!(cut, Cut::BeforeTheClientHears)
        });
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    });
}

/// Copies until an end is closed or a piece shall not pass.
fn copy(from: &mut impl Read, to: &mut impl Write, mut passes: impl FnMut(&[u8]) -> bool) {
    let mut bytes = [0; 8192];
    while let Ok(len @ 1..) = from.read(&mut bytes) {
        if !passes(&bytes[..len]) || to.write_all(&bytes[..len]).is_err() {
            break;
        }
    }
}

#[test]
fn a_commit_that_nobody_answered_is_looked_up_and_never_repeated_blindly() {
    let turn = Turn::shared();
    for (cut, committed) in [(Cut::BeforeTheServerHears, false), (Cut::BeforeTheClientHears, true)]
    {
        let (database, bench) = (Database::blank(&turn), Bench::new(&turn));
        bench.revision(1, "aaaa", "none", "create table once ()", "");
        let user: String = database.sql().value("select current_user::text", &[]);
        let (port, name) = (way(cut), database.name());
        let url = format!("host=127.0.0.1 port={port} user={user} dbname={name}");
        let ran = bench.run(&["upgrade", "--database-url", &url]);
        let words = match committed {
            true => "it is committed: run this again to go on",
            false => "it was rolled back: run this again",
        };
        assert!(ran.err.contains("00000000000001_aaaa.up.sql: the connection was lost"), "{ran:?}");
        ran.failed(1, words);
        assert_eq!(is_there(&database, "once"), committed);
        let again = bench.run_on(&database, &["upgrade"]).done();
        let expected = if committed { "already at aaaa (head)\n" } else { "base -> aaaa (head)\n" };
        assert_eq!(again, expected);
        assert_eq!(log(&database), ["upgrade aaaa"]);
    }
}
