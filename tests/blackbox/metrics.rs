//! The admin process: what it counts is what happened, and it answers whatever the workers do.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::client::Reply;
use crate::harness::load::{Call, Class, Load, LoadShape};
use crate::harness::peace::signal_to;
use crate::harness::wait::{until, until_true};
use crate::harness::{Connection, Database, Launch, Peace, Turn, api, get};

const SOON: Duration = Duration::from_secs(10);
const DURATIONS: &str = "http_server_request_duration_seconds";

/// A server with an admin process, at a port of the system's choice.
fn launch(turn: &Turn, database: &Database<'_>, workers: usize) -> Launch {
    let launch = Launch::on(turn, database).workers(workers);
    launch.args(["--admin-bind", "127.0.0.1:0", "--keepalive-grace", "0", "--access-log", "off"])
}

fn ask(peace: &Peace, path: &str) -> Reply {
    get(path).fresh(peace.admin_address()).unwrap()
}

/// Every sample of a scrape, by its name and labels.
fn scrape(peace: &Peace) -> BTreeMap<String, f64> {
    let reply = ask(peace, "/metrics");
    assert_eq!(reply.status, 200, "{reply:?}");
    let text = String::from_utf8(reply.body).unwrap();
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    };
    samples.map(sample).collect()
}

/// The sum of all samples whose name begins so.
fn sum(samples: &BTreeMap<String, f64>, name: &str) -> usize {
    let fitting = samples.iter().filter(|(sample, _)| sample.starts_with(name));
    fitting.map(|(_, value)| *value).sum::<f64>() as usize
}

/// Requests that have a duration.
fn counted(peace: &Peace) -> usize {
    sum(&scrape(peace), &format!("{DURATIONS}_count"))
}

fn shape(peace: &Peace) -> LoadShape {
    let user = api::sign_up(peace, "ann");
    LoadShape {
        fresh: vec![Call::get(&user.place, 200), Call::get("/health/live", 200)],
        fresh_per_s: 200,
        kept: Call::get("/nothing/here", 404),
        kept_clients: 4,
        kept_per_s: 20,
        patience: Duration::from_secs(5),
        limit: Duration::from_secs(120),
    }
}

fn roll(peace: &Peace) {
    let mark = peace.log().len();
    peace.signal(Signal::SIGHUP);
    peace.await_event("the roll ends", mark, SOON, |event| event.is("rolled"));
}

