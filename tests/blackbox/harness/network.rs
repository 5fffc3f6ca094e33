//! A network of a test's own, whose counters tell of nobody else.
//!
//! As root, the calling thread moves into a new network namespace with nothing but a loopback; what it
//! starts from then on, threads and programs, lives there too. Who may not, or has no ip(8), stays where
//! everybody is, and is told that the kernel's counters are not looked at. Source: network_namespaces(7); the counters
//! as nstat(8) shows them.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::geteuid;

/// What the kernel counts when it loses a connection, or refuses to go on with one.
const LOSSES: [&str; 4] =
    ["TcpExt.ListenOverflows", "TcpExt.ListenDrops", "TcpExt.TCPMigrateReqFailure", "Tcp.OutRsts"];

/// The counters as they were at the beginning; none where the network is everybody's.
pub(crate) struct Network(Option<BTreeMap<String, u64>>);

impl Network {
    /// Moves the calling thread, if it may and can.
    pub(crate) fn own() -> Self {
        let has_ip = || Command::new("ip").arg("-V").output().is_ok();
        if !geteuid().is_root() || !has_ip() || unshare(CloneFlags::CLONE_NEWNET).is_err() {
            eprintln!("no network of its own (root, iproute2): the kernel's counters say nothing");
            return Self(None);
        }
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
        assert!(up.is_ok_and(|status| status.success()), "the loopback is up");
        Self(Some(counters()))
    }

    /// Whether there is one.
    pub(crate) fn is_own(&self) -> bool {
        self.0.is_some()
    }

    /// Fails when the kernel has dropped, refused or reset anything since the beginning.
    pub(crate) fn check_nothing_lost(&self, what: &str) {
        let Some(before) = &self.0 else { return };
        let now = counters();
        let lost = LOSSES.map(|name| {
            let count = |counters: &BTreeMap<String, u64>| counters.get(name).copied().unwrap_or(0);
            (name, count(&now) - count(before))
        });
        eprintln!("{what}: the kernel counts {lost:?}");
        assert!(lost.iter().all(|(_, count)| *count == 0), "{what}: {lost:?}");
    }
}

/// All counters of this thread's network, as `Group.Name`.
fn counters() -> BTreeMap<String, u64> {
    let read = |file: &str| fs::read_to_string(format!("/proc/thread-self/net/{file}"));
    let text = read("snmp").expect("it counts") + &read("netstat").expect("it counts");
    let lines: Vec<&str> = text.lines().collect();
    let mut counters = BTreeMap::new();
    for pair in lines.chunks_exact(2) {
        let (Some((group, names)), Some((_, values))) =
            (pair[0].split_once(':'), pair[1].split_once(':'))
        else {
            continue;
        };
        let values = values.split_whitespace().map(|value| value.parse().unwrap_or(0));
        let named = names.split_whitespace().map(|name| format!("{group}.{name}"));
        counters.extend(named.zip(values));
    }
    counters
}
