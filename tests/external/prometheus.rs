//! A real Prometheus: it scrapes the admin process over a roll, its rates neither fall below zero nor spike,
//! and it answers what the alert rules and the dashboard ask. And the parser of `prometheus_client`, which
//! reads both forms of the text.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::harness::folder::Folder;
use crate::harness::load::{Call, Class, Load, LoadShape};
use crate::harness::peace::signal_to;
use crate::harness::wait::{until, until_true};
use crate::harness::{Database, Launch, Peace, Turn, api, get};

const SOON: Duration = Duration::from_secs(20);
const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Often enough for rates over a few seconds.
const SCRAPE_EVERY: &str = "200ms";
/// Requests per second of the load, over fresh connections.
const RATE: u32 = 150;

/// A running Prometheus that scrapes one server.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    _files: Folder,
}

impl Prometheus {
    fn scraping(admin: SocketAddr) -> Self {
        let files = Folder::new();
        let rules = format!("{ROOT}/deploy/prometheus/alerts.yml");
        files.write(
            "prometheus.yml",
            &format!(
                "global: {{scrape_interval: {SCRAPE_EVERY}, evaluation_interval: {SCRAPE_EVERY}}}\n\
                 rule_files: ['{rules}']\n\
                 scrape_configs:\n  - {{job_name: peace, static_configs: [{{targets: ['{admin}']}}]}}\n"
            ),
        );
        let address = free_address();
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", files.path().join("prometheus.yml").display()));
        command.arg(format!("--storage.tsdb.path={}", files.path().join("data").display()));
        command.arg(format!("--web.listen-address={address}")).current_dir(files.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("`tests/run --all` installs prometheus");
        let prometheus = Self { child, address, _files: files };
        until_true("it is ready", SOON, || {
            get("/-/ready").fresh(address).is_ok_and(|reply| reply.status == 200)
        });
        prometheus
    }

    /// What it answers to a query.
    fn results(&self, query: &str) -> Vec<Value> {
        let encoded = utf8_percent_encode(query, NON_ALPHANUMERIC);
        self.read(&format!("/api/v1/query?query={encoded}"))["result"].as_array().unwrap().clone()
    }

    /// One number.
    fn number(&self, query: &str) -> Option<f64> {
        let results = self.results(query);
        results.first()?["value"][1].as_str()?.parse().ok()
    }

    /// In HTTP/1.0, since what is long is chunked else, which our own server never does.
    fn read(&self, target: &str) -> Value {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        write!(stream, "GET {target} HTTP/1.0\r\n\r\n").unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        let (head, body) = reply.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.0 200 "), "{target}: {reply}");
        serde_json::from_str::<Value>(body).unwrap()["data"].clone()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn serve(turn: &Turn, database: &Database<'_>) -> (Peace, SocketAddr) {
    let launch = Launch::on(turn, database).workers(4);
    let options = ["--admin-bind", "127.0.0.1:0", "--keepalive-grace", "0", "--access-log", "off"];
    let peace = launch.env("PEACE_FAULTS", "1").args(options).serve();
    let admin = peace.admin_address();
    (peace, admin)
}

fn load(peace: &Peace) -> Load {
    let user = api::sign_up(peace, "ann");
    let shape = LoadShape {
        fresh: vec![Call::get(&user.place, 200), Call::get("/health/live", 200)],
        fresh_per_s: RATE,
        kept: Call::post("/auth/refresh", "refresh_token=bad", 401),
        kept_clients: 2,
        kept_per_s: 5,
        patience: Duration::from_secs(5),
        limit: Duration::from_secs(120),
    };
    Load::start(peace.address(), &shape)
}

#[test]
fn rates_neither_fall_below_zero_nor_spike_while_workers_are_replaced() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let (peace, admin) = serve(&turn, &database);
    let prometheus = Prometheus::scraping(admin);
    let load = load(&peace);
    let count = "sum(http_server_request_duration_seconds_count)";
    until_true("it has scraped for a while", SOON, || {
        prometheus.number(count).is_some_and(|count| count > f64::from(RATE) * 3.0)
    });
    for _ in 0..3 {
        let mark = peace.log().len();
        peace.signal(Signal::SIGHUP);
        peace.await_event("the roll ends", mark, SOON, |event| event.is("rolled"));
    }
    signal_to(peace.workers()[&1], Signal::SIGKILL);
    let restarts = "sum(peace_worker_restarts_total)";
    until_true("the kill was scraped", SOON, || prometheus.number(restarts) == Some(1.0));
    let begun = load.begun();
    until_true("some more", SOON, || load.begun() > begun + 2 * RATE as usize);

    // A counter that began anew would count as an addition of all it had: a reset for Prometheus.
    for counter in counters() {
        let resets = prometheus.number(&format!("sum(resets({counter}[1m]))"));
        assert!(resets.is_none_or(|resets| resets == 0.0), "{counter} went down");
    }
    let rate = "sum(rate(http_server_request_duration_seconds_count[2s]))";
    let least = prometheus.number(&format!("min_over_time(({rate})[8s:500ms])")).unwrap();
    let most = prometheus.number(&format!("max_over_time(({rate})[8s:500ms])")).unwrap();
    eprintln!("{RATE} requests/s and 10 were sent; rate() lies between {least} and {most}");
    assert!(least >= 0.0 && most < f64::from(RATE) * 3.0, "{least} to {most}");
    let tally = load.stop();
    assert!(tally.count(Class::Ok) > 0);

    for query in dashboard() {
        assert!(!prometheus.results(&query).is_empty(), "no data: {query}");
    }
    let rules = prometheus.read("/api/v1/rules");
    let rules = rules["groups"][0]["rules"].as_array().unwrap();
    assert!(rules.len() >= 10 && rules.iter().all(|rule| rule["health"] == "ok"), "{rules:?}");
}

/// Every series that may only grow.
fn counters() -> Vec<String> {
    let metrics = peace::metrics::METRICS.iter();
    metrics
        .flat_map(|metric| match metric.kind().name() {
            "counter" => vec![metric.full_name()],
            "histogram" => ["bucket", "count", "sum"]
                .map(|part| format!("{}_{part}", metric.full_name()))
                .into(),
            _ => vec![],
        })
        .collect()
}

/// Every query of the dashboard, with its variables filled in.
fn dashboard() -> Vec<String> {
    let text = fs::read_to_string(format!("{ROOT}/deploy/grafana/peace.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.filter_map(|panel| panel["targets"].as_array()).flatten();
    let queries = targets.map(|target| target["expr"].as_str().unwrap());
    let queries = queries.map(|query| query.replace("$__rate_interval", "10s"));
    let queries: Vec<String> = queries.map(|query| query.replace("$instance", ".*")).collect();
    assert!(queries.len() > 30, "{queries:?}");
    queries
}

#[test]
fn the_alert_rules_are_right_by_their_own_tests() {
    for arguments in [
        ["check", "config", "deploy/prometheus/prometheus.yml"],
        ["check", "rules", "deploy/prometheus/alerts.yml"],
        ["test", "rules", "deploy/prometheus/alerts_test.yml"],
    ] {
        let output = Command::new("promtool").args(arguments).current_dir(ROOT).output();
        succeeded(&output.expect("`tests/run --all` installs promtool"));
    }
}

#[test]
fn every_alert_rule_is_shown_to_fire_and_to_be_silent() {
    let read = |file| fs::read_to_string(format!("{ROOT}/deploy/prometheus/{file}")).unwrap();
    let (rules, tests) = (read("alerts.yml"), read("alerts_test.yml"));
    let rules = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let rules: Vec<&str> = rules.collect();
    assert!(rules.len() > 10, "{rules:?}");
    for rule in rules {
        let silent = format!("alertname: {rule}, exp_alerts: []");
        let fires = format!("alertname: {rule}\n        exp_alerts:\n          - exp_labels");
        assert!(tests.contains(&silent), "{rule} is never shown silent");
        assert!(tests.contains(&fires), "{rule} is never shown to fire");
    }
}

#[test]
fn an_event_loop_that_is_blocked_raises_its_alert() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let (peace, admin) = serve(&turn, &database);
    let prometheus = Prometheus::scraping(admin);
    let beats = "sum(peace_event_loop_lag_seconds_count)";
    until_true("it scrapes", SOON, || prometheus.number(beats).is_some());
    for _ in 0..3 {
        assert_eq!(peace.ask(&get("/debug/spin?ms=500")).status, 200);
    }
    let firing = r#"ALERTS{alertname="PeaceEventLoopBlocked",alertstate="firing"}"#;
    until_true("it fires", SOON, || !prometheus.results(firing).is_empty());
}

#[test]
fn the_linter_of_metrics_has_nothing_to_say() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let (peace, admin) = serve(&turn, &database);
    api::sign_up(&peace, "ann");
    let metrics = get("/metrics").fresh(admin).unwrap();
    assert_eq!(metrics.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let mut linter = Command::new("promtool");
    linter.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut linter = linter.stderr(Stdio::piped()).spawn().expect("`tests/run --all` installs it");
    linter.stdin.take().unwrap().write_all(&metrics.body).unwrap();
    let output = linter.wait_with_output().unwrap();
    succeeded(&output);
    assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
}

/// A rule or a panel that asks for what nobody tells would be silent for ever.
#[test]
fn rules_and_dashboard_ask_for_metrics_that_there_are() {
    let told = peace::metrics::METRICS.iter().map(peace::metrics::Metric::full_name);
    let told: BTreeSet<String> = told.collect();
    for file in ["prometheus/alerts.yml", "prometheus/alerts_test.yml", "grafana/peace.json"] {
        let text = fs::read_to_string(format!("{ROOT}/deploy/{file}")).unwrap();
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let named = words.filter(|word| {
            ["peace_", "http_server_", "db_client_"].iter().any(|begin| word.starts_with(begin))
        });
        for name in named {
            let family =
                ["_bucket", "_count", "_sum"].iter().find_map(|end| name.strip_suffix(end));
            let is_told = told.contains(name) || family.is_some_and(|family| told.contains(family));
            assert!(is_told, "{file} asks for {name}");
        }
    }
}

#[test]
fn the_parser_of_the_python_client_reads_both_forms() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let (peace, admin) = serve(&turn, &database);
    let load = load(&peace);
    until_true("it is at work", SOON, || load.begun() > 200);
    drop(load.stop());
    let folder = std::env::var_os("PEACE_TEST_PYTHON").expect("`tests/run --all` sets this");
    let python = PathBuf::from(folder).join("bin/python");
    let script = Path::new(ROOT).join("tests/external/prometheus/parse.py");
    let read = || {
        let mut command = Command::new(&python);
        command.arg(&script).arg(format!("http://{admin}/metrics"));
        command.env("PYTHONDONTWRITEBYTECODE", "1").output().expect("Python runs")
    };
    // A connection may end between the two.
    let told = until("both forms say the same", SOON, || {
        let output = read();
        succeeded(&output);
        let told = String::from_utf8(output.stdout).unwrap();
        told.contains(" 0 differ").then_some(told)
    });
    eprint!("{told}");
}

fn succeeded(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}
