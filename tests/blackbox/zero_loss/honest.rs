//! A measurement is worth what its client sees: each kind of loss, shown to it on purpose.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::panic::{self, AssertUnwindSafe};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use crate::harness::Network;
use crate::harness::load::{Call, Class, Kind, Load, LoadShape, Tally};

const GOOD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const LAST: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";

/// What a server does with each connection, its request read.
type Manner = fn(&mut TcpStream);

/// Runs a load against a server with these manners.
fn load_on(manner: Manner, fresh_per_s: u32, kept_per_s: u32) -> Tally {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let _ = stream.read(&mut [0; 1024]);
                manner(&mut stream);
            });
        }
    });
    run(address, fresh_per_s, kept_per_s)
}

fn run(address: SocketAddr, fresh_per_s: u32, kept_per_s: u32) -> Tally {
    let call = Call::get("/", 200);
    let shape = LoadShape {
        fresh: vec![call.clone()],
        fresh_per_s,
        kept: call,
        kept_clients: 2,
        kept_per_s,
        patience: Duration::from_millis(200),
        limit: Duration::from_millis(500),
    };
    // It ends by itself.
    Load::start(address, &shape).run_out()
}

fn answer(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).unwrap();
}

fn cut(stream: &TcpStream) {
    SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// All outcomes have this class.
fn check(what: &str, tally: &Tally, class: Class) {
    assert!(tally.total() >= 20, "{what}: {tally}");
    assert_eq!(tally.count(class), tally.total(), "{what}: {tally}");
}

#[test]
fn the_client_sees_every_kind_of_loss() {
    let manners: [(&str, Manner, Class); 8] = [
        ("good", |stream| answer(stream, GOOD), Class::Ok),
        ("closed without a reply", |_| (), Class::Short),
        ("cut without a reply", |stream| cut(stream), Class::Reset),
        ("closed within the head", |stream| answer(stream, &GOOD[..20]), Class::Short),
        ("closed within the body", |stream| answer(stream, &GOOD[..GOOD.len() - 1]), Class::Short),
        ("too long", |stream| answer(stream, &format!("{GOOD}k")), Class::Wrong),
        ("another status", |stream| answer(stream, &GOOD.replace("200", "503")), Class::Wrong),
        ("silence", |stream| drop(stream.read(&mut [0])), Class::TimedOut),
    ];
    for (what, manner, class) in manners {
        check(what, &load_on(manner, 100, 0), class);
    }
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    check("nobody listens", &run(free, 100, 20), Class::Refused);
}

#[test]
fn the_client_knows_a_raced_close_from_an_announced_one() {
    check("an announced close", &load_on(|stream| answer(stream, LAST), 0, 20), Class::Ok);
    check("closed while idle", &load_on(|stream| answer(stream, GOOD), 0, 20), Class::Ok);
    let raced = load_on(
        |stream| {
            answer(stream, GOOD);
            // The next request is here, and is not answered.
            let _ = stream.read(&mut [0; 1024]);
        },
        0,
        20,
    );
    // Every second one, for each of the two clients.
    let (good, lost) = (raced.count(Class::Ok), raced.count(Class::Short));
    assert!(good >= 8 && lost >= 8 && good.abs_diff(lost) <= 2, "{raced}");
    assert_eq!(good + lost, raced.total(), "{raced}");
    assert!(raced.outcomes.iter().all(|outcome| outcome.kind == Kind::Kept));
}

/// A refused connection is one of ours: the kernel resets it, and says so.
#[test]
fn the_kernel_counts_what_it_resets() {
    let network = Network::own();
    let refused = TcpStream::connect("127.0.0.1:1").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    let seen = panic::catch_unwind(AssertUnwindSafe(|| network.check_nothing_lost("honest")));
    assert_eq!(seen.is_err(), network.is_own());
}
