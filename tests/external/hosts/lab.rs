//! The machines: network namespaces with two wires each, one to the street where clients are, one to the databases.
//!
//! The calling thread moves to the street, which is a namespace, too; so whatever it starts is there unless
//! it says [`Machine::within`]. Nothing of this has a name in the file system: a namespace is gone when nobody is in
//! it and nobody holds it, even when this process is killed. Source: network_namespaces(7), veth(4), ip-link(8).

use std::fs::File;
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::process::{self, Command, Stdio};

use nix::sched::{CloneFlags, setns, unshare};

/// Where every host and the balancer listen.
pub(super) const PORT: u16 = 8000;
/// Where clients and the balancer are.
const STREET: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// All machines.
pub(super) struct Lab {
    pub(super) hosts: [Machine; 2],
    pub(super) databases: [Machine; 2],
    _street: Street,
}

/// The way back to where the thread came from.
struct Street {
    home: File,
}

/// One machine.
pub(super) struct Machine {
    name: &'static str,
    /// The last part of its addresses.
    number: u8,
    namespace: File,
}

impl Lab {
    /// Makes them; the calling thread is in the street then.
    pub(super) fn new() -> Self {
        let home = here();
        unshare(CloneFlags::CLONE_NEWNET).expect("root may make a network");
        let street = Street { home };
        ip(&format!(
            "link set lo up\nlink add front type bridge\nlink add back type bridge\n\
             address add {STREET}/24 dev front\nlink set front up\nlink set back up\n"
        ));
        let hosts = [Machine::new("host1", 11), Machine::new("host2", 12)];
        let databases = [Machine::new("db1", 21), Machine::new("db2", 22)];
        Self { hosts, databases, _street: street }
    }

    /// Where the balancer is, as the hosts see it.
    pub(super) fn street(&self) -> Ipv4Addr {
        STREET
    }
}

impl Drop for Street {
    fn drop(&mut self) {
        setns(&self.home, CloneFlags::CLONE_NEWNET).expect("the way home");
    }
}

impl Machine {
    fn new(name: &'static str, number: u8) -> Self {
        let street = here();
        unshare(CloneFlags::CLONE_NEWNET).expect("root may make a network");
        let new = Self { name, number, namespace: here() };
        setns(&street, CloneFlags::CLONE_NEWNET).expect("the way back");
        let place = format!("/proc/{}/fd/{}", process::id(), new.namespace.as_raw_fd());
        for side in ["front", "back"] {
            ip(&format!(
                "link add {name}-{side} type veth peer name {side} netns {place}\n\
                 link set {name}-{side} master {side} up\n"
            ));
        }
        let (front, back) = (new.front(), new.back());
        new.within(|| {
            ip(&format!(
                "link set lo up\naddress add {front}/24 dev front\naddress add {back}/24 dev back\n\
                 link set front up\nlink set back up\n"
            ));
        });
        new
    }

    /// Does something there: what it starts stays there.
    pub(super) fn within<T>(&self, something: impl FnOnce() -> T) -> T {
        let _street = Street { home: here() };
        setns(&self.namespace, CloneFlags::CLONE_NEWNET).expect("the machine is held");
        something()
    }

    /// Its address in the street.
    pub(super) fn front(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, self.number)
    }

    /// Its address among the databases.
    pub(super) fn back(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 78, 0, self.number)
    }

    /// Cuts its wires, somewhere in the middle: it and the others see nothing but silence.
    pub(super) fn cut(&self, sides: &[&str]) {
        for side in sides {
            ip(&format!("link set {}-{side} nomaster\n", self.name));
        }
    }

    /// Mends them.
    pub(super) fn mend(&self, sides: &[&str]) {
        for side in sides {
            ip(&format!("link set {}-{side} master {side}\n", self.name));
        }
    }
}

/// The calling thread's network.
fn here() -> File {
    File::open("/proc/thread-self/ns/net").expect("the kernel has network namespaces")
}

/// Runs commands of ip(8), one a line.
fn ip(commands: &str) {
    let mut ip = Command::new("ip");
    ip.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut running = ip.spawn().expect("`tests/run --machines` installs iproute2");
    let mut input = running.stdin.take().expect("a pipe");
    input.write_all(commands.as_bytes()).expect("it reads");
    drop(input);
    assert!(running.wait().expect("our child").success(), "ip: {commands}");
}
