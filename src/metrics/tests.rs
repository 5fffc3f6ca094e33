//! Tests of the metrics: names, forms, and that the table is what is told.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use supervisor::scoreboard::{CellView, Facts, SlotView, Snapshot};
use supervisor::status::ChildState;
use worker::meters::Gauge;

use super::table::{Kind, METRICS};
use super::*;

/// Of one slot without a worker, where nothing has happened.
fn snapshot() -> Snapshot {
    let slot = SlotView {
        slot: 0,
        listens: true,
        generation: 1,
        queue: 7,
        last_exit: None,
        restarts: 2,
        reasons: [1, 0, 1, 0, 0, 4],
        requests: 0,
    };
    Snapshot {
        facts: Facts {
            target: 1,
            rolls: 3,
            rolls_failed: 2,
            upgrades_failed: 1,
            ..Facts::default()
        },
        slots: vec![slot],
        cells: Vec::new(),
        counters: vec![0; layout().counters],
        requests: 5,
    }
}

fn text(snapshot: &Snapshot, format: Format) -> String {
    write(&Scrape::new(snapshot, Instant::now(), "1.2.3", &["admin"]), format)
}

#[test]
fn names_follow_the_conventions() {
    let mut names = HashSet::new();
    for metric in METRICS {
        let name = metric.name;
        assert!(names.insert(name), "{name} is declared twice");
        let plain = |c: char| c.is_ascii_lowercase() || c == '_';
        assert!(name.chars().all(plain) && !name.contains("__"), "{name}");
        for ending in ["_total", "_info", "_count", "_sum", "_bucket", "_created"] {
            assert!(!name.ends_with(ending), "{name}");
        }
        assert!(metric.help.len() > 10 && !metric.help.contains(['\n', '\\', '|']), "{name}");
        let is_time = matches!(metric.kind(), Kind::Histogram);
        assert!(!is_time || metric.unit() == Some("seconds"), "{name}");
    }
}

#[test]
fn a_duration_is_told_by_method_route_and_status() {
    let mut snapshot = snapshot();
    let mut series = durations().series();
    let read = series
        .find(|one| (one.method, one.route) == ("GET", "/items/{pubid}") && one.status == Some(200))
        .unwrap();
    snapshot.counters[read.at] = 2;
    snapshot.counters[read.at + 3] = 1;
    let sum_ns = Duration::from_millis(6).as_nanos();
    snapshot.counters[read.at + 18] = u64::try_from(sum_ns).unwrap();
    let text = text(&snapshot, Format::OpenMetrics);
    let name = "http_server_request_duration_seconds";
    let labels = r#"method="GET",route="/items/{pubid}",status="200""#;
    for line in [
        format!("# TYPE {name} histogram\n# UNIT {name} seconds\n"),
        format!("{name}_bucket{{{labels},le=\"0.0005\"}} 2\n"),
        format!("{name}_bucket{{{labels},le=\"0.005\"}} 3\n"),
        format!("{name}_bucket{{{labels},le=\"1.0\"}} 3\n"),
        format!("{name}_bucket{{{labels},le=\"+Inf\"}} 3\n"),
        format!("{name}_count{{{labels}}} 3\n{name}_sum{{{labels}}} 0.006\n"),
    ] {
        assert!(text.contains(&line), "{line}\n{text}");
    }
}

