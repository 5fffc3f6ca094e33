//! Password hashing never holds up the event loop.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::api::{PASSWORD, sign_up};
use crate::harness::cluster::Cluster;
use crate::harness::log::Event;
use crate::harness::{Connection, Database, Launch, Request, Turn, get, post};
use crate::zero_loss::short_or_long;

const LOGINS_AT_ONCE: usize = 8;
/// Logins that may wait on one worker (README, Limits), and more than that.
const QUEUE_MAX: usize = 32;
const AT_ONCE: usize = 100;
const READS: usize = 1_000;
const P99_MAX: Duration = Duration::from_millis(50);

#[test]
fn eight_logins_in_flight_do_not_slow_reads_down() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(1).serve();
    let read = get(sign_up(&peace, "ann").place);
    let login = post("/auth/token").form(&[("username", "ann"), ("password", PASSWORD)]);

    let address = peace.address();
    let (over, logins) = (AtomicBool::new(false), AtomicU32::new(0));
    let times = thread::scope(|scope| {
        for _ in 0..LOGINS_AT_ONCE {
            scope.spawn(|| {
                let mut connection = Connection::open(address).unwrap();
                while !over.load(Ordering::Relaxed) {
                    assert_eq!(connection.send(&login).unwrap().status, 200);
                    logins.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut connection = Connection::open(address).unwrap();
        // They have all begun: from here on eight are in flight.
        while logins.load(Ordering::Relaxed) < 16 {
            timed(&mut connection, &read);
        }
        let times: Vec<Duration> = (0..READS).map(|_| timed(&mut connection, &read)).collect();
        over.store(true, Ordering::Relaxed);
        times
    });
    let mut times = times;
    times.sort_unstable();
    let (p50, p99, max) = (times[READS / 2], times[READS * 99 / 100], times[READS - 1]);
    eprintln!(
        "GET /users/{{pubid}} beside {LOGINS_AT_ONCE} logins ({logins:?} of them): \
         p50 {p50:?}, p99 {p99:?}, max {max:?}"
    );
    assert!(p99 < P99_MAX, "p99 is {p99:?}");
}

fn timed(connection: &mut Connection, request: &Request) -> Duration {
    let start = Instant::now();
    assert_eq!(connection.send(request).unwrap().status, 200);
    start.elapsed()
}

#[test]
fn logins_beyond_the_queue_are_told_to_come_back() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let launch = Launch::on(&turn, &database).workers(1).args(["--login-limits", "off"]);
    let peace = launch.serve();
    sign_up(&peace, "ann");
    let login = post("/auth/token").form(&[("username", "ann"), ("password", PASSWORD)]);
    let mut clients: Vec<Connection> =
        (0..AT_ONCE).map(|_| Connection::open(peace.address()).unwrap()).collect();
    for client in &mut clients {
        client.begin(&login).unwrap();
    }
    let replies: Vec<_> = clients.iter_mut().map(|client| client.finish(&login).unwrap()).collect();
    let (answered, refused): (Vec<_>, Vec<_>) =
        replies.iter().partition(|reply| reply.status == 200);
    eprintln!("{AT_ONCE} logins at once: {} answered, {} refused", answered.len(), refused.len());
    assert!(answered.len() >= QUEUE_MAX, "what the queue holds is answered");
    assert!(!refused.is_empty(), "the queue has an end");
    for reply in refused {
        assert_eq!(reply.status, 503);
        assert!(reply.header("retry-after").is_some());
    }
}

/// Counted by the server of the database and by the log, since times are never quite equal.
#[test]
fn a_login_of_nobody_makes_the_calls_and_the_hash_of_a_wrong_password() {
    let turn = Turn::shared();
    for limits in ["off", "on"] {
        let database = Database::new(&turn);
        let log_all = "set log_min_duration_statement = 0";
        database.sql_beside().run(&format!("alter database {} {log_all}", database.name()));
        let launch = Launch::on(&turn, &database).workers(1).args(["--login-limits", limits]);
        let peace = launch.env("RUST_LOG", "peace::security=debug,info").serve();
        sign_up(&peace, "ann");
        database.sql().run(
            r#"insert into "user" (id, name, password_hash)
               values (gen_random_uuid(), 'without', null), (gen_random_uuid(), 'broken', 'x')"#,
        );
        let ours = format!("{}|peace", database.name());
        let is_call = |line: &&str| line.starts_with(&ours) && line.contains(" ms  execute ");
        let is_hash = |event: &&Event| event.text.contains("a password is ");
        let work = |name: &str| {
            let (called, hashed) = (Cluster::shared().log().len(), peace.log().len());
            let login =
                post("/auth/token").form(&[("username", name), ("password", "another-word")]);
            assert_eq!(peace.ask(&login).status, 401, "{name}");
            let log = Cluster::shared().log().split_off(called);
            let calls: Vec<String> = log.lines().filter(is_call).map(statement).collect();
            let hashes = peace.log().events()[hashed..].iter().filter(is_hash).count();
            (calls, hashes)
        };
        let known = work("ann");
        eprintln!("a wrong password, login limits {limits}: {known:?}");
        assert_eq!(known.1, 1, "one hash");
        assert_eq!(known.0.len(), if limits == "on" { 3 } else { 1 });
        for name in ["nobody", "without", "broken"] {
            assert_eq!(work(name), known, "{name}");
        }
    }
}

/// The first words of a statement that the server has logged.
fn statement(line: &str) -> String {
    let text = line.rsplit(" execute ").next().unwrap_or_default();
    text.split_once(": ").map_or(text, |(_, text)| text).trim().to_owned()
}

/// One that was refused without a hash would take a millisecond, not twenty. In full length the medians
/// are within 5 %.
#[test]
fn a_login_of_nobody_takes_as_long_as_a_wrong_password() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let launch = Launch::on(&turn, &database).workers(1).args(["--login-limits", "off"]);
    let peace = launch.serve();
    sign_up(&peace, "ann");
    database.sql().run(
        r#"insert into "user" (id, name, password_hash)
           values (gen_random_uuid(), 'without', null), (gen_random_uuid(), 'broken', 'x')"#,
    );
    let (rounds, ratio_max) = short_or_long((41, 4.0 / 3.0), (501, 1.05));
    let names = ["ann", "nobody", "without", "broken"];
    let mut times = names.map(|_| Vec::new());
    let mut connection = Connection::open(peace.address()).unwrap();
    // In turns, so that a slow moment of the machine is everybody's; each is as often the first.
    for round in 0..rounds {
        for turn in 0..names.len() {
            let one = (round + turn) % names.len();
            let login =
                post("/auth/token").form(&[("username", names[one]), ("password", "another-word")]);
            let start = Instant::now();
            assert_eq!(connection.send(&login).unwrap().status, 401, "{}", names[one]);
            times[one].push(start.elapsed());
        }
    }
    let medians = times.map(|mut times| {
        times.sort_unstable();
        times[rounds / 2]
    });
    eprintln!("refused logins, {rounds} of each, the medians: {names:?} {medians:?}");
    for (name, median) in names.iter().zip(medians) {
        let ratio = median.as_secs_f64() / medians[0].as_secs_f64();
        let fits = (1.0 / ratio_max..=ratio_max).contains(&ratio);
        assert!(fits, "{name}: {median:?}, not {:?}", medians[0]);
    }
}
