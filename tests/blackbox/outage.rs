//! The database goes away and comes back: every request is answered meanwhile, and nothing has to be
//! restarted afterwards.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::harness::cluster::Cluster;
use crate::harness::peace::signal_to;
use crate::harness::wait::pause;
use crate::harness::{Database, Launch, Peace, Request, Turn, get, post};

const PASSWORD: &str = "correct-horse";
const OUTAGE: Duration = Duration::from_secs(10);
/// In which every request is answered while there is no database.
const ANSWERED: Duration = Duration::from_secs(2);
/// In which everything is right again.
const RECOVERED: Duration = Duration::from_secs(5);
/// What the clock of a busy machine may add.
const SLACK: Duration = Duration::from_secs(1);

/// One answer.
struct Answer {
    at: Instant,
    took: Duration,
    what: &'static str,
    status: u16,
    has_retry_after: bool,
}

#[test]
fn ten_seconds_without_a_database_are_answered_and_survived() {
    let turn = Turn::shared();
    let cluster = Cluster::start(&[]);
    let database = Database::migrated_in(&cluster);
    let steady = Launch::on(&turn, &database).workers(2).serve();
    let victim = Launch::on(&turn, &database).workers(1).serve();
    let (steady_workers, mark) = (steady.workers(), steady.log().len());
    let user = steady.ask(&post("/users").json(&json!({"name": "ann", "password": PASSWORD})));
    let user = get(user.header("location").expect("201 says where"));
    let login = post("/auth/token").form(&[("username", "ann"), ("password", PASSWORD)]);

    let requests = [
        ("one", user.clone()),
        ("page", get("/users")),
        ("login", login),
        ("ready", get("/health/ready")),
        ("live", get("/health/live")),
    ];
    let (answers, (stopped, resumed)) = under_load(&steady, &requests, || {
        pause(Duration::from_millis(500));
        cluster.stop();
        let stopped = Instant::now();
        kill_its_worker(&victim);
        pause(OUTAGE.saturating_sub(stopped.elapsed()));
        assert_eq!(victim.ask(&get("/users")).status, 503, "the successor serves, without a pool");
        cluster.resume();
        let resumed = Instant::now();
        pause(RECOVERED + Duration::from_millis(500));
        (stopped, resumed)
    });

    report(&answers, stopped, resumed);
    for Answer { took, what, status, has_retry_after, .. } in &answers {
        assert!(*took < ANSWERED + SLACK, "{what} took {took:?}");
        assert!(*status == 200 || *status == 503, "{what}: {status}");
        assert_eq!(*has_retry_after, *status == 503, "{what}");
        assert!(*what != "live" || *status == 200, "live is about the process alone");
    }
    let during = |answer: &&Answer| answer.at > stopped && answer.at + answer.took < resumed;
    for answer in answers.iter().filter(during).filter(|answer| answer.what != "live") {
        assert_eq!(answer.status, 503, "{} while there was no database", answer.what);
    }
    for answer in answers.iter().filter(|answer| answer.at > resumed + RECOVERED) {
        assert_eq!(answer.status, 200, "{} after the recovery", answer.what);
    }
    assert_eq!(victim.ask(&user).status, 200);
    assert_eq!(steady.workers(), steady_workers);
    let later = steady.log().events().split_off(mark);
    assert!(!later.iter().any(|event| event.is("exited")), "no worker was restarted");
}

#[test]
fn a_reload_without_a_database_fails_and_the_workers_serve_on() {
    let turn = Turn::shared();
    let cluster = Cluster::start(&[]);
    let database = Database::migrated_in(&cluster);
    let peace = Launch::on(&turn, &database).workers(2).serve();
    let workers = peace.workers();
    cluster.stop();

    let failed = peace.ctl(["reload", "--wait"]);

    let reason = String::from_utf8_lossy(&failed.stderr);
    assert_eq!(failed.status.code(), Some(1), "{reason}");
    assert!(reason.contains("the database is away"), "{reason}");
    assert_eq!(peace.workers(), workers, "who served serves on");
    assert_eq!(peace.ask(&get("/health/live")).status, 200);

    cluster.resume();

    let went = peace.ctl(["reload", "--wait"]);
    assert!(went.status.success(), "{}", String::from_utf8_lossy(&went.stderr));
    let rolled = peace.workers();
    assert!(workers.keys().eq(rolled.keys()), "{rolled:?}");
    assert!(workers.values().all(|old| !rolled.values().any(|new| new == old)), "{rolled:?}");
    assert_eq!(peace.ask(&get("/users")).status, 200);
}

/// Kills the one worker; its successor is ready although there is no database.
fn kill_its_worker(peace: &Peace) {
    let mark = peace.log().len();
    let killed = Instant::now();
    signal_to(peace.workers()[&0], Signal::SIGKILL);
    peace.await_event("the successor is ready", mark, Duration::from_secs(5), |event| {
        event.is_worker("ready")
    });
    eprintln!("a worker killed meanwhile was replaced after {:?}", killed.elapsed());
}

/// Sends every request, each about 20 times a second over fresh connections, while `happening` goes
/// on.
fn under_load<T>(
    peace: &Peace,
    requests: &[(&'static str, Request)],
    happening: impl FnOnce() -> T,
) -> (Vec<Answer>, T) {
    let (answers, over) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    let address = peace.address();
    let ask = |what, request: &Request| {
        let at = Instant::now();
        let reply = request.fresh(address).expect("every request is answered");
        let has_retry_after = reply.header("retry-after").is_some();
        Answer { at, took: at.elapsed(), what, status: reply.status, has_retry_after }
    };
    let result = thread::scope(|scope| {
        // Two clients each, so that one slow answer does not hide the next.
        for (what, request) in requests.iter().chain(requests) {
            let (answers, over, ask) = (&answers, &over, &ask);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let answer = ask(what, request);
                    answers.lock().unwrap().push(answer);
                    pause(Duration::from_millis(100));
                }
            });
        }
        let result = happening();
        over.store(true, Ordering::Relaxed);
        result
    });
    (answers.into_inner().unwrap(), result)
}

fn report(answers: &[Answer], stopped: Instant, resumed: Instant) {
    let slowest = answers.iter().map(|answer| answer.took).max().unwrap_or_default();
    let last_503 = answers.iter().filter(|answer| answer.status == 503).map(|one| one.at).max();
    let first_503 = answers.iter().filter(|answer| answer.status == 503).map(|one| one.at).min();
    let recovered = last_503.map(|at| at.saturating_duration_since(resumed));
    eprintln!(
        "{} answers, the slowest took {slowest:?}; first 503 {:?} after the stop, last 503 asked \
         {recovered:?} after the database's return",
        answers.len(),
        first_503.map(|at| at.saturating_duration_since(stopped)),
    );
}
