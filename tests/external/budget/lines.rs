//! What a log line per request costs: instructions and writes, beside the same server without.
//!
//! Both are servers as in production, so that the line is all that differs. Held against each other and not
//! against a budget of their own: no number has to be recorded. `/health/live` is left out: it does nothing, so
//! that a line is a fifth of it.

use std::collections::BTreeMap;

use super::callgrind::Callgrind;
use super::strace::Strace;
use super::{BATCH, BATCHES, WARM_UP, ask, filled, launch, routes};
use crate::harness::cluster::Cluster;
use crate::harness::{Connection, Database, Launch, Turn};

/// Of a request without a line.
const PART_MAX: f64 = 0.1;
/// Lines in a write, at least.
const LINES_MIN: usize = 16;

#[test]
fn a_line_per_request_costs_at_most_a_tenth() {
    let turn = Turn::alone();
    let cluster = Cluster::start_on_tcp(None);
    let [without, with] = ["off", "on"].map(|access_log| {
        let database = filled(&cluster);
        instructions(logging(&turn, &cluster, &database, access_log))
    });
    let mut over = Vec::new();
    for (route, with) in &with {
        let part = with / without[route] - 1.0;
        let told =
            format!("{route}: {:.0} and {with:.0}, {:.1} % more", without[route], part * 100.0);
        eprintln!("{told}");
        over.extend((part > PART_MAX).then_some(told));
    }
    assert!(over.is_empty() && with.len() == without.len(), "{over:#?}");
}

#[test]
fn lines_of_requests_are_written_at_least_16_at_a_time() {
    let turn = Turn::alone();
    let cluster = Cluster::start_on_tcp(None);
    let database = filled(&cluster);
    let strace = Strace::start(logging(&turn, &cluster, &database, "on"), cluster.port());
    let (_, request) = &routes()[0];
    let mut connection = Connection::open(strace.peace.address()).unwrap();
    let requests = 2_000;
    let calls = strace.counted(|| ask(&mut connection, request, requests));
    let writes = calls.get("write").copied().unwrap_or_default();
    eprintln!("{requests} lines in {writes} writes");
    assert!(writes > 0 && writes * LINES_MIN <= requests, "{requests} lines in {writes} writes");
}

fn logging(turn: &Turn, cluster: &Cluster, database: &Database<'_>, access_log: &str) -> Launch {
    launch(turn, cluster, database).args(["--env", "production", "--access-log", access_log])
}

/// What each route costs: of several batches the one in the middle.
fn instructions(launch: Launch) -> BTreeMap<&'static str, f64> {
    let mut callgrind = Callgrind::start(launch);
    let cost = |(route, request)| {
        let mut connection = Connection::open(callgrind.peace.address()).unwrap();
        callgrind.cost(WARM_UP, || ask(&mut connection, &request, WARM_UP));
        let batch = || callgrind.cost(BATCH, || ask(&mut connection, &request, BATCH)).instructions;
        let mut batches: Vec<f64> = std::iter::repeat_with(batch).take(BATCHES).collect();
        batches.sort_by(f64::total_cmp);
        (route, batches[BATCHES / 2])
    };
    routes().into_iter().skip(1).map(cost).collect()
}
