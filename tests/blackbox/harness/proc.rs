//! What the kernel says about processes and sockets. Source: proc(5).
//!
//! The tests look here rather than at what the program says of itself.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

/// One process. Its start time tells it from a later one with the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    start_ticks: u64,
}

impl Process {
    fn of(pid: i32) -> Option<Self> {
        let start_ticks = Self::stat(pid)?.get(19)?.parse().ok()?;
        Some(Self { pid, start_ticks })
    }

    /// Whether it has not ended. A zombie has: it holds nothing any more.
    pub(crate) fn is_alive(self) -> bool {
        let state = Self::stat(self.pid).and_then(|fields| fields.into_iter().next());
        Self::of(self.pid) == Some(self) && state.is_some_and(|state| state != "Z" && state != "X")
    }

    /// The fields behind the name, which may hold anything.
    fn stat(pid: i32) -> Option<Vec<String>> {
        let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, fields) = line.rsplit_once(") ")?;
        Some(fields.split(' ').map(str::to_owned).collect())
    }
}

/// Everything that works in `folder` or below it.
///
/// Neither the program nor PostgreSQL leaves the folder it was started in, so this finds what is
/// left of them whoever their parent is by now. A process that is about to end has no folder any
/// more, but may hold a lock for a moment longer: remember what was found, and ask `is_alive`.
pub(crate) fn working_in(folder: &Path) -> impl Iterator<Item = Process> {
    let works_there = move |pid: &i32| {
        fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(folder))
    };
    numbers_in("/proc").filter(works_there).filter_map(Process::of)
}

/// The children of `pid`.
pub(crate) fn children(pid: i32) -> Vec<i32> {
    numbers_in("/proc").filter(|child| parent(*child) == Some(pid)).collect()
}

/// Whether a signal has stopped all its threads, or it has ended. One that is traced looks so at each of
/// its calls, too.
pub(crate) fn is_stopped(pid: i32) -> bool {
    let tasks = format!("/proc/{pid}/task");
    let mut states =
        numbers_in(&tasks).filter_map(|thread| Process::stat(thread)?.into_iter().next());
    states.all(|state| ["T", "t", "Z", "X"].contains(&state.as_str()))
}

/// How many children `pid` has, zombies apart. Quick: to be asked again and again.
pub(crate) fn child_count(pid: i32) -> usize {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let pids = list.split_whitespace().filter_map(|pid| pid.parse().ok());
    pids.filter_map(Process::of).filter(|child| child.is_alive()).count()
}

/// How many connections wait to be accepted, per socket that listens on a port.
pub(crate) fn queues(port: u16) -> Vec<usize> {
    let listening = sockets().filter(|one| one.is_listening && one.local_port == port);
    listening.map(|socket| socket.received).collect()
}

/// How much processor time a process has used, in clock ticks (hundredths of a second).
pub(crate) fn cpu_ticks(pid: i32) -> u64 {
    let fields = Process::stat(pid).unwrap_or_default();
    fields.iter().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}

/// How many descriptors a process has open.
pub(crate) fn descriptors(pid: i32) -> usize {
    numbers_in(&format!("/proc/{pid}/fd")).count()
}

/// The children of `pid`, theirs, and so on.
pub(crate) fn descendants(pid: i32) -> Vec<Process> {
    let mut family: Vec<Process> = children(pid).into_iter().filter_map(Process::of).collect();
    let mut next = 0;
    while let Some(one) = family.get(next) {
        family.extend(children(one.pid).into_iter().filter_map(Process::of).collect::<Vec<_>>());
        next += 1;
    }
    family
}

fn parent(pid: i32) -> Option<i32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok())
}

/// What a process was started as, its arguments joined by spaces.
pub(crate) fn command_line(pid: i32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ").trim_end().to_owned()
}

/// The names of a process's threads, sorted.
pub(crate) fn threads(pid: i32) -> Vec<String> {
    let name = |thread| fs::read_to_string(format!("/proc/{pid}/task/{thread}/comm"));
    let mut names: Vec<String> = numbers_in(&format!("/proc/{pid}/task"))
        .filter_map(|thread| Some(name(thread).ok()?.trim_end().to_owned()))
        .collect();
    names.sort();
    names
}

/// How many sockets listen on a port of 127.0.0.1.
pub(crate) fn listeners(port: u16) -> usize {
    sockets().filter(|socket| socket.is_listening && socket.local_port == port).count()
}

/// The sockets that listen on a port of 127.0.0.1, as the kernel numbers them.
pub(crate) fn listening_inodes(port: u16) -> BTreeSet<u64> {
    let listening = sockets().filter(|one| one.is_listening && one.local_port == port);
    listening.map(|socket| socket.inode).collect()
}

/// Which of `pids` holds the server's end of the connection between `client` and `server`.
pub(crate) fn holder(server: SocketAddr, client: SocketAddr, pids: &[i32]) -> Option<i32> {
    let end = sockets()
        .find(|socket| socket.local_port == server.port() && socket.remote_port == client.port())?;
    let link = format!("socket:[{}]", end.inode);
    pids.iter().copied().find(|pid| {
        numbers_in(&format!("/proc/{pid}/fd")).any(|fd| {
            fs::read_link(format!("/proc/{pid}/fd/{fd}")).is_ok_and(|to| to == Path::new(&link))
        })
    })
}

/// How many descriptors of `pid` are sockets that listen on a port of 127.0.0.1.
pub(crate) fn listeners_held(pid: i32, port: u16) -> usize {
    let ours = sockets().filter(|socket| socket.is_listening && socket.local_port == port);
    let links: Vec<String> = ours.map(|socket| format!("socket:[{}]", socket.inode)).collect();
    let held = |fd: &i32| {
        let link = fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap_or_default();
        links.iter().any(|one| link == Path::new(one))
    };
    numbers_in(&format!("/proc/{pid}/fd")).filter(held).count()
}

/// One row of the table of sockets of this thread's network.
struct Socket {
    local_port: u16,
    remote_port: u16,
    is_listening: bool,
    /// Bytes that wait to be read; of one that listens: connections that wait to be accepted.
    received: usize,
    inode: u64,
}

fn sockets() -> impl Iterator<Item = Socket> {
    let table =
        fs::read_to_string("/proc/thread-self/net/tcp").expect("the kernel lists its sockets");
    let rows: Vec<Socket> = table.lines().skip(1).filter_map(Socket::parse).collect();
    rows.into_iter()
}

impl Socket {
    fn parse(row: &str) -> Option<Self> {
        let columns: Vec<&str> = row.split_whitespace().collect();
        let port = |column: &str| u16::from_str_radix(column.rsplit(':').next()?, 16).ok();
        Some(Self {
            local_port: port(columns.get(1)?)?,
            remote_port: port(columns.get(2)?)?,
            is_listening: *columns.get(3)? == "0A",
            received: usize::from_str_radix(columns.get(4)?.rsplit(':').next()?, 16).ok()?,
            inode: columns.get(9)?.parse().ok()?,
        })
    }
}

/// The entries of a folder whose names are numbers.
fn numbers_in(folder: &str) -> impl Iterator<Item = i32> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}
