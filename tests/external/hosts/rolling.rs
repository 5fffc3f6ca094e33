//! Both hosts get another release, one after the other, by a restart and in place.

use std::time::{Duration, Instant};

use super::writers::{self, Writers};
use super::{SOON, Service, database_server, database_url, lab::Lab};
use crate::harness::folder::Folder;
use crate::harness::load::Load;
use crate::harness::wait::pause;
use crate::harness::{Database, Turn};

/// The delay, the grace, and a busy machine.
const STOP: Duration = Duration::from_secs(20);

#[test]
fn hosts_are_upgraded_one_after_the_other_and_nothing_is_lost() {
    let turn = Turn::alone();
    let (lab, access) = (Lab::new(), Folder::open_to_all());
    let cluster = database_server(&lab.databases[0], &access);
    let database = Database::migrated_in(&cluster);
    let url = database_url(&[&lab.databases[0]], &database);
    let mut service = Service::start(&turn, &lab, &url);
    let ann = service.sign_up("ann");
    let load = Load::start(service.balancer.address, &service.readers(&ann));
    let writers = Writers::start(service.balancer.address, &ann);
    pause(Duration::from_secs(1));

    let names = ["host1", "host2"];
    let start = Instant::now();
    for ((host, name), machine) in service.hosts.iter_mut().zip(names).zip(&lab.hosts) {
        let ended = host.stop(STOP);
        assert_eq!(ended.code, Some(0), "{name}: {:?}", ended.lines);
        machine.within(|| host.start_again());
        host.await_serving();
        service.balancer.await_state(name, "UP", SOON);
    }
    eprintln!("both restarted within {:?}", start.elapsed());
    for host in &service.hosts {
        let upgraded = Instant::now();
        let output = host.ctl(["upgrade", "--wait"]);
        assert!(output.status.success(), "{output:?}\n{}", host.log().tail());
        eprintln!("upgraded in place within {:?}", upgraded.elapsed());
    }
    pause(Duration::from_secs(1));

    let (tally, writes) = (load.stop(), writers.stop());
    tally.check_nothing_lost("both hosts restarted, then upgraded in place");
    let failed: Vec<_> = writers::failures(&writes).collect();
    assert!(failed.is_empty(), "{failed:?}");
    writers::check_promises(&writes, &database);
}