#[test]
fn what_never_happened_is_told_where_its_first_count_must_not_be_missed() {
    let text = text(&snapshot(), Format::OpenMetrics);
    let count = "http_server_request_duration_seconds_count";
    let told = text.lines().filter_map(|line| line.strip_prefix(count));
    let of_items = told.clone().filter(|labels| labels.contains(r#"method="POST",route="/items""#));
    let mut statuses: Vec<&str> =
        of_items.map(|labels| labels.split_once("status=").unwrap().1).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [r#""201"} 0"#, r#""500"} 0"#, r#""503"} 0"#]);
    let operations = durations().series().filter(|one| one.status == Some(500)).count();
    let without = durations().series().filter(|one| one.route == "-" && one.status == Some(500));
    assert_eq!(told.count(), 3 * (operations - without.count()));
    eprintln!("{} bytes when nothing has happened", text.len());
}

/// A worker that lives in slot 0, and has done nothing yet.
pub(crate) fn worker() -> CellView {
    CellView {
        slot: Some(0),
        generation: 1,
        pid: 1,
        life: ChildState::Ready,
        asked: false,
        is_ready: true,
        spawned_ms: 0,
        heartbeat_ms: 0,
        loop_lag_us: 0,
        requests: 0,
        in_flight: 0,
        connections: 0,
        gauges: vec![0; layout().gauges],
        told: Vec::new(),
    }
}

#[test]
fn a_connection_is_used_or_idle() {
    let mut snapshot = snapshot();
    let mut worker = worker();
    worker.gauges[Gauge::DatabaseConnections as usize] = 5;
    worker.gauges[Gauge::PoolInUse as usize] = 2;
    snapshot.cells.push(worker);
    let text = text(&snapshot, Format::Prometheus);
    for line in [
        "db_client_connections{slot=\"0\",state=\"used\"} 2\n",
        "db_client_connections{slot=\"0\",state=\"idle\"} 3\n",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[test]
fn the_two_forms_differ_in_what_their_formats_ask_for() {
    let (new, old) =
        (text(&snapshot(), Format::OpenMetrics), text(&snapshot(), Format::Prometheus));
    assert!(new.ends_with("# EOF\n") && !old.contains("# EOF"));
    assert!(
        new.contains("# TYPE peace_rolls counter\n") && new.contains("# TYPE peace_build info\n")
    );
    assert!(old.contains("# TYPE peace_rolls_total counter\n"));
    assert!(old.contains("# TYPE peace_build_info gauge\n"));
    for text in [&new, &old] {
        for line in [
            "peace_rolls_total{result=\"ok\"} 3\n",
            "peace_rolls_total{result=\"failed\"} 2\n",
            "peace_upgrades_total{result=\"failed\"} 1\n",
            "peace_worker_restarts_total{reason=\"recycled\"} 4\n",
            "peace_build_info{version=\"1.2.3\"} 1\n",
            "peace_worker_restarts_total{reason=\"hung\"} 1\n",
            "peace_accept_queue_connections{slot=\"0\"} 7\n",
            "peace_workers{state=\"backoff\"} 1\n",
            "peace_requests_begun_total 5\n",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}

#[test]
fn the_newer_form_is_for_those_who_name_it() {
    let prometheus = "application/openmetrics-text;version=1.0.0;q=0.75,\
                      application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=0.0.4";
    for (accept, expected) in [
        (Some(prometheus), Format::OpenMetrics),
        (Some("text/plain;version=0.0.4;q=1, */*;q=0.1"), Format::Prometheus),
        (Some("*/*"), Format::Prometheus),
        (Some("application/openmetrics-text; q=0, text/plain"), Format::Prometheus),
        (None, Format::Prometheus),
    ] {
        assert_eq!(Format::of(accept), expected, "{accept:?}");
    }
}

#[test]
fn the_layout_is_known_by_a_number_that_does_not_change_by_itself() {
    assert_eq!(layout(), layout());
    assert_ne!(layout().id, 0);
    assert_eq!(layout().id, id(durations()));
    // The words of a worker of before would be read as those of other routes.
    assert_ne!(layout().id, id(&Durations::of(resources::routes(false).operations())));
    assert_ne!(layout().id, id(&Durations::of([])));
    let last = durations().series().last().unwrap();
    assert!(last.at + HISTOGRAM_WORDS <= own_counters_at());
}

#[test]
fn metrics_md_has_the_table() {
    let written = include_str!("../../METRICS.md");
    assert!(written.contains(&listing()), "put this into METRICS.md:\n{}", listing());
}
