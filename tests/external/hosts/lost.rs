//! One of two hosts is lost: killed, or silent.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::writers::{self, Writers};
use super::{CHECKED, SLACK, SOON, Service, database_server, database_url, lab::Lab, last_loss};
use crate::harness::folder::Folder;
use crate::harness::load::{Load, Tally};
use crate::harness::peace::signal_to;
use crate::harness::wait::pause;
use crate::harness::{Database, Peace, Turn, proc};

/// Before something happens, so that there are connections everywhere.
const BEFORE: Duration = Duration::from_secs(1);
/// How much longer the load goes on.
const AFTER: Duration = Duration::from_secs(2);
/// Clients that can have one request each in flight: kept ones, writers, and fresh ones of a moment.
const IN_FLIGHT: usize = 32;

/// All processes of a host, at once, as a loss of power has it.
fn kill_all(peace: &mut Peace) {
    let workers = proc::descendants(peace.pid());
    signal_to(peace.pid(), Signal::SIGKILL);
    for process in workers {
        // Some have gone with their supervisor already.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(process.pid), Signal::SIGKILL);
    }
    peace.kill();
}

/// What clients see while `happening` goes on: readers, writers, and when it was.
fn under_load(
    service: &mut Service,
    user: &crate::harness::api::User,
    happening: impl FnOnce(&mut Service),
) -> (Tally, Vec<writers::Write>, Instant) {
    let load = Load::start(service.balancer.address, &service.readers(user));
    let writers = Writers::start(service.balancer.address, user);
    pause(BEFORE);
    let at = Instant::now();
    happening(service);
    pause(CHECKED + AFTER);
    (load.stop(), writers.stop(), at)
}

#[test]
fn of_a_host_that_is_lost_only_what_was_in_flight_there() {
    let turn = Turn::alone();
    let (lab, access) = (Lab::new(), Folder::open_to_all());
    let cluster = database_server(&lab.databases[0], &access);
    let database = Database::migrated_in(&cluster);
    let url = database_url(&[&lab.databases[0]], &database);
    let mut service = Service::start(&turn, &lab, &url);
    let ann = service.sign_up("ann");

    let (tally, writes, killed) = under_load(&mut service, &ann, |service| {
        kill_all(&mut service.hosts[0]);
    });
    eprintln!("a host killed: {tally}");
    let failed: Vec<_> = writers::failures(&writes).collect();
    let last = failed.iter().map(|write| write.begun.saturating_duration_since(killed)).max();
    let last = last.unwrap_or_default().max(last_loss(&tally, killed));
    let lost = tally.losses().count() + failed.len();
    eprintln!(
        "killed: {lost} of {} lost, the last one begun {last:?} after",
        tally.total() + writes.len()
    );
    assert!(lost <= IN_FLIGHT, "{failed:?}");
    assert!(last < CHECKED + SLACK, "{last:?}: fine within the checks' interval");
    writers::check_promises(&writes, &database);
    database.sql().run("truncate item");

    // It comes back, and the other one falls silent: no reset, no end, nothing.
    lab.hosts[0].within(|| service.hosts[0].start_again());
    service.hosts[0].await_serving();
    service.balancer.await_state("host1", "UP", SOON);
    let (tally, writes, cut) = under_load(&mut service, &ann, |_| {
        lab.hosts[1].cut(&["front", "back"]);
    });
    eprintln!("a host silent: {tally}");
    let failed: Vec<_> = writers::failures(&writes).collect();
    let last = failed.iter().map(|write| write.begun.saturating_duration_since(cut)).max();
    let last = last.unwrap_or_default().max(last_loss(&tally, cut));
    let lost = tally.losses().count() + failed.len();
    eprintln!(
        "silent: {lost} of {} lost, the last one begun {last:?} after; reads answered within {:?}",
        tally.total() + writes.len(),
        tally.slowest()
    );
    assert!(lost <= IN_FLIGHT, "{failed:?}");
    assert!(last < CHECKED + SLACK, "{last:?}: fine within the checks' interval");
    assert_eq!(tally.losses().count(), 0, "what only reads is asked again elsewhere");
    writers::check_promises(&writes, &database);
    lab.hosts[1].mend(&["front", "back"]);
    service.balancer.await_state("host2", "UP", SOON);
}