#[test]
fn every_request_is_counted_once_over_ten_rolls_and_an_upgrade() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let peace = launch(&turn, &database, 4).serve();
    let shape = shape(&peace);
    let before = counted(&peace);
    let admin = || ask(&peace, "/status").json()["children"][0]["pid"].clone();
    let first_admin = admin();
    let load = Load::start(peace.address(), &shape);
    let mut last = BTreeMap::new();
    for round in 0..11 {
        let begun = load.begun();
        match round {
            5 => upgrade(&peace),
            _ => roll(&peace),
        }
        until_true("it goes on", SOON, || load.begun() > begun + 100);
        let now = scrape(&peace);
        let falls = |(name, value): &(&String, &f64)| {
            let counts = name.contains("_total") || name.starts_with(DURATIONS);
            counts && now.get(*name).is_none_or(|now| now < value)
        };
        assert_eq!(last.iter().find(falls), None, "it went down in round {round}");
        last = now;
    }
    let tally = load.stop();
    // A kept connection that was closed between two requests is no loss, and no answer either.
    assert_eq!(tally.count(Class::Ok), tally.total(), "{tally}");
    until_true("all are counted", SOON, || counted(&peace) - before >= tally.total());
    let samples = scrape(&peace);
    assert_eq!(sum(&samples, &format!("{DURATIONS}_count")) - before, tally.total());
    let answered = |labels: &str| sum(&samples, &format!("{DURATIONS}_count{{{labels}"));
    let found = answered(r#"method="GET",route="/users/{pubid}",status="200"#);
    let (live, unknown) = (
        answered(r#"method="GET",route="/health/live",status="200"#),
        answered(r#"method="GET",route="-",status="404"#),
    );
    assert_eq!(found + live + unknown, tally.total(), "{samples:?}");
    assert!(found > 0 && unknown > 0);
    assert_eq!(samples[r#"peace_rolls_total{result="failed"}"#], 0.0);
    assert!(samples[r#"peace_rolls_total{result="ok"}"#] >= 10.0);
    assert_eq!(samples[r#"peace_upgrades_total{result="ok"}"#], 1.0);
    assert_ne!(admin(), first_admin, "the new program has an admin process of its own");
    assert_eq!(sum(&samples, "peace_worker_restarts_total"), 0);
    assert_eq!(sum(&samples, "peace_connections"), 0, "gauges of the dead are gone");
    assert_eq!(samples["peace_requests_begun_total"] as usize - before, tally.total());
}

fn upgrade(peace: &Peace) {
    let upgraded = peace.ctl(["upgrade", "--wait"]);
    assert!(upgraded.status.success(), "{upgraded:?}");
}

#[test]
fn a_killed_worker_has_counted_what_it_answered() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let peace = launch(&turn, &database, 4).serve();
    let shape = shape(&peace);
    let before = counted(&peace);
    let load = Load::start(peace.address(), &shape);
    for slot in 0..3 {
        let (mark, begun) = (peace.log().len(), load.begun());
        until_true("it is at work", SOON, || load.begun() > begun + 100);
        signal_to(peace.workers()[&slot], Signal::SIGKILL);
        peace.await_event("the successor", mark, SOON, |event| {
            event.is_worker("ready") && event.number_of("slot") == Some(slot)
        });
    }
    let tally = load.stop();
    let (answered, lost) = (tally.count(Class::Ok), tally.total() - tally.count(Class::Ok));
    until_true("all are counted", SOON, || counted(&peace) - before >= answered);
    let counted = counted(&peace) - before;
    assert!(counted - answered <= lost, "{counted} counted, {answered} answered, {lost} lost");
    let samples = scrape(&peace);
    assert_eq!(samples[r#"peace_worker_restarts_total{reason="signal"}"#], 3.0);
}

#[test]
fn it_answers_while_every_worker_is_stopped() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let peace = launch(&turn, &database, 4).serve();
    assert_eq!(ask(&peace, "/health/ready").status, 200);
    let workers = peace.workers();
    workers.values().for_each(|worker| signal_to(*worker, Signal::SIGSTOP));
    let took = |path: &str| {
        let begun = Instant::now();
        assert_eq!(ask(&peace, path).status, 200, "{path}");
        begun.elapsed()
    };
    for path in ["/metrics", "/status", "/health/live"] {
        let least = (0..5).map(|_| took(path)).min().unwrap();
        eprintln!("{path}: {least:?}");
        assert!(least < Duration::from_millis(50), "{path}: {least:?}");
    }
    until_true("nobody serves", SOON, || ask(&peace, "/health/ready").status == 503);
    let refused = ask(&peace, "/health/ready").json();
    assert_eq!(refused["detail"], "no worker serves");
    // Nor does it wait for a supervisor that is stopped.
    peace.signal(Signal::SIGSTOP);
    took("/metrics");
    peace.signal(Signal::SIGCONT);
    workers.values().for_each(|worker| signal_to(*worker, Signal::SIGCONT));
    until_true("they serve again", SOON, || ask(&peace, "/health/ready").status == 200);
}

/// What does not change from one instant to the next.
fn steady(mut status: Value) -> Value {
    assert!(status.as_object_mut().unwrap().remove("age_s").unwrap().is_number());
    for worker in status["workers"].as_array_mut().unwrap() {
        for changes in ["age_s", "heartbeat_age_ms", "rss_bytes", "loop_lag_ms", "cpu_s"] {
            assert!(worker[changes].is_number(), "{worker}");
            worker.as_object_mut().unwrap().remove(changes);
        }
    }
    status
}

#[test]
fn its_status_is_that_of_ctl() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = launch(&turn, &database, 2).serve();
    let mut both = (Value::Null, Value::Null);
    // A heartbeat may lie between the two.
    until_true("they agree", SOON, || {
        let told = peace.ctl(["status", "--json"]);
        let told = serde_json::from_slice(&told.stdout).unwrap();
        both = (steady(ask(&peace, "/status").json()), steady(told));
        both.0 == both.1
    });
    let (status, _) = both;
    assert_eq!(status["children"][0]["name"], "admin");
    assert_eq!(status["workers"].as_array().unwrap().len(), 2);
    assert_eq!(status["pid"], peace.pid());
}

#[test]
fn a_killed_admin_process_is_replaced_and_its_queue_is_answered() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = launch(&turn, &database, 1).serve();
    let pid = || ask(&peace, "/status").json()["children"][0]["pid"].as_i64().unwrap();
    let first = i32::try_from(pid()).unwrap();
    signal_to(first, Signal::SIGSTOP);
    let live = get("/health/live").header("connection", "close");
    let mut queued = Connection::open(peace.admin_address()).unwrap();
    queued.begin(&live).unwrap();
    signal_to(first, Signal::SIGKILL);
    assert_eq!(queued.finish(&live).unwrap().status, 200);
    assert_ne!(i32::try_from(pid()).unwrap(), first);
    assert_eq!(peace.ask(&get("/health/ready")).status, 200, "the workers have not noticed");
}

#[test]
fn it_is_ready_when_the_database_is() {
    let turn = Turn::shared();
    let database = Database::blank(&turn);
    let peace = launch(&turn, &database, 1).serve();
    until_true("it has heard", SOON, || {
        let reply = ask(&peace, "/health/ready");
        reply.status == 503 && reply.json()["detail"].as_str().unwrap().contains("is behind")
    });
    assert_eq!(scrape(&peace)[r#"peace_schema_applied{slot="0"}"#], 0.0);
    let mut migrate = Command::new(env!("CARGO_BIN_EXE_peace-migrate"));
    let migrated = migrate.args(["upgrade", "head"]).env("DATABASE_URL", database.url()).output();
    assert!(migrated.unwrap().status.success());
    until_true("it is ready", SOON, || ask(&peace, "/health/ready").status == 200);
    assert_eq!(scrape(&peace)[r#"peace_schema_applied{slot="0"}"#], 1.0);
}

#[test]
fn the_form_is_the_one_that_is_asked_for() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = launch(&turn, &database, 1).serve();
    let newer = "application/openmetrics-text; version=1.0.0";
    for (accept, media_type, end) in [
        (newer, "application/openmetrics-text; version=1.0.0; charset=utf-8", "# EOF\n"),
        ("text/plain", "text/plain; version=0.0.4; charset=utf-8", "\n"),
    ] {
        let reply = get("/metrics").header("accept", accept).fresh(peace.admin_address()).unwrap();
        assert_eq!(reply.header("content-type"), Some(media_type));
        assert_eq!(reply.header("vary"), Some("accept"));
        assert!(String::from_utf8(reply.body).unwrap().ends_with(end));
    }
    let unknown = ask(&peace, "/nothing");
    assert_eq!(
        (unknown.status, unknown.json()["type"].as_str()),
        (404, Some("/problems/not-found"))
    );
    assert_eq!(peace.ask(&get("/metrics")).status, 404, "the public is told nothing");
}

#[test]
fn errors_of_the_database_are_counted_by_sqlstate() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = launch(&turn, &database, 1).serve();
    api::sign_up(&peace, "ann");
    let again = serde_json::json!({"name": "ann", "password": "correct horse battery"});
    let refused = peace.ask(&crate::harness::post("/users").json(&again));
    assert_eq!(refused.status, 409);
    let samples = scrape(&peace);
    assert_eq!(samples[r#"peace_database_errors_total{sqlstate="23505"}"#], 1.0);
    assert_eq!(samples["peace_password_jobs_total"], 3.0, "two hashed, one verified");
    assert_eq!(samples[r#"peace_password_queue_jobs{slot="0"}"#], 0.0);
    assert!(samples["db_client_connection_wait_time_seconds_count"] >= 2.0);
    assert!(samples["peace_received_bytes_total"] > 200.0);
    assert!(samples["peace_sent_bytes_total"] > 200.0);
    assert_eq!(samples[r#"db_client_connection_max{slot="0"}"#], 2.0);
}

#[test]
fn an_address_that_is_taken_is_refused_if_it_was_named_and_else_done_without() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let (taken, before) = neighbours();
    let place = taken.local_addr().unwrap().to_string();
    let named = Launch::on(&turn, &database).args(["--admin-bind", &place]).run(SOON);
    assert_eq!((named.code, named.lines.len()), (Some(71), 1), "{:?}", named.lines);
    assert!(named.lines[0].contains(&place) && named.lines[0].contains("--admin-bind"));

    let bare = Launch::bare(&turn).env("DATABASE_URL", &database.url()).workers(1);
    let bare = bare.args(["--bind", &before.to_string(), "--log-format", "json"]);
    let mut peace = bare.serve();
    let warned = |event: &crate::harness::log::Event| {
        event.text_of("message").is_some_and(|text| text.starts_with("no metrics and no status"))
    };
    peace.await_event("the warning", 0, SOON, warned);
    assert_eq!(peace.ask(&get("/health/live")).status, 200);
    assert_eq!(peace.stop(SOON).code, Some(0));
}

/// A listener, and the free address before it.
fn neighbours() -> (TcpListener, SocketAddr) {
    for _ in 0..100 {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut before = taken.local_addr().unwrap();
        before.set_port(before.port() - 1);
        if TcpListener::bind(before).is_ok() {
            return (taken, before);
        }
    }
    panic!("no two free ports in a row");
}

/// Heartbeats that were late by more than a quarter of a second.
fn stalls(samples: &BTreeMap<String, f64>) -> f64 {
    let lags = "peace_event_loop_lag_seconds";
    samples[&format!("{lags}_count")] - samples[&format!(r#"{lags}_bucket{{le="0.25"}}"#)]
}

#[test]
fn a_stall_of_an_event_loop_is_seen_while_it_lasts_and_counted_for_good() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let peace = launch(&turn, &database, 1).env("PEACE_FAULTS", "1").serve();
    let before = scrape(&peace);
    let spin = get("/debug/spin?ms=2000");
    let mut busy = Connection::open(peace.address()).unwrap();
    busy.begin(&spin).unwrap();
    until_true("it is seen", SOON, || {
        scrape(&peace)[r#"peace_heartbeat_age_seconds{slot="0"}"#] > 0.5
    });
    assert_eq!(busy.finish(&spin).unwrap().status, 200);
    until_true("it is counted", SOON, || stalls(&scrape(&peace)) > stalls(&before));
    let after = scrape(&peace);
    let late_s = |samples: &BTreeMap<String, f64>| samples["peace_event_loop_lag_seconds_sum"];
    assert!(late_s(&after) - late_s(&before) > 1.5, "{after:?}");
    // What is usual is no stall.
    until_true("it beats on", SOON, || {
        let lags = "peace_event_loop_lag_seconds_count";
        scrape(&peace)[lags] > after[lags] + 10.0
    });
    roll(&peace);
    assert!(stalls(&scrape(&peace)) >= stalls(&after), "a successor has not forgotten it");
}

#[test]
fn those_who_wait_for_the_database_are_seen_and_their_wait_is_counted() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = launch(&turn, &database, 1).env("PEACE_FAULTS", "1").serve();
    let user = api::sign_up(&peace, "ann");
    let number = |samples: &BTreeMap<String, f64>, name: &str, labels: &str| {
        samples[&format!("{name}{{slot=\"0\"{labels}}}")] as usize
    };
    let now = || {
        let samples = scrape(&peace);
        let used = number(&samples, "db_client_connections", r#",state="used""#);
        let idle = number(&samples, "db_client_connections", r#",state="idle""#);
        let waiting = number(&samples, "db_client_connection_pending_requests", "");
        (used, idle, waiting, number(&samples, "peace_database_lane_statements", ""))
    };
    until_true("nobody waits", SOON, || now() == (0, 3, 0, 0));
    let waits = || {
        let name = "db_client_connection_wait_time_seconds";
        let samples = scrape(&peace);
        (samples[&format!("{name}_count")], samples[&format!("{name}_sum")])
    };
    let (count, sum_s) = waits();

    let lock = database.sql();
    lock.run(r#"begin; lock table "user""#);
    let cross = format!("/debug/cross?first={0}&second={0}&ms=0", user.pubid);
    let asked = [get(&user.place), get(&cross), get(&cross), get(&cross)];
    let mut waiting: Vec<_> = asked
        .iter()
        .map(|request| {
            let mut connection = Connection::open(peace.address()).unwrap();
            connection.begin(request).unwrap();
            connection
        })
        .collect();
    // What belongs to a statement, as making it ready, is counted with it.
    until_true("all wait", SOON, || matches!(now(), (2, 1, 1, 1..)));
    lock.run("rollback");
    for (connection, request) in waiting.iter_mut().zip(&asked) {
        assert_eq!(connection.finish(request).unwrap().status, 200, "{request:?}");
    }
    until_true("nobody waits any more", SOON, || now() == (0, 3, 0, 0));
    let (after, after_s) = waits();
    assert!(after - count >= 3.0, "{after}, and {count} before");
    assert!(after_s > sum_s, "{after_s} s, and {sum_s} s before");
}

#[test]
fn spans_that_no_collector_takes_are_counted() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let (_, nobody) = neighbours();
    let endpoint = format!("http://{nobody}");
    let launch = launch(&turn, &database, 1).env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint);
    let peace = launch.args(["--trace-sample", "1"]).serve();
    assert_eq!(scrape(&peace)["peace_spans_dropped_total"], 0.0);
    assert_eq!(peace.ask(&get("/health/live")).status, 200);
    until_true("they are", SOON, || scrape(&peace)["peace_spans_dropped_total"] >= 1.0);
}

#[test]
fn log_lines_that_nobody_takes_are_counted() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let launch = Launch::on(&turn, &database).workers(1);
    let peace = launch.args(["--admin-bind", "127.0.0.1:0", "--log-file", "peace.log"]).start();
    let log = peace.folder().join("peace.log");
    let address = |message: &str| {
        until("it says where", SOON, || {
            let text = fs::read_to_string(&log).ok()?;
            let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let told = lines.filter(|line| line["message"] == message);
            told.filter_map(|line| line["address"].as_str()?.parse().ok()).next_back()
        })
    };
    let (server, admin): (SocketAddr, SocketAddr) =
        (address("listening"), address("metrics and status"));
    let lost = || {
        let text = String::from_utf8(get("/metrics").fresh(admin).unwrap().body).unwrap();
        let told = text.lines().find_map(|line| line.strip_prefix("peace_log_lines_lost_total "));
        told.unwrap().parse::<u64>().unwrap()
    };
    assert_eq!(get("/health/live").fresh(server).unwrap().status, 200);
    assert_eq!(lost(), 0);
    fs::rename(&log, log.with_extension("before")).unwrap();
    symlink("/dev/full", &log).unwrap();
    peace.signal(Signal::SIGUSR1);
    until_true("they are", SOON, || {
        assert_eq!(get("/health/live").fresh(server).unwrap().status, 200);
        lost() >= 10
    });
}

#[test]
fn whoever_opens_connections_and_says_nothing_keeps_no_scrape_away() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = launch(&turn, &database, 1).serve();
    let open = || Connection::open(peace.admin_address()).unwrap();
    let silent: Vec<Connection> = std::iter::repeat_with(open).take(100).collect();
    assert_eq!(ask(&peace, "/metrics").status, 200);
    drop(silent);
}
