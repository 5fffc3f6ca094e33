//! The database is lost and its standby takes over; a host is cut off from it.

use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use super::writers::{self, Write, Writers};
use super::{SLACK, SOON, Service, database_server, database_url, lab::Lab, standby_of};
use crate::harness::api::check_problem;
use crate::harness::cluster::Cluster;
use crate::harness::database::Sql;
use crate::harness::folder::Folder;
use crate::harness::load::Load;
use crate::harness::wait::{pause, until_true};
use crate::harness::{Database, Turn, get};

/// In which writes are fine after the promotion.
const RECOVERED: Duration = Duration::from_secs(5);
/// In which everybody is answered while the database is silent: a reader waits until that is known, then for the pool.
const ANSWERED: Duration = Duration::from_millis(5_500);

/// Every write waits for the standby, which has it then, whatever becomes of the primary.
fn make_synchronous(primary: &Cluster) {
    let sql = Sql::connect(&primary.url("postgres")).unwrap();
    sql.run("alter system set synchronous_standby_names = 'standby'");
    sql.run("select pg_reload_conf()");
    until_true("the standby is a synchronous one", SOON, || {
        let sync = "select count(*) from pg_stat_replication where sync_state = 'sync'";
        sql.value::<i64>(sync, &[]) == 1
    });
}

/// When the last write failed, and how long the answers took; all of a failure has to be a 503.
fn check_recovery(what: &str, writes: &[Write], promoted: Instant) {
    let first = writes.iter().filter(|write| write.status == 201 && write.ended() > promoted);
    let first = first.map(|write| write.ended() - promoted).min();
    let last = writers::failures(writes).map(|write| write.ended()).max();
    let last = last.map(|at| at.saturating_duration_since(promoted)).unwrap_or_default();
    let slowest = writers::failures(writes).map(|write| write.took).max().unwrap_or_default();
    let failed = writers::failures(writes).count();
    eprintln!(
        "{what}: first write {first:?}, last failure {last:?} after the promotion; {failed} of {} \
         failed, each within {slowest:?}",
        writes.len()
    );
    assert!(first.is_some_and(|first| first < RECOVERED), "{first:?}");
    assert!(last < RECOVERED, "{last:?}");
    assert!(slowest < ANSWERED + SLACK, "{slowest:?}");
    for write in writers::failures(writes) {
        assert!(write.status == 503 && write.has_retry_after, "{write:?}");
    }
}

fn promote(standby: &Cluster) -> Instant {
    Sql::connect(&standby.url("postgres")).unwrap().run("select pg_promote()");
    Instant::now()
}

#[test]
fn a_standby_that_was_promoted_has_every_write_that_was_acknowledged() {
    let turn = Turn::alone();
    let (lab, access) = (Lab::new(), Folder::open_to_all());
    let [one, other] = &lab.databases;
    let primary = database_server(one, &access);
    let database = Database::migrated_in(&primary);
    let standby = standby_of(&primary, one, other);
    make_synchronous(&primary);
    let url = database_url(&[one, other], &database);
    let service = Service::start(&turn, &lab, &url);
    let (ann, workers) = (service.sign_up("ann"), service.workers());

    let readers = Load::start(service.balancer.address, &service.readers(&ann));
    let writers = Writers::start(service.balancer.address, &ann);
    pause(Duration::from_secs(1));
    primary.crash();
    pause(Duration::from_secs(1));
    let promoted = promote(&standby);
    pause(RECOVERED);
    let (writes, reads) = (writers.stop(), readers.stop());
    eprintln!("reads meanwhile: {} of {} failed", reads.losses().count(), reads.total());
    check_recovery("the primary crashed", &writes, promoted);
    writers::check_promises(&writes, &database.on(&standby));
    assert_eq!(service.workers(), workers, "no worker was restarted");
}

#[test]
fn a_wire_to_the_database_is_cut_and_a_silent_primary_is_replaced() {
    let turn = Turn::alone();
    let (lab, access) = (Lab::new(), Folder::open_to_all());
    let [one, other] = &lab.databases;
    let primary = database_server(one, &access);
    let database = Database::migrated_in(&primary);
    let standby = standby_of(&primary, one, other);
    make_synchronous(&primary);
    let url = database_url(&[one, other], &database);
    let service = Service::start(&turn, &lab, &url);
    let (ann, workers) = (service.sign_up("ann"), service.workers());

    // One host has no way to the databases any more.
    lab.hosts[0].cut(&["back"]);
    let (times, host) = (Mutex::new(Vec::new()), &service.hosts[0]);
    let cut = Instant::now();
    let ask_all_the_time = || {
        while cut.elapsed() < Duration::from_secs(6) {
            let asked = Instant::now();
            let reply = host.ask(&get(&ann.place));
            times.lock().unwrap().push(asked.elapsed());
            check_problem(&reply, 503, "without a database");
            assert!(reply.header("retry-after").is_some());
            pause(Duration::from_millis(20));
        }
    };
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(ask_all_the_time);
        }
    });
    let mut times = times.into_inner().unwrap();
    times.sort();
    let (half, slowest) = (times[times.len() / 2], times[times.len() - 1]);
    eprintln!(
        "cut off: {} answers of 503, half within {half:?}, all within {slowest:?}",
        times.len()
    );
    assert!(slowest < ANSWERED + SLACK, "{slowest:?}");
    // Clients of the service do not notice by then.
    service.balancer.await_state("host1", "DOWN", SOON);
    for _ in 0..20 {
        assert_eq!(service.ask(&get(&ann.place)), 200);
    }
    lab.hosts[0].mend(&["back"]);
    let mended = Instant::now();
    until_true("it serves again by itself", RECOVERED + SLACK, || {
        (0..10).all(|_| service.hosts[0].ask(&get(&ann.place)).status == 200)
    });
    eprintln!("mended: served again after {:?}", mended.elapsed());
    service.balancer.await_state("host1", "UP", SOON);
    assert_eq!(service.workers(), workers, "no worker was restarted");

    // The primary falls silent: nobody is told, and it lives on.
    let readers = Load::start(service.balancer.address, &service.readers(&ann));
    let writers = Writers::start(service.balancer.address, &ann);
    pause(Duration::from_secs(1));
    one.cut(&["front", "back"]);
    pause(Duration::from_secs(1));
    let promoted = promote(&standby);
    pause(RECOVERED + Duration::from_secs(1));
    let (writes, reads) = (writers.stop(), readers.stop());
    eprintln!("reads meanwhile: {} of {} failed", reads.losses().count(), reads.total());
    check_recovery("the primary silent", &writes, promoted);
    writers::check_promises(&writes, &database.on(&standby));
    assert_eq!(service.workers(), workers, "no worker was restarted");
}
